/* SPDX-License-Identifier: MIT
 * netdev/table.c - the network devices of this build by the key demitasse.device, and the
 * middleware around them.
 */
#include "netdev/afpacket/afpacket.h"
#include "netdev/tap/tap.h"

#include "base/assert.h"

/* In the order of the choices of the key (base/config.def). */
static int (*const openers[])(struct sched *sched, struct netdev **dev_out) = {
	afpacket_open,
	tap_open,
};

static void check(const struct netdev *dev)
{
	const struct netdev_ops *ops = dev->ops;

	ASSERT(ops->name && ops->rx_burst && ops->tx_burst && ops->arm && ops->disarm);
	ASSERT(ops->next_deadline && ops->start && ops->close);
	ASSERT(dev->mtu > 0 && dev->max_segments <= FRAME_SEGMENTS);
}

int netdev_open(struct sched *sched, struct netdev **dev_out)
{
	int err = openers[sched->config.device](sched, dev_out);

	if (!err)
		check(*dev_out);
	return err;
}
