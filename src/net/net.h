/* SPDX-License-Identifier: MIT
 * net/net.h - the inet stack of an instance: what its parts share.
 *
 * Input: net_input takes a frame from a device through ether, ip, and one of icmp, udp, tcp.
 * Whoever a function hands a frame to owns it then and frees it; net_drop counts why.  Output: a
 * transport builds its header behind FRAME_HEADROOM, ip_output puts the lower headers in front and
 * net_transmit collects a burst for the device.
 *
 * Everything is a function of (state, event, sched->now_ns): no clock, no system call.
 */
#pragma once

#include "base/address.h"
#include "net/neighbour.h"
#include "net/own.h"
#include "net/slaac.h"
#include "net/wire/ether.h"
#include "net/wire/ip.h"
#include "netdev/netdev.h"
#include "sched/sched.h"

#include <stdbool.h>
#include <stdint.h>

struct tcp_conn;
struct udp;
struct tcp;
struct icmp;
struct groups;
struct pmtu;
struct reassembly;

#define NET_LOOP_MAX    256 /* packets to ourselves that wait for the next poll */
#define NET_TX_MAX      256 /* frames that wait for the device */
#define NET_TX_DOORBELL 32  /* pending frames that are put out at once */

struct net_interface_address {
	struct ip_address address;
	uint32_t prefix; /* bits, 96 + n for IPv4 */
	uint8_t on_link; /* bits of those that are on the link with it */
	uint8_t state;   /* enum own_state */
};

/* An IPv4 address of ours, for quick comparison: network order. */
struct net_v4 {
	uint32_t address;
	uint32_t broadcast; /* of its prefix; 255.255.255.255 if that has none */
};

struct net {
	struct sched *sched;
	struct netdev *dev;
	struct heap *heap;
	uint8_t mac[6];
	uint16_t vlan; /* id of the virtual LAN that we speak on; 0: none */
	uint32_t mtu;  /* of IP packets */
	/* Made from own at each change: those in use, then those that are tentative. */
	uint32_t num_addresses; /* in use */
	uint32_t num_known;     /* in use or tentative */
	struct net_interface_address addresses[OWN_MAX];
	uint32_t num_v4; /* in use */
	struct net_v4 v4[OWN_CONFIGURED_MAX];
	struct ip_address gateway[2]; /* IPv4, IPv6; any: none */
	uint64_t secret[2];           /* SipHash key of sequence numbers, ports and tables */
	uint64_t random_counter;
	uint32_t fragmented; /* datagrams that were sent in fragments */
	bool frames_short;   /* under a quarter of the frames are free: payload is copied out */
	uint32_t frame_countdown; /* received frames until free ones are counted again */
	/* Flags of a received frame that say that its TCP or UDP checksum is good: FRAME_CHECKED,
	 * or 0 if the device is not to be believed. */
	uint8_t tcp_checksums;
	uint8_t udp_checksums;
	bool tcp_checksum_offload; /* the device completes those that are sent */
	bool udp_checksum_offload;

	struct frame *tx[NET_TX_MAX];
	uint32_t tx_count;
	/* To ourselves: data at the IP header, oldest first. */
	struct frame *loop_head;
	struct frame *loop_last;
	uint32_t loop_count;

	struct own_table own;
	struct slaac slaac;
	struct neighbour_table neighbours;
	struct udp *udp;
	struct tcp *tcp;
	struct icmp *icmp;
	struct groups *groups;
	struct pmtu *pmtu; /* NULL while no path is known to be narrower than the link */
	struct reassembly *reassembly; /* NULL while no fragment waits */
	/* Enters an accepted connection into the descriptor table: the descriptor or -errno. */
	int32_t (*adopt)(void *owner, struct tcp_conn *conn);
	void *owner;
};

/* ---- net.c ---- */

/* Reads addresses, prefixes, gateways and the rest from sched->config, gives the heap its frames
 * and starts the device, which stays the caller's.  0 or -errno, told to the log. */
int net_open(struct net *net, struct sched *sched, struct netdev *dev);
/* All queues are closed. */
void net_close(struct net *net);

/* Asserts the invariants of everything below and beside TCP. */
void net_check(struct net *net);

/* Receives one burst, and puts out what must go at once.  Returns how much happened. */
uint32_t net_poll(struct net *net);
/* Puts out what was pushed and what is owed: connections that have something to send, then frames.
 */
void net_flush(struct net *net);

/* Is anything waiting to go out, or looping back?  Then the instance must not sleep. */
static inline bool net_pending(const struct net *net)
{
	return net->tx_count > 0 || net->loop_count > 0;
}

/* Frees a received frame, counting why. */
void net_drop(struct net *net, struct frame *frame, enum drop reason);

static inline void net_count_drop(struct net *net, enum drop reason)
{
	net->sched->counters.drops[reason]++;
}

/* Gives the device the frames that wait; what it has no room for stays. */
void net_put_out(struct net *net);

