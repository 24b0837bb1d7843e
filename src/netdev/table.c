/* SPDX-License-Identifier: MIT
 * netdev/table.c - the network devices of this build by the key demitasse.device, and the
 * middleware around them.
 *
 * A capture stands outside of the faults: it shows what the stack sees, and is told what it drops.
 */
#include "netdev/afpacket/afpacket.h"
#include "netdev/fault/fault.h"
#include "netdev/pcap/pcap.h"
#include "netdev/plugin.h"
#include "netdev/tap/tap.h"

#include "base/assert.h"

static int open_plugin(struct sched *sched, const char *name, struct netdev **dev_out)
{
	const struct plugin *plugin;
	int err = plugin_load(sched, name, &plugin);

	if (err)
		return err;
	const struct netdev_plugin *ops = plugin->ops;
	return ops->open(sched, dev_out);
}

static int open_afxdp(struct sched *sched, struct netdev **dev_out)
{
	return open_plugin(sched, "xdp", dev_out);
}

#define CATNIP 2 /* the choice of the key libos: DPDK, whatever the key device says */

static int open_dpdk(struct sched *sched, struct netdev **dev_out)
{
	return open_plugin(sched, "dpdk", dev_out);
}

/* In the order of the choices of the key (base/config.def). */
static int (*const openers[])(struct sched *sched, struct netdev **dev_out) = {
	afpacket_open,
	tap_open,
	open_afxdp,
};

static void check(const struct netdev *dev)
{
	const struct netdev_ops *ops = dev->ops;

	ASSERT(ops->name && ops->rx_burst && ops->tx_burst && ops->arm && ops->disarm);
	ASSERT(ops->next_deadline && ops->start && ops->steer && ops->close);
	ASSERT(dev->mtu > 0 && dev->max_segments <= FRAME_SEGMENTS);
}

/* 0 or -errno; *dev is what there is to close either way. */
static int wrap(struct sched *sched, struct netdev **dev)
{
	const struct config *config = &sched->config;
	int err = 0;

	if (*config->fault)
		err = fault_wrap(*dev, config->fault, &sched->log, dev);
	if (!err && *config->capture)
		err = pcap_wrap_file(*dev, config->capture, &sched->log, dev);
	return err;
}

int netdev_open(struct sched *sched, struct netdev **dev_out)
{
	const struct config *config = &sched->config;
	struct netdev *dev;
	int err = config->libos == CATNIP ? open_dpdk(sched, &dev)
					  : openers[config->device](sched, &dev);

	if (err)
		return err;
	check(dev);
	err = wrap(sched, &dev);
	if (err) {
		dev->ops->close(dev);
		return err;
	}
	*dev_out = dev;
	return 0;
}
