/* SPDX-License-Identifier: MIT
 * transport/shm/send.c - messages into the ring.
 *
 * A message that fits into a few lines is copied into them.  Longer ones are copied into the area,
 * in pieces if they are long, and a line tells where.  The area is given out in a circle and comes
 * back as the lines of its messages are read.
 */
#include "transport/shm/internal.h"

#include "sched/hold.h"
#include "transport/shm/lend.h"

/* ---- room ---- */

/* How far the peer has got.  It may say anything: more than was sent ends the connection. */
static void ring_learn(struct channel *channel)
{
	if (!channel->peer)
		return;
	/* acquire: what the peer read is read; pairs with the release in ring_publish */
	uint32_t consumed = atomic_load_explicit(&channel->peer->consumed, memory_order_acquire);
	uint32_t more = consumed - channel->out_acked;

	if (more == 0)
		return;
	if (unlikely(more > channel->out_position - channel->out_acked)) {
		channel_fail(channel, -ECONNRESET);
		return;
	}
	channel->out_acked = consumed;
	while (channel->passages_tail != channel->passages_head) {
		const struct channel_passage *passage =
			&channel->passages[channel->passages_tail % RING_LINES];
		if ((int32_t)(passage->position - consumed) > 0)
			break;
		channel->area_tail = passage->area_end;
		channel->passages_tail++;
	}
}

static inline uint32_t free_lines(const struct channel *channel)
{
	return RING_LINES - (channel->out_position - channel->out_acked);
}

/* Are there so many lines, beside the spare one? */
static inline bool has_lines(struct channel *channel, uint32_t lines)
{
	if (likely(free_lines(channel) >= lines + RING_SPARE))
		return true;
	ring_learn(channel);
	return free_lines(channel) >= lines + RING_SPARE;
}

/* Where so many bytes in one piece can be in the area: *at and what is skipped before it. */
static bool find_area(const struct channel *channel, uint32_t bytes, uint32_t *at, uint32_t *skip)
{
	*at = (uint32_t)(channel->area_head % RING_AREA_BYTES);
	*skip = 0;
	if (*at + bytes > RING_AREA_BYTES) {
		*skip = RING_AREA_BYTES - *at;
		*at = 0;
	}
	return channel->area_head + *skip + bytes - channel->area_tail <= RING_AREA_BYTES;
}

static bool has_area(struct channel *channel, uint32_t bytes, uint32_t *at, uint32_t *skip)
{
	if (find_area(channel, bytes, at, skip))
		return true;
	ring_learn(channel);
	return find_area(channel, bytes, at, skip);
}

/* ---- writing ---- */

/* Hands the lines of a message over: their bytes are written, all but the first head. */
static inline void ring_put(struct channel *channel, uint8_t kind, enum ring_form form,
			    uint32_t bytes)
{
	uint32_t position = channel->out_position;
	struct ring_line *line = &channel->own->lines[position % RING_LINES];

	/* release: everything of the message comes first; pairs with the acquire in ring_next */
	atomic_store_explicit(&line->head, ring_head(position, kind, form, bytes),
			      memory_order_release);
	channel->out_position = position + ring_lines(bytes);
	channel_tell(channel, RING_ASLEEP);
}

/* Copies into the lines from the next on, at byte at of the message. */
static void fill_lines(struct channel *channel, uint32_t at, const char *from, uint32_t bytes)
{
	while (bytes > 0) {
		uint32_t number = at / RING_LINE_BYTES;
		uint32_t inside = at % RING_LINE_BYTES;
		uint32_t some = RING_LINE_BYTES - inside;
		struct ring_line *line =
			&channel->own->lines[(channel->out_position + number) % RING_LINES];
		if (some > bytes)
			some = bytes;
		if (number > 0 && inside == 0) /* relaxed: ring_put orders it */
			atomic_store_explicit(&line->head, 0, memory_order_relaxed);
		memcpy(line->bytes + inside, from, some);
		at += some;
		from += some;
		bytes -= some;
	}
}

static void put_parts(struct channel *channel, uint8_t kind, const struct iovec *parts,
		      uint32_t count, uint32_t bytes)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < count; i++) {
		fill_lines(channel, at, parts[i].iov_base, (uint32_t)parts[i].iov_len);
		at += (uint32_t)parts[i].iov_len;
	}
	ring_put(channel, kind, RING_INLINE, bytes);
}

