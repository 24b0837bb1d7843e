/* SPDX-License-Identifier: MIT
 * tools/demi/log/session.h - a device or file with logs, opened for reading: every log on it
 * recovered, nothing written.
 *
 * There is no instance: logs need a scheduler below them, and no network.
 */
#pragma once

#include "storage/scan.h"

struct session {
	struct sched sched;
	struct store *store;
	struct logfile *logs[LOGS_MAX];
	uint32_t num_logs;
	char reason[LOG_MESSAGE_MAX + 1]; /* the library's last error */
};

/* path NULL: the device that the configuration names; driver NULL: the configuration's.  NULL after
 * a complaint. */
struct session *session_open(const char *path, const char *driver);
void session_close(struct session *session);

/* The name of a log for people to see: it may have been made elsewhere, and what moves a terminal's
 * cursor is written as \xNN. */
struct shown_name {
	char text[4 * LOG_NAME_MAX + 1];
};

struct shown_name session_name(const struct logfile *log);

/* A log by its name; NULL after a complaint. */
struct logfile *session_find(const struct session *session, const char *name);

/* A scan of a log, told what the log holds: whatever lacks of it is damage.  0 or -ENOMEM. */
int session_scan(struct scan *scan, struct logfile *log, const struct logfile_mark *from);

/* The log's oldest record. */
static inline struct logfile_mark session_head(const struct logfile *log)
{
	return (struct logfile_mark){.offset = log->head, .sequence = log->head_sequence};
}
