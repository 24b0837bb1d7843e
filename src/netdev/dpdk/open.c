/* SPDX-License-Identifier: MIT
 * netdev/dpdk/open.c - from configuration to a port that moves frames.  All here is 0 or -errno,
 * told to the log.
 */
#include "netdev/dpdk/dpdk.h"

#include "netdev/interface.h"
#include "netdev/spread/shared.h"

#include <errno.h>
#include <rte_alarm.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ROOM_MIN     2048 /* of a received frame: network cards want buffers of whole KiB */
#define MTU_DEFAULT  1500
#define MEMIF_BUFFER 2048  /* bytes, unless the argument bsize says otherwise */
#define CUT_BYTES    65280 /* a packet has 65535, its headers 120 at most */
#define JOINED_BYTES 65535
#define RX_CHECKSUMS (RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM)
#define TX_CHECKSUMS (RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM)

static int tell(const struct dpdk *x, const char *what, int err)
{
	const char *said = eal_said();

	log_write(&x->dev.sched->log, LOG_LEVEL_ERROR, "DPDK, device %s: %s: %s%s%s%s", x->name,
		  what, strerror(-err), *said ? " (it said: " : "", said, *said ? ")" : "");
	return err;
}

/* ---- the port ---- */

/* The port is this instance's until it is closed; false: it is another one's. */
static bool claim(const struct dpdk *x)
{
	struct rte_eth_dev_owner owner = {.name = "demitasse"};

	return rte_eth_dev_owner_new(&owner.id) == 0 && rte_eth_dev_owner_set(x->port, &owner) == 0;
}

static int tell_taken(const struct dpdk *x)
{
	log_write(&x->dev.sched->log, LOG_LEVEL_ERROR,
		  "demitasse.dpdk.queues: 1, and another instance of this process has %s: all that "
		  "share it need the same number above 1",
		  x->name);
	return -EBUSY;
}

/* The first port that the EAL made by itself, which its arguments name. */
static int take_first(struct dpdk *x)
{
	x->port = (uint16_t)rte_eth_find_next(0);
	if (x->port < RTE_MAX_ETHPORTS)
		return rte_eth_dev_get_name_by_port(x->port, x->name);
	log_write(&x->dev.sched->log, LOG_LEVEL_ERROR,
		  "demitasse.dpdk.device: empty, and dpdk.eal_init makes no port");
	return -ENODEV;
}

/* Has the driver bring the device up: a virtual one, or one of the PCI bus. */
static int bring_up(struct dpdk *x, const char *device)
{
	const char *arguments = strchr(device, ',');
	size_t length = arguments ? (size_t)(arguments - device) : strlen(device);
	int err = 0;

	(void)snprintf(x->name, sizeof(x->name), "%.*s", (int)length, device);
	if (rte_eth_dev_get_port_by_name(x->name, &x->port)) {
		if (socket_prepare(x, device))
			return -EADDRINUSE;
		err = rte_eal_hotplug_add(is_virtual(device) ? "vdev" : "pci", x->name,
					  arguments ? arguments + 1 : "");
		if (!err)
			err = rte_eth_dev_get_port_by_name(x->name, &x->port);
	}
	return err ? tell(x, "can't be used", err) : 0;
}

static int probe(struct dpdk *x, const char *device)
{
	int err = *device ? bring_up(x, device) : take_first(x);

	if (err)
		return err;
	if (!claim(x))
		return tell_taken(x);
	x->probed = true;
	return 0;
}

/* The number behind a word of the device's arguments, as bsize=; or the default. */
static uint32_t argument(const struct rte_eth_dev_info *info, const char *word, uint32_t otherwise)
{
	const struct rte_devargs *given = rte_dev_devargs(info->device);
	const char *at = given && given->args ? strstr(given->args, word) : NULL;
	unsigned long value = at ? strtoul(at + strlen(word), NULL, 10) : 0;

	return value > 0 && value <= UINT16_MAX ? (uint32_t)value : otherwise;
}