/* Copies length bytes from byte at on of all parts together. */
static void gather(char *to, const struct iovec *parts, uint64_t at, uint64_t length)
{
	while (length > 0) {
		if (at >= parts->iov_len) {
			at -= parts->iov_len;
			parts++;
			continue;
		}
		uint64_t some = parts->iov_len - at;
		if (some > length)
			some = length;
		memcpy(to, (const char *)parts->iov_base + at, some);
		to += some;
		at += some;
		length -= some;
	}
}

/* Puts a piece, the bytes from taken on of a message of so many, into the area.  Returns its
 * length, 0: there is no room. */
static uint32_t put_piece(struct channel *channel, uint8_t kind, const struct iovec *parts,
			  uint64_t taken, uint64_t bytes, uint32_t piece_max)
{
	uint64_t left = bytes - taken;
	uint32_t length = left < piece_max ? (uint32_t)left : piece_max;
	struct ring_piece piece = {.length = length, .left = left};
	uint32_t skip;

	if (!has_lines(channel, 1) || !has_area(channel, length, &piece.offset, &skip))
		return 0;
	gather(channel->own->area + piece.offset, parts, taken, length);
	channel->area_head += skip + length;
	fill_lines(channel, 0, (const char *)&piece, sizeof(piece));
	ring_put(channel, kind, RING_AREA, sizeof(piece));
	channel->passages[channel->passages_head++ % RING_LINES] = (struct channel_passage){
		.position = channel->out_position,
		.area_end = channel->area_head,
	};
	return length;
}

/* ---- pushes ---- */

static inline void push_done(struct channel *channel, struct op *op, uint64_t bytes)
{
	sched_count(channel->sched, COUNTER_BYTES_OUT, bytes);
	op_complete(channel->sched, op, 0);
}

static bool put_short(struct channel *channel, struct op *op, uint32_t bytes)
{
	struct iovec one;

	if (!has_lines(channel, ring_lines(bytes)))
		return false;
	put_parts(channel, CHANNEL_DATA, op_vector(op, &one), op->numsegs, bytes);
	return true;
}

/* Lends a push instead of copying it.  false: that cannot be. */
static bool put_loan(struct channel *channel, struct op *op, uint64_t bytes)
{
	struct ring_loan loans[OP_SEGMENTS_MAX];

	if (!has_lines(channel, ring_lines(sizeof(loans))))
		return false;
	uint32_t told = lend_push(channel, op, bytes, loans) * (uint32_t)sizeof(*loans);
	if (told == 0)
		return false;
	fill_lines(channel, 0, (const char *)loans, told);
	ring_put(channel, CHANNEL_DATA, RING_LOAN, told);
	return true;
}

/* Puts as much of a push as there is room for, from channel->push_taken on.  Returns whether it is
 * all in. */
static bool put_long(struct channel *channel, struct op *op, uint64_t bytes)
{
	struct iovec one;
	const struct iovec *parts = op_vector(op, &one);

	if (channel->push_taken == 0 && bytes <= CHANNEL_MESSAGE_MAX &&
	    put_loan(channel, op, bytes))
		return true;
	while (channel->push_taken < bytes) {
		uint32_t length = put_piece(channel, CHANNEL_DATA, parts, channel->push_taken,
					    bytes, RING_PIECE_BYTES);
		if (length == 0)
			return false;
		channel->push_taken += length;
		op->flags |= OP_STARTED;
	}
	channel->push_taken = 0;
	return true;
}

static bool put(struct channel *channel, struct op *op, uint64_t bytes)
{
	if (bytes == 0 && channel->stream)
		return true;
	return bytes <= RING_INLINE_MAX ? put_short(channel, op, (uint32_t)bytes)
					: put_long(channel, op, bytes);
}

