/* SPDX-License-Identifier: MIT
 * net/tcp/conn.h - what is kept of TCP: a connection, the tables, a segment that has arrived.
 *
 * Life.  A connection belongs to its user (a queue of transport/inet) until tcp_conn_close; then it
 * lives on by itself until everything is sent and acknowledged, and frees itself.  A child of a
 * listener belongs to the listener until it is accepted.
 *
 * Memory.  The send queue holds a library reference to each piece of what was pushed until it is
 * acknowledged.  The receive queue and the out-of-order ranges own one application reference of
 * each object, which a pop hands over.  Both exist only while they hold data.
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

/* So long a connection that the application has closed waits for a window to open. */
#define TCP_CLOSED_WINDOW_NS ((uint64_t)100 * 1000000000)

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
