/* SPDX-License-Identifier: MIT
 * tools/demi/echo_proxy.c - the table of proxies, and what those over the kernel's sockets are made
 * of: see echo_proxy.h.
 */
#include "echo_proxy.h"

#include "process.h"
#include "tool.h"

#include <string.h>

static const struct echo_proxy proxies[] = {
	{.name = "catnap", .library = true, .run = echo_proxy_queue},
	{.name = "catpowder", .library = true, .device = true, .run = echo_proxy_queue},
	{.name = "splice", .idle = "block", .run = echo_proxy_splice},
	{.name = "haproxy", .idle = "block", .run = echo_proxy_haproxy},
	{.name = "none", .idle = ""},
};

const struct echo_proxy *echo_proxy_find(const char *name)
{
	for (size_t i = 0; i < TOOL_COUNT(proxies); i++) {
		if (strcmp(proxies[i].name, name) == 0)
			return &proxies[i];
	}
	return NULL;
}

size_t echo_proxy_count(void)
{
	return TOOL_COUNT(proxies);
}

const struct echo_proxy *echo_proxy_at(size_t index)
{
	return &proxies[index];
}

void echo_proxy_ready(struct echo_end *end, uint16_t port)
{
	end->shared->proxy_port = port;
	process_ready(end->control);
}
