/* SPDX-License-Identifier: MIT
 * tools/demi/bench_load.h - latency against offered load, and against size: a contest for each
 * point, one table, one plot.
 */
#pragma once

#include "echo_options.h"

/* `demi bench echo --rate R,R,...`. An exit status. */
int bench_load(const struct echo_options *options);
