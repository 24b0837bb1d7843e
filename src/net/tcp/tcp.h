/* SPDX-License-Identifier: MIT
 * net/tcp/tcp.h - TCP (RFC 9293): what its parts share.
 *
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
 *
 * Life.  A connection belongs to its user (a queue of transport/inet) until tcp_conn_close; then it
 * lives on by itself until everything is sent and acknowledged, and frees itself.  A child of a
 * listener belongs to the listener until it is accepted.
 *
 * Memory.  The send queue holds a library reference to each piece of what was pushed until it is
 * acknowledged.  The receive queue and the out-of-order ranges own one application reference of
 *each object, which a pop hands over.  Both exist only while they hold data.
 *
 * Invariants, walked by tcp_check (all modulo 2^32):
 *	snd_una <= snd_nxt; the scoreboard covers what is between
 *	snd_base <= snd_una + 1; queued == sum of the send queue's lengths
 *	rcv_nxt <= rcv_adv (the edge of the window never moves back)
 *	rcv_held == sum of what the receive queue's pieces cost
 *	the retransmission deadline is set if and only if something is unacknowledged or probed for
 */
#pragma once

#include "base/address.h"
#include "base/list.h"
#include "net/net.h"
#include "net/tcp/cc.h"
#include "net/tcp/ooo.h"
#include "net/tcp/rtt.h"
#include "net/tcp/scoreboard.h"
#include "net/tcp/seq.h"
#include "net/wire/tcp.h"
#include "sched/op.h"
#include "sched/timer.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define TCP_COPY_BYTES     256  /* received payload below it is copied out of its frame */
#define TCP_QUICK_SEGMENTS 16   /* acknowledged at once at the start of a connection */
#define TCP_MSS_MIN        48   /* a peer's smaller wish counts as this (attack row 14, 15) */
#define TCP_MSS_DEFAULT_V4 536  /* RFC 9293 MUST-15 */
#define TCP_MSS_DEFAULT_V6 1220 /* RFC 9293 MUST-15 */
#define TCP_BACKLOG_MAX    65535

enum tcp_state {
	TCPS_CLOSED,
	TCPS_LISTEN,
	TCPS_SYN_SENT,
	TCPS_SYN_RECEIVED,
	TCPS_ESTABLISHED,
	TCPS_FIN_WAIT_1,
	TCPS_FIN_WAIT_2,
	TCPS_CLOSE_WAIT,
	TCPS_CLOSING,
	TCPS_LAST_ACK,
	TCPS_TIME_WAIT,
};

/* What a connection's one timer stands for: a deadline each, 0: not set. */
enum tcp_deadline {
	TCP_RETRANSMIT, /* or the loss probe's before it; or persist, if nothing is in flight */
	TCP_LATER,      /* RACK looks again at what may be reordered; a paced segment may go */
	TCP_DELAYED_ACK,
	TCP_KEEPALIVE,
	TCP_STATE, /* TIME-WAIT, FIN-WAIT-2 of a closed connection */
	TCP_DEADLINES,
};

/* RFC 5681 3.2, RFC 6675 5: what the sender thinks of its path. */
enum tcp_recovery_state {
	TCP_OPEN,
	TCP_RECOVERY, /* fast recovery, until recover is acknowledged */
	TCP_LOSS,     /* the retransmission timer expired; until recover is acknowledged */
};

/* What the retransmission deadline has to do with a tail loss probe. */
enum tcp_probe {
	TCP_PROBE_NEXT = 1,   /* it is one's */
	TCP_PROBE_SINGLE = 2, /* it is what it is because a single segment was out */
};

/* Why every ACK has to take the long way, beside recovery. */
enum tcp_watch {
	TCP_WATCH_PROBE = 1, /* a tail loss probe is out */
	TCP_WATCH_ECN = 2,   /* the congestion control counts what is marked */
	TCP_WATCH_SACKED = 4,
	TCP_WATCH_AHEAD = 8, /* data or a FIN was received out of order */
};

/* Pieces in order; two without an allocation. */
struct tcp_queue {
	struct tcp_piece *pieces;
	uint32_t head;
	uint32_t count;
	uint32_t capacity; /* a power of two */
	struct tcp_piece own[2];
};

/* A place in the send queue. */
struct tcp_cursor {
	uint32_t index; /* piece, counted from the head */
	uint32_t offset;
};

struct tcp_listener {
	struct list
		accepted; /* children that are established, oldest first: by conn->in_listener */
	struct list half_open;
	uint32_t num_accepted;
	uint32_t num_half_open;
	uint32_t backlog;
};

