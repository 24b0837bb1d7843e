/* SPDX-License-Identifier: MIT
 * tests/crash/numbered.h - records that carry their numbers, of lengths that follow from these, by
 * the public interface: what programs append whose process or power is cut.
 */
#pragma once

#include <demi/types.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define NUMBERED_WAIT_S 30
#define NUMBERED_BROKEN 3 /* status of a process that saw what must not be */

/* What does not hold is told, and ends the process. */
#define EXPECT(holds)                                                                      \
	do {                                                                               \
		if (!(holds)) {                                                            \
			(void)fprintf(stderr, "# %s:%d: not so: %s\n", __FILE__, __LINE__, \
				      #holds);                                             \
			_exit(NUMBERED_BROKEN);                                            \
		}                                                                          \
	} while (0)

/* numbered_push: begins to append record `number` (1 ...) */
demi_qtoken_t numbered_push(int qd, uint64_t number);

/* numbered_read: reads all there is, which must be whole and without a gap, and stores the number
 * of the first record; returns the last one's, 0: there is none. Behind the last record there may
 * be padding only: a record that may be the last one is waited for no longer than patience. */
uint64_t numbered_read(int qd, const struct timespec *patience, uint64_t *first_out);
