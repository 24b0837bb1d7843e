/* SPDX-License-Identifier: MIT
 * tools/demi/log/commands.h - what can be done with a session: each prints, and returns the exit
 * status.
 */
#pragma once

#include "session.h"

#define LOG_GOOD       0
#define LOG_DAMAGED    1
#define LOG_UNREADABLE 2 /* or not tried, for a bad option */

struct dump_options {
	const char *log; /* NULL: all */
	uint64_t from;
	uint64_t count; /* 0: all */
	bool raw;
};

int log_info(const struct session *session, bool json);
int log_check(const struct session *session);
int log_dump(const struct session *session, const struct dump_options *options);
