/* SPDX-License-Identifier: MIT
 * net/tcp/mtu.c - how large a packet the path of a connection takes: what routers say (RFC 1191,
 * RFC 8201, with the checks of RFC 5927), what silence says (black holes: RFC 4821 7.7, RFC
 * 8899 5.3), and the search for more (RFC 4821 7, RFC 8899 5.3).
 *
 * A connection begins with the MTU that is known of its path and has no struct tcp_mtu while that
 * is all that it may use.  It gets one when a router's word or the second timeout of a full-sized
 * segment says less, or when every path is to be searched; conn->searching says that it has.
 *
 * Silence says less only when it says so three times (struct tcp_mtu, strikes): a full segment
 * timed out twice, a smaller one got through, and full ones were tried again, of which none did.
 *
 * A router's word is taken at once while nothing of a full segment's length was acknowledged: then
 * no such segment can have got through (RFC 5927 7.2).  Later it waits for the timeout: who forges
 * it meets the acknowledgement of what he says was dropped.
 *
 * The search sends real data in one segment that is larger than the others, at most one a
 * PROBE_INTERVAL, and only with SACK, which tells the loss of it from that of others.  A probe that
 * is lost says nothing about congestion (RFC 4821 7.6.2); three times, and its size is too large
 * (RFC 8899 5.1.2).
 *
 * Invariant: mss fits path <= high <= what the link and the peer take.
 */
#include "net/tcp/mtu.h"
#include "net/tcp/recovery.h"

#include "net/pmtu.h"

#include <stdlib.h>

#define SECOND_NS      1000000000ULL
#define PROBE_INTERVAL (1 * SECOND_NS)
#define RAISE_INTERVAL (PMTU_AGE_S * SECOND_NS) /* RFC 8899 5.1.1: PMTU_RAISE_TIMER */
#define STRIKES_MAX    3
#define PROBES_MAX     3    /* RFC 8899 5.1.2: MAX_PROBES */
#define SEARCH_END     16   /* bytes: what is between is not worth a probe */
#define NARROW_RETRIES 5    /* timeouts with BASE, before less is tried */
#define BASE           1280 /* RFC 8899 5.1.2: what nearly every path takes; at least 1200 */

enum probing { PROBING_NEVER, PROBING_BLACK_HOLE, PROBING_ALWAYS };

/* ---- sizes ---- */

/* Headers of a full segment. */
static uint32_t front(const struct tcp_conn *conn)
{
	return ip_header_bytes(&conn->remote) + TCP_HEADER_BYTES +
	       (conn->timestamps ? TCP_TIMESTAMP_BYTES : 0);
}

static uint32_t ceiling(const struct tcp_conn *conn)
{
	return tcp_segment_max(conn) + front(conn);
}

uint32_t tcp_path_mtu(const struct tcp_conn *conn)
{
	return conn->mtu ? conn->mtu->path : conn->net->mtu;
}

static void set_path(struct tcp_conn *conn, uint32_t path)
{
	conn->mtu->path = (uint16_t)path;
	conn->mss = path - front(conn);
	tcp_cc_set_mss(&conn->cc, conn->mss);
}

/* ---- life ---- */

/* NULL: no memory. */
static struct tcp_mtu *get(struct tcp_conn *conn)
{
	if (conn->mtu)
		return conn->mtu;
	conn->mtu = malloc(sizeof(*conn->mtu));
	if (!conn->mtu)
		return NULL;
	*conn->mtu = (struct tcp_mtu){
		.path = (uint16_t)(conn->mss + front(conn)),
		.high = (uint16_t)ceiling(conn),
		.next_ns = UINT64_MAX,
	};
	conn->searching = true;
	return conn->mtu;
}

void tcp_mtu_free(struct tcp_conn *conn)
{
	free(conn->mtu);
	conn->mtu = NULL;
	conn->searching = false;
}

/* The next search begins in a while, with all that the link takes. */
static void rest(struct tcp_conn *conn)
{
	struct tcp_mtu *m = conn->mtu;
	uint32_t max = ceiling(conn);

	m->high = max > m->path ? (uint16_t)max : m->path;
	m->failed = 0;
	m->next_ns = conn->net->sched->now_ns + RAISE_INTERVAL;
}

