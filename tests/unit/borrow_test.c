/* SPDX-License-Identifier: MIT
 * tests/unit/borrow_test.c - mem/borrow.c: what a peer may say and what becomes of it, a shadow
 * model, frees by any pointer and on any thread, ends with pieces out, every allocation failed in
 * turn, what the heap and the API make of such memory.  For the thread sanitizer, too.
 */
#include "support/test.h"

#include "api/instance.h"
#include "base/prng.h"
#include "mem/borrow.h"
#include "support/child.h"
#include "support/fault.h"
#include "support/seed.h"

#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KIB  ((uint64_t)1 << 10)
#define MIB  ((uint64_t)1 << 20)
#define SIZE (3 * MIB + 100) /* of the usual mapping: neither pages nor superblocks */

/* -- the peer, and what its borrower hears */

struct rig {
	struct heap *heap;
	int fd;
	char *peer; /* the memory, as the peer writes it */
	struct borrow *borrow;
	uint64_t told[64]; /* cookies, in order */
	uint32_t num_told;
};

static void note_released(void *context, uint64_t cookie)
{
	struct rig *rig = context;

	rig->told[rig->num_told++ % ARRAY_LENGTH(rig->told)] = cookie;
}

static int make_file(uint64_t bytes, unsigned int flags, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static struct borrow_terms terms_of(struct rig *rig, uint64_t bytes)
{
	return (struct borrow_terms){.heap = rig->heap,
				     .fd = rig->fd,
				     .bytes = bytes,
				     .released = note_released,
				     .context = rig};
}

static void open_peer(struct rig *rig, uint64_t bytes)
{
	memset(rig, 0, sizeof(*rig));
	assert_int_equal(heap_open(&rig->heap, 1024 * MIB, PAGES_HUGE_NEVER), 0);
	rig->fd = make_file(bytes, 0, F_SEAL_SHRINK);
	rig->peer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rig->fd, 0);
	assert_true(rig->peer != MAP_FAILED);
}

static void open_rig(struct rig *rig)
{
	open_peer(rig, SIZE);
	struct borrow_terms terms = terms_of(rig, SIZE);
	assert_int_equal(borrow_map(&terms, &rig->borrow), 0);
}

/* borrow_end was called. */
static void close_peer(struct rig *rig, uint64_t bytes)
{
	heap_check(rig->heap);
	heap_close(rig->heap);
	assert_int_equal(munmap(rig->peer, bytes), 0);
	assert_int_equal(close(rig->fd), 0);
}

static void close_rig(struct rig *rig)
{
	borrow_check(rig->borrow);
	assert_int_equal(borrow_held(rig->borrow), 0);
	borrow_end(rig->borrow);
	close_peer(rig, SIZE);
}

static char *take(struct rig *rig, uint64_t offset, uint64_t length, uint64_t cookie)
{
	const void *ptr;

	assert_int_equal(borrow_take(rig->borrow, offset, length, cookie, &ptr), 0);
	borrow_check(rig->borrow);
	return (char *)(uintptr_t)ptr;
}

static bool nothing_entered(void)
{
	const struct pages_range *range = &pages_process.range;

	for (uint64_t at = 0; at < range->bytes; at += SUPERBLOCK_BYTES) {
		if (pages_find((void *)(range->base + at)))
			return false;
	}
	return true;
}

/* -- mapping */

static int open_plain_file(void)
{
	FILE *file = tmpfile();

	assert_non_null(file);
	int fd = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(ftruncate(fd, (off_t)SIZE), 0);
	return fd;
}

