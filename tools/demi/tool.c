/* SPDX-License-Identifier: MIT
 * tools/demi/tool.c - what every command of `demi` shares.
 */
#include "tool.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

void tool_complain(const char *format, ...)
{
	va_list args;

	progress_clear();
	va_start(args, format);
	fputs("demi: ", stderr);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is above */
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

void *tool_alloc(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size);

	if (!memory) {
		tool_complain("out of memory");
		exit(TOOL_FAILED);
	}
	return memory;
}

void tool_copy_text(char *to, size_t room, const char *text)
{
	size_t length = strnlen(text, room - 1);

	memcpy(to, text, length);
	to[length] = '\0';
}

void tool_raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void progress_show(const char *format, ...)
{
	va_list args;

	if (!isatty(STDERR_FILENO))
		return;
	va_start(args, format);
	fputs("\r\033[K", stderr);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is above */
	vfprintf(stderr, format, args);
	fflush(stderr);
	va_end(args);
}

void progress_clear(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}
