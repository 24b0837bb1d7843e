/* SPDX-License-Identifier: MIT
 * net/identifier.c - interface identifiers of the addresses that we make.
 *
 * By default that is the modified EUI-64 of our link-layer address (RFC 4291 appendix A, RFC 2464
 * 4), which administrators expect.  A stable opaque one (RFC 7217) takes its place
 *   - with a key in the configuration, for privacy: then nobody without it finds out that addresses
 *     on two links are one host's;
 *   - where the kernel has the same link-layer address, on an interface that we share with it: it
 *     has the EUI-64 address already.  Without a key it is as stable, but not secret.
 *   - when the identifier before it was a duplicate.
 * The pseudo-random function is SipHash-2-4; its key comes from the configuration and never from
 * the instance's secret, which another start would not have.
 */
#include "net/net.h"
#include "net/own.h"
#include "net/siphash.h"
#include "net/slaac.h"

#include <string.h>

#define TRIES_MAX 3 /* RFC 7217 7: IDGEN_RETRIES */

static bool is_shared(const struct net *net)
{
	return net->dev->mac_shared && memcmp(net->mac, net->dev->mac, sizeof(net->mac)) == 0;
}

static void eui_64(const uint8_t mac[6], uint8_t out[8])
{
	const uint8_t id[8] = {
		(uint8_t)(mac[0] ^ 2), mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};

	memcpy(out, id, sizeof(id));
}

/* RFC 7217 5: F(prefix, interface, network, counter, key); we know no name of the network. */
static uint64_t opaque(const struct net *net, const struct ip_address *prefix, uint32_t counter)
{
	const char *text = net->sched->config.interface_id_key;
	const uint64_t halves[2][2] = {{1, 0}, {2, 0}};
	const uint64_t key[2] = {
		siphash_2_4(halves[0], text, (uint32_t)strlen(text)),
		siphash_2_4(halves[1], text, (uint32_t)strlen(text)),
	};

	struct {
		uint64_t prefix;
		uint8_t mac[8];
		uint64_t counter;
	} input = {.prefix = prefix->pair[0], .counter = counter};

	memcpy(input.mac, net->mac, sizeof(net->mac));
	return siphash_2_4(key, &input, sizeof(input));
}

/* RFC 7217 5, RFC 5453: those of anycast addresses, and the one that is none */
static bool is_reserved(uint64_t id)
{
	static const uint8_t anycast[7] = {0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint8_t bytes[8];

	memcpy(bytes, &id, sizeof(bytes));
	return id == 0 || (memcmp(bytes, anycast, sizeof(anycast)) == 0 && bytes[7] >= 0x80);
}

void slaac_identify(const struct net *net, struct ip_address *address, uint32_t tries)
{
	bool keyed = *net->sched->config.interface_id_key;

	if (tries == 0 && !keyed && !is_shared(net)) {
		eui_64(net->mac, address->bytes + 8);
		return;
	}
	/* Those that are passed over are of other counters than those of duplicates. */
	for (uint32_t counter = tries;; counter += TRIES_MAX + 1) {
		address->pair[1] = opaque(net, address, counter);
		if (!is_reserved(address->pair[1]))
			return;
	}
}

void slaac_next_identifier(struct own_address *own)
{
	struct own_address old = *own;
	struct ip_address address = own->address;

	if (own->tries == TRIES_MAX)
		return;
	slaac_identify(own->net, &address, own->tries + 1U);
	if (own_find(own->net, &address))
		return;
	own_remove(own);
	struct own_address *next =
		own_add(own->net, &address, old.prefix, (enum own_origin)old.origin);
	if (!next)
		return;
	next->tries = old.tries + 1;
	next->preferred_until_ns = old.preferred_until_ns;
	next->valid_until_ns = old.valid_until_ns;
}
