/* SPDX-License-Identifier: MIT
 * tools/demi/plot.h - plots as SVG files, drawn by gnuplot.
 */
#pragma once

#include "histogram.h"

#include <stdbool.h>
#include <stddef.h>

struct plot_point {
	double x, y;
};

struct plot_series {
	const char *label;
	struct plot_point *points;
	size_t count;
	unsigned colour; /* 0: its own; n: that of all series with the same n */
	bool dashed;
};

struct plot {
	const char *title, *x_label, *y_label;
	const char *setup; /* further gnuplot commands; NULL for none */
	const struct plot_series *series;
	size_t count;
};

/* Draws into path. 0, or -1 after a complaint (no gnuplot: with the command that installs it). */
int plot_write(const char *path, const struct plot *plot);

/* Latency in microseconds over percentiles 0 to 99.99, one curve a histogram. */
int plot_percentiles(const char *path, const char *title, const char *const labels[],
		     const struct histogram *const histograms[], size_t count);