static void test_refused_files(void **state)
{
	static const struct {
		uint64_t file_bytes;
		uint64_t bytes;
		unsigned int flags;
		int seals;
		int err;
	} cases[] = {
		{SIZE, SIZE, 0, 0, -EPERM},
		{SIZE, SIZE, 0, F_SEAL_GROW, -EPERM},
		{SIZE, SIZE, 0, F_SEAL_GROW | F_SEAL_SEAL, -EPERM},
		{SIZE, SIZE + 1, 0, F_SEAL_SHRINK, -EINVAL},
		{SIZE, UINT64_MAX, 0, F_SEAL_SHRINK, -EINVAL},
		{SIZE, 0, 0, F_SEAL_SHRINK, -EINVAL},
		{0, 0, 0, F_SEAL_SHRINK, -EINVAL},
		{0, 1, 0, F_SEAL_SHRINK, -EINVAL},
		{2 * MIB, 2 * MIB, MFD_HUGETLB | MFD_HUGE_2MB, F_SEAL_SHRINK, -EPERM},
		{SIZE, SIZE, 0, F_SEAL_SHRINK, 0},
		{SIZE, 1, 0, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, 0},
		{SIZE, SIZE, 0, F_SEAL_SHRINK | F_SEAL_WRITE, 0},
		{SIZE, SIZE, 0, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, 0},
	};
	struct rig rig;

	(void)state;
	open_peer(&rig, SIZE);
	int fd = rig.fd;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		rig.fd = make_file(cases[i].file_bytes, cases[i].flags, cases[i].seals);
		struct borrow_terms terms = terms_of(&rig, cases[i].bytes);
		int err = borrow_map(&terms, &rig.borrow);
		if (err != cases[i].err)
			fail_msg("case %zu: %d", i, err);
		if (!err)
			borrow_end(rig.borrow);
		close(rig.fd);
	}
	int others[] = {-1, open("/dev/zero", O_RDWR), open_plain_file(), open("/", O_RDONLY)};
	for (size_t i = 0; i < ARRAY_LENGTH(others); i++) {
		rig.fd = others[i];
		struct borrow_terms terms = terms_of(&rig, 4096);
		int err = borrow_map(&terms, &rig.borrow);
		/* what is on tmpfs has seals as well: those that forbid any other */
		assert_true(err == -EINVAL || (i == 2 && err == -EPERM));
		if (others[i] >= 0)
			close(others[i]);
	}
	rig.fd = fd;
	close_peer(&rig, SIZE);
	assert_true(nothing_entered());
}

/* A descriptor for reading is all that it takes. */
static void test_read_only_file(void **state)
{
	struct rig rig;
	char path[64];

	(void)state;
	open_peer(&rig, SIZE);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rig.fd);
	int fd = rig.fd;
	rig.fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(rig.fd >= 0);
	struct borrow_terms terms = terms_of(&rig, SIZE);
	assert_int_equal(borrow_map(&terms, &rig.borrow), 0);
	close(rig.fd);
	rig.fd = fd;
	rig.peer[8192] = 7;
	char *ptr = take(&rig, 8192, 4096, 1);
	assert_int_equal(*ptr, 7);
	assert_int_equal(heap_free(rig.heap, ptr), 0);
	close_rig(&rig);
}

/* What the heap makes of it, every 4 KiB: foreign, without counts, not to be freed. */
static void test_foreign_to_heaps(void **state)
{
	struct rig rig;
	uint64_t bytes;
	const char *object;

	(void)state;
	open_rig(&rig);
	char *base = take(&rig, 0, 4096, 1);
	const struct superblock *sb = pages_find(base);
	assert_true(borrow_is(sb));
	for (uint64_t at = 0; at < 4 * MIB; at += 4096) {
		char *ptr = base + at + at % 1021;
		assert_ptr_equal(pages_find(ptr), sb);
		assert_int_equal(heap_find(rig.heap, ptr, 1), HEAP_FOREIGN);
		assert_int_equal(heap_app_refs(rig.heap, ptr, &object), 0);
		assert_int_equal(heap_library_refs(rig.heap, ptr), 0);
		assert_null(heap_object(rig.heap, ptr, &bytes));
		if (at == 0)
			continue;
		assert_int_equal(heap_free(rig.heap, ptr), -EINVAL);
		assert_int_equal(heap_free_inside(rig.heap, ptr), -EINVAL);
		assert_int_equal(heap_free_inside(NULL, ptr), -EINVAL);
	}
	assert_null(pages_find(base + 4 * MIB));
	void *mine = heap_alloc(rig.heap, 100);
	heap_check(rig.heap);
	assert_int_equal(heap_free(rig.heap, mine), 0);
	assert_int_equal(heap_free(rig.heap, base), 0);
	close_rig(&rig);
	assert_true(nothing_entered());
}

/* -- lending */

