/* SPDX-License-Identifier: MIT
 * tests/unit/heap_test.c - mem/heap.c: a shadow model under random operations, the class table,
 * misuse, limits, memory given back, heaps that outlive their instance, frees by others, every
 * allocation failed in turn.
 */
#include "support/test.h"

#include "base/prng.h"
#include "mem/heap.h"
#include "support/child.h"
#include "support/fault.h"
#include "support/seed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static struct heap *open_heap(uint64_t bytes_max)
{
	struct heap *heap;

	assert_int_equal(heap_open(&heap, bytes_max, PAGES_HUGE_NEVER), 0);
	return heap;
}

static struct heap_usage usage_of(const struct heap *heap)
{
	struct heap_usage usage;

	heap_usage(heap, &usage);
	return usage;
}

/* -- the class table */

static void test_classes(void **state)
{
	struct heap *heap = open_heap(GIB);
	uint64_t bytes[HEAP_CLASSES] = {0};

	(void)state;
	for (uint64_t size = 1; size <= HEAP_CLASS_MAX_BYTES; size++) {
		uint32_t class = heap_class(size);
		assert_true(class < HEAP_CLASSES);
		if (!bytes[class]) {
			char *ptr = heap_alloc(heap, size);
			assert_non_null(ptr);
			assert_ptr_equal(heap_object(heap, ptr, &bytes[class]), ptr);
			assert_int_equal(heap_free(heap, ptr), 0);
			assert_int_equal(bytes[class] % 16, 0);
			assert_true(class == 0 || bytes[class] > bytes[class - 1]);
		}
		if (bytes[class] < size || bytes[class] - size >= size / 4 + 16)
			fail_msg("size %llu: class of %llu bytes", (unsigned long long)size,
				 (unsigned long long)bytes[class]);
		if (class > 0 && bytes[class - 1] >= size)
			fail_msg("size %llu: class %u would do", (unsigned long long)size,
				 class - 1);
	}
	assert_int_equal(bytes[HEAP_CLASSES - 1], HEAP_CLASS_MAX_BYTES);
	heap_check(heap);
	heap_close(heap);
}

/* Every object of a class is aligned, inside its superblock, and not another's. */
static void test_class_objects(void **state)
{
	static const uint64_t sizes[] = {16,   48,   112,   128,   160,   448,    1024,
					 1792, 4096, 40960, 65536, 98304, 229376, 262144};
	struct heap *heap = open_heap(GIB);

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		uint64_t count = SUPERBLOCK_BYTES / sizes[i] + 2;
		char **objects = calloc(count, sizeof(*objects));
		assert_non_null(objects);
		for (uint64_t k = 0; k < count; k++) {
			objects[k] = heap_alloc(heap, sizes[i]);
			uintptr_t at = (uintptr_t)objects[k];
			assert_int_equal(at % 16, 0);
			if ((sizes[i] & (sizes[i] - 1)) == 0)
				assert_int_equal(at % sizes[i], 0);
			assert_int_equal(at >> SUPERBLOCK_SHIFT,
					 (at + sizes[i] - 1) >> SUPERBLOCK_SHIFT);
			memcpy(objects[k], &at, sizeof(at));
			memcpy(objects[k] + sizes[i] - sizeof(at), &at, sizeof(at));
		}
		for (uint64_t k = 0; k < count; k++) {
			assert_memory_equal(objects[k], &objects[k], sizeof(uintptr_t));
			assert_memory_equal(objects[k] + sizes[i] - sizeof(uintptr_t), &objects[k],
					    sizeof(uintptr_t));
			assert_int_equal(heap_free(heap, objects[k]), 0);
		}
		free(objects);
		heap_check(heap);
	}
	heap_close(heap);
}

static void test_aligned(void **state)
{
	static const uint64_t sizes[] = {1,    15,     16,     17,     100,    4096,
					 5000, 200000, 262144, 262145, 3 * MIB};
	struct heap *heap = open_heap(GIB);

	(void)state;
	for (uint64_t alignment = 1; alignment <= 2 * MIB; alignment *= 2) {
		for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
			uint64_t bytes;
			char *ptr = heap_alloc_aligned(heap, alignment, sizes[i]);
			assert_non_null(ptr);
			assert_int_equal((uintptr_t)ptr % alignment, 0);
			assert_ptr_equal(heap_object(heap, ptr, &bytes), ptr);
			assert_true(bytes >= sizes[i]);
			ptr[0] = 1;
			ptr[sizes[i] - 1] = 2;
			assert_int_equal(heap_free(heap, ptr), 0);
		}
	}
	heap_check(heap);
	heap_close(heap);
}

/* What no object can be as large as is refused, and soon. */
static void test_too_large(void **state)
{
	static const uint64_t sizes[] = {HEAP_OBJECT_MAX_BYTES + 1, (uint64_t)1 << 62,
					 ((uint64_t)1 << 63) + 1, UINT64_MAX - 16, UINT64_MAX};
	struct heap *heap = open_heap(GIB);

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		assert_null(heap_alloc(heap, sizes[i]));
		assert_null(heap_alloc_aligned(heap, 16, sizes[i]));
		assert_null(heap_alloc_aligned(heap, 32, sizes[i]));
		assert_null(heap_alloc_aligned(heap, 2 * MIB, sizes[i]));
	}
	assert_int_equal(usage_of(heap).committed_bytes, 0);
	heap_close(heap);
}

