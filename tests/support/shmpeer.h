/* tests/support/shmpeer.h: a peer of a channel that is the test itself: memory of its own, in which
 * it can write anything at any time. */
#pragma once

#include "support/shmrig.h"
#include "transport/shm/greeting.h"

#include <stdbool.h>
#include <stdint.h>

#define SHMPEER_HEAP_BYTES ((uint64_t)1 << 21)

struct shmpeer {
	int fd; /* of the socket; -1: closed */
	int memory_fd;
	int heap_fd;
	struct ring_shared *own;          /* what the channel reads */
	const struct ring_shared *theirs; /* what it writes */
	char *heap;                       /* what it may lend: SHMPEER_HEAP_BYTES */
	uint32_t position;                /* of its next message */
	uint32_t returns;                 /* position of its next return */
};

/* shmpeer_open: its memory, good to be mapped.  shmpeer_greeting: a good greeting. */
void shmpeer_open(struct shmpeer *peer);
struct greeting shmpeer_greeting(void);

/* shmpeer_join: becomes the peer of a channel that has none. */
void shmpeer_join(struct shmpeer *peer, struct shmrig *end);

/* shmpeer_leave: the socket is closed.  shmpeer_close: and all memory is given back. */
void shmpeer_leave(struct shmpeer *peer);
void shmpeer_close(struct shmpeer *peer);

/* shmpeer_send: a message with these bytes in its lines (at most RING_INLINE_MAX), and whatever its
 * head says. */
void shmpeer_send(struct shmpeer *peer, uint8_t kind, uint8_t form, uint32_t bytes,
		  const void *lines);

/* shmpeer_return: gives a loan back. */
void shmpeer_return(struct shmpeer *peer, uint32_t loan);

/* shmpeer_wake: wakes the channel, as it does who sleeps. */
void shmpeer_wake(const struct shmpeer *peer);
