/* SPDX-License-Identifier: MIT
 * transport/shm/receive.c - messages out of the ring.
 *
 * A message of data stays where it is until a pop asks for it; so a peer that is faster than the
 * application fills its own ring and waits.
 */
#include "transport/shm/lend.h"

#include "base/assert.h"

#define BATCH 128 /* messages of a turn: a peer that never stops keeps us from nothing else */

/* ---- lines ---- */

static void ring_publish(struct channel *channel)
{
	channel->in_published = channel->in_position;
	/* release: what was in the lines has been read; pairs with the acquire in ring_learn */
	atomic_store_explicit(&channel->own->consumed, channel->in_position, memory_order_release);
	channel_tell(channel, RING_WANTS_ROOM);
}

/* The message at the front was taken.  The writer is told at once if that frees more than lines. */
static inline void pass_over(struct channel *channel, uint64_t head)
{
	channel->in_position += ring_lines(ring_bytes(head));
	if (channel->in_position - channel->in_published >= RING_LINES / 4 ||
	    ring_form(head) == RING_AREA)
		ring_publish(channel);
}

/* Copies what is in the lines of the message at the front. */
static void read_lines(const struct channel *channel, char *to, uint32_t bytes)
{
	uint32_t position = channel->in_position;

	while (bytes > 0) {
		uint32_t some = bytes < RING_LINE_BYTES ? bytes : RING_LINE_BYTES;
		memcpy(to, channel->peer->lines[position++ % RING_LINES].bytes, some);
		to += some;
		bytes -= some;
	}
}

/* Where the payload of a message is, copied and checked. */
static bool read_piece(const struct channel *channel, uint64_t head, struct ring_piece *piece)
{
	if (ring_bytes(head) != sizeof(*piece))
		return false;
	read_lines(channel, (char *)piece, sizeof(*piece));
	return piece->length > 0 && piece->length <= RING_AREA_BYTES &&
	       piece->offset <= RING_AREA_BYTES - piece->length && piece->left >= piece->length;
}

/* ---- pops ---- */

static void pop_done(struct channel *channel, struct op *op, uint64_t bytes)
{
	sched_count(channel->sched, COUNTER_BYTES_IN, bytes);
	op_list_remove(&channel->sched->ops, &channel->pops, op);
	op_complete(channel->sched, op, 0);
}

static void pop_object(struct channel *channel, struct op *op, char *object, uint32_t bytes)
{
	op->sga_buf = object;
	op_set_segment(op, object, bytes);
	pop_done(channel, op, bytes);
}

static void pop_end(struct channel *channel, struct op *op)
{
	op->sga_buf = NULL;
	op_set_segment(op, NULL, 0);
	op_complete(channel->sched, op, 0);
}

/* The pop fails, what it would have got stays. */
static bool pop_short_of_memory(struct channel *channel, struct op *op)
{
	op_list_remove(&channel->sched->ops, &channel->pops, op);
	op_complete(channel->sched, op, ENOMEM);
	return true;
}

static bool broken(struct channel *channel)
{
	channel_fail(channel, -ECONNRESET);
	return true;
}

/* ---- the forms of a message; each returns whether something happened ---- */

static bool take_inline(struct channel *channel, uint64_t head, struct op *op)
{
	uint32_t bytes = ring_bytes(head);

	if (unlikely(bytes > RING_INLINE_MAX))
		return broken(channel);
	/* An element of no bytes has an address, the end of a stream has none. */
	char *object = heap_alloc(channel->sched->heap, bytes + (bytes == 0));
	if (unlikely(!object))
		return pop_short_of_memory(channel, op);
	if (likely(bytes <= RING_LINE_BYTES))
		memcpy(object, channel->peer->lines[channel->in_position % RING_LINES].bytes,
		       bytes);
	else
		read_lines(channel, object, bytes);
	pass_over(channel, head);
	pop_object(channel, op, object, bytes);
	return true;
}

/* A piece that is an element by itself. */
static bool take_whole(struct channel *channel, uint64_t head, const struct ring_piece *piece,
		       struct op *op)
{
	char *object = heap_alloc(channel->sched->heap, piece->length);

