/* SPDX-License-Identifier: MIT
 * transport/rdma/conn.c - the life of a connection: its queue pair, its window, its end.
 *
 * The end has two steps.  The queue pair goes into error, and what it was given comes back
 * (draining): until then the device may read or write that memory.  When all work is back and the
 * completion queue was seen empty, the queue pair is destroyed (over); what arrived whole stays to
 * be popped.
 */
#include "transport/rdma/rdma.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Is rdma_cm likely to say something soon? */
static bool is_changing(enum rdma_state state)
{
	return state != RDMA_OPEN && state != RDMA_OVER;
}

void rdma_conn_set_state(struct rdma_conn *conn, enum rdma_state state)
{
	conn->engine->num_changing -= is_changing(conn->state);
	conn->engine->num_changing += is_changing(state);
	conn->state = state;
}

void rdma_keep_alive(struct rdma_conn *conn)
{
	struct sched *sched = rdma_sched(conn->engine);
	uint64_t ns = (uint64_t)sched->config.rdma_keepalive_ms * 1000000;

	if (conn->closing && (ns == 0 || ns > RDMA_CLOSED_NS))
		ns = RDMA_CLOSED_NS;
	if (ns > 0)
		timer_arm(&sched->timers, &conn->timer, sched->now_ns + ns);
}

/* A peer that is gone without a word does not answer: the device finds that out, by any request. */
static void probe(struct rdma_conn *conn)
{
	if (conn->posted == conn->completed)
		(void)rdma_write_word(conn, true);
	rdma_keep_alive(conn);
}

/* A closed connection: does the peer, by credits and by reading, let it come to its end? */
static bool is_let_end(struct rdma_conn *conn)
{
	uint64_t now_ns = rdma_sched(conn->engine)->now_ns;
	uint32_t moved = conn->granted + conn->done;

	if (conn->moved != moved)
		conn->deadline_ns = now_ns + RDMA_CLOSED_NS;
	conn->moved = moved;
	return now_ns < conn->deadline_ns;
}

static void give_up(struct rdma_conn *conn)
{
	rdma_sched(conn->engine)->counters.drops[DROP_LINGER]++;
	rdma_conn_fail(conn, -ETIMEDOUT);
}

static void timed_out(struct timer *timer)
{
	struct rdma_conn *conn = container_of(timer, struct rdma_conn, timer);

	if (conn->state == RDMA_OPEN && conn->closing && !is_let_end(conn))
		give_up(conn);
	else if (conn->state == RDMA_OPEN)
		probe(conn);
	else if (conn->state == RDMA_ACCEPTING)
		rdma_conn_fail(conn, -ETIMEDOUT);
	else if (conn->state == RDMA_RESOLVING || conn->state == RDMA_CONNECTING)
		rdma_connect_done(conn, -ETIMEDOUT);
}

int rdma_conn_new(struct rdma_engine *re, struct rdma_conn **conn_out)
{
	struct rdma_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return -ENOMEM;
	conn->user = RDMA_USER_CONN;
	conn->engine = re;
	conn->state = RDMA_RESOLVING;
	re->num_changing++;
	op_list_init(&conn->pushes);
	op_list_init(&conn->pops);
	list_init(&conn->in_backlog);
	list_init(&conn->waits);
	list_init(&conn->owes);
	list_init(&conn->drains);
	timer_init(&conn->timer, timed_out);
	list_append(&re->conns, &conn->in_engine);
	*conn_out = conn;
	return 0;
}

/* ---- what a connection has of the device ---- */

/* Receives that a new connection gets: fewer when there are many. */
static uint32_t window_for(const struct rdma_engine *re)
{
	uint32_t credits = (uint32_t)rdma_sched(re)->config.rdma_credits;
	uint32_t left = re->device.receives_max - RDMA_SLACK - re->windows;
	uint32_t share = left / 16 > 2 ? left / 16 : 2;

	if (share > left)
		share = left;
	return share < credits ? share : credits;
}