/* -- the shadow model */

#define SLOTS 600

struct shadow {
	char *ptr; /* NULL: no object */
	uint64_t size;
	uint32_t app;
	uint32_t lib;
};

struct model {
	struct heap *heap;
	struct prng prng;
	uint64_t live;
	struct shadow slots[SLOTS];
};

static uint64_t below(struct model *model, uint64_t bound)
{
	return prng_below(&model->prng, bound);
}

static uint64_t draw_size(struct model *model)
{
	switch (below(model, 16)) {
	case 0:
		return 1 + below(model, 6 * MIB);
	case 1:
		return HEAP_CLASS_MAX_BYTES + below(model, 3);
	case 2:
	case 3:
	case 4:
	case 5:
		return 1 + below(model, 128);
	case 6:
	case 7:
		return 1 + below(model, 4096);
	default:
		return 1 + below(model, HEAP_CLASS_MAX_BYTES);
	}
}

/* Both ends of an object carry its address and size. */
static void stamp(const struct shadow *shadow, bool write)
{
	uint64_t words[2] = {(uintptr_t)shadow->ptr * 31, shadow->size};
	uint64_t bytes = shadow->size < sizeof(words) ? shadow->size : sizeof(words);
	char *last = shadow->ptr + shadow->size - bytes;

	if (write) {
		memcpy(last, words, bytes);
		memcpy(shadow->ptr, words, bytes);
	} else if (shadow->size >= 2 * sizeof(words)) {
		assert_memory_equal(last, words, bytes);
		assert_memory_equal(shadow->ptr, words, bytes);
	} else {
		assert_memory_equal(shadow->ptr, words, bytes);
	}
}

static void model_alloc(struct model *model, struct shadow *shadow)
{
	uint64_t alignment = below(model, 8) == 0 ? (uint64_t)1 << below(model, 22) : 16;

	shadow->size = draw_size(model);
	shadow->ptr = alignment == 16 ? heap_alloc(model->heap, shadow->size)
				      : heap_alloc_aligned(model->heap, alignment, shadow->size);
	assert_non_null(shadow->ptr);
	assert_int_equal((uintptr_t)shadow->ptr % (alignment < 16 ? 16 : alignment), 0);
	shadow->app = 1;
	shadow->lib = 0;
	stamp(shadow, true);
	model->live++;
}

/* Counts changed: is the object gone? */
static void model_dropped(struct model *model, struct shadow *shadow)
{
	if (shadow->app + shadow->lib > 0)
		return;
	assert_int_not_equal(heap_find(model->heap, shadow->ptr, 0), HEAP_OURS);
	shadow->ptr = NULL;
	model->live--;
}

static void model_free(struct model *model, struct shadow *shadow)
{
	uint64_t inside = below(model, 2) ? below(model, shadow->size) : 0;
	bool remote = below(model, 4) == 0;
	struct heap *mine = remote ? NULL : model->heap;

	if (shadow->app == 0) {
		assert_int_equal(heap_free(model->heap, shadow->ptr), -EINVAL);
		return;
	}
	stamp(shadow, false);
	if (inside)
		assert_int_equal(heap_free_inside(mine, shadow->ptr + inside), 0);
	else
		assert_int_equal(heap_free(mine, shadow->ptr), 0);
	if (remote && below(model, 2))
		heap_drain(model->heap);
	else if (remote)
		heap_drain_slow(model->heap);
	shadow->app--;
	model_dropped(model, shadow);
}

static void model_count(struct model *model, struct shadow *shadow)
{
	const char *at = shadow->ptr + below(model, shadow->size);

	switch (below(model, 4)) {
	case 0:
		heap_ref_library(at);
		shadow->lib++;
		break;
	case 1:
		if (!shadow->lib)
			break;
		heap_unref_library(model->heap, at);
		shadow->lib--;
		break;
	case 2:
		if (!shadow->lib)
			break;
		heap_hand_over(at);
		shadow->lib--;
		shadow->app++;
		break;
	default:
		if (!shadow->app)
			break;
		heap_take_over(at);
		shadow->app--;
		shadow->lib++;
	}
	model_dropped(model, shadow);
}

static void model_query(struct model *model, const struct shadow *shadow)
{
	uint64_t at = below(model, shadow->size);
	const char *object = NULL;
	uint64_t bytes = 0;

	stamp(shadow, false);
	assert_int_equal(heap_app_refs(model->heap, shadow->ptr + at, &object), shadow->app);
	assert_ptr_equal(object, shadow->ptr);
	assert_int_equal(heap_library_refs(model->heap, shadow->ptr + at), shadow->lib);
	assert_ptr_equal(heap_object(model->heap, shadow->ptr + at, &bytes), shadow->ptr);
	assert_true(bytes >= shadow->size);
	assert_int_equal(heap_find(model->heap, shadow->ptr + at, bytes - at), HEAP_OURS);
	assert_int_equal(heap_find(model->heap, shadow->ptr + at, bytes - at + 1), HEAP_BAD);
	if (at)
		assert_int_equal(heap_free(model->heap, shadow->ptr + at), -EINVAL);
}

