/* SPDX-License-Identifier: MIT
 * tools/demi/log/main.c - demi-log, which `demi log` runs: logs on a device or in a file, for
 * people.
 *
 * A program of its own, linked to the static library, for it reads what the public interface does
 * not show.
 */
#include "../options.h"
#include "../tool.h"
#include "commands.h"

#include <stdio.h>
#include <string.h>

struct log_options {
	const char *driver;
	bool json;
	struct dump_options dump;
};

#define DRIVER(options)                                                                \
	{                                                                              \
		"driver", OPTION_TEXT, &(options)->driver, 0, 0, NULL, "NAME",         \
			"what reads FILE (key storage_driver; default: as configured)" \
	}

static const char *const helps[] = {
	"usage: demi log info [FILE] [OPTION...]\nwhat logs there are, and where they begin",
	"usage: demi log check [FILE] [OPTION...]\nreads every record, and tells what is damaged",
	"usage: demi log dump [FILE] [OPTION...]\nprints the records, a line each",
};

enum command { INFO, CHECK, DUMP };

static const char *const names[] = {"info", "check", "dump"};

/* A command's options, from a table for each. */
static enum options_outcome parse(enum command command, struct log_options *options, int argc,
				  char **argv, struct operands *operands)
{
	const struct option_spec info[] = {
		DRIVER(options),
		{"json", OPTION_FLAG, &options->json, 0, 0, NULL, NULL, "print JSON"},
	};
	const struct option_spec dump[] = {
		DRIVER(options),
		{"log", OPTION_TEXT, &options->dump.log, 0, 0, NULL, "NAME", "only this log"},
		{"from", OPTION_WHOLE, &options->dump.from, 0, 9e15, NULL, "OFFSET",
		 "from the first record at or behind this offset"},
		{"count", OPTION_WHOLE, &options->dump.count, 1, 9e15, NULL, "N",
		 "so many records of a log at most"},
		{"raw", OPTION_FLAG, &options->dump.raw, 0, 0, NULL, NULL,
		 "write the data of the records, and nothing else"},
	};
	const struct option_spec *specs = command == DUMP ? dump : info;
	size_t count = command == DUMP ? TOOL_COUNT(dump) : command == CHECK ? 1 : TOOL_COUNT(info);
	enum options_outcome outcome = options_parse(specs, count, argc, argv, 1, operands);

	if (outcome == OPTIONS_HELP) {
		puts(helps[command]);
		options_help(specs, count);
	}
	return outcome;
}

static int run(enum command command, const struct session *session,
	       const struct log_options *options)
{
	if (command == INFO)
		return log_info(session, options->json);
	if (command == CHECK)
		return log_check(session);
	return log_dump(session, &options->dump);
}

static int begin(enum command command, int argc, char **argv)
{
	struct log_options options = {0};
	struct operands operands;
	enum options_outcome outcome = parse(command, &options, argc, argv, &operands);

	if (outcome != OPTIONS_GOOD)
		return outcome == OPTIONS_HELP ? LOG_GOOD : LOG_UNREADABLE;
	struct session *session =
		session_open(operands.count ? operands.words[0] : NULL, options.driver);
	if (!session)
		return LOG_UNREADABLE;
	int status = run(command, session, &options);
	session_close(session);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	tool_complain("log: what was printed could not be written");
	return LOG_UNREADABLE;
}

static void print_usage(void)
{
	puts("usage: demi log COMMAND [FILE] [OPTION...]\n"
	     "  info   what logs there are, and where they begin and end\n"
	     "  check  reads every record, and tells what is damaged\n"
	     "  dump   prints the records, a line each\n"
	     "FILE is a file with a log, a block device, or what the driver takes; without it the\n"
	     "device that the configuration names.  demi log COMMAND --help lists a command's\n"
	     "options.");
}

int main(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_usage();
		return argc < 2 ? LOG_UNREADABLE : LOG_GOOD;
	}
	for (size_t i = 0; i < TOOL_COUNT(names); i++) {
		if (strcmp(names[i], argv[1]) == 0)
			return begin((enum command)i, argc - 1, argv + 1);
	}
	tool_complain("log: %s: no such command (demi log --help lists them)", argv[1]);
	return LOG_UNREADABLE;
}
