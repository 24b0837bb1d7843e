/* SPDX-License-Identifier: MIT
 * transport/rdma/cm.c - rdma_cm: connecting, listening, accepting, and what it tells.
 *
 * An event is copied and acknowledged before it is acted on, so that its id may be destroyed.  An
 * id's context is a listener or a connection; that of an id that is only bound is NULL.
 */
#include "transport/rdma/rdma.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RETRIES                                                                               \
	7 /* of the device: as often as there is a number for (3 bits); for ever, if it is of \
	     receivers that are not ready, which credits rule out */

/* IBA 9.7.6.1.3: 4.096 us * 2^16, 0.27 s before what is not acknowledged goes out again; a peer
 * that is gone is found out in some 2 s.  rdma_cm's own is 2.1 s for each try on Ethernet. */
#define ACK_TIMEOUT 16

struct event {
	enum rdma_cm_event_type type;
	int status;
	struct rdma_cm_id *id;
	struct rdma_cm_id *listen_id;
	struct rdma_hello hello;
	bool has_hello;
	uint8_t responder_resources;
	uint8_t initiator_depth;
	struct rdma_ud_param ud; /* of a datagram peer */
};

/* ---- answers ---- */

static uint8_t lesser(uint8_t a, uint8_t b)
{
	return a < b ? a : b;
}

static void fill_param(const struct rdma_conn *conn, const struct rdma_hello *hello,
		       struct rdma_conn_param *param)
{
	*param = (struct rdma_conn_param){
		.private_data = hello,
		.private_data_len = sizeof(*hello),
		.responder_resources = conn->engine->device.responder_resources,
		.initiator_depth = conn->engine->device.initiator_depth,
		.retry_count = RETRIES,
		.rnr_retry_count = RETRIES,
	};
}

/* A kernel that does not know it (before 5.1) goes on with its own. */
static void set_ack_timeout(const struct rdma_conn *conn)
{
	uint8_t timeout = ACK_TIMEOUT;

	(void)conn->engine->verbs->set_option(conn->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT,
					      &timeout, sizeof(timeout));
}

static void note_names(struct rdma_conn *conn)
{
	conn->local = conn->id->route.addr.src_storage;
	conn->peer = conn->id->route.addr.dst_storage;
}

static void opened(struct rdma_conn *conn)
{
	timer_cancel(&rdma_sched(conn->engine)->timers, &conn->timer);
	rdma_keep_alive(conn);
	rdma_conn_set_state(conn, RDMA_OPEN);
	conn->established = true;
}

static void arm_timer(struct rdma_conn *conn)
{
	struct sched *sched = rdma_sched(conn->engine);
	uint64_t ns = (uint64_t)sched->config.rdma_connect_ms * 1000000;

	timer_arm(&sched->timers, &conn->timer, sched->now_ns + ns);
}

/* ---- connecting ---- */

void rdma_connect_done(struct rdma_conn *conn, int err)
{
	struct sched *sched = rdma_sched(conn->engine);
	struct op *op = conn->connect;

	conn->connect = NULL;
	if (!err) {
		opened(conn);
		note_names(conn);
	} else {
		timer_cancel(&sched->timers, &conn->timer);
		if (conn->queue)
			conn->queue->conn = NULL;
		conn->queue = NULL;
		if (conn->qp)
			rdma_conn_fail(conn, err);
		else
			rdma_conn_destroy(conn);
	}
	op_complete(sched, op, -err);
}

int rdma_address_error(int err)
{
	switch (err) {
	case -ETIMEDOUT:
	case -EHOSTUNREACH:
	case -ENOMEM:
		return err;
	default: /* no RDMA device has it, or reaches it */
		return -EADDRNOTAVAIL;
	}
}

static void tell_address(const struct rdma_engine *re, int err)
{
	struct sched *sched = rdma_sched(re);

	if (err == -EADDRNOTAVAIL)
		log_once(&sched->log, &sched->log_seen, LOG_LEVEL_WARNING,
			 "rdma: an address is not one of, or not reached by, an RDMA device "
			 "(`rdma link` lists them)");
}

