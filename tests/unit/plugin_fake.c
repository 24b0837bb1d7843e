/* SPDX-License-Identifier: MIT
 * tests/unit/plugin_fake.c - plug-ins that do nothing: one fits, the others differ from it in one
 * member (FAKE_ABI, FAKE_LAYOUT, FAKE_VERSION), or have no symbol (FAKE_NOTHING).
 */
#include "sched/plugin.h"

#ifndef FAKE_ABI
#define FAKE_ABI PLUGIN_ABI
#endif
#ifndef FAKE_LAYOUT
#define FAKE_LAYOUT PLUGIN_LAYOUT
#endif
#ifndef FAKE_VERSION
#define FAKE_VERSION DEMI_VERSION_TEXT
#endif

#ifndef FAKE_NOTHING
__attribute__((visibility("default"))) extern const struct plugin demitasse_plugin;

static const struct plugin_core *given;

static void attach(const struct plugin_core *core)
{
	given = core;
}

const struct plugin demitasse_plugin = {
	.abi = FAKE_ABI,
	.layout = FAKE_LAYOUT,
	.version = FAKE_VERSION,
	.attach = attach,
	.ops = &given,
};
#endif
