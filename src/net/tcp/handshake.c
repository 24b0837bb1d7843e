/* SPDX-License-Identifier: MIT
 * net/tcp/handshake.c - LISTEN, SYN-SENT and what a SYN agrees on; accepting.  RFC
 * 9293 3.5, 3.10.7.2, 3.10.7.3; RFC 7323 2.2, 3.2; RFC 2018 2.
 *
 * A child of a listener stands in its list half_open until the handshake is done, then in accepted
 * until an accept takes it.
 */
#include "net/tcp/mtu.h"
#include "net/tcp/recovery.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

/* demitasse.tcp.ecn */
enum { ECN_OFF, ECN_PASSIVE, ECN_ACTIVE };

#define HALF_OPEN_MIN      256 /* handshakes in progress that every listener may have */
#define SYN_COOKIES_ALWAYS 2   /* the choice of the key */

/* ---- what SYNs agree on ---- */

uint32_t tcp_segment_max(const struct tcp_conn *conn)
{
	uint32_t own = ip_link_payload_max(conn->net, &conn->remote) - TCP_HEADER_BYTES;
	uint32_t peer = conn->peer_mss;

	/* RFC 9293 3.7.1 MUST-15: without the option 536 or 1220 is assumed. */
	if (peer == 0)
		peer = ip_is_v4(&conn->remote) ? TCP_MSS_DEFAULT_V4 : TCP_MSS_DEFAULT_V6;
	if (peer < TCP_MSS_MIN)
		peer = TCP_MSS_MIN;
	uint32_t mss = peer < own ? peer : own;
	if (conn->mss_limit && conn->mss_limit < mss)
		mss = conn->mss_limit;
	/* RFC 9293 3.7.1 MUST-16: options that every segment carries are taken off. */
	return mss - (conn->timestamps ? TCP_TIMESTAMP_BYTES : 0);
}

bool tcp_wants_ecn(const struct tcp_conn *conn)
{
	return conn->net->sched->config.tcp_ecn == ECN_ACTIVE || conn->cc.ops->ecn;
}

bool tcp_takes_ecn(const struct tcp_conn *conn, const struct tcp_header *syn)
{
	return (syn->flags & (TCP_ECE | TCP_CWR)) == (TCP_ECE | TCP_CWR) &&
	       (conn->net->sched->config.tcp_ecn != ECN_OFF || tcp_wants_ecn(conn));
}

/* RFC 3168 6.1.1: a SYN with both flags, or the answer with one to what we asked. */
static void agree_on_ecn(struct tcp_conn *conn, const struct tcp_header *h)
{
	if (h->flags & TCP_ACK)
		conn->ecn = conn->ecn && (h->flags & (TCP_ECE | TCP_CWR)) == TCP_ECE;
	else
		conn->ecn = tcp_takes_ecn(conn, h);
	tcp_update_watch(conn);
}

