/* SPDX-License-Identifier: MIT
 * net/tcp/conn.c - connections: made, opened, closed, ended.  RFC 9293 3.10.1, 3.10.4, 3.10.5, 3.5,
 * 3.6; RFC 6528 (initial sequence numbers).
 *
 * A connection that ends in the middle of an event is taken out of everything at once and freed by
 * the next tcp_flush, so that no caller holds a dangling pointer.
 */
#include "net/siphash.h"
#include "net/tcp/mtu.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

/* ---- life ---- */

struct tcp_conn *tcp_conn_alloc(struct net *net, int domain)
{
	const struct config *config = &net->sched->config;
	struct tcp_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->net = net;
	conn->domain = (uint8_t)domain;
	conn->nodelay = config->nodelay;
	conn->keepalive = config->keepalive;
	conn->keepalive_idle_s = config->keepalive_time_ms
					 ? (uint32_t)(config->keepalive_time_ms + 999) / 1000
					 : 7200;
	conn->keepalive_interval_s =
		config->keepalive_interval_ms
			? (uint32_t)(config->keepalive_interval_ms + 999) / 1000
			: 75;
	conn->keepalive_probes = 9;
	conn->linger_on = config->linger && config->linger_seconds > 0;
	conn->linger_s = (int32_t)config->linger_seconds;
	conn->rcv_buffer = (uint32_t)config->tcp_receive_buffer_bytes;
	conn->send_buffer = (uint32_t)config->tcp_send_buffer_bytes;
	conn->ttl = IP_DEFAULT_TTL;
	conn->cc.ops = tcp_cc_at((uint32_t)config->tcp_congestion);
	op_list_init(&conn->pops);
	op_list_init(&conn->pushes);
	op_list_init(&conn->unacked);
	tcp_queue_init(&conn->receive_queue);
	tcp_queue_init(&conn->send_queue);
	tcp_scoreboard_init(&conn->sb);
	list_init(&conn->in_listener);
	list_init(&conn->in_bound);
	list_init(&conn->output);
	list_append(&net->tcp->all, &conn->in_all);
	timer_init(&conn->timer, tcp_timer_fired);
	tcp_rtt_init(&conn->rtt, (uint64_t)config->tcp_rto_initial_ms * 1000000,
		     (uint64_t)config->tcp_rto_min_ms * 1000000,
		     (uint64_t)config->tcp_rto_max_ms * 1000000);
	conn->rtt.floor_variation = config->tcp_rto_floor != 0;
	conn->push_burst = config->tcp_push != 0;
	conn->wait_small = config->tcp_nagle != 0;
	return conn;
}

int tcp_conn_new(struct net *net, int domain, struct tcp_conn **conn_out)
{
	*conn_out = tcp_conn_alloc(net, domain);
	return *conn_out ? 0 : -ENOMEM;
}

void tcp_conn_free(struct tcp_conn *conn)
{
	struct net *net = conn->net;

	if (conn->dead)
		return;
	ASSERT(conn->state == TCPS_CLOSED && !conn->in_table && !conn->parent);
	list_remove(&conn->output);
	timer_cancel(&net->sched->timers, &conn->timer);
	tcp_send_free(conn);
	tcp_receive_free(conn);
	list_remove(&conn->in_bound);
	list_remove(&conn->in_all);
	list_append(&net->tcp->dead, &conn->in_all);
	conn->dead = true;
	net->sched->output_pending++;
}

/* ---- states ---- */

const char *tcp_state_name(enum tcp_state state)
{
	static const char *const names[] = {
		[TCPS_CLOSED] = "closed",           [TCPS_LISTEN] = "listening",
		[TCPS_SYN_SENT] = "syn-sent",       [TCPS_SYN_RECEIVED] = "syn-received",
		[TCPS_ESTABLISHED] = "established", [TCPS_FIN_WAIT_1] = "fin-wait-1",
		[TCPS_FIN_WAIT_2] = "fin-wait-2",   [TCPS_CLOSE_WAIT] = "close-wait",
		[TCPS_CLOSING] = "closing",         [TCPS_LAST_ACK] = "last-ack",
		[TCPS_TIME_WAIT] = "time-wait",
	};

	return names[state];
}