static void model_step(struct model *model)
{
	struct shadow *shadow = &model->slots[below(model, SLOTS)];

	if (!shadow->ptr)
		model_alloc(model, shadow);
	else if (below(model, 3) == 0)
		model_free(model, shadow);
	else if (below(model, 2) == 0)
		model_count(model, shadow);
	else
		model_query(model, shadow);
}

static void model_drop_all(struct model *model)
{
	for (struct shadow *shadow = model->slots; shadow < model->slots + SLOTS; shadow++) {
		for (; shadow->lib > 0; shadow->lib--)
			heap_unref_library(model->heap, shadow->ptr);
		for (; shadow->app > 0; shadow->app--)
			assert_int_equal(heap_free(model->heap, shadow->ptr), 0);
	}
}

static void test_model(void **state)
{
	static struct model model;
	uint64_t seed = test_seed(20261121);

	(void)state;
	for (uint64_t round = 0; round < 6; round++) {
		model = (struct model){.heap = open_heap(4 * GIB)};
		prng_seed(&model.prng, seed + round);
		for (int i = 0; i < 8000; i++) {
			model_step(&model);
			heap_check(model.heap);
			assert_int_equal(usage_of(model.heap).live_objects, model.live);
		}
		model_drop_all(&model);
		heap_check(model.heap);
		struct heap_usage usage = usage_of(model.heap);
		assert_int_equal(usage.live_objects, 0);
		assert_int_equal(usage.live_bytes, 0);
		assert_int_equal(usage.remote_errors, 0);
		heap_close(model.heap);
	}
}

/* -- misuse */

struct misuse {
	struct heap *heap;
	char *live;  /* 48 bytes: 2 MiB is no multiple of it */
	char *freed; /* of the same class */
	char *held;  /* only the library's */
	char *huge;
	char *huge_freed;
	char *base; /* of the first three's superblock */
};

static void misuse_open(struct misuse *m)
{
	m->heap = open_heap(GIB);
	m->live = heap_alloc(m->heap, 48);
	m->freed = heap_alloc(m->heap, 48);
	m->held = heap_alloc(m->heap, 48);
	m->huge = heap_alloc(m->heap, 5 * MIB);
	m->huge_freed = heap_alloc(m->heap, 3 * MIB);
	m->base = m->live - (uintptr_t)m->live % SUPERBLOCK_BYTES;
	heap_take_over(m->held);
	assert_int_equal(heap_free(m->heap, m->freed), 0);
	assert_int_equal(heap_free(m->heap, m->huge_freed), 0);
}

static void misuse_close(struct misuse *m)
{
	assert_int_equal(heap_free(m->heap, m->live), 0);
	heap_unref_library(m->heap, m->held);
	assert_int_equal(heap_free(m->heap, m->huge), 0);
	assert_int_equal(usage_of(m->heap).live_objects, 0);
	heap_close(m->heap);
}

static void test_misuse(void **state)
{
	struct misuse m;
	char on_stack[64];
	char *unmapped = (char *)(uintptr_t)0x10;

	(void)state;
	misuse_open(&m);
	uint64_t in_use = SUPERBLOCK_BYTES / 48 * 48;
	char *free_superblock = (char *)((uintptr_t)m.huge + 900 * SUPERBLOCK_BYTES);

	const struct {
		const char *what;
		char *ptr;
		enum heap_kind kind;
		bool inside; /* heap_free_inside refuses it, too */
	} cases[] = {
		{"null", NULL, HEAP_FOREIGN, true},
		{"stack", on_stack, HEAP_FOREIGN, true},
		{"unmapped", unmapped, HEAP_FOREIGN, true},
		{"all ones", (char *)UINTPTR_MAX, HEAP_FOREIGN, true},
		{"below the range", (char *)(pages_process.range.base - 1), HEAP_FOREIGN, true},
		{"behind the range", (char *)(pages_process.range.base + pages_process.range.bytes),
		 HEAP_FOREIGN, true},
		{"superblock not in use", free_superblock, HEAP_FOREIGN, true},
		{"interior", m.live + 16, HEAP_OURS, false},
		{"last byte", m.live + 47, HEAP_OURS, false},
		{"freed", m.freed, HEAP_BAD, true},
		{"freed, interior", m.freed + 16, HEAP_BAD, true},
		{"held by the library only", m.held, HEAP_OURS, true},
		{"one past the end, never handed out", m.held + 48, HEAP_BAD, true},
		{"never handed out", m.base + (uint64_t)30000 * 48, HEAP_BAD, true},
		{"beyond capacity", m.base + in_use, HEAP_BAD, true},
		{"last byte of the superblock", m.base + SUPERBLOCK_BYTES - 1, HEAP_BAD, true},
		{"interior of huge", m.huge + 4096, HEAP_OURS, false},
		{"second unit of huge", m.huge + 2 * MIB, HEAP_OURS, false},
		{"huge, freed", m.huge_freed, HEAP_BAD, true},
	};
	struct heap_usage before = usage_of(m.heap);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		int err = heap_free(m.heap, cases[i].ptr);
		if (err != -EINVAL)
			fail_msg("heap_free: %s: %d", cases[i].what, err);
		if (cases[i].inside)
			err = heap_free_inside(m.heap, cases[i].ptr);
		if (err != -EINVAL)
			fail_msg("heap_free_inside: %s: %d", cases[i].what, err);
		if (heap_find(m.heap, cases[i].ptr, 1) != cases[i].kind)
			fail_msg("heap_find: %s: %d", cases[i].what,
				 heap_find(m.heap, cases[i].ptr, 1));
		struct heap_usage after = usage_of(m.heap);
		assert_memory_equal(&before, &after, sizeof(before));
		heap_check(m.heap);
	}
	misuse_close(&m);
}

