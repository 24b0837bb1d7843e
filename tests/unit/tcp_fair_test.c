/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_fair_test.c - congestion control: flows share a bottleneck.  A small world of its
 * own: one queue that serves a segment a tick, drops what does not fit, and marks beyond a length
 * for those who take marks; windows that send by the clock of ACKs.
 */
#include "support/test.h"

#include "base/prng.h"
#include "net/tcp/cc.h"

#include <string.h>

#define MSS       1448
#define TICK_NS   ((uint64_t)120000) /* a segment at 100 Mbit/s */
#define FLOWS     2
#define QUEUE_MAX 1024
#define RING      8192 /* ticks that an ACK is on its way, at most */
#define LOST_MAX  2048

struct packet {
	uint8_t flow;
	bool marked;
	uint32_t id;
	uint64_t sent;
};

struct flow {
	struct tcp_cc cc;
	uint64_t start;
	uint32_t next; /* id of the next segment */
	uint32_t in_flight;
	uint32_t recover; /* losses before it are answered for */
	uint32_t lost[LOST_MAX];
	uint32_t num_lost;
	uint64_t srtt_ns;
	uint64_t heard; /* tick of the last ACK */
	uint64_t delivered;
};

struct path {
	struct prng prng;
	struct flow flows[FLOWS];
	struct packet queue[QUEUE_MAX];
	uint32_t head;
	uint32_t length;
	uint32_t limit;           /* of the queue */
	uint32_t mark;            /* length beyond which it marks */
	uint32_t delay;           /* ticks of a round trip without the queue */
	struct packet acks[RING]; /* by tick; sent == 0: none */
	uint64_t now;
};

static void enqueue(struct path *p, uint8_t index)
{
	struct flow *f = &p->flows[index];
	struct packet packet = {.flow = index, .id = f->next++, .sent = p->now};

	if (f->in_flight++ == 0)
		f->heard = p->now;
	if (p->length >= p->limit) {
		if (f->num_lost < LOST_MAX)
			f->lost[f->num_lost++] = packet.id;
		return;
	}
	packet.marked = p->length >= p->mark;
	p->queue[(p->head + p->length++) % QUEUE_MAX] = packet;
}

/* Losses below id are known now. */
static void detect(struct path *p, struct flow *f, uint32_t id)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < f->num_lost; i++) {
		if (f->lost[i] + 3 > id) {
			f->lost[kept++] = f->lost[i];
			continue;
		}
		if (f->lost[i] >= f->recover) {
			f->cc.ops->reduce(&f->cc, f->in_flight * MSS, false, p->now * TICK_NS);
			if (f->cc.cwnd > f->cc.ssthresh)
				f->cc.cwnd = f->cc.ssthresh;
			f->recover = f->next;
		}
		f->in_flight--;
	}
	f->num_lost = kept;
}

static void take_ack(struct path *p, const struct packet *packet)
{
	struct flow *f = &p->flows[packet->flow];
	uint64_t rtt_ns = (p->now - packet->sent) * TICK_NS;

	f->srtt_ns = f->srtt_ns ? f->srtt_ns - f->srtt_ns / 8 + rtt_ns / 8 : rtt_ns;
	detect(p, f, packet->id);
	struct tcp_cc_ack ack = {
		.bytes = MSS,
		.flight = f->in_flight * MSS,
		.una = (packet->id + 1) * MSS,
		.nxt = f->next * MSS,
		.now_ns = p->now * TICK_NS,
		.rtt_ns = rtt_ns,
		.srtt_ns = f->srtt_ns,
	};
	f->in_flight--;
	f->heard = p->now;
	f->delivered++;
	if (f->cc.ops->ecn)
		f->cc.ops->ecn(&f->cc, &ack, packet->marked);
	if (packet->id >= f->recover)
		f->cc.ops->acked(&f->cc, &ack);
	tcp_cc_check(&f->cc);
}

/* Everything on the way was lost. */
static void time_out(struct path *p, struct flow *f)
{
	f->cc.ops->timeout(&f->cc, f->in_flight * MSS, f->num_lost == 1, p->now * TICK_NS);
	f->in_flight -= f->num_lost;
	f->num_lost = 0;
	f->recover = f->next;
	f->heard = p->now;
}

static void tick(struct path *p)
{
	struct packet *ack = &p->acks[p->now % RING];

	p->now++;
	if (ack->sent != 0) {
		take_ack(p, ack);
		ack->sent = 0;
	}
	/* Who sends first is left to chance, else one of them would meet every full queue. */
	uint8_t first = (uint8_t)prng_below(&p->prng, FLOWS);
	for (uint8_t i = 0; i < FLOWS; i++) {
		uint8_t index = (uint8_t)((first + i) % FLOWS);
		struct flow *f = &p->flows[index];
		if (f->in_flight > 0 && p->now - f->heard > 3 * (uint64_t)(p->delay + p->limit))
			time_out(p, f);
		for (int burst = 0;
		     burst < 10 && p->now >= f->start && (f->in_flight + 1) * MSS <= f->cc.cwnd;
		     burst++)
			enqueue(p, index);
	}
	if (p->length > 0) {
		p->acks[(p->now + p->delay) % RING] = p->queue[p->head];
		p->head = (p->head + 1) % QUEUE_MAX;
		p->length--;
	}
}

/* Two flows, the second far later; how both fared in the second half. */
static void share(const struct tcp_cc_ops *first, const struct tcp_cc_ops *second, uint32_t delay,
		  uint32_t limit, double *jain, double *used)
{
	static struct path p;
	const uint64_t ticks = 2000000; /* four minutes */
	double got[FLOWS];

	memset(&p, 0, sizeof(p));
	prng_seed(&p.prng, delay);
	p.delay = delay;
	p.limit = limit;
	p.mark = limit / 5;
	tcp_cc_init(&p.flows[0].cc, first, MSS, 10);
	tcp_cc_init(&p.flows[1].cc, second, MSS, 10);
	p.flows[1].start = 10 * delay + 7;
	while (p.now < ticks / 2)
		tick(&p);
	for (int i = 0; i < FLOWS; i++)
		p.flows[i].delivered = 0;
	while (p.now < ticks)
		tick(&p);
	for (int i = 0; i < FLOWS; i++)
		got[i] = (double)p.flows[i].delivered;
	*jain = (got[0] + got[1]) * (got[0] + got[1]) / (2 * (got[0] * got[0] + got[1] * got[1]));
	*used = (got[0] + got[1]) / (double)(ticks / 2);
}

static void check_share(const struct tcp_cc_ops *first, const struct tcp_cc_ops *second)
{
	static const uint32_t delays[] = {50, 100, 400, 800}; /* 6 to 96 ms */

	for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
		double jain;
		double used;
		share(first, second, delays[i], delays[i] > 100 ? delays[i] : 100, &jain, &used);
		print_message("# %s and %s, %u ticks: Jain's index %.3f, used %.3f\n", first->name,
			      second->name, delays[i], jain, used);
		assert_true(jain >= 0.95);
		assert_true(used >= 0.9);
	}
}

static void test_reno(void **state)
{
	(void)state;
	check_share(&tcp_cc_newreno, &tcp_cc_newreno);
}

static void test_cubic(void **state)
{
	(void)state;
	check_share(&tcp_cc_cubic, &tcp_cc_cubic);
}

static void test_dctcp(void **state)
{
	(void)state;
	check_share(&tcp_cc_dctcp, &tcp_cc_dctcp);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reno),
		cmocka_unit_test(test_cubic),
		cmocka_unit_test(test_dctcp),
	};

	return test_run("tcp_fair", tests);
}
