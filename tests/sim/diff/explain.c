/* SPDX-License-Identifier: MIT
 * tests/sim/diff/explain.c - differences between lwIP and our stack that are explained; see diff.h
 * and docs/design/0008-differential.md. */
#include "sim/diff/diff.h"

#include "base/bits.h"

static bool is_packet(const struct diff_run *run)
{
	return run->step.act == ACT_PACKET;
}

/* No segment and no call may bring a stack down. */
static bool broken(const struct diff_run *run, enum diff_field field)
{
	return field == DIFF_BROKEN && run->sides[1].app.broken;
}

/* RFC 9293 3.10.7.4, fifth: a segment without ACK is dropped.  lwIP takes its data. */
static bool without_ack(const struct diff_run *run, enum diff_field field)
{
	(void)field;
	return is_packet(run) && run->handshake &&
	       !(run->step.flags & (TCP_ACK | TCP_SYN | TCP_RST));
}

static bool is_time_wait(const struct diff_run *run)
{
	return run->fin_sent && run->fin_first;
}

bool diff_is_outside(const struct diff_run *run, const struct diff_step *step)
{
	uint32_t expected = run->sides[0].acked;
	uint32_t end = step->seq + step->length + !!(step->flags & TCP_FIN);

	if (step->act != ACT_PACKET)
		return false;
	return (int32_t)(step->seq - expected) >= (int32_t)DIFF_WINDOW ||
	       ((int32_t)(step->seq - expected) < 0 && (int32_t)(end - expected) <= 0);
}

/* RFC 9293 3.10.7.4, first: a segment outside of the window is answered, and its acknowledgement
 * does not count.  lwIP lets it acknowledge a FIN. */
static bool old_acks_fin(const struct diff_run *run, enum diff_field field)
{
	(void)field;
	return run->old_acks;
}

/* The same in SYN-RECEIVED: lwIP takes such an acknowledgement for the end of the handshake. */
static bool old_ends_handshake(const struct diff_run *run, enum diff_field field)
{
	return field == DIFF_CONNECTED && run->sides[1].app.connected &&
	       diff_is_outside(run, &run->step);
}

/* RFC 9293 3.10.7.4, fourth: a SYN in SYN-RECEIVED returns a passive open to LISTEN.  Ours keeps it
 * and sends a challenge ACK, so that a forged SYN cannot end a handshake; lwIP takes its ACK. */
static bool syn_ends_handshake(const struct diff_run *run, enum diff_field field)
{
	return (field == DIFF_CONNECTED || field == DIFF_ACKED) && is_packet(run) && run->passive &&
	       run->step.flags & TCP_SYN && run->step.flags & TCP_ACK &&
	       !run->sides[0].app.connected;
}

/* RFC 9293 3.10.7.4: in TIME-WAIT as elsewhere segments are answered: outside of the window, with
 * SYN, with a reset that is not exact (RFC 5961).  lwIP answers what has a length only, and a SYN
 * within the window by a reset. */
static bool time_wait(const struct diff_run *run, enum diff_field field)
{
	return (field == DIFF_ANSWER || field == DIFF_RST) && is_time_wait(run) &&
	       run->sides[0].seen.pure;
}

/* RFC 9293 3.10.7.4, fourth; RFC 6191: a SYN in TIME-WAIT may begin a new connection. */
static bool syn_in_time_wait(const struct diff_run *run, enum diff_field field)
{
	return (field == DIFF_RST || field == DIFF_SYN) && is_time_wait(run) &&
	       run->sides[0].seen.syn && !run->sides[1].seen.syn;
}

/* RFC 9293 3.10.5: ABORT deletes a connection in TIME-WAIT.  Ours stays, for nobody is to be told,
 * and old segments may still come. */
static bool abort_in_time_wait(const struct diff_run *run, enum diff_field field)
{
	return field == DIFF_RST && run->aborted && is_time_wait(run) && run->sides[1].seen.rst;
}

/* RFC 9293 3.10.7.4, second: a reset flushes all queues.  lwIP has handed on what came before. */
static bool unread_after_reset(const struct diff_run *run, enum diff_field field)
{
	return field == DIFF_DELIVERED && run->reset &&
	       run->sides[0].app.delivered < run->sides[1].app.delivered;
}

/* RFC 9293 3.10.7.3: an acceptable ACK without SYN or RST is dropped in SYN-SENT.  lwIP resets the
 * peer, whose connection it takes for an old one, and sends its SYN again. */
static bool ack_in_syn_sent(const struct diff_run *run, enum diff_field field)
{
	return (field == DIFF_RST || field == DIFF_SYN) && !run->passive && !run->handshake &&
	       !(run->step.flags & (TCP_SYN | TCP_RST)) && run->sides[1].seen.rst;
}

/* Each such ACK uses up one of its SYNs, of which there are six. */
static bool ack_uses_up_syn(const struct diff_run *run, enum diff_field field)
{
	return field == DIFF_FAILED && !run->passive && !run->handshake && run->sides[1].app.failed;
}