/* Takes over what the peer's SYN says.  The window of a SYN is never scaled (RFC 7323 2.2). */
void tcp_apply_syn(struct tcp_conn *conn, const struct tcp_header *h)
{
	const struct sched *sched = conn->net->sched;
	const struct config *config = &sched->config;
	const struct tcp_options *o = &h->options;

	conn->irs = h->seq;
	conn->rcv_nxt = h->seq + 1;
	conn->rcv_acked = conn->rcv_nxt;
	conn->rcv_adv = conn->rcv_nxt;
	conn->peer_mss = o->has & TCP_HAS_MSS ? o->mss : 0;
	if (o->has & TCP_HAS_MSS && o->mss < TCP_MSS_MIN)
		conn->peer_mss = TCP_MSS_MIN;
	/* RFC 7323 2.2: only if both SYNs carry it. */
	conn->window_scale = config->tcp_window_scaling && (o->has & TCP_HAS_WSCALE);
	conn->snd_wscale = conn->window_scale ? o->wscale : 0;
	conn->rcv_wscale = conn->window_scale ? tcp_receive_scale(conn) : 0;
	/* RFC 7323 3.2: timestamps are used once both sides offered them. */
	conn->timestamps = config->tcp_timestamps && (o->has & TCP_HAS_TIMESTAMP);
	if (conn->timestamps) {
		conn->ts_recent = o->ts_value;
		conn->ts_recent_ns = sched->now_ns;
	}
	/* RFC 2018 2: SACK only if it was permitted. */
	conn->sack = config->tcp_sack && (o->has & TCP_HAS_SACK_PERMITTED);
	agree_on_ecn(conn, h);
	tcp_mtu_begin(conn);
	conn->snd_wnd = h->window;
	conn->snd_wnd_max = h->window;
	conn->snd_wl1 = h->seq;
	conn->snd_wl2 = h->ack;
	tcp_cc_init(&conn->cc, conn->cc.ops, conn->mss, (uint32_t)config->tcp_initial_window);
	conn->pushed = conn->iss + 1;
	conn->snd_small = conn->iss;
	conn->cc.reduce_window = config->tcp_reduce != 0;
	conn->cc.by_interval = config->tcp_cubic_look != 0;
	conn->cc.exit_by_delay = config->tcp_slow_start_exit != 0;
	conn->paced = conn->max_pacing_kbps != 0 || config->tcp_pacing;
	conn->quick_left = config->tcp_quick_ack ? TCP_QUICK_SEGMENTS : 0;
	conn->received_ns = sched->now_ns;
	conn->rcv_space_ns = sched->now_ns;
}

/* Our SYN is acknowledged: RFC 6298 2.2, and Karn's rule. */
static void syn_acked(struct tcp_conn *conn)
{
	struct tcp_delivered d = {0};

	tcp_scoreboard_acked(&conn->sb, conn->snd_una, conn->iss + 1, &d);
	conn->snd_una = conn->iss + 1;
	if (d.first_ns != 0 && !d.retransmitted)
		tcp_rtt_sample(&conn->rtt, conn->net->sched->now_ns - d.first_ns, 1, 0);
}

/* The connection is synchronized: ESTABLISHED, or beyond if the user closed it meanwhile. */
void tcp_established(struct tcp_conn *conn)
{
	conn->retries = 0;
	conn->connected_once = true;
	conn->probes = conn->sack && conn->net->sched->config.tcp_loss_probe;
	tcp_set_state(conn, TCPS_ESTABLISHED);
	tcp_rtt_reset_backoff(&conn->rtt);
	tcp_start_keepalive(conn);
	if (conn->fin_queued) {
		tcp_set_state(conn, TCPS_FIN_WAIT_1);
		tcp_want_output(conn);
	}
	if (conn->connect) {
		struct op *op = conn->connect;
		conn->connect = NULL;
		op_complete(conn->net->sched, op, 0);
	}
}

/* ---- LISTEN ---- */

static bool acceptable_peer(const struct ip_packet *packet)
{
	/* RFC 9293 3.9.2.3 MUST-57, MUST-63: SYNs to or from anything but unicast are discarded. */
	return !packet->broadcast && !ip_is_multicast(&packet->from) &&
	       !ip_is_multicast(&packet->to) && !ip_is_any(&packet->from);
}

struct tcp_conn *tcp_child_new(struct tcp_conn *listener, const struct tcp_segment *seg)
{
	struct tcp_conn *conn = tcp_conn_alloc(listener->net, listener->domain);

