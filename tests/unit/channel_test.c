/* SPDX-License-Identifier: MIT
 * tests/unit/channel_test.c - transport/shm/ between two ends on one thread, or two: sizes and
 * segments, order, full rings, cancelling, both ways of ending, the owner's own messages, payload
 * by reference and its bounds, memory that runs out, sleep.  References return to zero each time.
 */
#include "support/test.h"

#include "support/fault.h"
#include "support/seed.h"
#include "support/shmrig.h"
#include "transport/shm/lend.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB  ((uint64_t)1 << 20)
#define LEND ((uint64_t)64 << 20)

struct pair {
	struct shmrig a;
	struct shmrig b;
};

static const struct shmrig_options by_copy;
static const struct shmrig_options by_loan = {.lend_bytes = LEND};
static const struct shmrig_options privately = {.lend_bytes = LEND, .private = true};
static const struct shmrig_options as_stream = {.stream = true};

static void open_pair(struct pair *pair, const struct shmrig_options *options)
{
	assert_int_equal(shmrig_open(&pair->a, options), 0);
	assert_int_equal(shmrig_open(&pair->b, options), 0);
	shmrig_join(&pair->a, &pair->b);
}

static void close_pair(struct pair *pair)
{
	shmrig_close(&pair->a);
	shmrig_close(&pair->b);
}

static void turns(struct pair *pair, uint32_t count)
{
	shmrig_turns(&pair->a, &pair->b, count);
}

static unsigned char byte_at(uint64_t seed, uint64_t i)
{
	return (unsigned char)((seed * 131 + i) * 2654435761U >> 11);
}

static void fill(char *bytes, uint64_t count, uint64_t seed, uint64_t first)
{
	for (uint64_t i = 0; i < count; i++)
		bytes[i] = (char)byte_at(seed, first + i);
}

static void check_bytes(const struct iovec *parts, uint32_t count, uint64_t seed)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < count; i++) {
		const unsigned char *bytes = parts[i].iov_base;
		for (uint64_t n = 0; n < parts[i].iov_len; n++) {
			if (bytes[n] != byte_at(seed, at + n))
				fail_msg("seed %llu: byte %llu", (unsigned long long)seed,
					 (unsigned long long)(at + n));
		}
		at += parts[i].iov_len;
	}
}

/* Segments of a message: in the heap, or malloc. */
static void make_parts(struct shmrig *end, struct iovec *parts, uint32_t count, uint64_t bytes,
		       uint64_t seed, bool foreign)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t some = i + 1 < count ? bytes / count : bytes - at;
		char *buf = NULL;
		if (some > 0)
			buf = foreign ? malloc(some) : heap_alloc(end->rig.sched.heap, some);
		assert_true(some == 0 || buf);
		fill(buf, some, seed, at);
		parts[i] = (struct iovec){.iov_base = buf, .iov_len = some};
		at += some;
	}
}

static void free_parts(struct shmrig *end, const struct iovec *parts, uint32_t count, bool foreign)
{
	if (!foreign) {
		shmrig_free(end, parts, count);
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		free(parts[i].iov_base);
}

/* Takes what a pop got, checks it and frees it. */
static void take_and_check(struct shmrig *end, struct op *pop, uint64_t bytes, uint64_t seed)
{
	struct iovec parts[OP_SEGMENTS_MAX];
	struct op was;

	assert_true(op_done(pop));
	assert_int_equal(shmrig_take(end, pop, &was, parts), bytes);
	assert_non_null(parts[0].iov_base);
	assert_int_equal((uintptr_t)was.sga_buf & 1, 0);
	check_bytes(parts, was.numsegs, seed);
	shmrig_free(end, parts, was.numsegs);
}

static void expect_end(struct shmrig *end, struct op *pop)
{
	struct iovec parts[OP_SEGMENTS_MAX];
	struct op was;

	assert_true(op_done(pop));
	assert_int_equal(shmrig_take(end, pop, &was, parts), 0);
	assert_int_equal(was.numsegs, 1);
	assert_null(parts[0].iov_base);
}

static struct op *push_bytes(struct shmrig *end, uint64_t bytes, uint64_t seed)
{
	struct iovec part;

	make_parts(end, &part, 1, bytes, seed, false);
	struct op *op = shmrig_push(end, &part, 1);
	shmrig_free(end, &part, 1); /* legal right after the push */
	return op;
}

/* ---- messages ---- */

static void cross(struct pair *pair, uint64_t bytes, uint32_t count, bool foreign, bool pop_first)
{
	struct iovec parts[OP_SEGMENTS_MAX];
	uint64_t seed = bytes + count;
	struct op *pop = pop_first ? shmrig_pop(&pair->b) : NULL;

	make_parts(&pair->a, parts, count, bytes, seed, foreign);
	struct op *push = shmrig_push(&pair->a, parts, count);
	if (!pop)
		pop = shmrig_pop(&pair->b);
	for (uint32_t i = 0; i < 5000 && !(op_done(push) && op_done(pop)); i++)
		turns(pair, 1);
	assert_int_equal(shmrig_ret(&pair->a, push), 0);
	take_and_check(&pair->b, pop, bytes, seed);
	free_parts(&pair->a, parts, count, foreign);
	turns(pair, 2);
}

static void cross_all(const struct shmrig_options *options)
{
	static const uint64_t sizes[] = {0,     1,     55,    56,     57,      112,     113,
					 168,   169,   4095,  4096,   8191,    8192,    32768,
					 65535, 65536, 65537, 262144, MIB + 3, 16 * MIB};
	struct pair pair;

	open_pair(&pair, options);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (uint32_t way = 0; way < 4; way++) {
			cross(&pair, sizes[i], 1, way & 1, way & 2);
			cross(&pair, sizes[i], 3, way & 1, way & 2);
			cross(&pair, sizes[i], OP_SEGMENTS_MAX, way & 1, way & 2);
		}
	}
	assert_int_equal(shmrig_objects(&pair.a), 0);
	assert_int_equal(shmrig_objects(&pair.b), 0);
	close_pair(&pair);
}

