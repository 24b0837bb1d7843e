/* SPDX-License-Identifier: MIT
 * transport/shm/lend.c - a leaf: it makes system calls.
 */
#include "transport/shm/lend.h"

#include "base/assert.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define NO_LOAN RING_LOANS

/* ---- the region ---- */

/* One of our making: no device has frames in it. */
static bool is_ours(const struct heap *heap)
{
	return heap->region && heap->frame_bytes == 0 && heap_region_fd(heap) >= 0;
}

/* Peers may read it for ever, and nobody but the heap's mapping can write it. */
static int make_region(struct heap *heap, uint32_t units)
{
	int fd = memfd_create("demitasse-heap", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	int err = ftruncate(fd, (off_t)(units * SUPERBLOCK_BYTES)) ? -errno : 0;
	if (!err)
		err = heap_set_region(heap, fd, 0, 0, units);
	if (!err &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL))
		err = -errno;
	close(fd);
	return err;
}

void lend_prepare(struct sched *sched, int *fd_out)
{
	struct heap *heap = sched->heap;
	uint64_t units = (uint64_t)sched->config.shm_lend_bytes / SUPERBLOCK_BYTES;

	*fd_out = -1;
	if (units > heap->units_max / 2)
		units = heap->units_max / 2;
	if (units == 0 || (!is_ours(heap) && (heap->region || heap->frame_bytes)))
		return;
	if (is_ours(heap) || make_region(heap, (uint32_t)units) == 0)
		*fd_out = heap_region_fd(heap);
}

/* ---- lending ---- */

void lend_init(struct channel *channel)
{
	for (uint32_t i = 0; i < RING_LOANS; i++)
		channel->loans[i].next = i + 1;
}

static void loan_end(struct channel *channel, uint32_t i)
{
	struct channel_loan *loan = &channel->loans[i];

	heap_unref_library(channel->sched->heap, loan->ptr);
	channel->lent--;
	channel->lent_bytes -= loan->length;
	loan->ptr = NULL;
	loan->next = channel->loan_free;
	channel->loan_free = i;
}

static void loan_begin(struct channel *channel, const struct iovec *part, struct ring_loan *told)
{
	uint32_t i = channel->loan_free;
	struct channel_loan *loan = &channel->loans[i];

	ASSERT(i < RING_LOANS);
	channel->loan_free = loan->next;
	loan->ptr = part->iov_base;
	loan->length = (uint32_t)part->iov_len;
	heap_ref_library(loan->ptr);
	channel->lent++;
	channel->lent_bytes += loan->length;
	*told = (struct ring_loan){
		.offset = (uint64_t)((const char *)part->iov_base - channel->sched->heap->region),
		.length = loan->length,
		.loan = i,
	};
}

/* Is all of it in the region, in pieces that can be borrowed? */
static bool can_be_lent(const struct channel *channel, const struct op *op,
			const struct iovec *parts)
{
	uint32_t ours = op_ours(op);

	for (uint32_t i = 0; i < op->numsegs; i++) {
		if (!(ours >> i & 1) || parts[i].iov_len < BORROW_MIN_BYTES ||
		    !heap_in_region(channel->sched->heap, parts[i].iov_base))
			return false;
	}
	return true;
}

static bool within_bounds(const struct channel *channel, uint32_t segments, uint64_t bytes)
{
	return channel->lent + segments <= RING_LOANS &&
	       channel->lent_bytes + bytes <= LEND_BYTES_MAX;
}

/* Does the peer have our memory? */
static bool peer_borrows(const struct channel *channel)
{
	/* relaxed: what is lent is told by the ring; pairs with the store in lend_map */
	return channel->lends && channel->peer &&
	       atomic_load_explicit(&channel->peer->borrows, memory_order_relaxed) != 0;
}

uint32_t lend_push(struct channel *channel, struct op *op, uint64_t bytes, struct ring_loan *loans)
{
	struct iovec one;
	const struct iovec *parts = op_vector(op, &one);

	if (bytes < LEND_MIN_BYTES || !peer_borrows(channel) || !can_be_lent(channel, op, parts))
		return 0;
	if (!within_bounds(channel, op->numsegs, bytes)) {
		(void)lend_poll(channel);
		if (!within_bounds(channel, op->numsegs, bytes))
			return 0;
	}
	for (uint32_t i = 0; i < op->numsegs; i++)
		loan_begin(channel, &parts[i], &loans[i]);
	return op->numsegs;
}

/* Returns whether the peer has given something back; what it says may be anything. */
static bool take_return(struct channel *channel)
{
	uint32_t position = channel->returns_in;
	/* acquire: what the peer read of it is read; pairs with the release in give_back */
	uint64_t word = atomic_load_explicit(&channel->mapped->returns[position % RING_LOANS],
					     memory_order_acquire);
	uint32_t i = (uint32_t)word;

	if (word >> 32 != ring_sequence(position))
		return false;
	if (i >= RING_LOANS || !channel->loans[i].ptr) {
		channel_fail(channel, -ECONNRESET);
		return false;
	}
	channel->returns_in++;
	loan_end(channel, i);
	return true;
}

