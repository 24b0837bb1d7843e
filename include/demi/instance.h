/* SPDX-License-Identifier: MIT
 * demi/instance.h - life, configuration and supervision of instances.
 *
 * An instance is all the state of one thread's datapath OS.  demi_init and demi_fini (one instance
 * a thread) serve most programs; the calls here allow several instances a thread.  All return 0 or
 * a positive errno.
 */
#ifndef DEMI_INSTANCE_H
#define DEMI_INSTANCE_H

#include <demi/cc.h>
#include <demi/types.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* One instance; opaque. */
struct demi;

/* Makes an instance without making it the thread's current one.  Ended by demi_destroy.  Errors as
 * demi_init, less EEXIST. */
ATTR_NONNULL(1, 2)
extern int demi_create(_Out_ struct demi **instance_out, _In_ const struct demi_args *args);

/* Makes an instance the one that the thread's calls mean; NULL: none.  An instance serves one
 * thread at a time.  EBUSY: it is another thread's current one, the caller is inside a coroutine or
 * callback, or the thread's instance is one made by demi_init, which could not be entered again.
 * ENOSYS in a forked child. */
extern int demi_enter(_In_opt_ struct demi *instance);

/* Ends an instance: demi_fini for one made by demi_create.  EINVAL: NULL.  EBUSY: as demi_enter. */
ATTR_NONNULL(1)
extern int demi_destroy(_In_ struct demi *instance);

/* Ends the thread's instance: closes its queues, polls until closed connections are done or the
 * linger time (2 s by default) is over, and frees everything but heap objects that the application
 * still holds: those stay good, and go when they are freed.  Blocks at most for the linger time.
 * ENOSYS: there is none.  EBUSY: inside a coroutine or callback. */
extern int demi_fini(void);

/* Sets a configuration key for instances that this thread makes afterwards: over file and
 * environment.  Keys: demi.yaml(5). value NULL forgets an earlier setting.  EINVAL: unknown key or
 * value out of range (a log line names the range).  ENOMEM. */
ATTR_NONNULL(1)
extern int demi_set_config(_In_z_ const char *key, _In_opt_ const char *value);

/* File descriptor that is readable when the instance has something to do, for a foreign event loop
 * (poll, select, epoll: wait for reading).  Owned by the instance; never read or close it.  Call
 * demi_event_arm before sleeping on it. ENOTSUP: a device has no interrupt. */
ATTR_NONNULL(1)
extern int demi_event_fd(_Out_ int *fd_out);

/* Arms the descriptor.  EAGAIN: something is ready already, wait (with timeout 0) instead of
 * sleeping.  ENOTSUP. */
extern int demi_event_arm(void);

/* Levels of log lines. */
enum demi_log_level {
	DEMI_LOG_ERROR = 1,   /* a call fails, this is why */
	DEMI_LOG_WARNING = 2, /* works, but not as well as it could: how to mend it */
	DEMI_LOG_INFO = 3,    /* what was chosen */
};

/* Receives one line without newline; message lives only during the call.  Only heap and sga calls
 * are legal inside. */
typedef void (*demi_log_t)(void *arg, enum demi_log_level level, const char *message);

/* Sends the calling thread's log lines to fn(arg, ...); NULL restores the default: errors and
 * warnings, one line each on stderr, the same line once an instance.  Never called on the data
 * path.  May be called before demi_init.  Returns 0. */
extern int demi_set_log(_In_opt_ demi_log_t fn, _In_opt_ void *arg);

/* Version of the library, "MAJOR.MINOR.PATCH", static.  Works anywhere. */
extern const char *demi_version(void);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
