/* SPDX-License-Identifier: MIT
 * transport/shm/internal.h - what the files of this directory know of a channel and its instance.
 *
 * Memory: a channel belongs to struct shm, in one of its lists, from channel_new until
 * channel_free.
 *
 * Invariants, walked by channel_check: out_position - out_acked <= RING_LINES; area_head -
 * area_tail <= RING_AREA_BYTES; pushes is empty or there was no room for its first; push_taken is 0
 * unless the first of pushes has OP_STARTED; lent == loans in use; in_ended or gone: no pop is
 * pending.
 */
#pragma once

#include "mem/borrow.h"
#include "transport/shm/channel.h"
#include "transport/shm/ring.h"

#include <errno.h>
#include <string.h>

enum channel_state {
	CHANNEL_ALONE,    /* no peer yet */
	CHANNEL_GREETING, /* it was told who we are, and has not answered */
	CHANNEL_JOINED,
	CHANNEL_LEFT, /* the peer is gone; what it had sent may still be in the ring */
	CHANNEL_OVER, /* and nothing is */
};

/* Payload that the peer may read where it is. */
struct channel_loan {
	const void *ptr; /* a library reference; NULL: not lent, then next */
	uint32_t length;
	uint32_t next;
};

/* Lines and area that a message in the area took, given back when it was read. */
struct channel_passage {
	uint32_t position; /* of the line behind it */
	uint64_t area_end;
};

/* The message that the owner was told of: header words are not read twice. */
struct channel_offer {
	uint64_t head; /* 0: none */
	uint32_t position;
	uint32_t offset; /* in the area */
	struct channel_message message;
};

struct channel {
	struct ring_shared *own;
	const struct ring_shared *peer; /* NULL: none, or no message of it is read any more */
	const struct ring_shared
		*mapped; /* what is told about loans and sleep: see channel_hears */

	uint32_t in_position;  /* line that comes next */
	uint32_t in_published; /* what own->consumed says */
	uint32_t out_position;
	uint32_t out_acked; /* what is known of peer->consumed */

	struct op_list pops;
	struct op_list pushes;
	struct shm *shm;
	struct sched *sched;

	enum channel_state state;
	int gone;       /* -errno of pops when nothing is left; 0: they end */
	int refuses;    /* positive errno of pushes: EPIPE, ECONNRESET; 0 */
	bool stream;    /* channel_setup */
	bool private;   /* channel_setup */
	bool in_ended;  /* the peer's end was taken */
	bool out_ended; /* ours was written */
	bool shutting;  /* channel_shut: it is to be, behind pushes */
	bool deaf;
	bool broken;  /* the peer broke the rules: nothing of it is read any more */
	bool closing; /* channel_close was called */
	bool down;    /* ... and all that it had to send is in the ring */
	bool wants_roomy;
	uint32_t busy; /* in the middle of something: it may not be freed */
	bool cold;
	bool dirty;     /* in shm->dirty */
	bool fenceless; /* the peer's sleep is preceded by a barrier on our core */
	uint32_t idle;  /* polls in which nothing happened */

	/* What was done since the last flush that the peer may be asleep for: RING_ASLEEP (a
	 * message), RING_WANTS_*. */
	uint32_t news;
	uint32_t kicked; /* the sleep that it was woken from */
	uint32_t sleeps; /* ours, RING_SLEEP_STEP each */

	uint64_t push_taken; /* bytes of the first push that are in the ring */
	uint64_t area_head;  /* bytes of the area ever given out, padding included */
	uint64_t area_tail;  /* and read */
	uint32_t passages_head;
	uint32_t passages_tail;

	/* A long message of which pieces have come. */
	struct channel_offer offer;
	char *assembly;
	uint64_t assembly_bytes;
	uint64_t assembly_done;

	/* By reference. */
	struct borrow *borrow; /* the peer's heap; NULL: payload comes by copy */
	bool lends;            /* the peer was given our heap */
	bool taking;           /* in the middle of lend_take */
	uint32_t lent;
	uint64_t lent_bytes;
	uint32_t loan_free;
	uint32_t returns_in;  /* position in peer->returns */
	uint32_t returns_out; /* position in own->returns */

	const struct channel_owner *owner;
	void *arg;
	int32_t qd;
	int memory_fd;
	struct fd_watch socket;
	struct timer patience; /* for its answer */
	struct ucred credentials;
	struct list in_shm;
	struct list in_dirty;

