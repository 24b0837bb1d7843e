/* SPDX-License-Identifier: MIT
 * blkdev/nvme/memory.c - which of the heap's superblocks the controller reaches, and where.
 *
 * A superblock is made reachable when memory of it is first seen, which pins its pages, and is
 * forgotten before the heap gives it back: what comes at its address later is other pages.  One
 * that cannot be reached is remembered too, so that it is tried once.
 */
#include "blkdev/nvme/nvme.h"

#include <stdlib.h>

/* Addresses are multiples of NVME_PAGE. */
#define SEEN      1
#define REACHABLE 2
#define FLAGS     3

/* The range that ptr is in; NULL: of neither. */
static struct nvme_map *map_of(struct nvme *nvme, const void *ptr)
{
	struct nvme_map *map = &nvme->maps[0];

	if (likely((uintptr_t)ptr - map->base < map->bytes))
		return map;
	map++;
	if (map->bytes == 0) { /* a device may have lent it since */
		map->base = pages_process.lent.base;
		map->bytes = pages_process.lent.bytes;
	}
	return (uintptr_t)ptr - map->base < map->bytes ? map : NULL;
}

static uint64_t first_seen(struct nvme *nvme, struct nvme_map *map, uint64_t index)
{
	uint64_t address;

	if (!map->entries)
		map->entries = calloc(map->bytes >> SUPERBLOCK_SHIFT, sizeof(*map->entries));
	if (!map->entries)
		return SEEN;
	char *superblock = (char *)(map->base + (index << SUPERBLOCK_SHIFT));
	int err = nvme->bus->ops->map(nvme->bus, superblock, &address);
	map->entries[index] = err ? SEEN : address | SEEN | REACHABLE;
	return map->entries[index];
}

bool nvme_address(struct nvme *nvme, const void *ptr, uint64_t *bytes, uint64_t *address_out)
{
	struct nvme_map *map = map_of(nvme, ptr);

	if (unlikely(!map))
		return false;
	uint64_t offset = (uintptr_t)ptr - map->base;
	uint64_t index = offset >> SUPERBLOCK_SHIFT;
	uint64_t within = offset & (SUPERBLOCK_BYTES - 1);
	uint64_t entry = likely(map->entries != NULL) ? map->entries[index] : 0;
	if (unlikely(!entry))
		entry = first_seen(nvme, map, index);
	if (unlikely(!(entry & REACHABLE)))
		return false;
	if (*bytes > SUPERBLOCK_BYTES - within)
		*bytes = SUPERBLOCK_BYTES - within;
	*address_out = (entry & ~(uint64_t)FLAGS) + within;
	return true;
}

static void forget(struct nvme *nvme, struct nvme_map *map, uint64_t index)
{
	uint64_t entry = map->entries[index];

	if (entry & REACHABLE)
		nvme->bus->ops->unmap(nvme->bus, (char *)(map->base + (index << SUPERBLOCK_SHIFT)),
				      entry & ~(uint64_t)FLAGS);
	map->entries[index] = 0;
}

static void going(struct heap_watcher *watcher, char *base, uint64_t bytes)
{
	struct nvme *nvme = container_of(watcher, struct nvme, watcher);
	struct nvme_map *map = map_of(nvme, base);

	if (!map || !map->entries)
		return;
	uint64_t index = ((uintptr_t)base - map->base) >> SUPERBLOCK_SHIFT;
	for (uint64_t i = 0; i < bytes >> SUPERBLOCK_SHIFT; i++)
		forget(nvme, map, index + i);
}

void nvme_memory_open(struct nvme *nvme)
{
	const struct pages_range *range = &pages_process.range;

	nvme->maps[0] = (struct nvme_map){.base = range->base, .bytes = range->bytes};
	nvme->watcher.going = going;
	heap_watch(nvme->dev.sched->heap, &nvme->watcher);
}

void nvme_memory_close(struct nvme *nvme)
{
	heap_unwatch(&nvme->watcher);
	for (uint32_t i = 0; i < ARRAY_LENGTH(nvme->maps); i++) {
		struct nvme_map *map = &nvme->maps[i];
		for (uint64_t k = 0; map->entries && k < map->bytes >> SUPERBLOCK_SHIFT; k++)
			forget(nvme, map, k);
		free(map->entries);
	}
}
