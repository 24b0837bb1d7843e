/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_scoreboard_test.c - net/tcp/scoreboard.c against a model that keeps a mark for
 * every byte; its bounds; memory short.
 */
#include "support/test.h"

#include "base/prng.h"
#include "net/tcp/scoreboard.h"
#include "net/tcp/seq.h"
#include "support/fault.h"
#include "support/seed.h"

#include <string.h>

#define BYTES 4096

/* A byte of [una, nxt) by its distance from where the run began. */
struct mark {
	uint32_t flags;
	uint64_t sent_ns;
};

struct bench {
	struct tcp_scoreboard sb;
	struct prng prng;
	uint32_t base;
	uint32_t una;
	uint32_t nxt;
	uint64_t now_ns;
	struct mark marks[BYTES];
};

static struct mark *at(struct bench *b, uint32_t seq)
{
	return &b->marks[seq - b->base];
}

static void open_bench(struct bench *b, uint32_t base, uint64_t seed)
{
	*b = (struct bench){.base = base, .una = base, .nxt = base, .now_ns = 1000};
	prng_seed(&b->prng, seed);
	tcp_scoreboard_init(&b->sb);
}

/* Every byte has the marks that the model gives it. */
static void compare(struct bench *b)
{
	uint32_t start = b->una;

	tcp_scoreboard_check(&b->sb, b->una, b->nxt, true);
	for (uint32_t i = 0; i < b->sb.count; i++) {
		const struct tcp_run *run = tcp_scoreboard_at(&b->sb, i);
		for (; start != run->end; start++) {
			const struct mark *m = at(b, start);
			/* What was SACKed needs to remember nothing else. */
			if (m->flags & RUN_SACKED) {
				assert_true(run->flags & RUN_SACKED);
				continue;
			}
			assert_int_equal(run->flags, m->flags);
			assert_int_equal(run->sent_ns, m->sent_ns);
		}
	}
}

static void send_bytes(struct bench *b, uint32_t bytes)
{
	assert_true(tcp_scoreboard_reserve(&b->sb, b->now_ns));
	for (uint32_t i = 0; i < bytes; i++)
		*at(b, b->nxt + i) = (struct mark){.sent_ns = b->now_ns};
	b->nxt += bytes;
	tcp_scoreboard_sent(&b->sb, b->nxt, b->now_ns);
}

/* What the model says an ACK of these bytes delivers. */
static void expect_delivered(struct bench *b, struct tcp_block block, struct tcp_delivered *e)
{
	for (uint32_t seq = block.start; seq != block.end; seq++) {
		const struct mark *m = at(b, seq);
		if (m->flags & RUN_SACKED)
			continue;
		e->bytes++;
		if (!(m->flags & RUN_RETRANSMITTED) &&
		    (e->first_ns == 0 || m->sent_ns < e->first_ns))
			e->first_ns = m->sent_ns;
		if (m->sent_ns >= e->last_ns) {
			e->last_ns = m->sent_ns;
			e->last_end = seq + 1;
			e->last_again = m->flags & RUN_RETRANSMITTED;
		}
		e->high_end = seq + 1;
	}
}

static void same_delivered(const struct tcp_delivered *d, const struct tcp_delivered *e)
{
	assert_int_equal(d->bytes, e->bytes);
	assert_int_equal(d->first_ns, e->first_ns);
	assert_int_equal(d->last_ns, e->last_ns);
	if (e->bytes == 0)
		return;
	assert_int_equal(d->last_end, e->last_end);
	assert_int_equal(d->high_end, e->high_end);
	assert_int_equal(d->last_again, e->last_again);
}

static struct tcp_block some_block(struct bench *b)
{
	uint32_t flight = b->nxt - b->una;
	uint32_t from = (uint32_t)prng_below(&b->prng, flight);
	uint32_t bytes = 1 + (uint32_t)prng_below(&b->prng, flight - from);

	return (struct tcp_block){b->una + from,
				  b->una + from + (bytes > 64 ? bytes % 64 + 1 : bytes)};
}

static void sack(struct bench *b, struct tcp_block block)
{
	struct tcp_delivered d = {0};
	struct tcp_delivered e = {0};

	expect_delivered(b, block, &e);
	tcp_scoreboard_sack(&b->sb, b->una, block, &d);
	assert_int_equal(d.sacked, e.bytes);
	same_delivered(&d, &e);
	for (uint32_t seq = block.start; seq != block.end; seq++)
		at(b, seq)->flags = RUN_SACKED;
}

