/* SPDX-License-Identifier: MIT
 * transport/kernel/receive.c - one receive call, and the object that its data ends in.
 *
 * The engine keeps one spare object of each size that sockets receive into, so an idle connection
 * has no buffer.  What arrives is copied into an object of its own size if it fills at most a
 * quarter of the spare (which stays warm in the cache), else the spare is handed over: so an
 * application that keeps data never holds more than four times its size.  A socket's spare grows
 * when a receive fills it and shrinks when one leaves most of it empty.
 */
#include "transport/kernel/kernel.h"

#include "base/assert.h"
#include "sched/datagram.h"

#include <errno.h>
#include <string.h>

static const uint32_t spare_bytes[KERNEL_SPARES] = {16384, 65536, 262144};

static char *spare_get(struct kernel_engine *engine, uint32_t i)
{
	if (unlikely(!engine->spares[i]))
		engine->spares[i] = heap_alloc(engine->engine.sched->heap, spare_bytes[i]);
	return engine->spares[i];
}

void kernel_spares_free(struct kernel_engine *engine)
{
	for (uint32_t i = 0; i < KERNEL_SPARES; i++) {
		if (engine->spares[i])
			(void)heap_free(engine->engine.sched->heap, engine->spares[i]);
		engine->spares[i] = NULL;
	}
}

/* An object that holds bytes of spare i: the spare itself, or a copy of its size. */
static char *keep(struct kernel_engine *engine, uint32_t i, uint64_t bytes)
{
	char *spare = engine->spares[i];

	if (bytes > spare_bytes[i] / 4) {
		engine->spares[i] = NULL;
		return spare;
	}
	char *object = heap_alloc(engine->engine.sched->heap, bytes);
	if (likely(object))
		memcpy(object, spare, bytes);
	return object;
}

static ssize_t count_call(struct sched *sched, ssize_t n)
{
	sched_count(sched, COUNTER_RECEIVE_CALLS, 1);
	if (n >= 0)
		sched_count(sched, COUNTER_BYTES_IN, (uint64_t)n);
	else if (errno == EAGAIN)
		sched_count(sched, COUNTER_RECEIVE_EMPTY, 1);
	return n;
}

static void adapt(struct ksock *ks, uint64_t bytes)
{
	if (bytes == spare_bytes[ks->spare] && ks->spare + 1 < KERNEL_SPARES)
		ks->spare++;
	else if (ks->spare > 0 && bytes < spare_bytes[ks->spare - 1] / 4)
		ks->spare--;
}

static int receive_stream(struct ksock *ks, struct op *op)
{
	struct sched *sched = ks->queue.sched;
	uint32_t i = ks->spare;
	char *spare = spare_get(ks->engine, i);

	if (unlikely(!spare))
		return -ENOMEM;
	ssize_t n = count_call(sched, recv(ks->watch.fd, spare, spare_bytes[i], 0));
	if (n < 0)
		return -errno;
	if (n == 0 && ks->reset) /* the kernel told it once only, maybe to a push */
		return -ks->reset;
	if (n == 0) { /* the end, for this pop and all later ones */
		op_set_segment(op, NULL, 0);
		return 0;
	}
	char *object = keep(ks->engine, i, (uint64_t)n);
	if (unlikely(!object)) {
		/* The bytes are out of the kernel: rather than lose them, hand the large spare
		 * over. */
		object = spare;
		ks->engine->spares[i] = NULL;
	}
	if ((uint64_t)n < spare_bytes[i] && !ks->hung_up)
		ks->readable = false;
	adapt(ks, (uint64_t)n);
	op->sga_buf = object;
	op_set_segment(op, object, (uint32_t)n);
	return 0;
}

/* One datagram and its source.  A connected socket has one source: the kernel need not write it. */
static inline ssize_t receive_from(struct ksock *ks, struct datagram *datagram)
{
	datagram->source_length = sizeof(datagram->source);
	if (ks->peer_length == 0)
		return recvfrom(ks->watch.fd, datagram->data, KERNEL_DATAGRAM_MAX, 0,
				&datagram->source.any, &datagram->source_length);
	datagram->source_length = ks->peer_length;
	datagram->source = ks->peer;
	return recv(ks->watch.fd, datagram->data, KERNEL_DATAGRAM_MAX, 0);
}

static int receive_datagram(struct ksock *ks, struct op *op)
{
	const uint32_t i = KERNEL_SPARES - 1; /* room for the source and the largest datagram */
	struct sched *sched = ks->queue.sched;
	char *spare = spare_get(ks->engine, i);

	if (unlikely(!spare))
		return -ENOMEM;
	struct datagram *datagram = (struct datagram *)(void *)spare;
	ssize_t n = count_call(sched, receive_from(ks, datagram));
	if (n < 0)
		return -errno;
	/* An empty datagram has a byte too: its segment must point into the object, not behind it.
	 */
	char *object = heap_alloc(sched->heap, sizeof(*datagram) + (uint64_t)(n > 0 ? n : 1));
	if (unlikely(!object)) {
		sched->counters.drops[DROP_DATAGRAM_MEMORY]++;
		return -ENOMEM;
	}
	memcpy(object, spare, sizeof(*datagram) + (uint64_t)n);
	datagram_set(op, object, (uint32_t)n);
	return 0;
}

int kernel_receive(struct ksock *ks, struct op *op)
{
	const int saved_errno = errno;
	int err;

	do {
		err = ks->stream ? receive_stream(ks, op) : receive_datagram(ks, op);
	} while (unlikely(err == -EINTR));
	if (err == -EAGAIN)
		ks->readable = false;
	if (err)
		errno = saved_errno;
	return err;
}
