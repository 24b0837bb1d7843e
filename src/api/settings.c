/* SPDX-License-Identifier: MIT
 * api/settings.c - what a thread sets for instances to come: log sink and configuration; the
 * version.
 */
#include "api/instance.h"

#include "base/assert.h"

static_assert((int)DEMI_LOG_ERROR == (int)LOG_LEVEL_ERROR, "levels are passed through");
static_assert((int)DEMI_LOG_WARNING == (int)LOG_LEVEL_WARNING, "levels are passed through");
static_assert((int)DEMI_LOG_INFO == (int)LOG_LEVEL_INFO, "levels are passed through");

/* demi_log_t and log_fn differ in how they name the level's type: called through the former. */
struct log_sink {
	demi_log_t fn;
	void *arg;
};

static _Thread_local struct log_sink sink __attribute__((tls_model("initial-exec")));

/* An instance may be entered by a thread that has no function of its own.  Calls from inside are
 * refused: by the instance's gate, and where there is no instance by the count. */
void log_of_thread(void *unused, int level, const char *message)
{
	(void)unused;
	if (!sink.fn) {
		log_default((enum log_level)level, message);
		return;
	}
	thread_state.in_callback++;
	sink.fn(sink.arg, (enum demi_log_level)level, message);
	thread_state.in_callback--;
}

int demi_set_log(demi_log_t fn, void *arg)
{
	sink = (struct log_sink){.fn = fn, .arg = arg};
	thread_state.log.fn = fn ? log_of_thread : NULL;
	return 0;
}

int demi_set_config(const char *key, const char *value)
{
	KEEP_ERRNO;
	if (!key)
		return EINVAL;
	if (thread_state.in_callback > 0)
		return EBUSY;
	thread_watch_exit(); /* frees the list */
	int err = config_override_set(&thread_state.overrides, key, value, &thread_state.log);
	return -err;
}

const char *demi_version(void)
{
	return DEMI_VERSION_TEXT;
}