struct tcp_conn {
	/* looked up */
	struct tcp_conn *hash_next;
	struct ip_address local;
	struct ip_address remote;
	uint16_t local_port;
	uint16_t remote_port;
	uint8_t state;  /* enum tcp_state */
	uint8_t domain; /* AF_INET, AF_INET6 */

	/* options and conditions */
	bool timestamps : 1; /* both sides use them */
	bool sack : 1;       /* both sides permit it */
	bool window_scale : 1;
	bool in_table : 1;   /* of connections */
	bool ack_now : 1;    /* an ACK is owed at once */
	bool fin_queued : 1; /* the user shut the sending side */
	bool fin_received : 1;
	bool fin_ahead : 1;    /* a FIN came out of order: at fin_seq */
	bool read_shut : 1;    /* the user shut the receiving side */
	bool closed : 1;       /* the user is gone */
	bool passive : 1;      /* came from a listener */
	bool persist : 1;      /* the retransmission deadline is a window probe's */
	bool probed : 1;       /* a window probe may have been taken */
	bool partial_seen : 1; /* recovery: the first partial ACK restarted the timer */
	bool nodelay : 1;
	bool cork : 1;
	bool more : 1;       /* corked for one write: its end is no end of a message */
	bool push_burst : 1; /* PSH at the end of bursts too */
	bool wait_small : 1; /* Nagle: for small segments only */
	bool keepalive : 1;
	bool push_acked : 1;
	bool linger_on : 1;
	bool reuse_address : 1;
	bool reuse_port : 1;
	bool v6only : 1;
	bool bound : 1;
	bool connected_once : 1;
	bool send_buffer_fixed : 1;
	bool receive_buffer_fixed : 1;
	bool shut_later : 1;   /* fin_queued as soon as the pushes that wait are admitted */
	bool accept_ready : 1; /* child: in the list accepted, not half_open */
	bool lingers : 1;      /* counts in num_closing */
	bool dead : 1;         /* freed by the next tcp_flush */
	bool probes : 1;       /* loss probes are made: there is SACK */
	bool paced : 1;        /* segments leave at cc's rate */
	bool searching : 1;    /* mtu is there */
	bool ecn : 1;          /* both sides use it */
	bool ecn_echo : 1;     /* our ACKs say ECE */
	bool ecn_cwr : 1;      /* the next new data says CWR */

	/* receiving */
	uint32_t rcv_nxt;
	uint32_t rcv_adv;   /* right edge of the window that was advertised last */
	uint32_t rcv_acked; /* acknowledged last */
	uint32_t ts_recent;
	uint32_t rcv_held;
	uint32_t fin_seq;
	uint32_t unacked_segments; /* with data, received since the last ACK was sent */
	uint32_t rcv_buffer;
	uint8_t rcv_wscale;
	uint8_t snd_wscale;
	uint8_t quick_left;
	uint8_t ttl;
	uint8_t tos;
	uint8_t probe;    /* enum tcp_probe: what the retransmission deadline is */
	uint16_t rcv_mss; /* largest payload received */

	/* sending */
	uint32_t snd_una;
	uint32_t snd_nxt;
	uint32_t snd_wnd;
	uint32_t snd_wl1;
	uint32_t snd_wl2;
	uint32_t snd_wnd_max;     /* largest window the peer ever offered */
	uint32_t snd_base;        /* sequence number of the send queue's first byte */
	uint64_t queued;          /* bytes in the send queue */
	struct tcp_cursor cursor; /* of snd_nxt */
	uint32_t mss;             /* payload of a full segment, options taken off */
	uint32_t snd_small;       /* wait_small: end of the last small segment */
	uint32_t pushed;          /* push_burst: end of what was pushed by more than a burst */
	uint32_t ts_offset;

	struct net *net;
	struct op_list pops; /* of a listener: accepts */
	struct op_list pushes;
	struct op_list unacked; /* pushes that wait for their acknowledgement (DEMI_PUSH_ACKED) */
	struct op *connect;
	struct tcp_queue receive_queue;
	struct tcp_queue send_queue;
	struct tcp_ooo *ooo;
	struct ip_path path;
	struct list output; /* link of tcp->output */

	struct tcp_cc cc; /* before there is a peer: only ops, what the user wishes */
	struct tcp_rtt rtt;
	struct tcp_scoreboard sb;
	struct tcp_trouble *trouble; /* NULL: there was none */
	struct tcp_mtu *mtu;         /* NULL: the path takes what the link takes */
	uint64_t paced_ns;           /* when the next segment may leave */
	uint32_t recover;

