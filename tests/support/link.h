/* SPDX-License-Identifier: MIT
 * tests/support/link.h - an inet stack below TCP whose link is the test: a network device that
 * records what is sent and receives what the test makes up, on the clock of a rig.
 *
 * A test that uses it has `'wrap': tcp_calls` in tests/meson.build: TCP is not there, what it is
 * told is recorded.  Everything asserts.
 *
 * The stack is 10.0.0.2/24 and fd00::2/64 with LINK_MAC unless the test's configuration says
 * otherwise; its peer on the link has the MAC link_peer_mac.
 */
#pragma once

#include "support/test.h"

#include "net/net.h"
#include "net/udp.h"
#include "net/wire/icmp.h"
#include "support/rig.h"

#include <stdbool.h>
#include <stdio.h>

#define LINK_FRAME_BYTES 2048
#define LINK_SENT_MAX    1024
#define LINK_ARRIVE_MAX  64
#define LINK_STEERS_MAX  64
#define LINK_SECOND      1000000000ULL

struct link_frame {
	uint32_t length;
	uint8_t flags;
	uint8_t num_segments;
	uint8_t bytes[LINK_FRAME_BYTES];
};

/* What TCP was told last, and how often. */
struct link_tcp {
	uint32_t packets;
	struct ip_address from;
	struct ip_address to;
	uint32_t length;
	uint8_t tos;
	bool checked;
	uint8_t bytes[65536]; /* of the packet behind its IP headers */
	uint32_t errors;
	struct icmp_quote quote;
	struct icmp_error error;
	uint32_t lost; /* addresses, and the last of them */
	struct ip_address lost_address;
	uint32_t flushes;
};

/* What the device was told to let through, or no longer. */
struct link_steer {
	struct ip_address address;
	bool wanted;
};

struct link {
	struct rig rig;
	struct netdev dev;
	struct net net;
	uint32_t room; /* frames that the device takes until the test gives it more */
	bool started;
	struct frame *arriving[LINK_ARRIVE_MAX];
	uint32_t num_arriving;
	struct link_frame sent[LINK_SENT_MAX];
	uint32_t num_sent;
	uint32_t num_taken;
	struct link_steer steers[LINK_STEERS_MAX];
	uint32_t num_steers; /* since link_open, or the last link_steered */
	int steer_err;       /* what the device says to that */
	uint16_t nth_of;     /* not 0: only flows of every so manyth local port come back here */
	enum drop dropped;   /* the last reason the device was told */
	char log[1024];      /* the last line */
	struct link_tcp tcp;
};

extern const uint8_t link_mac[6];
extern const uint8_t link_peer_mac[6];

/* configure: changes the configuration before the stack is opened; NULL: nothing to change. Returns
 * the result of net_open; link_open asserts 0 and takes the announcements away. */
int link_try_open(struct link **link_out, void (*configure)(struct link *link));
struct link *link_open(void (*configure)(struct link *link));
/* The heap holds nothing any more. */
void link_close(struct link *link);

/* Sets a string of the configuration. */
#define link_set(field, text) (void)snprintf(field, sizeof(field), "%s", text)

/* Moves the clock on and fires what is due, in steps of 5 ms. */
void link_wait(struct link *link, uint64_t ns);

/* ---- what the stack sent ---- */

/* The next frame that was not looked at; NULL: none. */
const struct link_frame *link_next(struct link *link);
/* There was none. */
void link_quiet(struct link *link);
/* Passes over what was sent. */
void link_forget(struct link *link);
uint64_t link_drops(const struct link *link, enum drop reason);

/* A sent packet, parsed and its checksums verified. */
struct link_packet {
	struct ip_packet ip;
	uint8_t to_mac[6];
	struct cursor c; /* over the transport header and data */
};

/* The next frame is an IP packet of this protocol. */
struct link_packet link_next_ip(struct link *link, uint8_t protocol);
/* An ICMP message of this type and code; the cursor stands behind its header. */
struct icmp_header link_next_icmp(struct link *link, uint8_t type, uint8_t code,
				  struct link_packet *packet);
/* A UDP datagram with this data. */
void link_next_udp(struct link *link, uint16_t source, uint16_t destination, const void *data,
		   uint32_t length);
/* An ARP packet. */
void link_next_arp(struct link *link, uint16_t operation, const char *target);

/* The device was told this, next. */
void link_steered(struct link *link, const char *address, bool wanted);
/* It was told no more. */
void link_not_steered(struct link *link);

/* ---- what arrives ---- */

/* A frame comes in, and the stack looks. */
void link_arrive(struct link *link, const void *bytes, uint32_t length);

/* A frame to be changed before it arrives. */
struct link_made {
	uint32_t length;
	uint8_t bytes[LINK_FRAME_BYTES];
};

/* From the peer to us, an IP packet between two addresses; data is its transport header and more.
 */
struct link_made link_make_ip(const char *from, const char *to, uint8_t protocol, const void *data,
			      uint32_t length);
struct link_made link_make_udp(const char *from, uint16_t source, const char *to,
			       uint16_t destination, const void *data, uint32_t length);
/* data: what stands behind the header. */
struct link_made link_make_icmp(const char *from, const char *to, const struct icmp_header *header,
				const void *data, uint32_t length);
/* A neighbour discovery message; type with message->has_mac. */
struct link_made link_make_nd(const char *from, const char *to, uint8_t type,
			      const struct nd_message *message);
void link_arrive_made(struct link *link, const struct link_made *made);
/* The same, by an ARP packet from the peer. */
void link_arrive_arp(struct link *link, uint16_t operation, const uint8_t mac[6],
		     const char *sender, const char *target);
/* Makes the peer's link-layer address of an address known: asks by a packet to it, and answers. */
void link_know(struct link *link, const char *address);
/* Writes an IPv4 header's checksum anew. */
void link_checksum_v4(struct link_made *made);

struct ip_address link_address(const char *text);
