/* SPDX-License-Identifier: MIT
 * tools/demi/raw/dpdk.c - demi-bench-raw.so: see raw.h.  Straight DPDK, as its own examples do it:
 * mempool with a cache, one queue pair, bursts.
 */
#include "../raw.h"

#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define BUFFERS     8191
#define CACHED      256
#define DESCRIPTORS 1024
#define LARGE       "bsize="
#define LARGE_BYTES 9216

static struct rte_mempool *pool;
static uint16_t port;

static int start_eal(void)
{
	char cores[32];
	char *argv[] = {(char[]){"demi"},
			(char[]){"--no-pci"},
			(char[]){"--no-huge"},
			(char[]){"--no-shconf"},
			(char[]){"--no-telemetry"},
			(char[]){"--single-file-segments"},
			(char[]){"-m"},
			(char[]){"256"},
			(char[]){"--log-level"},
			(char[]){"error"},
			(char[]){"--lcores"},
			cores};
	int cpu = sched_getcpu();

	(void)snprintf(cores, sizeof(cores), "0@%d", cpu < 0 ? 0 : cpu);
	return rte_eal_init((int)(sizeof(argv) / sizeof(*argv)), argv) < 0 ? -rte_errno : 0;
}

static int start_port(uint32_t room)
{
	const struct rte_eth_conf conf = {0};
	uint16_t rx = DESCRIPTORS;
	uint16_t tx = DESCRIPTORS;

	pool = rte_pktmbuf_pool_create("raw", BUFFERS, CACHED, 0,
				       (uint16_t)(RTE_PKTMBUF_HEADROOM + room), SOCKET_ID_ANY);
	if (!pool)
		return -rte_errno;
	int err = rte_eth_dev_configure(port, 1, 1, &conf);
	if (!err)
		err = rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx, &tx);
	if (!err)
		err = rte_eth_rx_queue_setup(port, 0, rx, SOCKET_ID_ANY, NULL, pool);
	if (!err)
		err = rte_eth_tx_queue_setup(port, 0, tx, SOCKET_ID_ANY, NULL);
	return err ? err : rte_eth_dev_start(port);
}

static int raw_dpdk_open(const char *device, char *message, size_t room)
{
	const char *arguments = strchr(device, ',');
	char name[RTE_ETH_NAME_MAX_LEN];
	bool large = arguments && strstr(arguments, LARGE);

	(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(device, ","), device);
	int err = start_eal();
	if (!err)
		err = rte_eal_hotplug_add("vdev", name, arguments ? arguments + 1 : "");
	if (!err)
		err = rte_eth_dev_get_port_by_name(name, &port);
	if (!err)
		err = start_port(large ? LARGE_BYTES : RTE_MBUF_DEFAULT_DATAROOM);
	if (err)
		(void)snprintf(message, room, "%s: %s", name, strerror(-err));
	return err;
}

static bool is_up(void)
{
	struct rte_eth_link link;

	return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

static void describe(struct raw_frame *frame, struct rte_mbuf *mbuf)
{
	*frame = (struct raw_frame){
		.data = rte_pktmbuf_mtod(mbuf, uint8_t *),
		.length = mbuf->data_len,
		.buffer = mbuf,
	};
}

static uint32_t make(struct raw_frame *frames, uint32_t count, uint32_t length)
{
	for (uint32_t i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
		if (!mbuf || !rte_pktmbuf_append(mbuf, (uint16_t)length)) {
			rte_pktmbuf_free(mbuf);
			return i;
		}
		describe(&frames[i], mbuf);
	}
	return count;
}

static uint32_t receive(struct raw_frame *frames, uint32_t max)
{
	struct rte_mbuf *mbufs[RAW_BURST];
	uint16_t n =
		rte_eth_rx_burst(port, 0, mbufs, (uint16_t)(max < RAW_BURST ? max : RAW_BURST));

	for (uint32_t i = 0; i < n; i++)
		describe(&frames[i], mbufs[i]);
	return n;
}

static uint32_t send_some(const struct raw_frame *frames, uint32_t count)
{
	struct rte_mbuf *mbufs[RAW_BURST];
	uint32_t n = count < RAW_BURST ? count : RAW_BURST;

	for (uint32_t i = 0; i < n; i++)
		mbufs[i] = frames[i].buffer;
	return rte_eth_tx_burst(port, 0, mbufs, (uint16_t)n);
}

static void drop(const struct raw_frame *frames, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		rte_pktmbuf_free(frames[i].buffer);
}

static void raw_dpdk_close(void)
{
	(void)rte_eth_dev_stop(port);
	(void)rte_eth_dev_close(port);
}

extern const struct raw_ops demi_bench_raw;

__attribute__((visibility("default"))) const struct raw_ops demi_bench_raw = {
	.open = raw_dpdk_open,
	.is_up = is_up,
	.make = make,
	.receive = receive,
	.send = send_some,
	.drop = drop,
	.close = raw_dpdk_close,
};
