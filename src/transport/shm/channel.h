/* SPDX-License-Identifier: MIT
 * transport/shm/channel.h - one end of a connection through shared memory: two processes, or two
 * instances of one, that pass messages without the kernel.
 *
 * Each end writes one memfd of its own and reads that of its peer, mapped read-only: nobody can
 * write what the other believes to be its own (ring.h has the layout).  A message is a kind, a
 * byte, and up to CHANNEL_MESSAGE_MAX bytes; what is pushed as one array is one message whatever
 * its segments are, and pops as one element.
 *
 * Life.  channel_new makes an end without a peer: pushes go into its ring already, pops wait.
 * channel_connect or channel_accept give it one, once.  channel_close gives it up: it frees itself
 * in the background, after what it still has to send or has lent; none of the owner's functions is
 * called from then on.
 *
 * Operations.  channel_push and channel_pop hold the operation or complete it.  A push is complete
 * when all of it is in the ring (or lent); while the ring is full it waits.  Pops and pushes
 * complete in order.  When the peer dies, pops get what had fully arrived, then ECONNRESET; pushes
 * ECONNRESET at once.  After the peer closed or shut its direction, pops get what had arrived, then
 * ends: one segment, buf NULL, len 0, as often as asked.  Pushes to a peer that closed are EPIPE.
 *
 * The peer is not trusted: what it does wrong ends the connection as its death would.
 *
 * One thread: the instance's.
 */
#pragma once

#include "transport/shm/rendezvous.h"
#include "transport/shm/shm.h"
#include "transport/transport.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define CHANNEL_MESSAGE_MAX \
	((uint64_t)64 << 20)    /* bytes; a longer push is EMSGSIZE, but on a stream */
#define CHANNEL_RAW_MAX   65600 /* bytes of channel_send: a UDP datagram and its source */
#define CHANNEL_HELLO_MAX 64    /* bytes that an owner tells its peer at the start */

/* The byte that every message carries. */
enum channel_kind {
	CHANNEL_DATA,     /* what channel_push sends and channel_pop gets */
	CHANNEL_END,      /* no data comes any more */
	CHANNEL_RAW = 16, /* this and all above are the owner's, by channel_send */
};

struct channel;

/* The message that is next to be taken. */
struct channel_message {
	uint8_t kind;   /* at least CHANNEL_RAW */
	uint32_t bytes; /* 0 to CHANNEL_RAW_MAX */
};

/* What a channel calls of who has it; static const, all required.  Called from the poll turn or
 * from a function of this header; each may close the channel. */
struct channel_owner {
	/* The peer is there, and has told hello (bytes, at most CHANNEL_HELLO_MAX). */
	void (*joined)(struct channel *channel, const void *hello, uint32_t bytes);
	/* A message of the owner's own kinds is next: channel_take takes it.  One that is left
	 * keeps all behind it waiting, and is offered again in the next turn. */
	void (*arrived)(struct channel *channel, const struct channel_message *message);
	/* There is room again after channel_send said -EAGAIN. */
	void (*roomy)(struct channel *channel);
	/* The peer is gone, and what it had sent was taken.  err: 0, it closed; -ECONNRESET; before
	 * joined was called also what it refused us with, or -ETIMEDOUT.  Operations that were
	 * pending have been completed. */
	void (*ended)(struct channel *channel, int err);
};

struct channel_setup {
	const struct channel_owner *owner;
	void *arg;  /* channel_arg */
	int32_t qd; /* for messages to people only */
	/* A stream of bytes: long pushes may pop in several pieces, as each arrives, and a push of
	 * nothing sends nothing. */
	bool stream;
	/* Every pop is a copy of our own: the peer cannot write what was popped. */
	bool private;
};

/* An end without a peer.  0 or -errno (-ENOMEM, -EMFILE). */
int channel_new(struct shm *shm, const struct channel_setup *setup, struct channel **channel_out);

void *channel_arg(const struct channel *channel);

/* Tells a peer that rendezvous_connect found (fd, a connected socket) who we are; joined or ended
 * comes later, within CHANNEL_ANSWER_NS.  fd is the channel's from now on, after an error the
 * caller's.  hello: up to CHANNEL_HELLO_MAX bytes for the peer's joined.  0 or -errno. */
int channel_connect(struct channel *channel, int fd, const void *hello, uint32_t bytes);

/* Takes a visitor (rendezvous.h) for the peer: joined is called before it returns.  0: fd and what
 * came with the visitor are the channel's; or -errno, then they are the caller's. */
int channel_accept(struct channel *channel, struct visitor *visitor, const void *hello,
		   uint32_t bytes);

/* See above.  0: what is wrong is the operation's result. */
int channel_push(struct channel *channel, struct op *op);
int channel_pop(struct channel *channel, struct op *op);

/* Completes a pending operation with ECANCELED, unless it is a push that was begun. */
void channel_cancel(struct channel *channel, struct op *op);

/* A message of a kind of the owner's, at least CHANNEL_RAW, behind all that was pushed: all
 * count parts together (at most CHANNEL_RAW_MAX bytes) or nothing.  0, -EAGAIN: there is no room
 * (or pushes wait for some), -EPIPE, -ECONNRESET. */
int channel_send(struct channel *channel, uint8_t kind, const struct iovec *parts, uint32_t count);

/* Takes the message that arrived was told of; its bytes go to to, which has room for them (NULL:
 * nowhere).  Only in arrived, or while channel_next says that there is one. */
void channel_take(struct channel *channel, void *to);

/* Is a message of the owner's kinds next? */
bool channel_next(struct channel *channel, struct channel_message *message);

/* Ends our direction behind what was pushed: the peer's pops find the end.  Later pushes are EPIPE.
 */
void channel_shut(struct channel *channel);

/* Ends the other direction for us: pops get ends from now on, what arrives is thrown away. */
void channel_deafen(struct channel *channel);

/* Completes pending pops, and pushes that were not begun, with ECANCELED; what was pushed goes on.
 * The channel is gone for the caller. */
void channel_close(struct channel *channel);

/* Ends the connection now: the peer sees ECONNRESET, as if we had died.  Then as channel_close. */
void channel_abort(struct channel *channel);

/* Is a peer there (joined was called, ended was not)? */
bool channel_joined(const struct channel *channel);

/* The pids and ids of the peer, as the kernel knows them. */
const struct ucred *channel_peer(const struct channel *channel);

/* Fills what is pending and held; kind, state and names are the owner's. */
void channel_describe(const struct channel *channel, struct queue_info *info);