/* RFC 9293 3.5 MUST-10: both sides may open at the same time.  lwIP cannot. */
static bool both_open(const struct diff_run *run, enum diff_field field)
{
	return field == DIFF_SYN && !run->passive && !run->handshake &&
	       (run->step.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN &&
	       run->sides[0].seen.syn;
}

/* RFC 9293 3.10.7.4, first: data ahead SHOULD be held.  lwIP gives up some of it where pieces
 * overlap. */
static bool data_ahead_given_up(const struct diff_run *run, enum diff_field field)
{
	return (field == DIFF_ACKED || field == DIFF_DELIVERED) &&
	       run->sides[0].acked > run->sides[1].acked && is_packet(run);
}

/* RFC 9293 3.10.7.4, fifth: an acknowledgement of what was not sent is dropped.  lwIP takes its
 * window, and none of a smaller acknowledgement thereafter. */
static bool window_of_future(const struct diff_run *run, enum diff_field field)
{
	return run->future_acks && (field == DIFF_SENT || field == DIFF_FIN);
}

/* RFC 9293 3.2 MUST-65: the MSS option belongs to segments with SYN.  lwIP takes it from any, and
 * then has segments that are larger than its congestion window. */
static bool mss_without_syn(const struct diff_run *run, enum diff_field field)
{
	return run->odd_options && (field == DIFF_SENT || field == DIFF_FIN) &&
	       run->sides[0].high > run->sides[1].high;
}

/* RFC 1122 4.2.2.13: what comes after CLOSE is answered by a reset (SHOULD).  lwIP swallows it. */
static bool data_after_close(const struct diff_run *run, enum diff_field field)
{
	return field == DIFF_RST && run->closed && is_packet(run) && run->step.length > 0 &&
	       run->sides[0].seen.rst;
}

static bool has_unread(const struct diff_run *run)
{
	return !run->reading &&
	       run->sides[0].acked - 1 - run->fin_sent > run->sides[0].app.delivered;
}

/* RFC 1122 4.2.2.13: CLOSE with unread data resets; lwIP does not if its side was shut before. */
static bool close_after_shutdown(const struct diff_run *run, enum diff_field field)
{
	return field == DIFF_RST && run->step.act == ACT_CLOSE && run->shut && has_unread(run) &&
	       run->sides[0].seen.rst;
}

/* RFC 1122 4.2.2.13: CLOSE while received data is pending: a reset tells that it is lost.  Ours
 * counts data that came out of order; lwIP only what the application could have read. */
static bool close_with_data_ahead(const struct diff_run *run, enum diff_field field)
{
	return field == DIFF_RST && run->step.act == ACT_CLOSE &&
	       run->farthest > run->sides[0].acked && run->sides[0].seen.rst;
}

const struct diff_reason diff_reasons[] = {
	{"an assertion fails", "-", "ours", true, broken},
	{"data without ACK taken", "RFC 9293 3.10.7.4, fifth", "ours", true, without_ack},
	{"a segment outside of the window ends the handshake", "RFC 9293 3.10.7.4, first", "ours",
	 true, old_ends_handshake},
	{"a SYN with ACK ends the handshake in SYN-RECEIVED", "RFC 9293 3.10.7.4, fourth",
	 "neither", true, syn_ends_handshake},
	{"an ACK resets in SYN-SENT", "RFC 9293 3.10.7.3", "ours", false, ack_in_syn_sent},
	{"such ACKs use up all SYNs", "RFC 9293 3.10.7.3", "ours", true, ack_uses_up_syn},
	{"no simultaneous open", "RFC 9293 3.5 MUST-10", "ours", true, both_open},
	{"data after CLOSE swallowed", "RFC 1122 4.2.2.13", "ours", true, data_after_close},
	{"CLOSE with unread data after SHUTDOWN", "RFC 1122 4.2.2.13", "ours", true,
	 close_after_shutdown},
	{"CLOSE with data out of order", "RFC 1122 4.2.2.13", "both", true, close_with_data_ahead},
	{"no answer in TIME-WAIT", "RFC 9293 3.10.7.4, RFC 5961", "ours", false, time_wait},
	{"a SYN refused in TIME-WAIT", "RFC 9293 3.10.7.4, fourth; RFC 6191", "ours", true,
	 syn_in_time_wait},
	{"ABORT ends TIME-WAIT", "RFC 9293 3.10.5", "lwIP", true, abort_in_time_wait},
	{"unread data after a reset", "RFC 9293 3.10.7.4, second", "both", true,
	 unread_after_reset},
	{"the window of an ACK of the future taken", "RFC 9293 3.10.7.4, fifth", "ours", true,
	 window_of_future},
	{"the MSS of a segment without SYN taken", "RFC 9293 3.2 MUST-65", "ours", true,
	 mss_without_syn},
	{"data out of order given up", "RFC 9293 3.10.7.4, first (SHOULD-31)", "both", true,
	 data_ahead_given_up},
	{"a segment outside of the window acknowledges a FIN", "RFC 9293 3.10.7.4, first", "ours",
	 true, old_acks_fin},
};

const uint32_t diff_num_reasons = ARRAY_LENGTH(diff_reasons);