void tcp_mtu_begin(struct tcp_conn *conn)
{
	uint32_t known = path_mtu(conn->net, &conn->remote);
	uint32_t max = ceiling(conn);
	bool all = conn->net->sched->config.tcp_mtu_probing == PROBING_ALWAYS;

	conn->mss = max - front(conn);
	if (all && known > BASE)
		known = BASE;
	if (known >= max || !get(conn))
		return;
	conn->mtu->path = (uint16_t)known;
	conn->mss = known - front(conn);
	rest(conn);
	if (all)
		conn->mtu->next_ns = conn->net->sched->now_ns;
}

/* ---- less ---- */

/* The path takes no more than this; false: it is no news. */
static bool lower(struct tcp_conn *conn, uint32_t path)
{
	if (path >= conn->mss + front(conn) || path < front(conn) + TCP_MSS_MIN || !get(conn))
		return false;
	conn->mtu->probe = 0;
	set_path(conn, path);
	sched_count(conn->net->sched, COUNTER_TCP_MTU_LOWERED, 1);
	return true;
}

/* A router's word is believed. */
static bool believe(struct tcp_conn *conn, uint32_t mtu)
{
	uint32_t known = pmtu_lower(conn->net, &conn->remote, mtu);

	if (!lower(conn, known))
		return false;
	conn->mtu->guessed = false;
	rest(conn);
	return true;
}

/* RFC 1191 6.4: what was sent larger goes out again, in slow start up to the window that was: the
 * loss was none of congestion.  Or, as configured, at once. */
static void send_again(struct tcp_conn *conn)
{
	struct tcp_cc *cc = &conn->cc;
	struct tcp_block all = {conn->snd_una, conn->snd_nxt};
	struct tcp_trouble *t = tcp_trouble_get(conn);

	if (tcp_flight(conn) == 0 || !t || conn->recovery != TCP_OPEN)
		return;
	t->undoable = false;
	t->forward_rto = false;
	t->forward_new = false;
	conn->watch &= (uint8_t)~TCP_WATCH_PROBE;
	conn->dupacks = 0;
	if (!conn->sack)
		conn->sb.sacked = 0;
	(void)tcp_scoreboard_lose(&conn->sb, conn->snd_una, all);
	if (cc->ssthresh < cc->cwnd)
		cc->ssthresh = cc->cwnd;
	if (!conn->net->sched->config.tcp_mtu_resend)
		cc->cwnd = tcp_pipe(conn) + conn->mss;
	conn->recover = conn->snd_nxt;
	conn->recovery = TCP_LOSS;
	tcp_restart_retransmit(conn);
	tcp_want_output(conn);
}

/* A probe did not get through.  gone: its size will not. */
static void probe_failed(struct tcp_conn *conn, bool gone)
{
	struct tcp_mtu *m = conn->mtu;

	if (gone || ++m->failed == PROBES_MAX) {
		m->high = (uint16_t)(m->probe - 1U);
		m->failed = 0;
		m->silent = false;
	}
	m->probe = 0;
	m->exact = false;
	m->next_ns = conn->net->sched->now_ns + PROBE_INTERVAL;
	if (m->high < m->path + SEARCH_END)
		rest(conn);
}

/* RFC 4821 7.6: a router said why the probe got lost. */
static void probe_too_big(struct tcp_conn *conn, uint32_t mtu)
{
	struct tcp_mtu *m = conn->mtu;
	struct tcp_block block = {m->probe_start, m->probe_end};

	bool exact = mtu > m->path && mtu < m->probe;

	if (exact)
		m->probe = (uint16_t)(mtu + 1);
	probe_failed(conn, true);
	m->exact = exact;
	(void)tcp_scoreboard_lose(&conn->sb, conn->snd_una, block);
	tcp_want_output(conn);
}

