/* SPDX-License-Identifier: MIT
 * net/group_report.c - reports about groups go out (RFC 3376 4, RFC 3810 5, RFC 2236 2, RFC 2710
 * 3): from a link-local address if MLD, with a hop limit of 1 and a router alert.
 */
#include "net/group.h"

#include "net/net.h"

#include <string.h>

/* A report is no longer, whatever the MTU: then a first one of a few records wastes little. */
#define REPORT_BYTES 1280U

static const struct ip_address routers_v4 = {.bytes = {[10] = 0xff, 0xff, 224, 0, 0, 2}};
static const struct ip_address reports_v4 = {.bytes = {[10] = 0xff, 0xff, 224, 0, 0, 22}};
static const struct ip_address routers_v6 = {.bytes = {0xff, 2, [15] = 2}};
static const struct ip_address reports_v6 = {.bytes = {0xff, 2, [15] = 22}};

/* RFC 3376 4.2.13: from 0.0.0.0 if there is nothing else; RFC 3810 5.2.13, RFC 3590 4: MLD from a
 * link-local address, or :: while there is none */
static struct ip_address source_of(const struct group_side *side)
{
	static const struct ip_address nobody;
	const struct ip_address *from =
		net_source_for(side->net, side->v4 ? &reports_v4 : &reports_v6);

	if (side->v4)
		return from ? *from : ip_from_v4(0);
	return from && ip_is_link_local(from) ? *from : nobody;
}

/* Sends a message that is complete. */
static void transmit(struct net *net, struct frame *frame, const struct ip_address *from,
		     const struct ip_address *to)
{
	bool v4 = ip_is_v4(to);
	uint32_t length = frame->length;
	uint8_t mac[6];

	if (v4) {
		group_write_alert_v4(frame_prepend(frame, IPV4_ALERT_BYTES), from, to, length);
	} else {
		const struct ip_send send = {
			.from = from, .to = to, .protocol = IP_HOP_BY_HOP, .ttl = 1};
		group_write_alert_v6(frame_prepend(frame, IPV6_ALERT_BYTES));
		ip_prepend(frame, &send);
	}
	group_mac(to, mac);
	ether_output(net, frame, mac, v4 ? ETHER_IPV4 : ETHER_IPV6);
}

static struct frame *new_frame(struct net *net, uint32_t room)
{
	struct frame *frame = frame_alloc_tx(net->heap, room);

	if (unlikely(!frame))
		net_count_drop(net, DROP_TX_MEMORY);
	return frame;
}

void group_report_end(struct group_report *report)
{
	struct group_side *side = report->side;
	const struct ip_address *to = side->v4 ? &reports_v4 : &reports_v6;
	struct ip_address from = source_of(side);
	struct frame *frame = report->frame;

	if (!frame)
		return;
	report->frame = NULL;
	group_write_report(frame->data, report->records, frame->length, &from, to);
	transmit(side->net, frame, &from, to);
}

/* False: no memory. */
static bool begin(struct group_report *report)
{
	struct net *net = report->side->net;
	uint32_t headers =
		report->side->v4 ? IPV4_ALERT_BYTES : IPV6_HEADER_BYTES + IPV6_ALERT_BYTES;

	report->room = (net->mtu < REPORT_BYTES ? net->mtu : REPORT_BYTES) - headers;
	report->records = 0;
	report->frame = new_frame(net, report->room);
	if (!report->frame)
		return false;
	report->frame->length = GROUP_HEADER_BYTES;
	return true;
}

void group_report_add(struct group_report *report, const struct group *group,
		      enum group_record type, bool sources)
{
	uint32_t count = sources ? group->num_sources : 0;
	uint32_t bytes = group_record_bytes(report->side->v4, count);

	if (report->frame && report->frame->length + bytes > report->room)
		group_report_end(report);
	if (!report->frame && !begin(report))
		return;
	struct frame *frame = report->frame;
	group_write_record(frame->data + frame->length, type, &group->address, group->sources,
			   count);
	frame->length += bytes;
	report->records++;
}

void group_report_old(const struct group *group, bool leave)
{
	const struct group_side *side = group->side;
	const struct ip_address *to = &group->address;
	struct frame *frame = new_frame(side->net, GROUP_OLD_BYTES_MAX);

	if (!frame)
		return;
	if (leave) /* RFC 2236 3, RFC 2710 4: to all routers */
		to = side->v4 ? &routers_v4 : &routers_v6;
	struct ip_address from = source_of(side);
	frame->length =
		group_write_old(frame->data, side->version, leave, &group->address, &from, to);
	transmit(side->net, frame, &from, to);
}