static void ack(struct bench *b, uint32_t to)
{
	struct tcp_delivered d = {0};
	struct tcp_delivered e = {0};

	expect_delivered(b, (struct tcp_block){b->una, to}, &e);
	tcp_scoreboard_acked(&b->sb, b->una, to, &d);
	same_delivered(&d, &e);
	b->una = to;
}

static void lose(struct bench *b, struct tcp_block block)
{
	uint32_t lost = 0;

	for (uint32_t seq = block.start; seq != block.end; seq++) {
		if (at(b, seq)->flags & (RUN_SACKED | RUN_LOST))
			continue;
		at(b, seq)->flags |= RUN_LOST;
		lost++;
	}
	assert_int_equal(tcp_scoreboard_lose(&b->sb, b->una, block), lost);
}

static void resend(struct bench *b)
{
	struct tcp_block block;

	if (!tcp_scoreboard_first_lost(&b->sb, b->una, &block)) {
		assert_int_equal(b->sb.lost, 0);
		return;
	}
	assert_true(at(b, block.start)->flags & RUN_LOST);
	if (block.end - block.start > 40)
		block.end = block.start + 40;
	assert_true(tcp_scoreboard_resent(&b->sb, b->una, block, b->now_ns));
	for (uint32_t seq = block.start; seq != block.end; seq++)
		*at(b, seq) = (struct mark){.flags = RUN_RETRANSMITTED | RUN_REPAIRED,
					    .sent_ns = b->now_ns};
}

static void step(struct bench *b)
{
	uint32_t flight = b->nxt - b->una;
	uint32_t room = BYTES - (b->nxt - b->base);

	b->now_ns += prng_below(&b->prng, 3);
	switch (prng_below(&b->prng, 8)) {
	case 0:
	case 1:
		if (room > 0)
			send_bytes(b, 1 + (uint32_t)prng_below(&b->prng, room < 99 ? room : 99));
		return;
	case 2:
	case 3:
		if (flight > 0)
			sack(b, some_block(b));
		return;
	case 4:
		if (flight > 0)
			lose(b, some_block(b));
		return;
	case 5:
		resend(b);
		return;
	case 6:
		if (flight > 0 && prng_below(&b->prng, 3) == 0)
			ack(b, b->una + 1 + (uint32_t)prng_below(&b->prng, flight));
		return;
	default:
		if (prng_below(&b->prng, 30) > 0)
			return;
		tcp_scoreboard_forget_sacks(&b->sb);
		tcp_scoreboard_unlose(&b->sb);
		/* Forgotten runs are of one time: the model starts anew from what there is. */
		for (uint32_t i = 0, seq = b->una; i < b->sb.count; i++) {
			const struct tcp_run *run = tcp_scoreboard_at(&b->sb, i);
			for (; seq != run->end; seq++)
				*at(b, seq) = (struct mark){run->flags, run->sent_ns};
		}
	}
}

static void test_model(void **state)
{
	(void)state;
	for (uint64_t seed = test_seed(1), end = seed + 300; seed < end; seed++) {
		struct bench b;
		/* Some begin just below the wrap of sequence numbers. */
		open_bench(&b, seed % 2 ? UINT32_MAX - 1000 : 5000, seed);
		for (uint32_t i = 0; i < 400; i++) {
			step(&b);
			compare(&b);
		}
		if (b.una != b.nxt)
			ack(&b, b.nxt);
		assert_int_equal(b.sb.count, 0);
		assert_int_equal(b.sb.sacked + b.sb.lost, 0);
		tcp_scoreboard_free(&b.sb);
	}
}

/* A burst is one run; what leaves later is another. */
static void test_bursts(void **state)
{
	struct bench b;

	(void)state;
	open_bench(&b, 0, 1);
	for (uint32_t i = 0; i < 10; i++)
		send_bytes(&b, 100);
	assert_int_equal(b.sb.count, 1);
	b.now_ns++;
	send_bytes(&b, 100);
	assert_int_equal(b.sb.count, 2);
	ack(&b, 1100);
	tcp_scoreboard_free(&b.sb);
}

/* Row 15 of the attack table: a peer that acknowledges every other byte fills the runs, and no
 * more. */
