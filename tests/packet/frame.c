/* SPDX-License-Identifier: MIT
 * tests/packet/frame.c - see frame.h.
 */
#include "packet/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

uint8_t frame_pattern(uint64_t offset)
{
	return (uint8_t)(offset * 31 + (offset >> 8) * 7 + 1);
}

/* ---- checksums (RFC 1071), byte by byte ---- */

static uint32_t sum(uint32_t total, const uint8_t *bytes, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++)
		total += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	return (total & 0xffff) + (total >> 16);
}

static uint16_t fold(uint32_t total)
{
	total = (total & 0xffff) + (total >> 16);
	total = (total & 0xffff) + (total >> 16);
	return (uint16_t)total;
}

static uint16_t transport_sum(const struct ip_address *from, const struct ip_address *to,
			      uint8_t protocol, const uint8_t *bytes, uint32_t length)
{
	uint8_t lengths[8] = {0};
	uint32_t total = 0;
	uint32_t skip = ip_is_v4(from) ? 12 : 0;

	if (protocol != 1) {
		put32(lengths, length);
		lengths[7] = protocol;
		total = sum(total, from->bytes + skip, 16 - skip);
		total = sum(total, to->bytes + skip, 16 - skip);
		total = sum(total, lengths, 8);
	}
	/* Pieces of even length, so that the sum does not overflow. */
	for (uint32_t at = 0; at < length; at += 1024)
		total = sum(total, bytes + at, length - at < 1024 ? length - at : 1024);
	return fold(total);
}

static int checksum_offset(uint8_t protocol)
{
	return protocol == 6 ? 16 : protocol == 17 ? 6 : 2;
}

/* ---- building ---- */

static uint32_t write_ip(const struct frame_spec *spec, uint8_t *out)
{
	if (!ip_is_v4(&spec->from)) {
		put32(out, 0x60000000U | (uint32_t)spec->tos << 20);
		put16(out + 4, spec->length);
		out[6] = spec->protocol;
		out[7] = spec->ttl;
		memcpy(out + 8, spec->from.bytes, 16);
		memcpy(out + 24, spec->to.bytes, 16);
		return 40;
	}
	out[0] = 0x45;
	out[1] = spec->tos;
	put16(out + 2, 20 + spec->length);
	put16(out + 4, 0);
	put16(out + 6, 0x4000);
	out[8] = spec->ttl;
	out[9] = spec->protocol;
	put16(out + 10, 0);
	memcpy(out + 12, spec->from.bytes + 12, 4);
	memcpy(out + 16, spec->to.bytes + 12, 4);
	put16(out + 10, (uint16_t)~fold(sum(0, out, 20)));
	return 20;
}

uint32_t frame_build(struct frame_spec *spec, uint8_t *out)
{
	uint8_t *checksum = spec->bytes + checksum_offset(spec->protocol);
	uint32_t header = write_ip(spec, out);

	put16(checksum, 0);
	uint16_t value = (uint16_t)~transport_sum(&spec->from, &spec->to, spec->protocol,
						  spec->bytes, spec->length);
	if (value == 0 && spec->protocol == 17)
		value = 0xffff;
	put16(checksum, spec->bad_checksum ? value ^ 0x5555U : value);
	memcpy(out + header, spec->bytes, spec->length);
	return header + spec->length;
}

/* ---- taking apart ---- */

static void parse_tcp(struct live_packet *p, const uint8_t *at, uint32_t length)
{
	if (length < 20) {
		p->wrong = "TCP header cut off";
		return;
	}
	uint32_t header = (uint32_t)(at[12] >> 4) * 4;
	p->from_port = get16(at);
	p->to_port = get16(at + 2);
	p->seq = get32(at + 4);
	p->ack = get32(at + 8);
	p->flags = at[13];
	p->window = get16(at + 14);
	p->urgent = get16(at + 18);
	if (header < 20 || header > length) {
		p->wrong = "TCP data offset";
		return;
	}
	if (at[12] & 15)
		p->wrong = "TCP reserved bits are not zero";
	if (!(p->flags & LIVE_ACK) && p->ack != 0)
		p->wrong = "acknowledgement number without ACK";
	p->options = at + 20;
	p->options_bytes = header - 20;
	p->payload = at + header;
	p->payload_bytes = length - header;
}

