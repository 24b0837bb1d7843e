/* SPDX-License-Identifier: MIT
 * net/icmp.c - ICMP and ICMPv6 (RFC 792, RFC 1122 3.2.2, RFC 4443): echoes are answered, errors
 * that come in are told to the transports, errors that go out are few.
 *
 * Rows 8 and 9 of the attack table.  Errors in: whether a quoted packet is in flight is the
 * transport's to check; here it has to come from us.  Redirects and source
 * quenches are ignored (RFC 6633).  Errors out: never about an error, a group, a fragment or
 * nobody's address, and at most ERRORS_PER_S; echoes have a bucket of their own.  What a message
 * costs of its bucket is random, so that nobody can read from outside how full it is.
 */
#include "net/wire/icmp.h"
#include "net/bucket.h"
#include "net/group.h"
#include "net/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ERRORS_PER_S 1000
#define ERRORS_BURST 50
#define ECHOES_PER_S 20000
#define ECHOES_BURST 2000

#define QUOTE_V4_MAX (576 - 20 - ICMP_HEADER_BYTES)  /* RFC 1812 4.3.2.3 */
#define QUOTE_V6_MAX (1280 - 40 - ICMP_HEADER_BYTES) /* RFC 4443 2.4(c) */

struct icmp {
	struct bucket errors;
	struct bucket echoes;
};

/* ---- rates ---- */

static bool may_send(struct net *net, struct bucket *bucket, uint64_t cost)
{
	if (bucket_take(bucket, net->sched->now_ns, cost))
		return true;
	net_count_drop(net, DROP_ICMP_RATE);
	return false;
}

/* ---- out ---- */

/* A message with length bytes behind its header; NULL: no memory. */
static struct frame *message_new(struct net *net, const void *bytes, uint32_t length)
{
	struct frame *frame = frame_alloc_tx(net->heap, ICMP_HEADER_BYTES + length);

	if (unlikely(!frame)) {
		net_count_drop(net, DROP_TX_MEMORY);
		return NULL;
	}
	frame->length = ICMP_HEADER_BYTES + length;
	memcpy(frame->data + ICMP_HEADER_BYTES, bytes, length);
	return frame;
}

/* Answers a packet: from whom it was sent to. */
static void answer(struct net *net, struct frame *frame, const struct icmp_header *header,
		   const struct ip_packet *packet, const struct ip_address *from)
{
	bool v4 = ip_is_v4(&packet->from);
	/* RFC 1122 3.2.2.6: the type of service of the request, but for ECN */
	uint8_t tos = packet->tos & 0xfc;

	icmp_write(frame->data, header, frame->length, v4 ? NULL : from, &packet->from);
	(void)ip_output_datagram(net, frame, from, &packet->from, v4 ? IP_ICMP : IP_ICMPV6,
				 IP_DEFAULT_TTL, tos, NULL);
}

static void echo(struct net *net, const struct ip_packet *packet, const struct icmp_header *request,
		 const struct cursor *c)
{
	const struct icmp_header header = {
		.type = ip_is_v4(&packet->from) ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY,
		.rest = request->rest,
	};
	uint32_t length = cursor_left(c);

	if (!may_send(net, &net->icmp->echoes, 1))
		return;
	struct frame *frame = message_new(net, c->at, length);
	if (frame)
		answer(net, frame, &header, packet, &packet->to);
}

/* May an error be sent about it (RFC 1122 3.2.2, RFC 4443 2.4(e))?  Fragments but first ones do not
 * come here, nor packets from a source that can be nobody's; the callers do not ask for errors
 * about ICMP. */
static bool worth_an_error(struct net *net, const struct ip_packet *packet)
{
	if (ip_is_any(&packet->from))
		return false;
	return may_send(net, &net->icmp->errors, 1 + net_random(net) % 3);
}

static void error_out(struct net *net, const struct ip_packet *packet,
		      const struct icmp_header *header)
{
	bool v4 = ip_is_v4(&packet->from);
	uint32_t length = packet->header_bytes + packet->length;
	uint32_t max = v4 ? QUOTE_V4_MAX : QUOTE_V6_MAX;
	const struct ip_address *from =
		packet->broadcast ? net_source_for(net, &packet->from) : &packet->to;

	if (!from || !worth_an_error(net, packet))
		return;
	struct frame *frame = message_new(net, packet->header, length < max ? length : max);
	if (frame)
		answer(net, frame, header, packet, from);
}