static int open_window(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;
	uint32_t window = window_for(re);
	uint32_t size = 1;

	if (window < 2)
		return -ENOBUFS;
	while (size < window)
		size *= 2;
	conn->entries = calloc(size, sizeof(*conn->entries));
	if (!conn->entries)
		return -ENOMEM;
	conn->entries_mask = size - 1;
	conn->window = window;
	conn->due_enough = window / 4 > 0 ? window / 4 : 1;
	conn->open_enough = (int32_t)(window - conn->due_enough);
	re->windows += window;
	re->post_wanted += (int32_t)window;
	(void)rdma_post_receives(re, 1);
	uint32_t free = re->ungranted > 0 ? (uint32_t)re->ungranted : 0;
	conn->in_granted = window < free ? window : free;
	conn->open = (int32_t)conn->in_granted;
	re->ungranted -= conn->open;
	if (rdma_due(conn) >= conn->due_enough)
		rdma_owe(conn);
	return conn->in_granted > 0 ? 0 : -ENOMEM;
}

/* Entries that are queued do not count any more, either. */
static void close_window(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;

	if (conn->window == 0)
		return;
	re->ungranted += conn->open;
	re->windows -= conn->window;
	re->post_wanted -= (int32_t)(conn->window - rdma_queued(conn));
	conn->window = 0;
	conn->open = 0;
}

static int open_slots(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;
	const struct rdma_region *region;

	conn->depth = re->device.depth;
	conn->slots = calloc(conn->depth, sizeof(*conn->slots));
	conn->slot_memory = heap_alloc(rdma_sched(re)->heap, conn->depth * RDMA_SLOT_BYTES);
	if (!conn->slots || !conn->slot_memory)
		return -ENOMEM;
	int err = rdma_region_of(re, conn->slot_memory, &region);
	if (!err)
		conn->slot_key = region->mr->lkey;
	return err;
}