	if (!object)
		return pop_short_of_memory(channel, op);
	memcpy(object, channel->peer->area + piece->offset, piece->length);
	pass_over(channel, head);
	pop_object(channel, op, object, piece->length);
	return true;
}

/* The first piece of several: room for all. */
static bool begin_assembly(struct channel *channel, uint64_t bytes)
{
	channel->assembly = heap_alloc(channel->sched->heap, bytes);
	channel->assembly_bytes = bytes;
	channel->assembly_done = 0;
	return channel->assembly != NULL;
}

static bool take_part(struct channel *channel, uint64_t head, const struct ring_piece *piece,
		      struct op *op)
{
	if (piece->left > CHANNEL_MESSAGE_MAX ||
	    (channel->assembly && piece->left != channel->assembly_bytes - channel->assembly_done))
		return broken(channel);
	if (!channel->assembly && !begin_assembly(channel, piece->left))
		return pop_short_of_memory(channel, op);
	memcpy(channel->assembly + channel->assembly_done, channel->peer->area + piece->offset,
	       piece->length);
	channel->assembly_done += piece->length;
	pass_over(channel, head);
	if (channel->assembly_done < channel->assembly_bytes)
		return true;
	char *object = channel->assembly;
	channel->assembly = NULL;
	pop_object(channel, op, object, (uint32_t)channel->assembly_bytes);
	return true;
}

static bool take_area(struct channel *channel, uint64_t head, struct op *op)
{
	struct ring_piece piece;

	if (!read_piece(channel, head, &piece))
		return broken(channel);
	if (channel->stream || (!channel->assembly && piece.left == piece.length))
		return take_whole(channel, head, &piece, op);
	return take_part(channel, head, &piece, op);
}

/* What a message says that was lent.  Its number of segments, 0: that cannot be. */
static uint32_t read_loans(const struct channel *channel, uint64_t head, struct ring_loan *loans,
			   uint64_t *total)
{
	uint32_t bytes = ring_bytes(head);
	uint32_t count = bytes / (uint32_t)sizeof(*loans);

	if (bytes % sizeof(*loans) != 0 || count == 0 || count > OP_SEGMENTS_MAX)
		return 0;
	read_lines(channel, (char *)loans, bytes);
	*total = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (loans[i].length == 0)
			return 0;
		*total += loans[i].length;
	}
	return *total <= CHANNEL_MESSAGE_MAX ? count : 0;
}

static bool take_loan(struct channel *channel, uint64_t head, struct op *op)
{
	struct ring_loan loans[OP_SEGMENTS_MAX];
	uint64_t total;
	uint32_t count = read_loans(channel, head, loans, &total);

	if (count == 0)
		return broken(channel);
	int err = lend_take(channel, loans, count, op);
	if (err == -ENOMEM)
		return pop_short_of_memory(channel, op);
	if (err)
		return broken(channel);
	pass_over(channel, head);
	pop_done(channel, op, total);
	return true;
}

static bool take_data(struct channel *channel, uint64_t head)
{
	struct op *op = op_list_first(&channel->sched->ops, &channel->pops);

	if (!op)
		return false;
	if (likely(ring_form(head) == RING_INLINE && !channel->assembly))
		return take_inline(channel, head, op);
	if (ring_form(head) == RING_AREA)
		return take_area(channel, head, op);
	if (ring_form(head) == RING_LOAN && !channel->assembly)
		return take_loan(channel, head, op);
	return broken(channel);
}

/* ---- everything else ---- */

static bool take_end(struct channel *channel, uint64_t head)
{
	if (ring_form(head) != RING_INLINE || ring_bytes(head) != 0 || channel->assembly)
		return broken(channel);
	pass_over(channel, head);
	channel->in_ended = true;
	receive_drop(channel, 0);
	/* relaxed: it comes before the end, which was acquired; pairs with the store in close_down
	 */
	if (atomic_load_explicit(&channel->peer->closed, memory_order_relaxed))
		channel_left(channel);
	return true;
}

/* The message of the owner's at the front, as it will be taken whatever the peer writes meanwhile;
 * false: it is none that can be. */
