/* SPDX-License-Identifier: MIT
 * transport/rdma/send.c - pushes, work requests and their completions, credits of the peer's.
 *
 * A push is posted within the call, and complete then; it waits only for a credit or for room in
 * the send queue.  Payload that fits into a slot goes with its header from there, in line where the
 * device takes so much; longer payload goes from where it is, behind the header, and is held until
 * the device is done with it.  The device says so for one in RDMA_BATCH, and always for something
 * that is held when it owes no other completion.
 */
#include "transport/rdma/rdma.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>

#define SLOT_PAYLOAD (RDMA_SLOT_BYTES - sizeof(struct rdma_header))

/* ---- headers ---- */

/* Grants what is due, as far as receives are posted for it. */
static inline void grant(struct rdma_conn *conn)
{
	struct rdma_engine *re = conn->engine;
	int32_t n = (int32_t)rdma_due(conn);

	if (unlikely(n > re->ungranted))
		n = re->ungranted > 0 ? re->ungranted : 0;
	conn->in_granted += (uint32_t)n;
	conn->open += n;
	re->ungranted -= n;
	conn->told_done = conn->in_done;
}

static inline void fill_header(struct rdma_conn *conn, struct rdma_header *header, uint8_t kind,
			       uint32_t length)
{
	grant(conn);
	*header = (struct rdma_header){
		.length = htole32(length),
		.kind = kind,
		.granted = htole32(conn->in_granted),
		.done = htole32(conn->in_done),
	};
}

void rdma_header(struct rdma_conn *conn, struct rdma_header *header, uint8_t kind, uint32_t length)
{
	fill_header(conn, header, kind, length);
}

/* ---- work requests ---- */

static inline struct rdma_slot *slot_next(struct rdma_conn *conn, struct ibv_send_wr *wr)
{
	struct rdma_slot *slot = &conn->slots[conn->posted & (conn->depth - 1)];

	slot->kind = RDMA_SLOT_SEND;
	slot->num_refs = 0;
	slot->holds = false;
	wr->wr_id = RDMA_SEND_WR | (uint64_t)conn->index << 32 | conn->posted;
	wr->next = NULL;
	return slot;
}

struct rdma_slot *rdma_slot_next(struct rdma_conn *conn, struct ibv_send_wr *wr)
{
	return slot_next(conn, wr);
}

static inline bool signal_is_due(const struct rdma_conn *conn, const struct rdma_slot *slot)
{
	uint32_t every = conn->depth / 4 < RDMA_BATCH ? conn->depth / 4 : RDMA_BATCH;

	if (unlikely(slot->holds) && (int32_t)(conn->signalled - conn->completed) <= 0)
		return true;
	return conn->posted + 1 - conn->signalled >= every;
}

static inline int post(struct rdma_conn *conn, struct ibv_send_wr *wr, const struct rdma_slot *slot)
{
	struct ibv_send_wr *bad;

	if (signal_is_due(conn, slot))
		wr->send_flags |= IBV_SEND_SIGNALED;
	int err = ibv_post_send(conn->qp, wr, &bad);
	if (unlikely(err))
		return err > 0 ? -err : -EIO;
	conn->posted++;
	if (wr->send_flags & IBV_SEND_SIGNALED)
		conn->signalled = conn->posted;
	if (slot->holds)
		conn->held = conn->posted;
	return 0;
}

int rdma_post(struct rdma_conn *conn, struct ibv_send_wr *wr)
{
	return post(conn, wr, &conn->slots[conn->posted & (conn->depth - 1)]);
}

/* A message that was not posted told nothing. */
static int not_told(struct rdma_conn *conn, int err)
{
	conn->untold = true;
	rdma_owe(conn);
	return err;
}

static inline int post_message(struct rdma_conn *conn, struct ibv_send_wr *wr,
			       const struct rdma_slot *slot)
{
	int err = post(conn, wr, slot);

	if (unlikely(err))
		return not_told(conn, err);
	conn->sent++;
	return 0;
}

int rdma_post_message(struct rdma_conn *conn, struct ibv_send_wr *wr)
{
	return post_message(conn, wr, &conn->slots[conn->posted & (conn->depth - 1)]);
}

/* Header and payload are in the slot: sends them. */
static inline int post_slot(struct rdma_conn *conn, const char *bytes, uint32_t length)
{
	struct ibv_sge sge = {.addr = (uintptr_t)bytes, .length = length, .lkey = conn->slot_key};
	struct ibv_send_wr wr;
	const struct rdma_slot *slot = slot_next(conn, &wr);

	wr.sg_list = &sge;
	wr.num_sge = 1;
	wr.opcode = IBV_WR_SEND;
	wr.send_flags = length <= conn->inline_max ? IBV_SEND_INLINE : 0;
	return post_message(conn, &wr, slot);
}