static void parse_udp(struct live_packet *p, const uint8_t *at, uint32_t length)
{
	if (length < 8 || get16(at + 4) != length) {
		p->wrong = "UDP length";
		return;
	}
	p->from_port = get16(at);
	p->to_port = get16(at + 2);
	p->payload = at + 8;
	p->payload_bytes = length - 8;
	if (get16(at + 6) == 0)
		p->wrong = "UDP without checksum";
}

static void parse_icmp(struct live_packet *p, const uint8_t *at, uint32_t length)
{
	if (length < 8) {
		p->wrong = "ICMP header cut off";
		return;
	}
	p->icmp_type = at[0];
	p->icmp_code = at[1];
	p->icmp_rest = get32(at + 4);
	p->payload = at + 8;
	p->payload_bytes = length - 8;
}

/* Bytes of the IP header; 0: malformed, or a protocol of which scripts do not tell. */
static uint32_t parse_ip(struct live_packet *p)
{
	const uint8_t *at = p->bytes;

	if (p->length < 20)
		return 0;
	if (at[0] == 0x45 && get16(at + 2) <= p->length && get16(at + 2) >= 20) {
		p->length = get16(at + 2);
		p->tos = at[1];
		p->ttl = at[8];
		p->protocol = at[9];
		p->from = ip_from_v4(0);
		p->to = ip_from_v4(0);
		memcpy(p->from.bytes + 12, at + 12, 4);
		memcpy(p->to.bytes + 12, at + 16, 4);
		if (fold(sum(0, at, 20)) != 0xffff)
			p->wrong = "IPv4 header checksum";
		return 20;
	}
	if (at[0] >> 4 != 6 || p->length < 40 || get16(at + 4) + 40U > p->length)
		return 0;
	p->v6 = true;
	p->length = get16(at + 4) + 40U;
	p->tos = (uint8_t)(get16(at) >> 4);
	p->protocol = at[6];
	p->ttl = at[7];
	p->from = ip_from_bytes(at + 8);
	p->to = ip_from_bytes(at + 24);
	return 40;
}

static bool is_told(const struct live_packet *p)
{
	bool discovery = p->protocol == 58 && p->icmp_type >= 130 && p->icmp_type <= 143;

	return !discovery;
}

struct live_packet *live_parse(const uint8_t *bytes, uint32_t length)
{
	struct live_packet *p = calloc(1, sizeof(*p) + length);

	if (!p)
		abort();
	p->length = length;
	memcpy(p->bytes, bytes, length);
	uint32_t header = parse_ip(p);
	if (header == 0) {
		free(p);
		return NULL;
	}
	const uint8_t *at = p->bytes + header;
	if (p->protocol == 6) {
		p->kind = PACKET_TCP;
		parse_tcp(p, at, p->length - header);
	} else if (p->protocol == 17) {
		p->kind = PACKET_UDP;
		parse_udp(p, at, p->length - header);
	} else if (p->protocol == (p->v6 ? 58 : 1)) {
		p->kind = PACKET_ICMP;
		parse_icmp(p, at, p->length - header);
	} else {
		free(p);
		return NULL;
	}
	if (!p->wrong &&
	    transport_sum(&p->from, &p->to, p->protocol, at, p->length - header) != 0xffff)
		p->wrong = "transport checksum";
	if (!is_told(p)) {
		free(p);
		return NULL;
	}
	return p;
}

/* ---- options ---- */

