/* SPDX-License-Identifier: MIT
 * net/net.c - the stack's life, its bursts, its addresses and its chance.
 *
 * Frames in tx are ours until the device takes them.  While some wait, sched->output_pending is not
 * 0.
 */
#include "net/net.h"

#include "net/group.h"
#include "net/pmtu.h"
#include "net/reassembly.h"
#include "net/siphash.h"
#include "net/udp.h"

#include <errno.h>
#include <string.h>

#define FRAMES_COUNTED 64 /* received frames between two counts of the free ones */

/* ---- output ---- */

void net_put_out(struct net *net)
{
	uint32_t done = 0;

	while (done < net->tx_count) {
		uint32_t burst = net->tx_count - done;
		if (burst > NETDEV_BURST)
			burst = NETDEV_BURST;
		uint32_t taken = net->dev->ops->tx_burst(net->dev, net->tx + done, burst);
		done += taken;
		if (taken < burst)
			break;
	}
	net->tx_count -= done;
	if (unlikely(net->tx_count > 0)) {
		memmove(net->tx, net->tx + done, net->tx_count * sizeof(*net->tx));
		net->sched->output_pending++;
	}
}

void net_flush(struct net *net)
{
	tcp_flush(net);
	net_put_out(net);
}

/* ---- input ---- */

void net_drop(struct net *net, struct frame *frame, enum drop reason)
{
	net_count_drop(net, reason);
	if (unlikely(net->dev->dropped))
		net->dev->dropped(net->dev, frame, reason);
	frame_free(net->heap, frame);
}

static void count_frames(struct net *net)
{
	net->frame_countdown = FRAMES_COUNTED;
	net->frames_short = heap_frames_left(net->heap) < heap_frames_max(net->heap) / 4;
}

static inline void take_in(struct net *net, struct frame **frames, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (i + 1 < count)
			__builtin_prefetch(frames[i + 1]->data);
		net_input(net, frames[i]);
	}
	if (net->frame_countdown <= count)
		count_frames(net);
	else
		net->frame_countdown -= count;
}

uint32_t net_poll(struct net *net)
{
	struct frame *frames[NETDEV_BURST];
	uint32_t count = net->dev->ops->rx_burst(net->dev, frames, NETDEV_BURST);

	take_in(net, frames, count);
	if (unlikely(net->loop_count > 0))
		count += ip_input_looped(net);
	if (net->tx_count > 0)
		net_put_out(net);
	return count;
}

/* ---- addresses ---- */

bool net_is_local(const struct net *net, const struct ip_address *address)
{
	for (uint32_t i = 0; i < net->num_addresses; i++) {
		if (ip_equal(&net->addresses[i].address, address))
			return true;
	}
	return false;
}

/* RFC 6724 5: rules 2 (scope), 3 (no deprecated one) and 8 (the prefix), in this order. */
static uint32_t source_rank(const struct net_interface_address *own, bool near)
{
	bool wide = ip_is_v4(&own->address) || !ip_is_link_local(&own->address);

	return (wide || near ? 8U : 0U) + (own->state == OWN_PREFERRED ? 4U : 0U) +
	       (own->state == OWN_TENTATIVE ? 0U : 2U) + near;
}

const struct ip_address *net_source_for(const struct net *net, const struct ip_address *to)
{
	const struct ip_address *best = NULL;
	uint32_t best_rank = 0;
	bool v4 = ip_is_v4(to);
	/* Multicasts that do not leave the link are spoken to as link-local hosts are. */
	bool link_scope = !v4 && (ip_is_link_local(to) ||
				  (to->bytes[0] == 0xff && (to->bytes[1] & 0x0f) <= 2));

	for (uint32_t i = 0; i < net->num_known; i++) {
		const struct net_interface_address *own = &net->addresses[i];
		if (ip_is_v4(&own->address) != v4)
			continue;
		bool near = ip_same_prefix(&own->address, to, own->prefix) ||
			    (link_scope && ip_is_link_local(&own->address));
		if (likely(near && own->state == OWN_PREFERRED))
			return &own->address;
		uint32_t rank = source_rank(own, near);
		if (!best || rank > best_rank) {
			best = &own->address;
			best_rank = rank;
		}
	}
	return best;
}

