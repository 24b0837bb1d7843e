/* SPDX-License-Identifier: MIT
 * transport/plugin.h - the seam of transports that are plug-ins: what struct plugin's ops are for
 * them.
 */
#pragma once

#include "sched/plugin.h"
#include "transport/transport.h"

struct transport_plugin {
	/* As the open of engine_ops.  0 or -errno, told to the log. */
	int (*open)(struct sched *sched, struct engine **engine_out);
};
