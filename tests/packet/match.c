/* SPDX-License-Identifier: MIT
 * tests/packet/match.c - see match.h.
 */
#include "packet/match.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT   8080
#define EPHEMERAL_PORT 40000

/* ---- flows ---- */

void flows_init(struct flows *flows, const struct ip_address *local,
		const struct ip_address *remote)
{
	*flows = (struct flows){.local = *local,
				.remote = *remote,
				.ts_tolerance_ms = 4,
				.next_port = EPHEMERAL_PORT,
				.local_port = DEFAULT_PORT};
}

static struct flow *add_flow(struct flows *flows, enum packet_kind kind, uint16_t local_port,
			     uint16_t remote_port)
{
	if (flows->count == FLOWS_MAX)
		return NULL;
	struct flow *flow = &flows->flows[flows->count++];
	*flow = (struct flow){.kind = kind, .local_port = local_port, .remote_port = remote_port};
	flows->current = flow;
	return flow;
}

struct flow *flows_connect(struct flows *flows, enum packet_kind kind, uint16_t remote_port)
{
	return add_flow(flows, kind, 0, remote_port);
}

static struct flow *find_flow(struct flows *flows, enum packet_kind kind, uint16_t local_port,
			      uint16_t remote_port)
{
	for (uint32_t i = flows->count; i-- > 0;) {
		struct flow *flow = &flows->flows[i];
		if (flow->kind == kind && flow->remote_port == remote_port &&
		    (flow->local_port == local_port || flow->local_port == 0))
			return flow;
	}
	return NULL;
}

/* The flow that a script's packet belongs to, made if need be. */
static struct flow *flow_of(struct flows *flows, const struct packet_spec *spec)
{
	uint16_t local = spec->outbound ? spec->from_port : spec->to_port;
	uint16_t remote = spec->outbound ? spec->to_port : spec->from_port;
	enum packet_kind kind =
		spec->kind == PACKET_ICMP && spec->has_quote ? spec->quote_kind : spec->kind;

	if (spec->has_ports) {
		struct flow *flow = find_flow(flows, kind, local, remote);
		if (!flow)
			return add_flow(flows, kind, local, remote);
		flow->local_port = local;
		flows->current = flow;
		return flow;
	}
	if (flows->current && flows->current->kind == kind)
		return flows->current;
	return add_flow(flows, kind, flows->local_port, flows->next_port++);
}

/* ---- building ---- */

static uint8_t tos_of(const struct packet_spec *spec)
{
	uint32_t tos = spec->tos < 0 ? 0 : (uint32_t)spec->tos;

	if (spec->ecn <= ECN_CE)
		tos = (tos & ~3U) | (uint32_t)spec->ecn;
	return (uint8_t)tos;
}

/* Timestamps that the script leaves to the runner, and the base of those that it echoes. */
static void fill_stamps(const struct flow *flow, const struct packet_spec *spec, uint8_t *options,
			uint32_t bytes)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < spec->num_options && at + 1 < bytes; i++) {
		const struct option_spec *option = &spec->options[i];
		if (option->kind == OPTION_TIMESTAMP) {
			if (option->any_echo)
				put32(options + at + 6, flow->last_ts);
			return;
		}
		at += option->kind == OPTION_RAW ? option->raw_bytes
		      : option->kind < 2         ? 1
						 : options[at + 1];
	}
}

static uint32_t build_tcp(struct flow *flow, const struct packet_spec *spec,
			  struct frame_spec *frame)
{
	uint8_t options[SCRIPT_OPTIONS_MAX];
	uint8_t *at = frame->bytes;
	uint32_t echo = spec->flags & LIVE_ACK && flow->has_ts ? flow->ts_base : 0;
	uint32_t option_bytes =
		options_build(spec, 0, echo, flow->has_base ? flow->base : 0, options);

