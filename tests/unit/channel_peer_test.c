/* SPDX-License-Identifier: MIT
 * tests/unit/channel_peer_test.c - transport/shm/ against a peer that keeps no rule: greetings that
 * cannot be, every word of its memory overwritten, in turn and by a thread that never stops.  It
 * may end its own connection; nothing of ours breaks, hangs or leaks.
 */
#include "support/test.h"

#include "support/seed.h"
#include "support/shmpeer.h"
#include "transport/shm/lend.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define LEND ((uint64_t)16 << 20)

static const struct shmrig_options by_loan = {.lend_bytes = LEND};

struct scene {
	struct shmrig end;
	struct shmpeer peer;
};

static void open_scene(struct scene *scene)
{
	assert_int_equal(shmrig_open(&scene->end, &by_loan), 0);
	shmpeer_open(&scene->peer);
	shmpeer_join(&scene->peer, &scene->end);
}

static struct op *push_bytes(struct shmrig *end, uint64_t bytes)
{
	char *object = heap_alloc(end->rig.sched.heap, bytes);
	struct iovec part = {.iov_base = object, .iov_len = bytes};

	assert_non_null(object);
	memset(object, 7, bytes);
	struct op *op = shmrig_push(end, &part, 1);
	shmrig_free(end, &part, 1);
	return op;
}

/* Spends an operation, which must be complete; what a pop got is read and freed. */
static int64_t spend(struct shmrig *end, struct op *op)
{
	struct iovec parts[OP_SEGMENTS_MAX];
	uint32_t count = op->numsegs;
	bool popped = op->opcode == OP_POP && op->ret == 0;
	volatile unsigned char sum = 0;

	for (uint32_t i = 0; i < count && popped; i++) {
		parts[i] = op_segment(op, i);
		for (uint64_t n = 0; n < parts[i].iov_len; n += 61)
			sum = (unsigned char)(sum + ((unsigned char *)parts[i].iov_base)[n]);
	}
	int64_t ret = shmrig_ret(end, op);
	if (popped)
		shmrig_free(end, parts, count);
	return ret;
}

static void turns(struct shmrig *end, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		shmrig_turn(end);
}

/* The end closes: within a few turns all is over. */
static void close_scene(struct scene *scene, struct op **ops, uint32_t count)
{
	channel_close(scene->end.channel);
	scene->end.channel = NULL;
	shmpeer_leave(&scene->peer);
	turns(&scene->end, 4);
	for (uint32_t i = 0; i < count; i++) {
		assert_true(op_done(ops[i]));
		(void)spend(&scene->end, ops[i]);
	}
	assert_true(list_empty(&scene->end.shm->hot) && list_empty(&scene->end.shm->cold));
	shmrig_close(&scene->end);
	shmpeer_close(&scene->peer);
}

/* A connection that the peer has spoilt ends, by ECONNRESET for all that waits. */
static void expect_reset(struct scene *scene)
{
	struct op *pop = shmrig_pop(&scene->end);

	turns(&scene->end, 3);
	assert_int_equal(scene->end.ended, 1);
	assert_int_equal(scene->end.err, -ECONNRESET);
	assert_int_equal(spend(&scene->end, pop), ECONNRESET);
	assert_int_equal(spend(&scene->end, push_bytes(&scene->end, 10)), ECONNRESET);
	close_scene(scene, NULL, 0);
}

/* ---- greetings ---- */

struct greeting_case {
	const char *name;
	void (*spoil)(struct greeting *greeting, struct shmpeer *peer, int fds[2]);
	int err;
};

static void spoil_magic(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)peer;
	(void)fds;
	greeting->magic++;
}

static void spoil_version(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)peer;
	(void)fds;
	greeting->version++;
}

static void spoil_hello(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)peer;
	(void)fds;
	greeting->hello_bytes = CHANNEL_HELLO_MAX + 1;
}

static void spoil_refusal(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)peer;
	(void)fds;
	greeting->refusal = EBUSY;
}

static void spoil_refusal_number(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)peer;
	(void)fds;
	greeting->refusal = INT32_MIN;
}

