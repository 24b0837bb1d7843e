/* SPDX-License-Identifier: MIT
 * tools/demi/capture.c - `demi capture PID FILE`: every frame of a running instance, in pcapng.
 *
 * The file is made here and passed to the instance, which writes it until this end of the
 * connection is closed: by an interrupt, by the time that is given, or by the death of this
 * process.
 */
#include "control.h"
#include "options.h"
#include "tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS 2000

struct capture {
	unsigned long pid;
	double seconds; /* 0: until an interrupt */
	const char *path;
	int file;
	int signals;
	char said[256]; /* the instance's last line, without its end */
};

static int begin_request(int fd, int file)
{
	static char request[] = "capture\n";
	struct iovec iov = {.iov_base = request, .iov_len = sizeof(request) - 1};

	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	struct cmsghdr *descriptor = CMSG_FIRSTHDR(&message);

	descriptor->cmsg_level = SOL_SOCKET;
	descriptor->cmsg_type = SCM_RIGHTS;
	descriptor->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(descriptor), &file, sizeof(int));
	return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Reads a line. 0, -ETIMEDOUT, -ECONNRESET: none comes. */
static int read_line(struct capture *capture, int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};
	size_t length = 0;

	while (length < sizeof(capture->said) - 1) {
		char byte;

		if (poll(&poller, 1, ANSWER_MS) == 0)
			return -ETIMEDOUT;
		if (recv(fd, &byte, 1, 0) != 1)
			return -ECONNRESET;
		if (byte == '\n')
			break;
		capture->said[length++] = byte;
	}
	capture->said[length] = '\0';
	return 0;
}

/* Asks one instance. A connection on which it captures; -errno: not, for a reason that is in said
 * if it is -ENOTSUP. */
static int ask(struct capture *capture, const char *path)
{
	int fd = control_connect(path);
	int error;

	if (fd < 0)
		return fd;
	error = begin_request(fd, capture->file);
	if (!error)
		error = read_line(capture, fd);
	if (!error && strcmp(capture->said, "ok") != 0)
		error = -ENOTSUP;
	if (!error)
		return fd;
	close(fd);
	return error;
}

/* The first instance of the process that can be captured. */
static int ask_all(struct capture *capture)
{
	char directory[256];
	struct dirent **names;
	int answer = -ENOENT;

	control_directory(directory, sizeof(directory));
	int count = scandir(directory, &names, NULL, versionsort);
	for (int i = 0; i < count; i++) {
		unsigned long pid;
		char path[512];

		if (answer < 0 && control_parse_name(names[i]->d_name, &pid) &&
		    pid == capture->pid) {
			snprintf(path, sizeof(path), "%s/%s", directory, names[i]->d_name);
			answer = ask(capture, path);
		}
		free(names[i]);
	}
	if (count >= 0)
		free(names);
	return answer;
}

static void complain(const struct capture *capture, int error)
{
	if (error == -ENOTSUP)
		tool_complain("process %lu: %s", capture->pid, capture->said);
	else if (error == -ENOENT || error == -ECONNREFUSED)
		tool_complain("process %lu has no instance that listens", capture->pid);
	else if (error == -ETIMEDOUT)
		tool_complain("process %lu: no answer: the instance is not being waited on",
			      capture->pid);
	else
		tool_complain("process %lu: %s", capture->pid, strerror(-error));
}

/* Waits for an interrupt, the time, or the end of the instance. */
static void wait_end(const struct capture *capture, int fd)
{
	struct pollfd pollers[] = {{.fd = fd, .events = POLLIN},
				   {.fd = capture->signals, .events = POLLIN}};
	int ms = capture->seconds > 0 ? (int)(capture->seconds * 1000) : -1;

	while (poll(pollers, TOOL_COUNT(pollers), ms) < 0 && errno == EINTR)
		;
}

static int run(struct capture *capture)
{
	int fd = ask_all(capture);
	int error;

	if (fd < 0) {
		complain(capture, fd);
		return TOOL_FAILED;
	}
	fprintf(stderr, "capturing to %s\n", capture->path);
	wait_end(capture, fd);
	shutdown(fd, SHUT_WR);
	error = read_line(capture, fd);
	close(fd);
	if (error) {
		complain(capture, error);
		return TOOL_FAILED;
	}
	fprintf(stderr, "%s\n", capture->said);
	return TOOL_GOOD;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int open_and_run(struct capture *capture)
{
	bool output = strcmp(capture->path, "-") == 0;
	int status;

	capture->file =
		output ? dup(STDOUT_FILENO)
		       : open(capture->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (capture->file < 0) {
		tool_complain("%s: %s", capture->path, strerror(errno));
		return TOOL_FAILED;
	}
	capture->signals = open_signals();
	status = run(capture);
	close(capture->file);
	if (capture->signals >= 0)
		close(capture->signals);
	return status;
}

int command_capture(int argc, char **argv)
{
	struct capture capture = {0};
	const struct option_spec specs[] = {
		{"seconds", OPTION_NUMBER, &capture.seconds, 0, 86400, NULL, "S",
		 "end by itself; default: until an interrupt"},
	};
	struct operands operands;
	char *end;

	switch (options_parse(specs, TOOL_COUNT(specs), argc, argv, 2, &operands)) {
	case OPTIONS_HELP:
		puts("usage: demi capture PID FILE [OPTION...]\nFILE: made or emptied; -: standard "
		     "output");
		options_help(specs, TOOL_COUNT(specs));
		return TOOL_GOOD;
	case OPTIONS_BAD:
		return TOOL_USAGE;
	case OPTIONS_GOOD:
		break;
	}
	if (operands.count != 2) {
		tool_complain("capture needs a process number and a file");
		return TOOL_USAGE;
	}
	capture.pid = strtoul(operands.words[0], &end, 10);
	if (capture.pid == 0 || *end != '\0' || operands.words[0][0] == '-') {
		tool_complain("%s: not a process number", operands.words[0]);
		return TOOL_USAGE;
	}
	capture.path = operands.words[1];
	return open_and_run(&capture);
}
