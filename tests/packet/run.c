/* SPDX-License-Identifier: MIT
 * tests/packet/run.c - see run.h.
 */
#include "packet/run.h"

#include "packet/expr.h"

#include "api/instance.h"
#include "base/process.h"

#include <demi/coroutine.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_NS     1000000000000ULL
#define STEPS_MAX    1000000               /* timers and turns of one event: more means no rest */
#define ANY_TIME_NS  (600ULL * 1000000000) /* how long `*` waits */
#define TOLERANCE_NS 4000000ULL

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t router_mac[6] = {2, 0, 0, 0, 0, 2};

/* ---- failing ---- */

static bool failed(struct run *run, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static bool failed(struct run *run, int line, const char *format, ...)
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

static double seconds(const struct run *run, uint64_t at_ns)
{
	return ((double)at_ns - (double)run->start_ns) / 1e9;
}

/* ---- the world: time and wire ---- */

static uint64_t run_now(void *arg)
{
	const struct run *run = arg;

	return run->now_ns;
}

static uint32_t wire_room(struct sim_wire *wire, uint32_t count, uint64_t *retry_ns)
{
	(void)wire;
	(void)retry_ns;
	return count;
}

/* A frame to the instance, from an IP header on. */
static bool deliver(struct run *run, const uint8_t *bytes, uint32_t length, uint16_t type)
{
	static uint8_t frame[LIVE_BYTES_MAX + 64];

	memcpy(frame, our_mac, 6);
	memcpy(frame + 6, router_mac, 6);
	put16(frame + 12, type);
	memcpy(frame + 14, bytes, length);
	return sim_arrive(run->dev, frame, 14 + length);
}

/* Whoever is asked for has the router's address. */
static void answer_arp(struct run *run, const uint8_t *question)
{
	uint8_t answer[28];

	if (get16(question + 6) != 1 || memcmp(question + 14, question + 24, 4) == 0)
		return;
	memcpy(answer, question, 8);
	answer[7] = 2;
	memcpy(answer + 8, router_mac, 6);
	memcpy(answer + 14, question + 24, 4);
	memcpy(answer + 18, question + 8, 10);
	(void)deliver(run, answer, sizeof(answer), 0x0806);
}

static void answer_solicitation(struct run *run, const uint8_t *ip, uint32_t length)
{
	static struct frame_spec spec;
	uint8_t out[128];
	static const uint8_t unspecified[16];

	if (length < 64 || memcmp(ip + 8, unspecified, 16) == 0)
		return; /* of the stack's own address: nobody has it */
	memcpy(spec.from.bytes, ip + 48, 16);
	memcpy(spec.to.bytes, ip + 8, 16);
	spec.ttl = 255;
	spec.protocol = 58;
	spec.length = 32;
	memset(spec.bytes, 0, 32);
	spec.bytes[0] = 136;
	spec.bytes[4] = 0x60; /* solicited, override */
	memcpy(spec.bytes + 8, ip + 48, 16);
	spec.bytes[24] = 2;
	spec.bytes[25] = 1;
	memcpy(spec.bytes + 26, router_mac, 6);
	(void)deliver(run, out, frame_build(&spec, out), 0x86dd);
}

static void capture(struct run *run, const uint8_t *bytes, uint32_t length)
{
	struct live_packet *packet = live_parse(bytes, length);

	if (!packet)
		return;
	packet->at_ns = run->now_ns;
	if (run->captured)
		run->captured_tail->next = packet;
	else
		run->captured = packet;
	run->captured_tail = packet;
}

static void wire_send(struct sim_wire *wire, const uint8_t *bytes, uint32_t length)
{
	struct run *run = container_of(wire, struct run, wire);
	uint16_t type = get16(bytes + 12);
	const uint8_t *packet = bytes + 14;
	uint32_t rest = length - 14;

	if (type == 0x0806 && rest >= 28)
		answer_arp(run, packet);
	else if (type == 0x86dd && rest >= 48 && packet[6] == 58 && packet[40] == 135)
		answer_solicitation(run, packet, rest);
	else if (type == 0x0800 || type == 0x86dd)
		capture(run, packet, rest);
}

static void wire_closed(struct sim_wire *wire)
{
	(void)wire;
}

/* ---- time passes ---- */

/* Turns until nothing happens any more. */
static bool settle(struct run *run)
{
	uint32_t idle = 0;

	for (uint32_t i = 0; idle < 3; i++) {
		if (i > STEPS_MAX)
			return failed(run, 0, "the stack never comes to rest");
		idle = sched_turn(&run->demi->sched) || sim_waiting(run->dev) ? 0 : idle + 1;
	}
	return true;
}

/* Lets the next timer fire if it is due by until_ns; else it is until_ns now. *done: that. */
static bool step(struct run *run, uint64_t until_ns, bool *done)
{
	uint64_t next = sched_next_deadline(&run->demi->sched);

	*done = next > until_ns;
	if (next > until_ns)
		next = until_ns;
	if (next > run->now_ns)
		run->now_ns = next;
	else if (!*done && run->now_ns < until_ns)
		run->now_ns++; /* a deadline within the tick that has passed */
	else
		*done = true;
	return settle(run);
}

static bool advance(struct run *run, uint64_t until_ns)
{
	bool done = false;

	if (!settle(run))
		return false;
	for (uint32_t i = 0; !done; i++) {
		if (i > STEPS_MAX)
			return failed(run, 0, "timers fire without end");
		if (!step(run, until_ns, &done))
			return false;
	}
	return true;
}

/* Lets time pass until *what is set, at most until until_ns. */
static bool advance_until(struct run *run, uint64_t until_ns, bool (*what)(const struct run *run))
{
	bool done = false;

	if (!settle(run))
		return false;
	for (uint32_t i = 0; !done && !what(run); i++) {
		if (i > STEPS_MAX)
			return failed(run, 0, "timers fire without end");
		if (!step(run, until_ns, &done))
			return false;
	}
	return true;
}

static bool has_captured(const struct run *run)
{
	return run->captured != NULL;
}

static bool call_finished(const struct run *run)
{
	return run->call.finished;
}

/* ---- the instance ---- */

static void keep_log(void *arg, int level, const char *message)
{
	struct run *run = arg;

	if (level == LOG_LEVEL_ERROR || !run->log[0])
		snprintf(run->log, sizeof(run->log), "%s", message);
}

/* The instance's own lines are kept too, in place of stderr. */
static void keep_line(void *arg, enum demi_log_level level, const char *message)
{
	keep_log(arg, (int)level, message);
}

static bool configure(struct run *run, struct config *config)
{
	struct config_override *overrides = NULL;
	struct log log = {.fn = keep_log, .arg = run};
	char mtu[16];
	bool ok = true;
	static const char *const fixed[][2] = {
		{"libos", "catpowder"},
		{"addresses", "192.168.0.1/16,fd3d:a0b:17d6::1/64"},
		{"gateways", "192.168.0.2,fd3d:a0b:17d6::2"},
		{"stat_socket", "off"},
		{"tcp_quick_ack", "off"}, /* scripts that want it say so */
		{"huge_pages", "never"},
		{"heap_max_bytes", "268435456"},
	};

	snprintf(mtu, sizeof(mtu), "%u", run->mtu);
	for (size_t i = 0; ok && i < sizeof(fixed) / sizeof(fixed[0]); i++)
		ok = !config_override_set(&overrides, fixed[i][0], fixed[i][1], &log);
	ok = ok && !config_override_set(&overrides, "mtu", mtu, &log);
	for (const struct option_line *o = run->script->options; ok && o; o = o->next) {
		const char *equals = strchr(o->value, '=');
		char key[64];
		if (strcmp(o->name, "config") != 0)
			continue;
		if (!equals || (size_t)(equals - o->value) >= sizeof(key)) {
			ok = failed(run, o->line, "--config=key=value");
			break;
		}
		memcpy(key, o->value, (size_t)(equals - o->value));
		key[equals - o->value] = '\0';
		if (config_override_set(&overrides, key, equals + 1, &log))
			ok = failed(run, o->line, "%s", run->log);
	}
	if (ok && config_load(config, NULL, overrides, &log))
		ok = false;
	config_override_free(&overrides);
	return ok || failed(run, 1, "configuration: %s", run->log);
}

static bool open_instance(struct run *run)
{
	struct config config;
	bool anew;
	struct sim_options options = {
		.mtu = run->mtu, .max_segments = FRAME_SEGMENTS, .rx_slots = 4096};

	if (!configure(run, &config))
		return false;
	run->wire = (struct sim_wire){.room = wire_room, .send = wire_send, .closed = wire_closed};
	memcpy(options.mac, our_mac, 6);
	if (process_begin(&anew) || sim_open(&options, &run->wire, &run->dev))
		return failed(run, 1, "no device");
	struct sched_world world = {
		.now_ns = run_now,
		.arg = run,
		.seed = 1,
		.secret = {0x0123456789abcdef, 0xfedcba9876543210},
		.netdev = run->dev,
		.every_turn = true,
	};
	(void)demi_set_log(keep_line, run);
	int err = instance_create(&config, &world, &run->demi);
	if (err)
		return failed(run, 1, "no instance: error %d", -err);
	if (demi_enter(run->demi) || posix_init(&run->posix, 3, RUN_FDS, run_now, run))
		return failed(run, 1, "no instance");
	return true;
}

static void close_instance(struct run *run)
{
	if (!run->demi)
		return;
	run->demi->sched.config.linger_ms = 0; /* the clock stands still */
	/* A call that still blocks ends with its descriptor. */
	for (int i = 0; i < run->posix.num_files; i++)
		(void)posix_close(&run->posix, run->posix.first_fd + i);
	(void)settle(run);
	if (!run->call.active || run->call.finished)
		posix_fini(&run->posix);
	(void)demi_destroy(run->demi);
	(void)demi_set_log(NULL, NULL);
	free(run->posix.files);
	free(run->posix.orphans);
	while (run->captured) {
		struct live_packet *next = run->captured->next;
		free(run->captured);
		run->captured = next;
	}
}

/* ---- option lines ---- */

static const char *const ignored_options[] = {"send_omit_free", "non_fatal", "init_scripts", "code",
					      "wire_client",    "verbose",   "debug"};

static bool read_address(struct run *run, const struct option_line *o, struct ip_address *out)
{
	if (strcmp(o->value, "192.168.0.1") == 0 || strcmp(o->value, "192.0.2.1") == 0 ||
	    strcmp(o->value, "fd3d:a0b:17d6::1") == 0 || strcmp(o->value, "fd3d:fa7b:d17d::1") == 0)
		return true; /* as they are */
	(void)out;
	return failed(run, o->line, "--%s: only the addresses of the README are supported",
		      o->name);
}

static bool read_option(struct run *run, const struct option_line *o)
{
	char *end;
	long value = strtol(o->value, &end, 10);
	bool is_number = *o->value && !*end;

	if (strcmp(o->name, "ip_version") == 0) {
		run->v6 = strcmp(o->value, "ipv6") == 0;
		return run->v6 || strcmp(o->value, "ipv4") == 0 ||
		       failed(run, o->line, "--ip_version=%s is not supported", o->value);
	}
	if (strcmp(o->name, "tolerance_usecs") == 0 && is_number && value >= 0) {
		run->tolerance_ns = (uint64_t)value * 1000;
		return true;
	}
	if (strcmp(o->name, "mtu") == 0 && is_number && value >= 576 && value <= 9216) {
		run->mtu = (uint32_t)value;
		return true;
	}
	if (strcmp(o->name, "local_ip") == 0 || strcmp(o->name, "remote_ip") == 0)
		return read_address(run, o, NULL);
	if (strcmp(o->name, "strict") == 0) {
		run->strict = true;
		return true;
	}
	if (strcmp(o->name, "config") == 0)
		return true; /* when the instance is made */
	for (size_t i = 0; i < sizeof(ignored_options) / sizeof(ignored_options[0]); i++) {
		if (strcmp(o->name, ignored_options[i]) == 0)
			return true;
	}
	return failed(run, o->line, "--%s=%s is not supported", o->name, o->value);
}

static bool read_options(struct run *run)
{
	run->tolerance_ns = TOLERANCE_NS;
	run->mtu = 1500;
	for (const struct option_line *o = run->script->options; o; o = o->next) {
		if (!read_option(run, o))
			return false;
	}
	static const uint8_t local6[16] = {0xfd, 0x3d, 0x0a, 0x0b, 0x17, 0xd6, [15] = 1};
	static const uint8_t remote6[16] = {0xfd, 0x3d, 0xfa, 0x7b, 0xd1, 0x7d, [15] = 1};
	struct ip_address local = ip_from_bytes(local6);
	struct ip_address remote = ip_from_bytes(remote6);
	if (!run->v6) {
		local = ip_from_v4(__builtin_bswap32(0xc0a80001U));
		remote = ip_from_v4(__builtin_bswap32(0xc0000201U));
	}
	flows_init(&run->flows, &local, &remote);
	run->flows.ts_tolerance_ms = (uint32_t)(run->tolerance_ns / 1000000) + 1;
	return true;
}

/* ---- events ---- */

/* When an event is due; it is known only when its turn comes. */
static uint64_t due_ns(struct run *run, const struct event *event)
{
	int64_t at =
		event->time == TIME_RELATIVE ? run->last_event_ns + event->at_ns : event->at_ns;

	if (event->time == TIME_ANY)
		at = (int64_t)(run->now_ns - run->start_ns);
	return run->start_ns + (uint64_t)at;
}

static bool send_packet(struct run *run, const struct event *event)
{
	static uint8_t bytes[LIVE_BYTES_MAX + 64];
	char why[128];
	uint32_t length = match_build(&run->flows, &event->packet, bytes, why, sizeof(why));

	if (length == 0)
		return failed(run, event->line, "%s", why);
	if (length > run->mtu)
		return failed(run, event->line, "a packet of %u bytes is longer than the MTU",
			      length);
	if (!deliver(run, bytes, length, run->v6 ? 0x86dd : 0x0800))
		return failed(run, event->line, "the device took no more frames");
	return settle(run);
}

static bool check_time(struct run *run, const struct event *event, uint64_t due,
		       const struct live_packet *live, const char *shown)
{
	uint64_t latest = due;

	if (event->has_range)
		latest = due + (uint64_t)(event->until_ns - event->at_ns);
	if (event->time == TIME_ANY ||
	    (live->at_ns + run->tolerance_ns >= due && live->at_ns <= latest + run->tolerance_ns))
		return true;
	return failed(run, event->line, "expected at %.6f s, sent at %.6f s: %s", seconds(run, due),
		      seconds(run, live->at_ns), shown);
}

static bool receive_packet(struct run *run, const struct event *event, uint64_t due)
{
	uint64_t latest = due + run->tolerance_ns;
	char expected[512];
	char shown[512];
	char why[1024];

	if (event->time == TIME_ANY)
		latest = run->now_ns + ANY_TIME_NS;
	else if (event->has_range)
		latest += (uint64_t)(event->until_ns - event->at_ns);
	match_show_spec(&event->packet, expected, sizeof(expected));
	if (!advance_until(run, latest, has_captured))
		return false;
	struct live_packet *live = run->captured;
	if (!live)
		return failed(run, event->line, "expected `%s`, got nothing until %.6f s", expected,
			      seconds(run, run->now_ns));
	run->captured = live->next;
	bool same = match_packet(&run->flows, &event->packet, live, why, sizeof(why));
	match_show(&run->flows, live, shown, sizeof(shown));
	bool ok = same ? check_time(run, event, due, live, shown)
		       : failed(run, event->line, "expected `%s`, got `%s` at %.6f s: %s", expected,
				shown, seconds(run, live->at_ns), why);
	if (event->time == TIME_ANY && live->at_ns > run->start_ns)
		run->last_event_ns = (int64_t)(live->at_ns - run->start_ns);
	free(live);
	/* The script goes on at its own time, though the packet came earlier. */
	return ok && (event->time == TIME_ANY || run->now_ns >= due || advance(run, due));
}

/* ---- calls ---- */

static void run_call(void *arg)
{
	struct running_call *call = arg;

	call_make(call);
	call->finished_ns = call->run->now_ns;
	call->finished = true;
}

static bool check_call(struct run *run)
{
	struct running_call *call = &run->call;
	const struct call_spec *spec = &call->event->call;
	int line = call->event->line;

	call->active = false;
	if (call->wrong[0])
		return failed(run, line, "%s: %s", spec->name, call->wrong);
	if (spec->blocking) {
		uint64_t end = run->start_ns + (uint64_t)spec->end_ns;
		if (call->event->time == TIME_RELATIVE)
			end = call->started_ns - (uint64_t)call->event->at_ns +
			      (uint64_t)spec->end_ns;
		if (call->finished_ns + run->tolerance_ns < end ||
		    call->finished_ns > end + run->tolerance_ns)
			return failed(run, line, "%s returned at %.6f s, not at %.6f s", spec->name,
				      seconds(run, call->finished_ns), seconds(run, end));
	}
	if (!spec->result || spec->result->kind == EXPR_ELLIPSIS)
		return true;
	if (call->result != spec->result->number)
		return failed(run, line, "%s: expected %" PRId64 "%s%s, got %" PRId64 "%s%s",
			      spec->name, spec->result->number, spec->error ? " " : "",
			      spec->error ? spec->error : "", call->result,
			      call->result < 0 ? " " : "",
			      call->result < 0 ? symbol_errno(call->error) : "");
	if (call->result < 0 && spec->error && call->error != spec->error_number)
		return failed(run, line, "%s: expected %s, got %s", spec->name, spec->error,
			      symbol_errno(call->error));
	return true;
}

/* A call that blocks must have returned before the next is made. */
static bool await_call(struct run *run)
{
	struct running_call *call = &run->call;

	if (!call->active)
		return true;
	if (!call->finished) {
		uint64_t latest = run->now_ns + run->tolerance_ns;
		if (call->event->call.blocking)
			latest = run->now_ns + ANY_TIME_NS;
		if (!advance_until(run, latest, call_finished))
			return false;
	}
	if (!call->finished)
		return failed(run, call->event->line, "%s has not returned at %.6f s",
			      call->event->call.name, seconds(run, run->now_ns));
	return check_call(run);
}

static bool make_call(struct run *run, const struct event *event)
{
	run->call = (struct running_call){
		.run = run, .event = event, .active = true, .started_ns = run->now_ns};
	if (demi_go(run_call, &run->call))
		return failed(run, event->line, "no coroutine");
	if (!settle(run))
		return false;
	if (event->call.blocking && !run->call.finished)
		return true;
	return await_call(run);
}

static bool check_assertions(struct run *run, const struct event *event)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof(info);
	char why[512];

	if (posix_getsockopt(&run->posix, run->tested_fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		return failed(run, event->line, "no TCP_INFO of descriptor %d", run->tested_fd);
	/* The kernel's congestion window in segments is what scripts mean; so is ours. */
	return expr_hold(event->text, &info, why, sizeof(why)) ||
	       failed(run, event->line, "does not hold: %s", why);
}

static bool run_event(struct run *run, const struct event *event)
{
	if (event->kind == EVENT_COMMAND)
		return true; /* of the system's own stack; says nothing of ours */
	if (event->kind == EVENT_CALL && run->call.active && !run->call.finished &&
	    !await_call(run))
		return false;
	uint64_t due = due_ns(run, event);
	if (event->time != TIME_ANY)
		run->last_event_ns = (int64_t)(due - run->start_ns);
	if (event->kind == EVENT_PACKET && event->packet.outbound)
		return receive_packet(run, event, due);
	if (due > run->now_ns && !advance(run, due))
		return false;
	if (event->kind == EVENT_CALL && !await_call(run))
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
	uint64_t end = run->start_ns + (uint64_t)run->last_event_ns;
	char shown[512];

	for (const struct live_packet *live = run->captured; live; live = live->next) {
		if (live->at_ns + run->tolerance_ns < end) {
			match_show(&run->flows, live, shown, sizeof(shown));
			return failed(run, line, "not expected: `%s` at %.6f s", shown,
				      seconds(run, live->at_ns));
		}
	}
	return true;
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

enum run_result run_script(const struct script *script, char message[RUN_MESSAGE_MAX])
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run)
		abort();
	run->script = script;
	run->now_ns = START_NS;
	run->start_ns = START_NS;
	run->tested_fd = -1;
	bool ok = read_options(run) && open_instance(run) && settle(run) && run_events(run);
	close_instance(run);
	snprintf(message, RUN_MESSAGE_MAX, "%s", run->message);
	free(run);
	return ok ? RUN_OK : RUN_FAILED;
}

enum run_result run_file(const char *path, char message[RUN_MESSAGE_MAX])
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
		result = run_script(&script, message);
	script_free(&script);
	free(bytes);
	return result;
}
