/* SPDX-License-Identifier: MIT
 * blkdev/nvme/queue.c - see queue.h.
 */
#include "blkdev/nvme/queue.h"

#include <string.h>

void nvme_queue_reset(struct nvme_queue *queue, uint32_t id, uint32_t stride)
{
	memset(queue->commands, 0, queue->entries * sizeof(*queue->commands));
	for (uint32_t i = 0; i < queue->entries; i++)
		queue->completions[i].status = 0;
	queue->tail = 0;
	queue->head = 0;
	queue->phase = 1;
	/* 3.1.24, 3.1.25 */
	queue->submitted = (struct nvme_doorbell){.offset = NVME_DOORBELLS + 2 * id * stride};
	queue->taken = (struct nvme_doorbell){.offset = NVME_DOORBELLS + (2 * id + 1) * stride};
}

static void set_shadow(struct nvme_doorbell *doorbell, const struct nvme_shadow *shadow)
{
	uint32_t offset = doorbell->offset - NVME_DOORBELLS; /* figure 231: as the registers are */

	doorbell->shadow = (volatile uint32_t *)(void *)(shadow->values + offset);
	doorbell->event = (volatile uint32_t *)(void *)(shadow->events + offset);
	*doorbell->shadow = doorbell->rung;
	*doorbell->event = doorbell->rung;
}

void nvme_queue_set_shadow(struct nvme_queue *queue, const struct nvme_shadow *shadow)
{
	set_shadow(&queue->submitted, shadow);
	set_shadow(&queue->taken, shadow);
}

/* 7.13: the register is written only if the value passes the one that the controller waits for. */
static bool passes(const struct nvme_doorbell *doorbell, uint32_t value)
{
	uint16_t event = (uint16_t)*doorbell->event;

	return (uint16_t)(value - event - 1) < (uint16_t)(value - doorbell->rung);
}

void nvme_doorbell_ring(struct nvme_bus *bus, struct nvme_doorbell *doorbell, uint32_t value)
{
	bool needed = true;

	nvme_barrier();
	if (doorbell->shadow) {
		*doorbell->shadow = value;
		nvme_barrier(); /* it looks at the shadow after it wrote the event, we the other
				   way */
		needed = passes(doorbell, value);
	}
	doorbell->rung = value;
	if (!needed)
		return;
	if (bus->registers)
		*(volatile uint32_t *)(void *)(bus->registers + doorbell->offset) = value;
	else
		bus->ops->write32(bus, doorbell->offset, value);
}
