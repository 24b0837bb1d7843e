/* SPDX-License-Identifier: MIT
 * transport/shm/channel.c - the life of a channel: made, ended by either side, given up.
 *
 * However a connection ends, it goes through the same two states: CHANNEL_LEFT, when no more can
 * come than what is in the ring, and CHANNEL_OVER, when that was taken.  Only channel_poll goes
 * from one to the other, so none of the owner's functions is called in the middle of a push or pop.
 */
#include "transport/shm/lend.h"

#include "base/assert.h"
#include "sched/hold.h"

#include <stdlib.h>

static void nobody_joined(struct channel *channel, const void *hello, uint32_t bytes)
{
	(void)channel;
	(void)hello;
	(void)bytes;
}

static void nobody_arrived(struct channel *channel, const struct channel_message *message)
{
	(void)message;
	channel_take(channel, NULL);
}

static void nobody_roomy(struct channel *channel)
{
	(void)channel;
}

static void nobody_ended(struct channel *channel, int err)
{
	(void)channel;
	(void)err;
}

/* Who has a channel that was closed. */
static const struct channel_owner nobody = {
	.joined = nobody_joined,
	.arrived = nobody_arrived,
	.roomy = nobody_roomy,
	.ended = nobody_ended,
};

/* ---- making ---- */

int channel_new(struct shm *shm, const struct channel_setup *setup, struct channel **channel_out)
{
	struct channel *channel = calloc(1, sizeof(*channel));

	if (!channel)
		return -ENOMEM;
	channel->shm = shm;
	channel->sched = shm->sched;
	channel->owner = setup->owner;
	channel->arg = setup->arg;
	channel->qd = setup->qd;
	channel->stream = setup->stream;
	channel->private = setup->private;
	join_init(channel);
	lend_init(channel);
	op_list_init(&channel->pops);
	op_list_init(&channel->pushes);
	list_init(&channel->in_dirty);
	int err = join_memory(channel);
	if (err) {
		free(channel);
		return err;
	}
	list_append(&shm->cold, &channel->in_shm);
	channel->cold = true;
	*channel_out = channel;
	return 0;
}

void channel_free(struct channel *channel)
{
	send_drop(channel, ECANCELED, true);
	receive_drop(channel, ECANCELED);
	lend_take_back(channel);
	lend_unmap(channel);
	join_leave(channel);
	if (channel->assembly)
		(void)heap_free(channel->sched->heap, channel->assembly);
	shm_forget(channel);
	free(channel);
}

/* ---- ending ---- */

void channel_fail(struct channel *channel, int err)
{
	channel->peer = NULL;
	channel->broken = true;
	if (channel->state == CHANNEL_OVER)
		return;
	channel->state = CHANNEL_LEFT;
	channel->gone = err;
	channel->refuses = -err;
	shm_warm(channel);
}

void channel_left(struct channel *channel)
{
	if (channel->state >= CHANNEL_LEFT)
		return;
	if (!channel->peer) { /* it never said who it is */
		channel_fail(channel, -ECONNRESET);
		return;
	}
	/* acquire: what it sent before is in the ring; pairs with the release in close_down */
	bool closed = atomic_load_explicit(&channel->peer->closed, memory_order_acquire) != 0;
	channel->state = CHANNEL_LEFT;
	channel->gone = closed ? 0 : -ECONNRESET;
	channel->refuses = closed ? EPIPE : ECONNRESET;
	shm_warm(channel);
}

/* Nothing comes any more, and nothing can be sent. */
static void settle(struct channel *channel)
{
	channel->state = CHANNEL_OVER;
	channel->peer = NULL;
	if (channel->broken) {
		join_hang_up(channel);
		lend_take_back(channel);
	}
	if (channel->assembly)
		(void)heap_free(channel->sched->heap, channel->assembly);
	channel->assembly = NULL;
	receive_drop(channel, channel->in_ended ? 0 : -channel->gone);
	channel->owner->ended(channel, channel->gone);
}

/* What was to be sent is in the ring, all of it: says so, and goes; but not while one of the two
 * has memory of the other. */
static void close_down(struct channel *channel)
{
	if (!channel->down && channel->state < CHANNEL_LEFT) {
		/* release: everything sent comes first; pairs with the loads in channel_left and
		 * take_end */
		atomic_store_explicit(&channel->own->closed, 1, memory_order_release);
		send_end(channel);
	}
	if (!channel->down)
		join_half(channel);
	channel->down = true;
	if (!channel_owes(channel))
		channel_free(channel);
}