static void test_bound(void **state)
{
	struct tcp_scoreboard sb;
	struct tcp_delivered d = {0};
	const uint32_t bytes = 100000;

	(void)state;
	tcp_scoreboard_init(&sb);
	assert_true(tcp_scoreboard_reserve(&sb, 1));
	tcp_scoreboard_sent(&sb, bytes, 1);
	for (uint32_t seq = 1; seq < bytes; seq += 2)
		tcp_scoreboard_sack(&sb, 0, (struct tcp_block){seq, seq + 1}, &d);
	tcp_scoreboard_check(&sb, 0, bytes, true);
	assert_in_range(sb.count, SCOREBOARD_RUNS_MAX - 2, SCOREBOARD_RUNS_MAX);
	assert_in_range(sb.sacked, SCOREBOARD_RUNS_MAX / 2 - 1, SCOREBOARD_RUNS_MAX / 2);
	/* New data has no run of its own any more, but is counted. */
	assert_int_equal(tcp_scoreboard_at(&sb, sb.count - 1U)->flags, 0);
	assert_true(tcp_scoreboard_reserve(&sb, 2));
	tcp_scoreboard_sent(&sb, bytes + 100, 2);
	tcp_scoreboard_check(&sb, 0, bytes + 100, true);
	/* All of it can be SACKed: that needs no run more. */
	tcp_scoreboard_sack(&sb, 0, (struct tcp_block){1, bytes + 100}, &d);
	tcp_scoreboard_check(&sb, 0, bytes + 100, true);
	assert_int_equal(sb.count, 2);
	tcp_scoreboard_free(&sb);
}

/* Memory is short: marks that need a run more are not set, and nothing else changes. */
static void test_memory(void **state)
{
	struct bench b;
	struct tcp_delivered d = {0};

	(void)state;
	open_bench(&b, 0, 1);
	send_bytes(&b, 1000);
	b.now_ns++;
	send_bytes(&b, 1000);
	fault_fail_from(1);
	tcp_scoreboard_sack(&b.sb, b.una, (struct tcp_block){100, 200}, &d);
	assert_int_equal(d.bytes, 0);
	assert_int_equal(b.sb.sacked, 0);
	assert_false(tcp_scoreboard_resent(&b.sb, b.una, (struct tcp_block){10, 20}, b.now_ns));
	/* Lost is rather too much than nothing. */
	assert_int_equal(tcp_scoreboard_lose(&b.sb, b.una, (struct tcp_block){100, 200}), 1000);
	(void)fault_off();
	tcp_scoreboard_check(&b.sb, 0, 2000, true);
	tcp_scoreboard_free(&b.sb);
}

/* No room for a cut: the head can be sent again all the same, or nothing would ever go on. */
static void test_resend_without_room(void **state)
{
	struct bench b;

	(void)state;
	open_bench(&b, 0, 1);
	send_bytes(&b, 1000);
	b.now_ns++;
	send_bytes(&b, 1000);
	assert_int_equal(tcp_scoreboard_lose(&b.sb, b.una, (struct tcp_block){0, 1000}), 1000);
	b.now_ns++;
	fault_fail_from(1);
	assert_true(tcp_scoreboard_resent(&b.sb, b.una, (struct tcp_block){0, 500}, b.now_ns));
	(void)fault_off();
	assert_int_equal(b.sb.count, 2);
	assert_int_equal(b.sb.lost, 0);
	assert_int_equal(tcp_scoreboard_at(&b.sb, 0)->flags, RUN_RETRANSMITTED | RUN_REPAIRED);
	assert_int_equal(tcp_scoreboard_at(&b.sb, 0)->sent_ns, b.now_ns);
	tcp_scoreboard_check(&b.sb, 0, 2000, true);
	tcp_scoreboard_free(&b.sb);
}

/* However many moments data leaves at, half of the runs are left to tell what becomes of it. */
static void test_room_for_sacks(void **state)
{
	struct tcp_scoreboard sb;
	struct tcp_delivered d = {0};
	uint32_t nxt = 0;

	(void)state;
	tcp_scoreboard_init(&sb);
	for (uint64_t now = 1; now <= 2 * SCOREBOARD_RUNS_MAX; now++) {
		assert_true(tcp_scoreboard_reserve(&sb, now));
		nxt += 100;
		tcp_scoreboard_sent(&sb, nxt, now);
	}
	assert_int_equal(sb.count, SCOREBOARD_RUNS_MAX / 2);
	for (uint32_t i = 0; i < 100; i++)
		tcp_scoreboard_sack(&sb, 0, (struct tcp_block){200 * i + 50, 200 * i + 150}, &d);
	assert_int_equal(sb.sacked, 100 * 100);
	tcp_scoreboard_check(&sb, 0, nxt, true);
	tcp_scoreboard_free(&sb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_resend_without_room),
		cmocka_unit_test(test_room_for_sacks),
	};

	return test_run("tcp_scoreboard", tests);
}
