/* SPDX-License-Identifier: MIT
 * net/wire/cursor.h - the only way from bytes to values: a bounded reader with a sticky error, and
 * big-endian stores for writing into room that the caller has made.
 *
 * A read past the end returns zero and sets bad, which never goes away: check it once, at the end.
 */
#pragma once

#include "base/bits.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct cursor {
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
};

static inline struct cursor cursor_over(const void *bytes, uint32_t length)
{
	const uint8_t *at = bytes;

	return (struct cursor){.at = at, .end = at + length};
}

static inline uint32_t cursor_left(const struct cursor *c)
{
	return (uint32_t)(c->end - c->at);
}

/* The next count bytes, or NULL and bad. */
static inline const uint8_t *cursor_take(struct cursor *c, uint32_t count)
{
	if (unlikely(cursor_left(c) < count)) {
		c->bad = true;
		c->at = c->end;
		return NULL;
	}
	const uint8_t *at = c->at;
	c->at += count;
	return at;
}

static inline uint16_t load16(const uint8_t *at)
{
	uint16_t v;

	memcpy(&v, at, sizeof(v));
	return __builtin_bswap16(v);
}

static inline uint32_t load32(const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return __builtin_bswap32(v);
}

static inline void store16(uint8_t *at, uint16_t value)
{
	uint16_t v = __builtin_bswap16(value);

	memcpy(at, &v, sizeof(v));
}

static inline void store32(uint8_t *at, uint32_t value)
{
	uint32_t v = __builtin_bswap32(value);

	memcpy(at, &v, sizeof(v));
}

static inline uint8_t cursor_u8(struct cursor *c)
{
	const uint8_t *at = cursor_take(c, 1);

	return likely(at != NULL) ? *at : 0;
}

static inline uint16_t cursor_u16(struct cursor *c)
{
	const uint8_t *at = cursor_take(c, 2);

	return likely(at != NULL) ? load16(at) : 0;
}

static inline uint32_t cursor_u32(struct cursor *c)
{
	const uint8_t *at = cursor_take(c, 4);

	return likely(at != NULL) ? load32(at) : 0;
}

static inline void cursor_skip(struct cursor *c, uint32_t count)
{
	(void)cursor_take(c, count);
}

static inline void cursor_bytes(struct cursor *c, void *out, uint32_t count)
{
	const uint8_t *at = cursor_take(c, count);

	if (likely(at != NULL))
		memcpy(out, at, count);
	else
		memset(out, 0, count);
}

/* A cursor over the next count bytes, which are skipped; empty and bad if they are not there. */
static inline struct cursor cursor_sub(struct cursor *c, uint32_t count)
{
	const uint8_t *at = cursor_take(c, count);

	if (unlikely(!at))
		return (struct cursor){.at = c->end, .end = c->end, .bad = true};
	return cursor_over(at, count);
}
