/* SPDX-License-Identifier: MIT
 * tests/packet/run.h - a script played through packetdrill's interface, as packetdrill would.
 *
 * The stack, its time and its wire are behind struct packetdrill_interface (packetdrill.h), whose
 * members are all that this runner asks of them.  The script's events are done by one thread; a
 * call that blocks is made by another (caller.c), of which there is one at a time.
 */
#pragma once

#include "packet/match.h"
#include "packet/packetdrill.h"
#include "packet/script.h"

#include <pthread.h>

#define RUN_MESSAGE_MAX 2048
#define RUN_FDS         64
#define RUN_FIRST_FD    3 /* of a script */

struct run;

struct running_call {
	struct run *run;
	const struct event *event;
	bool active;
	uint64_t started_us;
	uint64_t finished_us;
	int64_t result;
	int error;
	char wrong[512]; /* arguments that cannot be had, or outputs that differ; empty: fine */
};

/* The thread that makes calls that block. */
struct caller {
	pthread_t thread;
	bool exists;
	pid_t tid;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool busy;    /* a call is being made */
	bool started; /* and the thread has taken it */
	bool leaving;
};

struct run {
	struct packetdrill_interface ifc;
	const struct script *script;
	uint64_t start_us;
	const struct event *last_event; /* the event before, */
	uint64_t last_due_us;           /* and when it was due */
	uint64_t tolerance_us;
	bool v6;
	bool strict;
	uint32_t mtu;
	struct flows flows;
	struct running_call call;
	struct caller caller;
	int tested_fd;             /* made last: assertions are about it */
	int live[RUN_FDS];         /* the kernel's descriptor, by the script's; -1: none */
	uint64_t written[RUN_FDS]; /* bytes of the stream, by the script's descriptor */
	uint64_t read[RUN_FDS];
	char message[RUN_MESSAGE_MAX];
};

enum run_result { RUN_OK, RUN_FAILED, RUN_UNSUPPORTED };

/* What scripts are played on.  False: message says why it cannot be loaded. */
struct run_adapter {
	packetdrill_interface_init_t init;
	const char *flags; /* for every script; NULL: nojumbo, the frames of a plain device */
};

/* path NULL: the adapter that lies beside the program.  False: message says why not. */
bool run_load(struct run_adapter *adapter, const char *path, char message[RUN_MESSAGE_MAX]);
/* Runs one script from its file.  message: why it failed. */
enum run_result run_file(const struct run_adapter *adapter, const char *path,
			 char message[RUN_MESSAGE_MAX]);
/* A script in memory. */
enum run_result run_script(const struct run_adapter *adapter, const struct script *script,
			   char message[RUN_MESSAGE_MAX]);

/* The live descriptor of a script's; -1: none. */
int run_live(const struct run *run, int fd);
/* Gives a live descriptor the number that the script wants, or the lowest free one; -1: too many.
 */
int run_enter(struct run *run, int live, int64_t wanted);
/* The live descriptor of a script's, which is nobody's any more. */
int run_forget(struct run *run, int fd);
uint64_t run_now(struct run *run);

/* run_options.c: the first lines of a script.  False: message says why. */
bool run_options(struct run *run);
/* The flags that its adapter gets; false: one is bad.  Freed by the caller. */
bool run_flags(struct run *run, const char *given, char **flags);
bool run_failed(struct run *run, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* call.c: makes the call of an event. */
void call_make(struct running_call *call);

/* caller.c: makes run->call on the second thread, until it blocks or has ended.  False: no thread.
 */
bool caller_start(struct run *run);
/* Has the call ended?  If it does not block, waits for that. */
bool caller_finished(struct run *run);
/* Does a thread of this process wait for something?  As packetdrill finds out. */
bool caller_sleeps(pid_t tid);
/* Ends the thread; whatever it is in must end by itself. */
void caller_end(struct run *run);
