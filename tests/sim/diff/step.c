/* SPDX-License-Identifier: MIT
 * tests/sim/diff/step.c - the steps of the differential test: which comes next, and doing it to
 * both stacks; see diff.h. */
#include "sim/diff/diff.h"

#include "base/bits.h"

#include <inttypes.h>
#include <string.h>

#define NS_PER_MS    ((uint64_t)1000000)
#define LENGTH_MAX   1440U /* and options, in a frame */
#define OPEN_WINDOW  60000
#define DRAIN_ROUNDS 60
#define UNSENT_MAX   20000 /* bytes that the application leaves unacknowledged */
#define UNREAD_MAX   40000 /* bytes that the peer sends to an application that does not read */

static uint32_t below(struct diff_run *run, uint32_t bound)
{
	return (uint32_t)prng_below(&run->prng, bound);
}

static uint32_t between(struct diff_run *run, uint32_t low, uint32_t high)
{
	return low + below(run, high - low + 1);
}

/* ---- doing ---- */

static uint32_t ack_of(const struct diff_side *side, const struct diff_step *step)
{
	uint32_t part;

	switch (step->ack) {
	case ACK_ALL:
		return side->iss + side->high;
	case ACK_PART:
		part = step->ack_by % (side->high ? side->high : 1);
		return side->iss + side->high - part;
	case ACK_FUTURE:
		return side->iss + side->high + UNSENT_MAX + step->ack_by;
	default:
		return step->ack_by;
	}
}

static void send_packet(struct diff_side *side, const struct diff_step *step)
{
	uint8_t frame[SEGMENT_BYTES];
	uint8_t data[DIFF_MTU];
	struct segment s = {
		.from = 1,
		.to = 0,
		.header = {.source = DIFF_PEER_PORT,
			   .destination = DIFF_PORT,
			   .seq = side->run->peer_iss + step->seq,
			   .ack = step->flags & TCP_ACK ? ack_of(side, step) : 0,
			   .flags = step->flags,
			   .window = step->window},
		.urgent = step->urgent,
		.options = step->options,
		.option_bytes = step->option_bytes,
		.data = data,
		.length = step->length,
		.bad_checksum = step->bad_checksum,
	};

	memcpy(s.from_mac, side->wire.peer_mac, 6);
	memcpy(s.to_mac, side->wire.mac, 6);
	for (uint32_t i = 0; i < step->length; i++)
		data[i] = diff_byte(false, step->seq - 1 + i);
	if (step->flags & TCP_ACK && !(step->flags & (TCP_SYN | TCP_RST)) && step->ack == ACK_ALL &&
	    !step->bad_checksum && !diff_is_outside(side->run, step))
		side->told = side->high;
	side->stack->input(frame, segment_write(&s, frame));
}

static void do_call(struct diff_side *side, const struct diff_step *step)
{
	switch (step->act) {
	case ACT_SEND:
		(void)side->stack->send(step->bytes);
		break;
	case ACT_SHUTDOWN:
		side->stack->shutdown();
		break;
	case ACT_CLOSE:
		side->stack->close();
		break;
	case ACT_ABORT:
		side->stack->abort();
		break;
	case ACT_WAIT:
		side->stack->pass(step->ns);
		break;
	default:
		break;
	}
}

static void trace_step(struct diff_run *run)
{
	static const char *const acts[] = {"packet", "send",  "read", "pause", "shutdown",
					   "close",  "abort", "wait", "drain"};
	static const char letters[] = "FSRPAUEC";
	const struct diff_step *step = &run->step;

	for (int i = 0; i < 2; i++) {
		FILE *f = run->sides[i].trace;
		(void)fprintf(f, "  %" PRIu32 " %s", run->steps, acts[step->act]);
		if (step->act == ACT_PACKET) {
			(void)fprintf(f, " (%s) ", step->what);
			for (int j = 0; j < 8; j++)
				if (step->flags >> j & 1)
					(void)fputc(letters[j], f);
			(void)fprintf(
				f,
				" seq %" PRIu32 " ack %" PRIu32 " length %" PRIu32 " window %u%s%s",
				step->seq, ack_of(&run->sides[i], step) - run->sides[i].iss,
				step->length, step->window, step->option_bytes ? " options" : "",
				step->bad_checksum ? " bad checksum" : "");
		} else if (step->act == ACT_SEND) {
			(void)fprintf(f, " %" PRIu32, step->bytes);
		} else if (step->act == ACT_WAIT) {
			(void)fprintf(f, " %" PRIu64 " ms", step->ns / NS_PER_MS);
		}
		(void)fputc('\n', f);
	}
}

