/* tests/support/blkdev_body.c: see blkdev_body.h. */
#include "support/blkdev_body.h"

#include "base/bits.h"
#include "base/prng.h"
#include "support/rig.h"
#include "support/seed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LATE_NS   30000000000 /* a completion that takes longer is lost */
#define TASKS_MAX 512
#define MIB       ((uint64_t)1 << 20)
#define HUGE      (5 * MIB) /* of a heap object in superblocks of its own */

struct errand {
	struct blk_request request;
	struct iovec iov[64];
	unsigned char *data; /* the first segment */
	uint32_t done;       /* times */
	uint32_t again;      /* submit it so many times more, from done */
	uint64_t block;      /* shadow model */
};

/* One test: a device, and what it has under way. */
static struct body {
	struct blkdev_fixture *fixture;
	struct rig rig;
	struct blkdev *dev;
	uint32_t under_way;
	uint32_t done;
	struct errand errands[TASKS_MAX];
} body;

/* ---- requests ---- */

static uint64_t real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void errand_done(struct blk_request *request)
{
	struct errand *errand = container_of(request, struct errand, request);

	body.under_way--;
	body.done++;
	if (errand->again > 0) {
		struct blk_request *again = &errand->request;
		errand->again--;
		body.under_way++;
		assert_int_equal(body.dev->ops->submit(body.dev, &again, 1), 1);
		return;
	}
	errand->done++;
}

static void *memory(uint64_t bytes)
{
	void *at = heap_alloc_aligned(body.rig.sched.heap, BLKDEV_BLOCK_MAX, bytes);

	assert_non_null(at);
	return at;
}

static void give_back(void *at)
{
	assert_int_equal(heap_free(body.rig.sched.heap, at), 0);
}

/* A request without segments. */
static struct errand *errand_init(struct errand *errand, enum blk_what what, uint64_t offset)
{
	*errand = (struct errand){.request = {.what = (uint8_t)what,
					      .offset = offset,
					      .iov = errand->iov,
					      .done = errand_done,
					      .err = 1}};
	return errand;
}

static void errand_segment(struct errand *errand, void *at, uint64_t bytes)
{
	struct blk_request *request = &errand->request;

	if (request->num_iov == 0)
		errand->data = at;
	errand->iov[request->num_iov++] = (struct iovec){.iov_base = at, .iov_len = bytes};
	request->bytes += bytes;
}

static uint32_t submit_all(struct errand *errands, uint32_t count)
{
	struct blk_request *requests[TASKS_MAX];

	for (uint32_t i = 0; i < count; i++)
		requests[i] = &errands[i].request;
	body.under_way += count; /* done may be called from submit */
	uint32_t taken = body.dev->ops->submit(body.dev, requests, count);
	assert_true(taken <= count);
	body.under_way -= count - taken;
	return taken;
}

static void look(uint32_t turn)
{
	(void)sched_now(&body.rig.sched);
	(void)body.dev->ops->poll(body.dev);
	if (turn % 64 == 0)
		(void)fdset_wait(&body.rig.sched.fds, 0);
}

/* Polls until so many at most are under way. */
static void finish(uint32_t left)
{
	uint64_t late = real_ns() + LATE_NS;

	for (uint32_t turn = 0; body.under_way > left; turn++) {
		look(turn);
		if (turn % 1024 == 0)
			assert_true(real_ns() < late);
	}
}

/* Runs one to its end; returns its err. */
static int run(struct errand *errand)
{
	assert_int_equal(submit_all(errand, 1), 1);
	finish(0);
	assert_int_equal(errand->done, 1);
	assert_true(errand->request.err <= 0);
	return errand->request.err;
}

static int run_plain(enum blk_what what, uint64_t offset, void *at, uint64_t bytes)
{
	struct errand *errand = errand_init(&body.errands[TASKS_MAX - 1], what, offset);

	if (at)
		errand_segment(errand, at, bytes);
	else
		errand->request.bytes = bytes;
	return run(errand);
}

/* Contents by a number; memory may lie anywhere. */
static void fill(void *at, uint64_t bytes, uint64_t number)
{
	struct prng prng;

	prng_seed(&prng, number);
	for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
		uint64_t word = prng_next(&prng);
		memcpy((char *)at + i, &word, 8);
	}
}

