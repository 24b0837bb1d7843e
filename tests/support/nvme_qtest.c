/* tests/support/nvme_qtest.c: see nvme_qtest.h. */
#include "support/nvme_qtest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGISTERS       0xe0000000ULL
#define REGISTERS_BYTES 16384
#define REGION_UNITS    24 /* superblocks of the heap, at address 0 of the machine */
#define PCI_COMMAND     0x04
#define MEMORY_ONLY     0x2 /* of the command register: answers, but reaches nothing */

struct nvme_qtest {
	struct nvme_bus bus;
	struct qtest *qtest;
	struct heap *heap;
	unsigned slot;
	uint64_t next; /* memory of the machine from here on is unused */
};

static struct nvme_qtest *of(struct nvme_bus *bus)
{
	return container_of(bus, struct nvme_qtest, bus);
}

static uint32_t bus_read32(struct nvme_bus *bus, uint32_t offset)
{
	return qtest_read32(of(bus)->qtest, REGISTERS + offset);
}

static uint64_t bus_read64(struct nvme_bus *bus, uint32_t offset)
{
	return qtest_read64(of(bus)->qtest, REGISTERS + offset);
}

static void bus_write32(struct nvme_bus *bus, uint32_t offset, uint32_t value)
{
	qtest_write32(of(bus)->qtest, REGISTERS + offset, value);
}

static void bus_write64(struct nvme_bus *bus, uint32_t offset, uint64_t value)
{
	qtest_write64(of(bus)->qtest, REGISTERS + offset, value);
}

/* The first megabyte of the machine is not all memory: the heap has frames there. */
static int bus_map(struct nvme_bus *bus, char *superblock, uint64_t *address_out)
{
	const struct heap *heap = of(bus)->heap;

	if (!heap_in_region(heap, superblock) || superblock == heap->region)
		return -EFAULT;
	*address_out = (uint64_t)(superblock - heap->region);
	return 0;
}

static void bus_unmap(struct nvme_bus *bus, char *superblock, uint64_t address)
{
	(void)bus;
	(void)superblock;
	(void)address;
}

static int bus_alloc(struct nvme_bus *bus, uint64_t bytes, void **at_out, uint64_t *address_out)
{
	struct nvme_qtest *side = of(bus);

	if (side->next + bytes > side->qtest->memory_bytes)
		return -ENOMEM;
	*address_out = side->next;
	*at_out = side->qtest->memory + side->next;
	memset(*at_out, 0, bytes);
	side->next += bytes;
	return 0;
}

static void bus_cut_off(struct nvme_bus *bus)
{
	qtest_pci_write(of(bus)->qtest, of(bus)->slot, PCI_COMMAND, MEMORY_ONLY);
}

static void bus_close(struct nvme_bus *bus)
{
	free(of(bus));
}

static const struct nvme_bus_ops ops = {
	.read32 = bus_read32,
	.read64 = bus_read64,
	.write32 = bus_write32,
	.write64 = bus_write64,
	.map = bus_map,
	.unmap = bus_unmap,
	.alloc = bus_alloc,
	.cut_off = bus_cut_off,
	.close = bus_close,
};

int nvme_qtest_open(struct qtest *qtest, struct heap *heap, unsigned slot,
		    struct nvme_bus **bus_out)
{
	if (!heap->region) {
		int err = heap_set_region(heap, qtest->memory_fd, 4096, 1, REGION_UNITS);
		if (err)
			return err;
	}
	struct nvme_qtest *side = calloc(1, sizeof(*side));
	if (!side)
		return -ENOMEM;
	*side = (struct nvme_qtest){
		.bus = {.ops = &ops, .registers_bytes = REGISTERS_BYTES, .copies = true},
		.qtest = qtest,
		.heap = heap,
		.slot = slot,
		.next = REGION_UNITS * SUPERBLOCK_BYTES};
	(void)snprintf(side->bus.name, sizeof(side->bus.name), "of QEMU");
	qtest_pci_enable(qtest, slot, REGISTERS);
	*bus_out = &side->bus;
	return 0;
}
