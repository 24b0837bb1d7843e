/* SPDX-License-Identifier: MIT */
#include "sched/op.h"

#include "base/assert.h"

#include <errno.h>
#include <sys/mman.h>

static_assert(sizeof(struct op) == CACHE_LINE, "an operation is one cache line");

static void *reserve(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

int op_slab_open(struct op_slab *slab, uint32_t max, uint64_t random)
{
	ASSERT(max <= 1U << OP_SLOT_BITS);
	*slab = (struct op_slab){.free = OP_NONE, .max = max};
	/* Half of the numbers are left to count on. */
	slab->generation = (int64_t)(random >> (OP_SLOT_BITS + 1));
	slab->ops = reserve(max * sizeof(*slab->ops));
	slab->segments = reserve(max * sizeof(*slab->segments));
	if (slab->ops && slab->segments)
		return 0;
	op_slab_close(slab);
	return -ENOMEM;
}

void op_slab_close(struct op_slab *slab)
{
	if (slab->ops)
		munmap(slab->ops, slab->max * sizeof(*slab->ops));
	if (slab->segments)
		munmap(slab->segments, slab->max * sizeof(*slab->segments));
	slab->ops = NULL;
	slab->segments = NULL;
}
