/* SPDX-License-Identifier: MIT
 * tests/packet/run.c - see run.h.
 */
#include "packet/run.h"

#include "packet/expr.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANY_TIME_US (600ULL * 1000000) /* how long `*` waits */
#define STEP_US     1000               /* steps of a wait for a call that blocks */
#define NAP_MAX_US  1000000000         /* useconds_t does not hold every time of a script */

/* ---- failing ---- */

bool run_failed(struct run *run, int line, const char *format, ...)
{
	va_list args;
	int n;

	if (run->message[0])
		return false;
	n = snprintf(run->message, RUN_MESSAGE_MAX, "%s:%d: ", run->script->path, line);
	va_start(args, format);
	vsnprintf(run->message + n, RUN_MESSAGE_MAX - (size_t)n, format, args);
	va_end(args);
	return false;
}

static double seconds(const struct run *run, uint64_t at_us)
{
	return ((double)at_us - (double)run->start_us) / 1e6;
}

/* ---- the stack ---- */

uint64_t run_now(struct run *run)
{
	struct timeval now;

	(void)run->ifc.gettimeofday(run->ifc.userdata, &now, NULL);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_usec;
}

static void pass(struct run *run, uint64_t until_us)
{
	for (uint64_t now = run_now(run); now < until_us; now = run_now(run)) {
		uint64_t left = until_us - now;
		(void)run->ifc.usleep(run->ifc.userdata,
				      (useconds_t)(left < NAP_MAX_US ? left : NAP_MAX_US));
	}
}

/* The next packet that leaves the stack, waiting for it until until_us or a while longer. NULL. */
static struct live_packet *next_packet(struct run *run, uint64_t until_us)
{
	static uint8_t bytes[LIVE_BYTES_MAX];
	struct live_packet *live = NULL;
	long long at_us = 0;

	do {
		size_t length = sizeof(bytes);
		if (run->ifc.netdev_receive(run->ifc.userdata, bytes, &length, &at_us))
			return NULL;
		if (length > 0)
			live = live_parse(bytes, (uint32_t)length);
	} while (!live && run_now(run) < until_us);
	if (live)
		live->at_ns = (uint64_t)at_us * 1000;
	return live;
}

/* ---- descriptors ---- */

int run_live(const struct run *run, int fd)
{
	return fd >= 0 && fd < RUN_FDS ? run->live[fd] : -1;
}

int run_enter(struct run *run, int live, int64_t wanted)
{
	int fd = RUN_FIRST_FD;

	if (wanted >= 0 && wanted < RUN_FDS)
		fd = (int)wanted;
	for (; fd < RUN_FDS; fd++) {
		if (run->live[fd] < 0) {
			run->live[fd] = live;
			run->written[fd] = 0;
			run->read[fd] = 0;
			return fd;
		}
	}
	return -1;
}

int run_forget(struct run *run, int fd)
{
	int live = run_live(run, fd);

	if (live >= 0)
		run->live[fd] = -1;
	return live;
}

/* ---- events ---- */

static bool is_inbound(const struct event *event)
{
	return event && event->kind == EVENT_PACKET && !event->packet.outbound;
}

/* When an event is due; it is known only when its turn comes.  A relative time counts from the
 * present, as packetdrill has it; that of a packet behind a packet, both inbound, from the time the
 * first was due. */
static uint64_t due_us(struct run *run, const struct event *event)
{
	if (event->time == TIME_ABSOLUTE)
		return run->start_us + (uint64_t)event->at_ns / 1000;
	if (event->time == TIME_RELATIVE && is_inbound(event) && is_inbound(run->last_event))
		return run->last_due_us + (uint64_t)event->at_ns / 1000;
	return run_now(run) + (uint64_t)event->at_ns / 1000;
}

static bool send_packet(struct run *run, const struct event *event)
{
	static uint8_t bytes[LIVE_BYTES_MAX + 64];
	char why[128];
	uint32_t length = match_build(&run->flows, &event->packet, bytes, why, sizeof(why));

	if (length == 0)
		return run_failed(run, event->line, "%s", why);
	return run->ifc.netdev_send(run->ifc.userdata, bytes, length) == 0 ||
	       run_failed(run, event->line, "the device took no more frames");
}

