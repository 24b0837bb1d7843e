/* SPDX-License-Identifier: MIT
 * netdev/dpdk/port.c - what is asked of a port: size of packets, offloads, queues, interrupts, its
 * address.
 */
#include "netdev/dpdk/dpdk.h"
#include "netdev/interface.h"

#include <errno.h>
#include <rte_dev.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_MIN     2048 /* of a received frame: network cards want buffers of whole KiB */
#define MTU_DEFAULT  1500
#define MEMIF_BUFFER 2048  /* bytes, unless the argument bsize says otherwise */
#define CUT_BYTES    65280 /* a packet has 65535, its headers 120 at most */
#define JOINED_BYTES 65535
#define RX_CHECKSUMS (RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM)
#define TX_CHECKSUMS (RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM)

/* The number behind a word of the device's arguments, as bsize=; or the default. */
static uint32_t argument(const struct rte_eth_dev_info *info, const char *word, uint32_t otherwise)
{
	const struct rte_devargs *given = rte_dev_devargs(info->device);
	const char *at = given && given->args ? strstr(given->args, word) : NULL;
	unsigned long value = at ? strtoul(at + strlen(word), NULL, 10) : 0;

	return value > 0 && value <= UINT16_MAX ? (uint32_t)value : otherwise;
}

int port_choose_mtu(struct dpdk *x, const struct rte_eth_dev_info *info)
{
	uint32_t asked = (uint32_t)x->dev.sched->config.mtu; /* 0: whatever is usual */
	bool memif = strcmp(info->driver_name, "net_memif") == 0;
	uint32_t most = info->max_mtu;

	if (memif) /* says 1518, and takes whole buffers */
		most = argument(info, "bsize=", MEMIF_BUFFER) - DPDK_ETHERNET;
	if (asked > most) {
		log_write(
			&x->dev.sched->log, LOG_LEVEL_ERROR,
			"inetstack_config.mtu: %u, and DPDK's device %s takes packets of %u bytes "
			"at most",
			asked, x->name, most);
		return -EINVAL;
	}
	x->dev.mtu = asked ? asked : MTU_DEFAULT;
	if (memif || x->dev.mtu > most)
		x->dev.mtu = most;
	return 0;
}

uint32_t port_choose_room(const struct dpdk *x, const struct rte_eth_dev_info *info)
{
	uint32_t room = x->dev.mtu + DPDK_ETHERNET + DPDK_VLAN;
	uint32_t least = ROOM_MIN;

	if (strcmp(info->driver_name, "net_af_packet") == 0) /* whatever it could receive */
		least = argument(info, "framesz=", ROOM_MIN);
	return FRAME_HEADROOM + (room > least ? room : least);
}

int port_set_up_queue(struct dpdk *x)
{
	uint16_t rx = (uint16_t)x->dev.sched->config.dpdk_descriptors;
	uint16_t tx = rx;
	unsigned socket = (unsigned)rte_eth_dev_socket_id(x->port);
	int err = rte_eth_dev_adjust_nb_rx_tx_desc(x->port, &rx, &tx);

	if (!err)
		err = rte_eth_rx_queue_setup(x->port, x->queue, rx, socket, NULL, x->frames);
	if (!err)
		err = rte_eth_tx_queue_setup(x->port, x->queue, tx, socket, NULL);
	return err;
}