	union {
		uint32_t unrest; /* 0: nothing is lost, reordered or in doubt */

		struct {
			uint8_t recovery; /* enum tcp_recovery_state */
			uint8_t watch;    /* enum tcp_watch */
			uint8_t dupacks;
		};
	};

	uint32_t iss;
	uint32_t irs;
	struct tcp_block dsack; /* to be told with the next ACK; start == end: none */

	struct timer timer;
	uint64_t timer_ns; /* what timer is armed for */
	uint64_t deadline_ns[TCP_DEADLINES];
	uint32_t armed_reads;   /* sched->clock_reads when the retransmission deadline was set */
	uint8_t retries;        /* of the same segment, or probes without an answer */
	uint8_t keepalive_sent; /* probes without an answer */
	uint64_t received_ns;   /* when the last segment came */
	uint64_t sent_ns;       /* when data was sent last */
	uint64_t progress_ns;   /* when snd_una moved last, or data began to wait */
	uint64_t ts_recent_ns;  /* when ts_recent was set */
	uint64_t rcv_space_ns;  /* receive buffer tuning: since when, */
	uint64_t rcv_space;     /* and how many bytes the user has taken since */

	int error;      /* positive errno that ended the connection; 0 */
	int soft_error; /* reported if the connection fails for want of an answer */
	uint32_t user_timeout_ms;
	uint32_t keepalive_idle_s;
	uint32_t keepalive_interval_s;
	uint32_t keepalive_probes;
	uint32_t send_buffer;     /* bytes queued beyond which a push waits */
	uint32_t notsent_lowat;   /* TCP_NOTSENT_LOWAT: unsent bytes with which it waits; 0: none */
	uint32_t max_pacing_kbps; /* SO_MAX_PACING_RATE, kilobytes (1024) a second; 0: none */
	uint32_t challenge_ms;    /* when the limit of challenges is unused again */
	uint32_t answered_ms;     /* when something unacceptable was answered last; 0: never */
	uint16_t mss_limit;       /* TCP_MAXSEG; 0: none */
	uint16_t peer_mss;        /* 0: it told none */
	int32_t linger_s;

	struct tcp_conn *parent;       /* listener that owns it; NULL */
	struct tcp_listener *listener; /* LISTEN */
	struct list in_listener;
	struct list in_bound;
	struct list in_all;
	void *user;

	uint64_t bytes_acked;
	uint64_t bytes_received;
	uint32_t segments_in;
	uint32_t segments_out;
	uint32_t retransmitted;
};

#define TCP_BOUND_BUCKETS 1024

/* What a connection is known by, all bytes of it set. */
struct tcp_tuple {
	struct ip_address local;
	struct ip_address remote;
	uint16_t local_port;
	uint16_t remote_port;
};

/* Secrets of SYN cookies: each is used for an epoch and known for another. */
struct tcp_cookies {
	uint64_t epoch;        /* of the secret made last */
	uint64_t sent_ns;      /* when the last cookie went out; 0: never */
	uint64_t secret[2][2]; /* by the last bit of the epoch */
};

struct tcp {
	struct net *net;
	struct tcp_conn **buckets;
	uint32_t num_buckets; /* a power of two */
	uint32_t num_conns;   /* in the table */
	uint64_t hash_key[2];
	struct list output; /* connections that have something to send, oldest first */
	struct list bound[TCP_BOUND_BUCKETS]; /* sockets that were bound, by port */
	struct list all;
	struct list dead;     /* ended in the middle of something; freed by the next tcp_flush */
	uint32_t num_closing; /* closed by their users, with something unsent or unacknowledged */
	uint32_t num_time_wait;
	struct list time_wait; /* the one that ends first in front */
	uint64_t ooo_held; /* bytes of memory that data out of order costs, of all connections */
	struct tcp_cookies cookies;
};

/* A segment that was received. */
struct tcp_segment {
	struct tcp_header h;
	const uint8_t *data; /* what of it is new and in the window, after trimming */
	uint32_t length;
	struct frame *frame; /* NULL: somebody took it */
	const struct ip_packet *packet;
};

/* Of the connection that it belongs to. */
static inline void tcp_segment_tuple(const struct tcp_segment *seg, struct tcp_tuple *tuple)
{
	memset(tuple, 0, sizeof(*tuple));
	tuple->local = seg->packet->to;
	tuple->remote = seg->packet->from;
	tuple->local_port = seg->h.destination;
	tuple->remote_port = seg->h.source;
}

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