/* ---- the ways of an element ---- */

static void gather(const struct op *op, char *to)
{
	for (uint32_t i = 0; i < op->numsegs; i++) {
		struct iovec part = op_segment(op, i);
		memcpy(to, part.iov_base, part.iov_len);
		to += part.iov_len;
	}
}

static inline int send_small(struct rdma_conn *conn, const struct op *op, uint32_t bytes)
{
	char *to = rdma_slot_bytes(conn);
	char *payload = to + sizeof(struct rdma_header);

	fill_header(conn, (struct rdma_header *)to, RDMA_DATA, bytes);
	if (likely(op->numsegs == 1))
		memcpy(payload, op->buf, bytes);
	else
		gather(op, payload);
	return post_slot(conn, to, (uint32_t)sizeof(struct rdma_header) + bytes);
}

static struct ibv_sge header_sge(const struct rdma_conn *conn, const char *at)
{
	return (struct ibv_sge){.addr = (uintptr_t)at,
				.length = sizeof(struct rdma_header),
				.lkey = conn->slot_key};
}

static int send_parts(struct rdma_conn *conn, struct ibv_sge *parts, uint32_t num_parts,
		      uint32_t bytes, uint8_t kind)
{
	struct ibv_send_wr wr;
	struct rdma_slot *slot = slot_next(conn, &wr);
	char *header = rdma_slot_bytes(conn);

	fill_header(conn, (struct rdma_header *)header, RDMA_DATA, bytes);
	parts[0] = header_sge(conn, header);
	slot->kind = kind;
	slot->holds = true;
	for (uint32_t i = 1; i <= num_parts; i++)
		slot->refs[slot->num_refs++] =
			(void *)(uintptr_t)parts[i].addr; /* NOLINT(performance-no-int-to-ptr) */
	wr.sg_list = parts;
	wr.num_sge = (int)num_parts + 1;
	wr.opcode = IBV_WR_SEND;
	wr.send_flags = 0;
	return post_message(conn, &wr, slot);
}

/* From where it is.  -ENOTSUP: not possible with this element. */
static int send_in_place(struct rdma_conn *conn, const struct op *op, uint32_t bytes)
{
	struct ibv_sge parts[OP_SEGMENTS_MAX + 1];
	uint32_t n = 0;

	if (foreign_segments(op) || op->numsegs + 1U > conn->engine->device.sge_max)
		return -ENOTSUP;
	for (uint32_t i = 0; i < op->numsegs; i++) {
		struct iovec part = op_segment(op, i);
		const struct rdma_region *region;
		if (part.iov_len == 0)
			continue;
		if (!rdma_own(part.iov_base))
			return -ENOTSUP;
		int err = rdma_region_of(conn->engine, part.iov_base, &region);
		if (err)
			return err;
		parts[++n] = (struct ibv_sge){.addr = (uintptr_t)part.iov_base,
					      .length = (uint32_t)part.iov_len,
					      .lkey = region->mr->lkey};
	}
	for (uint32_t i = 1; i <= n; i++)
		heap_ref_library((const void *)(uintptr_t)parts[i]
					 .addr); /* NOLINT(performance-no-int-to-ptr) */
	int err = send_parts(conn, parts, n, bytes, RDMA_SLOT_SEND);
	for (uint32_t i = 1; err && i <= n; i++)
		heap_unref_library(rdma_sched(conn->engine)->heap,
				   (const void *)(uintptr_t)parts[i]
					   .addr); /* NOLINT(performance-no-int-to-ptr) */
	return err;
}

static int send_copy(struct rdma_conn *conn, const struct op *op, uint32_t bytes)
{
	struct heap *heap = rdma_sched(conn->engine)->heap;
	const struct rdma_region *region;
	struct ibv_sge parts[2];
	char *copy = heap_alloc(heap, bytes);

	if (!copy)
		return -ENOMEM;
	int err = rdma_region_of(conn->engine, copy, &region);
	if (!err) {
		gather(op, copy);
		parts[1] = (struct ibv_sge){
			.addr = (uintptr_t)copy, .length = bytes, .lkey = region->mr->lkey};
		err = send_parts(conn, parts, 1, bytes, RDMA_SLOT_COPY);
	}
	if (err)
		(void)heap_free(heap, copy);
	return err;
}

