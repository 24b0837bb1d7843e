/* SPDX-License-Identifier: MIT
 * transport/rdma/read.c - rendezvous, the side that receives: reads what the peer has announced.
 *
 * What is announced is read ahead of the pops that want it, into objects of the heap, but no more
 * than one message of the largest size, or several that are no longer together.  Reads of one
 * connection complete in order, so a counter says what the peer may take back.
 */
#include "transport/rdma/rdma.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>

static struct rdma_piece piece_at(const char *frame, uint32_t i)
{
	struct rdma_piece piece;

	memcpy(&piece, frame + sizeof(struct rdma_header) + i * sizeof(piece), sizeof(piece));
	piece.address = le64toh(piece.address);
	piece.rkey = le32toh(piece.rkey);
	piece.length = le32toh(piece.length);
	return piece;
}

static uint32_t num_pieces(const char *frame)
{
	struct rdma_header header;

	memcpy(&header, frame, sizeof(header));
	return le32toh(header.length) / (uint32_t)sizeof(struct rdma_piece);
}

static uint64_t message_max(const struct rdma_conn *conn)
{
	return (uint64_t)rdma_sched(conn->engine)->config.rdma_message_max_bytes;
}

uint64_t rdma_announced_bytes(const struct rdma_conn *conn, const char *frame)
{
	uint32_t count = num_pieces(frame);
	uint64_t bytes = 0;

	if (count == 0 || count > OP_SEGMENTS_MAX)
		return 0;
	for (uint32_t i = 0; i < count; i++) {
		struct rdma_piece piece = piece_at(frame, i);
		if (piece.length == 0)
			return 0;
		bytes += piece.length;
	}
	return bytes <= message_max(conn) ? bytes : 0;
}

/* Where the entry is read to; false: not now. */
static bool make_room(struct rdma_conn *conn, struct rdma_entry *entry)
{
	struct sched *sched = rdma_sched(conn->engine);
	const struct rdma_region *region;

	if (conn->deaf)
		return false;
	if (conn->read_bytes > 0 && conn->read_bytes + entry->bytes > message_max(conn))
		return false;
	char *object = heap_alloc(sched->heap, entry->bytes);
	if (object && rdma_region_of(conn->engine, object, &region) == 0) {
		entry->object = object;
		conn->read_bytes += entry->bytes;
		return true;
	}
	if (object)
		(void)heap_free(sched->heap, object);
	/* A pop that waits for it fails; the message stays. */
	struct op *op = conn->asked == conn->head ? op_list_take(&sched->ops, &conn->pops) : NULL;
	if (op)
		op_complete(sched, op, ENOMEM);
	return false;
}

/* Bytes of the object that are behind the pieces before this one. */
static uint64_t place_of(const struct rdma_entry *entry)
{
	uint64_t at = entry->offset;

	for (uint32_t i = 0; i < entry->segment; i++)
		at += piece_at(entry->frame, i).length;
	return at;
}

static int post_read(struct rdma_conn *conn, struct rdma_entry *entry, uint32_t lkey)
{
	struct rdma_piece piece = piece_at(entry->frame, entry->segment);
	struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_READ, .num_sge = 1};
	uint32_t bytes = piece.length - entry->offset;
	uint32_t max = conn->engine->device.read_bytes_max;

	if (bytes > max)
		bytes = max;
	struct ibv_sge sge = {
		.addr = (uintptr_t)entry->object + place_of(entry), .length = bytes, .lkey = lkey};
	struct rdma_slot *slot = rdma_slot_next(conn, &wr);
	wr.sg_list = &sge;
	wr.wr.rdma.remote_addr = piece.address + entry->offset;
	wr.wr.rdma.rkey = piece.rkey;
	bool ends_piece = entry->offset + bytes == piece.length;
	bool last = ends_piece && entry->segment + 1U == num_pieces(entry->frame);
	if (last) {
		slot->kind = RDMA_SLOT_READ;
		slot->entry = conn->asked;
		wr.send_flags = IBV_SEND_SIGNALED;
	}
	int err = rdma_post(conn, &wr);
	if (err)
		return err;
	entry->offset = ends_piece ? 0 : entry->offset + bytes;
	entry->segment += ends_piece;
	entry->asked = last;
	return 0;
}

/* As many reads of an entry as there is room for. */
static void post_reads(struct rdma_conn *conn, struct rdma_entry *entry)
{
	const struct rdma_region *region;
	int err = rdma_region_of(conn->engine, entry->object, &region);

	while (!err && !entry->asked && rdma_room(conn) > 0)
		err = post_read(conn, entry, region->mr->lkey);
	if (err)
		rdma_conn_fail(conn, err);
}

void rdma_read_step(struct rdma_conn *conn)
{
	while (conn->state == RDMA_OPEN && conn->asked != conn->tail) {
		struct rdma_entry *entry = &conn->entries[conn->asked & conn->entries_mask];
		if (entry->kind == RDMA_ANNOUNCE) {
			if (!entry->object && !make_room(conn, entry))
				return;
			post_reads(conn, entry);
			if (!entry->asked)
				return;
		}
		conn->asked++;
	}
}

void rdma_read_completed(struct rdma_conn *conn, uint32_t place)
{
	struct rdma_entry *entry = &conn->entries[place & conn->entries_mask];

	ASSERT(entry->object && entry->asked && !entry->ready);
	entry->ready = true;
	rdma_frame_put(conn->engine, entry->frame);
	entry->frame = NULL;
	conn->in_done++;
	rdma_owe(conn);
	rdma_deliver(conn);
}