	struct channel_passage passages[RING_LINES];
	struct channel_loan loans[RING_LOANS];
};

struct shm {
	struct poller poller;
	struct sched *sched;
	struct list hot;  /* looked at in every turn */
	struct list cold; /* woken by their sockets */
	struct list dirty;
	struct list *next; /* channel that the poll comes to next; NULL: there is no poll */
	uint32_t num_hot;
	int region_fd;  /* what is lent from, for reading; -1 */
	bool barrier;   /* membarrier(2) works, and this process takes part */
	bool has_group; /* peers of this group are welcome, too */
	gid_t group;
};

/* ---- shm.c ---- */

/* The channel is in the list of those that are looked at in every turn. */
void shm_warm(struct channel *channel);

/* It is in no list any more. */
void shm_forget(struct channel *channel);

/* What was done since the last flush must be told to a peer that sleeps. */
static inline void channel_tell(struct channel *channel, uint32_t news)
{
	channel->news |= news;
	channel->sched->output_pending++;
	if (!channel->dirty) {
		channel->dirty = true;
		list_append(&channel->shm->dirty, &channel->in_dirty);
	}
}

/* ---- channel.c ---- */

/* The peer has broken the rules: nothing of it is read any more.  err: -errno.  The operations are
 * completed, and the owner told, in the next turn. */
void channel_fail(struct channel *channel, int err);

/* The peer is gone, as its socket says. */
void channel_left(struct channel *channel);

/* Around what may call the owner, who may close the channel: after channel_leave it may be gone. */
void channel_enter(struct channel *channel);
void channel_leave(struct channel *channel);

/* Looks after one channel in a turn; it may be gone then.  How much happened. */
uint32_t channel_poll(struct channel *channel);

/* Is there something to be done beside looking whether a message came? */
static inline bool channel_wants_attention(const struct channel *channel)
{
	return !op_list_empty(&channel->pushes) || channel->state == CHANNEL_LEFT ||
	       channel->wants_roomy || channel->closing || channel->lent > 0 ||
	       (channel->borrow && borrow_held(channel->borrow) > 0);
}

/* Can the peer's memory be read, if only for what it says of loans and sleep? */
static inline bool channel_hears(const struct channel *channel)
{
	return channel->mapped && !channel->broken;
}

/* Has it lent or borrowed something, so that the peer must be able to give it back, or to get it?
 */
static inline bool channel_owes(const struct channel *channel)
{
	return channel->socket.fd >= 0 &&
	       (channel->lent > 0 || (channel->borrow && borrow_held(channel->borrow) > 0));
}

/* Frees a channel, whatever it still has. */
void channel_free(struct channel *channel);

/* Asserts the invariants above. */
void channel_check(const struct channel *channel);

/* ---- send.c ---- */

/* Looks how far the peer has got, and takes waiting pushes up.  How much happened. */
uint32_t send_poll(struct channel *channel);

/* Writes the end of the stream if it is due. */
void send_end(struct channel *channel);

/* Completes every push, but for one that was begun if begun is false. */
void send_drop(struct channel *channel, int err, bool begun);

/* ---- receive.c ---- */

/* Takes what has come, as far as somebody wants it.  How much happened. */
uint32_t receive_poll(struct channel *channel);

/* Completes every pop: 0, with the end of the stream; or a positive errno. */
void receive_drop(struct channel *channel, int err);

/* The head of the message that is next, 0: none. */
static inline uint64_t ring_next(const struct channel *channel)
{
	uint32_t position = channel->in_position;

	if (unlikely(!channel->peer))
		return 0;
	/* acquire: pairs with the release in ring_put, send.c */
	uint64_t head = atomic_load_explicit(&channel->peer->lines[position % RING_LINES].head,
					     memory_order_acquire);
	return (uint32_t)head == ring_sequence(position) ? head : 0;
}

/* ---- join.c ---- */

void join_init(struct channel *channel);

/* Our half of the memory.  0 or -errno. */
int join_memory(struct channel *channel);

/* The peer is told that nothing comes any more, and can still wake us. */
void join_half(const struct channel *channel);

/* Wakes the peer. */
void join_wake(const struct channel *channel);

/* The socket is watched: now and then and when the instance sleeps, or in every look at the
 * descriptors.  0 or -errno. */
int join_watch(struct channel *channel, bool lazy);

/* The socket is closed. */
void join_hang_up(struct channel *channel);

/* The socket is closed, all memory unmapped. */
void join_leave(struct channel *channel);