static bool holds(const void *at, uint64_t bytes, uint64_t number)
{
	struct prng prng;

	prng_seed(&prng, number);
	for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
		uint64_t word = prng_next(&prng);
		if (memcmp((const char *)at + i, &word, 8) != 0)
			return false;
	}
	return true;
}

static bool zero(const unsigned char *at, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i++) {
		if (at[i])
			return false;
	}
	return true;
}

/* ---- life of a test ---- */

/* False: it is skipped. */
static bool begin(void **state)
{
	body.fixture = *state;
	body.dev = NULL;
	body.under_way = body.done = 0;
	if (body.fixture->skip) {
		test_note_skip(body.fixture->skip);
		return false;
	}
	const struct rig_options options = {.adaptive = !body.fixture->busy};
	assert_int_equal(rig_open(&body.rig, &options), 0);
	assert_int_equal(body.fixture->open(body.fixture, &body.rig.sched, &body.dev), 0);
	blkdev_check(body.dev);
	return true;
}

static void end(void)
{
	assert_int_equal(body.under_way, 0);
	body.dev->ops->close(body.dev);
	if (body.fixture->end)
		body.fixture->end(body.fixture);
	rig_check(&body.rig);
	rig_close(&body.rig);
}

static void reopen(void)
{
	assert_int_equal(body.fixture->reopen(body.fixture, &body.rig.sched, &body.dev), 0);
	blkdev_check(body.dev);
}

/* ---- the tests ---- */

static void test_geometry(void **state)
{
	if (!begin(state))
		return;
	const struct blkdev *dev = body.dev;
	assert_true(dev->capacity_bytes >= 8 * MIB);
	assert_int_equal(dev->capacity_bytes % dev->block_bytes, 0);
	assert_int_equal(dev->memory_align & (dev->memory_align - 1), 0);
	assert_true(memchr(dev->mode, 0, sizeof(dev->mode)));
	printf("# %s: %s, block %u, align %u, depth %u, %u segments, request %lu KiB%s\n",
	       dev->ops->name, dev->mode, dev->block_bytes, dev->memory_align, dev->depth,
	       dev->iov_max, (unsigned long)dev->request_bytes_max / 1024,
	       dev->volatile_cache ? ", volatile cache" : "");
	assert_int_equal(body.dev->ops->poll(body.dev), 0);
	end();
}

/* First and last block; what is beside them stays zero. */
static void test_edges(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	uint64_t last = body.dev->capacity_bytes - block;
	unsigned char *at = memory(block);
	fill(at, block, 1);
	assert_int_equal(run_plain(BLK_WRITE, 0, at, block), 0);
	fill(at, block, 2);
	assert_int_equal(run_plain(BLK_WRITE, last, at, block), 0);
	assert_int_equal(run_plain(BLK_READ, 0, at, block), 0);
	assert_true(holds(at, block, 1));
	assert_int_equal(run_plain(BLK_READ, last, at, block), 0);
	assert_true(holds(at, block, 2));
	assert_int_equal(run_plain(BLK_READ, block, at, block), 0);
	assert_true(zero(at, block));
	assert_int_equal(run_plain(BLK_READ, last - block, at, block), 0);
	assert_true(zero(at, block));
	give_back(at);
	end();
}

/* A transfer of whole blocks in segments of lengths drawn from a generator, out of objects of
 * several size classes and of a huge one. */
struct scatter {
	unsigned char *objects[6];
	uint64_t bytes[6];
};

static void scatter_open(struct scatter *scatter)
{
	static const uint64_t bytes[] = {4096, 8192, 20480, 65536, 262144, HUGE};

	for (uint32_t i = 0; i < ARRAY_LENGTH(bytes); i++) {
		scatter->bytes[i] = bytes[i];
		scatter->objects[i] = memory(bytes[i]);
	}
}

static void scatter_close(struct scatter *scatter)
{
	for (uint32_t i = 0; i < ARRAY_LENGTH(scatter->objects); i++)
		give_back(scatter->objects[i]);
}

/* Adds segments that share no byte: of each object a part, the huge one across a superblock's
 * boundary.  Total: a multiple of the block. */