static uint32_t put_option(uint8_t *at, const struct option_spec *option, const uint32_t bases[3])
{
	at[0] = (uint8_t)option->kind;
	switch (option->kind) {
	case OPTION_EOL:
	case OPTION_NOP:
		return 1;
	case OPTION_MSS:
		at[1] = 4;
		put16(at + 2, option->value);
		break;
	case OPTION_WSCALE:
		at[1] = 3;
		at[2] = (uint8_t)option->value;
		break;
	case OPTION_SACK_OK:
		at[1] = 2;
		break;
	case OPTION_SACK:
		at[1] = (uint8_t)(2 + 8 * option->num_blocks);
		for (uint32_t i = 0; i < option->num_blocks; i++) {
			put32(at + 2 + 8 * i, option->blocks[i].start + bases[2]);
			put32(at + 6 + 8 * i, option->blocks[i].end + bases[2]);
		}
		break;
	case OPTION_TIMESTAMP:
		at[1] = 10;
		put32(at + 2, option->value + bases[0]);
		put32(at + 6, option->echo + bases[1]);
		break;
	case OPTION_RAW:
		memcpy(at, option->raw, option->raw_bytes);
		return option->raw_bytes;
	}
	return at[1];
}

uint32_t options_build(const struct packet_spec *spec, uint32_t ts_base, uint32_t echo_base,
		       uint32_t sack_base, uint8_t out[SCRIPT_OPTIONS_MAX])
{
	const uint32_t bases[3] = {ts_base, echo_base, sack_base};
	uint32_t bytes = 0;

	memset(out, 0, SCRIPT_OPTIONS_MAX);
	for (uint32_t i = 0; i < spec->num_options; i++)
		bytes += put_option(out + bytes, &spec->options[i], bases);
	return (bytes + 3) & ~3U;
}

static int show_option(const uint8_t *at, uint32_t length, const uint32_t bases[3], char *out,
		       size_t bytes)
{
	int n = 0;

	switch (at[0]) {
	case OPTION_MSS:
		return snprintf(out, bytes, "mss %u", get16(at + 2));
	case OPTION_WSCALE:
		return snprintf(out, bytes, "wscale %u", at[2]);
	case OPTION_SACK_OK:
		return snprintf(out, bytes, "sackOK");
	case OPTION_TIMESTAMP:
		return snprintf(out, bytes, "TS val %u ecr %u", get32(at + 2) - bases[0],
				get32(at + 6) - bases[1]);
	case OPTION_SACK:
		n = snprintf(out, bytes, "sack");
		for (uint32_t i = 2; i + 8 <= length && (size_t)n < bytes; i += 8)
			n += snprintf(out + n, bytes - (size_t)n, " %u:%u",
				      get32(at + i) - bases[2], get32(at + i + 4) - bases[2]);
		return n;
	default:
		n = snprintf(out, bytes, "raw 0x");
		for (uint32_t i = 0; i < length && (size_t)n < bytes; i++)
			n += snprintf(out + n, bytes - (size_t)n, "%02x", at[i]);
		return n;
	}
}

/* The length that an option of a kind has; 0: any. */
static uint32_t kind_bytes(uint8_t kind)
{
	return kind == OPTION_MSS         ? 4
	       : kind == OPTION_WSCALE    ? 3
	       : kind == OPTION_SACK_OK   ? 2
	       : kind == OPTION_TIMESTAMP ? 10
					  : 0;
}

void options_show(const uint8_t *options, uint32_t bytes, uint32_t ts_base, uint32_t echo_base,
		  uint32_t sack_base, char *out, size_t out_bytes)
{
	const uint32_t bases[3] = {ts_base, echo_base, sack_base};
	size_t used = 0;

	out[0] = '\0';
	for (uint32_t at = 0; at < bytes && used + 1 < out_bytes;) {
		uint32_t length =
			options[at] < 2 ? 1
			: at + 1 < bytes && options[at + 1] >= 2 && at + options[at + 1] <= bytes
				? options[at + 1]
				: bytes - at;
		uint32_t proper = kind_bytes(options[at]);
		if (used > 0)
			used += (size_t)snprintf(out + used, out_bytes - used, ",");
		if (used >= out_bytes)
			return;
		if (options[at] < 2)
			used += (size_t)snprintf(out + used, out_bytes - used, "%s",
						 options[at] ? "nop" : "eol");
		else if (proper && proper != length)
			used += (size_t)snprintf(out + used, out_bytes - used, "malformed");
		else
			used += (size_t)show_option(options + at, length, bases, out + used,
						    out_bytes - used);
		at += length;
	}
}
