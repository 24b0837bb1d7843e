/* SPDX-License-Identifier: MIT
 * net/wire/group.c - IGMP (RFC 1112 appendix I, RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810):
 * queries and reports in, reports and leaves out; the router alert option (RFC 2113, RFC 2711).
 */
#include "net/wire/group.h"

#include "net/wire/checksum.h"

enum igmp_type {
	IGMP_QUERY = 0x11,
	IGMP_REPORT_V1 = 0x12,
	IGMP_REPORT_V2 = 0x16,
	IGMP_LEAVE = 0x17,
	IGMP_REPORT_V3 = 0x22,
};

enum mld_type {
	MLD_QUERY = 130,
	MLD_REPORT_V1 = 131,
	MLD_DONE = 132,
	MLD_REPORT_V2 = 143,
};

#define IGMP_BYTES       8  /* of versions 1 and 2 */
#define IGMP_QUERY_BYTES 12 /* of version 3, without sources */
#define MLD_BYTES        24 /* of version 1, with the ICMPv6 header */
#define MLD_QUERY_BYTES  28
#define V1_RESPONSE_MS   10000 /* RFC 2236 4: of a query of version 1 */
#define TENTH_MS         100
#define ROBUSTNESS       7U
#define ALERT_V4         148
#define ALERT_V6         5
#define INTERNET_CONTROL 0xc0
#define NEXT_ICMPV6      58

/* ---- numbers as 3 bits of exponent and a mantissa (RFC 3376 4.1.1, 4.1.7, RFC 3810 5.1.3) ---- */

static uint32_t number8(uint8_t code)
{
	return code < 128 ? code : ((code & 15U) | 16U) << (((code >> 4) & 7U) + 3);
}

static uint32_t number16(uint16_t code)
{
	return code < 32768 ? code : ((code & 0xfffU) | 0x1000U) << (((code >> 12) & 7U) + 3);
}

/* ---- router alert ---- */

static bool has_alert_v4(const struct ip_packet *packet)
{
	struct cursor options = cursor_over(packet->header + IPV4_HEADER_BYTES,
					    packet->header_bytes - IPV4_HEADER_BYTES);

	while (cursor_left(&options)) {
		uint8_t kind = cursor_u8(&options);

		if (kind == ALERT_V4)
			return true;
		if (kind == 0)
			return false;
		if (kind != 1)
			cursor_skip(&options, cursor_u8(&options) - 2U); /* the parser checked it */
	}
	return false;
}

/* Options of hop-by-hop, which stand first. */
static bool has_alert_v6(const struct ip_packet *packet)
{
	const uint8_t *at = packet->header + IPV6_HEADER_BYTES;

	if (packet->header_bytes < IPV6_HEADER_BYTES + 8U || packet->header[6] != 0)
		return false;
	struct cursor options = cursor_over(at + 2, (at[1] + 1U) * 8 - 2);
	while (cursor_left(&options)) {
		uint8_t type = cursor_u8(&options);
		if (type == 0)
			continue;
		uint8_t length = cursor_u8(&options);
		if (type == ALERT_V6)
			return length == 2 && cursor_u16(&options) == 0;
		cursor_skip(&options, length);
	}
	return false;
}

/* ---- in ---- */

/* The second half of a query of version 3: the cursor is at the flags. */
static enum drop parse_sources(struct cursor *c, struct group_message *message, uint32_t bytes)
{
	message->robustness = cursor_u8(c) & ROBUSTNESS;
	message->interval_s = number8(cursor_u8(c));
	message->num_sources = cursor_u16(c);
	message->sources = cursor_take(c, message->num_sources * bytes);
	return c->bad ? DROP_GROUP_BAD : DROP_NONE;
}

/* Does the group fit the kind of message? */
static enum drop check_group(const struct ip_packet *packet, const struct group_message *message)
{
	bool any = ip_is_any(&message->group);