static void test_hostile_pieces(void **state)
{
	static const struct {
		uint64_t offset;
		uint64_t length;
		int err;
	} cases[] = {
		{0, 0, -EINVAL},
		{0, 4095, -EINVAL},
		{0, 4096, 0},
		{SIZE - 4096, 4096, 0},
		{SIZE - 4095, 4096, -EINVAL},
		{SIZE - 4096, 4097, -EINVAL},
		{SIZE, 4096, -EINVAL},
		{SIZE, 0, -EINVAL},
		{SIZE + 1, 4096, -EINVAL},
		{0, SIZE, 0},
		{0, SIZE + 1, -EINVAL},
		{1, SIZE, -EINVAL},
		{1, SIZE - 1, 0},
		{UINT64_MAX, 4096, -EINVAL},
		{UINT64_MAX - 4095, 4096, -EINVAL},
		{UINT64_MAX - 8191, 16384, -EINVAL},
		{4096, UINT64_MAX, -EINVAL},
		{4096, UINT64_MAX - 4095, -EINVAL},
		{4 * MIB, 4096, -EINVAL},
		{(uint64_t)1 << 32, 4096, -EINVAL},
	};
	struct rig rig;
	const void *ptr;

	(void)state;
	open_rig(&rig);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		int err = borrow_take(rig.borrow, cases[i].offset, cases[i].length, i, &ptr);
		if (err != cases[i].err)
			fail_msg("case %zu: %d", i, err);
		borrow_check(rig.borrow);
		if (!err)
			assert_int_equal(heap_free_inside(rig.heap, ptr), 0);
	}
	close_rig(&rig);
}

/* Longer than any object: a mapping of 4 GiB, of which nothing is touched. */
static void test_longest_piece(void **state)
{
	const uint64_t bytes = HEAP_OBJECT_MAX_BYTES + 8192;
	struct rig rig;
	const void *ptr;

	(void)state;
	if (test_sanitized())
		skip_because("4 GiB of shadow");
	open_peer(&rig, bytes);
	struct borrow_terms terms = terms_of(&rig, bytes);
	assert_int_equal(borrow_map(&terms, &rig.borrow), 0);
	assert_int_equal(borrow_take(rig.borrow, 0, HEAP_OBJECT_MAX_BYTES + 1, 1, &ptr), -EINVAL);
	assert_int_equal(borrow_take(rig.borrow, 5, HEAP_OBJECT_MAX_BYTES, 1, &ptr), 0);
	assert_int_equal(heap_free_inside(rig.heap, (const char *)ptr + HEAP_OBJECT_MAX_BYTES - 1),
			 0);
	borrow_end(rig.borrow);
	close_peer(&rig, bytes);
}

static void test_copy(void **state)
{
	static const struct {
		uint64_t offset;
		uint64_t length;
		int err;
	} cases[] = {
		{0, 0, 0},
		{0, 16, 0},
		{SIZE - 16, 16, 0},
		{SIZE - 15, 16, -EINVAL},
		{SIZE, 0, 0},
		{SIZE + 1, 0, -EINVAL},
		{UINT64_MAX, 1, -EINVAL},
		{UINT64_MAX - 7, 16, -EINVAL},
		{0, UINT64_MAX, -EINVAL},
		{8192 + 5, 11, 0},
	};
	struct rig rig;

	(void)state;
	open_rig(&rig);
	for (uint64_t i = 0; i < SIZE; i++)
		rig.peer[i] = (char)(i * 7);
	char *lent = take(&rig, 8192, 4096, 1);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		char copy[16];
		int err = borrow_copy(rig.borrow, cases[i].offset, cases[i].length, copy);
		if (err != cases[i].err)
			fail_msg("case %zu: %d", i, err);
		if (!err && cases[i].length)
			assert_memory_equal(copy, rig.peer + cases[i].offset, cases[i].length);
	}
	char *freed = take(&rig, 16384, 4096, 2);
	assert_int_equal(heap_free(rig.heap, freed), 0);
	char copy[16];
	assert_int_equal(borrow_copy(rig.borrow, 16390, 16, copy), 0);
	assert_memory_equal(copy, rig.peer + 16390, 16);
	assert_int_equal(heap_free(rig.heap, lent), 0);
	close_rig(&rig);
	assert_true(nothing_entered());
}

