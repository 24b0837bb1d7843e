/* SPDX-License-Identifier: MIT
 * transport/rdma/plugin.c - what libdemitasse-rdma.so exports: catmint over the devices of this
 * machine.
 */
#include "transport/plugin.h"

#include "transport/rdma/libibverbs.h"
#include "transport/rdma/rdma.h"

#include <errno.h>

static int open_devices(struct sched *sched, struct engine **engine_out)
{
	int err = rdma_libibverbs_check(&sched->log);

	if (err)
		return err;
	/* Before memory is registered: where the kernel does not copy such pages in a fork, a child
	 * would take the parent's (newer ones do, and then this does nothing). */
	(void)ibv_fork_init();
	return rdma_open(sched, &rdma_libibverbs, engine_out);
}

static const struct transport_plugin ops = {.open = open_devices};

__attribute__((visibility("default"))) extern const struct plugin demitasse_plugin;

const struct plugin demitasse_plugin = {
	.abi = PLUGIN_ABI,
	.layout = PLUGIN_LAYOUT,
	.version = DEMI_VERSION_TEXT,
	.attach = plugin_attach,
	.ops = &ops,
};