static void test_sizes_by_copy(void **state)
{
	(void)state;
	cross_all(&by_copy);
}

static void test_sizes_by_loan(void **state)
{
	(void)state;
	cross_all(&by_loan);
}

static void test_sizes_privately(void **state)
{
	(void)state;
	cross_all(&privately);
}

static void test_longest(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair, &by_copy);
	cross(&pair, CHANNEL_MESSAGE_MAX, 1, false, true);
	struct op *push = push_bytes(&pair.a, CHANNEL_MESSAGE_MAX + 1, 1);
	assert_int_equal(shmrig_ret(&pair.a, push), EMSGSIZE);
	cross(&pair, 100, 1, false, false);
	close_pair(&pair);
}

/* A long message is one element, a long write of a stream several, and nothing of it is lost. */
static void test_stream(void **state)
{
	struct pair pair;
	struct iovec parts[OP_SEGMENTS_MAX];
	struct op was;
	uint64_t got = 0;
	uint32_t pieces = 0;

	(void)state;
	open_pair(&pair, &as_stream);
	assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 0, 0)), 0);
	struct op *push = push_bytes(&pair.a, 3 * MIB, 9);
	while (got < 3 * MIB) {
		struct op *pop = shmrig_pop(&pair.b);
		for (uint32_t i = 0; i < 10 && !op_done(pop); i++)
			turns(&pair, 1);
		uint64_t bytes = shmrig_take(&pair.b, pop, &was, parts);
		assert_int_equal(was.numsegs, 1);
		for (uint64_t i = 0; i < bytes; i++)
			assert_int_equal(((unsigned char *)parts[0].iov_base)[i],
					 byte_at(9, got + i));
		shmrig_free(&pair.b, parts, 1);
		got += bytes;
		pieces++;
	}
	assert_true(pieces > 1);
	assert_int_equal(shmrig_ret(&pair.a, push), 0);
	close_pair(&pair);
}

/* ---- a full ring ---- */

#define MANY 2000

static void many(const struct shmrig_options *options, uint64_t bytes)
{
	struct pair pair;
	struct op *pushes[MANY];
	uint32_t at_once = 0;

	open_pair(&pair, options);
	for (uint32_t i = 0; i < MANY; i++) {
		pushes[i] = push_bytes(&pair.a, bytes + i % 3, i);
		at_once += op_done(pushes[i]);
	}
	assert_true(at_once > 0 && at_once < MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		struct op *pop = shmrig_pop(&pair.b);
		for (uint32_t n = 0; n < 20 && !op_done(pop); n++)
			turns(&pair, 1);
		take_and_check(&pair.b, pop, bytes + i % 3, i);
	}
	turns(&pair, 2);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(shmrig_ret(&pair.a, pushes[i]), 0);
	close_pair(&pair);
}

static void test_full(void **state)
{
	(void)state;
	many(&by_copy, 10);
	many(&by_copy, 200);
	many(&by_copy, 3000);
	many(&by_loan, 9000);
}

/* More rounds of the ring than sequences of a byte or two could tell apart. */
static void test_rounds(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair, &by_copy);
	for (uint64_t i = 0; i < test_share(200000); i++) {
		assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 1 + i % 120, i)), 0);
		take_and_check(&pair.b, shmrig_pop(&pair.b), 1 + i % 120, i);
	}
	close_pair(&pair);
}

/* Positions are 32 bits, of which a sequence has 31. */
static void test_positions_wrap(void **state)
{
	static const uint32_t starts[] = {0x7ffffe00, 0xfffffe00};
	struct pair pair;

	(void)state;
	for (uint32_t n = 0; n < 2; n++) {
		open_pair(&pair, &by_copy);
		pair.a.channel->out_position = starts[n];
		pair.a.channel->out_acked = starts[n];
		pair.b.channel->in_position = starts[n];
		pair.b.channel->in_published = starts[n];
		pair.b.channel->own->consumed = starts[n];
		for (uint64_t i = 0; i < 4096; i++) {
			uint64_t bytes = i % 5 == 4 ? 2000 : 1 + i % 300;
			assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, bytes, i)), 0);
			take_and_check(&pair.b, shmrig_pop(&pair.b), bytes, i);
		}
		close_pair(&pair);
	}
}

