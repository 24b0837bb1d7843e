/* SPDX-License-Identifier: MIT
 * tools/demi/probe.c - which library OSes can run here.
 */
#include "probe.h"

#include "instance.h"
#include "process.h"
#include "tool.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PROBE_MS 10000

/* A device that needs nothing but the privilege, in a network namespace where it is alone. The
 * address is of those for documentation (RFC 5737). */
#define PROBE_DEVICE "tap,interface=demi-probe,addresses=192.0.2.1/24"

struct probe {
	const struct echo_backend *backend;
	/* shared with the child */
	char message[256];
	bool apart; /* it was tried over PROBE_DEVICE, and ran */
};

static bool is_built_in(const char *message)
{
	return !strstr(message, "not built in");
}

static int try(struct probe *probe, const char *device, char *message, size_t room)
{
	int error = instance_open(probe->backend->name, device, NULL, message, room);

	if (!error)
		instance_close();
	return error;
}

/* As it is configured; one that drives a device, and is not told a good one, apart from everything
 * too. */
static int probe_main(void *arg, int control)
{
	struct probe *probe = arg;
	char message[256];
	int error = try(probe, NULL, probe->message, sizeof(probe->message));

	(void)control;
	if (error && probe->backend->device && is_built_in(probe->message) &&
	    unshare(CLONE_NEWNET) == 0) {
		probe->apart = try(probe, PROBE_DEVICE, message, sizeof(message)) == 0;
		if (!probe->apart)
			tool_copy_text(probe->message, sizeof(probe->message), message);
	}
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

/* Fills in what the walk found about its back end. */
static void libos_probe(struct libos_walk *walk)
{
	struct probe *probe = mmap(NULL, sizeof(*probe), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	walk->runs = walk->apart = walk->absent = false;
	if (probe == MAP_FAILED) {
		tool_copy_text(walk->message, sizeof(walk->message), strerror(errno));
		return;
	}
	probe->backend = walk->backend;
	walk->runs = probe_run(probe) == 0;
	walk->apart = probe->apart;
	walk->absent = !is_built_in(probe->message);
	tool_copy_text(walk->message, sizeof(walk->message), probe->message);
	munmap(probe, sizeof(*probe));
}

bool libos_walk_next(struct libos_walk *walk)
{
	while (walk->next < echo_backend_count()) {
		walk->index = walk->next++;
		walk->backend = echo_backend_at(walk->index);
		if (!walk->backend->library)
			continue;
		libos_probe(walk);
		return true;
	}
	return false;
}
