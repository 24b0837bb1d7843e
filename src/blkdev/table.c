/* SPDX-License-Identifier: MIT
 * blkdev/table.c - the block devices of this build by the key demitasse.storage.driver.
 */
#include "blkdev/blkdev.h"

#include "base/assert.h"
#include "base/bits.h"
#include "blkdev/nvme/nvme.h"
#include "blkdev/nvme_uring/nvme_uring.h"
#include "blkdev/sim/sim.h"
#include "blkdev/thread/thread.h"
#include "blkdev/uring/uring.h"
#include "blkdev/vhost/vhost.h"

/* Where io_uring is barred, a thread does the same. */
static int open_file(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out)
{
	int err = uring_open(sched, place, dev_out);

	return err == -ENOSYS ? blkthread_open(sched, place, dev_out) : err;
}

/* In the order of the choices of the key (base/config.def). */
static int (*const openers[])(struct sched *sched, const struct blkdev_place *place,
			      struct blkdev **dev_out) = {
	open_file,      vhost_open, nvme_open_configured, nvme_uring_open, blksim_open_configured,
	blkthread_open,
};

void blkdev_check(const struct blkdev *dev)
{
	const struct blkdev_ops *ops = dev->ops;

	ASSERT(ops->name && ops->submit && ops->poll && ops->wait && ops->grow && ops->arm);
	ASSERT(ops->disarm && ops->next_deadline && ops->close);
	ASSERT(dev->block_bytes == 512 || dev->block_bytes == BLKDEV_BLOCK_MAX);
	ASSERT(dev->memory_align > 0 && dev->block_bytes % dev->memory_align == 0);
	ASSERT(dev->request_bytes_max > 0 && dev->request_bytes_max % BLKDEV_BLOCK_MAX == 0);
	ASSERT(dev->iov_max > 0 && dev->depth > 0);
}

int blkdev_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out)
{
	int64_t driver = sched->config.storage_driver;

	if (!openers[driver]) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "demitasse.storage.driver: \"%s\" is not in this build",
			  config_choice_name(&sched->config, "storage_driver"));
		return -ENOTSUP;
	}
	int err = openers[driver](sched, place, dev_out);
	if (!err)
		blkdev_check(*dev_out);
	return err;
}