static void test_random(void **state)
{
	struct pair pair;
	struct prng prng;
	uint64_t pushed = 0;
	uint64_t popped = 0;
	uint64_t sizes[64] = {0};

	(void)state;
	prng_seed(&prng, test_seed(7));
	open_pair(&pair, &by_loan);
	for (uint32_t i = 0; i < test_share(40000); i++) {
		if (pushed - popped < 64 && prng_next(&prng) % 2) {
			uint64_t bytes =
				1 + prng_next(&prng) % ((uint64_t)1 << prng_next(&prng) % 17);
			sizes[pushed % 64] = bytes;
			struct op *push = push_bytes(&pair.a, bytes, pushed++);
			while (!op_done(push)) {
				take_and_check(&pair.b, shmrig_pop(&pair.b), sizes[popped % 64],
					       popped);
				popped++;
				turns(&pair, 1);
			}
			assert_int_equal(shmrig_ret(&pair.a, push), 0);
		} else if (pushed > popped) {
			take_and_check(&pair.b, shmrig_pop(&pair.b), sizes[popped % 64], popped);
			popped++;
		}
		if (prng_next(&prng) % 8 == 0)
			turns(&pair, 1);
	}
	for (; popped < pushed; popped++)
		take_and_check(&pair.b, shmrig_pop(&pair.b), sizes[popped % 64], popped);
	close_pair(&pair);
}

/* ---- cancelling ---- */

static void test_cancel(void **state)
{
	struct pair pair;
	struct op *pushes[600];

	(void)state;
	open_pair(&pair, &by_copy);
	struct op *pop = shmrig_pop(&pair.b);
	struct op *other = shmrig_pop(&pair.b);
	channel_cancel(pair.b.channel, pop);
	assert_int_equal(shmrig_ret(&pair.b, pop), ECANCELED);
	for (uint32_t i = 0; i < 600; i++)
		pushes[i] = push_bytes(&pair.a, 20, i);
	assert_false(op_done(pushes[599]));
	channel_cancel(pair.a.channel, pushes[598]);
	assert_int_equal(shmrig_ret(&pair.a, pushes[598]), ECANCELED);
	for (uint32_t i = 0; i < 600; i++) {
		if (i == 598)
			continue;
		for (uint32_t n = 0; n < 4 && !op_done(other); n++)
			turns(&pair, 1);
		take_and_check(&pair.b, other, 20, i);
		other = shmrig_pop(&pair.b);
	}
	channel_cancel(pair.b.channel, other);
	assert_int_equal(shmrig_ret(&pair.b, other), ECANCELED);
	turns(&pair, 2);
	for (uint32_t i = 0; i < 600; i++) {
		if (i != 598)
			assert_int_equal(shmrig_ret(&pair.a, pushes[i]), 0);
	}
	close_pair(&pair);
}

/* A push of which pieces are in the ring is not cut; the pop that began it may go, the next gets
 * all. */
static void test_cancel_begun(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair, &by_copy);
	struct op *push = push_bytes(&pair.a, 4 * MIB, 3);
	struct op *pop = shmrig_pop(&pair.b);
	turns(&pair, 1);
	assert_false(op_done(push));
	channel_cancel(pair.a.channel, push);
	channel_cancel(pair.b.channel, pop);
	assert_int_equal(shmrig_ret(&pair.b, pop), ECANCELED);
	pop = shmrig_pop(&pair.b);
	for (uint32_t i = 0; i < 100 && !op_done(pop); i++)
		turns(&pair, 1);
	assert_int_equal(shmrig_ret(&pair.a, push), 0);
	take_and_check(&pair.b, pop, 4 * MIB, 3);
	close_pair(&pair);
}

/* ---- the beginning ---- */

static void test_before_a_peer(void **state)
{
	struct pair pair;
	struct op *pushes[600];

	(void)state;
	assert_int_equal(shmrig_open(&pair.a, &by_copy), 0);
	assert_int_equal(shmrig_open(&pair.b, &by_copy), 0);
	for (uint32_t i = 0; i < 600; i++)
		pushes[i] = push_bytes(&pair.a, 30, i);
	assert_true(op_done(pushes[0]));
	assert_false(op_done(pushes[599]));
	struct op *pop = shmrig_pop(&pair.a);
	shmrig_join(&pair.a, &pair.b);
	assert_true(channel_joined(pair.a.channel) && channel_joined(pair.b.channel));
	assert_int_equal(channel_peer(pair.a.channel)->pid, getpid());
	assert_int_equal(pair.a.hello_bytes, 5);
	assert_memory_equal(pair.b.hello, "one", 3);
	for (uint32_t i = 0; i < 600; i++) {
		struct op *got = shmrig_pop(&pair.b);
		for (uint32_t n = 0; n < 4 && !op_done(got); n++)
			turns(&pair, 1);
		take_and_check(&pair.b, got, 30, i);
	}
	turns(&pair, 2);
	for (uint32_t i = 0; i < 600; i++)
		assert_int_equal(shmrig_ret(&pair.a, pushes[i]), 0);
	assert_int_equal(shmrig_ret(&pair.b, push_bytes(&pair.b, 5, 5)), 0);
	turns(&pair, 1);
	take_and_check(&pair.a, pop, 5, 5);
	close_pair(&pair);
}

/* Who joined falls asleep before the other end knows that it has: what that one pushed meanwhile
 * wakes it. */
static void test_asleep_before_a_peer(void **state)
{
	struct pair pair;
	int fds[2];

	(void)state;
	assert_int_equal(shmrig_open(&pair.a, &by_copy), 0);
	assert_int_equal(shmrig_open(&pair.b, &by_copy), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(channel_connect(pair.a.channel, fds[0], "", 0), 0);
	assert_int_equal(channel_connect(pair.b.channel, fds[1], "", 0), 0);
	struct op *pop = shmrig_pop(&pair.b);
	shmrig_turn(&pair.b);
	shmrig_turn(&pair.b);
	assert_int_equal(pair.b.joined, 1);
	assert_int_equal(sched_arm(&pair.b.rig.sched), 0);
	assert_int_equal(pair.a.joined, 0);
	assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 9, 9)), 0);
	sched_flush(&pair.a.rig.sched);
	shmrig_turn(&pair.a);
	shmrig_turn(&pair.a);
	assert_int_equal(pair.a.joined, 1);
	assert_int_equal(fdset_wait(&pair.b.rig.sched.fds, 0), 1);
	pair.b.shm->poller.ops->disarm(&pair.b.shm->poller);
	turns(&pair, 1);
	take_and_check(&pair.b, pop, 9, 9);
	close_pair(&pair);
}