int rdma_cm_connect(struct rdma_queue *rq, struct op *op, const struct sockaddr *address)
{
	struct rdma_engine *re = rq->engine;
	const struct rdma_verbs *verbs = re->verbs;
	struct sockaddr_storage to = {.ss_family = 0};
	struct rdma_conn *conn;
	int err = rdma_conn_new(re, &conn);

	if (err)
		return err;
	conn->id = rq->bound;
	if (!conn->id && verbs->create_id(re->channel, &conn->id, conn, RDMA_PS_TCP)) {
		err = rdma_errno();
		conn->id = NULL;
		rdma_conn_destroy(conn);
		return err;
	}
	conn->id->context = conn;
	rq->bound = NULL;
	rq->conn = conn;
	conn->queue = rq;
	conn->connect = op;
	arm_timer(conn);
	memcpy(&to, address,
	       address->sa_family == AF_INET ? sizeof(struct sockaddr_in)
					     : sizeof(struct sockaddr_in6));
	if (verbs->resolve_addr(conn->id, NULL, (struct sockaddr *)&to, RDMA_RESOLVE_MS)) {
		err = rdma_address_error(rdma_errno());
		tell_address(re, err);
		rdma_connect_done(conn, err);
	}
	return 0;
}

static void address_resolved(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;
	int err = rdma_device_use(re, conn->id);

	if (!err && re->verbs->resolve_route(conn->id, RDMA_RESOLVE_MS))
		err = rdma_errno();
	if (err)
		rdma_connect_done(conn, err);
}

static void route_resolved(struct rdma_conn *conn)
{
	struct rdma_conn_param param;
	struct rdma_hello hello;
	int err = rdma_conn_equip(conn);

	if (!err) {
		rdma_conn_hello(conn, &hello);
		fill_param(conn, &hello, &param);
		rdma_conn_set_state(conn, RDMA_CONNECTING);
		set_ack_timeout(conn);
		err = conn->engine->verbs->connect(conn->id, &param) ? rdma_errno() : 0;
	}
	if (err)
		rdma_connect_done(conn, err);
}

static void connected(struct rdma_conn *conn, const struct event *event)
{
	struct sched *sched = rdma_sched(conn->engine);
	int err = event->has_hello ? rdma_conn_meet(conn, &event->hello) : -EPROTO;

	if (err) {
		log_once(
			&sched->log, &sched->log_seen, LOG_LEVEL_WARNING,
			"rdma: a peer does not speak catmint's protocol, or another version of it");
		rdma_conn_set_state(conn, RDMA_OPEN); /* for rdma_cm it is: it has to be told */
	}
	rdma_connect_done(conn, err);
}

/* ---- listening ---- */

static int make_bound(struct rdma_queue *rq)
{
	struct sockaddr_storage any = {.ss_family = (sa_family_t)rq->domain};
	struct rdma_engine *re = rq->engine;

	if (rq->bound)
		return 0;
	if (re->verbs->create_id(re->channel, &rq->bound, NULL, RDMA_PS_TCP)) {
		rq->bound = NULL;
		return rdma_errno();
	}
	if (re->verbs->bind_addr(rq->bound, (struct sockaddr *)&any)) {
		int err = rdma_errno();
		(void)re->verbs->destroy_id(rq->bound);
		rq->bound = NULL;
		return err;
	}
	return 0;
}

int rdma_cm_listen(struct rdma_queue *rq, int backlog)
{
	struct rdma_engine *re = rq->engine;
	int err = make_bound(rq);

	if (err)
		return err;
	struct rdma_listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return -ENOMEM;
	listener->user = RDMA_USER_LISTENER;
	listener->engine = re;
	listener->backlog_max = backlog < 1 ? 1 : (uint32_t)backlog;
	listener->domain = rq->domain;
	ASSERT(rq->bound);
	listener->id = rq->bound;
	list_init(&listener->backlog);
	op_list_init(&listener->accepts);
	listener->id->context = listener;
	if (re->verbs->listen(listener->id, backlog)) {
		err = rdma_errno();
		listener->id->context = NULL;
		free(listener);
		return err;
	}
	list_append(&re->listeners, &listener->in_engine);
	rq->bound = NULL;
	rq->listener = listener;
	return 0;
}