static bool read_offer(struct channel *channel, uint64_t head)
{
	struct channel_offer *offer = &channel->offer;
	struct ring_piece piece = {.length = 0};

	offer->head = head;
	offer->position = channel->in_position;
	offer->message.kind = ring_kind(head);
	offer->message.bytes = ring_bytes(head);
	if (ring_form(head) == RING_INLINE)
		return offer->message.bytes <= RING_INLINE_MAX;
	if (ring_form(head) != RING_AREA || !read_piece(channel, head, &piece))
		return false;
	offer->message.bytes = piece.length;
	offer->offset = piece.offset;
	return piece.length <= CHANNEL_RAW_MAX && piece.left == piece.length;
}

static bool offer(struct channel *channel, uint64_t head)
{
	uint32_t position = channel->in_position;

	if (!read_offer(channel, head))
		return broken(channel);
	channel->owner->arrived(channel, &channel->offer.message);
	return channel->in_position != position;
}

static bool throw_away(struct channel *channel, uint64_t head)
{
	struct ring_loan loans[OP_SEGMENTS_MAX] = {{.length = 0}};
	uint64_t total;
	uint32_t count = 0;

	if (ring_form(head) == RING_LOAN)
		count = read_loans(channel, head, loans, &total);
	else if (ring_form(head) > RING_LOAN || ring_bytes(head) > RING_INLINE_MAX)
		return broken(channel);
	if (ring_form(head) == RING_LOAN && count == 0)
		return broken(channel);
	lend_decline(channel, loans, count);
	pass_over(channel, head);
	return true;
}

/* Takes the message at the front, if that can be.  Returns whether something happened. */
static inline bool take(struct channel *channel, uint64_t head)
{
	uint8_t kind = ring_kind(head);

	if (unlikely(channel->deaf && kind == CHANNEL_DATA))
		return throw_away(channel, head);
	if (likely(kind == CHANNEL_DATA && !channel->in_ended))
		return take_data(channel, head);
	if (kind == CHANNEL_END && !channel->in_ended)
		return take_end(channel, head);
	if (kind >= CHANNEL_RAW)
		return channel->closing ? throw_away(channel, head) : offer(channel, head);
	return broken(channel);
}

uint32_t receive_poll(struct channel *channel)
{
	uint32_t happened = 0;
	uint64_t head;

	while (happened < BATCH && (head = ring_next(channel)) && take(channel, head))
		happened++;
	return happened;
}

/* ---- what owners call ---- */

int channel_pop(struct channel *channel, struct op *op)
{
	struct sched *sched = channel->sched;

	if (unlikely(channel->in_ended || channel->deaf)) {
		pop_end(channel, op);
		return 0;
	}
	if (unlikely(channel->state == CHANNEL_OVER)) {
		if (channel->gone)
			op_complete(sched, op, -channel->gone);
		else
			pop_end(channel, op);
		return 0;
	}
	op_list_append(&sched->ops, &channel->pops, op);
	uint64_t head;
	while ((head = ring_next(channel)) && ring_kind(head) == CHANNEL_DATA &&
	       take_data(channel, head))
		;
	if (unlikely(channel->cold))
		shm_warm(channel);
	return 0;
}

bool channel_next(struct channel *channel, struct channel_message *message)
{
	uint64_t head = ring_next(channel);

	if (!head || ring_kind(head) < CHANNEL_RAW)
		return false;
	if (!read_offer(channel, head))
		return !broken(channel);
	*message = channel->offer.message;
	return true;
}

void channel_take(struct channel *channel, void *to)
{
	const struct channel_offer *offer = &channel->offer;

	ASSERT(channel->peer && offer->position == channel->in_position && offer->head);
	if (to && ring_form(offer->head) == RING_INLINE)
		read_lines(channel, to, offer->message.bytes);
	else if (to)
		memcpy(to, channel->peer->area + offer->offset, offer->message.bytes);
	pass_over(channel, offer->head);
	channel->offer.head = 0;
}

void receive_drop(struct channel *channel, int err)
{
	struct op *op;

	while ((op = op_list_take(&channel->sched->ops, &channel->pops))) {
		if (err)
			op_complete(channel->sched, op, err);
		else
			pop_end(channel, op);
	}
}