void icmp_port_unreachable(struct net *net, const struct ip_packet *packet)
{
	bool v4 = ip_is_v4(&packet->from);
	const struct icmp_header header = {
		.type = v4 ? ICMP_UNREACHABLE : ICMPV6_UNREACHABLE,
		.code = v4 ? 3 : 4,
	};

	if (!packet->broadcast)
		error_out(net, packet, &header);
}

void icmp_protocol_unreachable(struct net *net, const struct ip_packet *packet)
{
	static const struct icmp_header header = {.type = ICMP_UNREACHABLE, .code = 2};

	if (!packet->broadcast)
		error_out(net, packet, &header);
}

/* RFC 792, RFC 4443 3.3: code 1 */
void icmp_reassembly_timeout(struct net *net, const struct ip_packet *packet)
{
	const struct icmp_header header = {
		.type = ip_is_v4(&packet->from) ? ICMP_TIME_EXCEEDED : ICMPV6_TIME_EXCEEDED,
		.code = 1,
	};

	if (!packet->broadcast)
		error_out(net, packet, &header);
}

void icmpv6_parameter_problem(struct net *net, const struct ip_packet *packet,
			      const struct ip_problem *problem)
{
	const struct icmp_header header = {
		.type = ICMPV6_PARAMETER_PROBLEM,
		.code = problem->code,
		.rest = problem->pointer,
	};

	/* The parser knows which of those to groups are answered all the same. */
	error_out(net, packet, &header);
}

/* ---- errors in ---- */

#define HARD true
#define SOFT false

/* RFC 1122 4.2.3.9: hard are protocol and port unreachable; "fragmentation needed" is path MTU
 * discovery's. */
static struct icmp_error unreachable_v4(const struct icmp_header *header)
{
	static const struct icmp_error codes[] = {
		{ENETUNREACH, SOFT, false, 0},  /* net */
		{EHOSTUNREACH, SOFT, false, 0}, /* host */
		{ENOPROTOOPT, HARD, false, 0},  /* protocol */
		{ECONNREFUSED, HARD, false, 0}, /* port */
		{EMSGSIZE, SOFT, false, 0},     /* fragmentation needed */
		{EOPNOTSUPP, SOFT, false, 0},   /* source route failed */
		{ENETUNREACH, SOFT, false, 0},  /* net unknown */
		{EHOSTUNREACH, SOFT, false, 0}, /* host unknown */
		{EHOSTUNREACH, SOFT, false, 0}, /* host isolated */
		{ENETUNREACH, SOFT, false, 0},  /* net prohibited */
		{EHOSTUNREACH, SOFT, false, 0}, /* host prohibited */
		{ENETUNREACH, SOFT, false, 0},  /* net, for this type of service */
		{EHOSTUNREACH, SOFT, false, 0}, /* host, for this type of service */
	};

	if (header->code >= ARRAY_LENGTH(codes)) /* prohibited in some way or other */
		return (struct icmp_error){.err = EHOSTUNREACH};
	struct icmp_error error = codes[header->code];
	if (error.err == EMSGSIZE) /* RFC 1191 3: a router that knows no better says 0 */
		error.mtu = header->rest & 0xffff;
	return error;
}

static struct icmp_error unreachable_v6(const struct icmp_header *header)
{
	static const struct icmp_error codes[] = {
		{ENETUNREACH, SOFT, false, 0},  /* no route */
		{EACCES, SOFT, false, 0},       /* prohibited */
		{EHOSTUNREACH, SOFT, false, 0}, /* beyond the scope of the source */
		{EHOSTUNREACH, SOFT, false, 0}, /* address */
		{ECONNREFUSED, HARD, false, 0}, /* port */
	};

	if (header->code >= ARRAY_LENGTH(codes))
		return (struct icmp_error){.err = EACCES};
	return codes[header->code];
}

/* False: the type is no error that is told to anybody. */
static bool error_of_v4(const struct icmp_header *header, struct icmp_error *error)
{
	switch (header->type) {
	case ICMP_UNREACHABLE:
		*error = unreachable_v4(header);
		return true;
	case ICMP_TIME_EXCEEDED:
		*error = (struct icmp_error){.err = EHOSTUNREACH};
		return true;
	case ICMP_PARAMETER_PROBLEM:
		*error = (struct icmp_error){.err = EPROTO};
		return true;
	default: /* RFC 6633: source quench; redirects: row 8 of the attack table */
		return false;
	}
}