static void scatter_take(const struct scatter *scatter, struct errand *errand, struct prng *prng)
{
	uint64_t align = body.dev->memory_align;
	uint64_t block = body.dev->block_bytes;

	for (uint32_t i = 0; i < 6 && errand->request.num_iov + 1 < body.dev->iov_max; i++) {
		uint64_t most = scatter->bytes[i] < 32768 ? scatter->bytes[i] : 32768;
		uint64_t bytes = (1 + prng_below(prng, most / align)) * align;
		uint64_t skip = prng_below(prng, (scatter->bytes[i] - bytes) / align + 1) * align;
		if (i == 5)
			skip = 2 * MIB - align;
		if (errand->request.bytes + bytes + block > body.dev->request_bytes_max)
			break;
		errand_segment(errand, scatter->objects[i] + skip, bytes);
	}
	uint64_t rest = block - errand->request.bytes % block;
	errand_segment(errand, scatter->objects[5] + 4 * MIB, rest);
}

static void gather(const struct errand *errand, unsigned char *to)
{
	for (uint32_t i = 0; i < errand->request.num_iov; i++) {
		memcpy(to, errand->iov[i].iov_base, errand->iov[i].iov_len);
		to += errand->iov[i].iov_len;
	}
}

static void test_segments(void **state)
{
	struct scatter scatter;
	struct prng prng;

	if (!begin(state))
		return;
	prng_seed(&prng, test_seed(1));
	scatter_open(&scatter);
	unsigned char *expected = malloc(MIB);
	unsigned char *flat = memory(MIB);
	for (uint32_t round = 0; round < 50; round++) {
		uint64_t offset = prng_below(&prng, 100) * body.dev->block_bytes;
		struct errand *write = errand_init(&body.errands[0], BLK_WRITE, offset);
		scatter_take(&scatter, write, &prng);
		for (uint32_t i = 0; i < write->request.num_iov; i++)
			fill(write->iov[i].iov_base, write->iov[i].iov_len, prng_next(&prng));
		gather(write, expected);
		assert_int_equal(run(write), 0);
		assert_int_equal(run_plain(BLK_READ, offset, flat, write->request.bytes), 0);
		assert_memory_equal(flat, expected, write->request.bytes);
		/* Back into other segments. */
		struct errand *read = errand_init(&body.errands[1], BLK_READ, offset);
		scatter_take(&scatter, read, &prng);
		assert_int_equal(run(read), 0);
		uint64_t both = read->request.bytes < write->request.bytes ? read->request.bytes
									   : write->request.bytes;
		gather(read, flat);
		assert_memory_equal(flat, expected, both);
	}
	free(expected);
	give_back(flat);
	scatter_close(&scatter);
	end();
}

/* The longest request, in one segment, and as many segments as there may be. */
static void test_biggest(void **state)
{
	if (!begin(state))
		return;
	uint64_t most = body.dev->request_bytes_max;
	if (most > body.dev->capacity_bytes)
		most = body.dev->capacity_bytes;
	uint32_t num_iov = body.dev->iov_max < 64 ? body.dev->iov_max : 64;
	unsigned char *out = memory(most);
	unsigned char *in = memory(most);
	fill(out, most, 3);
	assert_int_equal(run_plain(BLK_WRITE, 0, out, most), 0);
	assert_int_equal(run_plain(BLK_READ, 0, in, most), 0);
	assert_memory_equal(in, out, most);
	struct errand *read = errand_init(&body.errands[0], BLK_READ, 0);
	memset(in, 0, most);
	uint64_t each = most / num_iov / body.dev->memory_align * body.dev->memory_align;
	for (uint32_t i = 0; i + 1 < num_iov; i++)
		errand_segment(read, in + i * each, each);
	errand_segment(read, in + (num_iov - 1) * each, most - (num_iov - 1) * each);
	assert_int_equal(run(read), 0);
	assert_memory_equal(in, out, most);
	give_back(out);
	give_back(in);
	end();
}