/* Around a piece of 10000 bytes from 40000: what meets it is refused, what touches it is not. */
static void test_collisions(void **state)
{
	static const struct {
		uint64_t offset;
		uint64_t length;
		int err;
	} cases[] = {
		{40000, 10000, -EEXIST},                          /* the same again */
		{40000, 4096, -EEXIST},   {45000, 4096, -EEXIST}, /* in it */
		{45904, 4096, -EEXIST},   {49999, 4096, -EEXIST}, /* its last byte */
		{50000, 4096, 0},         {50001, 4096, 0},
		{35905, 4096, -EEXIST}, /* its first byte */
		{35904, 4096, 0},         {30000, 10000, 0},
		{30000, 10001, -EEXIST},  {30000, 30000, -EEXIST}, /* around it */
		{0, SIZE, -EEXIST},       {0, 40000, 0},
		{50000, SIZE - 50000, 0}, {49999, SIZE - 49999, -EEXIST},
	};
	struct rig rig;
	const void *ptr;

	(void)state;
	open_rig(&rig);
	char *piece = take(&rig, 40000, 10000, 1);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		int err = borrow_take(rig.borrow, cases[i].offset, cases[i].length, 2, &ptr);
		if (err != cases[i].err)
			fail_msg("case %zu: %d", i, err);
		borrow_check(rig.borrow);
		if (!err)
			assert_int_equal(heap_free_inside(rig.heap, ptr), 0);
	}
	assert_int_equal(heap_free(rig.heap, piece), 0);
	(void)heap_free(rig.heap, take(&rig, 40000, 10000, 1));
	close_rig(&rig);
}

/* Two in neighbouring pages, the second starting in the page in which the first ends. */
static void test_free_inside(void **state)
{
	static const struct {
		int64_t from_first; /* the pointer that is freed */
		uint64_t told;      /* 0: nothing is */
	} cases[] = {
		{-1, 0},   {0, 1},    {1, 1},    {4095, 1},  {4999, 1},
		{5000, 2}, {5001, 2}, {9000, 2}, {10999, 2}, {11000, 0},
	};
	struct rig rig;

	(void)state;
	open_rig(&rig);
	for (size_t i = 0; i < 2 * ARRAY_LENGTH(cases); i++) {
		const size_t k = i / 2;
		char *first = take(&rig, 100001, 5000, 1);
		char *second = take(&rig, 105001, 6000, 2);
		char *ptr = first + cases[k].from_first;
		int err = i % 2 ? heap_free(rig.heap, ptr) : heap_free_inside(rig.heap, ptr);
		if (err != (cases[k].told ? 0 : -EINVAL) || rig.num_told != (cases[k].told != 0) ||
		    (cases[k].told && rig.told[0] != cases[k].told))
			fail_msg("case %zu: %d", k, err);
		if (!err)
			assert_int_equal(heap_free_inside(rig.heap, ptr), -EINVAL);
		borrow_check(rig.borrow);
		int errors[] = {heap_free(rig.heap, first), heap_free(rig.heap, second)};
		assert_int_equal(errors[0], cases[k].told == 1 ? -EINVAL : 0);
		assert_int_equal(errors[1], cases[k].told == 2 ? -EINVAL : 0);
		assert_int_equal(rig.num_told, 2);
		rig.num_told = 0;
	}
	close_rig(&rig);
}

/* The library's references: the owner hears of the piece when the last of all is dropped. */
static void test_references(void **state)
{
	struct heap *other;
	struct rig rig;

	(void)state;
	open_rig(&rig);
	assert_int_equal(heap_open(&other, 64 * MIB, PAGES_HUGE_NEVER), 0);
	for (int drain = 0; drain < 2; drain++) {
		char *piece = take(&rig, 8192, 5000, 7);
		const char *found;
		assert_false(borrow_ref(&rig));
		assert_false(borrow_ref(piece + 5000));
		assert_true(borrow_ref(piece));
		assert_true(borrow_ref(piece + 4999));
		borrow_unref(rig.heap, piece + 1);
		assert_int_equal(borrow_app_refs(pages_find(piece), piece, &found), 1);
		assert_int_equal(heap_free_inside(rig.heap, piece), 0);
		assert_int_equal(heap_free_inside(rig.heap, piece), -EINVAL);
		assert_int_equal(borrow_app_refs(pages_find(piece), piece, &found), 0);
		assert_int_equal(rig.num_told, 0);
		assert_int_equal(borrow_held(rig.borrow), 1);
		borrow_check(rig.borrow);
		borrow_unref(drain ? other : rig.heap, piece);
		assert_int_equal(rig.num_told, drain ? 0 : 1);
		borrow_drain(rig.borrow);
		assert_int_equal(rig.num_told, 1);
		rig.num_told = 0;
	}
	heap_close(other);
	close_rig(&rig);
}

/* -- a shadow model under random operations */

#define MODEL_PIECES 24