void tcp_mtu_told(struct tcp_conn *conn, uint32_t seq, uint32_t mtu)
{
	struct tcp_mtu *m = conn->mtu;

	if (conn->state < TCPS_ESTABLISHED)
		return;
	if (m && m->probe && seq == m->probe_start) {
		probe_too_big(conn, mtu);
		return;
	}
	/* Nothing that large was sent. */
	if (mtu >= conn->mss + front(conn))
		return;
	/* RFC 5927 7.2 */
	if (conn->bytes_acked < conn->mss) {
		if (believe(conn, mtu))
			send_again(conn);
		return;
	}
	if (!get(conn))
		return;
	conn->mtu->told = (uint16_t)mtu;
	conn->mtu->waits = true;
	conn->mtu->told_seq = seq;
}

/* ---- silence ---- */

/* Is what timed out a full segment? */
static bool full_at_una(const struct tcp_conn *conn)
{
	return tcp_flight(conn) - tcp_fin_sent(conn) >= conn->mss;
}

/* What to try next on a path that swallows packets of this size. */
static uint32_t next_smaller(const struct tcp_conn *conn, uint32_t path)
{
	if (conn->mtu && conn->mtu->worked && conn->mtu->worked < path)
		return conn->mtu->worked;
	return path > BASE ? BASE : pmtu_plateau(conn->net, &conn->remote, path);
}

/* Since the last strike so much was acknowledged that full segments must have been among it. */
static bool got_through(const struct tcp_conn *conn)
{
	return (uint32_t)conn->bytes_acked - conn->mtu->struck_at >= 2 * conn->mtu->before;
}

/* Timeouts of one full segment, but for the one now, before a smaller one is tried: two in all (RFC
 * 8899 5.3), unless so much was acknowledged before that the path once took full ones, or it is
 * what nearly every path takes: then it is more likely to lose than to be narrow, and small
 * segments make that worse. */
static uint32_t patience(const struct tcp_conn *conn)
{
	bool suspected = conn->mtu && conn->mtu->strikes > 0 && !got_through(conn);

	if (conn->mss + front(conn) <= BASE)
		return NARROW_RETRIES;
	return suspected || conn->bytes_acked < 2 * conn->mss ? 1 : 4;
}

static void strike(struct tcp_conn *conn, uint32_t path)
{
	struct tcp_mtu *m = conn->mtu;

	if (!m->guessed) { /* else the smaller one did not get through, either */
		if (m->strikes == STRIKES_MAX || got_through(conn)) {
			m->strikes = 0;
			m->worked = 0;
		}
		m->strikes++;
		m->before = (uint16_t)path;
	}
	m->struck_at = (uint32_t)conn->bytes_acked;
	m->guessed = true;
	m->guessed_seq = conn->snd_una;
	m->failed = 0;
}

/* The smaller segment got through.  A lossy path does that as well, so it takes three times, with
 * no full ones between, to be believed.  Others need not find out by themselves then. */
static void guess_confirmed(struct tcp_conn *conn)
{
	struct tcp_mtu *m = conn->mtu;

	m->guessed = false;
	m->worked = m->path;
	if (m->strikes < STRIKES_MAX) {
		set_path(conn, m->before);
		return;
	}
	m->silent = true;
	(void)pmtu_lower(conn->net, &conn->remote, m->path);
	/* Without SACK there is no search, and what silence said stays. */
	m->next_ns = conn->sack ? conn->net->sched->now_ns : UINT64_MAX;
}

void tcp_mtu_timeout(struct tcp_conn *conn)
{
	struct tcp_mtu *m = conn->mtu;

	if (m && m->probe)
		probe_failed(conn, false);
	if (m && m->waits) {
		m->waits = false;
		if (seq_before(m->told_seq, conn->snd_una) || believe(conn, m->told))
			return;
	}
	uint32_t path = conn->mss + front(conn);
	/* RFC 4821 7.7, RFC 8899 5.3: nothing came back of a full segment, and no router said
	 * anything: it may be the size. */
	if (conn->net->sched->config.tcp_mtu_probing != PROBING_NEVER &&
	    conn->retries >= patience(conn) && full_at_una(conn) &&
	    lower(conn, next_smaller(conn, path)))
		strike(conn, path);
}

