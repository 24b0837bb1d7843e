/* SPDX-License-Identifier: MIT
 * tools/demi/segment.c - see segment.h.
 */
#include "segment.h"

#include <netinet/in.h>
#include <string.h>

#define ETHERNET  14
#define IPV4      20
#define TCP_AT    (ETHERNET + IPV4)
#define UDP_BYTES 8
#define TTL       64
#define WINDOW    65535

enum { TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806 };

enum { OPTION_END = 0, OPTION_NOTHING = 1, OPTION_MSS = 2, OPTION_SHIFT = 3 };

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

/* ---- checksums ---- */

/* The Internet checksum's sum (RFC 1071) in the machine's byte order, which fold undoes. */
static uint64_t add(uint64_t sum, const uint8_t *at, uint32_t length)
{
	uint32_t word;
	uint16_t half;

	for (; length >= sizeof(word); length -= (uint32_t)sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		sum += word;
	}
	if (length >= sizeof(half)) {
		memcpy(&half, at, sizeof(half));
		sum += half;
		at += sizeof(half);
		length -= (uint32_t)sizeof(half);
	}
	if (length > 0) {
		uint8_t last[2] = {*at, 0};
		memcpy(&half, last, sizeof(half));
		sum += half;
	}
	return sum;
}

static void put_checksum(uint8_t *at, uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	uint16_t value = (uint16_t)~sum;
	memcpy(at, &value, sizeof(value));
}

/* Of TCP or UDP: the header and payload at ip + IPV4, length bytes. */
static void put_transport_checksum(uint8_t *ip, uint32_t offset, uint32_t length)
{
	uint8_t rest[4] = {0, ip[9], (uint8_t)(length >> 8), (uint8_t)length};
	uint8_t *transport = ip + IPV4;

	put16(transport + offset, 0);
	uint64_t sum = add(add(0, ip + 12, 8), rest, sizeof(rest));
	put_checksum(transport + offset, add(sum, transport, length));
}

/* ---- writing ---- */

static void write_ethernet(const struct ends *ends, uint8_t *frame, uint32_t type)
{
	memcpy(frame, ends->their_mac, 6);
	memcpy(frame + 6, ends->our_mac, 6);
	put16(frame + 12, type);
}

/* length: of what is behind it. */
static void write_ip(const struct ends *ends, uint8_t *ip, uint8_t protocol, uint32_t length)
{
	memset(ip, 0, IPV4);
	ip[0] = 0x45;
	put16(ip + 2, IPV4 + length);
	ip[6] = 0x40; /* don't fragment */
	ip[8] = TTL;
	ip[9] = protocol;
	put32(ip + 12, ends->ours);
	put32(ip + 16, ends->theirs);
	put_checksum(ip + 10, add(0, ip, IPV4));
}

static void write_options(uint8_t *at)
{
	at[0] = OPTION_MSS;
	at[1] = 4;
	put16(at + 2, SEGMENT_MSS);
	at[4] = OPTION_NOTHING;
	at[5] = OPTION_SHIFT;
	at[6] = 3;
	at[7] = SEGMENT_SHIFT;
}

void segment_write(const struct ends *ends, uint8_t *frame, const struct segment *segment)
{
	uint8_t *tcp = frame + TCP_AT;
	uint32_t header = 20;

	if (segment->flags & SEGMENT_SYN) {
		write_options(tcp + header);
		header += SEGMENT_OPTIONS;
	}
	write_ethernet(ends, frame, TYPE_IPV4);
	write_ip(ends, frame + ETHERNET, IPPROTO_TCP, header + segment->length);
	put16(tcp, segment->our_port);
	put16(tcp + 2, segment->their_port);
	put32(tcp + 4, segment->seq);
	put32(tcp + 8, segment->ack);
	tcp[12] = (uint8_t)(header << 2);
	tcp[13] = segment->flags;
	put16(tcp + 14, WINDOW);
	put16(tcp + 18, 0);
	if (segment->length > 0 && segment->payload != tcp + header)
		memcpy(tcp + header, segment->payload, segment->length);
	put_transport_checksum(frame + ETHERNET, 16, header + segment->length);
}

void datagram_write(const struct ends *ends, uint8_t *frame, const struct segment *segment)
{
	uint8_t *udp = frame + TCP_AT;
	uint32_t length = UDP_BYTES + segment->length;

	write_ethernet(ends, frame, TYPE_IPV4);
	write_ip(ends, frame + ETHERNET, IPPROTO_UDP, length);
	put16(udp, segment->our_port);
	put16(udp + 2, segment->their_port);
	put16(udp + 4, length);
	if (segment->length > 0 && segment->payload != udp + UDP_BYTES)
		memcpy(udp + UDP_BYTES, segment->payload, segment->length);
	put_transport_checksum(frame + ETHERNET, 6, length);
}

