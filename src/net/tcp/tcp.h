/* SPDX-License-Identifier: MIT
 * net/tcp/tcp.h - TCP (RFC 9293): what its parts share.
 *
 *	conn.h       a connection, and all that is kept of TCP: its life, its memory, invariants
 *	conn.c       connections: made, opened, closed, freed; errors
 *	table.c      looked up by their four-tuple; ports
 *	input.c      a segment: the short way, then RFC 9293 3.10.7 in its order
 *	handshake.c  LISTEN, SYN-SENT, SYN-RECEIVED; accepting
 *	cookie.c     SYN cookies (RFC 4987)
 *	challenge.c  how often what is not accepted is answered (RFC 5961)
 *	time_wait.c  how long, how many, who may end it early (RFC 6191)
 *	ack.c        what an acknowledgement says: RTT, window, what was delivered
 *	recovery.c   what follows from loss: recovery, timeouts, undoing
 *	rack.c       which segments are lost (RFC 8985), the tail's probe
 *	receive.c    data in order and out of order, pops, the receive window
 *	send.c       pushes, the send queue
 *	output.c     which segments leave
 *	segment.c    what a segment looks like; those without data
 *	timer.c      retransmission, persist, delayed ACK, keep-alive, TIME-WAIT
 *	option.c     socket options
 *	info.c       TCP_INFO and the like
 *	scoreboard rtt cc ooo  pure parts; behind cc cubic hystart newreno dctcp
 */
#pragma once

#include "net/tcp/conn.h"

/* ---- for net.c ---- */

int tcp_open(struct net *net);
void tcp_close(struct net *net);
/* Resets every connection. */
void tcp_abort_all(struct net *net);
/* Sends what connections owe. */
void tcp_flush(struct net *net);

/* ---- for transport/inet: 0 or -errno; addresses are of internet form, ports host order ---- */

/* domain: AF_INET or AF_INET6.  -ENOMEM. */
int tcp_conn_new(struct net *net, int domain, struct tcp_conn **conn_out);
/* Ends the user's part: completes what is pending; what was pushed goes on in the background. */
void tcp_conn_close(struct tcp_conn *conn);
int tcp_bind(struct tcp_conn *conn, const struct ip_address *address, uint16_t port);
int tcp_listen(struct tcp_conn *conn, uint32_t backlog);
int tcp_accept(struct tcp_conn *conn, struct op *op);
int tcp_connect(struct tcp_conn *conn, struct op *op, const struct ip_address *address,
		uint16_t port);
int tcp_push(struct tcp_conn *conn, struct op *op);
int tcp_pop(struct tcp_conn *conn, struct op *op);
void tcp_cancel(struct tcp_conn *conn, struct op *op);
int tcp_shutdown(struct tcp_conn *conn, int how);
int tcp_set_option(struct tcp_conn *conn, int level, int name, const void *value, socklen_t length);
int tcp_get_option(struct tcp_conn *conn, int level, int name, void *value, socklen_t *length);
/* Connections closed by their users with something unsent or unacknowledged. */
uint32_t tcp_lingering(const struct net *net);
const char *tcp_state_name(enum tcp_state state);

static inline bool tcp_connected(const struct tcp_conn *conn)
{
	return conn->state >= TCPS_ESTABLISHED;
}

/* ---- between the parts ---- */

/* conn.c */
struct tcp_conn *tcp_conn_alloc(struct net *net, int domain);
void tcp_conn_free(struct tcp_conn *conn);
/* Chooses the initial sequence number, at or behind *iss_min unless that is NULL, and sets what
 * counts from it. */
void tcp_choose_iss(struct tcp_conn *conn, const uint32_t *iss_min);
/* The same with a number that was chosen already. */
void tcp_set_iss(struct tcp_conn *conn, uint32_t iss);
/* What a peer that does not know the secret cannot tell of a tuple. */
uint64_t tcp_tuple_hash(const struct net *net, const struct tcp_tuple *tuple);

/* RFC 7323 7.1: an offset for each tuple, so that the clock tells nothing. */
static inline uint32_t tcp_timestamp_offset(uint64_t hash)
{
	return (uint32_t)(hash >> 32);
}

void tcp_set_state(struct tcp_conn *conn, enum tcp_state state);
/* The connection is over: err is what its user is told (0: nothing).  It is freed if nobody has it
 * any more. */