/* Nobody answers. */
static void test_silence(void **state)
{
	struct shmrig end;
	int fds[2];

	(void)state;
	assert_int_equal(shmrig_open(&end, &by_copy), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(channel_connect(end.channel, fds[0], "", 0), 0);
	struct op *pop = shmrig_pop(&end);
	struct op *push = push_bytes(&end, 3 * MIB, 1);
	shmrig_turn(&end);
	assert_int_equal(end.ended, 0);
	end.rig.now_ns += CHANNEL_ANSWER_NS + 1000000;
	for (uint32_t i = 0; i < 40; i++)
		shmrig_turn(&end);
	assert_int_equal(end.ended, 1);
	assert_int_equal(end.err, -ETIMEDOUT);
	assert_int_equal(shmrig_ret(&end, pop), ETIMEDOUT);
	assert_int_equal(shmrig_ret(&end, push), ETIMEDOUT);
	close(fds[1]);
	shmrig_close(&end);
}

/* ---- the end ---- */

static void test_close(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair, &by_copy);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 100 + i, i)), 0);
	struct op *pop = shmrig_pop(&pair.a);
	channel_close(pair.a.channel);
	pair.a.channel = NULL;
	assert_int_equal(shmrig_ret(&pair.a, pop), ECANCELED);
	turns(&pair, 2);
	assert_int_equal(shmrig_ret(&pair.b, push_bytes(&pair.b, 1, 1)), EPIPE);
	for (uint32_t i = 0; i < 5; i++)
		take_and_check(&pair.b, shmrig_pop(&pair.b), 100 + i, i);
	pop = shmrig_pop(&pair.b);
	turns(&pair, 1);
	expect_end(&pair.b, pop);
	expect_end(&pair.b, shmrig_pop(&pair.b));
	turns(&pair, 1);
	assert_int_equal(pair.b.ended, 1);
	assert_int_equal(pair.b.err, 0);
	close_pair(&pair);
}

/* A push that is begun goes on after its queue was closed; one that is not is cancelled. */
static void test_close_lingers(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair, &by_copy);
	struct op *begun = push_bytes(&pair.a, 4 * MIB, 3);
	struct op *waiting = push_bytes(&pair.a, 10, 4);
	channel_close(pair.a.channel);
	pair.a.channel = NULL;
	assert_int_equal(shmrig_ret(&pair.a, waiting), ECANCELED);
	assert_int_equal(shm_lingering(pair.a.shm), 1);
	struct op *pop = shmrig_pop(&pair.b);
	for (uint32_t i = 0; i < 100 && !op_done(pop); i++)
		turns(&pair, 1);
	take_and_check(&pair.b, pop, 4 * MIB, 3);
	assert_int_equal(shmrig_ret(&pair.a, begun), 0);
	assert_int_equal(shm_lingering(pair.a.shm), 0);
	turns(&pair, 1);
	expect_end(&pair.b, shmrig_pop(&pair.b));
	close_pair(&pair);
}

static void test_abort(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair, &by_copy);
	assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 100, 1)), 0);
	struct op *begun = push_bytes(&pair.a, 4 * MIB, 3);
	channel_abort(pair.a.channel);
	pair.a.channel = NULL;
	assert_int_equal(shmrig_ret(&pair.a, begun), ECANCELED);
	turns(&pair, 2);
	assert_int_equal(shmrig_ret(&pair.b, push_bytes(&pair.b, 1, 1)), ECONNRESET);
	take_and_check(&pair.b, shmrig_pop(&pair.b), 100, 1);
	struct op *pop = shmrig_pop(&pair.b);
	turns(&pair, 2);
	assert_int_equal(shmrig_ret(&pair.b, pop), ECONNRESET); /* half a message is none */
	assert_int_equal(shmrig_ret(&pair.b, shmrig_pop(&pair.b)), ECONNRESET);
	assert_int_equal(pair.b.err, -ECONNRESET);
	close_pair(&pair);
}

static void test_shut(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair, &by_copy);
	struct op *push = push_bytes(&pair.a, 2 * MIB, 3);
	channel_shut(pair.a.channel);
	assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 1, 1)), EPIPE);
	struct op *pop = shmrig_pop(&pair.b);
	for (uint32_t i = 0; i < 100 && !op_done(pop); i++)
		turns(&pair, 1);
	take_and_check(&pair.b, pop, 2 * MIB, 3);
	assert_int_equal(shmrig_ret(&pair.a, push), 0);
	turns(&pair, 1);
	expect_end(&pair.b, shmrig_pop(&pair.b));
	/* the other direction goes on */
	assert_int_equal(shmrig_ret(&pair.b, push_bytes(&pair.b, 7, 7)), 0);
	take_and_check(&pair.a, shmrig_pop(&pair.a), 7, 7);
	channel_deafen(pair.a.channel);
	expect_end(&pair.a, shmrig_pop(&pair.a));
	for (uint32_t i = 0; i < 3000; i++) { /* what nobody hears makes room for more */
		assert_int_equal(shmrig_ret(&pair.b, push_bytes(&pair.b, 40 + i, 7)), 0);
		turns(&pair, 1);
	}
	assert_int_equal(pair.a.ended + pair.b.ended, 0);
	close_pair(&pair);
}