	fill_stamps(flow, spec, options, option_bytes);
	put16(at, flow->remote_port);
	put16(at + 2, flow->local_port);
	put32(at + 4, spec->seq);
	put32(at + 8, spec->has_ack ? spec->ack + (flow->has_base ? flow->base : 0) : 0);
	at[12] = (uint8_t)((20 + option_bytes) / 4 << 4);
	at[13] = spec->flags;
	put16(at + 14, spec->window);
	put16(at + 18, spec->urgent);
	memcpy(at + 20, options, option_bytes);
	if ((spec->flags & LIVE_SYN) && !(flow->has_remote && flow->remote_isn == spec->seq)) {
		flow->new_isn = flow->has_remote && !(spec->flags & LIVE_ACK);
		if (!flow->has_remote || flow->new_isn)
			flow->remote_isn = spec->seq;
		flow->has_remote = true;
	}
	uint32_t first = spec->seq - flow->remote_isn - ((spec->flags & LIVE_SYN) ? 0 : 1);
	for (uint32_t i = 0; i < spec->length; i++)
		at[20 + option_bytes + i] = frame_pattern(first + i);
	frame->header_bytes = 20 + option_bytes;
	return 20 + option_bytes + spec->length;
}

static uint32_t build_udp(const struct flow *flow, const struct packet_spec *spec,
			  struct frame_spec *frame)
{
	uint8_t *at = frame->bytes;

	put16(at, flow->remote_port);
	put16(at + 2, flow->local_port);
	put16(at + 4, 8 + spec->length);
	for (uint32_t i = 0; i < spec->length; i++)
		at[8 + i] = frame_pattern(i);
	frame->header_bytes = 8;
	return 8 + spec->length;
}

/* The packet of ours that an ICMP error quotes: its headers, and 8 bytes of payload at most. */
static uint32_t build_quote(const struct flows *flows, const struct flow *flow,
			    const struct packet_spec *spec, uint8_t *out)
{
	static struct frame_spec quote;
	static uint8_t packet[LIVE_BYTES_MAX + 40];
	uint8_t *at = quote.bytes;
	bool tcp = spec->quote_kind == PACKET_TCP;

	quote.from = flows->local;
	quote.to = flows->remote;
	quote.ttl = 64;
	quote.tos = 0;
	quote.protocol = tcp ? 6 : 17;
	quote.length = (tcp ? 20 : 8) + spec->quote_length;
	memset(at, 0, quote.length);
	put16(at, flow->local_port);
	put16(at + 2, flow->remote_port);
	if (tcp) {
		put32(at + 4, spec->quote_seq + flow->base);
		at[12] = 5 << 4;
		at[13] = LIVE_ACK;
	} else {
		put16(at + 4, quote.length);
	}
	uint32_t length = frame_build(&quote, packet);
	uint32_t most = (ip_is_v4(&quote.from) ? 20 : 40) + (tcp ? 20U : 8U) + 8;
	if (length > most)
		length = most;
	memcpy(out, packet, length);
	return length;
}

static uint32_t build_icmp(const struct flows *flows, const struct flow *flow,
			   const struct packet_spec *spec, struct frame_spec *frame)
{
	bool v6 = frame->protocol == 58;
	uint8_t *at = frame->bytes;
	uint32_t length = 8;

	at[0] = v6 ? spec->icmp6_type : spec->icmp_type;
	at[1] = v6 ? spec->icmp6_code : spec->icmp_code;
	put32(at + 4, spec->icmp_rest);
	frame->header_bytes = 8;
	if (spec->has_quote)
		return length + build_quote(flows, flow, spec, at + length);
	for (uint32_t i = 0; i < spec->length; i++)
		at[length + i] = frame_pattern(i);
	return length + spec->length;
}

