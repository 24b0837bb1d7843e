/* SPDX-License-Identifier: MIT
 * tests/packet/frame.h - packets as bytes, independent of the stack's own code for them: built,
 * taken apart, and shown in the syntax of scripts.
 *
 * Addresses are 16 bytes, IPv4 mapped.  A live packet holds what an Ethernet frame carries.
 */
#pragma once

#include "packet/script.h"

#include "base/address.h"

#define LIVE_BYTES_MAX 65600

enum { LIVE_FIN = 1, LIVE_SYN = 2, LIVE_RST = 4, LIVE_PSH = 8, LIVE_ACK = 16, LIVE_URG = 32 };

struct live_packet {
	uint64_t at_ns;
	struct live_packet *next;
	bool v6;
	struct ip_address from;
	struct ip_address to;
	uint8_t tos;
	uint8_t ttl;
	uint8_t protocol;
	enum packet_kind kind;
	const char *wrong; /* what is malformed; NULL: nothing */
	uint16_t from_port;
	uint16_t to_port;
	uint32_t seq;
	uint32_t ack;
	uint8_t flags;
	uint16_t window;
	uint16_t urgent;
	const uint8_t *options;
	uint32_t options_bytes;
	uint8_t icmp_type;
	uint8_t icmp_code;
	uint32_t icmp_rest;
	const uint8_t *payload; /* of TCP and UDP; behind ICMP's header */
	uint32_t payload_bytes;
	uint32_t fragment; /* of several that were put together: the first one's payload */
	uint32_t length;
	uint8_t bytes[]; /* from the IP header on */
};

/* A packet from its IP header on; NULL: not TCP, UDP or an ICMP message that scripts tell of
 * (neighbour discovery is none).  Freed by free(). */
struct live_packet *live_parse(const uint8_t *bytes, uint32_t length);

/* What a packet is built from. */
struct frame_spec {
	struct ip_address from;
	struct ip_address to;
	uint8_t tos;
	uint8_t ttl;
	uint8_t protocol;
	bool bad_checksum;
	uint32_t header_bytes; /* of the transport header, which stands at bytes */
	uint32_t length;       /* header and payload */
	uint8_t bytes[LIVE_BYTES_MAX];
};

/* Writes IP header and transport checksum; returns the length, at most LIVE_BYTES_MAX + 40. */
uint32_t frame_build(struct frame_spec *spec, uint8_t *out);

void put16(uint8_t *at, uint32_t value);
void put32(uint8_t *at, uint32_t value);
uint16_t get16(const uint8_t *at);
uint32_t get32(const uint8_t *at);

/* The byte of a stream at an offset: what the runner sends in both directions and checks. */
uint8_t frame_pattern(uint64_t offset);

/* Options as a script has them, sequence numbers less seq_base and timestamps less ts_base. */
void options_show(const uint8_t *options, uint32_t bytes, uint32_t ts_base, uint32_t echo_base,
		  uint32_t sack_base, char *out, size_t out_bytes);
/* A specified packet's options as bytes, padded to whole words; returns how many. */
uint32_t options_build(const struct packet_spec *spec, uint32_t ts_base, uint32_t echo_base,
		       uint32_t sack_base, uint8_t out[SCRIPT_OPTIONS_MAX]);