struct model_piece {
	uint64_t offset;
	uint64_t length; /* 0: none */
	char *ptr;
};

static bool model_collides(const struct model_piece *pieces, uint64_t offset, uint64_t length)
{
	for (uint32_t i = 0; i < MODEL_PIECES; i++) {
		const struct model_piece *piece = &pieces[i];
		if (piece->length && offset < piece->offset + piece->length &&
		    piece->offset < offset + length)
			return true;
	}
	return false;
}

static void model_take(struct rig *rig, struct model_piece *pieces, uint32_t i, struct prng *prng)
{
	uint64_t limit = 2 * KIB << prng_below(prng, 10);
	uint64_t length = 4096 + prng_below(prng, limit);
	uint64_t offset = prng_below(prng, SIZE - length);
	bool collides = model_collides(pieces, offset, length);
	const void *ptr;
	int err = borrow_take(rig->borrow, offset, length, i, &ptr);

	assert_int_equal(err, collides ? -EEXIST : 0);
	if (err)
		return;
	pieces[i] = (struct model_piece){offset, length, (char *)(uintptr_t)ptr};
	memset(rig->peer + offset, (int)i, length);
}

static void model_free(struct rig *rig, struct model_piece *piece, uint32_t i, struct prng *prng)
{
	for (uint64_t at = 0; at < piece->length; at += 509)
		assert_int_equal(piece->ptr[at], i);
	const char *ptr = piece->ptr + prng_below(prng, piece->length);
	bool elsewhere = prng_below(prng, 4) == 0;
	rig->num_told = 0;
	assert_int_equal(heap_free_inside(elsewhere ? NULL : rig->heap, ptr), 0);
	assert_int_equal(rig->num_told, !elsewhere);
	borrow_drain(rig->borrow);
	assert_int_equal(rig->num_told, 1);
	assert_int_equal(rig->told[0], i);
	piece->length = 0;
}

static void test_model(void **state)
{
	struct model_piece pieces[MODEL_PIECES] = {0};
	struct prng prng;
	struct rig rig;

	(void)state;
	prng_seed(&prng, test_seed(4711));
	open_rig(&rig);
	for (uint32_t step = 0; step < test_share(20000); step++) {
		uint32_t i = (uint32_t)prng_below(&prng, MODEL_PIECES);
		if (pieces[i].length)
			model_free(&rig, &pieces[i], i, &prng);
		else
			model_take(&rig, pieces, i, &prng);
		if (step % 64 == 0)
			borrow_check(rig.borrow);
	}
	for (uint32_t i = 0; i < MODEL_PIECES; i++) {
		if (pieces[i].length)
			model_free(&rig, &pieces[i], i, &prng);
	}
	close_rig(&rig);
}

/* -- other threads */

struct errand {
	struct heap *mine;
	const void *ptr;
	int err;
};

static void *run_free(void *arg)
{
	struct errand *errand = arg;

	errand->err = heap_free_inside(errand->mine, errand->ptr);
	return NULL;
}

static int free_on_thread(struct heap *mine, const void *ptr)
{
	struct errand errand = {.mine = mine, .ptr = ptr};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, run_free, &errand), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return errand.err;
}

/* Once by a thread without an instance, once by one with another. */
static void test_free_elsewhere(void **state)
{
	struct heap *other;
	struct rig rig;
	const void *ptr;

	(void)state;
	open_rig(&rig);
	assert_int_equal(heap_open(&other, 64 * MIB, PAGES_HUGE_NEVER), 0);
	for (uint32_t i = 0; i < 2; i++) {
		struct heap *mine = i ? other : NULL;
		char *first = take(&rig, 4096, 4096, 1);
		char *second = take(&rig, 10000, 5000, 2);
		rig.num_told = 0;
		assert_int_equal(free_on_thread(mine, first), 0);
		assert_int_equal(free_on_thread(mine, second + 4999), 0);
		assert_int_equal(free_on_thread(mine, first), -EINVAL);
		assert_int_equal(heap_free(rig.heap, first), -EINVAL);
		assert_int_equal(rig.num_told, 0);
		assert_int_equal(borrow_held(rig.borrow), 2);
		assert_int_equal(borrow_take(rig.borrow, 4096, 4096, 3, &ptr), -EEXIST);
		borrow_check(rig.borrow);
		borrow_drain(rig.borrow);
		assert_int_equal(rig.num_told, 2);
		assert_int_equal(rig.told[0] + rig.told[1], 3);
		borrow_drain(rig.borrow);
		assert_int_equal(rig.num_told, 2);
	}
	heap_close(other);
	close_rig(&rig);
}

