/* SPDX-License-Identifier: MIT
 * tests/net/frame_test.c - messages over streams: every framing, cut everywhere; limits; peers that
 * break it.
 */
#include "support/net.h"

#include "api/instance.h"
#include "support/seed.h"

#include "base/prng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- helpers ---- */

static const struct timespec no_time;

/* Nothing is left of a test but an object of each size to receive into. */
static int teardown(void **state)
{
	const struct sched *sched = &thread_state.current->sched;
	struct heap_usage usage;

	assert_int_equal(demi_sleep(&no_time), 0);
	heap_usage(sched->heap, &usage);
	assert_true(usage.live_objects <= 3);
	assert_int_equal(sched->ops.used, 0);
	heap_check(sched->heap);
	return net_fini(state);
}

/* A stream to a plain socket, and messages over it. */
struct framed {
	int plain;
	int stream;
	int qd;
};

static struct framed framed(const struct demi_framing *framing)
{
	struct framed framed;

	framed.stream = net_connected(AF_INET, &framed.plain);
	assert_int_equal(demi_frame(&framed.qd, framed.stream, framing), 0);
	return framed;
}

static void close_framed(struct framed *framed)
{
	assert_int_equal(demi_close(framed->qd), 0);
	assert_int_equal(demi_close(framed->stream), 0);
	(void)close(framed->plain);
}

static void expect(demi_qtoken_t qt, const void *bytes, uint32_t length)
{
	demi_qresult_t qr = net_wait(qt);

	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	demi_sgarray_t sga = qr.qr_value.sga;
	assert_int_equal(net_array_bytes(&sga), length);
	for (uint32_t i = 0, at = 0; i < sga.sga_numsegs; i++) {
		const demi_sgaseg_t segment = sga.sga_segs[i];
		assert_non_null(segment.sgaseg_buf);
		assert_memory_equal(segment.sgaseg_buf, (const char *)bytes + at,
				    segment.sgaseg_len);
		at += segment.sgaseg_len;
	}
	assert_int_equal(demi_sgafree(&sga), 0);
}

static void push(int qd, const char *text)
{
	demi_qresult_t qr = net_wait(net_push_bytes(qd, text, (uint32_t)strlen(text)));

	assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
	assert_int_equal(qr.qr_qd, qd);
}

/* Length of the message that begins with its length as a digit; "!": none. */
static int64_t digit(void *arg, const void *bytes, size_t length)
{
	const char *first = bytes;

	assert_true(length > 0);
	if (arg)
		(*(uint32_t *)arg)++;
	if (*first == '!')
		return -EBADMSG;
	return length < 2 ? 0 : *first - '0' + 1; /* it wants two bytes to tell */
}

/* ---- every framing ---- */

struct form {
	struct demi_framing framing;
	const char *wire;    /* of the messages, */
	uint32_t wire_bytes; /* with zeros in it */
	const char *first;   /* what they are */
	const char *second;
	const char *third;
};

static const struct form forms[] = {
	{
		.framing = {.kind = DEMI_FRAME_LENGTH, .max_bytes = 10, .length_bytes = 1},
		.wire = "\3one\3two\5three",
		.wire_bytes = 14,
		.first = "one",
		.second = "two",
		.third = "three",
	},
	{
		.framing = {.kind = DEMI_FRAME_LENGTH, .max_bytes = 10, .length_bytes = 3},
		.wire = "\0\0\3one\0\0\3two\0\0\5three",
		.wire_bytes = 20,
		.first = "one",
		.second = "two",
		.third = "three",
	},
	{
		.framing = {.kind = DEMI_FRAME_LENGTH,
			    .max_bytes = UINT32_MAX,
			    .length_bytes = 8,
			    .little_endian = 1},
		.wire = "\3\0\0\0\0\0\0\0one\3\0\0\0\0\0\0\0two\5\0\0\0\0\0\0\0three",
		.wire_bytes = 35,
		.first = "one",
		.second = "two",
		.third = "three",
	},
	{
		.framing = {.kind = DEMI_FRAME_DELIMITER,
			    .max_bytes = 6,
			    .delimiter = "aab",
			    .delimiter_bytes = 3},
		.wire = "oneaabtwoaaabthreeaab",
		.wire_bytes = 21,
		.first = "one",
		.second = "twoa",
		.third = "three",
	},
	{
		.framing = {.kind = DEMI_FRAME_FIXED, .max_bytes = 4, .fixed_bytes = 4},
		.wire = "1one2two3tri",
		.wire_bytes = 12,
		.first = "1one",
		.second = "2two",
		.third = "3tri",
	},
	{
		.framing = {.kind = DEMI_FRAME_FIND, .max_bytes = 6, .find = digit},
		.wire = "3one3two5three",
		.wire_bytes = 14,
		.first = "3one",
		.second = "3two",
		.third = "5three",
	},
};

enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

/* Written in two pieces, cut at each place. */
static void test_pops(void **state)
{
	(void)state;
	for (uint32_t f = 0; f < FORMS; f++) {
		const struct form *form = &forms[f];
		for (uint32_t cut = 1; cut < form->wire_bytes; cut++) {
			struct framed it = framed(&form->framing);
			demi_qtoken_t qts[] = {net_pop(it.qd), net_pop(it.qd), net_pop(it.qd)};
			plain_write(it.plain, form->wire, cut);
			for (int i = 0; i < 10; i++)
				assert_int_equal(demi_sleep(&no_time), 0);
			plain_write(it.plain, form->wire + cut, form->wire_bytes - cut);
			expect(qts[0], form->first, (uint32_t)strlen(form->first));
			expect(qts[1], form->second, (uint32_t)strlen(form->second));
			expect(qts[2], form->third, (uint32_t)strlen(form->third));
			close_framed(&it);
		}
	}
}

/* Written byte by byte: many pieces a message. */
static void test_pops_of_bytes(void **state)
{
	(void)state;
	for (uint32_t f = 0; f < FORMS; f++) {
		const struct form *form = &forms[f];
		struct framed it = framed(&form->framing);
		demi_qtoken_t qt = net_pop(it.qd);
		for (uint32_t i = 0; i < form->wire_bytes; i++) {
			plain_write(it.plain, form->wire + i, 1);
			for (int n = 0; n < 10; n++)
				assert_int_equal(demi_sleep(&no_time), 0);
		}
		expect(qt, form->first, (uint32_t)strlen(form->first));
		expect(net_pop(it.qd), form->second, (uint32_t)strlen(form->second));
		expect(net_pop(it.qd), form->third, (uint32_t)strlen(form->third));
		close_framed(&it);
	}
}

static void test_pushes(void **state)
{
	char wire[64];

	(void)state;
	for (uint32_t f = 0; f < FORMS; f++) {
		const struct form *form = &forms[f];
		struct framed it = framed(&form->framing);
		push(it.qd, form->first);
		push(it.qd, form->second);
		push(it.qd, form->third);
		assert_int_equal(plain_read(it.plain, wire, form->wire_bytes), form->wire_bytes);
		assert_memory_equal(wire, form->wire, form->wire_bytes);
		close_framed(&it);
	}
}

/* Arrays of each number of segments, the last full: in the heap and elsewhere. */
static void test_pushes_of_segments(void **state)
{
	static char text[] = "abcdefgh";
	char wire[16];

	(void)state;
	for (uint32_t f = 0; f < 4; f += 3) {
		struct framed it = framed(&forms[f].framing);
		for (uint32_t count = 1; count <= DEMI_SGARRAY_MAXSIZE - (f == 3 ? 2 : 0);
		     count++) {
			demi_sgarray_t sga = demi_sgaalloc(1);
			sga.sga_numsegs = count;
			*(char *)sga.sga_segs[0].sgaseg_buf = 'a';
			for (uint32_t i = 1; i < count; i++)
				sga.sga_segs[i] = (demi_sgaseg_t){text + i, 1};
			assert_int_equal(net_wait(net_push(it.qd, &sga)).qr_opcode, DEMI_OPC_PUSH);
			assert_int_equal(demi_sgafree(&sga), 0);
			uint32_t bytes = count + (f == 3 ? 3 : 1);
			assert_int_equal(plain_read(it.plain, wire, bytes), bytes);
			assert_memory_equal(wire + (f == 0), text, count);
		}
		close_framed(&it);
	}
}

/* The same framing at both ends: one push pops as one element, whatever is between. */
static void test_both_ends(void **state)
{
	struct net_pair pair = net_tcp_pair(AF_INET);
	struct demi_framing framing = {
		.kind = DEMI_FRAME_LENGTH, .max_bytes = 1 << 20, .length_bytes = 4};
	static char bytes[1 << 20];
	struct prng prng;
	int ends[2];

	(void)state;
	prng_seed(&prng, test_seed(42));
	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 + (i >> 8));
	assert_int_equal(demi_frame(&ends[0], pair.client, &framing), 0);
	assert_int_equal(demi_frame(&ends[1], pair.server, &framing), 0);
	for (int i = 0; i < 300; i++) {
		uint32_t length = (uint32_t)(prng_next(&prng) %
					     (i % 100 == 0 ? sizeof(bytes) : (uint64_t)5000));
		int from = i % 2;
		demi_sgarray_t sga = net_array(bytes, length);
		demi_qtoken_t qt = net_pop(ends[1 - from]);
		demi_qtoken_t pushed = net_push(ends[from], &sga);
		expect(qt, bytes, length);
		assert_int_equal(net_wait(pushed).qr_opcode, DEMI_OPC_PUSH);
	}
	assert_int_equal(demi_close(ends[0]), 0);
	assert_int_equal(demi_shutdown(pair.client, SHUT_WR), 0);
	demi_qresult_t qr = net_wait(net_pop(ends[1]));
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 0);
	qr = net_wait(net_pop(ends[1])); /* and again */
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 0);
	assert_int_equal(demi_close(ends[1]), 0);
	net_close_pair(&pair);
}