/* The largest packet that the device takes, before it is configured. */
static int choose_mtu(struct dpdk *x, const struct rte_eth_dev_info *info)
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

/* Bytes of a buffer: a packet, and what the driver insists on. */
static uint32_t choose_room(const struct dpdk *x, const struct rte_eth_dev_info *info)
{
	uint32_t room = x->dev.mtu + DPDK_ETHERNET + DPDK_VLAN;
	uint32_t least = ROOM_MIN;

	if (strcmp(info->driver_name, "net_af_packet") == 0) /* whatever it could receive */
		least = argument(info, "framesz=", ROOM_MIN);
	return FRAME_HEADROOM + (room > least ? room : least);
}

int dpdk_set_up_queue(struct dpdk *x)
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

/* What the port offers and we use. */
static void choose_offloads(struct dpdk *x, const struct rte_eth_dev_info *info)
{
	bool out = (info->tx_offload_capa & TX_CHECKSUMS) == TX_CHECKSUMS;
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
	bool several = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_TSO;
	if (out && several && x->segments_max > 1)
		x->dev.cut_bytes = CUT_BYTES;
	uint32_t said = info->max_rx_pktlen - DPDK_ETHERNET - 4; /* of Ethernet's checksum */
	x->port_mtu = x->dev.mtu < said ? x->dev.mtu : said;
}

void dpdk_configuration(const struct dpdk *x, struct rte_eth_conf *conf)
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

static int start_port(struct dpdk *x, bool interrupts)
{
	struct rte_eth_conf conf;

	dpdk_configuration(x, &conf);
	conf.intr_conf.rxq = interrupts;
	int err = rte_eth_dev_configure(x->port, 1, 1, &conf);
	if (!err)
		err = dpdk_set_up_queue(x);
	if (!err)
		err = rte_eth_dev_start(x->port);
	x->started = !err;
	return err;
}

/* With the receive interrupt if the driver has it. */
static int start_either_way(struct dpdk *x, const struct rte_eth_dev_info *info)
{
	/* says that it has them, and none comes (82574 by vfio-pci, tests/lab/guest/catnip.sh) */
	bool deaf = strcmp(info->driver_name, "net_e1000_em") == 0;
	int err = deaf ? -ENOTSUP : start_port(x, true);

	if (!err)
		x->watch.fd = rte_eth_dev_rx_intr_ctl_q_get_fd(x->port, 0);
	else
		err = start_port(x, false);
	return err ? tell(x, "does not start", err) : 0;
}

/* ---- what it is to the stack ---- */

static int settle_address(struct dpdk *x)
{
	struct rte_ether_addr address;
	int err = rte_eth_macaddr_get(x->port, &address);

	if (!err)
		err = interface_mac(x->dev.sched, address.addr_bytes, x->dev.mac);
	if (err)
		return err;
	if (memcmp(x->dev.mac, address.addr_bytes, sizeof(x->dev.mac)) != 0) {
		memcpy(address.addr_bytes, x->dev.mac, sizeof(x->dev.mac));
		if (rte_eth_dev_default_mac_addr_set(x->port, &address))
			(void)rte_eth_promiscuous_enable(x->port);
	}
	if (rte_eth_allmulticast_enable(x->port)) /* groups: the stack filters */
		(void)rte_eth_promiscuous_enable(x->port);
	return 0;
}

static int settle(struct dpdk *x)
{
	uint32_t segments = x->segments_max - 1U;

	x->dev.max_segments = (uint8_t)(segments < FRAME_SEGMENTS ? segments : FRAME_SEGMENTS);
	int err = settle_address(x);
	if (err)
		return err;
	(void)snprintf(x->dev.mode, sizeof(x->dev.mode), "%.20s%s%s", x->name,
		       x->dev.max_segments > 0 ? ", zero copy" : "",
		       x->queues          ? ", rss"
		       : x->watch.fd >= 0 ? ", interrupts"
					  : "");
	log_write(&x->dev.sched->log, LOG_LEVEL_INFO, "DPDK: %s, packets of %u bytes at most",
		  x->dev.mode, x->dev.mtu);
	return 0;
}

