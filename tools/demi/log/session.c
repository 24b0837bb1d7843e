/* SPDX-License-Identifier: MIT
 * tools/demi/log/session.c - see session.h.
 */
#include "session.h"

#include "../tool.h"
#include "base/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Damage that recovery finds is no failure, and each command tells it in its own way. */
static void hear(void *arg, int level, const char *message)
{
	struct session *session = arg;

	if (level == LOG_LEVEL_ERROR)
		tool_copy_text(session->reason, sizeof(session->reason), message);
	else if (level == LOG_LEVEL_WARNING)
		tool_complain("%s", message);
}

static uint64_t time_now(void *arg)
{
	(void)arg;
	return clock_now_ns();
}

/* Complains of an error, in the library's words if it had any. */
static int failed(const struct session *session, const char *what, int err)
{
	if (err && session->reason[0])
		tool_complain("%s", session->reason);
	else if (err)
		tool_complain("%s: %s", what, strerror(-err));
	return err;
}

/* ---- opening ---- */

static int load(struct session *session, struct config *config, const char *driver)
{
	const struct log log = {.fn = hear, .arg = session};
	struct config_override *overrides = NULL;
	int err = driver ? config_override_set(&overrides, "storage_driver", driver, &log) : 0;

	if (!err)
		err = config_load(config, getenv("CONFIG_PATH"), overrides, &log);
	config_override_free(&overrides);
	return failed(session, "configuration", err);
}

static int open_sched(struct session *session, const struct config *config)
{
	const struct log log = {.fn = hear, .arg = session};
	const struct sched_world world = {.now_ns = time_now};
	bool anew;
	int err = process_begin(&anew);

	if (!err)
		err = sched_open(&session->sched, config, &log, &world);
	return failed(session, "start", err);
}

static int open_store(struct session *session, const char *path)
{
	const char *device = session->sched.config.storage_device;
	const struct blkdev_place place = {.path = path ? path : device, .flags = O_RDONLY};

	if (!*place.path) {
		tool_complain("log: which file or device? (--help)");
		return -EINVAL;
	}
	return failed(session, place.path, store_open(&session->sched, &place, &session->store));
}

static int open_logs(struct session *session)
{
	struct store *store = session->store;
	int err = 0;

	for (uint32_t slot = 0; slot < LOGS_MAX && !err; slot++) {
		const struct super_log *entry = &store->super.logs[slot];
		if (!entry->id)
			continue;
		session->reason[0] = '\0';
		err = logfile_open(store, entry->name, O_RDONLY, &session->logs[session->num_logs]);
		session->num_logs += err == 0;
	}
	return failed(session, store->path, err);
}

static void close_store(struct session *session)
{
	for (uint32_t i = 0; i < session->num_logs; i++) {
		logfile_leave(session->logs[i]);
		logfile_free(session->logs[i]);
	}
	store_close(session->store);
}

struct session *session_open(const char *path, const char *driver)
{
	struct session *session = tool_alloc(1, sizeof(*session));
	struct config config;

	if (load(session, &config, driver) || open_sched(session, &config))
		goto out;
	if (open_store(session, path))
		goto out_sched;
	if (open_logs(session) == 0)
		return session;
	close_store(session);
out_sched:
	sched_close(&session->sched);
out:
	free(session);
	return NULL;
}

void session_close(struct session *session)
{
	close_store(session);
	sched_close(&session->sched);
	free(session);
}

/* ---- logs ---- */

struct shown_name session_name(const struct logfile *log)
{
	struct shown_name shown = {""};
	char *to = shown.text;

	for (const char *at = logfile_entry(log)->name; *at; at++) {
		if ((unsigned char)*at >= ' ' && *at != 0x7f)
			*to++ = *at;
		else
			to += snprintf(to, 5, "\\x%02x", *at);
	}
	return shown;
}

struct logfile *session_find(const struct session *session, const char *name)
{
	for (uint32_t i = 0; i < session->num_logs; i++) {
		if (strcmp(logfile_entry(session->logs[i])->name, name) == 0)
			return session->logs[i];
	}
	tool_complain("%s: there is no log \"%s\"", session->store->path, name);
	return NULL;
}

int session_scan(struct scan *scan, struct logfile *log, const struct logfile_mark *from)
{
	int err = scan_open(scan, log, from);

	if (err)
		tool_complain("log \"%s\": %s", session_name(log).text, strerror(-err));
	else
		scan->proven = log->durable;
	return err;
}