/* A pointer of one heap means nothing to another. */
static void test_two_heaps(void **state)
{
	struct heap *one = open_heap(GIB);
	struct heap *two = open_heap(GIB);
	char *ptr = heap_alloc(one, 100);
	const char *object;
	uint64_t bytes;

	(void)state;
	assert_int_equal(heap_find(two, ptr, 1), HEAP_FOREIGN);
	assert_int_equal(heap_app_refs(two, ptr, &object), 0);
	assert_int_equal(heap_library_refs(two, ptr), 0);
	assert_null(heap_object(two, ptr, &bytes));
	/* A free by another instance reaches the owner when it drains. */
	assert_int_equal(heap_free(two, ptr), 0);
	assert_int_equal(usage_of(one).live_objects, 1);
	heap_drain(one);
	assert_int_equal(usage_of(one).live_objects, 0);
	heap_close(one);
	heap_close(two);
}

/* -- frees by others */

/* Fills superblocks of the class of size; returns count objects, the heap's current superblock full
 * at the end. */
static uint64_t fill(struct heap *heap, uint64_t size, uint64_t superblocks, char **objects)
{
	uint64_t count = superblocks * (SUPERBLOCK_BYTES / size);

	for (uint64_t i = 0; i < count; i++) {
		objects[i] = heap_alloc(heap, size);
		assert_non_null(objects[i]);
	}
	return count;
}

/* A free by another makes room in the current superblock at the very moment that the class looks
 * for another. */
static void test_remote_into_full_current(void **state)
{
	struct heap *heap = open_heap(GIB);
	char *objects[8];

	(void)state;
	uint64_t count = fill(heap, HEAP_CLASS_MAX_BYTES, 1, objects);
	assert_int_equal(heap_free(NULL, objects[3]), 0);
	char *again = heap_alloc(heap, HEAP_CLASS_MAX_BYTES);
	heap_check(heap);
	assert_ptr_equal(again, objects[3]);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(heap_free(heap, objects[i]), 0);
	heap_check(heap);
	heap_close(heap);
}

static void test_remote_errors(void **state)
{
	struct heap *heap = open_heap(GIB);
	char *small = heap_alloc(heap, 100);
	char *huge = heap_alloc(heap, 3 * MIB);

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(heap_free(NULL, small), 0);
		assert_int_equal(heap_free(NULL, huge), 0);
	}
	assert_int_equal(heap_free(NULL, small + 112), 0); /* never handed out */
	assert_int_equal(usage_of(heap).live_objects, 2);
	heap_drain(heap);
	heap_check(heap);
	assert_int_equal(usage_of(heap).live_objects, 0);
	assert_int_equal(usage_of(heap).remote_errors, 5);
	assert_int_equal(heap_free(NULL, small), 0);
	heap_drain(heap);
	assert_int_equal(usage_of(heap).remote_errors, 6);
	heap_close(heap);
}

/* Freed by another and by the owner: one of them is wrong, and the superblock must not go before
 * its list is drained. */
