/* tests/support/steer_model.h: the rules of netdev/spread/decide.h over tables in user space. */
#pragma once

/* What it leaves to its includers is defined below. */
#include "netdev/spread/decide.h"

#include <assert.h>
#include <string.h>

#define MODEL_ADDRESSES 16
#define MODEL_KERNEL    (-2) /* the frame is the kernel's; -1: ours, but its queue has no slot */

struct steer_model {
	uint32_t num_addresses;
	struct steer_key addresses[MODEL_ADDRESSES];
	uint64_t targets[MODEL_ADDRESSES];
	uint64_t ports[2 * STEER_PORTS];
};

static struct steer_model steer_model;

bool steer_load(const struct steer_bytes *bytes, uint64_t offset, void *to, uint32_t length)
{
	if (offset + length > (size_t)(bytes->end - bytes->at))
		return false;
	memcpy(to, bytes->at + offset, length);
	return true;
}

uint64_t steer_find_address(const struct steer_key *address)
{
	for (uint32_t i = 0; i < steer_model.num_addresses; i++) {
		if (memcmp(&steer_model.addresses[i], address, sizeof(*address)) == 0)
			return steer_model.targets[i];
	}
	return STEER_KERNEL;
}

uint64_t steer_find_port(uint64_t protocol, uint64_t port)
{
	return steer_model.ports[steer_port_index(protocol, port)];
}

static inline void steer_model_address(const void *address, uint64_t target)
{
	assert(steer_model.num_addresses < MODEL_ADDRESSES);
	memcpy(&steer_model.addresses[steer_model.num_addresses], address, 16);
	steer_model.targets[steer_model.num_addresses++] = target;
}

static inline void steer_model_port(uint8_t protocol, uint16_t port, uint64_t target)
{
	steer_model.ports[steer_port_index(protocol, port)] = target;
}

/* The slot of a frame. */
static inline int32_t steer_model_slot(const uint8_t *frame, uint32_t length, uint32_t queue)
{
	const struct steer_bytes bytes = {.at = frame, .end = frame + length};
	struct steer_flow flow = {0};
	uint64_t entry = steer_decide(&flow, &bytes);

	return entry == STEER_KERNEL ? MODEL_KERNEL : steer_slot(entry, &flow, queue);
}
