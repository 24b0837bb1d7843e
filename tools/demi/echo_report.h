/* SPDX-License-Identifier: MIT
 * tools/demi/echo_report.h - the results of the echo benchmark as rows, a table and plots.
 */
#pragma once

#include "contest.h"
#include "report.h"

/* Adds a row for each contestant that ran, with its ratios to its reference. */
void echo_report_add(struct report *report, const struct contest *contest);

/* Prints the table. */
void echo_report_print(const struct report *report);

/* One sentence for each comparison, below the table. */
void echo_report_conclude(const struct contest *contest);

/* Draws the distributions of all contestants that ran. 0 or -1 after a complaint. */
int echo_report_plot(const struct contest *contest, const char *path);

/* What curves run over. */
struct echo_axis {
	const char *field; /* of the rows */
	const char *title, *label;
	const char *setup; /* gnuplot commands */
};

/* Draws p50 and p99 of each back end over a field of the rows. 0 or -1 after a complaint. */
int echo_report_plot_over(const struct report *report, const struct echo_axis *axis,
			  const char *path);
