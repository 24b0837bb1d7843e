/* SPDX-License-Identifier: MIT
 * tools/demi/segment.h - frames of ARP, TCP and UDP over IPv4, written and read without a stack:
 * what the generator of `demi bench echo` needs, and no more (no options but those of a SYN, no
 * fragments, checksums written and not verified).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SEGMENT_HEADER  54 /* bytes in front of TCP's payload: Ethernet, IPv4, TCP */
#define SEGMENT_OPTIONS 8  /* of a SYN */
#define DATAGRAM_HEADER 42 /* in front of UDP's payload */
#define ARP_FRAME_BYTES 42
#define SEGMENT_MSS     1460
#define SEGMENT_SHIFT   7 /* of our window */

enum { SEGMENT_FIN = 1, SEGMENT_SYN = 2, SEGMENT_RST = 4, SEGMENT_PSH = 8, SEGMENT_ACK = 16 };

/* Both ends of all frames; addresses in host order. */
struct ends {
	uint8_t our_mac[6], their_mac[6];
	uint32_t ours, theirs;
};

struct segment {
	uint16_t our_port, their_port;
	uint32_t seq, ack; /* TCP */
	uint8_t flags;
	uint32_t window; /* as the header says, not scaled */
	uint16_t mss;    /* of a SYN that was read; 0: not said */
	uint8_t shift;
	const uint8_t *payload;
	uint32_t length;
};

/* Is it one for us?  payload points into the frame. */
bool segment_read(const struct ends *ends, const uint8_t *frame, uint32_t length,
		  struct segment *out);
bool datagram_read(const struct ends *ends, const uint8_t *frame, uint32_t length,
		   struct segment *out);

/* Write a whole frame, which has SEGMENT_HEADER (SYN: and SEGMENT_OPTIONS), or DATAGRAM_HEADER, and
 * length bytes.  payload may be where it belongs already. */
void segment_write(const struct ends *ends, uint8_t *frame, const struct segment *segment);
void datagram_write(const struct ends *ends, uint8_t *frame, const struct segment *segment);

/* Asks for their_mac; answers, if reply, who asked for ours. */
void arp_write(const struct ends *ends, uint8_t *frame, bool reply);

enum arp_kind { ARP_NONE, ARP_ASKED, ARP_TOLD };

/* Asked for our address; or told of theirs: their_mac is filled.  None: neither. */
enum arp_kind arp_read(struct ends *ends, const uint8_t *frame, uint32_t length);
