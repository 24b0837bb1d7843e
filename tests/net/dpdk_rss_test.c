/* SPDX-License-Identifier: MIT
 * tests/net/dpdk_rss_test.c - instances of one process that share a port of DPDK with a queue pair
 * for each, receive side scaling, and segments that are joined (LRO).
 *
 * No device here has that, so it is made up: DPDK's net_null, which keeps a table and a key as such
 * a port does, and whose bursts are exchanged for ours.  They move frames between a packet socket
 * and the queues, by DPDK's own Toeplitz hash; each queue has a ring of buffers that is filled when
 * the port starts, and given back when it stops.
 */
#include "support/test.h"

#include "support/several.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pthread.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_thash.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QUEUES = 16, RING = 256, BACKLOG = 512, FRAME_BYTES = 2048, TABLE = 128, BURST = 64 };

struct fake_queue {
	struct rte_mempool *pool;
	struct rte_mbuf *ring[RING]; /* buffers to receive into */
	uint32_t filled;
	uint8_t frames[BACKLOG][FRAME_BYTES]; /* that wait for a burst */
	uint32_t lengths[BACKLOG];
	uint32_t head, tail;
	uint32_t received;
};

static struct fake {
	pthread_mutex_t lock;
	int socket;
	_Alignas(uint32_t) uint8_t key[64];
	uint16_t table[TABLE];
	uint16_t count; /* queues that are set up */
	struct fake_queue queues[QUEUES];
	void *data[QUEUES];
	uint32_t starts;
	uint64_t rx_offloads; /* that it was configured with */
	uint32_t joined;      /* segments that were appended to others */
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .socket = -1};

#define REAL(name) ((typeof(&(name)))dlsym(RTLD_NEXT, #name))

/* ---- the wire ---- */

static void open_wire(void)
{
	const int on = 1;
	struct sockaddr_ll at = {.sll_family = AF_PACKET,
				 .sll_protocol = htons(ETH_P_ALL),
				 .sll_ifindex = (int)if_nametoindex("vQ")};

	fake.socket = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
	assert_true(fake.socket >= 0);
	assert_int_equal(
		setsockopt(fake.socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)), 0);
	assert_int_equal(bind(fake.socket, (struct sockaddr *)&at, sizeof(at)), 0);
}

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return ntohl(value);
}

/* TCP and UDP over IPv4 that are not in fragments; queue 0 has the rest. */
static uint16_t queue_of(const uint8_t *frame, uint32_t length)
{
	const uint8_t *ip = frame + ETH_HLEN;

	if (length < ETH_HLEN + 28 || word(frame + 10) % 65536 != ETH_P_IP || (ip[6] & 0x3f) != 0 ||
	    ip[7] != 0 || (ip[9] != IPPROTO_TCP && ip[9] != IPPROTO_UDP))
		return 0;
	uint32_t tuple[3] = {word(ip + 12), word(ip + 16), word(ip + 4L * (ip[0] & 15))};
	uint16_t queue = fake.table[rte_softrss(tuple, 3, fake.key) % TABLE];
	assert_true(queue < fake.count);
	return queue;
}

static void take_from_wire(void)
{
	uint8_t bytes[FRAME_BYTES];

	for (int i = 0; i < BURST; i++) {
		ssize_t length = recv(fake.socket, bytes, sizeof(bytes), 0);
		if (length <= 0)
			return;
		struct fake_queue *q = &fake.queues[queue_of(bytes, (uint32_t)length)];
		if (q->tail - q->head == BACKLOG)
			continue;
		memcpy(q->frames[q->tail % BACKLOG], bytes, (size_t)length);
		q->lengths[q->tail++ % BACKLOG] = (uint32_t)length;
	}
}

/* ---- joining segments ---- */

#define FAKE_OFFLOADS                                                                             \
	(RTE_ETH_RX_OFFLOAD_TCP_LRO | RTE_ETH_RX_OFFLOAD_SCATTER | RTE_ETH_RX_OFFLOAD_UDP_CKSUM | \
	 RTE_ETH_RX_OFFLOAD_TCP_CKSUM)

enum { PUSH = 8, ACK = 16, IP_AT = ETH_HLEN, TCP_AT = IP_AT + 20 };

struct segment {
	uint32_t header; /* bytes in front of its payload; 0: it is not to be joined */
	uint32_t end;    /* of its packet, from the frame's beginning */
	uint32_t seq;
	uint8_t flags;
};

