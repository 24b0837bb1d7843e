/* SPDX-License-Identifier: MIT
 * blkdev/nvme/vfio.c - the bus to a controller that the kernel's vfio-pci has set aside for us: its
 * registers are mapped, and an IOMMU lets it reach what we map for it, and nothing else.
 *
 * Addresses of the controller: our own memory below 3 GiB; above 4 GiB, so above what x86 keeps for
 * interrupts (0xfee00000), and within the 39 bits that smaller IOMMUs have, four slots of 128 GiB,
 * one for the superblocks of the heap, in the order of their addresses here, and one for those that
 * a device has lent.  In neither are registers of the controller: what it writes to an address of
 * its own need not reach the IOMMU.
 */
#include "blkdev/nvme/nvme.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define OWN_AT     ((uint64_t)256 << 20)
#define OWN_END    ((uint64_t)3 << 30)
#define HIGH_AT    ((uint64_t)4 << 30) /* where the first slot begins */
#define SLOT_SHIFT 37
#define SLOTS      4
#define OWN_MAX    8
#define DEVICES    "/sys/bus/pci/devices/"

struct own {
	void *at;
	uint64_t bytes;
};

struct vfio {
	struct nvme_bus bus;
	struct sched *sched;
	int container;
	int group;
	int device;
	uint64_t config_at; /* of the configuration space, in device */
	uint64_t heap_at;
	uint64_t lent_at;
	uint64_t own_next;
	uint32_t num_own;
	struct own own[OWN_MAX];
	bool told; /* that memory cannot be pinned */
};

static struct vfio *vfio_of(struct nvme_bus *bus)
{
	return container_of(bus, struct vfio, bus);
}

/* ---- registers ---- */

static uint32_t vfio_read32(struct nvme_bus *bus, uint32_t offset)
{
	return *(volatile uint32_t *)(void *)(bus->registers + offset);
}

static void vfio_write32(struct nvme_bus *bus, uint32_t offset, uint32_t value)
{
	nvme_barrier();
	*(volatile uint32_t *)(void *)(bus->registers + offset) = value;
}

/* In two halves, which all controllers take: 3.1. */
static uint64_t vfio_read64(struct nvme_bus *bus, uint32_t offset)
{
	uint64_t low = vfio_read32(bus, offset);

	return low | (uint64_t)vfio_read32(bus, offset + 4) << 32;
}

static void vfio_write64(struct nvme_bus *bus, uint32_t offset, uint64_t value)
{
	vfio_write32(bus, offset, (uint32_t)value);
	vfio_write32(bus, offset + 4, (uint32_t)(value >> 32));
}

/* ---- memory ---- */

static int map_dma(const struct vfio *vfio, void *at, uint64_t bytes, uint64_t address)
{
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
					       .flags = VFIO_DMA_MAP_FLAG_READ |
							VFIO_DMA_MAP_FLAG_WRITE,
					       .vaddr = (uintptr_t)at,
					       .iova = address,
					       .size = bytes};

	return ioctl(vfio->container, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
}

