/* SPDX-License-Identifier: MIT
 * netdev/afxdp/open.c - from configuration to a device: memory, socket, rings, and what it became.
 * All here is 0 or -errno, told to the log.
 */
#include "netdev/afxdp/afxdp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int map_memory_rings(struct afxdp *x, uint32_t size)
{
	if (x->pool)
		return pool_map(x->pool, x->watch.fd, size);
	int err = ring_map(&x->fill, x->watch.fd, RING_FILL, size);

	return err ? err : ring_map(&x->completion, x->watch.fd, RING_COMPLETION, size);
}

static int map_rings(struct afxdp *x, uint32_t size)
{
	int fd = x->watch.fd;
	int err = map_memory_rings(x, size);

	if (!err)
		err = ring_map(&x->rx, fd, RING_RX, size);
	if (!err)
		err = ring_map(&x->tx, fd, RING_TX, size);
	if (err)
		log_write(&x->dev.sched->log, LOG_LEVEL_ERROR, "AF_XDP, interface %s: rings: %s%s",
			  x->interface.name, strerror(-err),
			  err == -EBUSY ? ": with xdp-helper this takes Linux 6.4" : "");
	return err;
}

/* The memory, and the socket that has it. */
static int obtain(struct afxdp *x, const struct grant_request *request)
{
	struct sched *sched = x->dev.sched;
	bool objects = sched->config.xdp_reference != 1 && request->copy != GRANT_COPY;
	int memory_fd;
	int err = afxdp_memory_open(sched, request->memory_bytes, objects, &memory_fd);

	if (err)
		return err;
	x->region = sched->heap->region;
	if (sched->config.xdp_helper[0])
		err = remote_open(&sched->log, request, sched->config.xdp_helper, memory_fd,
				  &x->grant);
	else
		err = grant_open(&sched->log, request, x->region, &x->grant);
	close(memory_fd);
	return err ? err : afxdp_ledger_open(x, request->ring);
}

/* A socket beside others on its queue, with the memory that is theirs. */
static int join_pool(struct afxdp *x, struct grant_request *request)
{
	struct sched *sched = x->dev.sched;
	int err = pool_join(x->interface.index, request, &x->pool);

	if (err) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "demitasse.xdp.memory_bytes: %llu for all instances on queue %u: %s",
			  (unsigned long long)request->memory_bytes, request->queue,
			  err == -EINVAL ? "others have it otherwise" : strerror(-err));
		return err;
	}
	request->pool = x->pool->id;
	return grant_open(&sched->log, request, x->pool->region, &x->grant);
}

static int open_socket(struct afxdp *x, struct grant_request *request, bool pooled)
{
	int err = pooled ? join_pool(x, request) : obtain(x, request);

	if (err)
		return err;
	x->watch.fd = x->grant->fd;
	err = map_rings(x, request->ring);
	return err ? err : x->grant->ops->bind(x->grant);
}

static int open_socket_in_turn(struct afxdp *x, struct grant_request *request, bool pooled)
{
	if (!pooled)
		return open_socket(x, request, false);
	pool_begin_change();
	int err = open_socket(x, request, true);
	pool_end_change();
	return err;
}

/* What the device became. */
static void settle(struct afxdp *x, const struct grant_request *request)
{
	const struct grant *grant = x->grant;
	uint32_t frames = (uint32_t)(request->memory_bytes / GRANT_FRAME_BYTES);
	uint32_t single = AFXDP_ROOM - AFXDP_ETHERNET - AFXDP_VLAN;
	int64_t reference = x->dev.sched->config.xdp_reference;

	x->fill_max = request->ring < frames / 4 ? request->ring : frames / 4;
	x->fill_target = x->fill_max < AFXDP_FILL_MIN ? x->fill_max : AFXDP_FILL_MIN;
	x->refer = grant->segments && (reference == 2 || (reference == 0 && grant->zero_copy));
	x->dev.max_segments = x->refer || x->pool ? FRAME_SEGMENTS : 0;
	x->spread = request->queues;
	x->dev.mtu = x->interface.mtu;
	x->dev.index = (uint32_t)x->interface.index;
	x->dev.misses_all_hosts = true;
	if (!grant->segments && x->dev.mtu > single)
		x->dev.mtu = single;
	(void)snprintf(
		x->dev.mode, sizeof(x->dev.mode), "%s, %s%s%s",
		grant->native ? "native" : "generic", grant->zero_copy ? "zero copy" : "copy",
		grant->dispatched ? ", dispatcher" : "", grant->busy_poll ? ", busy polling" : "");
}