static int open_device(struct dpdk *x)
{
	struct sched *sched = x->dev.sched;
	const struct config *config = &sched->config;
	struct rte_eth_dev_info info;

	if (!*config->dpdk_device && !*config->dpdk_eal) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "demitasse.dpdk.device: catnip needs one: a PCI address, or a virtual "
			  "device with its arguments");
		return -EINVAL;
	}
	bool alone = is_virtual(config->dpdk_device); /* no queue pair for each instance */
	uint64_t bytes = (uint64_t)(config->dpdk_memory_bytes * (alone ? 1 : config->dpdk_queues));
	int err = eal_start(sched, config->dpdk_device, bytes);
	if (!err)
		err = probe(x, config->dpdk_device);
	if (err)
		return err;
	err = rte_eth_dev_info_get(x->port, &info);
	if (err)
		return tell(x, "tells nothing of itself", err);
	err = choose_mtu(x, &info);
	if (err)
		return err;
	err = dpdk_memory_open(x, (uint64_t)config->dpdk_memory_bytes, choose_room(x, &info));
	choose_offloads(x, &info);
	if (!err)
		err = queues_make(x, &info);
	if (!err && strcmp(info.driver_name, "net_memif") == 0)
		err = gate_join(x);
	if (err)
		return err;
	if (x->queues) {
		err = queues_come(x, 0);
		if (err)
			return tell(x, "does not start", err);
	} else {
		err = start_either_way(x, &info);
	}
	return err ? err : settle(x);
}

/* ---- the device ---- */

static uint64_t dpdk_next_deadline(struct netdev *dev)
{
	const struct dpdk *x = dpdk_of(dev);

	return x->retry_ns;
}

static void dpdk_event(struct fd_watch *watch, uint32_t events)
{
	uint64_t count;

	(void)events;
	(void)!read(watch->fd, &count, sizeof(count)); /* that it came is all there is to know */
}

static int dpdk_start(struct netdev *dev)
{
	struct dpdk *x = dpdk_of(dev);

	if (x->watch.fd < 0)
		return 0;
	x->watch.lazy = true;
	x->watch.fn = dpdk_event;
	return fdset_add(&dev->sched->fds, &x->watch, EPOLLIN);
}

static bool dpdk_receives(struct netdev *dev, const struct netdev_flow *flow)
{
	return !dpdk_of(dev)->queues || queues_receives(dev, flow);
}

static const struct netdev_ops dpdk_ops = {
	.name = "dpdk",
	.rx_burst = dpdk_rx_burst,
	.tx_burst = dpdk_tx_burst,
	.doorbell = netdev_no_doorbell,
	.arm = dpdk_arm,
	.disarm = dpdk_disarm,
	.next_deadline = dpdk_next_deadline,
	.start = dpdk_start,
	.steer = netdev_takes_all,
	.receives = dpdk_receives,
	.close = dpdk_close,
};

struct closing {
	struct dpdk *x;
	sem_t done;
};

/* Runs on the EAL's interrupt thread, while the instance's waits. */
static void close_port(void *arg)
{
	struct closing *closing = arg;
	struct dpdk *x = closing->x;
	struct rte_eth_dev_info info;
	bool known = rte_eth_dev_info_get(x->port, &info) == 0;

	dpdk_own(x);
	gate_part(x);
	rte_pktmbuf_free_bulk(x->stash, x->stashed);
	if (x->started)
		(void)rte_eth_dev_stop(x->port);
	(void)rte_eth_dev_close(x->port);
	if (known)
		(void)rte_dev_remove(info.device);
	(void)sem_post(&closing->done);
}