void tcp_update_closing(struct tcp_conn *conn)
{
	bool lingers = conn->closed &&
		       (conn->state == TCPS_SYN_RECEIVED || conn->state == TCPS_FIN_WAIT_1 ||
			conn->state == TCPS_CLOSING || conn->state == TCPS_LAST_ACK);

	if (lingers != conn->lingers)
		conn->net->tcp->num_closing += lingers ? 1U : -1U;
	conn->lingers = lingers;
}

void tcp_set_state(struct tcp_conn *conn, enum tcp_state state)
{
	conn->state = (uint8_t)state;
	tcp_update_closing(conn);
	/* A peer that never ends its side would hold a connection that nobody uses. */
	if (state == TCPS_FIN_WAIT_2 && conn->closed)
		tcp_set_deadline(conn, TCP_STATE,
				 conn->net->sched->now_ns +
					 (uint64_t)conn->net->sched->config.tcp_fin_wait_2_ms *
						 1000000);
}

void tcp_finish(struct tcp_conn *conn, int err)
{
	struct sched *sched = conn->net->sched;

	if (conn->state == TCPS_CLOSED)
		return;
	tcp_table_remove(conn->net->tcp, conn);
	if (conn->state == TCPS_TIME_WAIT)
		tcp_leave_time_wait(conn);
	tcp_set_state(conn, TCPS_CLOSED);
	for (int i = 0; i < TCP_DEADLINES; i++)
		tcp_clear_deadline(conn, i);
	if (!conn->error)
		conn->error = err;
	if (conn->parent)
		tcp_child_forget(conn);
	if (conn->connect) {
		struct op *op = conn->connect;
		conn->connect = NULL;
		op_complete(sched, op, err ? err : ECONNABORTED);
		conn->error = 0; /* it was told; the socket may try again */
	}
	tcp_fail_pushes(conn, err ? err : EPIPE);
	tcp_send_free(conn);
	tcp_drop_ahead(conn);
	tcp_serve_pops(conn);
	if (conn->closed || !conn->user)
		tcp_conn_free(conn);
}

void tcp_abort(struct tcp_conn *conn, int err)
{
	/* RFC 9293 3.10.5: a reset goes to a peer that is synchronized. */
	if (conn->state >= TCPS_SYN_RECEIVED && conn->state != TCPS_TIME_WAIT)
		tcp_send_reset(conn);
	tcp_finish(conn, err);
}

/* ---- opening ---- */

uint64_t tcp_tuple_hash(const struct net *net, const struct tcp_tuple *tuple)
{
	return siphash_2_4(net->secret, tuple, sizeof(*tuple));
}

/* RFC 6528: ISN = M + F(localip, localport, remoteip, remoteport, secretkey), M the 4 us clock. */
void tcp_choose_iss(struct tcp_conn *conn, const uint32_t *iss_min)
{
	struct tcp_tuple tuple;

	memset(&tuple, 0, sizeof(tuple));
	tuple.local = conn->local;
	tuple.remote = conn->remote;
	tuple.local_port = conn->local_port;
	tuple.remote_port = conn->remote_port;
	uint64_t hash = tcp_tuple_hash(conn->net, &tuple);
	uint32_t iss = (uint32_t)hash + (uint32_t)(conn->net->sched->now_ns >> 12);
	conn->ts_offset = tcp_timestamp_offset(hash);
	tcp_set_iss(conn, iss_min && seq_before(iss, *iss_min) ? *iss_min : iss);
}

void tcp_set_iss(struct tcp_conn *conn, uint32_t iss)
{
	conn->iss = iss;
	conn->snd_una = conn->iss;
	conn->snd_nxt = conn->iss;
	conn->snd_base = conn->iss + 1;
	conn->recover = conn->iss;
}

