/* SPDX-License-Identifier: MIT
 * tools/demi/probe.c - which library OSes can run here.
 */
#include "probe.h"

#include "instance.h"
#include "process.h"
#include "tool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PROBE_MS 10000

struct probe {
	const char *name;
	char message[256]; /* shared with the child */
};

static int probe_main(void *arg, int control)
{
	struct probe *probe = arg;
	int error = instance_open(probe->name, NULL, NULL, probe->message, sizeof(probe->message));

	(void)control;
	if (!error)
		instance_close();
	return error ? 1 : 0;
}

static int probe_run(struct probe *probe)
{
	struct process child = {0};
	int status = 0;
	int error = process_start(&child, -1, probe_main, probe);

	if (error)
		return error;
	error = process_await_end(&child, PROBE_MS, &status);
	process_kill(&child);
	if (status >= 128)
		snprintf(probe->message, sizeof(probe->message), "killed by signal %d",
			 status - 128);
	return error ? error : status ? -ENOTSUP : 0;
}

/* 0 if it runs; else -errno and the library's reason in message. */
static int libos_probe(const char *name, char *message, size_t room)
{
	struct probe *probe = mmap(NULL, sizeof(*probe), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int error;

	message[0] = '\0';
	if (probe == MAP_FAILED)
		return -errno;
	probe->name = name;
	error = probe_run(probe);
	tool_copy_text(message, room, probe->message);
	munmap(probe, sizeof(*probe));
	return error;
}

bool libos_walk_next(struct libos_walk *walk)
{
	while (walk->next < echo_backend_count()) {
		walk->index = walk->next++;
		walk->backend = echo_backend_at(walk->index);
		if (!walk->backend->library)
			continue;
		walk->runs =
			libos_probe(walk->backend->name, walk->message, sizeof(walk->message)) == 0;
		return true;
	}
	return false;
}