void rdma_listener_close(struct rdma_listener *listener, int err)
{
	struct rdma_engine *re = listener->engine;
	struct sched *sched = rdma_sched(re);
	struct op *op;

	while ((op = op_list_take(&sched->ops, &listener->accepts)))
		op_complete(sched, op, -err);
	while (!list_empty(&listener->backlog)) {
		struct rdma_conn *conn =
			container_of(listener->backlog.next, struct rdma_conn, in_backlog);
		rdma_leave_backlog(conn);
		if (conn->state == RDMA_OVER)
			rdma_conn_destroy(conn);
		else
			rdma_conn_fail(conn, -ECONNRESET);
	}
	if (listener->id)
		(void)re->verbs->destroy_id(listener->id);
	listener->id = NULL;
	listener->error = err;
	list_remove(&listener->in_engine);
}

/* ---- accepting ---- */

static struct rdma_conn *first_ready(const struct rdma_listener *listener)
{
	list_for_each (node, &listener->backlog) {
		struct rdma_conn *conn = container_of(node, struct rdma_conn, in_backlog);
		if (conn->established)
			return conn;
	}
	return NULL;
}

static void hand_out(struct rdma_listener *listener, struct rdma_conn *conn, struct op *op)
{
	struct rdma_engine *re = listener->engine;
	struct rdma_queue *rq = rdma_queue_new(re, listener->domain);
	int32_t qd = rq ? re->engine.adopt(re->engine.owner, &rq->queue) : -ENOMEM;

	rdma_leave_backlog(conn);
	if (qd < 0) {
		free(rq);
		rdma_conn_close(conn);
	} else {
		rq->conn = conn;
		conn->queue = rq;
		op->len = (uint32_t)qd;
	}
	op_complete(rdma_sched(re), op, qd < 0 ? -qd : 0);
}

static void serve_accepts(struct rdma_listener *listener)
{
	struct sched *sched = rdma_sched(listener->engine);
	struct rdma_conn *conn;

	while (!op_list_empty(&listener->accepts) && (conn = first_ready(listener)))
		hand_out(listener, conn, op_list_take(&sched->ops, &listener->accepts));
}

int rdma_cm_accept(struct rdma_listener *listener, struct op *op)
{
	if (listener->error)
		return listener->error;
	op_list_append(&rdma_sched(listener->engine)->ops, &listener->accepts, op);
	serve_accepts(listener);
	return 0;
}

void rdma_established(struct rdma_conn *conn)
{
	if (conn->state != RDMA_ACCEPTING)
		return;
	opened(conn);
	if (conn->listener)
		serve_accepts(conn->listener);
}

static int answer(struct rdma_conn *conn, const struct event *event)
{
	struct rdma_conn_param param;
	struct rdma_hello hello;
	int err = event->has_hello ? rdma_conn_meet(conn, &event->hello) : -EPROTO;

	if (!err)
		err = rdma_device_use(conn->engine, conn->id);
	if (!err)
		err = rdma_conn_equip(conn);
	if (err)
		return err;
	rdma_conn_hello(conn, &hello);
	fill_param(conn, &hello, &param);
	param.responder_resources = lesser(param.responder_resources, event->responder_resources);
	param.initiator_depth = lesser(param.initiator_depth, event->initiator_depth);
	set_ack_timeout(conn);
	return conn->engine->verbs->accept(conn->id, &param) ? rdma_errno() : 0;
}

static void refuse(struct rdma_engine *re, struct rdma_cm_id *id, int err)
{
	struct sched *sched = rdma_sched(re);

	log_once(&sched->log, &sched->log_seen, LOG_LEVEL_WARNING,
		 "rdma: a connection was refused: %s", strerror(-err));
	(void)re->verbs->reject(id, NULL, 0);
	(void)re->verbs->destroy_id(id);
}