static bool check_time(struct run *run, const struct event *event, uint64_t due,
		       const struct live_packet *live, const char *shown)
{
	uint64_t at = live->at_ns / 1000;
	uint64_t latest = due;

	if (event->has_range)
		latest = due + (uint64_t)(event->until_ns - event->at_ns) / 1000;
	if (event->time == TIME_ANY ||
	    (at + run->tolerance_us >= due && at <= latest + run->tolerance_us))
		return true;
	return run_failed(run, event->line, "expected at %.6f s, sent at %.6f s: %s",
			  seconds(run, due), seconds(run, at), shown);
}

/* Puts the segments that a script tells of as one together, as packetdrill does: they follow each
 * other, all but the last are of one length, and what is compared is the last one's header from the
 * first one's sequence number on.  NULL: they do not go together, or there are not enough. */
static struct live_packet *gather(struct live_packet *first, struct live_packet *next,
				  uint32_t whole)
{
	uint32_t header = next->length - next->payload_bytes;
	uint32_t have = first->payload_bytes;
	bool fits = next->kind == PACKET_TCP && next->payload_bytes > 0 &&
		    next->from_port == first->from_port && next->to_port == first->to_port &&
		    next->seq == first->seq + have && next->ack == first->ack &&
		    next->window == first->window &&
		    ((next->flags ^ first->flags) & ~(LIVE_PSH | LIVE_FIN)) == 0 &&
		    (next->payload_bytes == first->fragment || have + next->payload_bytes >= whole);
	struct live_packet *both = fits ? malloc(sizeof(*both) + next->length + have) : NULL;

	if (!both)
		return NULL;
	*both = *next;
	memcpy(both->bytes, next->bytes, header);
	memcpy(both->bytes + header, first->payload, have);
	memcpy(both->bytes + header + have, next->payload, next->payload_bytes);
	both->seq = first->seq;
	both->fragment = first->fragment;
	both->options = both->bytes + (next->options - next->bytes);
	both->payload = both->bytes + header;
	both->payload_bytes = have + next->payload_bytes;
	both->length = header + both->payload_bytes;
	return both;
}

/* The packet, or so many as make up the payload that is expected. */
static struct live_packet *next_packets(struct run *run, uint64_t until_us,
					const struct packet_spec *spec)
{
	struct live_packet *live = next_packet(run, until_us);

	if (!live || live->kind != PACKET_TCP || spec->kind != PACKET_TCP)
		return live;
	live->fragment = live->payload_bytes;
	while (live->payload_bytes > 0 && live->payload_bytes < spec->length) {
		struct live_packet *next = next_packet(run, until_us);
		struct live_packet *both = next ? gather(live, next, spec->length) : NULL;
		free(next);
		if (!both) /* what came is too little, and so is told */
			break;
		free(live);
		live = both;
	}
	return live;
}

static bool receive_packet(struct run *run, const struct event *event, uint64_t due)
{
	uint64_t latest = due + run->tolerance_us;
	char expected[512];
	char shown[512];
	char why[1024];

	if (event->time == TIME_ANY)
		latest = due + ANY_TIME_US;
	else if (event->has_range)
		latest += (uint64_t)(event->until_ns - event->at_ns) / 1000;
	match_show_spec(&event->packet, expected, sizeof(expected));
	struct live_packet *live = next_packets(run, latest, &event->packet);
	if (!live)
		return run_failed(run, event->line, "expected `%s`, got nothing until %.6f s",
				  expected, seconds(run, run_now(run)));
	if (run->call.active)
		(void)caller_finished(run); /* it may be reading the flows */
	bool same = match_packet(&run->flows, &event->packet, live, why, sizeof(why));
	match_show(&run->flows, live, shown, sizeof(shown));
	uint64_t at = live->at_ns / 1000;
	bool ok = same ? check_time(run, event, due, live, shown)
		       : run_failed(run, event->line, "expected `%s`, got `%s` at %.6f s: %s",
				    expected, shown, seconds(run, at), why);
	free(live);
	return ok;
}

/* ---- calls ---- */