/* All that it takes, and more: the rest goes when there is room. */
static void test_depth(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	uint32_t count = body.dev->depth + 8 < TASKS_MAX / 2 ? body.dev->depth + 8 : TASKS_MAX / 2;
	unsigned char *at = memory(count * block);
	for (uint32_t round = 0; round < 4; round++) {
		uint32_t taken = 0;
		memset(at, 0, count * block);
		for (uint32_t i = 0; i < count; i++) {
			struct errand *errand = errand_init(
				&body.errands[i], round % 2 ? BLK_READ : BLK_WRITE, i * block);
			errand_segment(errand, at + i * block, block);
			if (round % 2 == 0)
				fill(errand->data, block, 1000 * (round + 1) + i);
		}
		for (uint32_t turn = 0; taken < count; turn++) {
			taken += submit_all(&body.errands[taken], count - taken);
			assert_true(turn > 0 || count <= body.dev->depth ||
				    taken >= body.dev->depth);
			assert_true(body.under_way <= body.dev->depth);
			look(turn);
		}
		finish(0);
		for (uint32_t i = 0; i < count; i++) {
			assert_int_equal(body.errands[i].done, 1);
			assert_int_equal(body.errands[i].request.err, 0);
			assert_true(
				holds(at + i * block, block, 1000 * (round + 1 - round % 2) + i));
		}
	}
	assert_int_equal(body.done, 4 * count);
	give_back(at);
	end();
}

/* Requests that are submitted again from done. */
static void test_from_done(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	uint32_t width = body.dev->depth < 4 ? body.dev->depth : 4;
	unsigned char *at = memory(width * block);
	for (uint32_t i = 0; i < width; i++) {
		struct errand *errand =
			errand_init(&body.errands[i], i % 2 ? BLK_READ : BLK_WRITE, i * block);
		errand_segment(errand, at + i * block, block);
		errand->again = 100;
	}
	assert_int_equal(submit_all(body.errands, width), width);
	finish(0);
	assert_int_equal(body.done, 101 * width);
	give_back(at);
	end();
}

/* Random reads and writes, many at a time, against a model: of each block how often it was written.
 * No two under way at once share a block. */
#define SHADOW_BLOCKS 512
#define SHADOW_LONG   8 /* blocks of a request at most */

struct shadow {
	uint32_t version[SHADOW_BLOCKS]; /* 0: zeros */
	bool busy[SHADOW_BLOCKS];
	struct prng prng;
	unsigned char *at; /* SHADOW_LONG blocks for each errand */
	uint32_t width;
};

static uint64_t shadow_number(uint64_t block, uint32_t version)
{
	return block << 32 | version;
}

/* A errand that is not under way ended: its blocks hold what the model says. */
static void shadow_verify(struct shadow *shadow, struct errand *errand)
{
	uint64_t block_bytes = body.dev->block_bytes;

	assert_int_equal(errand->done, 1);
	assert_int_equal(errand->request.err, 0);
	for (uint64_t i = 0; i < errand->request.bytes / block_bytes; i++) {
		uint64_t block = errand->block + i;
		const unsigned char *at = errand->data + i * block_bytes;
		shadow->busy[block] = false;
		if (shadow->version[block] == 0)
			assert_true(zero(at, block_bytes));
		else
			assert_true(holds(at, block_bytes,
					  shadow_number(block, shadow->version[block])));
	}
	errand->done = 0;
}

/* False: it would be in the way of another. */
static bool shadow_draw(struct shadow *shadow, uint32_t index)
{
	uint64_t block_bytes = body.dev->block_bytes;
	uint64_t count = 1 + prng_below(&shadow->prng, SHADOW_LONG);
	uint64_t block = prng_below(&shadow->prng, SHADOW_BLOCKS - count + 1);
	bool write = prng_next(&shadow->prng) & 1;

	for (uint64_t i = 0; i < count; i++) {
		if (shadow->busy[block + i])
			return false;
	}
	struct errand *errand = errand_init(&body.errands[index], write ? BLK_WRITE : BLK_READ,
					    block * block_bytes);
	errand->block = block;
	errand->request.durable = prng_below(&shadow->prng, 8) == 0;
	unsigned char *at = shadow->at + index * SHADOW_LONG * block_bytes;
	for (uint64_t i = 0; i < count; i++) {
		shadow->busy[block + i] = true;
		if (write)
			fill(at + i * block_bytes, block_bytes,
			     shadow_number(block + i, ++shadow->version[block + i]));
	}
	errand_segment(errand, at, count * block_bytes);
	return true;
}