/* The owner closes in the middle of whatever it is told. */
static void test_close_inside(void **state)
{
	struct pair pair;
	int fds[2];
	struct iovec part = {.iov_base = (char[]){1, 2, 3}, .iov_len = 3};

	(void)state;
	assert_int_equal(shmrig_open(&pair.a, &by_copy), 0);
	assert_int_equal(shmrig_open(&pair.b, &by_copy), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
	pair.a.closes = true;
	assert_int_equal(channel_connect(pair.a.channel, fds[0], "", 0), 0);
	assert_int_equal(channel_connect(pair.b.channel, fds[1], "", 0), 0);
	turns(&pair, 4);
	assert_null(pair.a.channel);
	assert_int_equal(pair.b.ended, 1);
	close_pair(&pair);

	open_pair(&pair, &by_copy);
	pair.a.closes = true;
	pair.b.closes = true;
	assert_int_equal(channel_send(pair.a.channel, CHANNEL_RAW, &part, 1), 0);
	turns(&pair, 2);
	assert_null(pair.b.channel);
	assert_null(pair.a.channel);
	assert_int_equal(pair.a.ended, 1);
	close_pair(&pair);
}

/* ---- the owner's own messages ---- */

static void test_raw(void **state)
{
	struct pair pair;
	char bytes[CHANNEL_RAW_MAX + 1];
	static const uint32_t sizes[] = {0, 1, 56, 57, 168, 169, 5000, CHANNEL_RAW_MAX};

	(void)state;
	open_pair(&pair, &by_loan);
	fill(bytes, sizeof(bytes), 1, 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct iovec parts[2] = {
			{.iov_base = bytes, .iov_len = sizes[i] / 3},
			{.iov_base = bytes + sizes[i] / 3, .iov_len = sizes[i] - sizes[i] / 3}};
		assert_int_equal(channel_send(pair.a.channel, (uint8_t)(CHANNEL_RAW + i), parts, 2),
				 0);
		turns(&pair, 1);
		assert_int_equal(pair.b.arrived, i + 1);
		assert_int_equal(pair.b.message.kind, CHANNEL_RAW + i);
		assert_int_equal(pair.b.message.bytes, sizes[i]);
		assert_memory_equal(pair.b.taken, bytes, sizes[i]);
	}
	struct iovec part = {.iov_base = bytes, .iov_len = CHANNEL_RAW_MAX + 1};
	assert_int_equal(channel_send(pair.a.channel, CHANNEL_RAW, &part, 1), -EMSGSIZE);
	close_pair(&pair);
}

/* A message that is left keeps what is behind it waiting, and the instance may sleep all the same.
 */
static void test_raw_left(void **state)
{
	struct pair pair;
	struct channel_message message;
	char bytes[3] = {1, 2, 3};
	struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};

	(void)state;
	open_pair(&pair, &by_copy);
	pair.b.leaves = true;
	assert_int_equal(channel_send(pair.a.channel, 200, &part, 1), 0);
	assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 9, 9)), 0);
	struct op *pop = shmrig_pop(&pair.b);
	assert_int_equal(sched_arm(&pair.b.rig.sched), -EAGAIN); /* it was not offered yet */
	turns(&pair, 3);
	assert_false(op_done(pop));
	assert_int_equal(sched_arm(&pair.b.rig.sched), 0);
	pair.b.shm->poller.ops->disarm(&pair.b.shm->poller);
	assert_true(channel_next(pair.b.channel, &message));
	assert_int_equal(message.kind, 200);
	assert_int_equal(message.bytes, 3);
	memset(bytes, 0, sizeof(bytes));
	channel_take(pair.b.channel, bytes);
	assert_int_equal(bytes[2], 3);
	assert_false(channel_next(pair.b.channel, &message));
	turns(&pair, 1);
	take_and_check(&pair.b, pop, 9, 9);
	close_pair(&pair);
}

static void test_raw_full(void **state)
{
	struct pair pair;
	char bytes[300] = {0};
	struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	uint32_t sent = 0;

	(void)state;
	open_pair(&pair, &by_copy);
	while (channel_send(pair.a.channel, CHANNEL_RAW, &part, 1) == 0)
		sent++;
	assert_int_equal(channel_send(pair.a.channel, CHANNEL_RAW, &part, 1), -EAGAIN);
	assert_int_equal(pair.a.roomy, 0);
	turns(&pair, 1 + sent / 128 + 1); /* so many are taken in a turn */
	assert_int_equal(pair.b.arrived, sent);
	assert_int_equal(pair.a.roomy, 1);
	assert_int_equal(channel_send(pair.a.channel, CHANNEL_RAW, &part, 1), 0);
	channel_shut(pair.a.channel);
	assert_int_equal(channel_send(pair.a.channel, CHANNEL_RAW, &part, 1), -EPIPE);
	turns(&pair, 2);
	assert_int_equal(pair.a.roomy, 1);
	close_pair(&pair);
}

/* ---- by reference ---- */