/* What is out when the owner ends stays readable, is freed once, by whomever; then all is gone. */
static void test_end(void **state)
{
	enum { OWN, OTHER, BEFORE, PIECES };

	static const uint32_t orders[][PIECES - 1] = {{OWN, OTHER}, {OTHER, OWN}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(orders); i++) {
		char *pieces[PIECES];
		struct rig rig;
		open_rig(&rig);
		memset(rig.peer, 'x', SIZE);
		for (uint32_t k = 0; k < PIECES; k++)
			pieces[k] = take(&rig, 8192 * k, 4096, k);
		assert_int_equal(free_on_thread(NULL, pieces[BEFORE]), 0);
		borrow_end(rig.borrow);
		assert_int_equal(heap_free(rig.heap, pieces[BEFORE]), -EINVAL);
		for (uint32_t k = 0; k < PIECES - 1; k++) {
			char *ptr = pieces[orders[i][k]];
			assert_int_equal(ptr[4095], 'x');
			assert_non_null(pages_find(ptr));
			int err = orders[i][k] == OWN ? heap_free(rig.heap, ptr)
						      : free_on_thread(NULL, ptr);
			assert_int_equal(err, 0);
			if (k == 0)
				assert_int_equal(heap_free(rig.heap, ptr), -EINVAL);
		}
		assert_int_equal(rig.num_told, 0);
		close_peer(&rig, SIZE);
		assert_true(nothing_entered());
	}
}

/* The heap's struct is another instance's by the time that a piece is freed. */
static void test_end_of_heap(void **state)
{
	struct rig rig;
	struct heap *next;

	(void)state;
	open_rig(&rig);
	char *ptr = take(&rig, 0, 4096, 1);
	struct heap *before = rig.heap;
	borrow_end(rig.borrow);
	heap_close(rig.heap);
	assert_int_equal(heap_open(&next, 64 * MIB, PAGES_HUGE_NEVER), 0);
	assert_ptr_equal(next, before);
	rig.heap = next;
	assert_int_equal(heap_free(next, ptr), 0);
	assert_int_equal(rig.num_told, 0);
	close_peer(&rig, SIZE);
	assert_true(nothing_entered());
}

#define THREADS 4
#define SLOTS   32

/* Each slot is one piece on its way from the owner to whichever thread takes it first. */
static struct {
	_Atomic(char *) slots[SLOTS];
	_Atomic uint32_t freed;
	_Atomic uint32_t wrong;
	_Atomic bool end;
} race;

static void *free_slots(void *arg)
{
	uint32_t at = (uint32_t)(uintptr_t)arg;

	while (!race.end) {
		at = (at + 1) % SLOTS;
		const char *ptr = atomic_exchange(&race.slots[at], NULL);
		if (!ptr)
			continue;
		race.wrong += ptr[at] != (char)at;
		race.wrong += heap_free_inside(NULL, ptr + at * 100) != 0;
		race.freed++;
	}
	return NULL;
}

static void run_race(struct rig *rig, uint32_t pieces)
{
	pthread_t threads[THREADS];
	uint32_t taken = 0;

	race.end = false;
	race.freed = 0;
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, free_slots, (void *)(uintptr_t)i), 0);
	for (uint32_t round = 0; taken < pieces && round < 1U << 28; round++) {
		const void *ptr;
		uint32_t at = round % SLOTS;
		uint64_t offset = at * (uint64_t)9000 + round % 4096;
		borrow_drain(rig->borrow);
		if (round % SLOTS == 0)
			sched_yield();
		if (race.slots[at] ||
		    borrow_take(rig->borrow, offset, 4096 + round % 800, at, &ptr))
			continue;
		taken++;
		race.slots[at] = (char *)(uintptr_t)ptr;
	}
	borrow_end(rig->borrow); /* with pieces out */
	for (uint32_t tries = 0; tries < 100000 && race.freed != taken; tries++)
		usleep(100);
	assert_int_equal(race.freed, taken);
	race.end = true;
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void test_race(void **state)
{
	struct rig rig;

	(void)state;
	race.wrong = 0;
	for (uint32_t i = 0; i < 8; i++) {
		open_rig(&rig);
		for (uint32_t at = 0; at < SLOTS; at++)
			memset(rig.peer + at * (uint64_t)9000, (int)at, 9000);
		run_race(&rig, test_share(4000));
		assert_true(nothing_entered());
		close_peer(&rig, SIZE);
	}
	assert_int_equal(race.wrong, 0);
}