static void test_shadow(void **state)
{
	static struct shadow shadow;
	uint32_t rounds = test_share(4000);

	if (!begin(state))
		return;
	shadow = (struct shadow){.width = body.dev->depth < 16 ? body.dev->depth : 16};
	prng_seed(&shadow.prng, test_seed(2));
	shadow.at = memory((uint64_t)shadow.width * SHADOW_LONG * body.dev->block_bytes);
	memset(body.errands, 0, sizeof(body.errands));
	for (uint32_t turn = 0; rounds > 0; turn++) {
		for (uint32_t i = 0; i < shadow.width && rounds > 0; i++) {
			struct errand *errand = &body.errands[i];
			if (errand->request.num_iov > 0 && !errand->done)
				continue;
			if (errand->done)
				shadow_verify(&shadow, errand);
			errand->request.num_iov = 0;
			if (!shadow_draw(&shadow, i))
				continue;
			assert_int_equal(submit_all(errand, 1), 1);
			rounds--;
		}
		look(turn);
	}
	finish(0);
	for (uint32_t i = 0; i < shadow.width; i++) {
		if (body.errands[i].done)
			shadow_verify(&shadow, &body.errands[i]);
	}
	give_back(shadow.at);
	end();
}

/* What a flush covered is there when the place is opened again; a flush of nothing ends too. */
static void test_flush(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	unsigned char *at = memory(16 * block);
	assert_int_equal(run_plain(BLK_FLUSH, 0, NULL, 0), 0);
	fill(at, 16 * block, 4);
	assert_int_equal(run_plain(BLK_WRITE, 7 * block, at, 16 * block), 0);
	assert_int_equal(run_plain(BLK_FLUSH, 0, NULL, 0), 0);
	reopen();
	memset(at, 0, 16 * block);
	assert_int_equal(run_plain(BLK_READ, 7 * block, at, 16 * block), 0);
	assert_true(holds(at, 16 * block, 4));
	give_back(at);
	end();
}

/* Flushes among writes, all under way at once. */
static void test_flush_among(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	uint32_t width = body.dev->depth < 12 ? body.dev->depth : 12;
	unsigned char *at = memory(width * block);
	for (uint32_t round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < width; i++) {
			if (i % 4 == 3) {
				(void)errand_init(&body.errands[i], BLK_FLUSH, 0);
				continue;
			}
			errand_segment(errand_init(&body.errands[i], BLK_WRITE, i * block),
				       at + i * block, block);
			body.errands[i].request.durable = i % 4 == 2;
		}
		assert_int_equal(submit_all(body.errands, width), width);
		finish(0);
		for (uint32_t i = 0; i < width; i++)
			assert_int_equal(body.errands[i].request.err, 0);
	}
	give_back(at);
	end();
}

static void test_durable(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	unsigned char *at = memory(block);
	for (uint32_t i = 0; i < 8; i++) {
		struct errand *errand = errand_init(&body.errands[0], BLK_WRITE, i * MIB);
		errand_segment(errand, at, block);
		errand->request.durable = true;
		fill(at, block, 50 + i);
		assert_int_equal(run(errand), 0);
	}
	reopen();
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(run_plain(BLK_READ, i * MIB, at, block), 0);
		assert_true(holds(at, block, 50 + i));
	}
	give_back(at);
	end();
}

/* A discard is accepted, of more than one request may transfer, and harms nothing beside it. */
static void test_discard(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	uint64_t range = 4 * MIB;
	unsigned char *at = memory(block);
	fill(at, block, 5);
	assert_int_equal(run_plain(BLK_WRITE, 0, at, block), 0);
	assert_int_equal(run_plain(BLK_WRITE, MIB, at, block), 0);
	assert_int_equal(run_plain(BLK_WRITE, MIB + range, at, block), 0);
	assert_int_equal(run_plain(BLK_DISCARD, MIB, NULL, range), 0);
	assert_int_equal(run_plain(BLK_READ, MIB, at, block), 0);
	assert_int_equal(run_plain(BLK_READ, 0, at, block), 0);
	assert_true(holds(at, block, 5));
	assert_int_equal(run_plain(BLK_READ, MIB + range, at, block), 0);
	assert_true(holds(at, block, 5));
	fill(at, block, 6);
	assert_int_equal(run_plain(BLK_WRITE, MIB, at, block), 0);
	memset(at, 0, block);
	assert_int_equal(run_plain(BLK_READ, MIB, at, block), 0);
	assert_true(holds(at, block, 6));
	give_back(at);
	end();
}