void channel_enter(struct channel *channel)
{
	channel->busy++;
}

void channel_leave(struct channel *channel)
{
	channel->busy--;
	if (unlikely(channel->closing) && channel->busy == 0 && op_list_empty(&channel->pushes))
		close_down(channel);
}

/* What is seldom to be done. */
static __attribute__((noinline)) uint32_t attend(struct channel *channel)
{
	uint32_t happened = 0;

	if (channel->refuses && !op_list_empty(&channel->pushes)) {
		send_drop(channel, channel->refuses, true);
		happened++;
	}
	happened += send_poll(channel) + lend_poll(channel);
	if (channel->state == CHANNEL_LEFT && !ring_next(channel)) {
		settle(channel);
		happened++;
	}
	return happened;
}

uint32_t channel_poll(struct channel *channel)
{
	channel_enter(channel);
	uint32_t happened = receive_poll(channel);
	if (unlikely(channel_wants_attention(channel)))
		happened += attend(channel);
	channel_leave(channel);
	return happened;
}

/* ---- what owners call ---- */

void *channel_arg(const struct channel *channel)
{
	return channel->arg;
}

bool channel_joined(const struct channel *channel)
{
	return channel->state == CHANNEL_JOINED;
}

const struct ucred *channel_peer(const struct channel *channel)
{
	return &channel->credentials;
}

static void cancel_push(struct channel *channel, struct op *op)
{
	op_list_remove(&channel->sched->ops, &channel->pushes, op);
	release_segments(channel->sched->heap, op);
	op_complete(channel->sched, op, ECANCELED);
}

void channel_cancel(struct channel *channel, struct op *op)
{
	if (op->opcode == OP_PUSH) {
		if (!(op->flags & OP_STARTED))
			cancel_push(channel, op);
		return;
	}
	op_list_remove(&channel->sched->ops, &channel->pops, op);
	op_complete(channel->sched, op, ECANCELED);
}

void channel_shut(struct channel *channel)
{
	channel->shutting = true;
	if (!channel->refuses)
		send_end(channel);
	if (!channel->out_ended)
		shm_warm(channel);
}

void channel_deafen(struct channel *channel)
{
	channel->deaf = true;
	receive_drop(channel, 0);
	shm_warm(channel);
}

/* Nobody owns it any more: it ends now, unless it still has to send or is in the middle of
 * something. */
static void give_up(struct channel *channel)
{
	channel->owner = &nobody;
	channel->closing = true;
	channel->deaf = true;
	channel->shutting = true;
	shm_warm(channel);
	channel_enter(channel);
	channel_leave(channel);
}

void channel_close(struct channel *channel)
{
	receive_drop(channel, ECANCELED);
	/* What has begun goes on, but where nobody has come yet nobody will. */
	send_drop(channel, ECANCELED, channel->state == CHANNEL_ALONE);
	give_up(channel);
}

void channel_abort(struct channel *channel)
{
	receive_drop(channel, ECANCELED);
	send_drop(channel, ECANCELED, true);
	if (channel->state < CHANNEL_LEFT) {
		channel->state = CHANNEL_LEFT;
		channel->gone = -ECONNRESET;
		channel->refuses = ECONNRESET;
	}
	channel->peer = NULL;
	give_up(channel);
}

void channel_describe(const struct channel *channel, struct queue_info *info)
{
	const struct op_slab *ops = &channel->sched->ops;

	info->pops_pending = op_list_length(ops, &channel->pops);
	info->pushes_pending = op_list_length(ops, &channel->pushes);
	info->held_bytes = channel->area_head - channel->area_tail;
}

static uint32_t loans_out(const struct channel *channel)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < RING_LOANS; i++)
		count += channel->loans[i].ptr != NULL;
	return count;
}

void channel_check(const struct channel *channel)
{
	const struct op *first = op_list_first(&channel->sched->ops, &channel->pushes);

	ASSERT(channel->out_position - channel->out_acked <= RING_LINES);
	ASSERT(channel->area_head - channel->area_tail <= RING_AREA_BYTES);
	ASSERT(channel->passages_head - channel->passages_tail <= RING_LINES);
	ASSERT(channel->in_position - channel->in_published <= RING_LINES);
	ASSERT(channel->push_taken == 0 || (first && (first->flags & OP_STARTED)));
	ASSERT(channel->state != CHANNEL_OVER || op_list_empty(&channel->pops));
	ASSERT(channel->assembly_done <= channel->assembly_bytes);
	ASSERT(loans_out(channel) == channel->lent);
}