/* -- the system */

static void test_allocation_failures(void **state)
{
	struct rig rig;
	uint64_t failed = 0;

	(void)state;
	open_peer(&rig, SIZE);
	struct borrow_terms terms = terms_of(&rig, SIZE);
	struct fault_live before = fault_live();
	for (bool more = true; more; failed += more) {
		fault_fail(failed + 1);
		int err = borrow_map(&terms, &rig.borrow);
		more = fault_off();
		assert_int_equal(err, more ? -ENOMEM : 0);
		if (!err)
			borrow_end(rig.borrow);
		struct fault_live after = fault_live();
		assert_int_equal(after.blocks, before.blocks);
		assert_true(nothing_entered());
	}
	assert_true(failed >= 5); /* three of tables, the mapping, what it is for a child */
	close_peer(&rig, SIZE);
}

/* A mapping stays where it is if it can't be unmapped, and nothing else comes there. */
static void test_unmap_fails(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig);
	char *ptr = take(&rig, 0, 4096, 1);
	borrow_end(rig.borrow);
	fault_fail(1);
	assert_int_equal(heap_free(rig.heap, ptr), 0);
	assert_true(fault_off());
	assert_null(pages_find(ptr));
	struct borrow_terms terms = terms_of(&rig, SIZE);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(borrow_map(&terms, &rig.borrow), 0);
		char *next = take(&rig, 0, 4096, 1);
		assert_true(next + 4 * MIB <= ptr || ptr + 4 * MIB <= next);
		assert_int_equal(heap_free(rig.heap, next), 0);
		borrow_end(rig.borrow);
	}
	close_peer(&rig, SIZE);
}

/* Peers can't take all of the range: beyond half of it they are refused, and the heap goes on. */
static void test_half_of_range(void **state)
{
	struct borrow *borrows[16];
	uint32_t count = 0;
	struct rig rig;

	(void)state;
	open_peer(&rig, SIZE);
	int fd = rig.fd;
	uint64_t bytes = pages_process.range.bytes / 16;
	rig.fd = make_file(bytes, 0, F_SEAL_SHRINK);
	struct borrow_terms terms = terms_of(&rig, bytes);
	while (count < 16 && borrow_map(&terms, &borrows[count]) == 0)
		count++;
	/* one less if a mapping could not be unmapped above */
	assert_true(count == 8 || count == 7);
	void *mine = heap_alloc(rig.heap, 5 * MIB);
	assert_non_null(mine);
	assert_int_equal(heap_free(rig.heap, mine), 0);
	borrow_end(borrows[0]);
	assert_int_equal(borrow_map(&terms, &borrows[0]), 0);
	while (count > 0)
		borrow_end(borrows[--count]);
	close(rig.fd);
	rig.fd = fd;
	close_peer(&rig, SIZE);
}

/* The peer makes the file shorter, takes its pages away, unmaps and closes it: what is read may be
 * anything, but it can be read. */
static void test_peer_takes_away(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig);
	memset(rig.peer, 'x', SIZE);
	char *ptr = take(&rig, 0, SIZE, 1);
	assert_int_equal(ptr[8192], 'x');
	assert_int_equal(ftruncate(rig.fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(
		fallocate(rig.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)SIZE), 0);
	for (uint64_t at = 0; at < SIZE; at++)
		assert_int_equal(ptr[at], 0);
	assert_int_equal(heap_free(rig.heap, ptr), 0);
	close_rig(&rig);
}

static void look_from_child(void *arg)
{
	const char *ptr = arg;
	int pipes[2];

	test_expect(pages_find(ptr) == NULL);
	test_expect(pipe(pipes) == 0);
	test_expect(write(pipes[1], ptr, 1) == -1 && errno == EFAULT);
	test_expect(demi_free((void *)(uintptr_t)ptr) == EINVAL);
}

static void test_fork(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig);
	char *ptr = take(&rig, 0, 4096, 1);
	assert_int_equal(test_child(look_from_child, ptr), 0);
	assert_int_equal(*ptr, 0);
	assert_int_equal(heap_free(rig.heap, ptr), 0);
	close_rig(&rig);
}

