/* SPDX-License-Identifier: MIT
 * mem/guard.h - tells AddressSanitizer which heap memory is free.
 */
#pragma once

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define GUARD_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GUARD_ASAN 1
#endif
#endif

#ifdef GUARD_ASAN
#include <sanitizer/asan_interface.h>

static inline void guard_free(const void *at, size_t bytes)
{
	__asan_poison_memory_region(at, bytes);
}

static inline void guard_live(const void *at, size_t bytes)
{
	__asan_unpoison_memory_region(at, bytes);
}
#else
static inline void guard_free(const void *at, size_t bytes)
{
	(void)at;
	(void)bytes;
}

static inline void guard_live(const void *at, size_t bytes)
{
	(void)at;
	(void)bytes;
}
#endif
