/* SPDX-License-Identifier: MIT
 * tools/demi/plot.c - plots as SVG files: a script with its data, written into gnuplot's standard
 * input.
 */
#include "plot.h"

#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Points of a percentile curve: from 0 to 99.99 % in equal steps of -log10(1 - share). */
#define PERCENTILE_POINTS  161
#define PERCENTILE_DECADES 4.0

static const char percentile_setup[] =
	"set xtics ('0' 0, '50' 0.30103, '90' 1, '99' 2, '99.9' 3, '99.99' 4)\n"
	"set xrange [0:4]\nset logscale y\n"
	"set ytics (1, 2, 5, 10, 20, 50, 100, 200, 500, '1k' 1000, '2k' 2000, '5k' 5000, '10k' "
	"10000, '100k' 100000)\n";

/* Starts gnuplot with its standard input from a pipe; its messages go to our stderr. */
static pid_t gnuplot_start(int *input)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	child = fork();
	if (child == 0) {
		dup2(ends[0], STDIN_FILENO);
		execlp("gnuplot", "gnuplot", "-", (char *)NULL);
		_exit(127);
	}
	close(ends[0]);
	*input = ends[1];
	return child;
}

/* gnuplot's quoted text: a doubled quote stands for itself. */
static void write_quoted(FILE *script, const char *text)
{
	fputc('\'', script);
	for (; *text; text++) {
		if (*text == '\'')
			fputc('\'', script);
		fputc(*text, script);
	}
	fputc('\'', script);
}

static void write_setting(FILE *script, const char *name, const char *text)
{
	fprintf(script, "set %s ", name);
	write_quoted(script, text);
	fputc('\n', script);
}

/* How one series is drawn: few points are marked. */
static void write_curve(FILE *script, const struct plot *plot, size_t index)
{
	const struct plot_series *series = &plot->series[index];
	unsigned colour = series->colour ? series->colour : (unsigned)index + 1;

	fprintf(script,
		"%s $series%zu using 1:2 with %s linetype %u linewidth 2 dashtype %d title ",
		index ? "," : "plot", index, series->count > 40 ? "lines" : "linespoints", colour,
		series->dashed ? 2 : 1);
	write_quoted(script, series->label);
}

static void write_script(FILE *script, const char *path, const struct plot *plot)
{
	fputs("set terminal svg size 900,540 dynamic enhanced background rgb 'white'\n"
	      "set termoption noenhanced\nset grid\nset key outside right top\n",
	      script);
	write_setting(script, "output", path);
	write_setting(script, "title", plot->title);
	write_setting(script, "xlabel", plot->x_label);
	write_setting(script, "ylabel", plot->y_label);
	if (plot->setup)
		fputs(plot->setup, script);
	for (size_t i = 0; i < plot->count; i++) {
		fprintf(script, "$series%zu << EOD\n", i);
		for (size_t j = 0; j < plot->series[i].count; j++)
			fprintf(script, "%.9g %.9g\n", plot->series[i].points[j].x,
				plot->series[i].points[j].y);
		fputs("EOD\n", script);
	}
	for (size_t i = 0; i < plot->count; i++)
		write_curve(script, plot, i);
	fputs("\n", script);
}

/* Feeds the script; a gnuplot that is not there must not end us by SIGPIPE. */
static void feed_script(int input, const char *path, const struct plot *plot)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct sigaction before;
	FILE *script = fdopen(input, "w");

	if (!script) {
		close(input);
		return;
	}
	sigaction(SIGPIPE, &ignore, &before);
	write_script(script, path, plot);
	fclose(script);
	sigaction(SIGPIPE, &before, NULL);
}

int plot_write(const char *path, const struct plot *plot)
{
	int status = 0;
	int input;
	pid_t child = gnuplot_start(&input);

	if (child < 0) {
		tool_complain("no plot: %s", strerror(errno));
		return -1;
	}
	feed_script(input, path, plot);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		tool_complain("no plot: gnuplot is not installed -> apt-get install gnuplot-nox");
	else
		tool_complain("no plot: gnuplot failed on %s", path);
	return -1;
}

static void percentile_curve(struct plot_point *points, const struct histogram *histogram)
{
	for (int i = 0; i < PERCENTILE_POINTS; i++) {
		double decades = PERCENTILE_DECADES * i / (PERCENTILE_POINTS - 1);
		uint64_t value = histogram_percentile(histogram, 1 - pow(10, -decades));

		points[i] = (struct plot_point){decades, (double)value / (double)NS_PER_US};
	}
}

int plot_percentiles(const char *path, const char *title, const char *const labels[],
		     const struct histogram *const histograms[], size_t count)
{
	struct plot_series *series = tool_alloc(count, sizeof(*series));
	struct plot_point *points = tool_alloc(count * PERCENTILE_POINTS, sizeof(*points));
	struct plot plot = {.title = title,
			    .x_label = "percentile of round trips",
			    .y_label = "round trip, microseconds",
			    .setup = percentile_setup,
			    .series = series,
			    .count = count};
	int outcome;

	for (size_t i = 0; i < count; i++) {
		struct plot_point *curve = points + i * PERCENTILE_POINTS;

		percentile_curve(curve, histograms[i]);
		series[i] = (struct plot_series){
			.label = labels[i], .points = curve, .count = PERCENTILE_POINTS};
	}
	outcome = plot_write(path, &plot);
	free(points);
	free(series);
	return outcome;
}
