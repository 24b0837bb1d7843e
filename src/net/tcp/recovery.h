/* SPDX-License-Identifier: MIT
 * net/tcp/recovery.h - loss recovery, between its parts: ack.c tells what an ACK delivered,
 * recovery.c what follows from it, rack.c what is lost, output.c sends.
 */
#pragma once

#include "net/tcp/tcp.h"

/* What only a connection that met loss, reordering or congestion marks needs; made then. */
struct tcp_trouble {
	/* RACK (RFC 8985 5.3) */
	uint64_t rack_sent_ns; /* of the segment sent last among those delivered */
	uint64_t rack_rtt_ns;
	uint32_t rack_end;
	uint32_t rack_fack;      /* highest end delivered */
	uint32_t dsack_round;    /* the reordering window grew last when SND.NXT was this */
	uint8_t reorder_mult;    /* of a quarter of the smallest round trip; 1 at first */
	uint16_t reorder_degree; /* segments that one was overtaken by at most */
	uint8_t reorder_persist; /* recoveries until it is 1 again */
	bool reordering : 1;     /* was seen */
	bool probe_again : 1;    /* the tail loss probe (RFC 8985 7.1) was a retransmission */
	/* F-RTO (RFC 5682) */
	bool forward_rto : 1; /* the timeout may be spurious */
	bool forward_new : 1; /* new data goes out before what is lost */
	/* undoing (RFC 2883, RFC 3522) */
	bool undoable : 1;
	bool undo_resent : 1; /* something was sent again */
	uint32_t probe_end;   /* a probe is out until this is acknowledged */
	uint32_t undo_left;   /* bytes sent again that no D-SACK told of yet */
	uint32_t undo_una;    /* where what was sent again begins */
	uint32_t undo_cwnd;
	uint32_t undo_ssthresh;
	uint32_t undo_ts; /* timestamp of the first retransmission */
	/* PRR (RFC 6937 3) */
	uint32_t prr_delivered;
	uint32_t prr_out;
	uint32_t recover_flight; /* RecoverFS */
	uint32_t ecn_recover;    /* ECE counts again beyond it (RFC 3168 6.1.2) */
};

/* What recovery wants to know of an ACK. */
struct tcp_ack_facts {
	const struct tcp_header *h;
	uint32_t acked;         /* bytes that SND.UNA moved by */
	uint32_t flight_before; /* as it was before the ACK */
	uint32_t pipe_before;
	bool duplicate;         /* RFC 5681 2 */
	struct tcp_block dsack; /* start == end: none */
};

/* recovery.c */
/* NULL: no memory. */
struct tcp_trouble *tcp_trouble_get(struct tcp_conn *conn);
void tcp_trouble_free(struct tcp_conn *conn);
/* What an ACK delivered: loss is detected, recovery goes on.  Returns how many bytes the peer has
 * that it was not known to have. */
uint32_t tcp_recover(struct tcp_conn *conn, const struct tcp_delivered *d,
		     const struct tcp_ack_facts *facts);
/* RFC 6298 5.2 and 5.3, after snd_una moved. */
void tcp_recovery_restart_timer(struct tcp_conn *conn);
/* The retransmission timer expired. */
void tcp_enter_loss(struct tcp_conn *conn);
/* The deadline TCP_LATER came: what may have been reordered before is lost by now. */
void tcp_reorder_due(struct tcp_conn *conn);
/* The congestion control or what was agreed on changed. */
void tcp_update_watch(struct tcp_conn *conn);
/* Congestion was told of without a loss to repair: by ECN, or by a probe that repaired it.  flight:
 * bytes that were in flight before the ACK that told. */
void tcp_congestion_marked(struct tcp_conn *conn, uint32_t flight);
/* Bytes were sent again. */
void tcp_note_resent(struct tcp_conn *conn, uint32_t bytes);

/* rack.c */
void tcp_rack_update(struct tcp_conn *conn, const struct tcp_delivered *d,
		     const struct tcp_header *h);
/* Marks what is lost by now, and looks again when more may be.  Returns the bytes marked. */
uint32_t tcp_rack_detect(struct tcp_conn *conn);
/* At a timeout: what was sent so long ago that it is lost, and the first segment. */
void tcp_rack_timeout(struct tcp_conn *conn);
/* A D-SACK came: reordering is wider than it was thought. */
void tcp_rack_dsack(struct tcp_conn *conn);
/* A recovery ended. */
void tcp_rack_recovered(struct tcp_conn *conn);
/* The retransmission deadline to set now: of the timeout, or of a tail loss probe before it. */
uint64_t tcp_retransmit_deadline(struct tcp_conn *conn);
/* More is sent while the deadline is a probe's: its time moves, but never the timeout (RFC 6298
 * 5.1). */
void tcp_move_probe(struct tcp_conn *conn);
void tcp_probe_due(struct tcp_conn *conn);
void tcp_probe_acked(struct tcp_conn *conn, const struct tcp_ack_facts *facts);
