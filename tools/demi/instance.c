/* SPDX-License-Identifier: MIT
 * tools/demi/instance.c - a thread's instance of the library, made as the command's options ask.
 */
#include "instance.h"

#include "tool.h"

#include <demi/instance.h>
#include <demi/libos.h>
#include <errno.h>
#include <stdbool.h>
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

#define VALUE_MAX 1024

/* Does text begin with the name of a key and an equals sign? */
static bool begins_pair(const char *text)
{
	char name[64];
	const char *equals = strchr(text, '=');

	if (!equals || (size_t)(equals - text) >= sizeof(name))
		return false;
	tool_copy_text(name, (size_t)(equals - text) + 1, text);
	return demi_set_config(name, NULL) == 0;
}

/* Sets the key of the pair at *rest, and moves *rest to the next one, NULL at the end.  Values may
 * have commas of their own: a word that begins with no key goes on with the value before it. */
static int set_pair(char **rest, struct reason *reason)
{
	char *key = *rest;
	char *value = strchr(key, '=');
	char *comma;

	if (!value) {
		snprintf(reason->message, reason->room, "device: \"%s\" is not KEY=VALUE", key);
		return -EINVAL;
	}
	*value++ = '\0';
	comma = strchr(value, ',');
	while (comma && !begins_pair(comma + 1))
		comma = strchr(comma + 1, ',');
	*rest = comma ? comma + 1 : NULL;
	if (comma)
		*comma = '\0';
	return -demi_set_config(key, value);
}

/* The device's name is key "device", what follows it are keys of their own. */
static int set_device(const char *device, struct reason *reason)
{
	char copy[VALUE_MAX];
	char *rest = copy;
	int error;

	if (!device)
		return 0;
	if (strlen(device) >= sizeof(copy)) {
		snprintf(reason->message, reason->room, "device: longer than %d bytes",
			 VALUE_MAX - 1);
		return -EINVAL;
	}
	tool_copy_text(copy, sizeof(copy), device);
	error = -demi_set_config("device", strsep(&rest, ","));
	while (!error && rest) {
		error = set_pair(&rest, reason);
		if (!error) /* what was no key is none's fault */
			reason->message[0] = '\0';
	}
	return error;
}

static int open_as_asked(const char *libos, const char *device, const char *idle,
			 struct reason *reason)
{
	struct demi_args args = {0};
	int error = set_device(device, reason);

	unsetenv("DEMI_BENCH_RT"); /* ours, no key of the library: it would warn */
	if (!error && idle)
		error = -demi_set_config("idle", idle);
	if (!error && setenv("LIBOS", libos, 1) < 0)
		error = -errno;
	if (!error)
		error = -demi_init(&args);
	return error;
}

int instance_open(const char *libos, const char *device, const char *idle, char *message,
		  size_t room)
{
	struct reason reason = {message, room};
	int error;

	message[0] = '\0';
	demi_set_log(keep_reason, &reason);
	error = open_as_asked(libos, device, idle, &reason);
	demi_set_log(NULL, NULL);
	if (error && message[0] == '\0')
		snprintf(message, room, "demi_init: %s", strerror(-error));
	return error;
}

void instance_close(void)
{
	demi_fini();
}
