/* SPDX-License-Identifier: MIT
 * blkdev/nvme/data.h - the memory of a read or write, as a command tells the controller of it.
 */
#pragma once

#include "blkdev/nvme/nvme.h"

/* Points the slot's command to the segments of its request.  False: they cannot be told to the
 * controller, or not all be reached. */
bool nvme_data_direct(struct nvme *nvme, struct nvme_slot *slot);

/* Points it to the slot's buffer, which holds what is to be written then. */
void nvme_data_buffered(struct nvme *nvme, struct nvme_slot *slot);

/* A read into the buffer was done: its segments get it. */
void nvme_data_arrived(struct nvme *nvme, const struct nvme_slot *slot);