/* ---- what is refused ---- */

static void test_pushes_refused(void **state)
{
	static const struct {
		struct demi_framing framing;
		const char *text;
		int err;
	} cases[] = {
		{{.kind = DEMI_FRAME_LENGTH, .max_bytes = 3, .length_bytes = 1}, "four", EMSGSIZE},
		{{.kind = DEMI_FRAME_FIXED, .max_bytes = 3, .fixed_bytes = 3}, "tw", EMSGSIZE},
		{{.kind = DEMI_FRAME_DELIMITER,
		  .max_bytes = 30,
		  .delimiter = "\r\n",
		  .delimiter_bytes = 2},
		 "in\r\nit",
		 EINVAL},
	};

	char big[300] = {0};
	demi_sgarray_t sga = net_array(big, sizeof(big));
	struct demi_framing of_a_byte = {
		.kind = DEMI_FRAME_LENGTH, .max_bytes = 1000, .length_bytes = 1};
	demi_qtoken_t qt;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		struct framed it = framed(&cases[i].framing);
		demi_sgarray_t text = net_array((void *)(uintptr_t)cases[i].text,
						(uint32_t)strlen(cases[i].text));
		assert_int_equal(demi_push(&qt, it.qd, &text), cases[i].err);
		struct net_address to = net_loopback(AF_INET, 1);
		assert_int_equal(demi_pushto(&qt, it.qd, &text, &to.any, to.length),
				 i == 2 ? EINVAL : cases[i].err);
		close_framed(&it);
	}
	struct framed it = framed(&of_a_byte);
	assert_int_equal(demi_push(&qt, it.qd, &sga), EMSGSIZE);
	close_framed(&it);
}

/* A peer that breaks it: told by this pop, and by each later one. */
static void test_broken_peers(void **state)
{
	static const struct {
		struct demi_framing framing;
		const char *wire;
		uint32_t wire_bytes;
		int err;
	} cases[] = {
		{{.kind = DEMI_FRAME_LENGTH, .max_bytes = 3, .length_bytes = 1}, "\4", 1, EMSGSIZE},
		{{.kind = DEMI_FRAME_LENGTH, .max_bytes = 3, .length_bytes = 8},
		 "\377\377\377\377\377\377\377\377",
		 8,
		 EMSGSIZE},
		{{.kind = DEMI_FRAME_LENGTH, .max_bytes = 3, .length_bytes = 2}, "\0", 1, EPROTO},
		{{.kind = DEMI_FRAME_LENGTH, .max_bytes = 3, .length_bytes = 1}, "\3ab", 3, EPROTO},
		{{.kind = DEMI_FRAME_FIXED, .max_bytes = 3, .fixed_bytes = 3}, "ab", 2, EPROTO},
		{{.kind = DEMI_FRAME_DELIMITER,
		  .max_bytes = 3,
		  .delimiter = "\r\n",
		  .delimiter_bytes = 2},
		 "abcd\r\n",
		 6,
		 EMSGSIZE},
		{{.kind = DEMI_FRAME_DELIMITER,
		  .max_bytes = 3,
		  .delimiter = "\r\n",
		  .delimiter_bytes = 2},
		 "abcde",
		 5,
		 EMSGSIZE},
		{{.kind = DEMI_FRAME_DELIMITER,
		  .max_bytes = 3,
		  .delimiter = "\r\n",
		  .delimiter_bytes = 2},
		 "abc\r",
		 4,
		 EPROTO},
		{{.kind = DEMI_FRAME_FIND, .max_bytes = 9, .find = digit}, "!", 1, EBADMSG},
		{{.kind = DEMI_FRAME_FIND, .max_bytes = 9, .find = digit},
		 "9bcdefghij",
		 10,
		 EMSGSIZE},
		{{.kind = DEMI_FRAME_FIND, .max_bytes = 9, .find = digit}, "3a", 2, EPROTO},
		{{.kind = DEMI_FRAME_FIND, .max_bytes = 1, .find = digit}, "3", 1, EMSGSIZE},
	};

	(void)state;
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct framed it = framed(&cases[i].framing);
		demi_qtoken_t first = net_pop(it.qd);
		demi_qtoken_t second = net_pop(it.qd);
		plain_write(it.plain, cases[i].wire, cases[i].wire_bytes);
		assert_int_equal(shutdown(it.plain, SHUT_WR), 0);
		net_wait_failed(first, cases[i].err);
		net_wait_failed(second, cases[i].err);
		net_wait_failed(net_pop(it.qd), cases[i].err);
		close_framed(&it);
	}
}

