/* SPDX-License-Identifier: MIT
 * transport/log/log.h - logs as queues.
 */
#pragma once

#include "storage/logfile.h"
#include "transport/transport.h"

/* The stores of an instance. */
struct log_engine {
	struct poller poller;
	struct sched *sched;
	struct list stores;
	bool held; /* what was pushed is to go out with the next poll */
};

/* A log, opened by its path; the store it is on is opened for the first and closed with the last.
 * 0 or -errno. */
int log_engine_find(struct log_engine *engine, const char *path, int flags, mode_t mode,
		    struct logfile **logfile_out);

/* In a word. */
const char *log_state(const struct logfile *log);

/* A store that is open, found by its path from now on. */
void log_engine_add(struct log_engine *engine, struct store *store);
