/* SPDX-License-Identifier: MIT
 * netdev/spread/place.c - see place.h: the rules of afxdp's XDP program, in user space.
 */
#include "netdev/spread/place.h"

#include "netdev/spread/for_all.h"
#include "netdev/spread/tables.h"

#include <string.h>

#include "netdev/spread/decide.h"

STEER_HOOK bool steer_load(const struct steer_bytes *bytes, uint64_t offset, void *to,
			   uint32_t length)
{
	uint64_t room = (uint64_t)(bytes->end - bytes->at);

	if (offset > room || length > room - offset)
		return false;
	memcpy(to, bytes->at + offset, length);
	return true;
}

/* Whatever the address: by hash. */
STEER_HOOK uint64_t steer_find_address(const struct steer_key *address)
{
	(void)address;
	return STEER_BY_HASH;
}

STEER_HOOK uint64_t steer_find_port(uint64_t protocol, uint64_t port)
{
	(void)protocol;
	(void)port;
	return STEER_BY_HASH;
}

uint32_t place_in_queue(const uint8_t *frame, uint32_t length)
{
	return frame_is_for_all(frame, length) || frame_is_fragment(frame, length) ? PLACE_ALL : 0;
}

uint32_t place_of_frame(const uint8_t *frame, uint32_t length, uint32_t places)
{
	const struct steer_bytes bytes = {.at = frame, .end = frame + length};
	struct steer_flow flow = {0};

	if (unlikely(place_in_queue(frame, length) == PLACE_ALL))
		return PLACE_ALL;
	if (unlikely(steer_decide(&flow, &bytes) == STEER_KERNEL))
		return 0;
	return steer_nth(&flow, places);
}

uint32_t place_of_flow(const struct netdev_flow *flow, uint32_t places)
{
	struct steer_flow both = {.port = {flow->local_port, flow->remote_port}};

	memcpy(&both.address[0], flow->local, sizeof(both.address[0]));
	memcpy(&both.address[1], flow->remote, sizeof(both.address[1]));
	return steer_nth(&both, places);
}