/* Hands a frame to the device in the next burst; it is the net's. Something must go out: the next
 * wait puts it out, or this call does when NET_TX_DOORBELL frames are waiting. */
static inline void net_transmit(struct net *net, struct frame *frame)
{
	if (unlikely(net->tx_count == NET_TX_MAX)) {
		net_count_drop(net, DROP_TX_FULL);
		frame_free(net->heap, frame);
		return;
	}
	net->tx[net->tx_count++] = frame;
	net->sched->output_pending++;
	if (unlikely(net->tx_count % NET_TX_DOORBELL == 0))
		net_put_out(net);
}

/* Is it one of ours, and in use? */
bool net_is_local(const struct net *net, const struct ip_address *address);
/* The address of ours to speak to another from (RFC 6724 5): of its scope, rather preferred than
 * deprecated or optimistic, on its prefix; else the first of its family; NULL: we have none of that
 * family. */
const struct ip_address *net_source_for(const struct net *net, const struct ip_address *to);

/* Unpredictable to peers: SipHash of a counter under the secret. */
uint64_t net_random(struct net *net);

/* Are our addresses the kernel's too (netdev.h)?  Then it answers for them. */
static inline bool net_is_shared(const struct net *net)
{
	return net->dev->num_ports > 0;
}

/* Is this one?  Link-local ones are ours alone. */
static inline bool net_shares(const struct net *net, const struct ip_address *address)
{
	return net_is_shared(net) && !ip_is_link_local(address);
}

/* port.c: local ports.  May a socket be bound to it? */
bool net_port_is_ours(const struct net *net, uint8_t protocol, uint16_t port);
/* How many there are to choose from; the nth of them, n < count. */
uint32_t net_port_count(const struct net *net, uint8_t protocol);
uint16_t net_port_choice(const struct net *net, uint8_t protocol, uint32_t n);
/* Does what the remote end sends come to this instance? */
bool net_is_answered(const struct net *net, const struct netdev_flow *flow);

/* ---- config.c ---- */

/* Fills addresses, gateways, mac and mtu.  0 or -EINVAL, told to the log. */
int net_configure(struct net *net);
/* Enters the static neighbours of the configuration. */
int net_configure_neighbours(struct net *net);

/* ---- ether.c, ip.c ---- */

/* The whole input of one frame. */
void net_input(struct net *net, struct frame *frame);

/* The same with a tag of the virtual LAN. */
void ether_output_tagged(struct net *net, struct frame *frame, const uint8_t mac[6], uint16_t type);

/* Puts an Ethernet header in front and transmits. */
static inline void ether_output(struct net *net, struct frame *frame, const uint8_t mac[6],
				uint16_t type)
{
	if (unlikely(net->vlan)) {
		ether_output_tagged(net, frame, mac, type);
		return;
	}
	ether_write(frame_prepend(frame, ETHER_HEADER_BYTES), mac, net->mac, type);
	frame->transport_offset += ETHER_HEADER_BYTES;
	net_transmit(net, frame);
}

/* Input of a frame from the link whose IP header the cursor is at; broadcast: to a link-layer
 * group. */
void ip_input_v4(struct net *net, struct frame *frame, struct cursor *c, bool broadcast);
void ip_input_v6(struct net *net, struct frame *frame, struct cursor *c, bool broadcast);
/* Input of a datagram put together from fragments: data at the IP header; broadcast: one of them
 * was to a group. */
void ip_input_reassembled(struct net *net, struct frame *frame, bool broadcast);
/* Takes in the packets to ourselves that wait; returns how many. */
uint32_t ip_input_looped(struct net *net);

/* A cache of the way to a peer, zeroed at first; belongs to whoever sends there often. */
struct ip_path {
	struct neighbour *neighbour;
	uint32_t generation;
	uint32_t flow_label; /* IPv6 */
};

/* The peer of a path gets our packets. */
static inline void ip_path_confirm(struct net *net, const struct ip_path *path)
{
	if (path->neighbour && path->neighbour->generation == path->generation)
		neighbour_confirm(net, path->neighbour);
}

/* What an IP header says. */
struct ip_send {
	const struct ip_address *from;
	const struct ip_address *to;
	uint32_t flow_label;
	uint8_t protocol;
	uint8_t ttl;
	uint8_t tos;
	uint16_t fragment; /* IPv4: flags and offset of a fragment; 0: it is none */
	uint32_t id;       /* of the datagram that it is a fragment of */
};

/* Puts an IP header in front of a frame. */
void ip_prepend(struct frame *frame, const struct ip_send *send);

/* Is it a broadcast address of a prefix of ours, or everybody's? */
bool ip_is_broadcast(const struct net *net, const struct ip_address *address);
/* Is it that or a multicast address? */
bool ip_is_group(const struct net *net, const struct ip_address *address);

/* A copy of what is sent to a group comes back to us in the next poll; as ip_output, but the frame
 * stays the caller's. */
void ip_loop_copy(struct net *net, const struct frame *frame, const struct ip_send *send);

