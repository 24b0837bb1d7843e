/* tests/unit/vhost_liar.h: a storage daemon of the test's own, in a thread: vhost-user-blk over
 * memory, honest or not, with the features that the test wants.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define LIAR_QUEUES 4
#define LIAR_BYTES  (8 << 20)

enum lie {
	LIE_NONE,
	/* in the greeting */
	LIE_OTHER_ANSWER,  /* answers what was not asked */
	LIE_LONG_ANSWER,   /* an answer of 4 GiB */
	LIE_SHORT_ANSWER,  /* of no bytes */
	LIE_NO_ANSWER_BIT, /* an answer that does not say it is one */
	LIE_MUTE,
	LIE_REFUSES,    /* our memory */
	LIE_HANGS_UP,   /* when asked for the configuration */
	LIE_NO_QUEUES,  /* 0 of them */
	LIE_CAPACITY,   /* 2^64 - 1 sectors */
	LIE_EMPTY,      /* no sector */
	LIE_BLOCK_SIZE, /* 3 */
	LIE_OLD,        /* virtio 0.9 */
	LIE_READ_ONLY,
	/* in the used ring */
	LIE_ID_RANGE,    /* an entry that the ring does not have */
	LIE_ID_STRIDE,   /* or that is no head */
	LIE_ID_IDLE,     /* a slot that is not under way */
	LIE_ID_FLUSH,    /* the flush's, which is not either */
	LIE_ID_TWICE,    /* the same one once more */
	LIE_INDEX_AHEAD, /* 1000 entries */
	LIE_INDEX_BACK,  /* one fewer than there were */
	LIE_INDEX_HALF,  /* 32767 entries */
	LIE_SPEAKS,      /* unasked, on the socket */
	LIE_NOISE,       /* anything, all over the used ring */
	LIE_STATUS,      /* a status that is none: an error of that request alone */
	LIE_NO_STATUS,   /* none at all */
	LIE_END,
};

struct liar {
	/* Set by the test before liar_start. */
	enum lie lie;
	uint64_t features; /* without the two that are needed */
	bool acks;
	uint32_t size_max;
	uint32_t seg_max;
	uint32_t queues;
	uint64_t bytes; /* at most LIAR_BYTES */

	char directory[32];
	char socket[64];
	unsigned char *drive;
	int listener;
	int stop[2]; /* a pipe: closed at the end */
	pthread_t thread;
	bool running;
};

/* liar_make: the directory and the drive, all zero. liar_start, liar_stop: listens and serves;
 * no more. liar_end: frees all. 0 or -errno. */
int liar_make(struct liar *liar);
int liar_start(struct liar *liar);
void liar_stop(struct liar *liar);
void liar_end(struct liar *liar);
