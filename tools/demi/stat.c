/* SPDX-License-Identifier: MIT
 * tools/demi/stat.c - `demi stat [PID] [--json]`: what running instances say of themselves.
 *
 * Each instance listens on a Unix socket DIRECTORY/demitasse/PID-N.sock, N counting the instances
 * of the process; to who asks it writes one JSON document and closes. It answers when it next
 * runs its poll turn: an instance that is not being waited on is silent, and said to be so. Sockets
 * whose instance is gone are removed.
 */
#include "control.h"
#include "json.h"
#include "options.h"
#include "stat_print.h"
#include "tool.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS          2000
#define DOCUMENT_BYTES_MAX (64UL << 20)

struct document {
	char *text;
	size_t length, room;
};

struct stat_options {
	unsigned long pid; /* 0: all */
	bool json;
};

/* Makes room for more of the document. Whether there is. */
static bool grow(struct document *document)
{
	size_t room = document->room ? document->room * 2 : 65536;
	char *text = room <= DOCUMENT_BYTES_MAX ? realloc(document->text, room) : NULL;

	if (!text)
		return false;
	document->text = text;
	document->room = room;
	return true;
}

/* Appends what comes until the end. 0 or -errno. */
static int read_all(int fd, struct document *document)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};

	for (;;) {
		ssize_t got;

		if (document->length == document->room && !grow(document))
			return -EFBIG;
		if (poll(&poller, 1, ANSWER_MS) == 0)
			return -ETIMEDOUT;
		got = recv(fd, document->text + document->length, document->room - document->length,
			   0);
		if (got == 0)
			return 0;
		if (got < 0 && errno != EINTR)
			return -errno;
		document->length += got > 0 ? (size_t)got : 0;
	}
}

/* Asks one instance. 0 or -errno. */
static int ask(const char *path, struct document *document)
{
	static const char request[] = "stat\n";
	int fd = control_connect(path);
	int error;

	*document = (struct document){0};
	if (fd < 0)
		return fd;
	/* one that ends meanwhile shows by what is read */
	(void)!send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
	error = read_all(fd, document);
	close(fd);
	return error;
}

static void show_text(const struct stat_options *options, const struct json *tree, unsigned shown)
{
	if (options->pid)
		stat_print(tree);
	else
		stat_print_line(tree, shown == 0);
}

static void show_json(const struct document *document, unsigned shown)
{
	size_t length = document->length;

	while (length > 0 && document->text[length - 1] == '\n')
		length--;
	fputs(shown ? ",\n" : "[\n", stdout);
	fwrite(document->text, 1, length, stdout);
}

/* Whether the answer could be shown. */
static bool show_document(const struct stat_options *options, const struct document *document,
			  const char *path, unsigned shown)
{
	struct json *tree = json_read(document->text, document->length);

	if (!tree)
		tool_complain("%s: the answer is no JSON", path);
	else if (options->json)
		show_json(document, shown);
	else
		show_text(options, tree, shown);
	json_free(tree);
	return tree != NULL;
}

/* One socket. Whether its instance was shown. */
static bool show_instance(const struct stat_options *options, const char *path, unsigned shown)
{
	struct document document;
	int error = ask(path, &document);
	bool good = error == 0 && show_document(options, &document, path, shown);

	if (error == -ETIMEDOUT)
		tool_complain("%s: no answer: the instance is not being waited on", path);
	else if (error && error != -ECONNREFUSED && error != -ENOENT)
		tool_complain("%s: %s", path, strerror(-error));
	free(document.text);
	return good;
}

/* Shows all that are asked for. How many there were. */
static unsigned show_directory(const struct stat_options *options, const char *directory)
{
	struct dirent **names;
	int count = scandir(directory, &names, NULL, versionsort);
	unsigned shown = 0;

	for (int i = 0; i < count; i++) {
		unsigned long pid;
		char path[512];

		if (control_parse_name(names[i]->d_name, &pid) &&
		    (options->pid == 0 || options->pid == pid)) {
			snprintf(path, sizeof(path), "%s/%s", directory, names[i]->d_name);
			shown += show_instance(options, path, shown);
		}
		free(names[i]);
	}
	if (count >= 0)
		free(names);
	return shown;
}

static int show_all(const struct stat_options *options)
{
	char directory[256];
	unsigned shown;

	control_directory(directory, sizeof(directory));
	shown = show_directory(options, directory);
	if (options->json)
		puts(shown ? "\n]" : "[]");
	if (shown)
		return TOOL_GOOD;
	if (options->pid) {
		tool_complain("process %lu has no instance that listens in %s", options->pid,
			      directory);
		return TOOL_FAILED;
	}
	if (!options->json)
		printf("no instance listens in %s\n", directory);
	return TOOL_GOOD;
}

int command_stat(int argc, char **argv)
{
	struct stat_options options = {0};
	const struct option_spec specs[] = {
		{"json", OPTION_FLAG, &options.json, 0, 0, NULL, NULL,
		 "print an array of the instances' documents"},
	};
	struct operands operands;
	char *end;

	switch (options_parse(specs, TOOL_COUNT(specs), argc, argv, 1, &operands)) {
	case OPTIONS_HELP:
		puts("usage: demi stat [PID] [OPTION...]\nwithout PID: one line for each instance "
		     "that can be reached");
		options_help(specs, TOOL_COUNT(specs));
		return TOOL_GOOD;
	case OPTIONS_BAD:
		return TOOL_USAGE;
	case OPTIONS_GOOD:
		break;
	}
	if (operands.count) {
		options.pid = strtoul(operands.words[0], &end, 10);
		if (options.pid == 0 || *end != '\0' || operands.words[0][0] == '-') {
			tool_complain("%s: not a process number", operands.words[0]);
			return TOOL_USAGE;
		}
	}
	return show_all(&options);
}
