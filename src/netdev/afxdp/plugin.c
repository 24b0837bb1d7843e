/* SPDX-License-Identifier: MIT
 * netdev/afxdp/plugin.c - what libdemitasse-xdp.so exports.
 */
#include "netdev/plugin.h"

#include "netdev/afxdp/afxdp.h"

static const struct netdev_plugin ops = {.open = afxdp_open};

__attribute__((visibility("default"))) extern const struct plugin demitasse_plugin;

const struct plugin demitasse_plugin = {
	.abi = PLUGIN_ABI,
	.layout = PLUGIN_LAYOUT,
	.version = DEMI_VERSION_TEXT,
	.attach = plugin_attach,
	.ops = &ops,
};