static void test_remote_and_owner(void **state)
{
	struct heap *heap = open_heap(GIB);
	char *objects[24];
	char *huge[3];

	(void)state;
	uint64_t count = fill(heap, HEAP_CLASS_MAX_BYTES, 3, objects);
	for (uint64_t i = 0; i < count; i += 4)
		assert_int_equal(heap_free(NULL, objects[i]), 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(heap_free(heap, objects[i]), 0);
	for (int i = 0; i < 3; i++) {
		huge[i] = heap_alloc(heap, 100 * MIB);
		assert_non_null(huge[i]);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(heap_free(NULL, huge[i]), 0);
		assert_int_equal(heap_free(heap, huge[i]), 0);
	}
	heap_drain(heap);
	heap_check(heap);
	assert_int_equal(usage_of(heap).live_objects, 0);
	assert_int_equal(usage_of(heap).remote_errors, 6 + 3);
	heap_close(heap);
}

/* -- limits, and memory given back */

static void test_limit(void **state)
{
	struct heap *heap = open_heap(8 * MIB);
	char *objects[64];
	uint64_t count = 0;

	(void)state;
	while (count < ARRAY_LENGTH(objects) &&
	       (objects[count] = heap_alloc(heap, HEAP_CLASS_MAX_BYTES)))
		count++;
	assert_int_equal(count, 32);
	assert_int_equal(usage_of(heap).committed_bytes, 8 * MIB);
	assert_null(heap_alloc(heap, 16));
	assert_null(heap_alloc(heap, 3 * MIB));
	heap_check(heap);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(heap_free(heap, objects[i]), 0);
	heap_check(heap);
	heap_close(heap);
}

/* Empty memory of one class, or of huge objects, serves every other before the limit refuses. */
static void test_limit_reclaims(void **state)
{
	static const uint64_t sizes[] = {16,   3000,    40000, 262144,  2 * MIB, 4 * MIB, 1,
					 1000, 8 * MIB, 64,    5 * MIB, 200000,  8 * MIB, 100};
	struct heap *heap = open_heap(8 * MIB);

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		char *ptr = heap_alloc(heap, sizes[i]);
		if (!ptr)
			fail_msg("%llu bytes: refused by an empty heap",
				 (unsigned long long)sizes[i]);
		memset(ptr, 1, sizes[i]);
		heap_check(heap);
		assert_int_equal(heap_free(heap, ptr), 0);
		heap_check(heap);
		assert_true(usage_of(heap).committed_bytes <= 8 * MIB);
	}
	heap_close(heap);
}

/* Of what a burst took, at most two superblocks a class stay, and 128 MiB of huge objects. */
static void test_give_back(void **state)
{
	static const uint64_t sizes[] = {1024, 65536, HEAP_CLASS_MAX_BYTES};
	struct heap *heap = open_heap(4 * GIB);
	char **objects = calloc(16 * 2048, sizeof(*objects));
	struct prng prng;

	(void)state;
	assert_non_null(objects);
	prng_seed(&prng, 1);
	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		uint64_t before = usage_of(heap).committed_bytes;
		uint64_t count = fill(heap, sizes[i], 16, objects);
		assert_int_equal(usage_of(heap).committed_bytes, before + 16 * SUPERBLOCK_BYTES);
		for (uint64_t left = count; left > 0; left--) {
			uint64_t at = prng_below(&prng, left);
			assert_int_equal(heap_free(heap, objects[at]), 0);
			objects[at] = objects[left - 1];
		}
		heap_check(heap);
		assert_true(usage_of(heap).committed_bytes <= before + 2 * SUPERBLOCK_BYTES);
	}
	for (int i = 0; i < 40; i++)
		objects[i] = heap_alloc(heap, 10 * MIB);
	for (int i = 0; i < 40; i++)
		assert_int_equal(heap_free(heap, objects[i]), 0);
	assert_true(usage_of(heap).committed_bytes <=
		    2 * ARRAY_LENGTH(sizes) * SUPERBLOCK_BYTES + 128 * MIB);
	heap_check(heap);
	free(objects);
	heap_close(heap);
}

/* Memory that was given back is zero, or at least not there, when it comes again: nothing leaks
 * between heaps. */
static void test_huge_reuse(void **state)
{
	struct heap *heap = open_heap(GIB);
	char *first = heap_alloc(heap, 5 * MIB);

	(void)state;
	memset(first, 7, 5 * MIB);
	assert_int_equal(heap_free(heap, first), 0);
	char *second = heap_alloc(heap, 6 * MIB); /* as many units */
	assert_ptr_equal(first, second);
	memset(second, 8, 6 * MIB);
	assert_int_equal(heap_free(heap, second), 0);
	heap_close(heap);
	heap = open_heap(GIB);
	char *third = heap_alloc(heap, 6 * MIB);
	for (uint64_t i = 0; i < 6 * MIB; i += 512)
		assert_int_equal(third[i], 0);
	assert_int_equal(heap_free(heap, third), 0);
	heap_close(heap);
}

/* A watcher is told of memory before it goes, and only then. */
struct watched {
	struct heap_watcher watcher;
	char *base;
	uint64_t bytes;
};

static void going(struct heap_watcher *watcher, char *base, uint64_t bytes)
{
	struct watched *watched = container_of(watcher, struct watched, watcher);

	assert_int_equal(base[0], 7); /* it is there still */
	watched->base = base;
	watched->bytes += bytes;
}

static void test_watcher(void **state)
{
	struct heap *heap = open_heap(GIB);
	struct watched watched = {.watcher.going = going};

	(void)state;
	heap_watch(heap, &watched.watcher);
	char *kept = heap_alloc(heap, 5 * MIB);
	char *gone = heap_alloc(heap, 200 * MIB);
	kept[0] = gone[0] = 7;
	assert_int_equal(heap_free(heap, kept), 0);
	assert_int_equal(watched.bytes, 0); /* kept for later */
	assert_int_equal(heap_free(heap, gone), 0);
	assert_int_equal(watched.bytes, 206 * MIB); /* the oldest first */
	assert_ptr_equal(watched.base, gone);
	heap_unwatch(&watched.watcher);
	heap_close(heap);
}

