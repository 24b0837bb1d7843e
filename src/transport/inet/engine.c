/* SPDX-License-Identifier: MIT
 * transport/inet/engine.c - the engine: a device, the stack above it, and the poller that runs
 * both.
 */
#include "transport/inet/inet.h"

#include "netdev/pcap/pcap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include <stdlib.h>
#include <string.h>

static struct inet_engine *engine_of(struct poller *poller)
{
	return container_of(poller, struct inet_engine, engine.poller);
}

static void inet_flush(struct poller *poller, uint32_t more)
{
	struct net *net = &engine_of(poller)->net;

	net_flush(net);
	if (more == 0 || (more == 1 && net->sched->coroutines.ready_count == 0))
		net->dev->ops->doorbell(net->dev);
}

static uint32_t inet_poll(struct poller *poller)
{
	return net_poll(&engine_of(poller)->net);
}

static int inet_arm(struct poller *poller)
{
	struct net *net = &engine_of(poller)->net;

	if (net->sched->output_pending || net_pending(net))
		return -EAGAIN;
	return net->dev->ops->arm(net->dev);
}

static void inet_disarm(struct poller *poller)
{
	struct net *net = &engine_of(poller)->net;

	net->dev->ops->disarm(net->dev);
}

static uint64_t inet_next_deadline(struct poller *poller)
{
	struct net *net = &engine_of(poller)->net;

	return net->dev->ops->next_deadline(net->dev);
}

static const struct poller_ops inet_poller = {
	.flush = inet_flush,
	.poll = inet_poll,
	.arm = inet_arm,
	.disarm = inet_disarm,
	.next_deadline = inet_next_deadline,
};

static int inet_open(struct sched *sched, struct engine **engine_out)
{
	struct netdev *dev = sched->world.netdev;
	int err = dev ? 0 : netdev_open(sched, &dev);

	if (err)
		return err;
	struct inet_engine *ie = calloc(1, sizeof(*ie));
	if (!ie) {
		dev->ops->close(dev);
		return -ENOMEM;
	}
	ie->engine.ops = &inet_engine;
	ie->engine.poller.ops = &inet_poller;
	ie->engine.sched = sched;
	ie->net.adopt = inet_adopt;
	ie->net.owner = ie;
	dev->sched = sched;
	err = net_open(&ie->net, sched, dev);
	if (err) {
		dev->ops->close(dev);
		free(ie);
		return err;
	}
	*engine_out = &ie->engine;
	return 0;
}

static void inet_close(struct engine *engine)
{
	struct inet_engine *ie = container_of(engine, struct inet_engine, engine);
	const struct sched *sched = engine->sched;
	uint32_t lingering = tcp_lingering(&ie->net);

	if (lingering > 0) {
		engine->sched->counters.drops[DROP_LINGER] += lingering;
		log_write(&sched->log, LOG_LEVEL_WARNING,
			  "%u closed connections had unsent data when the time to linger was over "
			  "(linger_ms: %lld)",
			  lingering, (long long)sched->config.linger_ms);
	}
	struct netdev *dev = ie->net.dev;
	net_flush(&ie->net); /* the ACK of a peer's FIN may be owed still */
	tcp_abort_all(&ie->net);
	net_flush(&ie->net);
	net_close(&ie->net);
	dev->ops->close(dev);
	free(ie);
}

static uint32_t inet_lingering(struct engine *engine)
{
	const struct net *net = &container_of(engine, struct inet_engine, engine)->net;

	return tcp_lingering(net) + neighbour_awaited(net) + (net->tx_count > 0);
}

/* Counts each connection, that of a listener too, under its state. */
static void describe_connections(const struct net *net, struct engine_info *info)
{
	static_assert(TCPS_TIME_WAIT < ENGINE_STATES_MAX, "a place for each state");
	info->num_states = TCPS_TIME_WAIT + 1;
	for (enum tcp_state state = TCPS_CLOSED; state <= TCPS_TIME_WAIT; state++)
		info->states[state].name = tcp_state_name(state);
	list_for_each (node, &net->tcp->all)
		info->states[container_of(node, struct tcp_conn, in_all)->state].count++;
}

