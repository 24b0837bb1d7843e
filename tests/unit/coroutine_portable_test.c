/* SPDX-License-Identifier: MIT
 * tests/unit/coroutine_portable_test.c - coroutine_test.c over the switch that other processors
 * take.
 */
#include "support/fault.h"

#define COROUTINE_PORTABLE
#include "sched/coroutine.c" /* instead of the library's */

#include "coroutine_test.c"