void tcp_finish(struct tcp_conn *conn, int err);
/* The last waiting push was admitted: the end of our side may follow. */
void tcp_shutdown_pushed(struct tcp_conn *conn);
/* Resets the peer, then finishes. */
void tcp_abort(struct tcp_conn *conn, int err);
/* Counts the connection among those that linger, or no more, as its state is now. */
void tcp_update_closing(struct tcp_conn *conn);
void tcp_check(const struct tcp_conn *conn);
void tcp_check_all(const struct net *net);

/* table.c */
struct tcp_conn *tcp_find_tuple(const struct tcp *tcp, const struct ip_address *local,
				uint16_t local_port, const struct ip_address *remote,
				uint16_t remote_port);
struct tcp_conn *tcp_find_listener(const struct tcp *tcp, const struct ip_address *local,
				   uint16_t port);
int tcp_table_open(struct tcp *tcp);
void tcp_table_close(struct tcp *tcp);
void tcp_table_add(struct tcp *tcp, struct tcp_conn *conn);
void tcp_table_remove(struct tcp *tcp, struct tcp_conn *conn);
/* A free port to connect from (RFC 6056); 0: none. */
uint16_t tcp_choose_port(struct tcp_conn *conn);

/* handshake.c */
/* As many connections as the backlog wait for an accept? */
bool tcp_accept_full(const struct tcp_listener *listener);
/* That, or as many handshakes as may be are under way? */
bool tcp_listener_full(const struct tcp_listener *listener);
/* A connection in the making for a SYN; iss_min as above. */
void tcp_open_child(struct tcp_conn *parent, const struct tcp_segment *seg,
		    const uint32_t *iss_min);
/* The same without a half-open state: in no list yet.  NULL: no memory. */
struct tcp_conn *tcp_child_new(struct tcp_conn *listener, const struct tcp_segment *seg);
void tcp_listen_input(struct tcp_conn *listener, struct tcp_segment *seg);
void tcp_syn_sent_input(struct tcp_conn *conn, struct tcp_segment *seg);
/* A child got its handshake's last ACK. */
void tcp_child_established(struct tcp_conn *conn);
void tcp_listener_close(struct tcp_conn *conn);
/* A child of a listener ends. */
void tcp_child_forget(struct tcp_conn *conn);
/* Takes over what the peer's SYN says: options, window, where its numbers begin. */
void tcp_apply_syn(struct tcp_conn *conn, const struct tcp_header *h);
/* Payload of the largest segment that the link and the peer take, options taken off. */
uint32_t tcp_segment_max(const struct tcp_conn *conn);
void tcp_established(struct tcp_conn *conn);
/* Shall our SYN ask for ECN? */
bool tcp_wants_ecn(const struct tcp_conn *conn);
/* Does a connection, or what a listener makes, agree to the ECN that a SYN offers? */
bool tcp_takes_ecn(const struct tcp_conn *conn, const struct tcp_header *syn);

/* ack.c */
/* The short way: an ACK of new data while nothing is in doubt (tcp_is_calm). */
void tcp_ack_plain(struct tcp_conn *conn, const struct tcp_header *h);
/* All that an acceptable ACK may say. */
void tcp_ack(struct tcp_conn *conn, const struct tcp_segment *seg, bool window_changed);
void tcp_window_changed(struct tcp_conn *conn, uint32_t window);

/* receive.c */
/* Data at rcv_nxt; the piece or the frame is taken.  false: no memory, nothing was taken. */
bool tcp_receive(struct tcp_conn *conn, struct tcp_segment *seg);
/* A round trip has passed: makes the receive buffer what the user took in it wants. */
void tcp_tune_buffer(struct tcp_conn *conn);
void tcp_receive_out_of_order(struct tcp_conn *conn, struct tcp_segment *seg);
void tcp_receive_fin(struct tcp_conn *conn);
/* Serves pops that wait for the end of the stream or an error. */
void tcp_serve_pops(struct tcp_conn *conn);
void tcp_fail_ops(struct tcp_conn *conn, struct op_list *list, int err);
/* The scale of our window: what the buffer may grow to fits (RFC 7323 2.3). */
uint8_t tcp_receive_scale(const struct tcp_conn *conn);
uint16_t tcp_window_to_advertise(struct tcp_conn *conn);
void tcp_receive_free(struct tcp_conn *conn);
/* Gives up what was received ahead. */
void tcp_drop_ahead(struct tcp_conn *conn);
/* An ACK is owed after data. */
void tcp_schedule_ack(struct tcp_conn *conn, bool now);

