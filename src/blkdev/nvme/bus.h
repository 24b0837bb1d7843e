/* SPDX-License-Identifier: MIT
 * blkdev/nvme/bus.h - the seam between the NVMe driver and what carries it to a controller: the
 * registers of its BAR 0, and memory that the controller reads and writes.
 *
 * One side is vfio.c; another one, of the tests, drives QEMU's model (tests/support/nvme_qtest.h).
 * A controller that is gone reads as all ones, and what is written to it is lost.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define NVME_PAGE 4096 /* bytes of a page to the controller: CC.MPS 0 */

struct nvme_bus;

/* All members are required. */
struct nvme_bus_ops {
	uint32_t (*read32)(struct nvme_bus *bus, uint32_t offset);
	uint64_t (*read64)(struct nvme_bus *bus, uint32_t offset);
	void (*write32)(struct nvme_bus *bus, uint32_t offset, uint32_t value);
	void (*write64)(struct nvme_bus *bus, uint32_t offset, uint64_t value);
	/* Makes one superblock of the heap reachable.  Where it is to the controller, a multiple of
	 * NVME_PAGE, or an error, told to the log: it cannot be reached. 0 or -errno. */
	int (*map)(struct nvme_bus *bus, char *superblock, uint64_t *address_out);
	void (*unmap)(struct nvme_bus *bus, char *superblock, uint64_t address);
	/* Memory of zeros that the controller reaches, in one piece, aligned to NVME_PAGE; given
	 * back by close.  0 or -errno, told to the log. */
	int (*alloc)(struct nvme_bus *bus, uint64_t bytes, void **at_out, uint64_t *address_out);
	/* From its return on the controller reaches no memory at all, whatever state it is in. */
	void (*cut_off)(struct nvme_bus *bus);
	void (*close)(struct nvme_bus *bus);
};

/* Embedded first in every bus. */
struct nvme_bus {
	const struct nvme_bus_ops *ops;
	char *registers; /* BAR 0, if it is mapped: doorbells are stores; else NULL */
	uint64_t registers_bytes;
	bool copies;   /* a good part of the heap cannot be reached */
	char name[48]; /* of the controller, for people */
};
