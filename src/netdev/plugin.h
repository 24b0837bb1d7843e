/* SPDX-License-Identifier: MIT
 * netdev/plugin.h - the seam of devices that are plug-ins: what struct plugin's ops are for them.
 */
#pragma once

#include "netdev/netdev.h"
#include "sched/plugin.h"

struct netdev_plugin {
	/* As the openers of table.c: not started.  0 or -errno, told to the log. */
	int (*open)(struct sched *sched, struct netdev **dev_out);
};