	if (message->query)
		return (any && message->num_sources == 0) || ip_is_multicast(&message->group)
			       ? DROP_NONE
			       : DROP_GROUP_BAD;
	return ip_is_multicast(&message->group) && ip_equal(&message->group, &packet->to)
		       ? DROP_NONE
		       : DROP_GROUP_BAD;
}

/* RFC 3376 7.1: which version a query is of, by its length and its second octet; it is at `at`. */
static enum drop parse_query_v4(struct cursor *c, uint8_t code, uint32_t length,
				struct group_message *message)
{
	message->query = true;
	if (length == IGMP_BYTES) {
		message->version = code ? GROUP_V2 : GROUP_V1;
		message->max_response_ms = code ? code * TENTH_MS : V1_RESPONSE_MS;
		if (!code) /* RFC 1112 appendix I: the group of a query is not looked at */
			message->group = ip_from_v4(0);
		return DROP_NONE;
	}
	/* RFC 3376 7.1 MUST: other lengths are ignored silently */
	if (length < IGMP_QUERY_BYTES)
		return DROP_GROUP_BAD;
	message->version = GROUP_V3;
	message->max_response_ms = number8(code) * TENTH_MS;
	return parse_sources(c, message, 4);
}

enum drop group_parse_v4(struct cursor *c, const struct ip_packet *packet,
			 struct group_message *message)
{
	uint32_t length = cursor_left(c);
	uint64_t sum = checksum_partial(c->at, length);
	uint32_t group;

	*message = (struct group_message){.query = false};
	/* RFC 3376 4 and 4.1.2 MUST: the whole IP payload counts, and is verified first */
	if (length < IGMP_BYTES || sum == 0 || !checksum_good(sum) || packet->ttl != 1)
		return DROP_GROUP_BAD;
	uint8_t type = cursor_u8(c);
	uint8_t code = cursor_u8(c);
	cursor_skip(c, 2);
	cursor_bytes(c, &group, sizeof(group));
	message->group = ip_from_v4(group);
	if (type == IGMP_REPORT_V1 || type == IGMP_REPORT_V2) {
		message->version = type == IGMP_REPORT_V1 ? GROUP_V1 : GROUP_V2;
		return check_group(packet, message);
	}
	if (type != IGMP_QUERY)
		return DROP_GROUP_TYPE;
	enum drop drop = parse_query_v4(c, code, length, message);
	/* RFC 3376 9.1 SHOULD: no query of version 2 or 3 is believed without a router alert */
	if (!drop && message->version != GROUP_V1 && !has_alert_v4(packet))
		drop = DROP_GROUP_BAD;
	return drop ? drop : check_group(packet, message);
}

bool group_is_mld(uint8_t type)
{
	return (type >= MLD_QUERY && type <= MLD_DONE) || type == MLD_REPORT_V2;
}

/* RFC 3810 8.1: by its length, MLD header and all. */
static enum drop parse_query_v6(struct cursor *c, uint32_t code, uint32_t length,
				struct group_message *message)
{
	message->query = true;
	if (length == MLD_BYTES) {
		message->version = GROUP_V2;
		message->max_response_ms = code;
		return DROP_NONE;
	}
	if (length < MLD_QUERY_BYTES)
		return DROP_GROUP_BAD;
	message->version = GROUP_V3;
	message->max_response_ms = number16((uint16_t)code);
	return parse_sources(c, message, 16);
}

enum drop group_parse_v6(struct cursor *c, const struct ip_packet *packet,
			 const struct icmp_header *header, struct group_message *message)
{
	uint32_t length = ICMP_HEADER_BYTES + cursor_left(c);
	enum drop drop = DROP_NONE;

	*message = (struct group_message){.query = false};
	if (header->type != MLD_QUERY && header->type != MLD_REPORT_V1)
		return DROP_GROUP_TYPE;
	/* RFC 3810 6.2 MUST: from a link-local address, with a hop limit of 1 and a router alert */
	if (packet->ttl != 1 || !ip_is_link_local(&packet->from) || !has_alert_v6(packet))
		return DROP_GROUP_BAD;
	cursor_bytes(c, message->group.bytes, sizeof(message->group.bytes));
	if (c->bad || ip_is_v4(&message->group))
		return DROP_GROUP_BAD;
	message->version = GROUP_V2;
	if (header->type == MLD_QUERY)
		drop = parse_query_v6(c, header->rest >> 16, length, message);
	return drop ? drop : check_group(packet, message);
}