/* -- life */

static void test_orphan(void **state)
{
	struct heap *heap = open_heap(GIB);
	char *one = heap_alloc(heap, 100);
	char *two = heap_alloc(heap, 3 * MIB);

	(void)state;
	assert_int_equal(heap_free(NULL, heap_alloc(heap, 50)), 0); /* undrained */
	memset(one, 1, 100);
	memset(two, 2, 3 * MIB);
	heap_close(heap);
	/* A live orphan is no other instance's heap. */
	struct heap *other = open_heap(GIB);
	assert_ptr_not_equal(heap, other);
	assert_int_equal(one[99], 1);
	assert_int_equal(two[3 * MIB - 1], 2);
	assert_int_equal(heap_free(other, one), 0);
	assert_int_equal(two[0], 2);
	assert_int_equal(heap_free(NULL, two), 0);
	assert_null(pages_find(one));
	assert_null(pages_find(two));
	assert_int_equal(heap_free(NULL, one), -EINVAL);
	heap_close(other);
}

/* A heap without objects goes at once, and its struct serves again, as new. */
static void test_struct_reuse(void **state)
{
	struct heap *heap = open_heap(4 * MIB);
	char *ptr = heap_alloc(heap, 100);

	(void)state;
	assert_int_equal(heap_free(NULL, ptr), 0);
	assert_int_equal(heap_free(NULL, ptr), 0);
	heap_drain(heap);
	assert_int_equal(usage_of(heap).remote_errors, 1);
	heap_close(heap);
	assert_null(pages_find(ptr));
	struct heap *again = open_heap(GIB);
	assert_ptr_equal(again, heap);
	struct heap_usage usage = usage_of(again);
	assert_int_equal(usage.committed_bytes, 0);
	assert_int_equal(usage.remote_errors, 0);
	assert_non_null(ptr = heap_alloc(again, 8 * MIB));
	assert_int_equal(heap_free(again, ptr), 0);
	heap_check(again);
	heap_close(again);
}

/* -- memory runs out */

/* Allocates of every kind, as far as it goes, and gives all back. Returns how many there were. */
static uint32_t use_heap(struct heap *heap)
{
	static const uint64_t sizes[] = {
		16, 16, 5000, HEAP_CLASS_MAX_BYTES, 3 * MIB, 9 * MIB, 3 * MIB, 100000, 48};
	char *objects[ARRAY_LENGTH(sizes)];
	uint32_t got = 0;

	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		objects[i] = i % 3 == 2 ? heap_alloc_aligned(heap, 4096, sizes[i])
					: heap_alloc(heap, sizes[i]);
		heap_check(heap);
		got += objects[i] != NULL;
		if (objects[i])
			memset(objects[i], 1, sizes[i]);
	}
	assert_int_equal(usage_of(heap).live_objects, got);
	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		if (objects[i])
			assert_int_equal(heap_free(heap, objects[i]), 0);
		heap_check(heap);
	}
	assert_int_equal(usage_of(heap).live_objects, 0);
	return got;
}

static void fail_each(void (*begin)(uint64_t nth))
{
	struct heap *taken[256]; /* so that none is there to be used again */
	uint32_t num_taken = 0;
	bool failed = true;
	uint64_t nth;

	for (nth = 1; failed; nth++) {
		while (pages_process.heaps.unused)
			taken[num_taken++] = open_heap(GIB);
		assert_true(num_taken < ARRAY_LENGTH(taken) - 1);
		struct fault_live before = fault_live();
		struct heap *heap;
		uint32_t got = 0;
		begin(nth);
		int err = heap_open(&heap, GIB, PAGES_HUGE_AUTO);
		if (!err) {
			got = use_heap(heap);
			heap_close(heap);
		}
		failed = fault_off();
		assert_true(err == 0 || err == -ENOMEM);
		assert_int_equal(err, nth == 1 ? -ENOMEM : 0);
		assert_true(failed || got == 9);
		struct fault_live after = fault_live();
		assert_int_equal(after.blocks, before.blocks + (err == 0)); /* struct heap stays */
		assert_int_equal(after.mapped_bytes, before.mapped_bytes);
	}
	assert_true(nth > 10);
	while (num_taken > 0)
		heap_close(taken[--num_taken]);
}

static void test_memory_short(void **state)
{
	(void)state;
	fail_each(fault_fail);
	fail_each(fault_fail_from);
}

/* Nothing of the process's range is there yet: in a child, for whom it is wiped. */
static void reserve_short(void *arg)
{
	bool failed = true;

	(void)arg;
	for (uint64_t nth = 1; failed; nth++) {
		struct heap *heap;
		fault_fail_from(nth);
		int err = heap_open(&heap, GIB, PAGES_HUGE_NEVER);
		failed = fault_off();
		test_expect(err == (failed ? -ENOMEM : 0));
		if (!err) {
			test_expect(heap_alloc(heap, 100) != NULL);
			heap_check(heap);
		}
	}
}