static void spoil_memory(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)greeting;
	(void)peer;
	fds[0] = -1;
}

static void spoil_heap(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)greeting;
	(void)peer;
	fds[1] = -1;
}

static void spoil_heap_bytes(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)peer;
	(void)fds;
	greeting->heap_bytes = SHMPEER_HEAP_BYTES + 1;
}

static void spoil_heap_unasked(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)peer;
	(void)fds;
	greeting->heap_bytes = 0;
}

static void spoil_kind(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)greeting;
	fds[0] = peer->fd;
}

static void spoil_seals(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)greeting;
	close(peer->memory_fd);
	peer->memory_fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(peer->memory_fd, sizeof(struct ring_shared)), 0);
	fds[0] = peer->memory_fd;
}

static void spoil_length(struct greeting *greeting, struct shmpeer *peer, int fds[2])
{
	(void)greeting;
	close(peer->memory_fd);
	peer->memory_fd = memfd_create("short", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(peer->memory_fd, sizeof(struct ring_shared) - 4096), 0);
	assert_int_equal(fcntl(peer->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	fds[0] = peer->memory_fd;
}

static const struct greeting_case greeting_cases[] = {
	{"magic", spoil_magic, -EPROTO},
	{"version", spoil_version, -EPROTO},
	{"hello", spoil_hello, -EPROTO},
	{"refusal", spoil_refusal, -EBUSY},
	{"refusal number", spoil_refusal_number, -EPROTO},
	{"no memory", spoil_memory, -EPROTO},
	{"no heap", spoil_heap, -EPROTO},
	{"a longer heap", spoil_heap_bytes, -EPROTO},
	{"a heap unasked", spoil_heap_unasked, -EPROTO},
	{"no memfd", spoil_kind, -EPROTO},
	{"not sealed", spoil_seals, -EPROTO},
	{"too short", spoil_length, -EPROTO},
};

static uint32_t open_descriptors(void)
{
	uint32_t count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void greet_badly(const struct greeting_case *one)
{
	struct scene scene;
	struct greeting greeting = shmpeer_greeting();
	uint32_t before = open_descriptors();
	int pair[2];

	assert_int_equal(shmrig_open(&scene.end, &by_loan), 0);
	shmpeer_open(&scene.peer);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	scene.peer.fd = pair[1];
	assert_int_equal(channel_connect(scene.end.channel, pair[0], "", 0), 0);
	int fds[2] = {scene.peer.memory_fd, scene.peer.heap_fd};
	one->spoil(&greeting, &scene.peer, fds);
	assert_int_equal(greeting_send(scene.peer.fd, &greeting, fds[0], fds[1]), 0);
	struct op *pop = shmrig_pop(&scene.end);
	turns(&scene.end, 3);
	if (scene.end.err != one->err)
		fail_msg("%s: %d", one->name, scene.end.err);
	assert_int_equal(scene.end.joined, 0);
	assert_int_equal(scene.end.ended, 1);
	assert_int_equal(spend(&scene.end, pop), -one->err);
	close_scene(&scene, NULL, 0);
	assert_int_equal(open_descriptors(), before);
}

static void test_greetings(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(greeting_cases) / sizeof(greeting_cases[0]); i++)
		greet_badly(&greeting_cases[i]);
}

static void test_greeting_bytes(void **state)
{
	struct scene scene;
	char bytes[sizeof(struct greeting) + 1] = {0};
	int pair[2];

	(void)state;
	for (uint32_t length = 0; length < sizeof(bytes) + 1; length += 16) {
		struct greeting greeting = shmpeer_greeting();
		memcpy(bytes, &greeting, sizeof(greeting));
		assert_int_equal(shmrig_open(&scene.end, &by_loan), 0);
		shmpeer_open(&scene.peer);
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
		scene.peer.fd = pair[1];
		assert_int_equal(channel_connect(scene.end.channel, pair[0], "", 0), 0);
		assert_int_equal(send(scene.peer.fd, bytes, length, 0), length);
		turns(&scene.end, 3);
		assert_int_equal(scene.end.ended, 1);
		close_scene(&scene, NULL, 0);
	}
}

/* ---- messages that cannot be ---- */

static void send_and_expect_reset(uint8_t kind, uint8_t form, uint32_t bytes, const void *lines)
{
	struct scene scene;

	open_scene(&scene);
	shmpeer_send(&scene.peer, kind, form, bytes, lines);
	expect_reset(&scene);
}

static void test_heads(void **state)
{
	static const char zeros[RING_INLINE_MAX];

	(void)state;
	send_and_expect_reset(CHANNEL_DATA, RING_INLINE, RING_INLINE_MAX + 1, zeros);
	send_and_expect_reset(CHANNEL_DATA, RING_INLINE, 0xffff, zeros);
	send_and_expect_reset(CHANNEL_DATA, 3, 8, zeros);
	send_and_expect_reset(CHANNEL_DATA, 0xff, 8, zeros);
	send_and_expect_reset(CHANNEL_END, RING_INLINE, 1, zeros);
	send_and_expect_reset(CHANNEL_END, RING_AREA, 0, zeros);
	send_and_expect_reset(2, RING_INLINE, 0, zeros);
	send_and_expect_reset(CHANNEL_RAW - 1, RING_INLINE, 0, zeros);
	send_and_expect_reset(CHANNEL_RAW, RING_INLINE, RING_INLINE_MAX + 1, zeros);
	send_and_expect_reset(CHANNEL_RAW, RING_LOAN, 16, zeros);
	send_and_expect_reset(CHANNEL_DATA, RING_AREA, 15, zeros);
	send_and_expect_reset(CHANNEL_DATA, RING_AREA, 0xffff, zeros);
	send_and_expect_reset(CHANNEL_DATA, RING_LOAN, 0, zeros);
	send_and_expect_reset(CHANNEL_DATA, RING_LOAN, 17, zeros);
	send_and_expect_reset(CHANNEL_DATA, RING_LOAN, 9 * 16, zeros);
	send_and_expect_reset(CHANNEL_DATA, RING_LOAN, 0xffff, zeros);
}

static void test_pieces(void **state)
{
	static const struct ring_piece pieces[] = {
		{.offset = 0, .length = 0, .left = 0},
		{.offset = RING_AREA_BYTES, .length = 1, .left = 1},
		{.offset = 0, .length = RING_AREA_BYTES + 1, .left = RING_AREA_BYTES + 1},
		{.offset = UINT32_MAX, .length = 2, .left = 2},
		{.offset = 1, .length = UINT32_MAX, .left = UINT32_MAX},
		{.offset = 0, .length = 10, .left = 9},
		{.offset = 0, .length = 10, .left = CHANNEL_MESSAGE_MAX + 1},
		{.offset = 0, .length = 10, .left = UINT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		send_and_expect_reset(CHANNEL_DATA, RING_AREA, sizeof(pieces[i]), &pieces[i]);
		send_and_expect_reset(CHANNEL_RAW, RING_AREA, sizeof(pieces[i]), &pieces[i]);
	}
	const struct ring_piece part = {.length = 10, .left = 20};
	send_and_expect_reset(CHANNEL_RAW, RING_AREA, sizeof(part), &part);
}

/* Pieces of a message that do not go together, or something else between them. */
static void test_assemblies(void **state)
{
	const struct ring_piece first = {.length = 1000, .left = 3000};
	const struct ring_piece wrong = {.length = 1000, .left = 1999};
	const struct ring_loan loan = {.length = 8192};

	(void)state;
	for (uint32_t way = 0; way < 4; way++) {
		struct scene scene;
		open_scene(&scene);
		shmpeer_send(&scene.peer, CHANNEL_DATA, RING_AREA, sizeof(first), &first);
		if (way == 0)
			shmpeer_send(&scene.peer, CHANNEL_DATA, RING_AREA, sizeof(wrong), &wrong);
		else if (way == 1)
			shmpeer_send(&scene.peer, CHANNEL_DATA, RING_INLINE, 3, "abc");
		else if (way == 2)
			shmpeer_send(&scene.peer, CHANNEL_DATA, RING_LOAN, sizeof(loan), &loan);
		else
			shmpeer_send(&scene.peer, CHANNEL_END, RING_INLINE, 0, NULL);
		expect_reset(&scene);
	}
}

static void test_after_the_end(void **state)
{
	struct scene scene;

	(void)state;
	open_scene(&scene);
	shmpeer_send(&scene.peer, CHANNEL_END, RING_INLINE, 0, NULL);
	shmpeer_send(&scene.peer, CHANNEL_DATA, RING_INLINE, 3, "abc");
	turns(&scene.end, 2);
	assert_int_equal(scene.end.err, -ECONNRESET);
	assert_int_equal(spend(&scene.end, shmrig_pop(&scene.end)), 0); /* the end it was */
	close_scene(&scene, NULL, 0);
}

static void test_loans(void **state)
{
	static const struct ring_loan bad[] = {
		{.offset = 0, .length = 0},
		{.offset = SHMPEER_HEAP_BYTES, .length = 4096},
		{.offset = SHMPEER_HEAP_BYTES - 4095, .length = 4096},
		{.offset = UINT64_MAX, .length = 4096},
		{.offset = UINT64_MAX - 4095, .length = 8192},
		{.offset = 0, .length = UINT32_MAX},
		{.offset = SHMPEER_HEAP_BYTES - 9, .length = 10}, /* short ones are copied */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ring_loan two[2] = {{.offset = 4096, .length = 8192}, bad[i]};
		send_and_expect_reset(CHANNEL_DATA, RING_LOAN, sizeof(bad[i]), &bad[i]);
		send_and_expect_reset(CHANNEL_DATA, RING_LOAN, sizeof(two), two);
	}
}

/* Lent twice, overlapping, too short: copied.  The name of a loan is the peer's own affair. */
static void test_odd_loans(void **state)
{
	struct scene scene;
	const struct ring_loan loans[4] = {
		{.offset = 0, .length = 8192, .loan = 5},
		{.offset = 4096, .length = 8192, .loan = 5},
		{.offset = 100, .length = 10, .loan = UINT32_MAX},
		{.offset = SHMPEER_HEAP_BYTES - 4096, .length = 4096, .loan = 0},
	};

	(void)state;
	open_scene(&scene);
	for (uint32_t i = 0; i < 1000; i++) {
		shmpeer_send(&scene.peer, CHANNEL_DATA, RING_LOAN, sizeof(loans), loans);
		struct op *pop = shmrig_pop(&scene.end);
		assert_int_equal(pop->numsegs, 4);
		assert_int_equal(spend(&scene.end, pop), 0);
	}
	assert_int_equal(scene.end.ended, 0);
	close_scene(&scene, NULL, 0);
}

/* ---- what it says of our ring ---- */

static void test_consumed(void **state)
{
	static const uint32_t lies[] = {1, 2, 600, 0x80000000, UINT32_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct scene scene;
		struct op *pushes[600];
		open_scene(&scene);
		atomic_store(&scene.peer.own->consumed, lies[i]); /* of a ring that is empty */
		for (uint32_t n = 0; n < 600; n++)
			pushes[n] = push_bytes(&scene.end, 20);
		turns(&scene.end, 3);
		bool ended = scene.end.ended > 0;
		assert_int_equal(ended, lies[i] > RING_LINES);
		close_scene(&scene, pushes, 600);
	}
}

static void test_returns(void **state)
{
	(void)state;
	for (uint32_t way = 0; way < 4; way++) {
		struct scene scene;
		open_scene(&scene);
		atomic_store(&scene.peer.own->borrows, 1);
		assert_int_equal(spend(&scene.end, push_bytes(&scene.end, 100000)), 0);
		assert_int_equal(spend(&scene.end, push_bytes(&scene.end, 100000)), 0);
		assert_int_equal(scene.end.channel->lent, 2);
		if (way == 0)
			shmpeer_return(&scene.peer, 7); /* which was not lent */
		else if (way == 1)
			shmpeer_return(&scene.peer, UINT32_MAX);
		else if (way == 2)
			shmpeer_return(&scene.peer, RING_LOANS);
		shmpeer_return(&scene.peer, 1);
		if (way == 3)
			shmpeer_return(&scene.peer, 1); /* twice, while the other is out */
		expect_reset(&scene);
	}
}

/* Returns while nothing is lent are not looked at; they count later, and are wrong then. */
static void test_returns_early(void **state)
{
	struct scene scene;

	(void)state;
	open_scene(&scene);
	atomic_store(&scene.peer.own->borrows, 1);
	for (uint32_t i = 0; i < 2 * RING_LOANS; i++)
		shmpeer_return(&scene.peer, 0);
	turns(&scene.end, 2);
	assert_int_equal(scene.end.ended, 0);
	assert_int_equal(spend(&scene.end, push_bytes(&scene.end, 100000)), 0);
	turns(&scene.end, 2);
	close_scene(&scene, NULL, 0);
}

/* Wake-ups without end do not keep the instance from anything else, or awake. */
static void test_wakes(void **state)
{
	struct scene scene;

	(void)state;
	open_scene(&scene);
	for (uint32_t i = 0; i < 3000; i++)
		shmpeer_wake(&scene.peer);
	shmpeer_send(&scene.peer, CHANNEL_DATA, RING_INLINE, 3, "abc");
	assert_int_equal(spend(&scene.end, shmrig_pop(&scene.end)), 0);
	turns(&scene.end, 500);
	assert_int_equal(fdset_wait(&scene.end.rig.sched.fds, 0), 0);
	assert_int_equal(scene.end.ended, 0);
	close_scene(&scene, NULL, 0);
}

/* ---- every word ---- */

static const uint64_t values[] = {
	0,
	1,
	UINT64_MAX,
	0x8000000000000000,
	0x0000000100000001,
	0x0000000300000001,
	0xffff000000000001,
	0xffff000000000003,
	0x0010010000000001,
	0x0010010000000003,
	0x0010020000000003,
	0x0010021000000003,
	0x0000000100000003,
	0x7fffffff7fffffff,
};

/* Where there is something that matters, of which the rest is a repetition. */
static uint32_t word_offset(uint32_t i)
{
	uint32_t head = (uint32_t)(offsetof(struct ring_shared, returns) / 8 + 6);
	uint32_t lines = (uint32_t)(offsetof(struct ring_shared, lines) / 8);

	return (i < head ? i : lines + i - head) * 8;
}

#define WORDS (8 * 3 + 6 + 8 * 8)

static void overwrite(uint32_t offset, uint64_t value)
{
	struct scene scene;
	struct op *ops[10];
	uint32_t n = 0;
	const struct ring_piece piece = {.length = 1000, .left = 1000};
	const struct ring_loan loan = {.offset = 8192, .length = 8192, .loan = 3};

	open_scene(&scene);
	atomic_store(&scene.peer.own->borrows, 1);
	ops[n++] = push_bytes(&scene.end, 100000);
	ops[n++] = push_bytes(&scene.end, 300);
	ops[n++] = push_bytes(&scene.end, (uint64_t)2 << 20);
	shmpeer_send(&scene.peer, CHANNEL_DATA, RING_INLINE, 100, (char[100]){0});
	shmpeer_send(&scene.peer, CHANNEL_DATA, RING_AREA, sizeof(piece), &piece);
	shmpeer_send(&scene.peer, CHANNEL_DATA, RING_LOAN, sizeof(loan), &loan);
	shmpeer_send(&scene.peer, CHANNEL_RAW, RING_AREA, sizeof(piece), &piece);
	memcpy((char *)scene.peer.own + offset, &value, sizeof(value));
	turns(&scene.end, 1);
	ops[n++] = shmrig_pop(&scene.end);
	ops[n++] = shmrig_pop(&scene.end);
	memcpy((char *)scene.peer.own + offset, &value, sizeof(value));
	turns(&scene.end, 1);
	ops[n++] = shmrig_pop(&scene.end);
	ops[n++] = shmrig_pop(&scene.end);
	ops[n++] = push_bytes(&scene.end, 50000);
	turns(&scene.end, 2);
	close_scene(&scene, ops, n);
}

static void test_every_word(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < WORDS; i++) {
		for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++)
			overwrite(word_offset(i), values[v]);
	}
}

/* ---- a thread that never stops ---- */

struct scribbler {
	struct shmpeer *peer;
	uint64_t seed;
	_Atomic bool stop;
};

static void *scribble(void *arg)
{
	struct scribbler *scribbler = arg;
	struct prng prng;

	prng_seed(&prng, scribbler->seed);
	while (!atomic_load(&scribbler->stop)) {
		uint32_t i = (uint32_t)(prng_next(&prng) % WORDS);
		uint64_t value =
			prng_next(&prng) % 2
				? prng_next(&prng)
				: values[prng_next(&prng) % (sizeof(values) / sizeof(values[0]))];
		_Atomic uint64_t *word =
			(_Atomic uint64_t *)(void *)((char *)scribbler->peer->own + word_offset(i));
		atomic_store_explicit(word, value, memory_order_relaxed);
	}
	return NULL;
}

/* Valid messages, which change while they are read. */
static void live_under(struct scene *scene, struct prng *prng)
{
	struct op *ops[64];
	uint32_t n = 0;

	for (uint32_t i = 0; i < 200; i++) {
		const struct ring_piece piece = {.offset = 100, .length = 3000, .left = 3000};
		const struct ring_loan loan = {.offset = 8192, .length = 8192, .loan = 3};
		uint32_t what = (uint32_t)(prng_next(prng) % 6);
		if (what == 0)
			shmpeer_send(&scene->peer, CHANNEL_DATA, RING_AREA, sizeof(piece), &piece);
		else if (what == 1)
			shmpeer_send(&scene->peer, CHANNEL_DATA, RING_LOAN, sizeof(loan), &loan);
		else if (what == 2)
			shmpeer_send(&scene->peer, CHANNEL_RAW, RING_AREA, sizeof(piece), &piece);
		else if (what == 3 && n < 64)
			ops[n++] = shmrig_pop(&scene->end);
		else if (what == 4 && n < 64)
			ops[n++] = push_bytes(&scene->end, 1 + prng_next(prng) % 70000);
		shmrig_turn(&scene->end);
	}
	close_scene(scene, ops, n);
}

static void test_scribbler(void **state)
{
	struct prng prng;

	(void)state;
	prng_seed(&prng, test_seed(5));
	for (uint32_t i = 0; i < test_share(300); i++) {
		struct scene scene;
		pthread_t thread;
		open_scene(&scene);
		atomic_store(&scene.peer.own->borrows, 1);
		struct shmpeer copy =
			scene.peer; /* its memory outlives close_scene for the thread */
		copy.own = mmap(NULL, sizeof(*copy.own), PROT_READ | PROT_WRITE, MAP_SHARED,
				copy.memory_fd, 0);
		assert_ptr_not_equal(copy.own, MAP_FAILED);
		struct scribbler scribbler = {.peer = &copy, .seed = prng_next(&prng)};
		assert_int_equal(pthread_create(&thread, NULL, scribble, &scribbler), 0);
		live_under(&scene, &prng);
		atomic_store(&scribbler.stop, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		munmap(copy.own, sizeof(*copy.own));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greetings),     cmocka_unit_test(test_greeting_bytes),
		cmocka_unit_test(test_heads),         cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_assemblies),    cmocka_unit_test(test_after_the_end),
		cmocka_unit_test(test_loans),         cmocka_unit_test(test_odd_loans),
		cmocka_unit_test(test_consumed),      cmocka_unit_test(test_returns),
		cmocka_unit_test(test_returns_early), cmocka_unit_test(test_wakes),
		cmocka_unit_test(test_every_word),    cmocka_unit_test(test_scribbler),
	};

	return test_run("channel_peer", tests);
}
