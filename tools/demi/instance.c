/* SPDX-License-Identifier: MIT
 * tools/demi/instance.c - a thread's instance of the library, made as the command's options ask.
 */
#include "instance.h"

#include "tool.h"

#include <demi/instance.h>
#include <demi/libos.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the library's last line goes while an instance is made. */
struct reason {
	char *message;
	size_t room;
};

static void keep_reason(void *arg, enum demi_log_level level, const char *message)
{
	struct reason *reason = arg;

	if (level == DEMI_LOG_ERROR)
		tool_copy_text(reason->message, reason->room, message);
	else if (level == DEMI_LOG_WARNING)
		tool_complain("%s", message);
}

/* Sets one key from "key=value". */
static int set_pair(char *pair)
{
	char *value = strchr(pair, '=');

	if (!value)
		return -EINVAL;
	*value++ = '\0';
	return -demi_set_config(pair, value);
}

/* The device's name is key "device", what follows it are keys of their own. */
static int set_device(const char *device)
{
	char copy[1024];
	char *rest = copy;
	int error;

	if (!device)
		return 0;
	tool_copy_text(copy, sizeof(copy), device);
	error = -demi_set_config("device", strsep(&rest, ","));
	while (!error && rest)
		error = set_pair(strsep(&rest, ","));
	return error;
}

static int open_as_asked(const char *libos, const char *device, const char *idle)
{
	struct demi_args args = {0};
	int error = set_device(device);

	unsetenv("DEMI_BENCH_RT"); /* ours, no key of the library: it would warn */
	if (!error && idle)
		error = -demi_set_config("idle", idle);
	if (!error && setenv("LIBOS", libos, 1) < 0)
		error = -errno;
	if (!error)
		error = -demi_init(&args);
	/* A libOS whose name the library does not know is one that this build lacks. */
	return error == -EINVAL && strcmp(libos, "catnap") != 0 ? -ENOTSUP : error;
}

int instance_open(const char *libos, const char *device, const char *idle, char *message,
		  size_t room)
{
	struct reason reason = {message, room};
	int error;

	message[0] = '\0';
	demi_set_log(keep_reason, &reason);
	error = open_as_asked(libos, device, idle);
	demi_set_log(NULL, NULL);
	if (error && message[0] == '\0')
		snprintf(message, room, "demi_init: %s", strerror(-error));
	return error;
}

void instance_close(void)
{
	demi_fini();
}
