/* SPDX-License-Identifier: MIT
 * base/log.c - formats one log line and hands it to its sink.  Everything is on the caller's stack.
 */
#include "base/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char cut_mark[] = "...";

/* Ends a message of LOG_MESSAGE_MAX bytes in the mark, without leaving half a UTF-8 character. */
static void message_cut(char message[LOG_MESSAGE_MAX + 1])
{
	size_t end = LOG_MESSAGE_MAX - strlen(cut_mark);

	for (int i = 0; i < 3 && ((unsigned char)message[end] & 0xc0) == 0x80; i++)
		end--;
	memcpy(message + end, cut_mark, sizeof(cut_mark));
}

static void message_one_line(char *message)
{
	for (; *message; message++) {
		unsigned char c = (unsigned char)*message;

		if (c < 0x20 || c == 0x7f)
			*message = '?';
	}
}

/* One write, so that lines of several threads never mix.  A stderr that is closed or full is
 * nobody's error here: the line is lost. */
void log_default(enum log_level level, const char *message)
{
	char line[LOG_MESSAGE_MAX + 32];

	if (level > LOG_LEVEL_WARNING)
		return;
	int length = snprintf(line, sizeof(line), "demitasse: %s: %s\n",
			      level == LOG_LEVEL_ERROR ? "error" : "warning", message);
	ssize_t written = write(STDERR_FILENO, line, (size_t)length);
	(void)written;
}

static void log_deliver(const struct log *log, enum log_level level, const char *message)
{
	if (!log->fn) {
		log_default(level, message);
		return;
	}
	uint32_t *gate = log->gate;
	uint32_t open = gate ? *gate : 0;
	if (gate)
		*gate = 0;
	log->fn(log->arg, (int)level, message);
	if (gate)
		*gate = open;
}

__attribute__((format(printf, 3, 0))) static void
log_format(const struct log *log, enum log_level level, const char *format, va_list args)
{
	char message[LOG_MESSAGE_MAX + 1];
	int saved_errno = errno;
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): both callers start it */
	int length = vsnprintf(message, sizeof(message), format, args);

	if (length < 0)
		(void)snprintf(message, sizeof(message), "(a message that cannot be formatted)");
	if (length > LOG_MESSAGE_MAX)
		message_cut(message);
	message_one_line(message);
	log_deliver(log, level, message);
	errno = saved_errno;
}

void log_write(const struct log *log, enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_format(log, level, format, args);
	va_end(args);
}

/* True when the format is to be written: it is new, and there was room to remember it. */
static bool seen_add(struct log_seen *seen, const char *format)
{
	for (uint32_t i = 0; i < seen->count; i++) {
		if (seen->format[i] == format)
			return false;
	}
	if (seen->count == LOG_SEEN_MAX)
		return false;
	seen->format[seen->count++] = format;
	return true;
}

void log_once(const struct log *log, struct log_seen *seen, enum log_level level,
	      const char *format, ...)
{
	va_list args;

	if (!seen_add(seen, format))
		return;
	va_start(args, format);
	log_format(log, level, format, args);
	va_end(args);
}