static bool check_end(struct run *run)
{
	const struct running_call *call = &run->call;
	const struct call_spec *spec = &call->event->call;
	uint64_t latest = call->started_us + run->tolerance_us;

	if (!spec->blocking)
		return call->finished_us <= latest ||
		       run_failed(run, call->event->line, "%s has not returned at %.6f s",
				  spec->name, seconds(run, latest));
	uint64_t end = run->start_us + (uint64_t)spec->end_ns / 1000;
	if (call->event->time == TIME_RELATIVE)
		end = call->started_us + (uint64_t)(spec->end_ns - call->event->at_ns) / 1000;
	return (call->finished_us + run->tolerance_us >= end &&
		call->finished_us <= end + run->tolerance_us) ||
	       run_failed(run, call->event->line, "%s returned at %.6f s, not at %.6f s",
			  spec->name, seconds(run, call->finished_us), seconds(run, end));
}

static bool check_call(struct run *run)
{
	struct running_call *call = &run->call;
	const struct call_spec *spec = &call->event->call;
	int line = call->event->line;

	call->active = false;
	if (call->wrong[0])
		return run_failed(run, line, "%s: %s", spec->name, call->wrong);
	if (!check_end(run))
		return false;
	if (!spec->result || spec->result->kind == EXPR_ELLIPSIS)
		return true;
	if (call->result != spec->result->number)
		return run_failed(run, line, "%s: expected %" PRId64 "%s%s, got %" PRId64 "%s%s",
				  spec->name, spec->result->number, spec->error ? " " : "",
				  spec->error ? spec->error : "", call->result,
				  call->result < 0 ? " " : "",
				  call->result < 0 ? symbol_errno(call->error) : "");
	if (call->result < 0 && spec->error && call->error != spec->error_number)
		return run_failed(run, line, "%s: expected %s, got %s", spec->name, spec->error,
				  symbol_errno(call->error));
	return true;
}

/* A call that blocks must have returned before the next is made. */
static bool await_call(struct run *run)
{
	struct running_call *call = &run->call;
	uint64_t latest;

	if (!call->active)
		return true;
	latest = run_now(run) + ANY_TIME_US;
	while (!caller_finished(run)) {
		if (run_now(run) >= latest)
			return run_failed(run, call->event->line, "%s has not returned at %.6f s",
					  call->event->call.name, seconds(run, latest));
		(void)run->ifc.usleep(run->ifc.userdata, STEP_US);
	}
	return check_call(run);
}

static bool make_call(struct run *run, const struct event *event)
{
	run->call = (struct running_call){
		.run = run, .event = event, .active = true, .started_us = run_now(run)};
	if (event->call.blocking)
		return caller_start(run) || run_failed(run, event->line, "no thread");
	call_make(&run->call);
	run->call.finished_us = run_now(run);
	return check_call(run);
}

static bool check_assertions(struct run *run, const struct event *event)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof(info);
	char why[512];

	if (run->ifc.getsockopt(run->ifc.userdata, run_live(run, run->tested_fd), IPPROTO_TCP,
				TCP_INFO, &info, &length))
		return run_failed(run, event->line, "no TCP_INFO of descriptor %d", run->tested_fd);
	/* The kernel's congestion window in segments is what scripts mean; so is ours. */
	return expr_hold(event->text, &info, why, sizeof(why)) ||
	       run_failed(run, event->line, "does not hold: %s", why);
}

static bool run_event(struct run *run, const struct event *event)
{
	if (event->kind == EVENT_COMMAND)
		return true; /* of the system's own stack; says nothing of ours */
	if (run->call.active && !caller_finished(run) && event->kind == EVENT_CALL &&
	    !await_call(run))
		return false;
	uint64_t due = due_us(run, event);
	run->last_event = event;
	run->last_due_us = due;
	if (event->kind == EVENT_PACKET && event->packet.outbound)
		return receive_packet(run, event, due);
	pass(run, due);
	if (run->call.active && (event->kind == EVENT_CALL || caller_finished(run)) &&
	    event->kind != EVENT_PACKET && !await_call(run))
		return false;
	switch (event->kind) {
	case EVENT_PACKET:
		return send_packet(run, event);
	case EVENT_CALL:
		return make_call(run, event);
	default:
		return check_assertions(run, event);
	}
}

