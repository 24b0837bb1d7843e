/* SPDX-License-Identifier: MIT
 * base/log.h - log lines of the control path.  Nothing on the data path logs: it counts.
 *
 * A struct log names a sink; it is a value, copied into whoever logs.  The default sink writes
 * errors and warnings to stderr, one line each.  log_once is for repeated causes: the same format
 * string is written once for each struct log_seen.
 *
 * A message has at most LOG_MESSAGE_MAX bytes (a longer one is cut and ends in "...") and is one
 * line: control characters, which can come from a file or the environment, become '?'.
 */
#pragma once

#include <stdarg.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR = 1, LOG_LEVEL_WARNING = 2, LOG_LEVEL_INFO = 3 };

#define LOG_MESSAGE_MAX 512

typedef void (*log_fn)(void *arg, int level, const char *message);

struct log {
	log_fn fn; /* NULL: the default sink */
	void *arg;
	uint32_t *gate; /* 0 while fn runs, so that calls from it can be refused; or NULL */
};

/* Formats seen before, by address of the string constant: a small fixed set, then everything counts
 * as seen. */
#define LOG_SEEN_MAX 64

struct log_seen {
	const char *format[LOG_SEEN_MAX];
	uint32_t count;
};

/* The default sink: errors and warnings, a line each on stderr. */
void log_default(enum log_level level, const char *message);

/* Both leave errno alone and allocate nothing. */
void log_write(const struct log *log, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void log_once(const struct log *log, struct log_seen *seen, enum log_level level,
	      const char *format, ...) __attribute__((format(printf, 4, 5)));