static int send_large(struct rdma_conn *conn, struct op *op, uint64_t bytes)
{
	if (bytes > conn->peer_message_max)
		return -EMSGSIZE;
	if (bytes > conn->peer_payload_max)
		return rdma_offer(conn, op);
	int err = send_in_place(conn, op, (uint32_t)bytes);
	return err == -ENOTSUP ? send_copy(conn, op, (uint32_t)bytes) : err;
}

/* 0, -EAGAIN: it has to wait, or -errno: nothing has happened. */
static inline int send_op(struct rdma_conn *conn, struct op *op)
{
	uint64_t bytes = op_bytes(op);

	if (unlikely(!rdma_has_credit(conn))) {
		rdma_look_at_word(conn);
		if (!rdma_has_credit(conn))
			return -EAGAIN;
	}
	if (unlikely(rdma_room(conn) == 0))
		return -EAGAIN;
	int err = likely(bytes <= SLOT_PAYLOAD) ? send_small(conn, op, (uint32_t)bytes)
						: send_large(conn, op, bytes);
	if (likely(!err))
		sched_count(rdma_sched(conn->engine), COUNTER_BYTES_OUT, bytes);
	return err;
}

/* ---- pushes ---- */

static int refuse(const struct rdma_conn *conn)
{
	if (conn->error)
		return conn->error;
	return conn->write_shut ? -EPIPE : -ENOTCONN;
}

static int wait_for_turn(struct rdma_conn *conn, struct op *op)
{
	hold_segments(op);
	op_list_append(&rdma_sched(conn->engine)->ops, &conn->pushes, op);
	rdma_wait_for_word(conn);
	return 0;
}

int rdma_push(struct rdma_conn *conn, struct op *op)
{
	if (unlikely(conn->state != RDMA_OPEN || conn->write_shut))
		return refuse(conn);
	if (unlikely(!op_list_empty(&conn->pushes)))
		return wait_for_turn(conn, op);
	int err = send_op(conn, op);
	if (unlikely(err))
		return err == -EAGAIN && conn->state == RDMA_OPEN ? wait_for_turn(conn, op) : err;
	op_complete(rdma_sched(conn->engine), op, 0);
	return 0;
}

static void end_push(struct rdma_conn *conn, struct op *op, int err)
{
	struct sched *sched = rdma_sched(conn->engine);

	op_list_remove(&sched->ops, &conn->pushes, op);
	release_segments(sched->heap, op);
	op_complete(sched, op, err);
}

void rdma_cancel_push(struct rdma_conn *conn, struct op *op)
{
	end_push(conn, op, ECANCELED);
	rdma_conn_step(conn);
}

void rdma_fail_pushes(struct rdma_conn *conn, int err)
{
	const struct op_slab *ops = &rdma_sched(conn->engine)->ops;
	struct op *op;

	while ((op = op_list_first(ops, &conn->pushes)))
		end_push(conn, op, err);
}

void rdma_send_waiting(struct rdma_conn *conn)
{
	const struct op_slab *ops = &rdma_sched(conn->engine)->ops;
	struct op *op;

	while (conn->state == RDMA_OPEN && (op = op_list_first(ops, &conn->pushes))) {
		int err = send_op(conn, op);
		if (err == -EAGAIN)
			break;
		end_push(conn, op, -err);
	}
}

bool rdma_send_end(struct rdma_conn *conn)
{
	char *bytes = rdma_slot_bytes(conn);

	if (!rdma_has_credit(conn))
		rdma_look_at_word(conn);
	if (conn->state != RDMA_OPEN || !rdma_has_credit(conn) || rdma_room(conn) == 0)
		return false;
	fill_header(conn, (struct rdma_header *)bytes, RDMA_END, 0);
	conn->end_sent = post_slot(conn, bytes, sizeof(struct rdma_header)) == 0;
	return conn->end_sent;
}

/* ---- credits ---- */

bool rdma_take_counters(struct rdma_conn *conn, uint32_t granted, uint32_t done)
{
	/* What is older than what is known already counts for nothing. */
	if ((int32_t)(granted - conn->granted) > 0) {
		if (granted - conn->sent > RDMA_CREDITS_MAX)
			goto liar;
		conn->granted = granted;
	}
	if ((int32_t)(done - conn->done) > 0) {
		if (done - conn->done > conn->announced - conn->done)
			goto liar;
		conn->done = done;
	}
	return true;

liar:
	rdma_conn_fail(conn, -ECONNRESET);
	return false;
}