static bool error_of_v6(const struct icmp_header *header, struct icmp_error *error)
{
	switch (header->type) {
	case ICMPV6_UNREACHABLE:
		*error = unreachable_v6(header);
		return true;
	case ICMPV6_TOO_BIG:
		*error = (struct icmp_error){.err = EMSGSIZE, .mtu = header->rest};
		return true;
	case ICMPV6_TIME_EXCEEDED:
		*error = (struct icmp_error){.err = EHOSTUNREACH};
		return true;
	case ICMPV6_PARAMETER_PROBLEM:
		*error = (struct icmp_error){
			.err = header->code == IP_PROBLEM_NEXT_HEADER ? ENOPROTOOPT : EPROTO,
			.hard = header->code == IP_PROBLEM_NEXT_HEADER,
		};
		return true;
	default:
		return false;
	}
}

static enum drop error_in(struct net *net, struct cursor *c, bool v6,
			  const struct icmp_error *error)
{
	struct icmp_quote quote;
	enum drop drop = icmp_quote_parse(c, v6, &quote);

	if (drop)
		return drop;
	if (!net_is_local(net, &quote.from))
		return DROP_ICMP_UNMATCHED;
	if (quote.protocol == IP_TCP)
		tcp_icmp_error(net, &quote, error);
	else if (quote.protocol == IP_UDP)
		udp_icmp_error(net, &quote, error);
	else
		return DROP_ICMP_UNMATCHED;
	return DROP_NONE;
}

/* ---- input ---- */

static void finish(struct net *net, struct frame *frame, enum drop drop)
{
	if (drop)
		net_drop(net, frame, drop);
	else
		frame_free(net->heap, frame);
}

static enum drop input_v4(struct net *net, const struct ip_packet *packet)
{
	struct cursor c = cursor_over(packet->payload, packet->length);
	struct icmp_header header;
	struct icmp_error error;
	enum drop drop = icmp_parse(&c, packet, &header);

	if (drop)
		return drop;
	if (header.type == ICMP_ECHO) {
		if (packet->broadcast) /* RFC 1122 3.2.2.6 MAY */
			return DROP_IP_BROADCAST;
		echo(net, packet, &header, &c);
		return DROP_NONE;
	}
	if (!error_of_v4(&header, &error))
		return DROP_ICMP_TYPE;
	return error_in(net, &c, false, &error);
}

static enum drop input_v6(struct net *net, const struct ip_packet *packet)
{
	struct cursor c = cursor_over(packet->payload, packet->length);
	struct icmp_header header;
	struct icmp_error error;
	enum drop drop = icmp_parse(&c, packet, &header);

	if (drop)
		return drop;
	if (header.type == ICMPV6_NEIGHBOR_SOLICITATION ||
	    header.type == ICMPV6_NEIGHBOR_ADVERTISEMENT)
		return nd_input(net, packet, &header, &c);
	if (group_is_mld(header.type))
		return mld_input(net, packet, &header, &c);
	if (ip_is_any(&packet->from))
		return DROP_IP_SOURCE;
	if (header.type == ICMPV6_ROUTER_ADVERTISEMENT)
		return slaac_input(net, packet, &header, &c);
	if (header.type == ICMPV6_ECHO) {
		if (packet->broadcast) /* row 9 of the attack table: who floods a group gets no
					  flood */
			return DROP_IP_BROADCAST;
		echo(net, packet, &header, &c);
		return DROP_NONE;
	}
	if (!error_of_v6(&header, &error))
		return DROP_ICMP_TYPE;
	return error_in(net, &c, true, &error);
}

void icmp_input(struct net *net, struct frame *frame, const struct ip_packet *packet)
{
	finish(net, frame, input_v4(net, packet));
}

void icmpv6_input(struct net *net, struct frame *frame, const struct ip_packet *packet)
{
	finish(net, frame, input_v6(net, packet));
}

/* ---- life ---- */

int icmp_open(struct net *net)
{
	net->icmp = calloc(1, sizeof(*net->icmp));
	if (!net->icmp)
		return -ENOMEM;
	bucket_init(&net->icmp->errors, net->sched->now_ns, ERRORS_PER_S, ERRORS_BURST);
	bucket_init(&net->icmp->echoes, net->sched->now_ns, ECHOES_PER_S, ECHOES_BURST);
	return 0;
}

void icmp_close(struct net *net)
{
	free(net->icmp);
	net->icmp = NULL;
}
