/* SPDX-License-Identifier: MIT
 * tools/demi/tool.h - what every command of `demi` shares: exit statuses, complaints, time, memory,
 * progress.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define TOOL_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define NS_PER_US 1000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_S  1000000000ULL

/* Exit statuses of the command. */
enum tool_status {
	TOOL_GOOD = 0,
	TOOL_FAILED = 1, /* it was tried and did not work */
	TOOL_USAGE = 2,  /* it was not tried: a bad option */
};

/* One command of `demi`; argv[0] is the command's own name. */
typedef int (*tool_command_t)(int argc, char **argv);

int command_doctor(int argc, char **argv);
int command_capture(int argc, char **argv);
int command_stat(int argc, char **argv);
int command_run(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_log(int argc, char **argv);
int command_xdp_helper(int argc, char **argv);
int bench_echo(int argc, char **argv);
int bench_size(int argc, char **argv);
int bench_core(int argc, char **argv);
int bench_schedule(int argc, char **argv);
int bench_log(int argc, char **argv);
int bench_operators(int argc, char **argv);
int bench_proxy(int argc, char **argv);
int bench_net(int argc, char **argv);

/* Monotonic time. */
static inline uint64_t clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* One line on stderr, "demi: " before it; a progress line is wiped first. */
__attribute__((format(printf, 1, 2))) void tool_complain(const char *format, ...);

/* libexec.c: a symbol of a module that is built and installed beside the command; NULL: there is
 * none such.  It stays loaded. */
const void *libexec_symbol(const char *module, const char *symbol);

/* Zeroed memory; ends the process with a line when there is none. Freed by free(). */
void *tool_alloc(size_t count, size_t size);

/* Copies text, cut to fit, always ended. */
void tool_copy_text(char *to, size_t room, const char *text);

/* Raises the limit of open files to what the system allows. */
void tool_raise_file_limit(void);

/* A line that is overwritten by the next; only when stderr is a terminal. */
__attribute__((format(printf, 1, 2))) void progress_show(const char *format, ...);
void progress_clear(void);