/* -- the API */

static demi_sgarray_t array_of(void *const *bufs, uint32_t count, uint32_t length)
{
	demi_sgarray_t sga;

	memset(&sga, 0, sizeof(sga));
	sga.sga_numsegs = count;
	for (uint32_t i = 0; i < count; i++) {
		sga.sga_segs[i].sgaseg_buf = bufs[i];
		sga.sga_segs[i].sgaseg_len = length;
	}
	return sga;
}

/* An array with a bad segment frees none of the others. */
static void free_arrays(struct rig *rig)
{
	char *first = take(rig, 4096, 4096, 1);
	char *second = take(rig, 8192, 4096, 2);
	char *mine = demi_malloc(100);
	void *const bad[][3] = {
		{first, second, first + 1},
		{first, mine, second - 1},
		{mine, first, first + 8192},
		{first, mine, mine + 1},
	};

	rig->num_told = 0;
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		demi_sgarray_t sga = array_of(bad[i], 3, 1);
		assert_int_equal(demi_sgafree(&sga), EINVAL);
		assert_int_equal(rig->num_told, 0);
	}
	void *const good[3] = {second + 10, mine, first};
	demi_sgarray_t sga = array_of(good, 3, 1);
	assert_int_equal(demi_sgabusy(&sga), 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(rig->num_told, 2);
	assert_int_equal(demi_free(first), EINVAL);
	assert_null(demi_realloc(first, 10));
	char *third = take(rig, 4096, 4096, 3);
	assert_int_equal(demi_free(third), 0);
	assert_int_equal(rig->num_told, 3);
}

/* What is pushed from it is copied: nothing holds it afterwards, and the peer may write it. */
static void push_borrowed(struct rig *rig)
{
	demi_qresult_t qr;
	demi_qtoken_t qt;
	int qd;

	memset(rig->peer + 4096, 'a', 4096);
	void *const bufs[] = {take(rig, 4096, 4096, 1)};
	demi_sgarray_t sga = array_of(bufs, 1, 4096);
	assert_int_equal(demi_queue(&qd), 0);
	assert_int_equal(demi_push(&qt, qd, &sga), 0);
	assert_int_equal(demi_wait(&qr, qt, NULL), 0);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
	assert_int_equal(demi_sgabusy(&sga), 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	memset(rig->peer + 4096, 'b', 4096);
	assert_int_equal(demi_pop(&qt, qd), 0);
	assert_int_equal(demi_wait(&qr, qt, NULL), 0);
	demi_sgarray_t popped = qr.qr_value.sga;
	assert_int_equal(popped.sga_segs[0].sgaseg_len, 4096);
	const char *bytes = popped.sga_segs[0].sgaseg_buf;
	assert_int_equal(bytes[0] + bytes[4095], 2 * 'a');
	assert_int_equal(demi_sgafree(&popped), 0);
	assert_int_equal(demi_close(qd), 0);
}

static void test_api(void **state)
{
	static const struct demi_args args = {.argc = 0};
	struct rig rig;

	(void)state;
	open_peer(&rig, SIZE);
	struct heap *own = rig.heap;
	assert_int_equal(demi_init(&args), 0);
	rig.heap = instance_heap();
	struct borrow_terms terms = terms_of(&rig, SIZE);
	assert_int_equal(borrow_map(&terms, &rig.borrow), 0);
	free_arrays(&rig);
	push_borrowed(&rig);
	char *late = take(&rig, 0, 8192, 1);
	rig.num_told = 0;
	borrow_end(rig.borrow);
	assert_int_equal(demi_fini(), 0);
	void *const bufs[] = {late + 8191};
	demi_sgarray_t sga = array_of(bufs, 1, 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(rig.num_told, 0);
	rig.heap = own;
	close_peer(&rig, SIZE);
	assert_true(nothing_entered());
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_files),
		cmocka_unit_test(test_read_only_file),
		cmocka_unit_test(test_foreign_to_heaps),
		cmocka_unit_test(test_hostile_pieces),
		cmocka_unit_test(test_longest_piece),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_collisions),
		cmocka_unit_test(test_free_inside),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_free_elsewhere),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_end_of_heap),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_allocation_failures),
		cmocka_unit_test(test_unmap_fails),
		cmocka_unit_test(test_half_of_range),
		cmocka_unit_test(test_peer_takes_away),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_api),
	};

	return test_run("borrow", tests);
}
