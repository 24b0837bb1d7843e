/* SPDX-License-Identifier: MIT
 * tools/demi/median.h - medians.
 */
#pragma once

#include <stddef.h>

/* Median of the values, which it sorts; NAN if there are none. */
double median(double *values, size_t count);

/* Median of one[i] / other[i], over the pairs of which the other is above 0. */
double median_ratio(const double *one, const double *other, size_t count);
