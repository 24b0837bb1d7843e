/* SPDX-License-Identifier: MIT
 * sched/plugin_stubs.c - part of each plug-in: what it calls of the library, by the library's
 * table.
 */
#include "sched/plugin.h"

/* Stated exceptions to "no mutable globals": written when the plug-in is loaded, each time the
 * same. */
union pages_state *plugin_pages;
static const struct plugin_core *plugin_core;

void plugin_attach(const struct plugin_core *core)
{
	plugin_pages = core->pages;
	plugin_core = core;
}

#define PLUGIN_CALL(result, name, parameters, arguments) \
	result name parameters                           \
	{                                                \
		return plugin_core->name arguments;      \
	}
#include "sched/plugin.def"
