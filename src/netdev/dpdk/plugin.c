/* SPDX-License-Identifier: MIT
 * netdev/dpdk/plugin.c - what libdemitasse-dpdk.so exports.
 */
#include "netdev/plugin.h"

#include "netdev/dpdk/dpdk.h"

static const struct netdev_plugin ops = {.open = dpdk_open};

__attribute__((visibility("default"))) extern const struct plugin demitasse_plugin;

const struct plugin demitasse_plugin = {
	.abi = PLUGIN_ABI,
	.layout = PLUGIN_LAYOUT,
	.version = DEMI_VERSION_TEXT,
	.attach = plugin_attach,
	.ops = &ops,
};
