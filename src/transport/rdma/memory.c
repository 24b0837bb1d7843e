/* SPDX-License-Identifier: MIT
 * transport/rdma/memory.c - memory that the device knows: superblocks of the heap, each registered
 * once, whole, for local access.
 *
 * A region may be bound to a memory window, but gives a peer nothing by itself.  It goes before the
 * heap gives the superblock back: nothing is alive in it then, so the device has no work there.
 */
#include "transport/rdma/rdma.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#define REGIONS_MIN 64

static struct rdma_region *find(const struct rdma_memory *memory, uint64_t base)
{
	uint32_t place = rdma_region_place(memory, base);

	while (memory->regions[place].base && memory->regions[place].base != base)
		place = (place + 1) & (memory->size - 1);
	return &memory->regions[place];
}

/* Room for one more: a table never is more than half full.  0 or -ENOMEM. */
static int grow(struct rdma_memory *memory)
{
	struct rdma_memory larger = {.size = memory->size ? 2 * memory->size : REGIONS_MIN,
				     .used = memory->used,
				     .told = memory->told};

	if (memory->size > 0 && 2 * (memory->used + 1) <= memory->size)
		return 0;
	larger.regions = calloc(larger.size, sizeof(*larger.regions));
	if (!larger.regions)
		return -ENOMEM;
	for (uint32_t i = 0; i < memory->size; i++) {
		if (memory->regions[i].base)
			*find(&larger, memory->regions[i].base) = memory->regions[i];
	}
	free(memory->regions);
	*memory = larger;
	return 0;
}

/* Entries behind a gap come forward, to where they are looked for. */
static void close_gap(struct rdma_memory *memory, uint32_t gap)
{
	uint32_t mask = memory->size - 1;

	for (uint32_t i = (gap + 1) & mask; memory->regions[i].base; i = (i + 1) & mask) {
		uint32_t home = rdma_region_place(memory, memory->regions[i].base);
		if (((i - home) & mask) < ((i - gap) & mask))
			continue;
		memory->regions[gap] = memory->regions[i];
		gap = i;
	}
	memory->regions[gap] = (struct rdma_region){.base = 0};
}

/* The usual cause of ENOMEM, and what helps. */
static void tell_memlock(struct rdma_engine *re)
{
	struct rlimit limit = {.rlim_cur = 0};
	const struct log *log = &rdma_sched(re)->log;

	if (re->memory.told)
		return;
	re->memory.told = true;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY)
		log_write(log, LOG_LEVEL_ERROR,
			  "rdma: the device has no room to register more memory");
	else
		log_write(
			log, LOG_LEVEL_ERROR,
			"rdma: memory cannot be registered: RLIMIT_MEMLOCK allows %llu bytes to be "
			"locked; raise it by `ulimit -l unlimited`, or LimitMEMLOCK=infinity in a "
			"unit of systemd",
			(unsigned long long)limit.rlim_cur);
}

int rdma_register(struct rdma_engine *re, const void *ptr, const struct rdma_region **out)
{
	struct rdma_memory *memory = &re->memory;
	const struct superblock *sb = pages_find(ptr);
	int err = grow(memory);

	if (err)
		return err;
	struct rdma_region *region = find(memory, (uintptr_t)sb->base);
	if (!region->base) {
		uint64_t bytes = sb->units * SUPERBLOCK_BYTES;
		unsigned int access = IBV_ACCESS_LOCAL_WRITE;
		if (re->device.windows)
			access |= IBV_ACCESS_MW_BIND;
		region->mr = re->verbs->reg_mr(re->device.pd, sb->base, bytes, (int)access);
		if (!region->mr) {
			err = rdma_errno();
			if (err == -ENOMEM)
				tell_memlock(re);
			return err;
		}
		region->base = (uintptr_t)sb->base;
		region->bytes = bytes;
		memory->used++;
	}
	*out = region;
	return 0;
}

static void forget(struct rdma_engine *re, struct rdma_region *region)
{
	(void)re->verbs->dereg_mr(region->mr);
	re->memory.used--;
	close_gap(&re->memory, (uint32_t)(region - re->memory.regions));
}

void rdma_memory_going(struct heap_watcher *watcher, char *base, uint64_t bytes)
{
	struct rdma_device *device = container_of(watcher, struct rdma_device, watcher);
	struct rdma_engine *re = container_of(device, struct rdma_engine, device);

	for (uint64_t at = 0; at < bytes; at += SUPERBLOCK_BYTES) {
		struct rdma_region *region = find(&re->memory, (uintptr_t)base + at);
		if (region->base)
			forget(re, region);
	}
}

void rdma_memory_close(struct rdma_engine *re)
{
	struct rdma_memory *memory = &re->memory;

	for (uint32_t i = 0; i < memory->size; i++) {
		if (memory->regions[i].base)
			(void)re->verbs->dereg_mr(memory->regions[i].mr);
	}
	free(memory->regions);
	*memory = (struct rdma_memory){.told = memory->told};
}