void rdma_look_at_word(struct rdma_conn *conn)
{
	const struct rdma_word *word = &conn->engine->device.words[conn->index];

	/* acquire: nothing is read that the peer wrote, only order is kept; pairs with the device
	 */
	uint32_t granted = le32toh(atomic_load_explicit(&word->granted, memory_order_acquire));
	uint32_t done = le32toh(atomic_load_explicit(&word->done, memory_order_acquire));
	(void)rdma_take_counters(conn, granted, done);
}

bool rdma_write_word(struct rdma_conn *conn, bool always)
{
	uint32_t *value = (uint32_t *)rdma_slot_bytes(conn);
	struct ibv_sge sge = {.addr = (uintptr_t)value, .length = 8, .lkey = conn->slot_key};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE};

	if (conn->state != RDMA_OPEN || rdma_room(conn) == 0)
		return false;
	const struct rdma_slot *slot = slot_next(conn, &wr);
	grant(conn);
	value[0] = htole32(conn->in_granted);
	value[1] = htole32(conn->in_done);
	wr.wr.rdma.remote_addr = conn->word_address;
	wr.wr.rdma.rkey = conn->word_rkey;
	wr.send_flags = conn->inline_max >= 8 ? IBV_SEND_INLINE : 0;
	if (always)
		wr.send_flags |= IBV_SEND_SIGNALED;
	conn->untold = post(conn, &wr, slot) != 0;
	return !conn->untold;
}

void rdma_signal_tail(struct rdma_conn *conn)
{
	if (conn->signalled != conn->posted)
		(void)rdma_write_word(conn, true);
}

void rdma_post_marker(struct rdma_conn *conn)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED};

	if (conn->posted == conn->completed)
		return;
	(void)post(conn, &wr, slot_next(conn, &wr));
}

/* ---- completions ---- */

static void release_slot(struct rdma_conn *conn, const struct rdma_slot *slot)
{
	struct heap *heap = rdma_sched(conn->engine)->heap;

	for (uint32_t i = 0; i < slot->num_refs; i++) {
		if (slot->kind == RDMA_SLOT_COPY)
			(void)heap_free(heap, slot->refs[i]);
		else
			heap_unref_library(heap, slot->refs[i]);
	}
}

void rdma_slots_release(struct rdma_conn *conn, uint32_t position)
{
	while (conn->completed != position) {
		release_slot(conn, &conn->slots[conn->completed & (conn->depth - 1)]);
		conn->completed++;
	}
}

static int error_of(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return -ETIMEDOUT;
	case IBV_WC_LOC_LEN_ERR:
	case IBV_WC_LOC_QP_OP_ERR:
	case IBV_WC_LOC_PROT_ERR:
	case IBV_WC_GENERAL_ERR:
	case IBV_WC_FATAL_ERR:
		return -EIO;
	default: /* the peer's doing, or it is gone */
		return -ECONNRESET;
	}
}

/* There is room again. */
void rdma_conn_more(struct rdma_conn *conn)
{
	if (unlikely(conn->invalidated != conn->done))
		rdma_offers_step(conn);
	if (unlikely(conn->asked != conn->tail))
		rdma_read_step(conn);
	if (!op_list_empty(&conn->pushes))
		rdma_send_waiting(conn);
	if (conn->state == RDMA_OPEN && (int32_t)(conn->held - conn->completed) > 0 &&
	    (int32_t)(conn->signalled - conn->completed) <= 0)
		rdma_signal_tail(conn);
	if (unlikely(conn->end_wanted))
		rdma_conn_step(conn);
}

void rdma_send_completed(struct rdma_engine *re, const struct ibv_wc *wc)
{
	uint32_t index = (uint32_t)(wc->wr_id >> 32) & ~(1U << 31);
	uint32_t position = (uint32_t)wc->wr_id;
	struct rdma_conn *conn = re->by_index[index];

	if (!conn || !conn->qp || conn->qp->qp_num != wc->qp_num ||
	    position - conn->completed >= conn->posted - conn->completed)
		return; /* of one that was given up */
	const struct rdma_slot *slot = &conn->slots[position & (conn->depth - 1)];
	uint8_t kind = slot->kind;
	uint32_t entry = slot->entry;
	if ((int32_t)(conn->held - conn->completed) > 0)
		rdma_slots_release(conn, position + 1);
	else
		conn->completed = position + 1; /* nothing is held */
	if (unlikely(wc->status != IBV_WC_SUCCESS)) {
		rdma_conn_fail(conn, error_of(wc->status));
		return;
	}
	if (unlikely(kind == RDMA_SLOT_READ))
		rdma_read_completed(conn, entry);
	else if (unlikely(kind == RDMA_SLOT_INVALIDATE))
		rdma_offer_release(conn);
	if (conn->state == RDMA_OPEN)
		rdma_conn_more(conn);
}
