/* SPDX-License-Identifier: MIT
 * netdev/dpdk/open.c - from configuration to a device: EAL, driver, memory, queues; and its end.
 * All here is 0 or -errno, told to the log.
 */
#include "netdev/dpdk/dpdk.h"

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

/* It makes its UMEM of the mempool, and finds a packet's mbuf in front of it. */
static int tell_unfit(const struct dpdk *x)
{
	log_write(&x->dev.sched->log, LOG_LEVEL_ERROR,
		  "DPDK, device %s: wants memory laid out as DPDK does: use catpowder with "
		  "demitasse.device afxdp",
		  x->name);
	return -ENOTSUP;
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
		err = socket_prepare(x, device);
		if (err)
			return err;
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

static int settle(struct dpdk *x)
{
	uint32_t segments = x->segments_max - 1U;

	x->dev.max_segments = (uint8_t)(segments < FRAME_SEGMENTS ? segments : FRAME_SEGMENTS);
	int err = port_settle_address(x);
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
	if (strcmp(info.driver_name, "net_af_xdp") == 0)
		return tell_unfit(x);
	err = port_choose_mtu(x, &info);
	if (err)
		return err;
	err = dpdk_memory_open(x, (uint64_t)config->dpdk_memory_bytes, port_choose_room(x, &info));
	port_choose_offloads(x, &info);
	if (!err)
		err = queues_make(x, &info);
	if (!err && strcmp(info.driver_name, "net_memif") == 0)
		err = gate_join(x);
	if (err)
		return err;
	err = x->queues ? queues_come(x, 0) : port_start(x, &info);
	return err ? tell(x, "does not start", err) : settle(x);
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
				       port_choose_room(x, &info));
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
