/* SPDX-License-Identifier: MIT
 * tools/demi/net/count.c - runs this program under callgrind and reads the sum.
 */
#include "count.h"

#include "../tool.h"

#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Runs it with its output thrown away; the exit status, or -1. */
static int run_quietly(char **argv)
{
	posix_spawn_file_actions_t actions;
	int status = -1;
	pid_t pid;

	if (posix_spawn_file_actions_init(&actions))
		return -1;
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) == 0 &&
	    waitpid(pid, &status, 0) == pid)
		status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	posix_spawn_file_actions_destroy(&actions);
	return status;
}

/* The sum of a listing of callgrind's; NAN if there is none. */
static double read_sum(FILE *file)
{
	char line[512];

	while (fgets(line, sizeof(line), file)) {
		char *number = strncmp(line, "summary: ", 9) == 0  ? line + 9
			       : strncmp(line, "totals: ", 8) == 0 ? line + 8
								   : NULL;
		if (number)
			return (double)strtoull(number, NULL, 10);
	}
	return NAN;
}

static double count_into(const char *listing, const char *key, const char *stack, uint64_t count)
{
	char self[] = "/proc/self/exe";
	char program[4096];
	char out[4200];
	char number[32];
	char key_copy[64];
	char stack_copy[64];
	ssize_t length = readlink(self, program, sizeof(program) - 1);

	if (length < 0)
		return NAN;
	program[length] = '\0';
	snprintf(out, sizeof(out), "--callgrind-out-file=%s", listing);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)count);
	tool_copy_text(key_copy, sizeof(key_copy), key);
	tool_copy_text(stack_copy, sizeof(stack_copy), stack);
	/* Literals are not modified: spawn only reads its arguments. */
	char *argv[] = {(char[]){"valgrind"},
			(char[]){"--tool=callgrind"},
			(char[]){"--instr-atstart=no"},
			(char[]){"--collect-atstart=no"},
			out,
			program,
			(char[]){"--only"},
			key_copy,
			(char[]){"--stack"},
			stack_copy,
			(char[]){"--count"},
			number,
			NULL};
	if (run_quietly(argv))
		return NAN;
	FILE *file = fopen(listing, "re");
	double sum = file ? read_sum(file) : NAN;
	if (file)
		(void)fclose(file);
	return sum / (double)count;
}

double count_instructions(const char *key, const char *stack, uint64_t count)
{
	char listing[] = "/tmp/demi-net-XXXXXX";
	int fd = COUNT_POSSIBLE ? mkstemp(listing) : -1;

	if (fd < 0)
		return NAN;
	double sum = count_into(listing, key, stack, count);
	close(fd);
	unlink(listing);
	return sum > 0 ? sum : NAN;
}
