/* tests/support/shmrig.h: ends of channels, each on a scheduler of its own, joined by a pair of
 * sockets, or on one side by the test itself. */
#pragma once

#include "support/rig.h"
#include "transport/shm/internal.h"

#include <stdbool.h>
#include <stdint.h>

struct shmrig_options {
	uint64_t lend_bytes; /* 0: everything is copied */
	bool private;
	bool stream;
	bool adaptive; /* sleeps at once */
};

/* One end, and what its channel has told. */
struct shmrig {
	struct rig rig;
	struct shm *shm;
	struct channel *channel; /* NULL: closed */
	uint32_t joined;
	uint32_t arrived;
	uint32_t roomy;
	uint32_t ended;
	int err;     /* of ended */
	bool leaves; /* messages of the owner's kinds */
	bool closes; /* the channel, in whatever is called next */
	char hello[CHANNEL_HELLO_MAX];
	uint32_t hello_bytes;
	struct channel_message message; /* the last that was taken */
	char *taken;                    /* its bytes, malloc */
};

/* shmrig_open: an end without a peer. 0 or -errno, then nothing is there. */
int shmrig_open(struct shmrig *end, const struct shmrig_options *options);
/* shmrig_close: closes channel and instance; every operation was spent, every object freed: else an
 * assertion. */
void shmrig_close(struct shmrig *end);

/* shmrig_channel: another channel of this end. */
int shmrig_channel(struct shmrig *end, const struct shmrig_options *options,
		   struct channel **channel_out);

/* shmrig_turn: one poll turn, and a look at the descriptors. */
void shmrig_turn(struct shmrig *end);
/* shmrig_turns: turns of both, in turn. */
void shmrig_turns(struct shmrig *one, struct shmrig *other, uint32_t count);

/* shmrig_join: connects two ends that are on this thread. */
void shmrig_join(struct shmrig *one, struct shmrig *other);

/* shmrig_push: issues a push of count segments; those of length 0 have no address.  shmrig_pop: a
 * pop.  The operation may be complete. */
struct op *shmrig_push(struct shmrig *end, const struct iovec *parts, uint32_t count);
struct op *shmrig_pop(struct shmrig *end);

/* shmrig_ret: the result of an operation that must be complete, which is spent then: 0 or a
 * positive errno. */
int64_t shmrig_ret(struct shmrig *end, struct op *op);

/* shmrig_take: as shmrig_ret of a pop that must have succeeded; *op_out is what it was, its
 * segments the caller's to be freed by shmrig_free. Returns its bytes. */
uint64_t shmrig_take(struct shmrig *end, struct op *op, struct op *op_out,
		     struct iovec parts[OP_SEGMENTS_MAX]);
void shmrig_free(struct shmrig *end, const struct iovec *parts, uint32_t count);

/* shmrig_objects: live objects of the heap. */
uint64_t shmrig_objects(const struct shmrig *end);