/* Is there a way to an address? */
bool ip_has_route(const struct net *net, const struct ip_address *to);

/* Sends frame, whose data is at the transport header (checksum done, or FRAME_CHECKSUM with offsets
 * relative to that header's start).  Headers for both families fit the headroom. path: a cache, or
 * NULL; good for one from and to.  0, or -ENETUNREACH (no route), -EHOSTUNREACH (a neighbour that
 * does not answer), -EADDRNOTAVAIL (from is not ours, not yet or not any more), with the frame
 * freed and counted.  A frame may wait for its neighbour; if that fails later,
 * neighbour_unreachable is told. */
int ip_output(struct net *net, struct frame *frame, const struct ip_address *from,
	      const struct ip_address *to, uint8_t protocol, uint8_t ttl, uint8_t tos,
	      struct ip_path *path);

/* As ip_output, for a fragment: data is at what was fragmented, or at IPv6's fragment header. */
int ip_output_fragment(struct net *net, struct frame *frame, struct ip_send *send);

/* pmtu.c: the same, while some paths are narrower. */
uint32_t pmtu_known(const struct net *net, const struct ip_address *to);

/* The largest packet that is known to get to an address: as the link's, unless something said
 * otherwise. */
static inline uint32_t path_mtu(const struct net *net, const struct ip_address *to)
{
	return unlikely(net->pmtu != NULL) ? pmtu_known(net, to) : net->mtu;
}

static inline uint32_t ip_header_bytes(const struct ip_address *to)
{
	return ip_is_v4(to) ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
}

/* Bytes of payload a transport can send to an address in one packet: over the path to it; over the
 * link, which is what may be received. */
static inline uint32_t ip_payload_max(const struct net *net, const struct ip_address *to)
{
	return path_mtu(net, to) - ip_header_bytes(to);
}

static inline uint32_t ip_link_payload_max(const struct net *net, const struct ip_address *to)
{
	return net->mtu - ip_header_bytes(to);
}

/* ---- fragment.c ---- */

/* As ip_output, for a datagram of any size whose frame is in one piece: in fragments if it does not
 * fit one packet, then with its checksum done.  -ENOMEM: none or not all of them went out. */
/* NOLINTNEXTLINE(readability-function-size): as ip_output */
int ip_output_datagram(struct net *net, struct frame *frame, const struct ip_address *from,
		       const struct ip_address *to, uint8_t protocol, uint8_t ttl, uint8_t tos,
		       struct ip_path *path);

/* The id of the next datagram of IPv4 that goes out in fragments. */
uint16_t fragment_next_id_v4(struct net *net);

#define IP_DEFAULT_TTL 64

/* ---- icmp.c ---- */

int icmp_open(struct net *net);
void icmp_close(struct net *net);
void icmp_input(struct net *net, struct frame *frame, const struct ip_packet *packet);
void icmpv6_input(struct net *net, struct frame *frame, const struct ip_packet *packet);
/* Port unreachable for a packet that nobody wanted; rate-limited, not to multicasts (RFC 1122
 * 3.2.2).  The frame stays the caller's. */
void icmp_port_unreachable(struct net *net, const struct ip_packet *packet);
/* The same for a protocol that is not spoken here. */
void icmp_protocol_unreachable(struct net *net, const struct ip_packet *packet);
/* Not all fragments came in time: about the first of them. */
void icmp_reassembly_timeout(struct net *net, const struct ip_packet *packet);
/* A parameter problem of IPv6. */
void icmpv6_parameter_problem(struct net *net, const struct ip_packet *packet,
			      const struct ip_problem *problem);

/* ---- what icmp.c and neighbour.c tell the transports ---- */

/* An ICMP error about a packet of ours: err is a positive errno (ECONNREFUSED, EHOSTUNREACH,
 * ENETUNREACH, ENOPROTOOPT, EMSGSIZE, ETIMEDOUT...), hard if RFC 1122 4.2.3.9 calls it so; mtu of a
 * too-big message, which is EMSGSIZE (0: the router does not say). */
struct icmp_error {
	int err;
	bool hard;
	bool local; /* no message came: our own neighbour does not answer */
	uint32_t mtu;
};

struct icmp_quote;
void udp_icmp_error(struct net *net, const struct icmp_quote *quote,
		    const struct icmp_error *error);
void tcp_icmp_error(struct net *net, const struct icmp_quote *quote,
		    const struct icmp_error *error);
/* An address of ours is another station's: connections end with EADDRNOTAVAIL, their peers by a
 * reset if that can still be sent. */
void tcp_address_lost(struct net *net, const struct ip_address *address);

/* ---- transports ---- */

int tcp_open(struct net *net);
void tcp_close(struct net *net);
/* Sends what connections owe. */
void tcp_flush(struct net *net);

/* Both take the frame. */
void tcp_input(struct net *net, struct frame *frame, const struct ip_packet *packet);
void udp_input(struct net *net, struct frame *frame, const struct ip_packet *packet);
