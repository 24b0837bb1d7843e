/* SPDX-License-Identifier: MIT
 * transport/rdma/check.c - asserts the invariants of rdma.h; for tests.
 */
#include "transport/rdma/rdma.h"

#include "base/assert.h"

struct sums {
	uint32_t open;
	uint32_t queued;
	uint32_t windows;
	uint32_t conns;
	uint32_t lingering;
};

static void check_entries(const struct rdma_conn *conn)
{
	uint64_t read_bytes = 0;

	ASSERT(conn->asked - conn->head <= rdma_queued(conn));
	for (uint32_t i = conn->head; i != conn->tail; i++) {
		const struct rdma_entry *entry = &conn->entries[i & conn->entries_mask];
		ASSERT(entry->frame || entry->object);
		ASSERT(entry->kind == RDMA_DATA || entry->kind == RDMA_ANNOUNCE);
		ASSERT(!entry->ready || !entry->frame || !entry->object);
		if (entry->kind == RDMA_ANNOUNCE && entry->object)
			read_bytes += entry->bytes;
	}
	ASSERT(conn->read_bytes == read_bytes);
}

static void check_sends(const struct rdma_conn *conn)
{
	ASSERT((int32_t)(conn->sent - conn->granted) <= 0);
	ASSERT(conn->posted - conn->completed <= conn->depth);
	ASSERT((int32_t)(conn->posted - conn->signalled) >= 0);
	ASSERT(conn->announced - conn->released <= RDMA_OFFERS);
	ASSERT(conn->done - conn->released <= conn->announced - conn->released);
	ASSERT(conn->invalidated - conn->released <= conn->done - conn->released);
}

static void check_conn(const struct rdma_conn *conn, struct sums *sums)
{
	check_sends(conn);
	check_entries(conn);
	ASSERT(op_list_empty(&conn->pops) || rdma_queued(conn) > 0 ||
	       (!conn->in_ended && !conn->deaf));
	if (conn->window > 0) {
		ASSERT(conn->open >= 0);
		ASSERT((uint32_t)conn->open + rdma_queued(conn) <= conn->window);
		sums->queued += rdma_queued(conn);
	}
	ASSERT(conn->state != RDMA_OVER || (!conn->id && !conn->qp && conn->window == 0));
	ASSERT(conn->state == RDMA_DRAINING || list_empty(&conn->drains));
	ASSERT(!conn->queue || conn->queue->conn == conn);
	ASSERT(!conn->closing || !conn->queue);
	sums->open += (uint32_t)conn->open;
	sums->windows += conn->window;
	sums->conns += conn->word_region != NULL;
	sums->lingering += conn->closing;
}

static void check_listener(const struct rdma_listener *listener)
{
	uint32_t n = 0;

	list_for_each (node, &listener->backlog) {
		const struct rdma_conn *conn = container_of(node, struct rdma_conn, in_backlog);
		ASSERT(conn->listener == listener && !conn->queue);
		n++;
	}
	ASSERT(n == listener->num_backlog);
}

static void check_receives(const struct rdma_engine *re)
{
	uint32_t frames = 0;

	for (uint32_t i = 0; i < re->device.receives_max; i++)
		frames += re->receives[i] != NULL;
	for (uint32_t i = 0; i < re->num_free; i++)
		ASSERT((re->receives[re->free_receives[i]] == NULL) == (i < re->num_bare));
	ASSERT(re->num_bare <= re->num_free);
	ASSERT(frames + re->num_bare == re->device.receives_max);
}

void rdma_check(const struct rdma_engine *re)
{
	struct sums sums = {.open = 0};

	list_for_each (node, &re->conns)
		check_conn(container_of(node, struct rdma_conn, in_engine), &sums);
	list_for_each (node, &re->listeners)
		check_listener(container_of(node, struct rdma_listener, in_engine));
	if (!re->device.context)
		return;
	check_receives(re);
	ASSERT(sums.open + (uint32_t)re->ungranted == rdma_posted(re));
	ASSERT(re->ungranted >= 0);
	ASSERT(sums.windows == re->windows);
	ASSERT((int32_t)(rdma_posted(re) + sums.queued) + re->post_wanted ==
	       (int32_t)(sums.windows + RDMA_SLACK));
	ASSERT(sums.conns == re->num_conns);
	ASSERT(sums.lingering == re->num_lingering);
}