static void look(struct diff_run *run)
{
	for (int i = 0; i < 2; i++) {
		struct diff_side *side = &run->sides[i];
		if (run->reading)
			side->stack->read();
		side->stack->look(&side->app);
	}
}

void diff_settle(struct diff_run *run, uint64_t ns)
{
	for (int i = 0; i < 2; i++)
		run->sides[i].stack->pass(ns);
	look(run);
	for (int i = 0; i < 2; i++)
		run->sides[i].stack->pass(NS_PER_MS);
}

void diff_drain(struct diff_run *run)
{
	struct diff_step ack = {.act = ACT_PACKET,
				.what = "drain",
				.flags = TCP_ACK,
				.window = OPEN_WINDOW,
				.ack = ACK_ALL};

	for (int i = 0; i < 2; i++) {
		struct diff_side *side = &run->sides[i];
		uint32_t before = 0;
		for (int round = 0; round < DRAIN_ROUNDS && before != side->high; round++) {
			before = side->high;
			ack.seq = run->next;
			send_packet(side, &ack);
			side->stack->pass(10 * NS_PER_MS);
		}
		side->stack->pass((DRAIN_ROUNDS + 1) * 10 * NS_PER_MS);
	}
}

void diff_do(struct diff_run *run)
{
	trace_step(run);
	for (int i = 0; i < 2; i++) {
		memset(&run->sides[i].seen, 0, sizeof(run->sides[i].seen));
		run->sides[i].at_once = true;
	}
	switch (run->step.act) {
	case ACT_READ:
	case ACT_PAUSE:
		run->reading = run->step.act == ACT_READ;
		break;
	case ACT_DRAIN:
		diff_drain(run);
		break;
	case ACT_PACKET:
		for (int i = 0; i < 2; i++)
			send_packet(&run->sides[i], &run->step);
		break;
	default:
		for (int i = 0; i < 2; i++)
			do_call(&run->sides[i], &run->step);
		break;
	}
	for (int i = 0; i < 2; i++)
		run->sides[i].at_once = false;
	diff_settle(run, 600 * NS_PER_MS);
	/* What came ahead may have closed a gap. */
	if (!run->fin_sent && (int32_t)(run->sides[0].acked - run->next) > 0)
		run->next = run->sides[0].acked;
}

/* ---- drawing ---- */

static const uint8_t options_mss[] = {2, 4, 5, 0xb4};
static const uint8_t options_small[] = {2, 4, 2, 24};
static const uint8_t options_many[] = {2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 1, 1};
static const uint8_t options_unknown[] = {253, 6, 1, 2, 3, 4, 1, 1};
static const uint8_t options_bad[] = {2, 0, 5, 0xb4};
static const uint8_t options_long[] = {1, 1, 3, 40};

static void add_options(struct diff_run *run)
{
	static const struct {
		const uint8_t *bytes;
		uint32_t length;
	} all[] = {
		{options_mss, sizeof(options_mss)},   {options_small, sizeof(options_small)},
		{options_many, sizeof(options_many)}, {options_unknown, sizeof(options_unknown)},
		{options_bad, sizeof(options_bad)},   {options_long, sizeof(options_long)},
	};

	uint32_t which = below(run, ARRAY_LENGTH(all));

	run->step.options = all[which].bytes;
	run->step.option_bytes = all[which].length;
}

static void packet(struct diff_run *run, const char *what, uint8_t flags, uint32_t seq)
{
	run->step = (struct diff_step){.act = ACT_PACKET,
				       .what = what,
				       .flags = flags,
				       .seq = seq,
				       .window = OPEN_WINDOW,
				       .ack = ACK_ALL};
}

static uint32_t draw_length(struct diff_run *run)
{
	uint32_t most = LENGTH_MAX >> below(run, 8);

	return between(run, 1, most > 1 ? most : 1);
}

/* Does the application that does not read leave room? */
static bool has_room(const struct diff_run *run)
{
	return run->farthest - run->sides[0].app.delivered < UNREAD_MAX;
}

static void note_sent(struct diff_run *run, uint32_t end)
{
	if ((int32_t)(end - run->farthest) > 0)
		run->farthest = end;
}

static void draw_in_order(struct diff_run *run)
{
	packet(run, "data in order", TCP_ACK | TCP_PSH, run->next);
	if (run->fin_sent || !has_room(run))
		return;
	run->step.length = draw_length(run);
	run->next += run->step.length;
	note_sent(run, run->next);
}

