/* SPDX-License-Identifier: MIT
 * tools/demi/median.c - medians.
 */
#include "median.h"

#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_doubles(const void *one, const void *other)
{
	double a;
	double b;

	memcpy(&a, one, sizeof(a));
	memcpy(&b, other, sizeof(b));
	return (a > b) - (a < b);
}

double median(double *values, size_t count)
{
	if (count == 0)
		return NAN;
	qsort(values, count, sizeof(*values), compare_doubles);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

double median_ratio(const double *one, const double *other, size_t count)
{
	double *ratios = tool_alloc(count, sizeof(*ratios));
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		if (other[i] > 0)
			ratios[used++] = one[i] / other[i];
	}
	double ratio = median(ratios, used);
	free(ratios);
	return ratio;
}
