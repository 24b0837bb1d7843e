/* SPDX-License-Identifier: MIT
 * sched/plugin.h - back ends with a heavy dependency are shared objects of their own, loaded by
 * name when the configuration asks for them: libdemitasse-NAME.so.
 *
 * A plug-in is compiled from this tree with DEMI_PLUGIN.  It exports one symbol, demitasse_plugin;
 * of the library it calls what plugin.def lists, by the table that it is given when it is loaded
 * (stubs of the same names: plugin_stubs.c, which goes into each plug-in).  In-line functions of
 * private headers work on the library's own structs: so a plug-in fits only the library that it was
 * built with, which its version and the layout word tell.
 *
 * A plug-in is never unloaded.
 */
#pragma once

#include "sched/sched.h"

#include "mem/borrow.h"

#include <stdint.h>

#define PLUGIN_ABI    1
#define PLUGIN_SYMBOL "demitasse_plugin"

/* Changes with the size of whatever in-line functions reach into. */
#define PLUGIN_LAYOUT                                                             \
	((uint32_t)(sizeof(struct sched) * 31 + sizeof(struct heap)) * 31 +       \
	 (uint32_t)(sizeof(struct superblock) * 31 + sizeof(struct config)) * 7 + \
	 (uint32_t)(sizeof(struct counters) + sizeof(struct op)))

struct plugin_core {
#define PLUGIN_CALL(result, name, parameters, arguments) result(*name) parameters;
#include "sched/plugin.def"
#undef PLUGIN_CALL
	union pages_state *pages;
};

struct plugin {
	uint32_t abi; /* first, whatever else changes */
	uint32_t layout;
	const char *version; /* DEMI_VERSION_TEXT */
	/* Called each time that the plug-in is asked for, with the same table. */
	void (*attach)(const struct plugin_core *core);
	const void *ops; /* by the seam that it implements: struct netdev_plugin */
};

/* Finds the plug-in called name ("xdp") and checks that it fits.  0 or -errno, told to the log:
 * -ENOENT: there is none. */
int plugin_load(struct sched *sched, const char *name, const struct plugin **plugin_out);

/* plugin_stubs.c: attach of every plug-in. */
void plugin_attach(const struct plugin_core *core);
