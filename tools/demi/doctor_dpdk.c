/* SPDX-License-Identifier: MIT
 * tools/demi/doctor_dpdk.c - what catnip could drive: DPDK's virtual devices, and the network cards
 * of the PCI bus, each with what must be done before DPDK has it.
 */
#include "doctor.h"

#include "tool.h"

#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEVICES   "/sys/bus/pci/devices/"
#define DRIVERS   "/sys/bus/pci/drivers/"
#define CARDS_MAX 16
#define UNSAFE    "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"

/* The first path that matches, without what is in front of its last slash; false: none does. */
static bool first_match(const char *pattern, char *name, size_t room)
{
	glob_t paths = {0};
	bool some = glob(pattern, 0, NULL, &paths) == 0 && paths.gl_pathc > 0;

	if (some)
		tool_copy_text(name, room, strrchr(paths.gl_pathv[0], '/') + 1);
	globfree(&paths);
	return some;
}

/* ---- virtual devices ---- */

static void check_virtual(struct finding *finding)
{
	static const char *const drivers[] = {"memif",  "vhost", "virtio", "af_packet",
					      "af_xdp", "tap",   "ring"};
	char pattern[PATH_MAX];
	char name[64];
	char text[128] = "";
	size_t used = 0;

	for (size_t i = 0; i < TOOL_COUNT(drivers); i++) {
		(void)snprintf(pattern, sizeof(pattern), "/usr/lib/*/dpdk/pmds-*/librte_net_%s.so",
			       drivers[i]);
		if (first_match(pattern, name, sizeof(name)))
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%snet_%s%s",
						 used ? " " : "", drivers[i],
						 strcmp(drivers[i], "virtio") == 0 ? "_user" : "");
	}
	if (used > 0) {
		found(finding, LEVEL_OK, "%s", text);
		return;
	}
	found(finding, LEVEL_MISSING, "DPDK's drivers are not installed");
	mend_by(finding, "apt-get install dpdk");
}

/* ---- network cards ---- */

static void check_vfio(struct finding *finding)
{
	char name[64];
	bool driver = access(DRIVERS "vfio-pci", F_OK) == 0;
	bool iommu = first_match("/sys/kernel/iommu_groups/*", name, sizeof(name));
	char unsafe = 'N';
	FILE *file = fopen(UNSAFE, "re");

	if (file) {
		unsafe = (char)fgetc(file);
		(void)fclose(file);
	}
	if (!driver) {
		found(finding, LEVEL_WARN, "vfio-pci, by which DPDK takes a card, is not loaded");
		mend_by(finding, "modprobe vfio-pci");
	} else if (!iommu && unsafe != 'Y') {
		found(finding, LEVEL_WARN,
		      "no IOMMU: a card could only be taken without protection of memory");
		mend_by(finding, "echo 1 > " UNSAFE);
	} else {
		found(finding, LEVEL_OK, iommu ? "with an IOMMU" : "without protection of memory");
	}
}

static bool is_network(const char *address)
{
	char path[PATH_MAX];
	char text[32] = "";

	(void)snprintf(path, sizeof(path), DEVICES "%s/class", address);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	(void)fclose(file);
	return strncmp(text, "0x02", 4) == 0;
}

/* The driver that has it; "": none. */
static void read_driver(const char *address, char *driver, size_t room)
{
	char path[PATH_MAX];
	char target[PATH_MAX];

	driver[0] = '\0';
	(void)snprintf(path, sizeof(path), DEVICES "%s/driver", address);
	ssize_t length = readlink(path, target, sizeof(target) - 1);
	if (length <= 0)
		return;
	target[length] = '\0';
	tool_copy_text(driver, room, basename(target));
}

/* The kernel's interface on it; a virtio card has a device between. */
static bool read_interface(const char *address, char *interface, size_t room)
{
	static const char *const below[] = {"net", "*/net"};
	char pattern[PATH_MAX];

	for (size_t i = 0; i < TOOL_COUNT(below); i++) {
		(void)snprintf(pattern, sizeof(pattern), DEVICES "%s/%s/*", address, below[i]);
		if (first_match(pattern, interface, room))
			return true;
	}
	return false;
}

/* DPDK drives these through the kernel's own driver. */
static bool stays_bound(const char *driver)
{
	return strncmp(driver, "mlx4_", 5) == 0 || strncmp(driver, "mlx5_", 5) == 0 ||
	       strcmp(driver, "mana") == 0;
}

static bool is_dpdks(const char *driver)
{
	return strcmp(driver, "vfio-pci") == 0 || strcmp(driver, "uio_pci_generic") == 0 ||
	       strcmp(driver, "igb_uio") == 0;
}

static void check_card(struct finding *finding, const char *address)
{
	char driver[32];
	char interface[32];

	read_driver(address, driver, sizeof(driver));
	if (is_dpdks(driver) || stays_bound(driver)) {
		found(finding, LEVEL_OK, "%s has it: DEMI_DPDK_DEVICE=%s", driver, address);
		return;
	}
	if (!*driver)
		found(finding, LEVEL_WARN, "no driver has it");
	else if (read_interface(address, interface, sizeof(interface)))
		found(finding, LEVEL_WARN,
		      "the kernel has it (%s, %s): what uses that interface loses it", driver,
		      interface);
	else
		found(finding, LEVEL_WARN, "%s has it", driver);
	mend_by(finding, "dpdk-devbind.py --bind=vfio-pci %s", address);
}

void examine_dpdk(struct findings *findings)
{
	glob_t paths = {0};
	unsigned cards = 0;

	check_virtual(finding_add(findings, "virtual"));
	check_vfio(finding_add(findings, "vfio"));
	if (glob(DEVICES "*", 0, NULL, &paths) == 0) {
		for (size_t i = 0; i < paths.gl_pathc && cards < CARDS_MAX; i++) {
			const char *address = strrchr(paths.gl_pathv[i], '/') + 1;
			if (!is_network(address))
				continue;
			check_card(finding_add(findings, address), address);
			cards++;
		}
	}
	globfree(&paths);
}
