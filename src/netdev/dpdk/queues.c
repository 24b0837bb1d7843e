/* SPDX-License-Identifier: MIT
 * netdev/dpdk/queues.c - a port that spreads flows by itself (receive side scaling): each instance
 * that shares it has a queue pair, and a mempool of its own behind that.
 *
 * A queue is bound to its mempool when it is set up, so whoever comes or goes has the port stopped,
 * set up anew for those who are there, and started, while the bursts of all stay away (struct
 * dpdk.gate).  Meanwhile buffers go back to the strays of their instance, and are taken from there
 * and from its reserve: its heap is not touched by another thread.
 *
 * Which flow is whose does not depend on who is there: an entry of the port's table is of a place,
 * and what is of nobody's place goes to queue 0, which the lowest place has.  So does what is of no
 * flow.
 *
 * All here is under the lock of spread/port.h, but for bursts and queues_receives.
 */
#include "netdev/dpdk/dpdk.h"

#include "netdev/spread/shared.h"

#include <errno.h>
#include <netinet/in.h>
#include <rte_thash.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES_MAX     64
#define KEY_BYTES_DEFAULT 40 /* of a port that does not say */
#define TUPLE_WORDS       9  /* two addresses, and two ports in one */
#define FLOWS                                                          \
	(RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP | \
	 RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP)

static_assert(SHARED_PLACES <= 64, "places are the bits of queues.present");

struct queues {
	_Atomic bool held; /* bursts stay away */
	_Atomic uint64_t present;
	struct dpdk *members[SHARED_PLACES]; /* by place */
	uint32_t places;
	uint16_t table_entries;
	uint8_t key_bytes;
	_Alignas(uint32_t) uint8_t key[KEY_BYTES_MAX]; /* rte_softrss reads words */
};

/* ---- which flow is whose ---- */

static uint32_t lowest(uint64_t present)
{
	return (uint32_t)__builtin_ctzll(present);
}

/* As the port hashes what the remote end sends. */
static uint32_t hash_flow(const struct queues *q, const struct netdev_flow *flow)
{
	bool v4 = ip_is_v4(flow->local);
	uint32_t words = v4 ? 1 : 4;
	uint32_t tuple[TUPLE_WORDS];
	uint32_t from = v4 ? 3 : 0;

	memcpy(tuple, (const uint8_t *)flow->remote + 4 * from, 4UL * words);
	memcpy(tuple + words, (const uint8_t *)flow->local + 4 * from, 4UL * words);
	for (uint32_t i = 0; i < 2 * words; i++)
		tuple[i] = ntohl(tuple[i]);
	tuple[2 * words] = (uint32_t)flow->remote_port << 16 | flow->local_port;
	return rte_softrss(tuple, 2 * words + 1, q->key);
}

bool queues_receives(struct netdev *dev, const struct netdev_flow *flow)
{
	const struct dpdk *x = dpdk_of(dev);
	const struct queues *q = x->queues;
	uint64_t present = atomic_load_explicit(&q->present, memory_order_relaxed);
	uint32_t place = hash_flow(q, flow) % q->table_entries % q->places;

	if (!(present >> place & 1))
		place = lowest(present);
	return place == x->place;
}

static int write_table(const struct queues *q, uint16_t port)
{
	struct rte_eth_rss_reta_entry64 table[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE];

	memset(table, 0, sizeof(table));
	for (uint32_t i = 0; i < q->table_entries; i++) {
		struct rte_eth_rss_reta_entry64 *group = &table[i / RTE_ETH_RETA_GROUP_SIZE];
		const struct dpdk *member = q->members[i % q->places];
		group->mask |= 1ULL << i % RTE_ETH_RETA_GROUP_SIZE;
		group->reta[i % RTE_ETH_RETA_GROUP_SIZE] = member ? member->queue : 0;
	}
	return rte_eth_dev_rss_reta_update(port, table, q->table_entries);
}

/* ---- those who are there ---- */

static void hold_bursts(struct queues *q)
{
	atomic_store(&q->held, true);
	for (uint32_t place = 0; place < q->places; place++) {
		if (q->members[place])
			gate_await(q->members[place]);
	}
}