static void test_loan_is_held(void **state)
{
	struct pair pair;
	struct iovec part;
	struct iovec parts[OP_SEGMENTS_MAX];
	struct op was;

	(void)state;
	open_pair(&pair, &by_loan);
	make_parts(&pair.a, &part, 1, 65536, 4, false);
	assert_int_equal(shmrig_ret(&pair.a, shmrig_push(&pair.a, &part, 1)), 0);
	assert_int_equal(heap_library_refs(pair.a.rig.sched.heap, part.iov_base), 1);
	assert_int_equal(pair.a.channel->lent, 1);
	shmrig_free(&pair.a, &part, 1);
	assert_int_equal(shmrig_objects(&pair.a), 1);
	assert_int_equal(shmrig_take(&pair.b, shmrig_pop(&pair.b), &was, parts), 65536);
	assert_int_equal(shmrig_objects(&pair.b), 0); /* it is not ours */
	check_bytes(parts, 1, 4);
	turns(&pair, 4);
	assert_int_equal(shmrig_objects(&pair.a), 1);
	shmrig_free(&pair.b, parts, 1);
	turns(&pair, 1);
	assert_int_equal(shmrig_objects(&pair.a), 0);
	assert_int_equal(pair.a.channel->lent, 0);
	close_pair(&pair);
}

/* Memory from another process's heap is foreign: what is passed on is copied. */
static void test_loan_is_passed_on(void **state)
{
	struct pair pair;
	struct iovec parts[OP_SEGMENTS_MAX];
	struct op was;

	(void)state;
	open_pair(&pair, &by_loan);
	assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 20000, 4)), 0);
	assert_int_equal(shmrig_take(&pair.b, shmrig_pop(&pair.b), &was, parts), 20000);
	assert_int_equal(shmrig_ret(&pair.b, shmrig_push(&pair.b, parts, 1)), 0);
	shmrig_free(&pair.b, parts, 1);
	assert_int_equal(pair.b.channel->lent, 0);
	take_and_check(&pair.a, shmrig_pop(&pair.a), 20000, 4);
	turns(&pair, 1);
	close_pair(&pair);
}

/* The same memory pushed twice: the second pop gets a copy while the first has it. */
static void test_loan_twice(void **state)
{
	struct pair pair;
	struct iovec part;
	struct iovec first[OP_SEGMENTS_MAX];
	struct iovec second[OP_SEGMENTS_MAX];
	struct op was;

	(void)state;
	open_pair(&pair, &by_loan);
	make_parts(&pair.a, &part, 1, 32768, 4, false);
	assert_int_equal(shmrig_ret(&pair.a, shmrig_push(&pair.a, &part, 1)), 0);
	assert_int_equal(shmrig_ret(&pair.a, shmrig_push(&pair.a, &part, 1)), 0);
	assert_int_equal(heap_library_refs(pair.a.rig.sched.heap, part.iov_base), 2);
	assert_int_equal(shmrig_take(&pair.b, shmrig_pop(&pair.b), &was, first), 32768);
	assert_int_equal(shmrig_take(&pair.b, shmrig_pop(&pair.b), &was, second), 32768);
	assert_ptr_not_equal(first[0].iov_base, second[0].iov_base);
	turns(&pair, 1);
	assert_int_equal(heap_library_refs(pair.a.rig.sched.heap, part.iov_base), 1);
	check_bytes(second, 1, 4);
	shmrig_free(&pair.b, second, 1);
	shmrig_free(&pair.b, first, 1);
	turns(&pair, 1);
	assert_int_equal(heap_library_refs(pair.a.rig.sched.heap, part.iov_base), 0);
	shmrig_free(&pair.a, &part, 1);
	close_pair(&pair);
}

/* What is lent is bounded: beyond, payload is copied, and the order holds. */
static void test_loan_bounds(void **state)
{
	struct pair pair;
	static struct iovec held[RING_LOANS + 20][OP_SEGMENTS_MAX];
	struct op was;

	(void)state;
	open_pair(&pair, &by_loan);
	for (uint32_t i = 0; i < RING_LOANS + 20; i++) {
		struct op *push = push_bytes(&pair.a, LEND_MIN_BYTES, i);
		assert_int_equal(shmrig_ret(&pair.a, push), 0);
		assert_int_equal(shmrig_take(&pair.b, shmrig_pop(&pair.b), &was, held[i]),
				 LEND_MIN_BYTES);
	}
	assert_int_equal(pair.a.channel->lent, RING_LOANS);
	for (uint32_t i = 0; i < RING_LOANS + 20; i++) {
		check_bytes(held[i], 1, i);
		shmrig_free(&pair.b, held[i], 1);
	}
	turns(&pair, 1);
	assert_int_equal(pair.a.channel->lent, 0);
	cross(&pair, 32768, 2, false, true);
	close_pair(&pair);
}

/* Either side closes while the other has memory of it. */
static void test_loan_outlives(void **state)
{
	struct pair pair;
	struct iovec parts[OP_SEGMENTS_MAX];
	struct op was;

	(void)state;
	for (uint32_t way = 0; way < 3; way++) {
		open_pair(&pair, &by_loan);
		assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 40000, 4)), 0);
		if (way == 1) /* the lender goes while it is in the ring */
			channel_close(pair.a.channel);
		struct op *pop = shmrig_pop(&pair.b);
		turns(&pair, 2);
		assert_int_equal(shmrig_take(&pair.b, pop, &was, parts), 40000);
		if (way == 0)
			channel_close(pair.b.channel);
		else if (way == 2)
			channel_abort(pair.a.channel);
		*(way ? &pair.a.channel : &pair.b.channel) = NULL;
		turns(&pair, 4);
		assert_int_equal(pair.b.err, way == 2 ? -ECONNRESET : 0);
		assert_int_equal(shmrig_objects(&pair.a), 1);
		check_bytes(parts, 1, 4);
		shmrig_free(&pair.b, parts, 1);
		turns(&pair, 4);
		assert_int_equal(shmrig_objects(&pair.a), 0);
		close_pair(&pair);
	}
}