static struct segment read_segment(const uint8_t *frame, uint32_t length)
{
	struct segment s = {0};

	if (length < TCP_AT + 20 || word(frame + 10) % 65536 != ETH_P_IP || frame[IP_AT] != 0x45 ||
	    frame[IP_AT + 9] != IPPROTO_TCP)
		return s;
	s.end = IP_AT + (word(frame + IP_AT) & 0xffff);
	s.seq = word(frame + TCP_AT + 4);
	s.flags = frame[TCP_AT + 13];
	uint32_t header = TCP_AT + 4U * (frame[TCP_AT + 12] >> 4);
	if ((s.flags & ~PUSH) == ACK && s.end > header)
		s.header = header;
	return s;
}

/* A buffer of the ring, with bytes in it; NULL: there is no other for its place. */
static struct rte_mbuf *fill_buffer(struct fake_queue *q, const uint8_t *bytes, uint32_t length)
{
	void *fresh;

	if (rte_mempool_get(q->pool, &fresh))
		return NULL;
	struct rte_mbuf *mbuf = q->ring[q->received % RING];
	q->ring[q->received++ % RING] = fresh;
	mbuf->data_off = RTE_PKTMBUF_HEADROOM;
	memcpy(rte_pktmbuf_mtod(mbuf, void *), bytes, length);
	mbuf->pkt_len = mbuf->data_len = (uint16_t)length;
	mbuf->nb_segs = 1;
	mbuf->next = NULL;
	mbuf->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD; /* the kernel's are */
	return mbuf;
}

/* Appends what follows in the queue: in order, of the same flow, up to a push. */
static void join(struct fake_queue *q, struct rte_mbuf *mbuf, struct segment first)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	struct rte_mbuf *last = mbuf;

	for (struct segment s = first; s.header && !(s.flags & PUSH) && q->head != q->tail;) {
		const uint8_t *next = q->frames[q->head % BACKLOG];
		struct segment t = read_segment(next, q->lengths[q->head % BACKLOG]);
		if (t.header != first.header || t.seq != s.seq + (s.end - s.header) ||
		    memcmp(frame + IP_AT + 12, next + IP_AT + 12, 12) != 0)
			return;
		struct rte_mbuf *part = fill_buffer(q, next + t.header, t.end - t.header);
		if (!part)
			return;
		q->head++;
		last = last->next = part;
		mbuf->nb_segs++;
		mbuf->pkt_len += part->data_len;
		mbuf->ol_flags |= RTE_MBUF_F_RX_LRO;
		frame[IP_AT + 2] = (uint8_t)((mbuf->pkt_len - IP_AT) >> 8);
		frame[IP_AT + 3] = (uint8_t)(mbuf->pkt_len - IP_AT);
		frame[TCP_AT + 13] |= t.flags;
		fake.joined++;
		s = t;
	}
}

/* The IP header of a packet that has grown. */
static void complete_header(struct rte_mbuf *mbuf)
{
	uint8_t *ip = rte_pktmbuf_mtod(mbuf, uint8_t *) + IP_AT;
	struct rte_ipv4_hdr *header = (void *)ip;

	if (!(mbuf->ol_flags & RTE_MBUF_F_RX_LRO))
		return;
	header->hdr_checksum = 0;
	header->hdr_checksum = rte_ipv4_cksum(header);
}

/* ---- the bursts ---- */

static uint16_t fake_rx(void *queue, struct rte_mbuf **mbufs, uint16_t max)
{
	struct fake_queue *q = queue;
	uint16_t n = 0;

	assert_int_equal(pthread_mutex_lock(&fake.lock), 0);
	take_from_wire();
	while (n < max && q->head != q->tail) {
		uint32_t at = q->head % BACKLOG;
		struct segment s = read_segment(q->frames[at], q->lengths[at]);
		struct rte_mbuf *mbuf =
			fill_buffer(q, q->frames[at], s.header ? s.end : q->lengths[at]);
		if (!mbuf)
			break;
		q->head++;
		if (fake.rx_offloads & RTE_ETH_RX_OFFLOAD_TCP_LRO)
			join(q, mbuf, s);
		complete_header(mbuf);
		mbufs[n++] = mbuf;
	}
	assert_int_equal(pthread_mutex_unlock(&fake.lock), 0);
	return n;
}