static __attribute__((noinline)) int push_slow(struct channel *channel, struct op *op,
					       uint64_t bytes)
{
	bool too_long = bytes > CHANNEL_MESSAGE_MAX && !channel->stream;

	if (channel->refuses || channel->shutting || too_long) {
		op_complete(channel->sched, op,
			    channel->refuses ? channel->refuses
					     : (channel->shutting ? EPIPE : EMSGSIZE));
		return 0;
	}
	if (op_list_empty(&channel->pushes) && put(channel, op, bytes)) {
		push_done(channel, op, bytes);
		return 0;
	}
	if (channel->refuses) { /* since it looked for room */
		channel->push_taken = 0;
		op_complete(channel->sched, op, channel->refuses);
		return 0;
	}
	hold_segments(op);
	op_list_append(&channel->sched->ops, &channel->pushes, op);
	shm_warm(channel);
	return 0;
}

int channel_push(struct channel *channel, struct op *op)
{
	uint64_t bytes = op_bytes(op);

	if (unlikely(bytes > RING_LINE_BYTES || op->numsegs > 1 || channel->refuses ||
		     channel->shutting || bytes == 0 || !op_list_empty(&channel->pushes) ||
		     !has_lines(channel, 1)))
		return push_slow(channel, op, bytes);
	struct ring_line *line = &channel->own->lines[channel->out_position % RING_LINES];
	memcpy(line->bytes, op->buf, bytes);
	ring_put(channel, CHANNEL_DATA, RING_INLINE, (uint32_t)bytes);
	push_done(channel, op, bytes);
	return 0;
}

uint32_t send_poll(struct channel *channel)
{
	struct op_slab *ops = &channel->sched->ops;
	uint32_t happened = 0;
	struct op *op;

	while (!channel->refuses && (op = op_list_first(ops, &channel->pushes))) {
		uint64_t bytes = op_bytes(op);
		uint64_t taken = channel->push_taken;
		bool all = put(channel, op, bytes);
		happened += all || channel->push_taken != taken;
		if (!all)
			break;
		op_list_remove(ops, &channel->pushes, op);
		release_segments(channel->sched->heap, op);
		push_done(channel, op, bytes);
	}
	if (channel->shutting && !channel->out_ended)
		send_end(channel);
	if (channel->wants_roomy && op_list_empty(&channel->pushes) && has_lines(channel, 1)) {
		channel->wants_roomy = false;
		happened++;
		channel->owner->roomy(channel);
	}
	return happened;
}

void send_end(struct channel *channel)
{
	if (channel->out_ended || !op_list_empty(&channel->pushes))
		return;
	channel->out_ended = true;
	ring_put(channel, CHANNEL_END, RING_INLINE, 0); /* there is the spare line */
}

void send_drop(struct channel *channel, int err, bool begun)
{
	struct op_slab *ops = &channel->sched->ops;
	struct op_list kept;
	struct op *op;

	op_list_init(&kept);
	while ((op = op_list_take(ops, &channel->pushes))) {
		if (!begun && (op->flags & OP_STARTED)) {
			op_list_append(ops, &kept, op);
			continue;
		}
		release_segments(channel->sched->heap, op);
		op_complete(channel->sched, op, err);
	}
	channel->pushes = kept;
	if (begun)
		channel->push_taken = 0;
}

/* ---- the owner's own messages ---- */

static uint64_t parts_bytes(const struct iovec *parts, uint32_t count)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < count; i++)
		bytes += parts[i].iov_len;
	return bytes;
}

int channel_send(struct channel *channel, uint8_t kind, const struct iovec *parts, uint32_t count)
{
	uint64_t bytes = parts_bytes(parts, count);

	if (channel->refuses || channel->shutting)
		return channel->refuses ? -channel->refuses : -EPIPE;
	if (bytes > CHANNEL_RAW_MAX)
		return -EMSGSIZE;
	if (op_list_empty(&channel->pushes)) {
		if (bytes <= RING_INLINE_MAX && has_lines(channel, ring_lines((uint32_t)bytes))) {
			put_parts(channel, kind, parts, count, (uint32_t)bytes);
			return 0;
		}
		if (bytes > RING_INLINE_MAX &&
		    put_piece(channel, kind, parts, 0, bytes, CHANNEL_RAW_MAX) > 0)
			return 0;
	}
	if (channel->refuses)
		return -channel->refuses;
	channel->wants_roomy = true;
	shm_warm(channel);
	return -EAGAIN;
}