static void connection_requested(struct rdma_listener *listener, const struct event *event)
{
	struct rdma_engine *re = listener->engine;
	struct rdma_conn *conn;

	if (listener->num_backlog >= listener->backlog_max) {
		refuse(re, event->id, -ENOBUFS);
		return;
	}
	int err = rdma_conn_new(re, &conn);
	if (err) {
		refuse(re, event->id, err);
		return;
	}
	conn->id = event->id;
	conn->id->context = conn;
	rdma_conn_set_state(conn, RDMA_ACCEPTING);
	note_names(conn);
	err = answer(conn, event);
	if (err) {
		struct rdma_cm_id *id = conn->id;
		rdma_conn_release_id(conn);
		rdma_conn_destroy(conn);
		refuse(re, id, err);
		return;
	}
	conn->listener = listener;
	listener->num_backlog++;
	list_append(&listener->backlog, &conn->in_backlog);
	arm_timer(conn);
}

/* ---- events ---- */

static int connect_error(const struct event *event)
{
	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_ERROR:
		return rdma_address_error(event->status);
	case RDMA_CM_EVENT_ROUTE_ERROR:
		return event->status == -ETIMEDOUT ? -ETIMEDOUT : -EHOSTUNREACH;
	case RDMA_CM_EVENT_REJECTED:
		return -ECONNREFUSED;
	case RDMA_CM_EVENT_UNREACHABLE:
		return event->status == 0 || event->status == -ETIMEDOUT ? -ETIMEDOUT
									 : -ENETUNREACH;
	default:
		return event->status < 0 ? event->status : -ECONNRESET;
	}
}

static void failed(struct rdma_conn *conn, const struct event *event)
{
	int err = connect_error(event);

	tell_address(conn->engine, err);
	if (conn->connect)
		rdma_connect_done(conn, err);
	else
		rdma_conn_fail(conn, err);
}

static void conn_event(struct rdma_conn *conn, const struct event *event)
{
	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		address_resolved(conn);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		route_resolved(conn);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		if (conn->connect)
			connected(conn, event);
		else
			rdma_established(conn);
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		rdma_established(conn); /* it was, and said all that it had to */
		rdma_conn_fail(conn, -ECONNRESET);
		break;
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_REJECTED:
		failed(conn, event);
		break;
	default:
		break;
	}
}

static void act(struct rdma_engine *re, const struct event *event)
{
	void *context = event->listen_id ? event->listen_id->context : event->id->context;

	if (event->type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
		rdma_device_lost(re);
	} else if (event->type == RDMA_CM_EVENT_CONNECT_REQUEST) {
		event->id->context = NULL;
		if (*(enum rdma_user *)context == RDMA_USER_DATAGRAM)
			rdma_datagram_asked(context, event->id);
		else
			connection_requested(context, event);
	} else if (context && *(enum rdma_user *)context == RDMA_USER_PEER) {
		rdma_peer_event(context, event->type, event->status, &event->ud);
	} else if (context && *(enum rdma_user *)context == RDMA_USER_CONN) {
		conn_event(context, event);
	}
}

static void copy_event(struct rdma_cm_event *from, struct event *to)
{
	const struct rdma_conn_param *param = &from->param.conn;

	*to = (struct event){
		.type = from->event,
		.status = from->status,
		.id = from->id,
		.listen_id = from->event == RDMA_CM_EVENT_CONNECT_REQUEST ? from->listen_id : NULL,
	};
	if (from->event != RDMA_CM_EVENT_CONNECT_REQUEST &&
	    from->event != RDMA_CM_EVENT_ESTABLISHED)
		return;
	if (from->id->ps == RDMA_PS_UDP) {
		to->ud = from->param.ud;
		return;
	}
	to->responder_resources = param->responder_resources;
	to->initiator_depth = param->initiator_depth;
	to->has_hello = param->private_data && param->private_data_len >= sizeof(to->hello);
	if (to->has_hello)
		memcpy(&to->hello, param->private_data, sizeof(to->hello));
}

uint32_t rdma_cm_poll(struct rdma_engine *re)
{
	struct rdma_cm_event *from;
	struct event event;
	uint32_t n = 0;

	re->looked_ns = rdma_sched(re)->now_ns;
	while (n < RDMA_BATCH && re->verbs->get_cm_event(re->channel, &from) == 0) {
		copy_event(from, &event);
		(void)re->verbs->ack_cm_event(from);
		act(re, &event);
		n++;
	}
	return n;
}

void rdma_cm_readable(struct fd_watch *watch, uint32_t events)
{
	(void)events;
	(void)rdma_cm_poll(container_of(watch, struct rdma_engine, events));
}