static uint16_t fake_tx(void *queue, struct rte_mbuf **mbufs, uint16_t count)
{
	uint8_t bytes[FRAME_BYTES];

	(void)queue;
	for (uint16_t i = 0; i < count; i++) {
		const void *frame = rte_pktmbuf_read(mbufs[i], 0, mbufs[i]->pkt_len, bytes);
		(void)!send(fake.socket, frame, mbufs[i]->pkt_len, 0);
		rte_pktmbuf_free(mbufs[i]);
	}
	return count;
}

/* ---- between plug-in and DPDK ---- */

int rte_eth_dev_info_get(uint16_t port, struct rte_eth_dev_info *info)
{
	int err = REAL(rte_eth_dev_info_get)(port, info);

	info->rx_offload_capa |= FAKE_OFFLOADS;
	info->max_lro_pkt_size = 65535;
	return err;
}

int rte_eth_dev_configure(uint16_t port, uint16_t rx, uint16_t tx, const struct rte_eth_conf *conf)
{
	struct rte_eth_conf null = *conf;

	fake.rx_offloads = conf->rxmode.offloads;
	null.rxmode.offloads &= ~(uint64_t)FAKE_OFFLOADS;
	null.rxmode.max_lro_pkt_size = 0;
	return REAL(rte_eth_dev_configure)(port, rx, tx, &null);
}

int rte_eth_rx_queue_setup(uint16_t port, uint16_t n, uint16_t descriptors, unsigned socket,
			   const struct rte_eth_rxconf *conf, struct rte_mempool *pool)
{
	assert_true(n < QUEUES);
	fake.queues[n].pool = pool;
	fake.count = (uint16_t)(n + 1);
	return REAL(rte_eth_rx_queue_setup)(port, n, descriptors, socket, conf, pool);
}

static void read_table(uint16_t port)
{
	struct rte_eth_rss_reta_entry64 groups[TABLE / RTE_ETH_RETA_GROUP_SIZE];
	struct rte_eth_rss_conf conf = {.rss_key = fake.key, .rss_key_len = sizeof(fake.key)};

	memset(groups, 0xff, sizeof(groups));
	assert_int_equal(rte_eth_dev_rss_reta_query(port, groups, TABLE), 0);
	assert_int_equal(rte_eth_dev_rss_hash_conf_get(port, &conf), 0);
	for (uint32_t i = 0; i < TABLE; i++)
		fake.table[i] =
			groups[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
}

int rte_eth_dev_rss_reta_update(uint16_t port, struct rte_eth_rss_reta_entry64 *groups,
				uint16_t entries)
{
	int err = REAL(rte_eth_dev_rss_reta_update)(port, groups, entries);

	if (!err)
		read_table(port);
	return err;
}

int rte_eth_dev_start(uint16_t port)
{
	if (fake.socket < 0)
		open_wire();
	memset(fake.table, 0, sizeof(fake.table));
	for (uint16_t n = 0; n < fake.count; n++) {
		struct fake_queue *q = &fake.queues[n];
		int err = rte_mempool_get_bulk(q->pool, (void **)q->ring, RING);
		if (err)
			return err;
		q->filled = RING;
		fake.data[n] = q;
	}
	int err = REAL(rte_eth_dev_start)(port);
	if (err)
		return err;
	fake.starts++;
	struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[port];
	ops->rxq.data = fake.data;
	ops->txq.data = fake.data;
	ops->rx_pkt_burst = fake_rx;
	ops->tx_pkt_burst = fake_tx;
	return 0;
}

int rte_eth_dev_stop(uint16_t port)
{
	int err = REAL(rte_eth_dev_stop)(port);

	for (uint16_t n = 0; n < QUEUES; n++) {
		struct fake_queue *q = &fake.queues[n];
		rte_pktmbuf_free_bulk(q->ring, q->filled);
		q->filled = 0;
	}
	return err;
}

static void test_instances_serve(void **state)
{
	(void)state;
	assert_int_equal(setenv("DEMI_DPDK_EAL", "-m 256", 1), 0); /* memory for all */
	if (!several_over_dpdk("net_null0", SEVERAL))
		return;
	assert_int_equal(fake.starts, 2 * SEVERAL - 1); /* who comes and goes, but for the last */
	for (uint32_t n = 0; n < SEVERAL; n++)
		assert_true(fake.queues[n].received > 0);
	assert_true(fake.joined > 0);
	print_message("# %u segments joined\n", fake.joined);
	close(fake.socket);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instances_serve),
	};

	return test_run("dpdk_rss", tests);
}