static void address_text(const struct ip_address *a, char *out, uint32_t room)
{
	bool v4 = ip_is_v4(a);

	(void)inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a->bytes + 12 : a->bytes, out, room);
}

static int64_t seconds_left(const struct net *net, uint64_t until_ns)
{
	uint64_t now = net->sched->now_ns;

	if (until_ns == TIMER_NEVER)
		return -1;
	return until_ns > now ? (int64_t)((until_ns - now) / 1000000000U) : 0;
}

static void describe_addresses(const struct net *net, struct engine_info *info)
{
	static_assert(OWN_MAX <= ENGINE_ADDRESSES_MAX, "a place for each address");
	for (uint32_t i = 0; i < OWN_MAX; i++) {
		const struct own_address *own = &net->own.entries[i];
		char text[INET6_ADDRSTRLEN];
		if (own->state == OWN_FREE)
			continue;
		uint32_t n = info->num_addresses++;
		address_text(&own->address, text, sizeof(text));
		(void)snprintf(info->addresses[n].text, sizeof(info->addresses[n].text), "%s/%u",
			       text, own->prefix - (ip_is_v4(&own->address) ? 96 : 0));
		info->addresses[n].state = own_state_name((enum own_state)own->state);
		info->addresses[n].origin = own_origin_name((enum own_origin)own->origin);
		info->addresses[n].preferred_s = seconds_left(net, own->preferred_until_ns);
		info->addresses[n].valid_s = seconds_left(net, own->valid_until_ns);
	}
	for (int i = 0; i < 2; i++) {
		if (!ip_is_any(&net->gateway[i]))
			address_text(&net->gateway[i], info->routers[i], sizeof(info->routers[i]));
	}
}

static void inet_describe(struct engine *engine, struct engine_info *info)
{
	const struct net *net = &container_of(engine, struct inet_engine, engine)->net;
	const struct netdev *dev = net->dev;

	*info = (struct engine_info){
		.device = dev->ops->name,
		.mode = dev->mode,
		.mtu = net->mtu,
		.tx_checksum = dev->offloads & NETDEV_TX_CHECKSUM,
		.rx_checksum = dev->offloads & NETDEV_RX_CHECKSUM,
		.tx_cut_bytes = dev->cut_bytes,
		.lro = dev->offloads & NETDEV_LRO,
		.rss = dev->offloads & NETDEV_RSS,
		.tx_segments = dev->max_segments,
		.rx_frames = dev->stats.rx_frames,
		.rx_bytes = dev->stats.rx_bytes,
		.tx_frames = dev->stats.tx_frames,
		.tx_bytes = dev->stats.tx_bytes,
		.tx_busy = dev->stats.tx_busy,
		.neighbours = net->neighbours.used,
		.neighbours_max = net->neighbours.max,
	};
	memcpy(info->mac, net->mac, sizeof(info->mac));
	describe_connections(net, info);
	describe_addresses(net, info);
}

/* A capture that the configuration asks for stays what it is. */
static int inet_capture(struct engine *engine, int fd)
{
	struct net *net = &container_of(engine, struct inet_engine, engine)->net;

	return pcap_is(net->dev) ? -EBUSY : pcap_wrap_fd(net->dev, fd, &net->dev);
}

static void inet_capture_end(struct engine *engine, struct engine_capture *result)
{
	struct net *net = &container_of(engine, struct inet_engine, engine)->net;
	struct pcap_counts counts;

	net->dev = pcap_unwrap(net->dev, &counts);
	*result = (struct engine_capture){
		.frames = counts.frames, .lost = counts.lost, .err = counts.err};
}

const struct engine_ops inet_engine = {
	.name = "inet",
	.open = inet_open,
	.close = inet_close,
	.lingering = inet_lingering,
	.describe = inet_describe,
	.socket = &inet_socket_ops,
	.capture = inet_capture,
	.capture_end = inet_capture_end,
};