void arp_write(const struct ends *ends, uint8_t *frame, bool reply)
{
	static const uint8_t head[] = {0, 1, 8, 0, 6, 4, 0}; /* Ethernet, IPv4, their lengths */
	uint8_t *arp = frame + ETHERNET;

	write_ethernet(ends, frame, TYPE_ARP);
	if (!reply)
		memset(frame, 0xff, 6);
	memcpy(arp, head, sizeof(head));
	arp[7] = reply ? 2 : 1;
	memcpy(arp + 8, ends->our_mac, 6);
	put32(arp + 14, ends->ours);
	memcpy(arp + 18, ends->their_mac, 6);
	put32(arp + 24, ends->theirs);
}

/* ---- reading ---- */

/* The header of the protocol in an IPv4 packet to us without options; NULL: it is none.  *end is
 * where the packet ends. */
static const uint8_t *open_ip(const struct ends *ends, const uint8_t *frame, uint32_t length,
			      const uint8_t **end, uint8_t protocol)
{
	const uint8_t *ip = frame + ETHERNET;

	if (length < TCP_AT + UDP_BYTES || get16(frame + 12) != TYPE_IPV4 || ip[0] != 0x45)
		return NULL;
	uint32_t total = get16(ip + 2);
	if (ip[9] != protocol || total > length - ETHERNET || total < IPV4 + UDP_BYTES)
		return NULL;
	if (get32(ip + 12) != ends->theirs || get32(ip + 16) != ends->ours)
		return NULL;
	*end = ip + total;
	return ip + IPV4;
}

static void read_options(const uint8_t *at, const uint8_t *end, struct segment *out)
{
	while (at < end && *at != OPTION_END) {
		if (*at == OPTION_NOTHING) {
			at++;
			continue;
		}
		if (end - at < 2 || at[1] < 2 || at[1] > end - at)
			return;
		if (at[0] == OPTION_MSS && at[1] == 4)
			out->mss = get16(at + 2);
		if (at[0] == OPTION_SHIFT && at[1] == 3)
			out->shift = at[2];
		at += at[1];
	}
}

bool segment_read(const struct ends *ends, const uint8_t *frame, uint32_t length,
		  struct segment *out)
{
	const uint8_t *end;
	const uint8_t *tcp = open_ip(ends, frame, length, &end, IPPROTO_TCP);

	if (!tcp || end - tcp < 20)
		return false;
	uint32_t header = (uint32_t)(tcp[12] >> 4) * 4;
	if (header < 20 || header > end - tcp)
		return false;
	*out = (struct segment){
		.their_port = get16(tcp),
		.our_port = get16(tcp + 2),
		.seq = get32(tcp + 4),
		.ack = get32(tcp + 8),
		.flags = tcp[13],
		.window = get16(tcp + 14),
		.payload = tcp + header,
		.length = (uint32_t)(end - tcp) - header,
	};
	if (out->flags & SEGMENT_SYN)
		read_options(tcp + 20, tcp + header, out);
	return true;
}

bool datagram_read(const struct ends *ends, const uint8_t *frame, uint32_t length,
		   struct segment *out)
{
	const uint8_t *end;
	const uint8_t *udp = open_ip(ends, frame, length, &end, IPPROTO_UDP);

	if (!udp || get16(udp + 4) < UDP_BYTES || get16(udp + 4) > end - udp)
		return false;
	*out = (struct segment){
		.their_port = get16(udp),
		.our_port = get16(udp + 2),
		.payload = udp + UDP_BYTES,
		.length = get16(udp + 4) - (uint32_t)UDP_BYTES,
	};
	return true;
}

enum arp_kind arp_read(struct ends *ends, const uint8_t *frame, uint32_t length)
{
	const uint8_t *arp = frame + ETHERNET;

	if (length < ARP_FRAME_BYTES || get16(frame + 12) != TYPE_ARP)
		return ARP_NONE;
	if (get32(arp + 14) != ends->theirs || get32(arp + 24) != ends->ours)
		return ARP_NONE;
	memcpy(ends->their_mac, arp + 8, 6);
	return arp[7] == 1 ? ARP_ASKED : ARP_TOLD;
}