/* --strict: nothing was sent before the last event that the script does not tell of. */
static bool check_rest(struct run *run, int line)
{
	uint64_t end = run->last_due_us;
	char shown[512];
	bool ok = true;

	for (bool more = true; more && ok;) {
		struct live_packet *live = next_packet(run, 0);
		more = live && live->at_ns / 1000 + run->tolerance_us < end;
		if (more) {
			match_show(&run->flows, live, shown, sizeof(shown));
			ok = run_failed(run, line, "not expected: `%s` at %.6f s", shown,
					seconds(run, live->at_ns / 1000));
		}
		free(live);
	}
	return ok;
}

static bool run_events(struct run *run)
{
	int line = 1;

	for (const struct event *event = run->script->events; event; event = event->next) {
		line = event->line;
		if (!run_event(run, event))
			return false;
	}
	return await_call(run) && (!run->strict || check_rest(run, line));
}

/* ---- scripts ---- */

static bool open_stack(struct run *run, const struct run_adapter *adapter)
{
	char *flags;
	bool ok = run_flags(run, adapter->flags, &flags);

	if (ok) {
		adapter->init(flags, &run->ifc);
		run->start_us = run_now(run);
	}
	free(flags);
	return ok;
}

static void close_stack(struct run *run)
{
	if (!run->ifc.free)
		return;
	/* A call that still blocks ends with its descriptor. */
	for (int fd = 0; fd < RUN_FDS; fd++) {
		int live = run_forget(run, fd);
		if (live >= 0)
			(void)run->ifc.close(run->ifc.userdata, live);
	}
	caller_end(run);
	run->ifc.free(run->ifc.userdata);
}

bool run_load(struct run_adapter *adapter, const char *path, char message[RUN_MESSAGE_MAX])
{
	static const char name[] = "/packetdrill-adapter.so";
	char beside[4096];
	void *init = NULL;

	if (!path) {
		ssize_t n = readlink("/proc/self/exe", beside, sizeof(beside) - sizeof(name));
		beside[n > 0 ? n : 0] = '\0';
		char *slash = strrchr(beside, '/');
		memcpy(slash ? slash : beside, name, sizeof(name));
		path = beside;
	}
	/* The flags of packetdrill, less RTLD_DEEPBIND, which the sanitizers do not bear. */
	void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (object)
		init = dlsym(object, "packetdrill_interface_init");
	if (init)
		memcpy(&adapter->init, &init, sizeof(init));
	else
		snprintf(message, RUN_MESSAGE_MAX, "%s", dlerror());
	return init != NULL;
}

enum run_result run_script(const struct run_adapter *adapter, const struct script *script,
			   char message[RUN_MESSAGE_MAX])
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run)
		abort();
	run->script = script;
	run->tested_fd = -1;
	for (int fd = 0; fd < RUN_FDS; fd++)
		run->live[fd] = -1;
	bool ok = run_options(run) && open_stack(run, adapter) && run_events(run);
	close_stack(run);
	snprintf(message, RUN_MESSAGE_MAX, "%s", run->message);
	free(run);
	return ok ? RUN_OK : RUN_FAILED;
}

enum run_result run_file(const struct run_adapter *adapter, const char *path,
			 char message[RUN_MESSAGE_MAX])
{
	FILE *file = fopen(path, "rb");
	struct script script;
	char *bytes = NULL;
	size_t length = 0;
	size_t room = 0;
	size_t n;

	if (!file) {
		snprintf(message, RUN_MESSAGE_MAX, "%s: cannot be opened", path);
		return RUN_FAILED;
	}
	do {
		room += 65536;
		bytes = realloc(bytes, room);
		if (!bytes)
			abort();
		n = fread(bytes + length, 1, room - length, file);
		length += n;
	} while (n > 0);
	fclose(file);
	enum run_result result = RUN_UNSUPPORTED;
	if (script_parse(&script, path, bytes, length))
		snprintf(message, RUN_MESSAGE_MAX, "%s", script.error);
	else
		result = run_script(adapter, &script, message);
	script_free(&script);
	free(bytes);
	return result;
}