static struct rte_eth_rss_conf what_to_hash(struct queues *q)
{
	return (struct rte_eth_rss_conf){
		.rss_key = q->key, .rss_key_len = q->key_bytes, .rss_hf = FLOWS};
}

/* Some drivers take the key with the configuration, some by a call of its own, most by both. */
static int write_key(struct queues *q, uint16_t port)
{
	struct rte_eth_rss_conf conf = what_to_hash(q);
	int err = rte_eth_dev_rss_hash_update(port, &conf);

	return err == -ENOTSUP ? 0 : err;
}

static int set_up_all(struct queues *q, struct dpdk *any, uint16_t count)
{
	struct rte_eth_conf conf;

	port_configuration(any, &conf);
	conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	conf.rx_adv_conf.rss_conf = what_to_hash(q);
	int err = rte_eth_dev_configure(any->port, count, count, &conf);
	for (uint32_t place = 0; place < q->places && !err; place++) {
		if (q->members[place])
			err = port_set_up_queue(q->members[place]);
	}
	return err;
}

/* Stops the port, if it runs, and starts it for those who are there. */
static int restart(struct queues *q, struct dpdk *any, bool runs)
{
	uint16_t count = 0;
	uint64_t present = 0;

	hold_bursts(q);
	if (runs)
		(void)rte_eth_dev_stop(any->port);
	for (uint32_t place = 0; place < q->places; place++) {
		if (!q->members[place])
			continue;
		q->members[place]->queue = count++;
		present |= 1ULL << place;
	}
	atomic_store(&q->present, present);
	int err = set_up_all(q, any, count);
	if (!err)
		err = rte_eth_dev_start(any->port);
	if (!err)
		err = write_key(q, any->port);
	if (!err)
		err = write_table(q, any->port);
	atomic_store(&q->held, false);
	return err;
}

static bool is_capable(const struct dpdk *x, const struct rte_eth_dev_info *info)
{
	uint32_t places = (uint32_t)x->dev.sched->config.dpdk_queues;

	return places > 1 && (info->flow_type_rss_offloads & FLOWS) == FLOWS &&
	       info->reta_size >= places && info->reta_size <= RTE_ETH_RSS_RETA_SIZE_512 &&
	       info->hash_key_size <= KEY_BYTES_MAX && info->max_rx_queues >= places &&
	       info->max_tx_queues >= places;
}

int queues_make(struct dpdk *x, const struct rte_eth_dev_info *info)
{
	static const uint8_t key[2] = {0x6d, 0x5a}; /* repeated: the same hash both ways */

	if (!is_capable(x, info))
		return 0;
	struct queues *q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->places = (uint32_t)x->dev.sched->config.dpdk_queues;
	q->table_entries = info->reta_size;
	q->key_bytes = info->hash_key_size ? info->hash_key_size : KEY_BYTES_DEFAULT;
	for (uint32_t i = 0; i < q->key_bytes; i++)
		q->key[i] = key[i % 2];
	x->queues = q;
	return 0;
}

struct dpdk *queues_any(const struct queues *q)
{
	return q->members[lowest(atomic_load(&q->present))];
}

int queues_come(struct dpdk *x, uint32_t place)
{
	struct queues *q = x->queues;
	bool runs = atomic_load(&q->present) != 0;
	int err = dpdk_fill_reserve(x);

	if (!err)
		err = gate_prepare();
	if (err)
		return err;
	x->gate = &q->held;
	x->place = place;
	q->members[place] = x;
	err = restart(q, x, runs);
	if (!err) {
		x->started = true;
		x->dev.offloads |= NETDEV_RSS;
		return 0;
	}
	(void)queues_go(x);
	return err;
}

bool queues_go(struct dpdk *x)
{
	struct queues *q = x->queues;
	struct dpdk *other = NULL;

	for (uint32_t place = 0; place < q->places; place++) {
		if (q->members[place] == x)
			q->members[place] = NULL;
		else if (q->members[place])
			other = q->members[place];
	}
	x->queues = NULL;
	if (!other) {
		free(q);
		return true;
	}
	int err = restart(q, other, true);
	if (err)
		log_write(&x->dev.sched->log, LOG_LEVEL_ERROR,
			  "DPDK, device %s: does not start again for those who stay: %s", x->name,
			  strerror(-err));
	return false;
}