/* The borrower's instance ends, and what it popped is still good; the lender gets its own back. */
static void test_loan_of_the_dead(void **state)
{
	struct pair pair;
	struct iovec parts[OP_SEGMENTS_MAX];
	struct op was;

	(void)state;
	open_pair(&pair, &by_loan);
	assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 40000, 4)), 0);
	assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 40000, 5)), 0);
	assert_int_equal(shmrig_take(&pair.b, shmrig_pop(&pair.b), &was, parts), 40000);
	shmrig_close(&pair.b);
	check_bytes(parts, 1, 4);
	for (uint32_t i = 0; i < 4; i++)
		shmrig_turn(&pair.a);
	assert_int_equal(pair.a.ended, 1);
	assert_int_equal(shmrig_objects(&pair.a), 0);
	assert_int_equal(heap_free_inside(NULL, parts[0].iov_base), 0);
	shmrig_close(&pair.a);
}

/* The lender's instance ends: what was popped of it stays as it is. */
static void test_loan_of_a_dead_lender(void **state)
{
	struct pair pair;
	struct iovec parts[OP_SEGMENTS_MAX];
	struct op was;

	(void)state;
	open_pair(&pair, &by_loan);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, 40000, i)), 0);
	assert_int_equal(shmrig_take(&pair.b, shmrig_pop(&pair.b), &was, parts), 40000);
	shmrig_close(&pair.a);
	shmrig_turn(&pair.b);
	take_and_check(&pair.b, shmrig_pop(&pair.b), 40000, 1);
	check_bytes(parts, 1, 0);
	shmrig_free(&pair.b, parts, 1);
	struct op *pop = shmrig_pop(&pair.b);
	shmrig_turn(&pair.b);
	expect_end(&pair.b, pop);
	shmrig_close(&pair.b);
}

/* ---- memory that runs out ---- */

static void fill_heap(struct shmrig *end, uint64_t size, struct iovec *held, uint32_t *count)
{
	for (*count = 0;; (*count)++) {
		held[*count].iov_base = heap_alloc(end->rig.sched.heap, size);
		if (!held[*count].iov_base)
			return;
	}
}

static void test_no_memory(void **state)
{
	static const uint64_t sizes[] = {40, 3000, 100000};
	static struct iovec held[1024];
	struct pair pair;
	uint32_t count;

	(void)state;
	open_pair(&pair, &by_copy);
	pair.b.rig.sched.heap->units_max = 16;
	for (uint32_t i = 0; i < 3; i++) {
		fill_heap(&pair.b, HEAP_CLASS_MAX_BYTES, held, &count);
		assert_int_equal(shmrig_ret(&pair.a, push_bytes(&pair.a, sizes[i], i)), 0);
		assert_int_equal(shmrig_ret(&pair.b, shmrig_pop(&pair.b)), ENOMEM);
		shmrig_free(&pair.b, held, count);
		take_and_check(&pair.b, shmrig_pop(&pair.b), sizes[i], i);
	}
	close_pair(&pair);
}

static void test_calls_fail(void **state)
{
	struct shmrig end;
	struct fault_live before = fault_live();

	(void)state;
	for (uint32_t nth = 1;; nth++) {
		fault_fail(nth);
		int err = shmrig_open(&end, &by_loan);
		bool failed = fault_off();
		if (err == 0)
			shmrig_close(&end);
		else
			assert_int_equal(err, -ENOMEM);
		if (!failed)
			break;
	}
	assert_int_equal(fault_live().blocks, before.blocks);
}