static int check_connect(const struct tcp_conn *conn, const struct ip_address *address,
			 uint16_t port)
{
	static const int states[] = {
		[TCPS_LISTEN] = -EOPNOTSUPP,
		[TCPS_SYN_SENT] = -EINPROGRESS,
		[TCPS_SYN_RECEIVED] = -EINPROGRESS,
	};

	if (conn->state == TCPS_LISTEN || conn->state == TCPS_SYN_SENT ||
	    conn->state == TCPS_SYN_RECEIVED)
		return states[conn->state];
	if (conn->state != TCPS_CLOSED || conn->connected_once)
		return -EISCONN;
	if (port == 0)
		return -ECONNREFUSED;
	/* RFC 9293 3.9.2.3 MUST-46: only unicast addresses are opened to. */
	if (ip_is_multicast(address) || ip_is_any(address) ||
	    (ip_is_v4(address) && ip_is_broadcast(conn->net, address)))
		return -ENETUNREACH;
	return 0;
}

/* Chooses what is left open of our end of the tuple; *old_out: what must make room for it. */
static int choose_local(struct tcp_conn *conn, struct tcp_conn **old_out)
{
	struct net *net = conn->net;
	uint32_t iss_min;

	if (ip_is_any(&conn->local)) {
		const struct ip_address *source = net_source_for(net, &conn->remote);
		if (!source)
			return -ENETUNREACH;
		conn->local = *source;
	}
	if (ip_is_v4(&conn->local) != ip_is_v4(&conn->remote))
		return -EAFNOSUPPORT;
	if (conn->local_port == 0)
		conn->local_port = tcp_choose_port(conn);
	if (conn->local_port == 0)
		return -EADDRNOTAVAIL;
	*old_out = tcp_find_tuple(net->tcp, &conn->local, conn->local_port, &conn->remote,
				  conn->remote_port);
	return *old_out && !tcp_may_reuse(*old_out, &iss_min) ? -EADDRNOTAVAIL : 0;
}

int tcp_connect(struct tcp_conn *conn, struct op *op, const struct ip_address *address,
		uint16_t port)
{
	const struct ip_address bound_local = conn->local;
	const uint16_t bound_port = conn->local_port;
	int err = check_connect(conn, address, port);
	struct tcp_conn *old;
	uint32_t iss_min;

	if (err)
		return err;
	conn->remote = *address;
	conn->remote_port = port;
	err = choose_local(conn, &old);
	if (err) {
		conn->local = bound_local;
		conn->local_port = bound_port;
		return err;
	}
	bool reuse = old && tcp_may_reuse(old, &iss_min);
	if (reuse) {
		sched_count(conn->net->sched, COUNTER_TCP_TIME_WAITS_REUSED, 1);
		tcp_finish(old, 0);
	}
	tcp_table_add(conn->net->tcp, conn);
	conn->error = 0;
	conn->soft_error = 0;
	conn->retries = 0;
	conn->passive = false;
	conn->fin_queued = false;
	conn->fin_received = false;
	conn->connect = op;
	conn->path = (struct ip_path){0};
	tcp_choose_iss(conn, reuse ? &iss_min : NULL);
	tcp_set_state(conn, TCPS_SYN_SENT);
	conn->progress_ns = conn->net->sched->now_ns;
	tcp_send_syn(conn);
	return 0;
}

/* ---- closing ---- */

/* Queues the end of our side behind what was pushed. */
static void queue_fin(struct tcp_conn *conn)
{
	if (conn->fin_queued)
		return;
	conn->fin_queued = true;
	if (conn->state == TCPS_ESTABLISHED) /* SYN-RECEIVED: tcp_established goes on */
		tcp_set_state(conn, TCPS_FIN_WAIT_1);
	else if (conn->state == TCPS_CLOSE_WAIT)
		tcp_set_state(conn, TCPS_LAST_ACK);
	tcp_want_output(conn);
}

