/* SPDX-License-Identifier: MIT */
#include "api/result.h"

#include "base/assert.h"
#include "sched/datagram.h"

#include <string.h>

static_assert(sizeof(demi_sgaseg_t) == 12, "Demikernel's layout");
static_assert(sizeof(demi_sgarray_t) == 8 + 4 + 12 * DEMI_SGARRAY_MAXSIZE + 16,
	      "Demikernel's layout");
static_assert(sizeof(demi_accept_result_t) == 20, "Demikernel's layout");
static_assert(sizeof(demi_qresult_t) == 24 + sizeof(demi_sgarray_t), "Demikernel's layout");
static_assert(sizeof(struct demi_args) == 20, "Demikernel's layout");
static_assert(DEMI_SGARRAY_MAXSIZE == OP_SEGMENTS_MAX, "an operation carries every array");
static_assert((int)DEMI_OPC_PUSH == (int)OP_PUSH && (int)DEMI_OPC_POP == (int)OP_POP,
	      "codes are passed through");
static_assert((int)DEMI_OPC_ACCEPT == (int)OP_ACCEPT && (int)DEMI_OPC_CONNECT == (int)OP_CONNECT,
	      "codes are passed through");
static_assert((int)DEMI_OPC_TRUNCATE == (int)OP_TRUNCATE, "codes are passed through");
static_assert((int)DEMI_OPC_CLOSE == (int)OP_CLOSE && (int)DEMI_OPC_FAILED == (int)OP_FAILED,
	      "codes are passed through");

/* ---- arrays to operations ---- */

/* What a segment is; HEAP_BAD also for bytes at no address.  An empty one holds nothing, wherever
 * it points. */
static inline enum heap_kind segment_kind(const struct heap *heap, const void *buf, uint32_t len)
{
	if (unlikely(len == 0))
		return HEAP_FOREIGN;
	return unlikely(!buf) ? HEAP_BAD : heap_find(heap, buf, len);
}

static int several_segments(struct sched *sched, struct op *op, const demi_sgarray_t *sga,
			    uint32_t count)
{
	struct iovec *iov = op_set_segments(&sched->ops, op, count);

	for (uint32_t i = 0; i < count; i++) {
		const demi_sgaseg_t segment = sga->sga_segs[i];
		enum heap_kind kind =
			segment_kind(sched->heap, segment.sgaseg_buf, segment.sgaseg_len);
		if (kind == HEAP_BAD)
			return EINVAL;
		op->len |= (uint32_t)(kind == HEAP_OURS) << i;
		iov[i] = (struct iovec){.iov_base = segment.sgaseg_buf,
					.iov_len = segment.sgaseg_len};
	}
	return 0;
}

int result_from_array(struct sched *sched, struct op *op, const demi_sgarray_t *sga)
{
	uint32_t count = sga->sga_numsegs;

	op->sga_buf = sga->sga_buf;
	if (unlikely(count != 1))
		return count == 0 || count > DEMI_SGARRAY_MAXSIZE
			       ? EINVAL
			       : several_segments(sched, op, sga, count);
	const demi_sgaseg_t segment = sga->sga_segs[0];
	enum heap_kind kind = segment_kind(sched->heap, segment.sgaseg_buf, segment.sgaseg_len);
	if (unlikely(kind == HEAP_BAD))
		return EINVAL;
	op->flags = kind == HEAP_OURS ? OP_OURS : 0;
	op_set_segment(op, segment.sgaseg_buf, segment.sgaseg_len);
	return 0;
}

/* ---- operations to results ---- */

/* A popped datagram tells its source, as far as an IPv4 address holds it; all others zeros. */
static inline void write_source(const struct op *op, demi_sgarray_t *sga)
{
	int is_datagram;
	const struct datagram *datagram = datagram_object(op->sga_buf, &is_datagram);

	memset(&sga->sga_addr, 0, sizeof(sga->sga_addr));
	if (unlikely(is_datagram) && op->opcode == OP_POP &&
	    datagram->source.any.sa_family == AF_INET)
		memcpy(&sga->sga_addr, &datagram->source.in, sizeof(sga->sga_addr));
}

static inline void write_array(const struct op *op, demi_sgarray_t *sga)
{
	sga->sga_buf = op->sga_buf;
	sga->sga_numsegs = op->numsegs;
	write_source(op, sga);
	if (likely(op->numsegs == 1)) {
		sga->sga_segs[0].sgaseg_buf = op->buf;
		sga->sga_segs[0].sgaseg_len = op->len;
		return;
	}
	for (uint32_t i = 0; i < op->numsegs; i++) {
		sga->sga_segs[i].sgaseg_buf = op->segments->iov[i].iov_base;
		sga->sga_segs[i].sgaseg_len = (uint32_t)op->segments->iov[i].iov_len;
	}
}

void result_to_array(const struct op *op, demi_sgarray_t *sga)
{
	write_array(op, sga);
}

static void write_accept(struct demi *demi, const struct op *op, demi_accept_result_t *ares)
{
	struct queue *queue = queue_find(&demi->queues, (int32_t)op->len);
	struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
	socklen_t length = sizeof(peer);

	ares->qd = (int32_t)op->len;
	memset(&ares->addr, 0, sizeof(ares->addr));
	/* A peer that has gone already has no name any more; and the descriptor may have been
	 * closed, by a guess, and be something else's by now. */
	if (queue && queue->ops->socket &&
	    queue->ops->socket->peer_name(queue, (struct sockaddr *)&peer, &length) == 0 &&
	    peer.ss_family == AF_INET)
		memcpy(&ares->addr, &peer, sizeof(ares->addr));
}

void result_read(struct demi *demi, const struct op *op, demi_qresult_t *qr)
{
	result_read_head(op, qr);
	if (unlikely(op->ret && !(op->flags & OP_VALUE))) {
		qr->qr_opcode = DEMI_OPC_FAILED;
		memset(&qr->qr_value, 0, sizeof(qr->qr_value));
	} else if (likely(op->opcode <= OP_POP)) {
		write_array(op, &qr->qr_value.sga);
	} else if (op->opcode == OP_ACCEPT) {
		write_accept(demi, op, &qr->qr_value.ares);
	} else {
		memset(&qr->qr_value, 0, sizeof(qr->qr_value));
	}
}