	if (!conn)
		return NULL;
	conn->local = seg->packet->to;
	conn->remote = seg->packet->from;
	conn->local_port = seg->h.destination;
	conn->remote_port = seg->h.source;
	conn->passive = true;
	conn->nodelay = listener->nodelay;
	conn->cork = listener->cork;
	conn->keepalive = listener->keepalive;
	conn->keepalive_idle_s = listener->keepalive_idle_s;
	conn->keepalive_interval_s = listener->keepalive_interval_s;
	conn->keepalive_probes = listener->keepalive_probes;
	conn->linger_on = listener->linger_on;
	conn->linger_s = listener->linger_s;
	conn->user_timeout_ms = listener->user_timeout_ms;
	conn->mss_limit = listener->mss_limit;
	conn->rcv_buffer = listener->rcv_buffer;
	conn->send_buffer = listener->send_buffer;
	conn->receive_buffer_fixed = listener->receive_buffer_fixed;
	conn->send_buffer_fixed = listener->send_buffer_fixed;
	conn->push_acked = listener->push_acked;
	conn->notsent_lowat = listener->notsent_lowat;
	conn->max_pacing_kbps = listener->max_pacing_kbps;
	conn->cc.ops = listener->cc.ops;
	conn->ttl = listener->ttl;
	conn->tos = listener->tos;
	tcp_table_add(listener->net->tcp, conn);
	conn->parent = listener;
	list_append(&listener->listener->half_open, &conn->in_listener);
	listener->listener->num_half_open++;
	return conn;
}

bool tcp_accept_full(const struct tcp_listener *listener)
{
	return listener->num_accepted >= listener->backlog;
}

static bool half_open_full(const struct tcp_listener *listener)
{
	uint32_t half_open_max =
		listener->backlog > HALF_OPEN_MIN ? listener->backlog : HALF_OPEN_MIN;

	return listener->num_half_open >= half_open_max;
}

bool tcp_listener_full(const struct tcp_listener *listener)
{
	return tcp_accept_full(listener) || half_open_full(listener);
}

void tcp_open_child(struct tcp_conn *parent, const struct tcp_segment *seg, const uint32_t *iss_min)
{
	struct net *net = parent->net;
	struct tcp_conn *conn = tcp_child_new(parent, seg);

	if (!conn) {
		net_count_drop(net, DROP_TX_MEMORY);
		return;
	}
	tcp_choose_iss(conn, iss_min);
	/* Data that came with the SYN is not kept and not acknowledged: the peer sends it again
	 * (RFC 9293 3.10.7.2 lets it be queued). */
	tcp_apply_syn(conn, &seg->h);
	tcp_set_state(conn, TCPS_SYN_RECEIVED);
	conn->progress_ns = net->sched->now_ns;
	tcp_send_syn(conn);
}

static void listen_syn(struct tcp_conn *parent, const struct tcp_segment *seg)
{
	struct net *net = parent->net;
	struct tcp_listener *listener = parent->listener;

	if (!acceptable_peer(seg->packet)) {
		net_count_drop(net, DROP_IP_SOURCE);
		return;
	}
	bool cookie = net->sched->config.tcp_syn_cookies == SYN_COOKIES_ALWAYS ||
		      half_open_full(listener);
	/* Half-open ones are bounded; beyond it the SYN is answered by a cookie, or comes again. */
	if (tcp_accept_full(listener) || (cookie && !tcp_send_cookie(parent, seg)))
		net_count_drop(net, DROP_TCP_BACKLOG);
	else if (!cookie)
		tcp_open_child(parent, seg, NULL);
}

void tcp_listen_input(struct tcp_conn *listener, struct tcp_segment *seg)
{
	/* RFC 9293 3.10.7.2, first to fourth. */
	if (seg->h.flags & TCP_RST)
		return;
	if (seg->h.flags & TCP_ACK) {
		tcp_reset_unknown(listener->net, seg);
		return;
	}
	/* A SYN that ends the connection as well is nobody's (attack row 27). */
	if ((seg->h.flags & (TCP_SYN | TCP_FIN)) == TCP_SYN)
		listen_syn(listener, seg);
}

int tcp_listen(struct tcp_conn *conn, uint32_t backlog)
{
	if (conn->state == TCPS_LISTEN)
		return -EADDRINUSE;
	if (conn->state != TCPS_CLOSED)
		return -EADDRINUSE;
	if (!conn->bound)
		return -EDESTADDRREQ;
	struct tcp_listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return -ENOMEM;
	list_init(&listener->accepted);
	list_init(&listener->half_open);
	listener->backlog = backlog < TCP_BACKLOG_MAX ? backlog : TCP_BACKLOG_MAX;
	conn->listener = listener;
	tcp_set_state(conn, TCPS_LISTEN);
	return 0;
}

