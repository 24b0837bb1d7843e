/* tests/support/nvme_qtest.h: a bus of the NVMe driver (blkdev/nvme/bus.h) to QEMU's model of a
 * controller, in the machine of support/qtest.h: registers are lines of text, queues are in the
 * machine's memory, and so is a part of the heap.
 */
#pragma once

#include "blkdev/nvme/bus.h"
#include "mem/heap.h"
#include "support/qtest.h"

#define NVME_QTEST_MEMORY ((size_t)160 << 20) /* of the machine */

/* nvme_qtest_open: the controller in a slot of bus 0. The heap becomes one whose objects, but for
 * huge ones, are in the machine's memory, if nobody has been given its region yet. 0 or -errno. */
int nvme_qtest_open(struct qtest *qtest, struct heap *heap, unsigned slot,
		    struct nvme_bus **bus_out);