/* Beyond the end: an error, and the device goes on. */
static void test_out_of_range(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	uint64_t capacity = body.dev->capacity_bytes;
	const uint64_t offsets[] = {capacity,  capacity - block, capacity + (MIB << 20),
				    0 - block, 0 - 2 * block,    (uint64_t)1 << 63};
	unsigned char *at = memory(2 * block);
	for (uint32_t i = 0; i < ARRAY_LENGTH(offsets); i++) {
		for (int what = BLK_READ; what <= BLK_DISCARD; what++) {
			if (what == BLK_FLUSH)
				continue;
			int err = run_plain((enum blk_what)what, offsets[i],
					    what == BLK_DISCARD ? NULL : at, 2 * block);
			assert_true(err == -EIO || err == -EINVAL || err == -ENOSPC);
		}
	}
	fill(at, block, 7);
	assert_int_equal(run_plain(BLK_WRITE, capacity - block, at, block), 0);
	assert_int_equal(run_plain(BLK_READ, capacity - block, at, block), 0);
	assert_true(holds(at, block, 7));
	assert_int_equal(body.dev->capacity_bytes, capacity);
	give_back(at);
	end();
}

/* Sleeps in the descriptors until something completes.  False: it must be polled. */
static bool sleep_once(void)
{
	struct blkdev *dev = body.dev;
	int err = dev->ops->arm(dev);

	if (err == -ENOTSUP)
		return false;
	if (err == 0) {
		uint64_t deadline = dev->ops->next_deadline(dev);
		uint64_t now = body.rig.sched.now_ns;
		uint64_t timeout = deadline > now ? deadline - now : 0;
		uint64_t before = real_ns();
		uint32_t events =
			fdset_wait(&body.rig.sched.fds, timeout < LATE_NS ? timeout : LATE_NS);
		dev->ops->disarm(dev);
		/* It was woken; io_uring ends the wait as a signal does, without an event. */
		assert_true(deadline != TIMER_NEVER || real_ns() - before < LATE_NS / 2);
		if (events == 0 && deadline != TIMER_NEVER)
			body.rig.now_ns = deadline;
	} else {
		assert_int_equal(err, -EAGAIN);
	}
	look(1);
	return true;
}

static void test_sleep(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	uint32_t width = body.dev->depth < 3 ? 1 : 3;
	bool sleeps = true;
	unsigned char *at = memory(width * block);
	for (uint32_t round = 0; round < 60; round++) {
		uint64_t late = real_ns() + LATE_NS;
		for (uint32_t i = 0; i < width; i++) {
			struct errand *errand = errand_init(
				&body.errands[i], round % 2 ? BLK_READ : BLK_WRITE, i * block);
			errand_segment(errand, at + i * block, block);
			errand->request.durable = true;
		}
		assert_int_equal(submit_all(body.errands, width), width);
		while (body.under_way > 0 && sleeps) {
			sleeps = sleep_once();
			assert_true(real_ns() < late);
		}
		finish(0);
	}
	give_back(at);
	end();
	if (!sleeps)
		skip_because("this device must be polled");
}

/* Armed with nothing under way, a device does not wake anybody. */
static void test_sleep_idle(void **state)
{
	if (!begin(state))
		return;
	unsigned char *at = memory(body.dev->block_bytes);
	uint32_t slept = 0; /* times in a row: what was left of the read may wake first */
	bool polled = false;
	assert_int_equal(run_plain(BLK_READ, 0, at, body.dev->block_bytes), 0);
	for (uint32_t i = 0; i < 100 && slept < 10 && !polled; i++) {
		int err = body.dev->ops->arm(body.dev);
		polled = err == -ENOTSUP;
		bool woken = err || fdset_wait(&body.rig.sched.fds, 1000000) > 0;
		slept = woken ? 0 : slept + 1;
		if (!err)
			body.dev->ops->disarm(body.dev);
		look(1);
	}
	assert_true(polled || slept == 10);
	give_back(at);
	end();
}

