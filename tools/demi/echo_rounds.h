/* SPDX-License-Identifier: MIT
 * tools/demi/echo_rounds.h - round trips one after the other, each timed by the time-stamp counter:
 * for ends so fast that the account of load.h and the clock's call would be a third of a round.
 */
#pragma once

#include "echo.h"

/* Client, one connection, one request in flight: runs round (arg, its number; checked: compare the
 * answer, and return -EBADMSG if it differs) for the warm-up and for the timed part.  0 or the
 * first error. */
typedef int (*echo_round_t)(void *arg, uint64_t number, bool checked);
int echo_rounds_run(struct echo_end *end, echo_round_t round, void *arg);