/* ---- out ---- */

static uint32_t write_address(uint8_t *at, const struct ip_address *address)
{
	uint32_t bytes = group_address_bytes(ip_is_v4(address));

	memcpy(at, address->bytes + 16 - bytes, bytes);
	return bytes;
}

void group_write_record(uint8_t *at, enum group_record type, const struct ip_address *group,
			const struct ip_address *sources, uint32_t num_sources)
{
	at[0] = (uint8_t)type;
	at[1] = 0;
	store16(at + 2, (uint16_t)num_sources);
	at += 4;
	at += write_address(at, group);
	for (uint32_t i = 0; i < num_sources; i++)
		at += write_address(at, &sources[i]);
}

/* The checksum of a message at `at`, which has type, code and 0 there. */
static void finish(uint8_t *at, uint32_t length, const struct ip_address *from,
		   const struct ip_address *to)
{
	uint64_t sum = checksum_partial(at, length);

	if (!ip_is_v4(to))
		sum += checksum_pseudo(from, to, IP_ICMPV6, length);
	uint16_t checksum = checksum_finish(sum);
	memcpy(at + 2, &checksum, sizeof(checksum));
}

void group_write_report(uint8_t *at, uint16_t records, uint32_t length,
			const struct ip_address *from, const struct ip_address *to)
{
	memset(at, 0, GROUP_HEADER_BYTES);
	at[0] = ip_is_v4(to) ? IGMP_REPORT_V3 : MLD_REPORT_V2;
	store16(at + 6, records);
	finish(at, length, from, to);
}

uint32_t group_write_old(uint8_t *at, enum group_version version, bool leave,
			 const struct ip_address *group, const struct ip_address *from,
			 const struct ip_address *to)
{
	bool v4 = ip_is_v4(group);
	uint32_t length = v4 ? IGMP_BYTES : MLD_BYTES;

	memset(at, 0, length);
	if (!v4)
		at[0] = leave ? MLD_DONE : MLD_REPORT_V1;
	else if (leave)
		at[0] = IGMP_LEAVE;
	else
		at[0] = version == GROUP_V1 ? IGMP_REPORT_V1 : IGMP_REPORT_V2;
	(void)write_address(at + length - group_address_bytes(v4), group);
	finish(at, length, from, to);
	return length;
}

/* RFC 3376 4 MUST: time to live 1, internetwork control, router alert */
void group_write_alert_v4(uint8_t *at, const struct ip_address *from, const struct ip_address *to,
			  uint32_t length)
{
	static const uint8_t alert[4] = {ALERT_V4, 4, 0, 0};

	ipv4_write(at, from, to, IP_IGMP, 1, INTERNET_CONTROL,
		   IPV4_ALERT_BYTES - IPV4_HEADER_BYTES + length);
	at[0] = 4 << 4 | IPV4_ALERT_BYTES / 4;
	store16(at + 10, 0);
	memcpy(at + IPV4_HEADER_BYTES, alert, sizeof(alert));
	uint16_t checksum = checksum_finish(checksum_partial(at, IPV4_ALERT_BYTES));
	memcpy(at + 10, &checksum, sizeof(checksum));
}

void group_write_alert_v6(uint8_t *at)
{
	/* next header, length, the option: for MLD; two bytes of padding */
	static const uint8_t options[IPV6_ALERT_BYTES] = {NEXT_ICMPV6, 0, ALERT_V6, 2, 0, 0, 1, 0};

	memcpy(at, options, sizeof(options));
}
