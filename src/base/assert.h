/* SPDX-License-Identifier: MIT
 * base/assert.h - assertions: always on, O(1), about programmer errors of this library only.
 *
 * Never about packets, peers, arguments of the application or answers of the operating system:
 * those are handled.
 */
#pragma once

#include <assert.h> /* static_assert */

#define ASSERT(condition)                                              \
	do {                                                           \
		if (__builtin_expect(!(condition), 0))                 \
			assert_failed(#condition, __FILE__, __LINE__); \
	} while (0)

/* Writes one line to stderr and aborts. */
__attribute__((cold, noreturn)) void assert_failed(const char *condition, const char *file,
						   int line);