void tcp_child_forget(struct tcp_conn *conn)
{
	struct tcp_listener *listener = conn->parent->listener;

	if (conn->accept_ready)
		listener->num_accepted--;
	else
		listener->num_half_open--;
	list_remove(&conn->in_listener);
	conn->parent = NULL;
}

/* ---- accepting ---- */

static void hand_over(struct tcp_conn *parent, struct tcp_conn *conn, struct op *op)
{
	struct net *net = parent->net;

	tcp_child_forget(conn);
	int32_t qd = net->adopt(net->owner, conn);
	if (qd >= 0)
		op->len = (uint32_t)qd;
	else
		tcp_abort(conn, -qd);
	op_complete(net->sched, op, qd < 0 ? -qd : 0);
}

void tcp_child_established(struct tcp_conn *conn)
{
	struct tcp_conn *parent = conn->parent;
	struct tcp_listener *listener = parent->listener;

	list_remove(&conn->in_listener);
	listener->num_half_open--;
	list_append(&listener->accepted, &conn->in_listener);
	listener->num_accepted++;
	conn->accept_ready = true;
	struct op *op = op_list_take(&conn->net->sched->ops, &parent->pops);
	if (op)
		hand_over(parent, conn, op);
}

int tcp_accept(struct tcp_conn *conn, struct op *op)
{
	if (conn->state != TCPS_LISTEN)
		return -EINVAL;
	struct tcp_listener *listener = conn->listener;
	if (!list_empty(&listener->accepted)) {
		struct list *first = listener->accepted.next;
		hand_over(conn, container_of(first, struct tcp_conn, in_listener), op);
		return 0;
	}
	op_list_append(&conn->net->sched->ops, &conn->pops, op);
	return 0;
}

void tcp_listener_close(struct tcp_conn *conn)
{
	struct tcp_listener *listener = conn->listener;

	list_for_each_safe (node, after, &listener->accepted)
		tcp_abort(container_of(node, struct tcp_conn, in_listener), 0);
	list_for_each_safe (node, after, &listener->half_open)
		tcp_abort(container_of(node, struct tcp_conn, in_listener), 0);
	free(listener);
	conn->listener = NULL;
	tcp_set_state(conn, TCPS_CLOSED);
	tcp_conn_free(conn);
}

/* ---- SYN-SENT ---- */

/* Both sides opened at once (RFC 9293 3.5, figure 8). */
static void simultaneous_open(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	tcp_apply_syn(conn, &seg->h);
	tcp_set_state(conn, TCPS_SYN_RECEIVED);
	tcp_send_syn(conn);
}

static void syn_ack(struct tcp_conn *conn, struct tcp_segment *seg)
{
	tcp_apply_syn(conn, &seg->h);
	syn_acked(conn);
	tcp_restart_retransmit(conn);
	tcp_established(conn);
	/* What else the SYN carries (data, FIN) is not kept: acknowledging the SYN alone has the
	 * peer send it again. */
	conn->ack_now = true;
	tcp_want_output(conn);
}

void tcp_syn_sent_input(struct tcp_conn *conn, struct tcp_segment *seg)
{
	const struct tcp_header *h = &seg->h;
	bool acked = h->flags & TCP_ACK;

	/* RFC 9293 3.10.7.3 first: an ACK must be for our SYN. */
	if (acked && (seq_reached(h->ack, conn->iss) || seq_after(h->ack, conn->snd_nxt))) {
		if (!(h->flags & TCP_RST))
			tcp_reset_unknown(conn->net, seg);
		return;
	}
	/* second: a reset counts only with an ACK for our SYN (RFC 5961 3.2 keeps that). */
	if (h->flags & TCP_RST) {
		if (acked)
			tcp_finish(conn, ECONNREFUSED);
		return;
	}
	/* fourth */
	if (!(h->flags & TCP_SYN))
		return;
	if (acked)
		syn_ack(conn, seg);
	else
		simultaneous_open(conn, seg);
}