/* Whatever fails while two join, each ends up joined or ended, and nothing leaks. */
static void test_joins_fail(void **state)
{
	struct fault_live before = fault_live();
	struct pair pair;
	int fds[2];

	(void)state;
	for (uint32_t nth = 1;; nth++) {
		assert_int_equal(shmrig_open(&pair.a, &by_loan), 0);
		assert_int_equal(shmrig_open(&pair.b, &by_loan), 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
		fault_fail(nth);
		assert_int_equal(channel_connect(pair.a.channel, fds[0], "", 0), 0);
		assert_int_equal(channel_connect(pair.b.channel, fds[1], "", 0), 0);
		turns(&pair, 6);
		bool failed = fault_off();
		if (failed && pair.a.ended) {
			assert_true(pair.b.ended == 1 && pair.a.ended == 1);
		} else {
			assert_int_equal(pair.a.joined + pair.b.joined, 2);
			cross(&pair, 50000, 2, false, false);
		}
		close_pair(&pair);
		if (!failed)
			break;
	}
	assert_int_equal(fault_live().blocks, before.blocks);
}

/* ---- many channels ---- */

#define CHANNELS 60

/* Those that are not used become cold, and work all the same. */
static void test_cold(void **state)
{
	struct pair pair;
	struct channel *more[2][CHANNELS];
	uint32_t cold = 0;
	int fds[2];

	(void)state;
	open_pair(&pair, &by_copy);
	for (uint32_t i = 0; i < CHANNELS; i++) {
		assert_int_equal(shmrig_channel(&pair.a, &by_copy, &more[0][i]), 0);
		assert_int_equal(shmrig_channel(&pair.b, &by_copy, &more[1][i]), 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
		assert_int_equal(channel_connect(more[0][i], fds[0], "", 0), 0);
		assert_int_equal(channel_connect(more[1][i], fds[1], "", 0), 0);
	}
	turns(&pair, 3000);
	assert_true(pair.a.shm->num_hot <= SHM_HOT_MAX);
	for (uint32_t i = 0; i < CHANNELS; i++) {
		struct channel *mine = pair.a.channel;
		struct channel *theirs = pair.b.channel;
		cold += more[1][i]->cold;
		pair.a.channel = more[0][i];
		pair.b.channel = more[1][i];
		cross(&pair, 100, 1, false, true);
		assert_false(more[1][i]->cold);
		pair.a.channel = mine;
		pair.b.channel = theirs;
		channel_close(more[0][i]);
		turns(&pair, 2);
		channel_close(more[1][i]);
	}
	assert_true(cold >= CHANNELS - SHM_HOT_MAX);
	assert_int_equal(pair.b.ended, CHANNELS);
	close_pair(&pair);
}

/* ---- two threads, that sleep ---- */

#define ROUNDS 2000

struct sleeper {
	struct shmrig end;
	int fd;
	bool first;
};

static void sleep_until_done(struct shmrig *end, struct op *op)
{
	struct sched *sched = &end->rig.sched;

	while (!op_done(op)) {
		(void)sched_turn(sched);
		if (op_done(op) || sched_arm(sched))
			continue;
		sched_count(sched, COUNTER_SLEEPS, 1);
		assert_true(fdset_wait(&sched->fds, 10000000000) > 0); /* else it was not woken */
		end->shm->poller.ops->disarm(&end->shm->poller);
	}
}

static void one_round(struct sleeper *sleeper, uint64_t i, bool pushes)
{
	uint64_t bytes = i % 50 == 49 ? MIB : 1 + i % 700;

	if (pushes) {
		struct op *push = push_bytes(&sleeper->end, bytes, i);
		sleep_until_done(&sleeper->end, push);
		assert_int_equal(shmrig_ret(&sleeper->end, push), 0);
		return;
	}
	struct op *pop = shmrig_pop(&sleeper->end);
	sleep_until_done(&sleeper->end, pop);
	take_and_check(&sleeper->end, pop, bytes, i);
}

static void *run_sleeper(void *arg)
{
	struct sleeper *sleeper = arg;

	assert_int_equal(shmrig_open(&sleeper->end, &by_loan), 0);
	assert_int_equal(channel_connect(sleeper->end.channel, sleeper->fd, "", 0), 0);
	for (uint64_t i = 0; i < ROUNDS; i++) {
		one_round(sleeper, i, sleeper->first);
		one_round(sleeper, i, !sleeper->first);
	}
	if (sleeper->first) { /* one way, far more than fits */
		for (uint64_t i = 0; i < ROUNDS; i++)
			one_round(sleeper, i, true);
		channel_close(sleeper->end.channel);
		sleeper->end.channel = NULL;
	} else {
		for (uint64_t i = 0; i < ROUNDS; i++)
			one_round(sleeper, i, false);
		struct op *pop = shmrig_pop(&sleeper->end);
		sleep_until_done(&sleeper->end, pop);
		expect_end(&sleeper->end, pop);
	}
	for (uint32_t i = 0; i < 20000 && shmrig_objects(&sleeper->end) > 0; i++) {
		shmrig_turn(&sleeper->end); /* what is lent comes back */
		usleep(100);
	}
	assert_true(sleeper->end.rig.sched.counters.count[COUNTER_SLEEPS] > 0);
	shmrig_close(&sleeper->end);
	return NULL;
}

static void test_threads(void **state)
{
	static struct sleeper sleepers[2];
	pthread_t thread;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
	for (uint32_t i = 0; i < 2; i++) {
		sleepers[i].fd = fds[i];
		sleepers[i].first = i == 0;
	}
	assert_int_equal(pthread_create(&thread, NULL, run_sleeper, &sleepers[1]), 0);
	run_sleeper(&sleepers[0]);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_by_copy),
		cmocka_unit_test(test_sizes_by_loan),
		cmocka_unit_test(test_sizes_privately),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_rounds),
		cmocka_unit_test(test_positions_wrap),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_cancel_begun),
		cmocka_unit_test(test_before_a_peer),
		cmocka_unit_test(test_asleep_before_a_peer),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_close_lingers),
		cmocka_unit_test(test_abort),
		cmocka_unit_test(test_shut),
		cmocka_unit_test(test_close_inside),
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_raw_left),
		cmocka_unit_test(test_raw_full),
		cmocka_unit_test(test_loan_is_held),
		cmocka_unit_test(test_loan_is_passed_on),
		cmocka_unit_test(test_loan_twice),
		cmocka_unit_test(test_loan_bounds),
		cmocka_unit_test(test_loan_outlives),
		cmocka_unit_test(test_loan_of_the_dead),
		cmocka_unit_test(test_loan_of_a_dead_lender),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_calls_fail),
		cmocka_unit_test(test_joins_fail),
		cmocka_unit_test(test_cold),
		cmocka_unit_test(test_threads),
	};

	return test_run("channel", tests);
}