static void unmap_dma(const struct vfio *vfio, uint64_t bytes, uint64_t address)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = address, .size = bytes};

	(void)ioctl(vfio->container, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

static void tell_unpinned(const struct vfio *vfio, enum log_level level, int err)
{
	struct rlimit limit = {0};

	(void)getrlimit(RLIMIT_MEMLOCK, &limit);
	if (err == -ENOMEM)
		log_write(
			&vfio->sched->log, level,
			"nvme %s: memory cannot be pinned for it: the limit is %llu bytes (ulimit "
			"-l, LimitMEMLOCK=); allow as much as demitasse.heap_max_bytes and 8 MiB, "
			"or unlimited",
			vfio->bus.name, (unsigned long long)limit.rlim_cur);
	else
		log_write(&vfio->sched->log, level, "nvme %s: memory cannot be mapped for it: %s",
			  vfio->bus.name, strerror(-err));
}

/* What cannot be pinned is copied. */
static int vfio_map(struct nvme_bus *bus, char *superblock, uint64_t *address_out)
{
	struct vfio *vfio = vfio_of(bus);
	uint64_t offset = (uintptr_t)superblock - pages_process.range.base;
	uint64_t address = vfio->heap_at + offset;

	if (offset >= pages_process.range.bytes)
		address = vfio->lent_at + ((uintptr_t)superblock - pages_process.lent.base);
	int err = map_dma(vfio, superblock, SUPERBLOCK_BYTES, address);
	if (err && !vfio->told) {
		tell_unpinned(vfio, LOG_LEVEL_WARNING, err);
		vfio->told = true;
	}
	*address_out = address;
	return err;
}

static void vfio_unmap(struct nvme_bus *bus, char *superblock, uint64_t address)
{
	(void)superblock;
	unmap_dma(vfio_of(bus), SUPERBLOCK_BYTES, address);
}

static int vfio_alloc(struct nvme_bus *bus, uint64_t bytes, void **at_out, uint64_t *address_out)
{
	struct vfio *vfio = vfio_of(bus);
	uint64_t address = vfio->own_next;

	bytes = round_up(bytes, NVME_PAGE);
	if (vfio->num_own == OWN_MAX || address + bytes > OWN_END)
		return -ENOMEM;
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return -errno;
	/* A child would share the pages until one of us writes, and keep those that are pinned. */
	int err = madvise(at, bytes, MADV_DONTFORK) ? -errno : 0;
	if (!err)
		err = map_dma(vfio, at, bytes, address);
	if (err) {
		(void)munmap(at, bytes);
		tell_unpinned(vfio, LOG_LEVEL_ERROR, err);
		return err;
	}
	vfio->own[vfio->num_own++] = (struct own){.at = at, .bytes = bytes};
	vfio->own_next += bytes;
	*at_out = at;
	*address_out = address;
	return 0;
}

/* ---- the device ---- */

/* Lets the controller reach memory, or not any more. */
static int set_master(const struct vfio *vfio, bool master)
{
	off_t at = (off_t)vfio->config_at + PCI_COMMAND;
	uint16_t command;

	if (pread(vfio->device, &command, sizeof(command), at) != sizeof(command))
		return -ENODEV;
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;
	if (!master)
		command &= (uint16_t)~PCI_COMMAND_MASTER;
	return pwrite(vfio->device, &command, sizeof(command), at) == sizeof(command) ? 0 : -ENODEV;
}

static void vfio_cut_off(struct nvme_bus *bus)
{
	(void)set_master(vfio_of(bus), false);
}

static void close_valid(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

/* What is still mapped for the controller goes with the container. */
static void vfio_close(struct nvme_bus *bus)
{
	struct vfio *vfio = vfio_of(bus);

	if (bus->registers)
		(void)munmap(bus->registers, bus->registers_bytes);
	close_valid(vfio->device);
	close_valid(vfio->group);
	close_valid(vfio->container);
	for (uint32_t i = 0; i < vfio->num_own; i++)
		(void)munmap(vfio->own[i].at, vfio->own[i].bytes);
	free(vfio);
}

static const struct nvme_bus_ops vfio_ops = {
	.read32 = vfio_read32,
	.read64 = vfio_read64,
	.write32 = vfio_write32,
	.write64 = vfio_write64,
	.map = vfio_map,
	.unmap = vfio_unmap,
	.alloc = vfio_alloc,
	.cut_off = vfio_cut_off,
	.close = vfio_close,
};

/* ---- opening it ---- */

/* Tells the log why the device cannot be had; err, which may be by errno. */
#define refuse(vfio, err, format, ...)                                                         \
	(log_write(&(vfio)->sched->log, LOG_LEVEL_ERROR, "nvme %s: " format, (vfio)->bus.name, \
		   ##__VA_ARGS__),                                                             \
	 (err))

/* The last name of what a link beside the device points to.  0 or -errno. */
static int link_name(const char *address, const char *link, char *name, size_t room)
{
	char path[128];
	char target[256];

	(void)snprintf(path, sizeof(path), DEVICES "%s/%s", address, link);
	ssize_t length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return -errno;
	target[length] = '\0';
	const char *slash = strrchr(target, '/');
	const char *last = slash ? slash + 1 : target;
	if (strlen(last) >= room)
		return -ENAMETOOLONG;
	memcpy(name, last, strlen(last) + 1);
	return 0;
}

/* Domain, bus, slot and function, as the kernel writes them. */
static bool is_address(const char *text)
{
	static const char pattern[] = "0000:00:00.0"; /* 0: a hexadecimal digit */
	size_t i = 0;

	for (; pattern[i]; i++) {
		if (pattern[i] == '0' ? !strchr("0123456789abcdef", text[i]) || !text[i]
				      : text[i] != pattern[i])
			return false;
	}
	return text[i] == '\0';
}

/* Is the device there, and vfio-pci's? */
static int check_driver(const struct vfio *vfio, const char *address)
{
	char driver[64];
	char path[64];
	char hint[256];

	(void)snprintf(path, sizeof(path), DEVICES "%s", address);
	if (access(path, F_OK))
		return refuse(vfio, -ENODEV, "there is no such PCI device");
	(void)snprintf(hint, sizeof(hint),
		       "modprobe vfio-pci; echo vfio-pci >" DEVICES
		       "%s/driver_override; unbind it; "
		       "echo %s >/sys/bus/pci/drivers_probe",
		       address, address);
	if (link_name(address, "driver", driver, sizeof(driver)))
		return refuse(vfio, -ENODEV, "it has no driver; it needs vfio-pci: %s", hint);
	if (strcmp(driver, "vfio-pci") != 0)
		return refuse(vfio, -EBUSY, "the driver %s has it; it needs vfio-pci: %s", driver,
			      hint);
	return 0;
}

/* Has that process the file open? */
static bool process_has(const char *pid, const char *file)
{
	char path[320];
	char target[64];
	bool has = false;

	(void)snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	DIR *dir = opendir(path);
	if (!dir)
		return false;
	for (const struct dirent *each; !has && (each = readdir(dir));) {
		ssize_t length = readlinkat(dirfd(dir), each->d_name, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = '\0';
		has = strcmp(target, file) == 0;
	}
	(void)closedir(dir);
	return has;
}

/* A process that has the group open; 0: none that we may look into. */
static long holder_of(const char *file)
{
	DIR *dir = opendir("/proc");
	long pid = 0;

	if (!dir)
		return 0;
	for (const struct dirent *each; pid == 0 && (each = readdir(dir));) {
		if (each->d_name[0] >= '1' && each->d_name[0] <= '9' &&
		    process_has(each->d_name, file))
			pid = strtol(each->d_name, NULL, 10);
	}
	(void)closedir(dir);
	return pid;
}

static int refuse_group(const struct vfio *vfio, const char *file)
{
	int err = -errno;
	long holder = err == -EBUSY ? holder_of(file) : 0;

	if (holder > 0)
		return refuse(vfio, err, "process %ld has it (%s)", holder, file);
	if (err == -EBUSY)
		return refuse(vfio, err, "another process has it (%s)", file);
	if (err == -EACCES || err == -EPERM)
		return refuse(vfio, -EACCES, "%s: %s: chown it to who runs this", file,
			      strerror(-err));
	return refuse(vfio, err, "%s: %s", file, strerror(-err));
}

static int open_group(struct vfio *vfio, const char *address)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	char group[32];
	char file[64];

	if (link_name(address, "iommu_group", group, sizeof(group)))
		return refuse(vfio, -ENOTSUP,
			      "there is no IOMMU: switch it on in the firmware, and by "
			      "intel_iommu=on on the kernel's command line");
	(void)snprintf(file, sizeof(file), "/dev/vfio/%s", group);
	vfio->group = open(file, O_RDWR | O_CLOEXEC);
	if (vfio->group < 0)
		return refuse_group(vfio, file);
	if (ioctl(vfio->group, VFIO_GROUP_GET_STATUS, &status))
		return refuse(vfio, -errno, "%s: %s", file, strerror(errno));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return refuse(vfio, -EBUSY,
			      "other devices of its IOMMU group %s have drivers of the kernel: "
			      "bind them to vfio-pci, too",
			      group);
	return 0;
}

static int open_container(struct vfio *vfio)
{
	vfio->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (vfio->container < 0)
		return refuse(vfio, -errno, "/dev/vfio/vfio: %s (modprobe vfio-pci)",
			      strerror(errno));
	if (ioctl(vfio->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION ||
	    !ioctl(vfio->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU))
		return refuse(vfio, -ENOTSUP, "this kernel's VFIO has no type 1 IOMMU");
	if (ioctl(vfio->group, VFIO_GROUP_SET_CONTAINER, &vfio->container) ||
	    ioctl(vfio->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return refuse(vfio, -errno, "its IOMMU group cannot be used: %s", strerror(errno));
	return 0;
}

static int open_device(struct vfio *vfio, const char *address)
{
	struct vfio_region_info registers = {.argsz = sizeof(registers),
					     .index = VFIO_PCI_BAR0_REGION_INDEX};
	struct vfio_region_info config = {.argsz = sizeof(config),
					  .index = VFIO_PCI_CONFIG_REGION_INDEX};

	vfio->device = ioctl(vfio->group, VFIO_GROUP_GET_DEVICE_FD, address);
	if (vfio->device < 0)
		return refuse(vfio, -errno, "it cannot be opened: %s", strerror(errno));
	if (ioctl(vfio->device, VFIO_DEVICE_GET_REGION_INFO, &registers) ||
	    ioctl(vfio->device, VFIO_DEVICE_GET_REGION_INFO, &config))
		return refuse(vfio, -errno, "it has no registers: %s", strerror(errno));
	vfio->config_at = config.offset;
	vfio->bus.registers_bytes = registers.size;
	if (registers.size < NVME_DOORBELLS + NVME_PAGE ||
	    !(registers.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return refuse(vfio, -ENOTSUP, "its registers cannot be mapped");
	int err = set_master(vfio, true);
	if (err)
		return refuse(vfio, err, "its configuration space cannot be written");
	void *at = mmap(NULL, registers.size, PROT_READ | PROT_WRITE, MAP_SHARED, vfio->device,
			(off_t)registers.offset);
	if (at == MAP_FAILED)
		return refuse(vfio, -errno, "its registers cannot be mapped: %s", strerror(errno));
	vfio->bus.registers = at;
	return 0;
}

/* A bit for each slot that registers of the device are in. */
static uint32_t slots_of_registers(const char *address)
{
	char path[128];
	char line[128];
	uint32_t slots = 0;

	(void)snprintf(path, sizeof(path), DEVICES "%s/resource", address);
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		char *behind;
		uint64_t first = strtoull(line, &behind, 16);
		uint64_t last = strtoull(behind, NULL, 16);
		for (uint64_t slot = first >> SLOT_SHIFT;
		     last >= HIGH_AT && slot < SLOTS && slot <= last >> SLOT_SHIFT; slot++)
			slots |= 1U << slot;
	}
	if (file)
		(void)fclose(file);
	return slots;
}

/* The first address of the first slot that is not taken, which is taken then.  Registers of one
 * device are in two slots at most: there are two others. */
static uint64_t take_slot(uint32_t *taken)
{
	uint64_t slot = 0;

	while (slot < SLOTS - 1 && *taken >> slot & 1)
		slot++;
	*taken |= 1U << slot;
	return slot > 0 ? slot << SLOT_SHIFT : HIGH_AT;
}

int nvme_vfio_open(struct sched *sched, const char *address, struct nvme_bus **bus_out)
{
	if (!is_address(address)) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "demitasse.storage.device: \"%s\" is no PCI address, as 0000:01:00.0",
			  address);
		return -EINVAL;
	}
	struct vfio *vfio = calloc(1, sizeof(*vfio));
	if (!vfio)
		return -ENOMEM;
	*vfio = (struct vfio){.bus = {.ops = &vfio_ops},
			      .sched = sched,
			      .container = -1,
			      .group = -1,
			      .device = -1,
			      .own_next = OWN_AT};
	(void)snprintf(vfio->bus.name, sizeof(vfio->bus.name), "%s", address);
	int err = check_driver(vfio, address);
	uint32_t taken = slots_of_registers(address);
	vfio->heap_at = take_slot(&taken);
	vfio->lent_at = take_slot(&taken);
	if (!err)
		err = open_group(vfio, address);
	if (!err)
		err = open_container(vfio);
	if (!err)
		err = open_device(vfio, address);
	if (err) {
		vfio_close(&vfio->bus);
		return err;
	}
	*bus_out = &vfio->bus;
	return 0;
}
