/* SPDX-License-Identifier: MIT
 * net/fragment.c - datagrams that are larger than a packet go out in fragments (RFC 791 3.2, RFC
 * 8200 4.5): UDP's and the answers to large echoes.  TCP makes none.
 *
 * Each fragment is a frame of its own that holds a copy; the whole is freed here.
 */
#include "net/net.h"
#include "net/siphash.h"

#include <errno.h>
#include <string.h>

#define ID_ROUNDS 4

/* RFC 6864 4.3 MUST, RFC 7739 4: the next of the ids of IPv4, none of which comes again before all
 * others were used, and which nobody can guess: a permutation of a counter (a Feistel network). */
uint16_t fragment_next_id_v4(struct net *net)
{
	uint32_t id = net->fragmented++ & 0xffff;

	for (uint64_t round = 1; round <= ID_ROUNDS; round++) {
		const uint64_t input[2] = {round << 32 | (id & 0xff), 0x69642e76347c6964};
		uint32_t mixed = (uint32_t)siphash_2_4(net->secret, input, sizeof(input)) & 0xff;
		id = (id & 0xff) << 8 | ((id >> 8) ^ mixed);
	}
	return (uint16_t)id;
}

/* RFC 7739 5.2: of IPv6's 32 bits, random ones */
static uint32_t next_id(struct net *net, bool v4)
{
	return v4 ? fragment_next_id_v4(net) : (uint32_t)net_random(net);
}

/* One fragment; length bytes from offset of what whole holds. */
static int send_part(struct net *net, const struct frame *whole, const struct ip_send *send,
		     uint32_t offset, uint32_t length)
{
	bool v4 = ip_is_v4(send->to);
	uint32_t header = v4 ? 0 : IPV6_FRAGMENT_BYTES;
	bool more = offset + length < whole->length;
	struct ip_send part = *send;
	struct frame *frame = frame_alloc_tx(net->heap, header + length);

	if (unlikely(!frame)) {
		net_count_drop(net, DROP_TX_MEMORY);
		return -ENOMEM;
	}
	if (v4) {
		part.fragment = (uint16_t)(offset / 8 | (more ? IPV4_MORE_FRAGMENTS : 0));
	} else {
		ipv6_write_fragment(frame->data, send->protocol, offset, more, send->id);
		part.protocol = IP_FRAGMENT;
	}
	memcpy(frame->data + header, whole->data + offset, length);
	frame->length = header + length;
	sched_count(net->sched, COUNTER_IP_FRAGMENTS_OUT, 1);
	return ip_output_fragment(net, frame, &part);
}

/* NOLINTNEXTLINE(readability-function-size): as ip_output */
int ip_output_datagram(struct net *net, struct frame *frame, const struct ip_address *from,
		       const struct ip_address *to, uint8_t protocol, uint8_t ttl, uint8_t tos,
		       struct ip_path *path)
{
	bool v4 = ip_is_v4(to);
	uint32_t max = ip_payload_max(net, to);
	uint32_t length = frame->length;
	int err = 0;

	if (likely(frame_bytes(frame) <= max) || net_is_local(net, to))
		return ip_output(net, frame, from, to, protocol, ttl, tos, path);
	ASSERT(frame->num_segments == 0 && !(frame->flags & FRAME_CHECKSUM));
	const struct ip_send send = {
		.from = from,
		.to = to,
		.protocol = protocol,
		.ttl = ttl,
		.tos = tos,
		.id = next_id(net, v4),
	};
	if (!v4)
		max -= IPV6_FRAGMENT_BYTES;
	max &= ~7U;
	for (uint32_t offset = 0; offset < length && !err; offset += max)
		err = send_part(net, frame, &send, offset,
				length - offset < max ? length - offset : max);
	frame_free(net->heap, frame);
	return err;
}