/* send.c */
void tcp_send_free(struct tcp_conn *conn);
/* Where a sequence number of the send queue lies. */
struct tcp_cursor tcp_send_at(struct tcp_conn *conn, uint32_t seq);
/* Drops bytes from the front of the send queue, then admits pushes that waited. */
void tcp_send_acked(struct tcp_conn *conn, uint32_t bytes);
void tcp_fail_pushes(struct tcp_conn *conn, int err);
void tcp_cancel_push(struct tcp_conn *conn, struct op *op);
/* Checked builds: were [at, at + length) of the send queue changed since they were pushed? */
#ifdef DEMI_CHECKED
void tcp_verify_pushed(struct tcp_conn *conn, struct tcp_cursor at, uint32_t length);
#else
static inline void tcp_verify_pushed(struct tcp_conn *conn, struct tcp_cursor at, uint32_t length)
{
	(void)conn;
	(void)at;
	(void)length;
}
#endif
uint32_t tcp_send_limit(const struct tcp_conn *conn);

/* output.c */
/* Enters the connection into what tcp_flush works off. */
void tcp_want_output(struct tcp_conn *conn);
void tcp_output(struct tcp_conn *conn);
/* RFC 8985 7.3: new data if there is some, else the last segment again.  False: nothing was sent;
 * again: it was a retransmission. */
bool tcp_send_loss_probe(struct tcp_conn *conn, bool *again);
void tcp_send_ack(struct tcp_conn *conn);
void tcp_send_syn(struct tcp_conn *conn);
/* A zero-window probe, or one of keep-alive (with data: what a closed window is probed with). */
void tcp_send_probe(struct tcp_conn *conn);
/* The window probe's time came: what fits the window, or a probe of one octet. */
void tcp_output_or_probe(struct tcp_conn *conn);
/* The octet of a window probe was acknowledged: it counts as sent. */
void tcp_take_probed(struct tcp_conn *conn);
void tcp_send_keepalive(struct tcp_conn *conn);
void tcp_send_reset(struct tcp_conn *conn);
/* The answer of a closed port (RFC 9293 3.10.7.1). */
void tcp_reset_unknown(struct net *net, const struct tcp_segment *seg);
void tcp_reply(struct net *net, const struct ip_packet *packet, const struct tcp_header *h);

/* challenge.c */
/* RFC 5961: an ACK that makes the peer prove itself, if the connection did not send many lately. */
void tcp_challenge_ack(struct tcp_conn *conn);
/* May something that is not acceptable, and may be an answer itself, be answered?  Then it is. */
bool tcp_may_answer(struct tcp_conn *conn);

/* time_wait.c */
void tcp_enter_time_wait(struct tcp_conn *conn);
void tcp_leave_time_wait(struct tcp_conn *conn);
/* A segment for a connection in TIME-WAIT: true: it was a SYN that opened, or may open, a new one,
 * and nothing more is to be done with it. */
bool tcp_reopen(struct tcp_conn *conn, const struct tcp_segment *seg);
/* May a new connection of ours take the place of this one?  Its numbers begin at *iss_min_out or
 * behind it. */
bool tcp_may_reuse(const struct tcp_conn *conn, uint32_t *iss_min_out);

/* cookie.c */
/* The SYN is answered by a SYN-ACK that holds all that is to be known of it.  False: it cannot be.
 */
bool tcp_send_cookie(struct tcp_conn *listener, const struct tcp_segment *seg);
/* An ACK that no connection knows.  True: it brought a cookie of ours; the connection is
 * established then, or NULL if the listener has no room or there is no memory. */
bool tcp_take_cookie(struct tcp_conn *listener, const struct tcp_segment *seg,
		     struct tcp_conn **conn_out);

/* info.c: of tcp_get_option */
/* Copies what fits; length becomes what was copied. */
int tcp_give_bytes(const void *from, socklen_t bytes, void *value, socklen_t *length);
int tcp_give_info(const struct tcp_conn *conn, void *value, socklen_t *length);
int tcp_give_cc_info(const struct tcp_conn *conn, void *value, socklen_t *length);
int tcp_give_memory(const struct tcp_conn *conn, void *value, socklen_t *length);

