/* SPDX-License-Identifier: MIT
 * net/wire/tcp.h - TCP headers and options (RFC 9293 3.1 and 3.2, RFC 7323, RFC 2018).
 */
#pragma once

#include "base/counters.h"
#include "net/wire/cursor.h"
#include "net/wire/ip.h"

#include <stdbool.h>
#include <stdint.h>

#define TCP_HEADER_BYTES      20
#define TCP_OPTIONS_MAX       40
#define TCP_CHECKSUM_OFFSET   16
#define TCP_SACK_BLOCKS_MAX   4
#define TCP_TIMESTAMP_BYTES   12 /* with two NOPs in front */
#define TCP_WINDOW_SCALE_MAX  14

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

/* Verifies data offset and checksum (unless packet->checked); the cursor then stands at the data.
 * Options that are malformed end the parse of options and are ignored (MUST-7: any length is
 * survived); of two of a kind the last counts; wscale above 14 counts as 14 (RFC 7323 2.3). The common
 * case, NOP NOP timestamp and nothing else, takes a short path. */
enum drop tcp_parse(struct cursor *c, const struct ip_packet *packet, struct tcp_header *header);

/* Bytes that tcp_write writes: TCP_HEADER_BYTES and the options, padded to a multiple of 4. */
uint32_t tcp_header_bytes(const struct tcp_options *options);

/* Writes header and options, checksum 0; returns its bytes.  Options in the order of Linux: on SYN
 * mss, then sackOK with timestamp (or NOP NOP sackOK), NOP wscale; else NOP NOP timestamp, NOP NOP
 * sack. */
uint32_t tcp_write(uint8_t *at, const struct tcp_header *header);
