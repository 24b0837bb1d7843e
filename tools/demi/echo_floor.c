/* SPDX-License-Identifier: MIT
 * tools/demi/echo_floor.c - see echo_floor.h.
 */
#include "echo_floor.h"

#include "process.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM   "ib_send_lat"
#define ROUNDS    "1000"
#define ABSENT    127 /* what a shell would exit with */
#define TRIES     40  /* of a client whose server may not listen yet */
#define TRY_NS    50000000L
#define CLIENT_MS 10000 /* a thousand round trips, where two processes share an emulated core */
#define PORT_LOW  20000
#define PORTS     20000

struct end {
	const char *address; /* NULL: the server */
	int output;
	char size[24];
	char port[8];
};

/* Becomes the program. */
static int end_main(void *arg, int control)
{
	const struct end *end = arg;
	int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
	const char *words[] = {PROGRAM, "-R", "-F",      "-s",         end->size, "-n",
			       ROUNDS,  "-p", end->port, end->address, NULL};
	char *argv[TOOL_COUNT(words)];

	(void)control;
	for (size_t i = 0; i < TOOL_COUNT(words); i++)
		argv[i] = (char *)(uintptr_t)words[i];
	if (dup2(nowhere, STDIN_FILENO) < 0 || dup2(nowhere, STDERR_FILENO) < 0 ||
	    dup2(end->address ? end->output : nowhere, STDOUT_FILENO) < 0)
		return TOOL_FAILED;
	(void)execvp(PROGRAM, argv);
	return ABSENT;
}

/* The program's table has a line for the size: bytes, rounds, least, most, typical in microseconds.
 */
static double read_typical_us(FILE *table, size_t size)
{
	char line[256];
	double typical = -1;

	while (fgets(line, sizeof(line), table)) {
		char *at = line;
		double figures[5];
		size_t count = 0;
		while (count < TOOL_COUNT(figures)) {
			char *next;
			figures[count] = strtod(at, &next);
			if (next == at)
				break;
			at = next;
			count++;
		}
		if (count == TOOL_COUNT(figures) && figures[0] == (double)size)
			typical = figures[4];
	}
	return typical;
}

/* One try of a client.  Its exit status, or -ETIMEDOUT. */
static int run_client(struct end *end, int core)
{
	struct process client = {0};
	int status = 0;
	int error = process_start(&client, core, end_main, end);

	if (!error)
		error = process_await_end(&client, CLIENT_MS, &status);
	process_kill(&client);
	return error ? error : status;
}

/* Clients until one was answered.  The last one's exit status, or -errno. */
static int try_clients(struct end *end, int core)
{
	const struct timespec pause = {.tv_nsec = TRY_NS};
	int status = 0;

	for (unsigned i = 0; i < TRIES; i++) {
		if (ftruncate(end->output, 0) < 0 || lseek(end->output, 0, SEEK_SET) < 0)
			return -errno;
		status = run_client(end, core);
		if (status <= 0 || status == ABSENT)
			break;
		(void)nanosleep(&pause, NULL);
	}
	return status;
}

static int measure(struct end *end, int core)
{
	struct process server = {0};
	struct end other = *end;
	int status;

	other.address = NULL;
	status = process_start(&server, core, end_main, &other);
	if (status)
		return status;
	status = try_clients(end, core + 1);
	process_kill(&server);
	return status;
}

double echo_floor_ns(const char *address, size_t size, int core, char message[ECHO_FLOOR_MESSAGE])
{
	struct end end = {.address = address};
	FILE *table = tmpfile();
	double typical_us = -1;
	int status = -errno;

	(void)snprintf(end.size, sizeof(end.size), "%zu", size);
	(void)snprintf(end.port, sizeof(end.port), "%d", PORT_LOW + (int)getpid() % PORTS);
	if (table) {
		end.output = fileno(table);
		status = measure(&end, core);
		rewind(table);
		typical_us = status ? -1 : read_typical_us(table, size);
		(void)fclose(table);
	}
	if (status == ABSENT)
		(void)snprintf(message, ECHO_FLOOR_MESSAGE,
			       "no " PROGRAM " -> apt-get install perftest");
	else if (status < 0)
		(void)snprintf(message, ECHO_FLOOR_MESSAGE, PROGRAM ": %s", strerror(-status));
	else if (typical_us <= 0)
		(void)snprintf(message, ECHO_FLOOR_MESSAGE, PROGRAM ": status %d, no figure",
			       status);
	return typical_us > 0 ? 2e3 * typical_us : -1;
}