uint32_t match_build(struct flows *flows, const struct packet_spec *spec, uint8_t *out, char *why,
		     size_t why_bytes)
{
	static struct frame_spec frame;
	bool v6 = !ip_is_v4(&flows->local);
	bool flowless = spec->kind == PACKET_ICMP && !spec->has_quote;
	struct flow *flow = flowless ? NULL : flow_of(flows, spec);

	if (!flow && !flowless) {
		snprintf(why, why_bytes, "more than %d connections", FLOWS_MAX);
		return 0;
	}
	if (spec->kind == PACKET_ICMP && !(v6 ? spec->has_icmp6 : spec->has_icmp4)) {
		snprintf(why, why_bytes, "this family has no such ICMP message");
		return 0;
	}
	frame.from = flows->remote;
	frame.to = flows->local;
	frame.tos = tos_of(spec);
	frame.ttl = spec->ttl < 0 ? 64 : (uint8_t)spec->ttl;
	frame.bad_checksum = spec->bad_checksum;
	if (spec->kind == PACKET_TCP) {
		frame.protocol = 6;
		frame.length = build_tcp(flow, spec, &frame);
	} else if (spec->kind == PACKET_UDP) {
		frame.protocol = 17;
		frame.length = build_udp(flow, spec, &frame);
	} else {
		frame.protocol = v6 ? 58 : 1;
		frame.length = build_icmp(flows, flow, spec, &frame);
	}
	return frame_build(&frame, out);
}

/* ---- showing ---- */