uint32_t lend_poll(struct channel *channel)
{
	uint32_t happened = 0;

	if (channel->borrow)
		borrow_drain(channel->borrow);
	while (channel->lent > 0 && channel_hears(channel) && take_return(channel))
		happened++;
	return happened;
}

void lend_take_back(struct channel *channel)
{
	for (uint32_t i = 0; i < RING_LOANS && channel->lent > 0; i++) {
		if (channel->loans[i].ptr)
			loan_end(channel, i);
	}
}

/* ---- borrowing ---- */

static void give_back(struct channel *channel, uint32_t loan)
{
	uint32_t position = channel->returns_out++;

	/* release: it has been read; pairs with the acquire in take_return */
	atomic_store_explicit(&channel->own->returns[position % RING_LOANS],
			      (uint64_t)ring_sequence(position) << 32 | loan, memory_order_release);
	channel_tell(channel, RING_WANTS_LOANS);
}

/* borrow_terms.released */
static void released(void *context, uint64_t cookie)
{
	struct channel *channel = context;

	if (!channel->taking) /* what was taken in vain is not given back yet */
		give_back(channel, (uint32_t)cookie);
}

void lend_map(struct channel *channel, int heap_fd, uint64_t heap_bytes)
{
	const struct borrow_terms terms = {
		.heap = channel->sched->heap,
		.fd = heap_fd,
		.bytes = heap_bytes,
		.released = released,
		.context = channel,
	};

	if (heap_fd < 0 || channel->sched->config.shm_lend_bytes == 0 ||
	    borrow_map(&terms, &channel->borrow))
		return;
	/* relaxed: it is mapped whenever the peer sees it; pairs with the load in peer_borrows */
	atomic_store_explicit(&channel->own->borrows, 1, memory_order_relaxed);
}

void lend_unmap(struct channel *channel)
{
	if (channel->borrow)
		borrow_end(channel->borrow);
	channel->borrow = NULL;
}

void lend_decline(struct channel *channel, const struct ring_loan *loans, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		give_back(channel, loans[i].loan);
}

/* A copy of one segment, for the application.  0, -ENOMEM, -EPROTO. */
static int take_copy(struct channel *channel, const struct ring_loan *loan, void **ptr_out)
{
	char *copy = heap_alloc(channel->sched->heap, loan->length);

	if (!copy)
		return -ENOMEM;
	if (borrow_copy(channel->borrow, loan->offset, loan->length, copy)) {
		(void)heap_free(channel->sched->heap, copy);
		return -EPROTO;
	}
	*ptr_out = copy;
	return 0;
}

/* One segment, where it is if that can be; *copied: it could not. */
static int take_one(struct channel *channel, const struct ring_loan *loan, void **ptr_out,
		    bool *copied)
{
	const void *ptr;
	int err = channel->private || loan->length < BORROW_MIN_BYTES
			  ? -EEXIST
			  : borrow_take(channel->borrow, loan->offset, loan->length, loan->loan,
					&ptr);

	*copied = err == -EEXIST; /* lent twice at a time: by two messages, or by a liar */
	if (*copied)
		return take_copy(channel, loan, ptr_out);
	*ptr_out = (void *)(uintptr_t)ptr;
	return err ? -EPROTO : 0;
}

static void undo(struct channel *channel, void *const *ptrs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		(void)heap_free_inside(channel->sched->heap, ptrs[i]);
}

/* All segments or none.  Bitmap of those that were copied in *copies. */
static int take_all(struct channel *channel, const struct ring_loan *loans, uint32_t count,
		    void **ptrs, uint32_t *copies)
{
	int err = 0;

	*copies = 0;
	channel->taking = true;
	for (uint32_t i = 0; i < count && !err; i++) {
		bool copied = false;
		err = take_one(channel, &loans[i], &ptrs[i], &copied);
		*copies |= (uint32_t)copied << i;
		if (err)
			undo(channel, ptrs, i);
	}
	channel->taking = false;
	return err;
}

int lend_take(struct channel *channel, const struct ring_loan *loans, uint32_t count, struct op *op)
{
	void *ptrs[OP_SEGMENTS_MAX] = {NULL}; /* count is at least 1 */
	uint32_t copies;

	if (!channel->borrow)
		return -EPROTO;
	int err = take_all(channel, loans, count, ptrs, &copies);
	if (err)
		return err;
	struct iovec *iov = count > 1 ? op_set_segments(&channel->sched->ops, op, count) : NULL;
	for (uint32_t i = 0; i < count; i++) {
		if (iov)
			iov[i] = (struct iovec){.iov_base = ptrs[i], .iov_len = loans[i].length};
		else
			op_set_segment(op, ptrs[i], loans[i].length);
		if (copies >> i & 1)
			give_back(channel, loans[i].loan);
	}
	/* In the same piece, and even: not a datagram's (sched/datagram.h). */
	op->sga_buf = (char *)ptrs[0] + ((uintptr_t)ptrs[0] & 1);
	return 0;
}
