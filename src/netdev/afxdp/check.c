/* SPDX-License-Identifier: MIT
 * netdev/afxdp/check.c - is what is asked for in range?  It may come from another process.
 */
#include "netdev/afxdp/grant.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static bool is_name(const char name[IFNAMSIZ])
{
	return name[0] && memchr(name, '\0', IFNAMSIZ) && !strchr(name, '/');
}

static bool are_ports(const struct grant_request *request)
{
	if (request->num_ports > GRANT_PORTS_MAX)
		return false;
	for (uint32_t i = 0; i < request->num_ports; i++) {
		const struct grant_ports *ports = &request->ports[i];
		if ((ports->protocol != IPPROTO_TCP && ports->protocol != IPPROTO_UDP) ||
		    ports->first == 0 || ports->last < ports->first)
			return false;
	}
	return true;
}

static bool are_sizes(const struct grant_request *request)
{
	return request->memory_bytes % GRANT_FRAME_BYTES == 0 && request->memory_bytes > 0 &&
	       request->headroom < GRANT_FRAME_BYTES / 2 && request->ring >= 1 &&
	       request->ring <= 65536 && (request->ring & (request->ring - 1)) == 0;
}

int grant_check(const struct log *log, const struct grant_request *request)
{
	if (is_name(request->interface) && are_ports(request) && are_sizes(request) &&
	    request->mode <= STEER_GENERIC && request->copy <= GRANT_COPY &&
	    request->queue < STEER_SLOTS && request->queues >= 1 &&
	    request->queues <= STEER_SLOTS - request->queue && request->pool == 0 &&
	    (request->place == GRANT_ANY_PLACE || request->place < request->queues))
		return 0;
	log_write(log, LOG_LEVEL_ERROR, "AF_XDP: what was asked for is out of range");
	return -EINVAL;
}
