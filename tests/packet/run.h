/* SPDX-License-Identifier: MIT
 * tests/packet/run.h - a script against one instance of the library on a virtual clock.
 *
 * The runner is the instance's world: its time, and the wire of its device, whose other end it
 * plays: it answers questions for link-layer addresses itself and keeps every other frame for the
 * script. Time stands still while the stack works and moves from timer to timer in between.
 */
#pragma once

#include "packet/match.h"
#include "packet/script.h"

#include "netdev/sim/sim.h"
#include "posix/posix.h"

#define RUN_MESSAGE_MAX 2048

struct demi;
struct run;

/* A call that is being made, in a coroutine of its own. */
struct running_call {
	struct run *run;
	const struct event *event;
	bool active;
	bool finished;
	uint64_t started_ns;
	uint64_t finished_ns;
	int64_t result;
	int error;
	char wrong[512]; /* arguments that cannot be had, or outputs that differ; empty: fine */
};

#define RUN_FDS 64

struct run {
	struct sim_wire wire;
	const struct script *script;
	struct demi *demi;
	struct netdev *dev;
	uint64_t now_ns;
	uint64_t start_ns;
	int64_t last_event_ns; /* script time of the event before */
	uint64_t tolerance_ns;
	bool v6;
	bool strict;
	uint32_t mtu;
	struct posix posix;
	struct flows flows;
	struct live_packet *captured; /* oldest first */
	struct live_packet *captured_tail;
	struct running_call call;
	int tested_fd;             /* made last: assertions are about it */
	uint64_t written[RUN_FDS]; /* bytes of the stream, by descriptor */
	uint64_t read[RUN_FDS];
	char log[256]; /* last error line of the instance */
	char message[RUN_MESSAGE_MAX];
};

enum run_result { RUN_OK, RUN_FAILED, RUN_UNSUPPORTED };

/* Runs one script from its file.  message: why it failed. */
enum run_result run_file(const char *path, char message[RUN_MESSAGE_MAX]);
/* A script in memory. */
enum run_result run_script(const struct script *script, char message[RUN_MESSAGE_MAX]);

/* call.c: makes the call of run->call.event; runs in a coroutine. */
void call_make(struct running_call *call);
/* What the current call of a script connects to or comes from. */
