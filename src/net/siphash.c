/* SPDX-License-Identifier: MIT
 * net/siphash.c - SipHash-2-4: two rounds a word, four at the end.
 */
#include "net/siphash.h"

#include <string.h>

struct siphash {
	uint64_t v[4];
};

static inline uint64_t rotate(uint64_t x, unsigned int k)
{
	return (x << k) | (x >> (64 - k));
}

static inline void sip_round(struct siphash *s)
{
	uint64_t *v = s->v;

	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

static inline void absorb(struct siphash *s, uint64_t word)
{
	s->v[3] ^= word;
	sip_round(s);
	sip_round(s);
	s->v[0] ^= word;
}

uint64_t siphash_2_4(const uint64_t key[2], const void *bytes, uint32_t length)
{
	/* "somepseudorandomlygeneratedbytes" */
	struct siphash s = {{key[0] ^ 0x736f6d6570736575U, key[1] ^ 0x646f72616e646f6dU,
			     key[0] ^ 0x6c7967656e657261U, key[1] ^ 0x7465646279746573U}};
	const char *at = bytes;
	uint64_t last = (uint64_t)length << 56;
	uint32_t left = length;

	for (; left >= 8; left -= 8, at += 8) {
		uint64_t word;
		memcpy(&word, at, sizeof(word));
		absorb(&s, word);
	}
	for (uint32_t i = 0; i < left; i++)
		last |= (uint64_t)(uint8_t)at[i] << (8 * i);
	absorb(&s, last);
	s.v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&s);
	return s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3];
}