/* Never silently worse: what could be better elsewhere is a warning. */
static void tell(struct afxdp *x)
{
	const struct sched *sched = x->dev.sched;
	bool best = x->grant->zero_copy || sched->config.xdp_copy == GRANT_COPY ||
		    interface_is_veth(x->interface.name);

	log_write(&sched->log, best ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
		  "interface %s, queue %u%s: AF_XDP, %s%s", x->interface.name, x->grant->queue,
		  x->pool ? ", shared out by the program" : "", x->dev.mode,
		  best ? ""
		       : ": its driver has no zero copy (demitasse.xdp.copy: copy says that this "
			 "will do)");
	if (x->dev.mtu < x->interface.mtu)
		log_write(&sched->log, LOG_LEVEL_WARNING,
			  "interface %s: packets of %u bytes at most, not %u: the kernel gives no "
			  "frames of several buffers",
			  x->interface.name, x->dev.mtu, x->interface.mtu);
	interface_tell_down(x->dev.sched, &x->interface);
}

/* 0 or -errno. */
static int join_instances(struct afxdp *x)
{
	x->dev.ops = x->pool ? &afxdp_pooled_ops : &afxdp_sharing_ops;
	if (!x->pool)
		log_write(&x->dev.sched->log, LOG_LEVEL_WARNING,
			  "demitasse.xdp.queues: interface %s shares flows out among its queues: "
			  "connections opened from here are answered only if that is to queue %u",
			  x->interface.name, x->grant->queue);
	return mail_open(x->interface.index, &x->mail);
}

/* Our addresses are the kernel's, so its station is ours too.  0 or -EINVAL, told. */
static int take_ports(struct afxdp *x, const struct grant_request *request)
{
	if (memcmp(x->dev.mac, x->interface.mac, 6) != 0) {
		log_write(&x->dev.sched->log, LOG_LEVEL_ERROR,
			  "demikernel.local_link_addr: must be that of interface %s, or not set, "
			  "with demitasse.xdp.ports",
			  x->interface.name);
		return -EINVAL;
	}
	if (x->dev.sched->config.slaac) {
		log_write(&x->dev.sched->log, LOG_LEVEL_ERROR,
			  "demitasse.slaac: not with demitasse.xdp.ports: routers are the kernel's "
			  "to listen to; name its addresses in demitasse.addresses");
		return -EINVAL;
	}
	for (uint32_t i = 0; i < request->num_ports; i++)
		x->ports[i] = (struct netdev_ports){.protocol = request->ports[i].protocol,
						    .first = request->ports[i].first,
						    .last = request->ports[i].last};
	x->dev.ports = x->ports;
	x->dev.num_ports = request->num_ports;
	return 0;
}

static int open_device(struct afxdp *x)
{
	struct sched *sched = x->dev.sched;
	struct grant_request request = {.num_ports = 0};
	bool pooled = false;
	int err = interface_mac(sched, x->interface.mac, x->dev.mac);

	if (!err)
		err = afxdp_request(sched, &request, &pooled);
	if (!err)
		err = interface_check_addresses(sched, request.num_ports > 0);
	if (!err && request.num_ports > 0)
		err = take_ports(x, &request);
	if (err)
		return err;
	request.promiscuous = memcmp(x->dev.mac, x->interface.mac, 6) != 0;
	err = open_socket_in_turn(x, &request, pooled);
	if (!err && request.queues > 1)
		err = join_instances(x);
	if (err)
		return err;
	settle(x, &request);
	tell(x);
	return 0;
}

int afxdp_open(struct sched *sched, struct netdev **dev_out)
{
	struct afxdp *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	x->dev = (struct netdev){
		.ops = &afxdp_ops,
		.sched = sched,
		.dropped = afxdp_dropped,
		.filter = afxdp_filter,
		.mac_shared = true,
	};
	x->watch.fd = -1;
	x->giver.fd = -1;
	int err = interface_named(sched, "afxdp", &x->interface);
	if (!err)
		err = open_device(x);
	if (err) {
		afxdp_close(&x->dev);
		return err;
	}
	*dev_out = &x->dev;
	return 0;
}
