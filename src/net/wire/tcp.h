/* SPDX-License-Identifier: MIT
 * net/wire/tcp.h - TCP headers and options (RFC 9293 3.1 and 3.2, RFC 7323, RFC 2018).
 *
 * Segments without options or with a timestamp alone are read and written inline; the rest in
 * tcp.c. The urgent pointer is not looked at: urgent data stays in the stream, where it was sent.
 */
#pragma once

#include "base/counters.h"
#include "net/wire/checksum.h"
#include "net/wire/cursor.h"
#include "net/wire/ip.h"

#include <stdbool.h>
#include <stdint.h>

#define TCP_HEADER_BYTES     20
#define TCP_OPTIONS_MAX      40
#define TCP_CHECKSUM_OFFSET  16
#define TCP_SACK_BLOCKS_MAX  4
#define TCP_TIMESTAMP_BYTES  12 /* with two NOPs in front */
#define TCP_WINDOW_SCALE_MAX 14

enum tcp_flags {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20,
	TCP_ECE = 0x40,
	TCP_CWR = 0x80,
};

struct tcp_block {
	uint32_t start; /* first sequence number */
	uint32_t end;   /* behind the last */
};

enum tcp_option_bits {
	TCP_HAS_MSS = 1,
	TCP_HAS_WSCALE = 2,
	TCP_HAS_SACK_PERMITTED = 4,
	TCP_HAS_TIMESTAMP = 8,
	TCP_HAS_SACK = 16,
};

struct tcp_options {
	uint8_t has; /* enum tcp_option_bits */
	uint8_t wscale;
	uint8_t num_sack;
	uint16_t mss;
	uint32_t ts_value;
	uint32_t ts_echo;
	struct tcp_block sack[TCP_SACK_BLOCKS_MAX];
};

struct tcp_header {
	uint16_t source;
	uint16_t destination;
	uint32_t seq;
	uint32_t ack;
	uint16_t window; /* unscaled */
	uint8_t flags;   /* enum tcp_flags */
	struct tcp_options options;
};

/* Options that are not the common case: length bytes of them into header->options. */
void tcp_parse_options(const uint8_t *at, uint32_t length, struct tcp_header *header);

/* NOP NOP timestamp: the four bytes in front of its two values. */
#define TCP_TIMESTAMP_WORD 0x0101080aU

#define TCP_SHORT_BYTES 256 /* segments whose checksum is made inline */

/* The cursor stands at the packet's payload.  Verifies data offset and checksum (unless
 * packet->checked; RFC 9293 MUST-3); the cursor then stands at the data.
 *
 * Options: fields are set only where has says so, num_sack always.  An option whose length is below
 * 2 or beyond the header ends the options (RFC 9293 MUST-7); one that is unknown, has another
 * length than its kind, or stands in a segment it does not belong in (MSS, window scale and SACK
 * permitted without SYN, SACK with it) is skipped (MUST-6).  Of two of a kind the last counts;
 * wscale above 14 counts as 14 (RFC 7323 2.3); SACK blocks that are empty or end before their start
 * are left out.  MSS is passed on as it came.  The common case, NOP NOP timestamp and nothing else,
 * takes a short path. */
static inline enum drop tcp_parse(struct cursor *c, const struct ip_packet *packet,
				  struct tcp_header *header)
{
	const uint8_t *at = c->at;
	uint32_t left = cursor_left(c);

	if (unlikely(left < TCP_HEADER_BYTES))
		return DROP_TCP_BAD;
	uint32_t word = load32(at + 12); /* data offset, flags, window */
	uint32_t header_bytes = word >> 28 << 2;
	if (unlikely(header_bytes < TCP_HEADER_BYTES || header_bytes > left))
		return DROP_TCP_BAD;
	if (!packet->checked) {
		uint64_t sum = checksum_pseudo(&packet->from, &packet->to, IP_TCP, left);

		sum += left < TCP_SHORT_BYTES ? checksum_short(at, left)
					      : checksum_partial(at, left);
		if (unlikely(!checksum_good(sum)))
			return DROP_TCP_CHECKSUM;
	}
	header->source = load16(at);
	header->destination = load16(at + 2);
	header->seq = load32(at + 4);
	header->ack = load32(at + 8);
	header->flags = (uint8_t)(word >> 16);
	header->window = (uint16_t)word;
	header->options.num_sack = 0;
	if (likely(header_bytes == TCP_HEADER_BYTES + TCP_TIMESTAMP_BYTES &&
		   load32(at + TCP_HEADER_BYTES) == TCP_TIMESTAMP_WORD)) {
		header->options.has = TCP_HAS_TIMESTAMP;
		header->options.ts_value = load32(at + TCP_HEADER_BYTES + 4);
		header->options.ts_echo = load32(at + TCP_HEADER_BYTES + 8);
	} else {
		header->options.has = 0;
		header->options.ts_value = 0; /* has says that it means nothing */
		if (unlikely(header_bytes != TCP_HEADER_BYTES))
			tcp_parse_options(at + TCP_HEADER_BYTES, header_bytes - TCP_HEADER_BYTES,
					  header);
	}
	c->at = at + header_bytes;
	return DROP_NONE;
}

/* Bytes of options other than a timestamp alone, and their writing. */
uint32_t tcp_options_bytes(const struct tcp_options *options);
void tcp_write_options(uint8_t *at, const struct tcp_options *options);

/* Bytes that tcp_write writes: TCP_HEADER_BYTES and the options, padded to a multiple of 4. */
static inline uint32_t tcp_header_bytes(const struct tcp_options *options)
{
	if (likely(options->has == TCP_HAS_TIMESTAMP))
		return TCP_HEADER_BYTES + TCP_TIMESTAMP_BYTES;
	if (likely(options->has == 0))
		return TCP_HEADER_BYTES;
	return TCP_HEADER_BYTES + tcp_options_bytes(options);
}

/* Writes header and options, checksum 0; returns its bytes.  Options in the order of Linux: on SYN
 * mss, then sackOK with timestamp (or NOP NOP sackOK), NOP wscale; else NOP NOP timestamp, NOP NOP
 * sack.  As many SACK blocks as there is room for: three beside a timestamp. */
static inline uint32_t tcp_write(uint8_t *at, const struct tcp_header *header)
{
	uint32_t bytes = tcp_header_bytes(&header->options);

	store16(at, header->source);
	store16(at + 2, header->destination);
	store32(at + 4, header->seq);
	store32(at + 8, header->ack);
	at[12] = (uint8_t)(bytes / 4 << 4);
	at[13] = header->flags;
	store16(at + 14, header->window);
	store32(at + 16, 0); /* checksum and urgent pointer */
	if (likely(header->options.has == TCP_HAS_TIMESTAMP)) {
		store32(at + TCP_HEADER_BYTES, TCP_TIMESTAMP_WORD);
		store32(at + TCP_HEADER_BYTES + 4, header->options.ts_value);
		store32(at + TCP_HEADER_BYTES + 8, header->options.ts_echo);
	} else if (unlikely(header->options.has)) {
		tcp_write_options(at + TCP_HEADER_BYTES, &header->options);
	}
	return bytes;
}
