/* SPDX-License-Identifier: MIT
 * tests/sim/diff/side.c - what a stack sends, as its peer sees it; see diff.h. */
#include "sim/diff/diff.h"

#include <inttypes.h>

uint8_t diff_byte(bool own, uint32_t offset)
{
	uint32_t z = (offset + (own ? 0x40000000U : 0)) * 0x9e3779b1U;

	return (uint8_t)(z >> 24 ^ z >> 9);
}

static void trace(struct diff_side *side, const struct segment *s)
{
	static const char letters[] = "FSRPAUEC";

	(void)fprintf(side->trace, "    < ");
	for (int i = 0; i < 8; i++)
		if (s->header.flags >> i & 1)
			(void)fputc(letters[i], side->trace);
	/* Of a later connection's first number nothing is said: it is another in every run. */
	if (s->header.flags & TCP_SYN && s->header.seq != side->iss)
		(void)fprintf(side->trace, " new");
	else if (s->header.seq == 0)
		(void)fprintf(side->trace, " seq none");
	else
		(void)fprintf(side->trace, " seq %" PRIu32, s->header.seq - side->iss);
	(void)fprintf(side->trace, " ack %" PRIu32 " length %" PRIu32 " window %u\n",
		      s->header.flags & TCP_ACK ? s->header.ack - side->run->peer_iss : 0,
		      s->length, s->header.window);
}

/* RFC 9293 3.5.2: a reset has the sequence number that the offending segment acknowledges, or 0 and
 * an acknowledgement of it all. */
static void look_at_reset(struct diff_side *side, const struct segment *s)
{
	const struct diff_run *run = side->run;
	const struct diff_step *step = &run->step;

	side->seen.rst = true;
	if (step->act != ACT_PACKET || run->handshake)
		return;
	if (step->flags & TCP_ACK)
		return;
	uint32_t end =
		step->seq + step->length + !!(step->flags & TCP_SYN) + !!(step->flags & TCP_FIN);
	side->seen.rst_form = !(s->header.flags & TCP_ACK) || s->header.seq != 0 ||
			      s->header.ack - run->peer_iss != end;
}

static void look_at_data(struct diff_side *side, const struct segment *s)
{
	uint32_t seq = s->header.seq - side->iss;
	uint32_t end = seq + s->length;
	bool fin = s->header.flags & TCP_FIN;

	for (uint32_t i = 0; i < s->length; i++)
		if (s->data[i] != diff_byte(true, seq - 1 + i))
			side->seen.wrong = true;
	if (s->length > 0 || fin) {
		side->seen.data |= s->length > 0;
		side->seen.again |= (int32_t)(end + fin - side->high) <= 0;
		if ((int32_t)(seq - side->high) <= 0 && (int32_t)(end + fin - side->high) > 0)
			side->high = end + fin;
		side->fin |= fin && side->high == end + 1;
	} else if (s->header.flags & TCP_ACK && (int32_t)(seq - (side->high - side->fin)) >= 0) {
		side->seen.pure = true; /* a probe has a number from before */
	}
}

void diff_output(void *arg, const uint8_t *frame, uint32_t length)
{
	struct diff_side *side = arg;
	struct segment s;

	if (!segment_read(frame, length, &s))
		return;
	side->seen.frames++;
	if (s.header.flags & TCP_RST) {
		trace(side, &s);
		look_at_reset(side, &s);
		return;
	}
	if (s.header.flags & TCP_SYN) {
		side->seen.syn |= side->at_once;
		if (!side->has_iss || !side->run->handshake) {
			side->has_iss = true;
			side->iss = s.header.seq;
			side->high = 1;
		}
	}
	trace(side, &s);
	if (s.header.flags & TCP_ACK) {
		uint32_t ack = s.header.ack - side->run->peer_iss;
		if ((int32_t)(ack - side->acked) > 0)
			side->acked = ack;
		side->window = s.header.window;
	}
	if (!(s.header.flags & TCP_SYN))
		look_at_data(side, &s);
}