static size_t add(char *out, size_t bytes, size_t used, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static size_t add(char *out, size_t bytes, size_t used, const char *format, ...)
{
	va_list args;

	if (used + 1 >= bytes)
		return used;
	va_start(args, format);
	int n = vsnprintf(out + used, bytes - used, format, args);
	va_end(args);
	return n > 0 ? used + (size_t)n : used;
}

static void flags_show(uint8_t flags, char out[12])
{
	static const char letters[] = "FSRP.UEW";
	static const int order[] = {1, 0, 2, 3, 5, 6, 7, 4}; /* S F R P U E W . */
	int n = 0;

	for (int i = 0; i < 8; i++) {
		if (flags & (1U << order[i]))
			out[n++] = letters[order[i]];
	}
	if (n == 0)
		out[n++] = '-';
	out[n] = '\0';
}

static const struct flow *live_flow(const struct flows *flows, const struct live_packet *live)
{
	for (uint32_t i = flows->count; i-- > 0;) {
		const struct flow *flow = &flows->flows[i];
		if (flow->remote_port == live->to_port && flow->local_port == live->from_port)
			return flow;
	}
	return NULL;
}

static size_t show_tcp(const struct flows *flows, const struct live_packet *live, char *out,
		       size_t bytes, size_t used)
{
	const struct flow *flow = live_flow(flows, live);
	uint32_t base = flow && flow->has_base ? flow->base : 0;
	uint32_t ts_base = flow && flow->has_ts ? flow->ts_base : 0;
	uint32_t seq = live->seq - base;
	char flags[12];
	char options[256];

	if (!flow || flow != flows->current)
		used = add(out, bytes, used, "(%u>%u) ", live->from_port, live->to_port);
	flags_show(live->flags, flags);
	used = add(out, bytes, used, "%s %u:%u(%u)", flags, seq, seq + live->payload_bytes,
		   live->payload_bytes);
	if (live->flags & LIVE_ACK)
		used = add(out, bytes, used, " ack %u", live->ack);
	used = add(out, bytes, used, " win %u", live->window);
	if (live->urgent)
		used = add(out, bytes, used, " urg %u", live->urgent);
	options_show(live->options, live->options_bytes, ts_base, 0, 0, options, sizeof(options));
	return options[0] ? add(out, bytes, used, " <%s>", options) : used;
}

void match_show(const struct flows *flows, const struct live_packet *live, char *out, size_t bytes)
{
	size_t used = add(out, bytes, 0, "> ");

	if ((live->tos & 3) != 0)
		used = add(out, bytes, used, "[%s] ",
			   (live->tos & 3) == 3   ? "ce"
			   : (live->tos & 3) == 2 ? "ect0"
						  : "ect1");
	if (live->wrong)
		used = add(out, bytes, used, "{%s} ", live->wrong);
	if (live->kind == PACKET_TCP)
		(void)show_tcp(flows, live, out, bytes, used);
	else if (live->kind == PACKET_UDP)
		(void)add(out, bytes, used, "udp (%u)", live->payload_bytes);
	else
		(void)add(out, bytes, used, "icmp type %u code %u (%u)", live->icmp_type,
			  live->icmp_code, live->payload_bytes);
}

void match_show_spec(const struct packet_spec *spec, char *out, size_t bytes)
{
	size_t used = add(out, bytes, 0, "%s", spec->outbound ? "> " : "< ");
	char flags[12];
	char options[256];
	uint8_t raw[SCRIPT_OPTIONS_MAX];

	if (spec->kind == PACKET_UDP) {
		(void)add(out, bytes, used, "udp (%u)", spec->length);
		return;
	}
	if (spec->kind == PACKET_ICMP) {
		(void)add(out, bytes, used, "icmp type %u code %u (%u)", spec->icmp_type,
			  spec->icmp_code, spec->length);
		return;
	}
	flags_show(spec->flags, flags);
	used = add(out, bytes, used, "%s %u:%u(%u)", flags, spec->seq, spec->seq + spec->length,
		   spec->length);
	if (spec->has_ack)
		used = add(out, bytes, used, " ack %u", spec->ack);
	if (spec->has_window)
		used = add(out, bytes, used, " win %u", spec->window);
	if (spec->has_urgent)
		used = add(out, bytes, used, " urg %u", spec->urgent);
	uint32_t length = options_build(spec, 0, 0, 0, raw);
	options_show(raw, length, 0, 0, 0, options, sizeof(options));
	if (spec->any_options)
		(void)add(out, bytes, used, " <...>");
	else if (options[0])
		(void)add(out, bytes, used, " <%s>", options);
}

/* ---- comparing ---- */

struct difference {
	char *out;
	size_t bytes;
	size_t used;
};

static void differ(struct difference *d, const char *what, uint64_t expected, uint64_t got)
{
	d->used = add(d->out, d->bytes, d->used, "%s%s: expected %" PRIu64 ", got %" PRIu64,
		      d->used ? "; " : "", what, expected, got);
}

static void compare(struct difference *d, const char *what, uint64_t expected, uint64_t got)
{
	if (expected != got)
		differ(d, what, expected, got);
}

static void complain(struct difference *d, const char *what)
{
	d->used = add(d->out, d->bytes, d->used, "%s%s", d->used ? "; " : "", what);
}

static void compare_ip(struct difference *d, const struct flows *flows,
		       const struct packet_spec *spec, const struct live_packet *live)
{
	if (!ip_equal(&live->from, &flows->local))
		complain(d, "source address is not ours");
	if (!ip_equal(&live->to, &flows->remote))
		complain(d, "destination address is not the remote's");
	if (spec->ecn == ECN_ANY_ECT) {
		if ((live->tos & 3) != 1 && (live->tos & 3) != 2)
			differ(d, "ECN bits (ect01)", 2, live->tos & 3);
	} else if (spec->ecn != ECN_NOT_GIVEN) {
		compare(d, "ECN bits", spec->ecn, live->tos & 3);
	}
	if (spec->tos >= 0)
		compare(d, "tos", (uint64_t)spec->tos, live->tos);
	if (spec->ttl >= 0)
		compare(d, "ttl", (uint64_t)spec->ttl, live->ttl);
	if (live->wrong)
		complain(d, live->wrong);
}

/* Our timestamp option within live options; NULL: none. */
static const uint8_t *find_stamp(const uint8_t *options, uint32_t bytes)
{
	for (uint32_t at = 0; at < bytes;) {
		if (options[at] < 2) {
			at++;
			continue;
		}
		if (at + 1 >= bytes || options[at + 1] < 2 || at + options[at + 1] > bytes)
			return NULL;
		if (options[at] == OPTION_TIMESTAMP && options[at + 1] == 10)
			return options + at;
		at += options[at + 1];
	}
	return NULL;
}

static const struct option_spec *spec_stamp(const struct packet_spec *spec)
{
	for (uint32_t i = 0; i < spec->num_options; i++) {
		if (spec->options[i].kind == OPTION_TIMESTAMP)
			return &spec->options[i];
	}
	return NULL;
}

/* The value within tolerance, the echo exactly; then both count as the script's. */
static void compare_stamp(struct difference *d, const struct flows *flows, struct flow *flow,
			  const struct packet_spec *spec, uint8_t *live)
{
	const struct option_spec *option = spec_stamp(spec);

	if (!option)
		return;
	uint32_t value = get32(live + 2);
	if (!flow->has_ts && !option->any_value) {
		flow->has_ts = true;
		flow->ts_base = value - option->value;
	}
	int32_t off = (int32_t)(value - flow->ts_base - option->value);
	if (!option->any_value && (uint32_t)abs(off) > flows->ts_tolerance_ms)
		differ(d, "TS val", option->value, value - flow->ts_base);
	put32(live + 2, option->value);
	if (option->any_echo)
		put32(live + 6, option->echo);
}

static void compare_options(struct difference *d, const struct flows *flows, struct flow *flow,
			    const struct packet_spec *spec, const struct live_packet *live)
{
	uint8_t expected[SCRIPT_OPTIONS_MAX];
	uint8_t got[SCRIPT_OPTIONS_MAX];
	char show[256];
	uint32_t bytes = options_build(spec, 0, 0, 0, expected);

	if (live->options_bytes > sizeof(got))
		return;
	memcpy(got, live->options, live->options_bytes);
	uint8_t *stamp = (uint8_t *)(uintptr_t)find_stamp(got, live->options_bytes);
	if (stamp) {
		flow->last_ts = get32(stamp + 2);
		if (!spec->any_options)
			compare_stamp(d, flows, flow, spec, stamp);
	}
	if (spec->any_options ||
	    (bytes == live->options_bytes && memcmp(expected, got, bytes) == 0))
		return;
	options_show(expected, bytes, 0, 0, 0, show, sizeof(show));
	complain(d, "options: expected <");
	d->used = add(d->out, d->bytes, d->used, "%s>, got <", show);
	options_show(got, live->options_bytes, 0, 0, 0, show, sizeof(show));
	d->used = add(d->out, d->bytes, d->used, "%s>", show);
}

static void compare_payload(struct difference *d, const struct flow *flow,
			    const struct packet_spec *spec, const struct live_packet *live)
{
	uint32_t first = spec->seq - flow->local_isn - ((spec->flags & LIVE_SYN) ? 0 : 1);

	compare(d, "payload bytes", spec->length, live->payload_bytes);
	for (uint32_t i = 0; i < live->payload_bytes; i++) {
		if (live->payload[i] != frame_pattern(first + i)) {
			differ(d, "payload differs at byte", frame_pattern(first + i),
			       live->payload[i]);
			return;
		}
	}
}

static void compare_tcp(struct difference *d, struct flows *flows, struct flow *flow,
			const struct packet_spec *spec, const struct live_packet *live)
{
	char expected[12];
	char got[12];

	if (flow->local_port == 0)
		flow->local_port = live->from_port;
	compare(d, "source port", flow->local_port, live->from_port);
	compare(d, "destination port", flow->remote_port, live->to_port);
	if ((live->flags & LIVE_SYN) && (spec->flags & LIVE_SYN) &&
	    (!flow->has_base || flow->new_isn)) {
		flow->has_base = true;
		flow->has_ts = flow->has_ts && !flow->new_isn;
		flow->new_isn = false;
		flow->base = live->seq - spec->seq;
		flow->local_isn = spec->seq;
	}
	flags_show(spec->flags, expected);
	flags_show(live->flags, got);
	if (spec->flags != live->flags) {
		complain(d, "flags: expected ");
		d->used = add(d->out, d->bytes, d->used, "%s, got %s", expected, got);
	}
	compare(d, "seq", spec->seq, live->seq - (flow->has_base ? flow->base : 0));
	if (spec->has_ack || (live->flags & LIVE_ACK))
		compare(d, "ack", spec->ack, live->ack);
	if (spec->has_window)
		compare(d, "win", spec->window, live->window);
	compare(d, "urg", spec->urgent, live->urgent);
	compare_payload(d, flow, spec, live);
	compare_options(d, flows, flow, spec, live);
}

static void compare_udp(struct difference *d, struct flow *flow, const struct packet_spec *spec,
			const struct live_packet *live)
{
	if (flow->local_port == 0)
		flow->local_port = live->from_port;
	compare(d, "source port", flow->local_port, live->from_port);
	compare(d, "destination port", flow->remote_port, live->to_port);
	compare(d, "payload bytes", spec->length, live->payload_bytes);
}

/* What our ICMP error quotes must be a packet of the script's. */
static void compare_quote(struct difference *d, const struct flow *flow,
			  const struct packet_spec *spec, const struct live_packet *live)
{
	uint32_t header = live->v6 ? 40 : 20;
	const uint8_t *at = live->payload;

	if (live->payload_bytes < header + 8) {
		complain(d, "quotes less than 8 bytes of transport header");
		return;
	}
	compare(d, "quoted protocol", spec->quote_kind == PACKET_TCP ? 6 : 17,
		at[live->v6 ? 6 : 9]);
	compare(d, "quoted source port", flow->remote_port, get16(at + header));
	compare(d, "quoted destination port", flow->local_port, get16(at + header + 2));
	if (spec->quote_has_seq)
		compare(d, "quoted seq", spec->quote_seq, get32(at + header + 4));
	else
		compare(d, "quoted length", spec->quote_length + 8, get16(at + header + 4));
}

static void compare_icmp(struct difference *d, const struct flow *flow,
			 const struct packet_spec *spec, const struct live_packet *live)
{
	compare(d, "icmp type", live->v6 ? spec->icmp6_type : spec->icmp_type, live->icmp_type);
	compare(d, "icmp code", live->v6 ? spec->icmp6_code : spec->icmp_code, live->icmp_code);
	compare(d, "icmp second word", spec->icmp_rest, live->icmp_rest);
	if (spec->has_quote) {
		compare_quote(d, flow, spec, live);
		return;
	}
	compare(d, "payload bytes", spec->length, live->payload_bytes);
	for (uint32_t i = 0; i < live->payload_bytes; i++) {
		if (live->payload[i] != frame_pattern(i)) {
			complain(d, "payload differs");
			return;
		}
	}
}

bool match_packet(struct flows *flows, const struct packet_spec *spec,
		  const struct live_packet *live, char *why, size_t why_bytes)
{
	struct difference d = {.out = why, .bytes = why_bytes};
	bool flowless = spec->kind == PACKET_ICMP && !spec->has_quote;
	struct flow *flow = flowless ? NULL : flow_of(flows, spec);

	why[0] = '\0';
	if (!flow && !flowless)
		complain(&d, "too many connections");
	else if (spec->kind != live->kind)
		complain(&d, "another protocol");
	else if (spec->kind == PACKET_TCP)
		compare_tcp(&d, flows, flow, spec, live);
	else if (spec->kind == PACKET_UDP)
		compare_udp(&d, flow, spec, live);
	else
		compare_icmp(&d, flow, spec, live);
	compare_ip(&d, flows, spec, live);
	return d.used == 0;
}