int tcp_shutdown(struct tcp_conn *conn, int how)
{
	if (!tcp_connected(conn))
		return -ENOTCONN;
	if (how != SHUT_WR) {
		conn->read_shut = true;
		tcp_serve_pops(conn);
	}
	if (how == SHUT_RD || conn->fin_queued || conn->state >= TCPS_CLOSING)
		return 0;
	if (!op_list_empty(&conn->pushes)) {
		/* They were pushed before: the end stands behind them. */
		conn->shut_later = true;
		return 0;
	}
	queue_fin(conn);
	return 0;
}

void tcp_shutdown_pushed(struct tcp_conn *conn)
{
	if (conn->shut_later && op_list_empty(&conn->pushes)) {
		conn->shut_later = false;
		queue_fin(conn);
	}
}

static void cancel_all(struct tcp_conn *conn)
{
	struct sched *sched = conn->net->sched;

	tcp_fail_ops(conn, &conn->pops, ECANCELED);
	tcp_fail_pushes(conn, ECANCELED);
	tcp_fail_ops(conn, &conn->unacked, ECANCELED);
	if (conn->connect) {
		struct op *op = conn->connect;
		conn->connect = NULL;
		op_complete(sched, op, ECANCELED);
	}
}

void tcp_conn_close(struct tcp_conn *conn)
{
	bool unread = conn->receive_queue.count > 0 || conn->ooo;

	cancel_all(conn);
	list_remove(&conn->in_bound);
	conn->closed = true;
	conn->user = NULL;
	tcp_receive_free(conn);
	switch (conn->state) {
	case TCPS_CLOSED:
		tcp_conn_free(conn);
		return;
	case TCPS_LISTEN:
		tcp_listener_close(conn);
		return;
	case TCPS_SYN_SENT:
		tcp_finish(conn, 0);
		return;
	case TCPS_TIME_WAIT:
		return;
	default:
		break;
	}
	/* RFC 2525 2.17, RFC 1122 4.2.2.13: data that nobody will read is answered with a reset. */
	if (unread || (conn->linger_on && conn->linger_s == 0)) {
		tcp_abort(conn, 0);
		return;
	}
	if (conn->persist) /* it is from now on that nobody waits with it */
		conn->progress_ns = conn->net->sched->now_ns;
	queue_fin(conn);
	tcp_set_state(conn, conn->state); /* now that nobody has it any more */
}

void tcp_cancel(struct tcp_conn *conn, struct op *op)
{
	struct sched *sched = conn->net->sched;

	switch (op->opcode) {
	case OP_CONNECT:
		conn->connect = NULL;
		op_complete(sched, op, ECANCELED);
		tcp_abort(conn, 0);
		conn->error = 0;
		return;
	case OP_PUSH:
		if (op->flags & OP_STARTED) /* admitted: it is on its way */
			return;
		tcp_cancel_push(conn, op);
		return;
	default:
		op_list_remove(&sched->ops, &conn->pops, op);
		op_complete(sched, op, ECANCELED);
	}
}

/* ---- the whole ---- */

int tcp_open(struct net *net)
{
	struct tcp *tcp = calloc(1, sizeof(*tcp));

	if (!tcp)
		return -ENOMEM;
	tcp->net = net;
	list_init(&tcp->output);
	list_init(&tcp->all);
	list_init(&tcp->dead);
	list_init(&tcp->time_wait);
	for (uint32_t i = 0; i < TCP_BOUND_BUCKETS; i++)
		list_init(&tcp->bound[i]);
	int err = tcp_table_open(tcp);
	if (err) {
		free(tcp);
		return err;
	}
	net->tcp = tcp;
	return 0;
}

static void reap(struct tcp *tcp)
{
	list_for_each_safe (node, after, &tcp->dead) {
		list_remove(node);
		free(container_of(node, struct tcp_conn, in_all));
	}
}

void tcp_flush(struct net *net)
{
	struct tcp *tcp = net->tcp;
	const struct list *last = tcp->output.prev; /* who asks anew has to wait */

	for (bool more = true; more && !list_empty(&tcp->output);) {
		struct list *first = tcp->output.next;
		more = first != last;
		list_remove(first);
		tcp_output(container_of(first, struct tcp_conn, output));
	}
	reap(tcp);
}

