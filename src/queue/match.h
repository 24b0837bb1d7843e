/* SPDX-License-Identifier: MIT
 * queue/match.h - finds a short byte string in bytes that come piece by piece (Knuth, Morris and
 * Pratt).
 */
#pragma once

#include <stdint.h>
#include <string.h>

#define MATCH_MAX 16 /* bytes of a pattern */

struct match {
	char pattern[MATCH_MAX];
	uint8_t retry[MATCH_MAX]; /* i + 1 bytes match and the next does not: so many do still */
	uint32_t bytes;           /* of the pattern, 1 to MATCH_MAX */
};

/* How many bytes of the pattern match after one more. */
static inline uint32_t match_byte(const struct match *match, uint32_t matched, char byte)
{
	while (match->pattern[matched] != byte) {
		if (matched == 0)
			return 0;
		matched = match->retry[matched - 1];
	}
	return matched + 1;
}

static inline void match_init(struct match *match, const char *pattern, uint32_t bytes)
{
	uint32_t matched = 0;

	match->bytes = bytes;
	memcpy(match->pattern, pattern, bytes);
	match->retry[0] = 0;
	for (uint32_t i = 1; i < bytes; i++) {
		matched = match_byte(match, matched, pattern[i]);
		match->retry[i] = (uint8_t)matched;
	}
}

/* Goes on in count bytes with *matched bytes of the pattern before them.  How many bytes were
 * looked at: all, or those up to the end of the pattern, when *matched == match->bytes. */
static inline uint64_t match_find(const struct match *match, uint32_t *matched, const char *at,
				  uint64_t count)
{
	uint64_t i = 0;

	while (i < count && *matched < match->bytes) {
		if (*matched == 0) {
			const char *first = memchr(at + i, match->pattern[0], count - i);
			if (!first)
				return count;
			i = (uint64_t)(first - at);
		}
		*matched = match_byte(match, *matched, at[i++]);
	}
	return i;
}