static void test_reserve_short(void **state)
{
	(void)state;
	assert_int_equal(test_child(reserve_short, NULL), 0);
}

/* -- the address sanitizer knows what is free */

static void use_after_free(void *arg)
{
	struct heap *heap = open_heap(GIB);
	volatile char *ptr = heap_alloc(heap, *(uint64_t *)arg);

	ptr[0] = 1;
	test_expect(heap_free(heap, (void *)(uintptr_t)ptr) == 0);
	ptr[0] = 2;
}

static void use_past_end(void *arg)
{
	struct heap *heap = open_heap(GIB);
	volatile char *ptr = heap_alloc(heap, *(uint64_t *)arg);

	ptr[*(uint64_t *)arg] = 2;
}

static void test_use_after_free(void **state)
{
	uint64_t sizes[] = {1, 100, 65000, HEAP_CLASS_MAX_BYTES - 8, 3 * MIB};

	(void)state;
#ifndef GUARD_ASAN
	skip_because("address sanitizer: this build has none");
#endif
	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		assert_true(test_died(test_child(use_after_free, &sizes[i])));
		assert_true(test_died(test_child(use_past_end, &sizes[i])));
	}
}

/* -- the region that a device shares */

#define REGION_UNITS 4

static int region_fd(uint32_t units)
{
	int fd = memfd_create("heap_test", MFD_CLOEXEC);

	assert_return_code(fd, errno);
	assert_int_equal(ftruncate(fd, (off_t)(units * SUPERBLOCK_BYTES)), 0);
	return fd;
}

/* Frames stay in their units, objects come and go in the others, and what is in the memfd is what
 * was written. */
static void test_region(void **state)
{
	struct heap *heap = open_heap(GIB);
	int fd = region_fd(REGION_UNITS);
	char *frames[2 * SUPERBLOCK_BYTES / 4096];
	char *objects[3 * SUPERBLOCK_BYTES / HEAP_CLASS_MAX_BYTES];
	char seen[6] = "";

	(void)state;
	assert_int_equal(heap_set_region(heap, fd, 4096, 2, REGION_UNITS), 0);
	heap_check(heap);
	assert_int_equal(heap_frames_max(heap), ARRAY_LENGTH(frames));
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_LENGTH(frames); i++) {
			frames[i] = heap_alloc_frame(heap);
			assert_true(heap_in_region(heap, frames[i]));
			assert_int_equal((frames[i] - heap->region) % 4096, 0);
			assert_true(frames[i] - heap->region < 2 * (long)SUPERBLOCK_BYTES);
		}
		assert_null(heap_alloc_frame(heap));
		assert_int_equal(heap_frames_left(heap), 0);
		for (size_t i = 0; i < ARRAY_LENGTH(objects); i++) {
			objects[i] = heap_alloc(heap, HEAP_CLASS_MAX_BYTES);
			assert_non_null(objects[i]);
		}
		size_t inside = 0; /* two units of objects, the third is elsewhere */
		for (size_t i = 0; i < ARRAY_LENGTH(objects); i++) {
			if (!heap_in_region(heap, objects[i]))
				continue;
			inside++;
			memcpy(objects[i], "there", 6);
			assert_int_equal(pread(fd, seen, 6, objects[i] - heap->region), 6);
			assert_string_equal(seen, "there");
		}
		assert_int_equal(inside, 2 * SUPERBLOCK_BYTES / HEAP_CLASS_MAX_BYTES);
		heap_check(heap);
		for (size_t i = 0; i < ARRAY_LENGTH(frames); i++)
			assert_int_equal(heap_free(heap, frames[i]), 0);
		for (size_t i = 0; i < ARRAY_LENGTH(objects); i++)
			assert_int_equal(heap_free(heap, objects[i]), 0);
		heap_check(heap);
		assert_int_equal(heap_frames_left(heap), ARRAY_LENGTH(frames));
	}
	close(fd);
	heap_close(heap);
}

/* A memfd that is too short, or a bound, is refused. */
static void test_region_limits(void **state)
{
	struct heap *heap = open_heap(REGION_UNITS * SUPERBLOCK_BYTES);
	int fd = region_fd(REGION_UNITS + 1);

	(void)state; /* more than the heap may have */
	assert_int_equal(heap_set_region(heap, fd, 4096, 1, REGION_UNITS + 1), -ENOMEM);
	assert_null(heap->region);
	assert_int_equal(heap_set_region(heap, -1, 4096, 1, 1), -ENOMEM);
	assert_null(heap->region);
	assert_int_equal(heap_set_region(heap, fd, 4096, 1, REGION_UNITS), 0);
	heap_check(heap);
	close(fd);
	heap_close(heap);
}