/* The instance ends: peers are told that nobody is here any more. */
void tcp_abort_all(struct net *net)
{
	list_for_each_safe (node, after, &net->tcp->all)
		tcp_abort(container_of(node, struct tcp_conn, in_all), ECONNABORTED);
}

void tcp_address_lost(struct net *net, const struct ip_address *address)
{
	list_for_each_safe (node, after, &net->tcp->all) {
		struct tcp_conn *conn = container_of(node, struct tcp_conn, in_all);
		if (conn->state > TCPS_LISTEN && ip_equal(&conn->local, address))
			tcp_abort(conn, EADDRNOTAVAIL);
	}
}

void tcp_close(struct net *net)
{
	struct tcp *tcp = net->tcp;

	if (!tcp)
		return;
	list_for_each_safe (node, after, &tcp->all) {
		struct tcp_conn *conn = container_of(node, struct tcp_conn, in_all);
		conn->parent = NULL;
		conn->closed = true;
		tcp_finish(conn, ECANCELED);
		if (!conn->dead)
			tcp_conn_free(conn);
	}
	reap(tcp);
	tcp_table_close(tcp);
	free(tcp);
	net->tcp = NULL;
}

uint32_t tcp_lingering(const struct net *net)
{
	return net->tcp->num_closing;
}

/* ---- invariants ---- */

static uint64_t queue_bytes(const struct tcp_queue *q)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < q->count; i++)
		bytes += q->pieces[(q->head + i) & (q->capacity - 1)].length;
	return bytes;
}

static uint32_t queue_held(const struct tcp_queue *q)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < q->count; i++)
		held += q->pieces[(q->head + i) & (q->capacity - 1)].held;
	return held;
}

void tcp_check(const struct tcp_conn *conn)
{
	ASSERT(!conn->dead);
	ASSERT(queue_bytes(&conn->send_queue) == conn->queued);
	ASSERT(queue_held(&conn->receive_queue) == conn->rcv_held);
	if (conn->state <= TCPS_LISTEN)
		return;
	ASSERT(conn->in_table);
	ASSERT(seq_reached(conn->snd_una, conn->snd_nxt));
	if (conn->state != TCPS_TIME_WAIT)
		tcp_scoreboard_check(&conn->sb, conn->snd_una, conn->snd_nxt, conn->sack);
	ASSERT(conn->watch & TCP_WATCH_AHEAD || (!conn->ooo && !conn->fin_ahead));
	ASSERT(conn->unrest != 0 || conn->sb.sacked + conn->sb.lost == 0);
	ASSERT(conn->recovery == TCP_OPEN || seq_before(conn->snd_una, conn->recover));
	ASSERT(conn->state == TCPS_SYN_SENT || seq_reached(conn->rcv_nxt, conn->rcv_adv));
	ASSERT(conn->state == TCPS_TIME_WAIT || conn->snd_una == conn->snd_nxt ||
	       conn->deadline_ns[TCP_RETRANSMIT] != 0);
	tcp_rtt_check(&conn->rtt);
	if (conn->state != TCPS_SYN_SENT)
		tcp_cc_check(&conn->cc);
	tcp_ooo_check(conn->ooo, conn->rcv_nxt);
	if (conn->state != TCPS_SYN_SENT)
		tcp_mtu_check(conn);
}

void tcp_check_all(const struct net *net)
{
	uint32_t lingering = 0;
	uint32_t time_wait = 0;
	uint64_t ooo_held = 0;

	list_for_each (node, &net->tcp->all) {
		const struct tcp_conn *conn = container_of(node, struct tcp_conn, in_all);
		tcp_check(conn);
		lingering += conn->lingers;
		time_wait += conn->state == TCPS_TIME_WAIT;
		ooo_held += conn->ooo ? tcp_ooo_held(conn->ooo) : 0;
	}
	ASSERT(time_wait == net->tcp->num_time_wait);
	ASSERT(ooo_held == net->tcp->ooo_held);
	ASSERT(lingering == net->tcp->num_closing);
}