/* A key of its own for each, and no byte more. */
static int open_word(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;
	uint32_t i = re->next_index;

	if (re->num_conns == re->conns_max)
		return -ENOBUFS;
	while (re->by_index[i])
		i = (i + 1) % re->conns_max;
	struct rdma_word *word = &re->device.words[i];
	atomic_init(&word->granted, 0);
	atomic_init(&word->done, 0);
	conn->word_region = re->verbs->reg_mr(re->device.pd, word, 8,
					      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	if (!conn->word_region)
		return rdma_errno();
	conn->index = i;
	re->by_index[i] = conn;
	re->next_index = (i + 1) % re->conns_max;
	re->num_conns++;
	return 0;
}

/* With as much in-line data as the device takes: how much that is, only trying tells. */
static int open_qp(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;
	struct rdma_device *device = &re->device;

	for (;;) {
		struct ibv_qp_init_attr attr = {
			.send_cq = device->cq,
			.recv_cq = device->cq,
			.srq = device->srq,
			.cap = {.max_send_wr = conn->depth,
				.max_send_sge = device->sge_max,
				.max_inline_data = device->inline_max},
			.qp_type = IBV_QPT_RC,
		};
		if (re->verbs->create_qp(conn->id, device->pd, &attr) == 0) {
			conn->inline_max = attr.cap.max_inline_data;
			break;
		}
		if (errno == ENOMEM || device->inline_max == 0)
			return rdma_errno();
		device->inline_max /= 2;
	}
	conn->qp = conn->id->qp;
	conn->qp_num = conn->qp->qp_num;
	uint32_t place = conn->qp->qp_num & re->by_qp_mask;
	conn->hash_next = re->by_qp[place];
	re->by_qp[place] = conn;
	return 0;
}

int rdma_conn_equip(struct rdma_conn *conn)
{
	int err = open_word(conn);

	if (!err)
		err = open_slots(conn);
	if (!err)
		err = open_window(conn);
	if (!err)
		err = open_qp(conn);
	return err;
}

void rdma_conn_hello(const struct rdma_conn *conn, struct rdma_hello *hello)
{
	const struct config *config = &rdma_sched(conn->engine)->config;

	*hello = (struct rdma_hello){
		.magic = htole32(RDMA_MAGIC),
		.version = htole16(RDMA_VERSION),
		.credits = htole32(conn->in_granted),
		.buffer_bytes = htole32((uint32_t)rdma_sched(conn->engine)->heap->frame_bytes),
		.message_max = htole32((uint32_t)config->rdma_message_max_bytes),
		.word_rkey = htole32(conn->word_region->rkey),
		.word_address = htole64((uintptr_t)conn->word_region->addr),
	};
}

int rdma_conn_meet(struct rdma_conn *conn, const struct rdma_hello *hello)
{
	uint32_t credits = le32toh(hello->credits);
	uint32_t buffer = le32toh(hello->buffer_bytes);

	if (le32toh(hello->magic) != RDMA_MAGIC || le16toh(hello->version) != RDMA_VERSION)
		return -EPROTO;
	if (credits == 0 || credits > RDMA_CREDITS_MAX || buffer < RDMA_BUFFER_MIN ||
	    buffer > RDMA_BUFFER_MAX || hello->message_max == 0)
		return -EPROTO;
	conn->granted = credits;
	conn->peer_payload_max = buffer - (uint32_t)sizeof(struct rdma_header);
	conn->peer_message_max = le32toh(hello->message_max);
	conn->word_rkey = le32toh(hello->word_rkey);
	conn->word_address = le64toh(hello->word_address);
	return 0;
}

/* ---- the end ---- */

/* Has the device no work of it any more?  A reset takes away what there is. */
static bool is_idle(struct rdma_conn *conn)
{
	struct ibv_qp_attr reset = {.qp_state = IBV_QPS_RESET};

	return conn->completed == conn->posted ||
	       conn->engine->verbs->modify_qp(conn->qp, &reset, IBV_QP_STATE) == 0;
}

static void close_qp(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;

	if (!conn->qp)
		return;
	struct rdma_conn **at = &re->by_qp[conn->qp->qp_num & re->by_qp_mask];
	while (*at != conn)
		at = &(*at)->hash_next;
	*at = conn->hash_next;
	/* Soft-RoCE would wait for windows that are bound to it, 50 s (Linux 6.1).  One that a
	 * device is still to bind goes behind it. */
	if (conn->offers && is_idle(conn))
		rdma_offers_shut(conn);
	re->verbs->destroy_qp(conn->id);
	conn->qp = NULL;
}

static void close_word(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;

	if (!conn->word_region)
		return;
	(void)re->verbs->dereg_mr(conn->word_region);
	conn->word_region = NULL;
	re->by_index[conn->index] = NULL;
	re->num_conns--;
}

/* Everything of the device goes. */
static void retire(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;

	if (conn->state == RDMA_OVER)
		return;
	close_qp(conn);
	rdma_slots_release(conn, conn->posted);
	rdma_offers_drop(conn);
	rdma_entries_cut(conn);
	close_window(conn);
	close_word(conn);
	if (conn->id)
		(void)re->verbs->destroy_id(conn->id);
	conn->id = NULL;
	if (conn->slot_memory)
		(void)heap_free(rdma_sched(re)->heap, conn->slot_memory);
	free(conn->slots);
	conn->slots = NULL;
	conn->slot_memory = NULL;
	timer_cancel(&rdma_sched(re)->timers, &conn->timer);
	list_remove(&conn->waits);
	list_remove(&conn->owes);
	list_remove(&conn->drains);
	rdma_conn_set_state(conn, RDMA_OVER);
}

void rdma_leave_backlog(struct rdma_conn *conn)
{
	if (!conn->listener)
		return;
	list_remove(&conn->in_backlog);
	conn->listener->num_backlog--;
	conn->listener = NULL;
}

static void free_conn(struct rdma_conn *conn)
{
	rdma_leave_backlog(conn);
	if (conn->closing)
		conn->engine->num_lingering--;
	rdma_entries_drop(conn);
	list_remove(&conn->in_engine);
	free(conn->entries);
	free(conn);
}

void rdma_conn_destroy(struct rdma_conn *conn)
{
	retire(conn);
	free_conn(conn);
}

void rdma_conn_release_id(struct rdma_conn *conn)
{
	close_qp(conn);
	conn->id = NULL;
}

/* Its work is back.  The user, or who accepts it, may pop what has come: else it is freed, false.
 */
static bool over(struct rdma_conn *conn)
{
	retire(conn);
	if (!conn->queue && (!conn->listener || !conn->established)) {
		free_conn(conn);
		return false;
	}
	if (conn->queue) {
		rdma_deliver(conn);
		rdma_end_pops(conn);
	}
	return true;
}

void rdma_conn_lost(struct rdma_conn *conn, int err)
{
	if (!conn->error)
		conn->error = err;
	if (conn->connect) {
		rdma_connect_done(conn, err);
		return;
	}
	rdma_fail_pushes(conn, -conn->error);
	if (conn->state != RDMA_OVER && !over(conn))
		return;
	list_remove(&conn->in_engine);
	list_append(&conn->engine->over, &conn->in_engine);
}

void rdma_conns_drain(struct rdma_engine *re)
{
	list_for_each_safe (node, after, &re->draining) {
		struct rdma_conn *conn = container_of(node, struct rdma_conn, drains);
		bool looked = conn->drain_looked;
		conn->drain_looked = true;
		if ((looked && conn->completed == conn->posted) ||
		    rdma_sched(re)->now_ns >= conn->deadline_ns)
			(void)over(conn);
	}
}

void rdma_conn_fail(struct rdma_conn *conn, int err)
{
	struct rdma_engine *re = conn->engine;
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

	if (conn->state == RDMA_DRAINING || conn->state == RDMA_OVER)
		return;
	if (conn->connect) {
		rdma_connect_done(conn, err);
		return;
	}
	if (!conn->error) /* what cannot be undone is no passing shortage */
		conn->error = err == -ENOMEM ? -EIO : err;
	timer_cancel(&rdma_sched(re)->timers, &conn->timer);
	rdma_fail_pushes(conn, -conn->error);
	(void)re->verbs->modify_qp(conn->qp, &attr, IBV_QP_STATE);
	if (rdma_is_up(conn))
		(void)re->verbs->disconnect(conn->id);
	rdma_post_marker(conn);
	list_remove(&conn->waits);
	list_remove(&conn->owes);
	conn->drain_looked = false;
	conn->deadline_ns = rdma_sched(re)->now_ns + RDMA_DRAIN_NS;
	list_append(&re->draining, &conn->drains);
	rdma_conn_set_state(conn, RDMA_DRAINING);
}

void rdma_conn_step(struct rdma_conn *conn)
{
	if (!rdma_is_up(conn))
		return;
	if (conn->end_wanted && !conn->end_sent && op_list_empty(&conn->pushes) &&
	    !rdma_send_end(conn)) {
		rdma_wait_for_word(conn);
		return;
	}
	if (!conn->closing || !conn->end_sent)
		return;
	rdma_wait_for_word(conn);
	if (conn->announced != conn->released)
		return;
	if (conn->completed != conn->posted)
		rdma_signal_tail(conn);
	else
		rdma_conn_fail(conn, -ECANCELED);
}

void rdma_conn_close(struct rdma_conn *conn)
{
	struct sched *sched = rdma_sched(conn->engine);
	struct op *op;

	conn->queue = NULL;
	while ((op = op_list_take(&sched->ops, &conn->pops)))
		op_complete(sched, op, ECANCELED);
	rdma_fail_pushes(conn, ECANCELED);
	if (conn->connect) {
		rdma_connect_done(conn, -ECANCELED);
		return;
	}
	if (conn->state == RDMA_OVER) {
		free_conn(conn);
		return;
	}
	conn->closing = true;
	conn->end_wanted = true;
	conn->engine->num_lingering++;
	if (conn->state == RDMA_OPEN) {
		conn->moved = conn->granted + conn->done;
		conn->deadline_ns = sched->now_ns + RDMA_CLOSED_NS;
		rdma_keep_alive(conn);
	}
	rdma_go_deaf(conn);
	rdma_conn_step(conn);
}
