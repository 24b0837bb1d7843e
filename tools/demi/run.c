/* SPDX-License-Identifier: MIT
 * tools/demi/run.c - `demi run`: the main job in under a minute. An echo server and client over
 * every library OS that runs here, beside the best plain-sockets loops: a table and a plot for TCP,
 * then for UDP.
 */
#include "echo_report.h"
#include "options.h"
#include "probe.h"
#include "process.h"
#include "rdma.h"
#include "tool.h"

#include <demi/instance.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TCP_ROUNDS 5
#define UDP_ROUNDS 3

struct run_options {
	const char *json;
	double seconds; /* of one run */
	uint64_t size;
};

struct run_state {
	struct run_options options;
	struct report report;
	bool runs[16];                       /* by back end: a library OS that runs here */
	char rdma_address[INET6_ADDRSTRLEN]; /* empty: none */
	const char *directory;
};

static bool writable_directory(const char *path)
{
	return path && *path && access(path, W_OK | X_OK) == 0;
}

/* Where the plots go: build/ of the source tree if we stand in it. */
static const char *plot_directory(void)
{
	const char *temporary = getenv("TMPDIR");

	if (writable_directory("build"))
		return "build";
	return writable_directory(temporary) ? temporary : "/tmp";
}

/* Finds the library OSes that run here, and says of each whether. */
static unsigned find_library(struct run_state *state)
{
	struct libos_walk walk = {0};
	char absent[128] = "";
	unsigned count = 0;

	bool rdma = rdma_address(state->rdma_address);
	printf("demitasse %s: echo, server and client as two processes on %s\n", demi_version(),
	       cores_usable() > 1 ? "cores 0 and 1" : "one core (figures mean little)");
	while (libos_walk_next(&walk) && walk.index < TOOL_COUNT(state->runs)) {
		bool device = walk.backend->device;

		if (walk.backend->rdma && walk.runs && !rdma) {
			printf("left out: %s: no RDMA device has an IP address\n",
			       walk.backend->name);
			continue;
		}
		state->runs[walk.index] = walk.runs && !device;
		count += state->runs[walk.index];
		if (walk.absent)
			snprintf(absent + strlen(absent), sizeof(absent) - strlen(absent), " %s",
				 walk.backend->name);
		else if (device)
			printf("left out: %s: needs an interface: see demi bench echo --device\n",
			       walk.backend->name);
		else if (!walk.runs)
			printf("left out: %s: %s\n", walk.backend->name, walk.message);
	}
	if (absent[0])
		printf("not in this build:%s\n", absent);
	return count;
}

static void add(struct run_state *state, struct contest *contest,
		const struct echo_backend *backend, const char *idle, enum echo_proto proto)
{
	struct echo_spec spec = {
		.server = backend,
		.client = backend,
		.idle = idle,
		.proto = proto,
		.size = state->options.size,
		.connections = 1,
		.depth = 1,
		.seconds = state->options.seconds,
		.address = backend->rdma ? state->rdma_address : NULL,
	};

	if (backend->server && backend->protos & proto)
		contest_add(contest, &spec, proto == ECHO_TCP ? TCP_ROUNDS : UDP_ROUNDS);
}

static const struct contestant *contestant_named(const struct contest *contest, const char *name)
{
	for (size_t i = 0; i < contest->count; i++) {
		if (strcmp(contest->contestants[i].spec.server->name, name) == 0)
			return &contest->contestants[i];
	}
	return NULL;
}

/* What spins is compared with what spins. */
static void set_references(struct contest *contest)
{
	for (size_t i = 0; i < contest->count; i++) {
		struct contestant *contestant = &contest->contestants[i];
		bool busy = contestant->spec.idle && strcmp(contestant->spec.idle, "busy") == 0;

		if (contestant->spec.server->library)
			contestant->reference =
				contestant_named(contest, busy ? "posix-spin" : "posix-epoll");
	}
}

/* Each library OS in both ways to wait, then the plain sockets. */
static void fill_contest(struct run_state *state, struct contest *contest, enum echo_proto proto)
{
	for (size_t i = 0; i < echo_backend_count() && i < TOOL_COUNT(state->runs); i++) {
		if (!state->runs[i])
			continue;
		add(state, contest, echo_backend_at(i), "busy", proto);
		add(state, contest, echo_backend_at(i), "adaptive", proto);
	}
	for (size_t i = 0; i < echo_backend_count(); i++) {
		const struct echo_backend *backend = echo_backend_at(i);

		if (!backend->library && !backend->device &&
		    strcmp(backend->name, "io_uring-block") != 0)
			add(state, contest, backend, NULL, proto);
	}
	set_references(contest);
}

static void keep_rows(struct run_state *state, const struct contest *contest, struct report *part)
{
	echo_report_add(part, contest);
	echo_report_add(&state->report, contest);
}

/* One protocol: a table and a plot. */
static int run_proto(struct run_state *state, enum echo_proto proto)
{
	struct contest *contest = tool_alloc(1, sizeof(*contest));
	const char *name = proto == ECHO_TCP ? "TCP" : "UDP";
	struct report part = {0};
	char path[512];
	int status;

	fill_contest(state, contest, proto);
	status = contest_run(contest, name) ? TOOL_FAILED : TOOL_GOOD;
	keep_rows(state, contest, &part);
	printf("\n%s, %llu bytes, 1 connection, 1 request in flight; every byte of the warm-up was "
	       "checked\n",
	       name, (unsigned long long)state->options.size);
	echo_report_print(&part);
	echo_report_conclude(contest);
	snprintf(path, sizeof(path), "%s/demi-run-%s.svg", state->directory,
		 proto == ECHO_TCP ? "tcp" : "udp");
	if (echo_report_plot(contest, path) == 0)
		printf("plot: %s\n", path);
	report_free(&part);
	contest_free(contest);
	free(contest);
	return status;
}

static int run(struct run_state *state)
{
	int status;

	if (find_library(state) == 0) {
		tool_complain("no library OS runs here (demi doctor tells why)");
		return TOOL_FAILED;
	}
	state->directory = plot_directory();
	status = run_proto(state, ECHO_TCP);
	if (run_proto(state, ECHO_UDP) != TOOL_GOOD)
		status = TOOL_FAILED;
	if (state->options.json && report_write_json(&state->report, state->options.json) < 0)
		status = TOOL_FAILED;
	report_free(&state->report);
	return status;
}

int command_run(int argc, char **argv)
{
	struct run_state state = {.options = {.seconds = 0.2, .size = 64}};
	const struct option_spec specs[] = {
		{"size", OPTION_WHOLE, &state.options.size, ECHO_DATAGRAM_MIN, ECHO_DATAGRAM_MAX,
		 NULL, "B", "bytes of a message (64)"},
		{"seconds", OPTION_NUMBER, &state.options.seconds, 0.001, 60, NULL, "S",
		 "time of one run (0.2)"},
		{"json", OPTION_TEXT, &state.options.json, 0, 0, NULL, "FILE",
		 "write the rows as JSON"},
	};
	int status = options_read(specs, TOOL_COUNT(specs), argc, argv, "demi run [OPTION...]");

	if (status != TOOL_GOOD)
		return status == OPTIONS_TOLD ? TOOL_GOOD : status;
	tool_raise_file_limit();
	return run(&state);
}