/* A region of objects alone: its memfd can be had, frames may follow, another region may not. */
static void test_region_objects(void **state)
{
	struct heap *heap = open_heap(GIB);
	int fd = region_fd(2);

	(void)state;
	assert_int_equal(heap_region_fd(heap), -1);
	assert_int_equal(heap_set_region(heap, fd, 0, 0, 2), 0);
	assert_int_equal(heap_set_region(heap, fd, 0, 0, 2), -EBUSY);
	assert_int_equal(close(fd), 0);
	char *object = heap_alloc(heap, 4096);
	char seen;
	assert_true(heap_in_region(heap, object));
	*object = 'x';
	assert_int_equal(pread(heap_region_fd(heap), &seen, 1, object - heap->region), 1);
	assert_int_equal(seen, 'x');
	heap_set_frames(heap, 2048, 16);
	char *frame = heap_alloc_frame(heap);
	assert_non_null(frame);
	heap_check(heap);
	assert_int_equal(heap_free(heap, frame), 0);
	assert_int_equal(heap_free(heap, object), 0);
	heap_close(heap);
}

/* Without memory nothing has changed. */
static void test_region_memory_short(void **state)
{
	int fd = region_fd(2);
	struct heap *heap = open_heap(GIB);
	bool failed = true;

	(void)state;
	for (uint64_t nth = 1; failed; nth++) {
		fault_fail(nth);
		int err = heap_set_region(heap, fd, 4096, 1, 2);
		failed = fault_off();
		assert_int_equal(err, failed ? -ENOMEM : 0);
		assert_int_equal(usage_of(heap).committed_bytes, failed ? 0 : SUPERBLOCK_BYTES);
		heap_check(heap);
	}
	assert_int_equal(heap_free(heap, heap_alloc_frame(heap)), 0);
	heap_close(heap);
	close(fd);
}

static unsigned regions_put;

static void put_lent(char *region, uint64_t bytes)
{
	assert_non_null(region);
	assert_int_equal(bytes, REGION_UNITS * SUPERBLOCK_BYTES);
	regions_put++;
}

/* Memory of a device's own allocator, which gets it back when the last object is freed; the end of
 * each frame is the device's. */
static void test_lent_region(void **state)
{
	uint64_t bytes = (REGION_UNITS + 1) * SUPERBLOCK_BYTES;
	char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *region = (char *)round_up((uintptr_t)at, SUPERBLOCK_BYTES);

	(void)state;
	assert_ptr_not_equal(at, MAP_FAILED);
	assert_null(pages_find(region));
	assert_int_equal(pages_lend(region, REGION_UNITS * SUPERBLOCK_BYTES), 0);
	assert_int_equal(pages_lend(region, REGION_UNITS * SUPERBLOCK_BYTES), 0);
	assert_int_equal(pages_lend(region, SUPERBLOCK_BYTES), -EBUSY);
	assert_null(pages_find(region));

	struct heap *heap = open_heap(GIB);
	const struct heap_loan loan = {region, put_lent, 2304, 128, 2, REGION_UNITS};
	assert_int_equal(heap_lend_region(heap, &loan), 0);
	heap_check(heap);
	char *frame = heap_alloc_frame(heap);
	char *object = heap_alloc(heap, 1000);
	assert_true(heap_in_region(heap, frame) && heap_in_region(heap, object));
	assert_int_equal(heap_find(heap, frame + 2303, 1), HEAP_OURS);
	assert_int_equal(heap_find(heap, object, 1000), HEAP_OURS);
	assert_int_equal(heap->frame_room, 2304 - 128);
	void *scarce = heap_alloc_scarce(heap, 2304 - 128);
	assert_non_null(scarce);
	assert_null(heap_alloc_scarce(heap, 2304 - 127));
	assert_int_equal(heap_free(heap, scarce), 0);
	assert_int_equal(heap_free(heap, frame), 0);
	heap_check(heap);
	heap_close(heap);
	assert_int_equal(regions_put, 0); /* it is still in use */
	memset(object, 1, 1000);
	assert_int_equal(heap_free(NULL, object), 0);
	assert_int_equal(regions_put, 1);
	assert_null(pages_find(object));
	assert_int_equal(munmap(at, bytes), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_class_objects),
		cmocka_unit_test(test_aligned),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_misuse),
		cmocka_unit_test(test_two_heaps),
		cmocka_unit_test(test_remote_into_full_current),
		cmocka_unit_test(test_remote_errors),
		cmocka_unit_test(test_remote_and_owner),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_reclaims),
		cmocka_unit_test(test_give_back),
		cmocka_unit_test(test_huge_reuse),
		cmocka_unit_test(test_watcher),
		cmocka_unit_test(test_orphan),
		cmocka_unit_test(test_struct_reuse),
		cmocka_unit_test(test_memory_short),
		cmocka_unit_test(test_reserve_short),
		cmocka_unit_test(test_region),
		cmocka_unit_test(test_region_limits),
		cmocka_unit_test(test_region_objects),
		cmocka_unit_test(test_region_memory_short),
		cmocka_unit_test(test_lent_region),
		cmocka_unit_test(test_use_after_free),
	};

	return test_run("heap", tests);
}
