/* tests/sim/forge.h - frames that a peer of a simulated world makes up: TCP segments and ICMP
 * errors from any address to any. */
#pragma once

#include "base/address.h"
#include "net/wire/tcp.h"
#include "sim/world.h"

#include <stdint.h>

#define FORGE_PAYLOAD_MAX 1000

struct forged {
	const struct host *to_host; /* whose Ethernet address it goes to */
	struct ip_address from;
	struct ip_address to;
	struct tcp_header h;
	uint32_t length; /* of data, which is 'X' throughout */
};

/* 10.0.0.(index + 1), a host's. */
struct ip_address forge_host_address(uint32_t index);
/* host order */
struct ip_address forge_address(uint32_t v4);

void forge_segment(struct host *attacker, const struct forged *forged);
/* An ICMP error to forged->to, from forged->from, about a segment that forged->to sent with these
 * ports (forged->h.destination is its own) and sequence number; rest: the header's second word. */
void forge_error(struct host *attacker, const struct forged *forged, uint8_t type, uint8_t code,
		 uint32_t rest);
