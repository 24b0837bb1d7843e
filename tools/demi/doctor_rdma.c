/* SPDX-License-Identifier: MIT
 * tools/demi/doctor_rdma.c - what catmint needs of the machine and of who asks: plug-in, drivers,
 * the kernel's part, memory that may be locked; and the devices, each with its address.
 */
#include "doctor.h"

#include "instance.h"
#include "process.h"
#include "rdma.h"
#include "tool.h"

#include <errno.h>
#include <glob.h>
#include <libgen.h>
#include <link.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PLUG_IN  "libdemitasse-rdma.so"
#define DRIVERS  "/etc/libibverbs.d/*.driver"
#define RDMA_CM  "/dev/infiniband/rdma_cm"
#define SOFT     "modprobe -a rdma_rxe rdma_ucm && rdma link add rxe0 type rxe netdev eth0"
#define TRIAL_MS 10000

/* An instance in a process of its own. */
struct trial {
	/* shared with the child */
	int error;
	char message[256];
	char plug_in[256]; /* its path, if it was loaded */
};

static int keep_plug_in(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct trial *trial = arg;

	(void)size;
	if (strstr(info->dlpi_name, PLUG_IN))
		tool_copy_text(trial->plug_in, sizeof(trial->plug_in), info->dlpi_name);
	return 0;
}

static int trial_main(void *arg, int control)
{
	struct trial *trial = arg;

	(void)control;
	trial->error = instance_open("catmint", NULL, NULL, trial->message, sizeof(trial->message));
	dl_iterate_phdr(keep_plug_in, trial);
	if (trial->error == 0)
		instance_close();
	return 0;
}

static void check_plug_in(struct finding *finding, const struct trial *trial)
{
	if (trial->plug_in[0]) {
		found(finding, LEVEL_OK, "%s fits", trial->plug_in);
		return;
	}
	found(finding, LEVEL_MISSING, "%s", trial->message);
	if (trial->error == -ENOENT)
		mend_by(finding, "apt-get install libibverbs-dev librdmacm-dev && make && make "
				 "install, or DEMI_PLUGIN_DIR=DIRECTORY");
	else
		mend_by(finding, "make install, of one build");
}

static void check_drivers(struct finding *finding)
{
	glob_t paths = {0};
	char text[256] = "";
	size_t used = 0;

	if (glob(DRIVERS, 0, NULL, &paths) == 0) {
		for (size_t i = 0; i < paths.gl_pathc && used < sizeof(text) - 64; i++) {
			const char *name = basename(paths.gl_pathv[i]);
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%.*s",
						 used ? " " : "", (int)strcspn(name, "."), name);
		}
	}
	globfree(&paths);
	if (used > 0) {
		found(finding, LEVEL_OK, "%s", text);
		return;
	}
	found(finding, LEVEL_MISSING, "libibverbs drives no device");
	mend_by(finding, "apt-get install ibverbs-providers");
}

static void check_connections(struct finding *finding)
{
	if (access(RDMA_CM, R_OK | W_OK) == 0) {
		found(finding, LEVEL_OK, RDMA_CM " can be opened");
		return;
	}
	found(finding, LEVEL_MISSING, RDMA_CM ": %s", strerror(errno));
	if (errno == ENOENT)
		mend_by(finding, "modprobe rdma_ucm");
	else
		mend_by(finding, "chmod 666 " RDMA_CM);
}

/* Devices read the whole heap, and what they may read is locked. */
static void check_memory(struct finding *finding)
{
	struct rlimit limit = {0};

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (has_capability(CAP_IPC_LOCK) || limit.rlim_cur == RLIM_INFINITY) {
		found(finding, LEVEL_OK, "all of it can be registered");
		return;
	}
	found(finding, LEVEL_WARN, "the heap may not grow beyond %lu KiB (RLIMIT_MEMLOCK)",
	      (unsigned long)limit.rlim_cur >> 10);
	mend_by(finding, "ulimit -l unlimited, or: echo '* - memlock unlimited' >> "
			 "/etc/security/limits.conf");
}

static void check_device(struct finding *finding, const struct rdma_device *device)
{
	const char *interface = device->interface[0] ? device->interface : "INTERFACE";

	if (!device->active) {
		found(finding, LEVEL_WARN, "%s %s: no port is active", device->link,
		      device->interface);
		mend_by(finding, "ip link set %s up", interface);
	} else if (!device->address[0]) {
		found(finding, LEVEL_WARN, "%s %s: no IP address, by which peers are found",
		      device->link, device->interface);
		mend_by(finding, "ip addr add 10.0.0.1/24 dev %s", interface);
	} else {
		found(finding, LEVEL_OK, "%s %s: %s", device->link, device->interface,
		      device->address);
	}
}

static void check_devices(struct findings *findings)
{
	struct rdma_device list[RDMA_DEVICES_MAX];
	size_t count = rdma_devices(list);

	for (size_t i = 0; i < count && i < RDMA_DEVICES_MAX; i++)
		check_device(finding_add(findings, list[i].name), &list[i]);
	if (count == 0) {
		struct finding *finding = finding_add(findings, "devices");
		found(finding, LEVEL_MISSING, "none");
		mend_by(finding, SOFT);
	}
}

static void check_all(struct finding *finding, const struct trial *trial)
{
	if (trial->error == 0)
		found(finding, LEVEL_OK, "an instance can be made");
	else
		found(finding, LEVEL_MISSING, "%s",
		      trial->message[0] ? trial->message : strerror(-trial->error));
}

void examine_rdma(struct findings *findings)
{
	struct process child = {0};
	int status = 0;
	struct trial *trial = mmap(NULL, sizeof(*trial), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (trial == MAP_FAILED)
		return;
	trial->error = -ETIMEDOUT;
	if (process_start(&child, -1, trial_main, trial) == 0) {
		(void)process_await_end(&child, TRIAL_MS, &status);
		process_kill(&child);
	}
	check_plug_in(finding_add(findings, "plug-in"), trial);
	check_drivers(finding_add(findings, "drivers"));
	check_connections(finding_add(findings, "rdma_cm"));
	check_memory(finding_add(findings, "memory"));
	check_devices(findings);
	check_all(finding_add(findings, "all together"), trial);
	munmap(trial, sizeof(*trial));
}