static void draw_ahead(struct diff_run *run)
{
	if (run->fin_sent || !has_room(run)) {
		draw_in_order(run);
		return;
	}
	packet(run, "data ahead", TCP_ACK, run->next + between(run, 1, 3000));
	run->step.length = draw_length(run);
	note_sent(run, run->step.seq + run->step.length);
}

static void draw_old(struct diff_run *run)
{
	uint32_t back = between(run, 0, run->next - 1);

	if (back > 3000)
		back = between(run, 0, 3000);
	packet(run, "data again", TCP_ACK, run->next - back);
	run->step.length = draw_length(run);
	uint32_t end = run->step.seq + run->step.length;
	if (run->fin_sent && (int32_t)(end - (run->next - 1)) > 0)
		run->step.length = run->next - 1 - run->step.seq > LENGTH_MAX
					   ? 0
					   : run->next - 1 - run->step.seq;
	else if (!run->fin_sent && (int32_t)(end - run->next) > 0)
		run->next = end;
	note_sent(run, run->next);
}

static void draw_ack(struct diff_run *run)
{
	static const uint16_t windows[] = {0, 1, 100, 2000, 10000, OPEN_WINDOW, 65535};

	packet(run, "ack", TCP_ACK, run->next);
	run->step.window = windows[below(run, ARRAY_LENGTH(windows))];
	switch (below(run, 8)) {
	case 0:
		run->step.what = "ack of the future";
		run->step.ack = ACK_FUTURE;
		run->step.ack_by = between(run, 1, 1000000);
		break;
	case 1:
	case 2:
		run->step.what = "ack of a part";
		run->step.ack = ACK_PART;
		run->step.ack_by = below(run, 3000);
		break;
	default:
		break;
	}
}

static void draw_fin(struct diff_run *run)
{
	if (run->fin_sent) {
		packet(run, "fin again", TCP_FIN | TCP_ACK, run->next - 1);
		return;
	}
	if (run->farthest != run->next) { /* a FIN stands behind all data */
		draw_in_order(run);
		return;
	}
	packet(run, "fin", TCP_FIN | TCP_ACK, run->next);
	run->step.length = below(run, 2) && has_room(run) ? draw_length(run) : 0;
	run->next += run->step.length + 1;
	note_sent(run, run->next);
	run->fin_sent = true;
	run->fin_first = run->shut || run->closed;
}

static void draw_reset(struct diff_run *run)
{
	static const uint8_t flags[] = {TCP_RST, TCP_RST | TCP_ACK};

	switch (below(run, 4)) {
	case 0:
		packet(run, "reset", flags[below(run, 2)], run->next);
		run->reset = true;
		break;
	case 1:
		packet(run, "reset within the window", flags[below(run, 2)],
		       run->next + between(run, 1, 20000));
		break;
	case 2:
		packet(run, "reset beyond the window", flags[below(run, 2)],
		       run->next + between(run, 1U << 20, 1U << 24));
		break;
	default:
		packet(run, "reset before the window", flags[below(run, 2)],
		       run->next - between(run, 1, 1U << 20));
		break;
	}
}

static void draw_syn(struct diff_run *run)
{
	static const uint32_t offsets[] = {0, 1, 1000, 1U << 20, 0 - (1U << 20)};
	uint32_t which = below(run, ARRAY_LENGTH(offsets) + 1);

	packet(run, "syn of a connection that is there",
	       below(run, 2) ? TCP_SYN : TCP_SYN | TCP_ACK,
	       which == 0 ? 0 : run->next + offsets[which - 1]);
	if (below(run, 2))
		add_options(run);
}

static void draw_far(struct diff_run *run)
{
	packet(run, below(run, 2) ? "beyond the window" : "before the window", TCP_ACK, run->next);
	if (strcmp(run->step.what, "beyond the window") == 0)
		run->step.seq += between(run, 1U << 18, 1U << 24);
	else
		run->step.seq -= between(run, 1U << 18, 1U << 24);
	run->step.length = below(run, 2) ? draw_length(run) : 0;
	if (below(run, 8) == 0)
		run->step.flags |= TCP_FIN;
}

static void draw_odd(struct diff_run *run)
{
	switch (below(run, 6)) {
	case 0:
		draw_in_order(run);
		run->step.what = "urgent data";
		run->step.flags |= TCP_URG;
		run->step.urgent = (uint16_t)below(run, 2000);
		break;
	case 1:
		draw_in_order(run);
		run->step.what = "data with options";
		add_options(run);
		break;
	case 2:
		packet(run, "bad checksum", TCP_ACK, run->next);
		run->step.length = draw_length(run);
		run->step.bad_checksum = true;
		break;
	case 3:
		packet(run, "data without ack", TCP_PSH, run->next);
		run->step.length = draw_length(run);
		break;
	case 4:
		packet(run, "no flags", 0, run->next);
		break;
	default:
		draw_in_order(run);
		run->step.what = "data with bits of ECN";
		run->step.flags |= (uint8_t)(below(run, 4) << 6);
		break;
	}
}