void port_choose_offloads(struct dpdk *x, const struct rte_eth_dev_info *info)
{
	/* its checksums of frames in several pieces are wrong (22.11), and it cuts by mbufs that it
	 * looks for in front of their buffers */
	bool tap = strcmp(info->driver_name, "net_tap") == 0;
	bool out = (info->tx_offload_capa & TX_CHECKSUMS) == TX_CHECKSUMS && !tap;
	bool in = (info->rx_offload_capa & RX_CHECKSUMS) == RX_CHECKSUMS;

	/* who joins segments has verified them: nobody else can any more */
	bool joins = in && (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_TCP_LRO) &&
		     x->dev.sched->config.tcp_checksum_offload;

	x->dev.offloads = (uint8_t)((out ? NETDEV_TX_CHECKSUM : 0) | (in ? NETDEV_RX_CHECKSUM : 0) |
				    (joins ? NETDEV_LRO : 0));
	x->scatters = joins && (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER);
	x->joined_max =
		info->max_lro_pkt_size < JOINED_BYTES ? info->max_lro_pkt_size : JOINED_BYTES;
	x->segments_max = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS
				  ? info->tx_desc_lim.nb_seg_max
				  : 1;
	if (x->segments_max == 0) /* it does not say */
		x->segments_max = FRAME_SEGMENTS + 1;
	bool cuts = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_TSO;
	if (out && cuts && x->segments_max > 1)
		x->dev.cut_bytes = CUT_BYTES;
	uint32_t said = info->max_rx_pktlen - DPDK_ETHERNET - 4; /* of Ethernet's checksum */
	x->port_mtu = x->dev.mtu < said ? x->dev.mtu : said;
}

void port_configuration(const struct dpdk *x, struct rte_eth_conf *conf)
{
	*conf = (struct rte_eth_conf){.rxmode.mtu = x->port_mtu};
	if (x->dev.offloads & NETDEV_RX_CHECKSUM)
		conf->rxmode.offloads |= RX_CHECKSUMS;
	if (x->dev.offloads & NETDEV_LRO) {
		conf->rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TCP_LRO;
		conf->rxmode.max_lro_pkt_size = x->joined_max;
	}
	if (x->scatters)
		conf->rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
	if (x->dev.offloads & NETDEV_TX_CHECKSUM)
		conf->txmode.offloads |= TX_CHECKSUMS;
	if (x->dev.cut_bytes > 0)
		conf->txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
	if (x->segments_max > 1)
		conf->txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
}

static int start(struct dpdk *x, bool interrupts)
{
	struct rte_eth_conf conf;

	port_configuration(x, &conf);
	conf.intr_conf.rxq = interrupts;
	int err = rte_eth_dev_configure(x->port, 1, 1, &conf);
	if (!err)
		err = port_set_up_queue(x);
	if (!err)
		err = rte_eth_dev_start(x->port);
	x->started = !err;
	return err;
}

int port_start(struct dpdk *x, const struct rte_eth_dev_info *info)
{
	/* says that it has them, and none comes (82574 by vfio-pci, tests/lab/guest/catnip.sh) */
	bool deaf = strcmp(info->driver_name, "net_e1000_em") == 0;
	int err = deaf ? -ENOTSUP : start(x, true);

	if (!err)
		x->watch.fd = rte_eth_dev_rx_intr_ctl_q_get_fd(x->port, 0);
	else
		err = start(x, false);
	return err;
}

int port_settle_address(struct dpdk *x)
{
	struct rte_ether_addr address;
	int err = rte_eth_macaddr_get(x->port, &address);

	if (!err)
		err = interface_mac(x->dev.sched, address.addr_bytes, x->dev.mac);
	if (err)
		return err;
	if (strncmp(x->name, "net_tap", 7) == 0) { /* the port's is that of the kernel's end */
		x->dev.mac[5] ^= memcmp(x->dev.mac, address.addr_bytes, sizeof(x->dev.mac)) == 0;
		return 0;
	}
	if (memcmp(x->dev.mac, address.addr_bytes, sizeof(x->dev.mac)) != 0) {
		memcpy(address.addr_bytes, x->dev.mac, sizeof(x->dev.mac));
		if (rte_eth_dev_default_mac_addr_set(x->port, &address))
			(void)rte_eth_promiscuous_enable(x->port);
	}
	if (rte_eth_allmulticast_enable(x->port)) /* groups: the stack filters */
		(void)rte_eth_promiscuous_enable(x->port);
	return 0;
}
