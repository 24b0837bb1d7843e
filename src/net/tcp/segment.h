/* SPDX-License-Identifier: MIT
 * net/tcp/segment.h - one segment of a connection, made and given to IP: for output.c and
 * segment.c.
 */
#pragma once

#include "net/tcp/recovery.h"

/* The SACK option, as far as it fits beside payload. */
void tcp_fill_sack(struct tcp_conn *conn, struct tcp_options *o, uint32_t payload);

static inline void tcp_fill_header(struct tcp_conn *conn, struct tcp_header *h, uint32_t seq,
				   uint8_t flags, uint32_t payload)
{
	h->source = conn->local_port;
	h->destination = conn->remote_port;
	h->seq = seq;
	h->flags = flags;
	h->ack = flags & TCP_ACK ? conn->rcv_nxt : 0;
	h->window = tcp_window_to_advertise(conn);
	h->options.has = 0;
	if (likely(conn->timestamps)) {
		h->options.has = TCP_HAS_TIMESTAMP;
		h->options.ts_value = tcp_timestamp(conn, conn->net->sched->now_ns);
		h->options.ts_echo = conn->ts_recent;
	}
	if (unlikely(conn->ecn_echo) && flags & TCP_ACK)
		h->flags |= TCP_ECE;
	if (unlikely(conn->ooo || conn->dsack.start != conn->dsack.end) && conn->sack)
		tcp_fill_sack(conn, &h->options, payload);
}

/* Sends a header and length bytes of the send queue from at on; ecn: bits of the IP header.  False:
 * no memory. */
bool tcp_emit_marked(struct tcp_conn *conn, const struct tcp_header *h, uint32_t length,
		     struct tcp_cursor at, uint8_t ecn);

/* May the device cut length bytes from at on into segments? */
bool tcp_can_cut(struct tcp_conn *conn, uint32_t length, struct tcp_cursor at);

static inline bool tcp_emit(struct tcp_conn *conn, const struct tcp_header *h, uint32_t length,
			    struct tcp_cursor at)
{
	return tcp_emit_marked(conn, h, length, at, IP_NOT_ECT);
}

/* A segment with an ACK went out: nothing is owed any more. */
static inline void tcp_ack_sent(struct tcp_conn *conn)
{
	conn->ack_now = false;
	conn->unacked_segments = 0;
	conn->rcv_acked = conn->rcv_nxt;
	tcp_clear_deadline(conn, TCP_DELAYED_ACK);
}

/* The retransmission deadline of what was sent, unless one is set. */
static inline void tcp_arm_retransmit(struct tcp_conn *conn)
{
	if (likely(conn->deadline_ns[TCP_RETRANSMIT] == 0 || conn->persist)) {
		conn->persist = false;
		tcp_set_deadline(conn, TCP_RETRANSMIT, tcp_retransmit_deadline(conn));
	} else if (unlikely(conn->probe & TCP_PROBE_SINGLE)) {
		tcp_move_probe(conn);
	}
}
