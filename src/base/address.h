/* SPDX-License-Identifier: MIT
 * base/address.h - addresses of the internet layer: 16 bytes, IPv4 in its mapped form
 * ::ffff:a.b.c.d.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ip_address {
	union {
		uint8_t bytes[16];
		uint32_t words[4]; /* network order */
		uint64_t pair[2];
	};
};

#define IP_MAPPED_WORD __builtin_bswap32(0x0000ffffU) /* words[2] of an IPv4 address */

static inline bool ip_equal(const struct ip_address *a, const struct ip_address *b)
{
	return a->pair[0] == b->pair[0] && a->pair[1] == b->pair[1];
}

static inline bool ip_is_v4(const struct ip_address *a)
{
	return a->pair[0] == 0 && a->words[2] == IP_MAPPED_WORD;
}

/* v4: network order. */
static inline struct ip_address ip_from_v4(uint32_t v4)
{
	struct ip_address a = {.words = {0, 0, IP_MAPPED_WORD, v4}};

	return a;
}

static inline struct ip_address ip_from_bytes(const uint8_t bytes[16])
{
	struct ip_address a;

	memcpy(a.bytes, bytes, 16);
	return a;
}

/* 0.0.0.0 or ::. */
static inline bool ip_is_any(const struct ip_address *a)
{
	return (a->pair[0] == 0 && a->pair[1] == 0) || (ip_is_v4(a) && a->words[3] == 0);
}

static inline bool ip_is_multicast(const struct ip_address *a)
{
	return ip_is_v4(a) ? (a->bytes[12] & 0xf0) == 0xe0 : a->bytes[0] == 0xff;
}

/* fe80::/10 */
static inline bool ip_is_link_local(const struct ip_address *a)
{
	return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

/* Are the first bits the same?  For IPv4 bits counts from the mapped form: 96 + prefix. */
static inline bool ip_same_prefix(const struct ip_address *a, const struct ip_address *b,
				  uint32_t bits)
{
	uint32_t bytes = bits / 8;

	if (memcmp(a->bytes, b->bytes, bytes) != 0)
		return false;
	uint32_t rest = bits % 8;
	return rest == 0 || ((a->bytes[bytes] ^ b->bytes[bytes]) >> (8 - rest)) == 0;
}
