/* SPDX-License-Identifier: MIT
 * netdev/table.c - the devices of this build, by the key device.
 */
#include "netdev/netdev.h"

#include <errno.h>

int netdev_open(struct sched *sched, struct netdev **dev_out)
{
	*dev_out = NULL;
	log_write(&sched->log, LOG_LEVEL_ERROR, "device: none is in this build");
	return -ENOTSUP;
}
