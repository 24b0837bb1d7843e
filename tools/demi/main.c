/* SPDX-License-Identifier: MIT
 * tools/demi/main.c - the `demi` command: finds the command that is meant.
 */
#include "tool.h"

#include <demi/instance.h>
#include <stdio.h>
#include <string.h>

struct command {
	const char *name;
	tool_command_t run;
	const char *help;
};

static int command_version(int argc, char **argv)
{
	(void)argv;
	if (argc > 1) {
		tool_complain("%s: one word too many", argv[1]);
		return TOOL_USAGE;
	}
	printf("demi %s\n", demi_version());
	return TOOL_GOOD;
}

static const struct command commands[] = {
	{"run", command_run,
	 "echo over every library OS that runs here, beside plain sockets: a table and a plot"},
	{"doctor", command_doctor,
	 "what this machine can do, and the command that mends what it cannot"},
	{"capture", command_capture, "every frame of a running instance, in pcapng"},
	{"stat", command_stat, "queues, counters and drops of a running instance"},
	{"log", command_log, "logs on a device or in a file: what is there, is it whole"},
	{"bench", command_bench,
	 "benchmarks: echo, size, core, schedule, log, operators, proxy, net"},
	{"xdp-helper", command_xdp_helper,
	 "opens XDP sockets for applications that have no privilege"},
	{"version", command_version, "the library's version"},
};

static const struct command benches[] = {
	{"echo", bench_echo, "round trips between a server and a client process"},
	{"size", bench_size, "the same for 64 bytes to 256 KiB"},
	{"core", bench_core, "nanoseconds of the library's own operations"},
	{"schedule", bench_schedule, "the tail of short requests behind long ones, simulated"},
	{"log", bench_log, "durable appends to a log and reads of it, beside its bare file"},
	{"operators", bench_operators, "what an operator adds to a memory queue"},
	{"proxy", bench_proxy, "a TCP proxy of the library's beside splice and haproxy"},
	{"net", bench_net, "our TCP/IP stack, two instances back to back, beside lwIP"},
};

static void print_usage(const char *prefix, const struct command *table, size_t count)
{
	printf("usage: %s COMMAND [OPTION...]\n", prefix);
	for (size_t i = 0; i < count; i++)
		printf("  %-10s %s\n", table[i].name, table[i].help);
	printf("%s COMMAND --help lists a command's options.\n", prefix);
}

/* Runs the command that argv[1] names. */
static int dispatch(const char *prefix, const struct command *table, size_t count, int argc,
		    char **argv)
{
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_usage(prefix, table, count);
		return argc < 2 ? TOOL_USAGE : TOOL_GOOD;
	}
	for (size_t i = 0; i < count; i++) {
		if (strcmp(table[i].name, argv[1]) == 0)
			return table[i].run(argc - 1, argv + 1);
	}
	tool_complain("%s: no such command (%s --help lists them)", argv[1], prefix);
	return TOOL_USAGE;
}

int command_bench(int argc, char **argv)
{
	return dispatch("demi bench", benches, TOOL_COUNT(benches), argc, argv);
}

int main(int argc, char **argv)
{
	char version[] = "version";

	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		argv[1] = version;
	return dispatch("demi", commands, TOOL_COUNT(commands), argc, argv);
}