static void test_wait(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	uint32_t width = body.dev->depth < 8 ? body.dev->depth : 8;
	unsigned char *at = memory(width * block);
	for (uint32_t round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < width; i++)
			errand_segment(errand_init(&body.errands[i],
						   round % 2 ? BLK_READ : BLK_WRITE, i * block),
				       at + i * block, block);
		assert_int_equal(submit_all(body.errands, width), width);
		while (body.under_way > 0) {
			uint32_t before = body.done;
			body.dev->ops->wait(body.dev);
			assert_true(body.done > before);
		}
	}
	give_back(at);
	end();
}

/* Memory that goes back to the system and comes again at the same address is not mistaken for what
 * was there before. */
static void test_memory_again(void **state)
{
	if (!begin(state))
		return;
	uint64_t bytes = 64 * MIB; /* more than the heap keeps for later */
	uint64_t block = body.dev->block_bytes;
	for (uint64_t i = 0; i < 30; i++) {
		unsigned char *at = memory(i % 3 ? bytes : 3 * MIB);
		unsigned char *out = at + (i % 3) * MIB / 2;
		fill(out, block, 100 + i);
		assert_int_equal(run_plain(BLK_WRITE, i * block, out, block), 0);
		memset(out, 0, block);
		assert_int_equal(run_plain(BLK_READ, i * block, out, block), 0);
		assert_true(holds(out, block, 100 + i));
		give_back(at);
		at = memory(bytes);
		assert_int_equal(run_plain(BLK_READ, i * block, at, block), 0);
		assert_true(holds(at, block, 100 + i));
		give_back(at);
	}
	end();
}

/* What the device cannot read or write ends with -EIO, that alone. */
static void test_fail(void **state)
{
	if (!begin(state))
		return;
	if (!body.fixture->fail) {
		end();
		skip_because("errors cannot be had of this device");
	}
	uint64_t block = body.dev->block_bytes;
	uint64_t bad = 5 * MIB;
	unsigned char *at = memory(4 * block);
	for (int reads = 0; reads <= 1; reads++) {
		enum blk_what what = reads ? BLK_READ : BLK_WRITE;
		/* In brackets: fail is a macro of cmocka's, too. */
		int err = (body.fixture->fail)(body.fixture, body.dev, reads, bad);
		if (err == -ENOTSUP)
			continue;
		assert_int_equal(err, 0);
		assert_int_equal(run_plain(what, bad, at, block), -EIO);
		assert_int_equal(run_plain(what, bad - block, at, 4 * block), -EIO);
		assert_int_equal(run_plain(what, bad - block, at, block), 0);
		assert_int_equal(run_plain(what, 0, at, block), 0);
	}
	give_back(at);
	end();
}

/* A device that goes away: nothing hangs, everything ends with an error. */
static void test_pull(void **state)
{
	if (!begin(state))
		return;
	if (!body.fixture->pull) {
		end();
		skip_because("this device cannot go away");
	}
	uint64_t block = body.dev->block_bytes;
	uint32_t width = body.dev->depth < 16 ? body.dev->depth : 16;
	unsigned char *at = memory(width * block);
	for (uint32_t i = 0; i < width; i++)
		errand_segment(errand_init(&body.errands[i], BLK_WRITE, i * block), at + i * block,
			       block);
	assert_int_equal(submit_all(body.errands, width), width);
	body.fixture->pull(body.fixture, body.dev);
	finish(0);
	for (uint32_t i = 0; i < width; i++) {
		assert_int_equal(body.errands[i].done, 1);
		assert_true(body.errands[i].request.err <= 0); /* it may have been done before */
	}
	int err = run_plain(BLK_READ, 0, at, block);
	assert_true(err == -ENODEV || err == -EIO);
	assert_true(run_plain(BLK_FLUSH, 0, NULL, 0) < 0);
	give_back(at);
	end();
}