static void draw_packet(struct diff_run *run)
{
	uint32_t x = below(run, 100);

	if (x < 40)
		draw_in_order(run);
	else if (x < 53)
		draw_ahead(run);
	else if (x < 64)
		draw_old(run);
	else if (x < 76)
		draw_ack(run);
	else if (x < 83)
		draw_fin(run);
	else if (x < 86)
		draw_reset(run);
	else if (x < 90)
		draw_syn(run);
	else if (x < 94)
		draw_far(run);
	else
		draw_odd(run);
}

static void call(struct diff_run *run, enum diff_act act)
{
	run->step = (struct diff_step){.act = act, .what = "call"};
}

static void draw_call(struct diff_run *run)
{
	uint32_t x = below(run, 100);
	bool both = run->sides[0].app.connected && run->sides[1].app.connected;

	if (x < 50 && both && !run->shut && !run->closed &&
	    run->wanted - (run->sides[0].high - 1) < UNSENT_MAX) {
		call(run, ACT_SEND);
		run->step.bytes = between(run, 1, 5000U >> below(run, 8));
		run->wanted += run->step.bytes;
	} else if (x < 60 && both) {
		call(run, run->reading ? ACT_PAUSE : ACT_READ);
	} else if (x < 66 && both && !run->shut && !run->closed) {
		call(run, ACT_SHUTDOWN);
		run->shut = true;
	} else if (x < 70 && both && !run->closed) {
		call(run, ACT_CLOSE);
		run->closed = true;
	} else if (x < 71 && both && !run->closed) {
		call(run, ACT_ABORT);
		run->closed = run->aborted = true;
	} else if (x < 80) {
		call(run, ACT_WAIT);
		run->step.ns = (uint64_t)between(run, 1, 5000U >> below(run, 8)) * NS_PER_MS;
	} else {
		call(run, ACT_DRAIN);
	}
}

/* Before the peer has done its part of the handshake. */
static void draw_handshake(struct diff_run *run)
{
	if (below(run, 5) == 0) {
		draw_packet(run);
		run->next = run->farthest = 1;
		run->fin_sent = run->reset = false;
		run->step.what = "stray";
		run->step.length = 0;
		run->step.flags &= ~TCP_FIN;
		/* Another number than that of the handshake would begin the connection. */
		if (run->passive ? !run->syn_sent : run->step.flags & TCP_ACK)
			run->step.flags &= ~TCP_SYN;
		if ((run->step.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && run->passive)
			run->step.seq = 0;
		if (run->step.ack == ACK_ALL && !run->sides[0].has_iss)
			run->step.ack = ACK_STRAY;
		return;
	}
	if (!run->syn_sent) {
		packet(run, "syn", run->passive ? TCP_SYN : TCP_SYN | TCP_ACK, 0);
		if (below(run, 2))
			add_options(run);
		run->syn_sent = true;
		run->handshake = !run->passive;
		return;
	}
	packet(run, "ack of the handshake", TCP_ACK, 1);
	run->handshake = true;
}

void diff_draw(struct diff_run *run)
{
	if (run->nobody)
		draw_packet(run);
	else if (!run->handshake)
		draw_handshake(run);
	else if (below(run, 3) == 0)
		draw_call(run);
	else
		draw_packet(run);
}

void diff_open(struct diff_run *run)
{
	static const struct diff_wire wire = {
		.output = diff_output,
		.byte = diff_byte,
		.mac = {2, 0, 0, 0, 0xde, 1},
		.peer_mac = {2, 0, 0, 0, 0xde, 2},
	};
	uint32_t way = below(run, 16);

	run->peer_iss = (uint32_t)prng_next(&run->prng);
	run->next = run->farthest = 1;
	run->reading = true;
	run->nobody = way == 0;
	run->passive = way < 10;
	for (int i = 0; i < 2; i++) {
		struct diff_side *side = &run->sides[i];
		side->run = run;
		side->wire = wire;
		side->wire.arg = side;
		side->stack->open_all(&side->wire, run->seed);
		if (run->nobody)
			continue;
		if (run->passive)
			side->stack->listen();
		else
			side->stack->connect();
	}
}