/* timer.c */
void tcp_timer_fired(struct timer *timer);
void tcp_set_deadline(struct tcp_conn *conn, enum tcp_deadline which, uint64_t deadline_ns);
/* Output or detection is to be looked at again at a time, or before. */
void tcp_look_later(struct tcp_conn *conn, uint64_t at_ns);
/* (Re)starts the retransmission timer if something is outstanding, else stops it. */
void tcp_restart_retransmit(struct tcp_conn *conn);
void tcp_start_keepalive(struct tcp_conn *conn);

static inline void tcp_clear_deadline(struct tcp_conn *conn, enum tcp_deadline which)
{
	conn->deadline_ns[which] = 0; /* a timer that fires for nothing costs less than disarming */
}

/* ---- queues of pieces ---- */

static inline void tcp_queue_init(struct tcp_queue *q)
{
	q->pieces = q->own;
	q->head = 0;
	q->count = 0;
	q->capacity = ARRAY_LENGTH(q->own);
}

static inline struct tcp_piece *tcp_queue_at(struct tcp_queue *q, uint32_t i)
{
	return &q->pieces[(q->head + i) & (q->capacity - 1)];
}

/* Makes room for more further pieces; false: no memory. */
bool tcp_queue_reserve(struct tcp_queue *q, struct heap *heap, uint32_t more);
void tcp_queue_shrink(struct tcp_queue *q, struct heap *heap);

/* There is room. */
static inline struct tcp_piece *tcp_queue_append(struct tcp_queue *q)
{
	ASSERT(q->count < q->capacity);
	return tcp_queue_at(q, q->count++);
}

static inline void tcp_queue_drop_first(struct tcp_queue *q, struct heap *heap)
{
	q->head = (q->head + 1) & (q->capacity - 1);
	q->count--;
	if (unlikely(q->count == 0 && q->pieces != q->own))
		tcp_queue_shrink(q, heap);
}

/* ---- small questions ---- */

/* Unacknowledged bytes (SYN and FIN count). */
static inline uint32_t tcp_flight(const struct tcp_conn *conn)
{
	return conn->snd_nxt - conn->snd_una;
}

/* snd_una < seq <= snd_nxt */
static inline bool tcp_is_in_flight(const struct tcp_conn *conn, uint32_t seq)
{
	return seq - conn->snd_una - 1 < tcp_flight(conn);
}

/* RFC 6675 2, pipe: those of them that are thought to be in the network. */
static inline uint32_t tcp_pipe(const struct tcp_conn *conn)
{
	return tcp_flight(conn) - conn->sb.sacked - conn->sb.lost;
}

/* The clock of timestamps: milliseconds (RFC 7323 5.4). */
static inline uint32_t tcp_timestamp(const struct tcp_conn *conn, uint64_t ns)
{
	return (uint32_t)(ns / 1000000) + conn->ts_offset;
}

/* Nothing is lost, reordered or in doubt. */
static inline bool tcp_is_calm(const struct tcp_conn *conn)
{
	return conn->unrest == 0;
}

/* Queued bytes that were never sent. */
static inline uint64_t tcp_unsent(const struct tcp_conn *conn)
{
	uint32_t sent = conn->snd_nxt - conn->snd_base;

	return sent < conn->queued ? conn->queued - sent : 0; /* the FIN counts in sent */
}

static inline bool tcp_fin_sent(const struct tcp_conn *conn)
{
	return conn->fin_queued && conn->state >= TCPS_FIN_WAIT_1 &&
	       seq_after(conn->snd_nxt, conn->snd_base + (uint32_t)conn->queued);
}

static inline bool tcp_can_receive(const struct tcp_conn *conn)
{
	return conn->state == TCPS_ESTABLISHED || conn->state == TCPS_FIN_WAIT_1 ||
	       conn->state == TCPS_FIN_WAIT_2;
}

/* RFC 8257 3.2: each ACK tells how what it acknowledges was marked. */
static inline bool tcp_echoes_each(const struct tcp_conn *conn)
{
	return conn->cc.ops->ecn;
}

/* The user took bytes. */
static inline void tcp_note_taken(struct tcp_conn *conn, uint32_t bytes)
{
	uint64_t srtt_ns = conn->rtt.srtt_ns;

	conn->rcv_space += bytes;
	if (unlikely(conn->net->sched->now_ns - conn->rcv_space_ns >= srtt_ns) && srtt_ns != 0)
		tcp_tune_buffer(conn);
}