bool tcp_mtu_probe_lost(struct tcp_conn *conn)
{
	const struct tcp_mtu *m = conn->mtu;
	struct tcp_block first;

	if (!m || !m->probe || conn->sb.lost != m->probe_end - m->probe_start ||
	    !tcp_scoreboard_first_lost(&conn->sb, conn->snd_una, &first) ||
	    first.start != m->probe_start)
		return false;
	probe_failed(conn, false);
	return true;
}

void tcp_mtu_resent(struct tcp_conn *conn, struct tcp_block block)
{
	const struct tcp_mtu *m = conn->mtu;

	if (m->probe && seq_before(block.start, m->probe_end) &&
	    seq_before(m->probe_start, block.end))
		probe_failed(conn, false);
}

/* ---- more ---- */

static void raise_path(struct tcp_conn *conn, uint32_t path)
{
	struct tcp_mtu *m = conn->mtu;

	set_path(conn, path);
	pmtu_raise(conn->net, &conn->remote, path);
	if (path >= ceiling(conn)) {
		tcp_mtu_free(conn);
		return;
	}
	m->failed = 0;
	m->silent = false;
	m->next_ns = conn->net->sched->now_ns;
	if (m->high < path + SEARCH_END)
		rest(conn);
}

/* What the next probe tries: all first, or what a router said; then half of what is left. */
static uint32_t candidate(const struct tcp_conn *conn)
{
	const struct tcp_mtu *m = conn->mtu;

	return m->exact || m->high == ceiling(conn) ? m->high : (m->path + m->high + 1U) / 2;
}

/* What was acknowledged since the last time tells of probes and guesses. */
static void look_at_acks(struct tcp_conn *conn)
{
	struct tcp_mtu *m = conn->mtu;

	if (m->waits && seq_before(m->told_seq, conn->snd_una))
		m->waits = false;
	if (m->guessed && seq_after(conn->snd_una, m->guessed_seq))
		guess_confirmed(conn);
	/* It was loss, and no black hole. */
	if (m->path >= ceiling(conn) && !m->guessed && !m->waits && got_through(conn)) {
		tcp_mtu_free(conn);
		return;
	}
	if (m->probe && seq_reached(m->probe_end, conn->snd_una)) {
		uint32_t size = m->probe;
		m->probe = 0;
		raise_path(conn, size);
	}
}

uint32_t tcp_mtu_step(struct tcp_conn *conn)
{
	uint64_t now = conn->net->sched->now_ns;

	look_at_acks(conn);
	struct tcp_mtu *m = conn->mtu;
	if (!m || m->probe || m->guessed || now < m->next_ns)
		return 0;
	/* A guess of silence is looked at even while there is loss: that may have been all. */
	if (!m->silent && (!tcp_is_calm(conn) || conn->sb.lost > 0))
		return 0;
	if (m->high > ceiling(conn)) /* TCP_MAXSEG */
		rest(conn);
	if (m->path >= m->high)
		return 0;
	/* RFC 1191 6.3: after ten minutes what a router said may be otherwise; it will say. */
	if (conn->net->sched->config.tcp_mtu_probing == PROBING_NEVER || !conn->sack) {
		raise_path(conn, m->high);
		return 0;
	}
	return candidate(conn) - front(conn);
}

uint32_t tcp_mtu_behind(const struct tcp_conn *conn)
{
	return conn->mtu->silent ? 0 : 3 * conn->mss;
}

void tcp_mtu_probed(struct tcp_conn *conn, uint32_t length)
{
	struct tcp_mtu *m = conn->mtu;

	m->probe = (uint16_t)(length + front(conn));
	m->probe_end = conn->snd_nxt;
	m->probe_start = conn->snd_nxt - length;
	sched_count(conn->net->sched, COUNTER_TCP_MTU_PROBES, 1);
}

void tcp_mtu_check(const struct tcp_conn *conn)
{
	const struct tcp_mtu *m = conn->mtu;

	ASSERT(conn->searching == (m != NULL));
	if (!m)
		return;
	ASSERT(conn->mss <= m->path - front(conn) && m->path <= m->high);
	ASSERT(m->probe == 0 || (m->probe > m->path && m->probe <= m->high));
	ASSERT(m->failed < PROBES_MAX);
}