static void test_grow(void **state)
{
	if (!begin(state))
		return;
	uint64_t block = body.dev->block_bytes;
	uint64_t before = body.dev->capacity_bytes;
	if (!body.dev->growable) {
		assert_int_equal(body.dev->ops->grow(body.dev, before + 4 * MIB), -ENOSPC);
		assert_int_equal(body.dev->capacity_bytes, before);
		end();
		return;
	}
	unsigned char *at = memory(block);
	fill(at, block, 8);
	assert_int_equal(run_plain(BLK_WRITE, before - block, at, block), 0);
	assert_int_equal(body.dev->ops->grow(body.dev, before + 4 * MIB), 0);
	assert_true(body.dev->capacity_bytes >= before + 4 * MIB);
	assert_int_equal(body.dev->ops->grow(body.dev, before), 0); /* it is that long */
	assert_true(body.dev->capacity_bytes >= before + 4 * MIB);
	for (uint64_t offset = before; offset < before + 4 * MIB; offset += MIB / 2) {
		assert_int_equal(run_plain(BLK_READ, offset, at, block), 0);
		assert_true(zero(at, block));
	}
	fill(at, block, 9);
	struct errand *errand = errand_init(&body.errands[0], BLK_WRITE, before + 4 * MIB - block);
	errand_segment(errand, at, block);
	errand->request.durable = true;
	assert_int_equal(run(errand), 0);
	reopen();
	assert_true(body.dev->capacity_bytes >= before + 4 * MIB);
	assert_int_equal(run_plain(BLK_READ, before + 4 * MIB - block, at, block), 0);
	assert_true(holds(at, block, 9));
	assert_int_equal(run_plain(BLK_READ, before - block, at, block), 0);
	assert_true(holds(at, block, 8));
	give_back(at);
	end();
}

/* ---- the list ---- */

static const struct CMUnitTest list[BLKDEV_BODY_TESTS] = {
	cmocka_unit_test(test_geometry),    cmocka_unit_test(test_edges),
	cmocka_unit_test(test_segments),    cmocka_unit_test(test_biggest),
	cmocka_unit_test(test_depth),       cmocka_unit_test(test_from_done),
	cmocka_unit_test(test_shadow),      cmocka_unit_test(test_flush),
	cmocka_unit_test(test_flush_among), cmocka_unit_test(test_durable),
	cmocka_unit_test(test_discard),     cmocka_unit_test(test_out_of_range),
	cmocka_unit_test(test_sleep),       cmocka_unit_test(test_sleep_idle),
	cmocka_unit_test(test_wait),        cmocka_unit_test(test_memory_again),
	cmocka_unit_test(test_fail),        cmocka_unit_test(test_pull),
	cmocka_unit_test(test_grow),
};

void blkdev_body_done(struct blk_request *request)
{
	request->state = 0;
	request->done = NULL;
}

int blkdev_body_run(struct blkdev *dev, enum blk_what what, uint64_t offset,
		    const struct iovec *iov)
{
	struct blk_request request = {.what = (uint8_t)what,
				      .durable = true,
				      .num_iov = 1,
				      .iov = iov,
				      .offset = offset,
				      .bytes = iov->iov_len,
				      .done = blkdev_body_done};
	struct blk_request *one = &request;

	assert_int_equal(dev->ops->submit(dev, &one, 1), 1);
	while (request.done)
		dev->ops->wait(dev);
	return request.err;
}

void blkdev_body_add(struct blkdev_fixture *fixture, struct CMUnitTest *tests)
{
	for (uint32_t i = 0; i < BLKDEV_BODY_TESTS; i++) {
		tests[i] = list[i];
		(void)snprintf(fixture->names[i], sizeof(fixture->names[i]), "%s: %s",
			       fixture->name, list[i].name);
		tests[i].name = fixture->names[i];
		tests[i].initial_state = fixture;
	}
}

int blkdev_body(struct blkdev_fixture *fixture)
{
	struct CMUnitTest tests[BLKDEV_BODY_TESTS];

	blkdev_body_add(fixture, tests);
	return test_run(fixture->name, tests);
}