/* A driver closes a port whose peer has gone by a callback on the EAL's thread; net_memif does not
 * lock that out when it is closed by us meanwhile, and both free the same memory.  So we close it
 * on that thread, too. */
static void close_in_turn(struct dpdk *x)
{
	struct closing closing = {.x = x};
	struct eal_quiet quiet;

	(void)sem_init(&closing.done, 0, 0);
	eal_quiet_begin(&quiet);
	if (rte_eal_alarm_set(1, close_port, &closing))
		close_port(&closing);
	eal_quiet_end(&quiet);
	while (sem_wait(&closing.done)) /* a signal's handler */
		;
	(void)sem_destroy(&closing.done);
	dpdk_own(x);
}

void dpdk_close(struct netdev *dev)
{
	struct dpdk *x = dpdk_of(dev);

	if (x->watch.watched)
		fdset_remove(&dev->sched->fds, &x->watch);
	if (x->probed && (!x->queues || queues_go(x)))
		close_in_turn(x);
	dpdk_memory_close(x);
	free(x);
}

static struct dpdk *make(struct sched *sched)
{
	struct dpdk *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->dev = (struct netdev){.ops = &dpdk_ops, .sched = sched};
	x->watch.fd = -1;
	x->retry_ns = TIMER_NEVER;
	dpdk_own(x);
	return x;
}

static int open_alone(struct sched *sched, struct netdev **dev_out)
{
	struct dpdk *x = make(sched);
	struct eal_quiet quiet;

	if (!x)
		return -ENOMEM;
	eal_quiet_begin(&quiet); /* the EAL's threads begin so, too */
	int err = open_device(x);
	eal_quiet_end(&quiet);
	if (err) {
		dpdk_close(&x->dev);
		return err;
	}
	*dev_out = &x->dev;
	return 0;
}

/* A queue pair beside those of others, who have brought the port up. */
static int join(struct dpdk *x, struct queues *queues, uint32_t place)
{
	const struct dpdk *other = queues_any(queues);
	struct rte_eth_dev_info info;

	x->port = other->port;
	x->port_mtu = other->port_mtu;
	x->scatters = other->scatters;
	x->joined_max = other->joined_max;
	x->segments_max = other->segments_max;
	memcpy(x->name, other->name, sizeof(x->name));
	netdev_copy_traits(&x->dev, &other->dev);
	x->dev.cut_bytes = other->dev.cut_bytes;
	int err = rte_eth_dev_info_get(x->port, &info);
	if (!err)
		err = dpdk_memory_open(x, (uint64_t)x->dev.sched->config.dpdk_memory_bytes,
				       choose_room(x, &info));
	if (err)
		return err;
	x->queues = queues;
	err = queues_come(x, place);
	x->probed = !err;
	return err ? tell(x, "does not start", err) : 0;
}

static int open_beside(struct sched *sched, struct queues *queues, uint32_t place,
		       struct netdev **dev_out)
{
	struct dpdk *x = make(sched);

	if (!x)
		return -ENOMEM;
	int err = join(x, queues, place);
	if (err) {
		dpdk_close(&x->dev);
		return err;
	}
	*dev_out = &x->dev;
	return 0;
}

/* shared_wish.open; *device is the queues of a port that has several. */
static int open_place(struct sched *sched, uint32_t place, void **device, struct netdev **dev_out)
{
	if (*device)
		return open_beside(sched, *device, place, dev_out);
	if (place > 0)
		return 0;
	int err = open_alone(sched, dev_out);
	if (!err)
		*device = dpdk_of(*dev_out)->queues;
	return err;
}

int dpdk_open(struct sched *sched, struct netdev **dev_out)
{
	const struct shared_wish wish = {
		.name = sched->config.dpdk_device,
		.key = "demitasse.dpdk.queues",
		.places = (uint32_t)sched->config.dpdk_queues,
		.open = open_place,
	};

	return wish.places > 1 ? shared_open(sched, &wish, dev_out) : open_alone(sched, dev_out);
}