uint64_t net_random(struct net *net)
{
	net->random_counter++;
	return siphash_2_4(net->secret, &net->random_counter, sizeof(net->random_counter));
}

/* ---- life ---- */

static void set_offloads(struct net *net)
{
	const struct config *config = &net->sched->config;
	bool out = net->dev->offloads & NETDEV_TX_CHECKSUM;
	bool in = net->dev->offloads & NETDEV_RX_CHECKSUM;

	net->tcp_checksums = in && config->tcp_checksum_offload ? FRAME_CHECKED : 0;
	net->udp_checksums = in && config->udp_checksum_offload ? FRAME_CHECKED : 0;
	net->tcp_checksum_offload = out && config->tcp_checksum_offload;
	net->udp_checksum_offload = out && config->udp_checksum_offload;
}

static int open_parts(struct net *net)
{
	int err = neighbour_open(net);

	if (!err)
		err = icmp_open(net);
	if (!err)
		err = group_open(net);
	if (!err)
		err = udp_open(net);
	if (!err)
		err = tcp_open(net);
	if (!err)
		err = net_configure_neighbours(net);
	return err;
}

int net_open(struct net *net, struct sched *sched, struct netdev *dev)
{
	int32_t (*adopt)(void *owner, struct tcp_conn *conn) = net->adopt;
	void *owner = net->owner;

	*net = (struct net){
		.sched = sched,
		.dev = dev,
		.heap = sched->heap,
		.secret = {sched->world.secret[0], sched->world.secret[1]},
		.frame_countdown = FRAMES_COUNTED,
		.adopt = adopt,
		.owner = owner,
	};
	set_offloads(net);
	slaac_open(net);
	int err = net_configure(net);
	if (err)
		return err;
	if (net->heap->frame_bytes == 0) /* else the device's frames are its own */
		heap_set_frames(net->heap, frame_object_bytes(dev->mtu),
				(uint32_t)sched->config.frames_max);
	err = open_parts(net);
	if (!err)
		err = dev->ops->start(dev);
	if (!err)
		err = own_start(net);
	if (!err)
		err = slaac_start(net);
	if (err)
		net_close(net);
	return err;
}

void net_check(struct net *net)
{
	uint32_t looping = 0;

	ASSERT(net->tx_count <= NET_TX_MAX);
	ASSERT(net->tx_count == 0 || net->sched->output_pending > 0);
	for (const struct frame *frame = net->loop_head; frame; frame = frame->next) {
		ASSERT(frame->num_segments == 0);
		looping++;
	}
	ASSERT(looping == net->loop_count && looping <= NET_LOOP_MAX);
	own_check(net);
	slaac_check(net);
	neighbour_check(net);
	group_check(net);
	pmtu_check(net);
	reassembly_check(net);
	udp_check(net);
}

void net_close(struct net *net)
{
	if (net->tcp)
		tcp_close(net);
	if (net->udp)
		udp_close(net);
	if (net->groups)
		group_close(net);
	if (net->icmp)
		icmp_close(net);
	net_put_out(net); /* resets of connections */
	reassembly_close(net);
	pmtu_close(net);
	slaac_close(net);
	own_close(net);
	neighbour_close(net);
	for (struct frame *frame = net->loop_head, *next; frame; frame = next) {
		next = frame->next;
		frame_free(net->heap, frame);
	}
	net->loop_head = NULL;
	net->loop_count = 0;
	for (uint32_t i = 0; i < net->tx_count; i++)
		frame_free(net->heap, net->tx[i]);
	net->tx_count = 0;
}