static void test_bad_framings(void **state)
{
	static const struct demi_framing bad[] = {
		{.kind = DEMI_FRAME_LENGTH, .max_bytes = 0, .length_bytes = 1},
		{.kind = DEMI_FRAME_LENGTH, .max_bytes = 1, .length_bytes = 0},
		{.kind = DEMI_FRAME_LENGTH, .max_bytes = 1, .length_bytes = 9},
		{.kind = DEMI_FRAME_DELIMITER, .max_bytes = 1, .delimiter_bytes = 1},
		{.kind = DEMI_FRAME_DELIMITER, .max_bytes = 1, .delimiter = "x"},
		{.kind = DEMI_FRAME_DELIMITER,
		 .max_bytes = 1,
		 .delimiter = "12345678901234567",
		 .delimiter_bytes = 17},
		{.kind = DEMI_FRAME_FIXED, .max_bytes = 4},
		{.kind = DEMI_FRAME_FIXED, .max_bytes = 4, .fixed_bytes = 5},
		{.kind = DEMI_FRAME_FIND, .max_bytes = 4},
		{.kind = (demi_framing_kind_t)4, .max_bytes = 4, .fixed_bytes = 4},
	};
	int qd;
	int derived;

	(void)state;
	assert_int_equal(demi_queue(&qd), 0);
	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(demi_frame(&derived, qd, &bad[i]), EINVAL);
	assert_int_equal(demi_frame(&derived, qd, NULL), EINVAL);
	assert_int_equal(demi_frame(NULL, qd, &forms[0].framing), EINVAL);
	assert_int_equal(demi_close(qd), 0);
}

/* The function is asked again only when there is more. */
static void test_asks_once(void **state)
{
	uint32_t asked = 0;
	struct demi_framing framing = {
		.kind = DEMI_FRAME_FIND, .max_bytes = 20, .find = digit, .arg = &asked};
	struct framed it = framed(&framing);
	demi_qtoken_t qt = net_pop(it.qd);

	(void)state;
	plain_write(it.plain, "9ab", 3);
	while (asked == 0)
		assert_int_equal(demi_sleep(&no_time), 0);
	plain_write(it.plain, "cdefg", 5);
	for (int i = 0; i < 100; i++)
		assert_int_equal(demi_sleep(&no_time), 0);
	assert_int_equal(asked, 1); /* it has told the length */
	plain_write(it.plain, "hi", 2);
	expect(qt, "9abcdefghi", 10);
	close_framed(&it);
}

/* Messages over messages over a memory queue; empty ones have memory of their own. */
static void test_frames_of_frames(void **state)
{
	struct demi_framing inner = {
		.kind = DEMI_FRAME_LENGTH, .max_bytes = 100, .length_bytes = 2};
	struct demi_framing outer = {.kind = DEMI_FRAME_DELIMITER,
				     .max_bytes = 50,
				     .delimiter = ";",
				     .delimiter_bytes = 1};
	int qd;
	int below;
	int above;

	(void)state;
	assert_int_equal(demi_queue(&qd), 0);
	assert_int_equal(demi_frame(&below, qd, &inner), 0);
	assert_int_equal(demi_frame(&above, below, &outer), 0);
	push(above, "one");
	demi_sgarray_t empty = net_array(&qd, 0);
	assert_int_equal(net_wait(net_push(above, &empty)).qr_opcode, DEMI_OPC_PUSH);
	push(above, "two");
	expect(net_pop(above), "one", 3);
	expect(net_pop(above), "", 0);
	expect(net_pop(above), "two", 3);
	assert_int_equal(demi_close(above), 0);
	assert_int_equal(demi_close(below), 0);
	push(qd, "x"); /* what is left of a message is dropped with its queue */
	assert_int_equal(demi_frame(&below, qd, &inner), 0);
	demi_qtoken_t qt = net_pop(below);
	net_assert_pending(qt);
	assert_int_equal(demi_close(below), 0);
	net_wait_failed(qt, ECANCELED);
	assert_int_equal(demi_close(qd), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, net_init, teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_pops),         TEST(test_pops_of_bytes),
		TEST(test_pushes),       TEST(test_pushes_of_segments),
		TEST(test_both_ends),    TEST(test_pushes_refused),
		TEST(test_broken_peers), TEST(test_bad_framings),
		TEST(test_asks_once),    TEST(test_frames_of_frames),
	};

	return test_run("frame", tests);
}
