/* SPDX-License-Identifier: MIT
 * netdev/afxdp/afxdp.h - frames to and from a network interface by an XDP socket: the interface
 * stays the kernel's, and its program steers to us what is ours.
 *
 * Memory (UMEM).  The heap's region, in chunks of 4096 bytes: a frame is one of them.  What the
 * kernel has - chunks to receive into, and what is being sent - is under a library reference of the
 * heap each, and written down, so that all of it can be let go of when the socket is closed: frames
 * by chunk in held; pieces of objects, which share chunks, in a list by age, of which the kernel
 * mostly gives back the oldest.  Invariant: the sum of held and the number of pieces that are not 0
 * is filling + sending.
 *
 * Receiving needs no copy: the kernel writes into a frame's chunk behind struct frame, and the
 * stack gets the chunk as the frame.  Nor does sending what fits a frame (frame_alloc_tx makes it
 * in a chunk).  What is longer, or is not in the region, is copied into chunks; payload is referred
 * to only if `refer` says so.
 *
 * Instances that share a queue share memory of its own instead (pool.h), and copy.
 */
#pragma once

#include "netdev/afxdp/grant.h"
#include "netdev/afxdp/mail.h"
#include "netdev/afxdp/pool.h"
#include "netdev/afxdp/ring.h"
#include "netdev/interface.h"
#include "netdev/netdev.h"

#define AFXDP_HEADROOM   (sizeof(struct frame) + FRAME_PAD) /* of a chunk, ours */
#define AFXDP_KERNEL     256 /* behind it, the program's: XDP_PACKET_HEADROOM, linux/bpf.h */
#define AFXDP_ROOM       (GRANT_FRAME_BYTES - AFXDP_HEADROOM - AFXDP_KERNEL)
#define AFXDP_ETHERNET   14
#define AFXDP_VLAN       4
#define AFXDP_FILL_MIN   256 /* chunks to receive into that the kernel has at least */
#define AFXDP_PIECES_MAX 17  /* buffers of a frame: MAX_SKB_FRAGS of Linux by default */

struct afxdp {
	struct netdev dev;
	struct fd_watch watch; /* its fd is the socket, which belongs to us */
	struct grant *grant;
	struct fd_watch giver; /* renew.c: whether the helper has gone */
	struct timer renewal;  /* then: when to ask again */
	struct mailbox *mail;  /* of instances that share the interface; NULL */
	struct fd_watch mail_watch;
	struct pool *pool; /* of instances that share the queue; NULL */
	uint32_t spread;   /* over so many of them */
	struct ring fill;
	struct ring completion;
	struct ring rx;
	struct ring tx;
	char *region;         /* the heap's */
	uint32_t filling;     /* chunks that the kernel has to receive into */
	uint32_t fill_target; /* how many it shall have: AFXDP_FILL_MIN to fill_max */
	uint32_t fill_max;
	uint32_t calm;         /* small bursts in a row */
	uint32_t sending;      /* descriptors in TX, or sent and not completed */
	bool refer;            /* payload goes out from where it is */
	uint32_t untold;       /* frames written to TX since the last call */
	bool kick;             /* what is in TX waits for a call that succeeds */
	uint64_t kick_ns;      /* when to call again */
	uint64_t objects_from; /* offset in the region behind the frames */
	uint8_t *held;         /* by chunk of frames */
	uint64_t *pieces;      /* offsets of objects, oldest first; 0: given back */
	uint32_t pieces_mask;
	uint32_t pieces_begin;
	uint32_t pieces_end;
	struct frame *partial; /* of several buffers, the last of which has not come yet */
	uint64_t lost;         /* of the kernel's statistics, counted already */
	struct interface interface;
	struct netdev_ports ports[GRANT_PORTS_MAX]; /* dev.ports */
};

static inline struct afxdp *afxdp_of(struct netdev *dev)
{
	return container_of(dev, struct afxdp, dev);
}

/* open.c */
int afxdp_open(struct sched *sched, struct netdev **dev_out);

/* afxdp.c: the device alone; with a mailbox beside its ring; and with a pool too. */
extern const struct netdev_ops afxdp_ops;
extern const struct netdev_ops afxdp_sharing_ops;
extern const struct netdev_ops afxdp_pooled_ops;
void afxdp_close(struct netdev *dev);
void afxdp_dropped(struct netdev *dev, const struct frame *frame, enum drop reason);
int afxdp_filter(struct netdev *dev, uint16_t port, const struct sock_filter *program,
		 uint32_t count);

/* renew.c: goes on with another helper when the one that gave the socket has gone. */
int afxdp_watch_giver(struct afxdp *x);
void afxdp_forget_giver(struct afxdp *x);

/* request.c: what the configuration asks for; *pooled: with a pool, which is the caller's to join.
 * 0, -EINVAL or -EOPNOTSUPP, told. */
int afxdp_request(struct sched *sched, struct grant_request *request, bool *pooled);

/* memory.c: gives the heap its region of bytes.  0 or -errno, told; *fd_out: its memfd, the
 * caller's.
 */
int afxdp_memory_open(struct sched *sched, uint64_t bytes, bool objects, int *fd_out);

/* memory.c: the kernel gets, or gives back, the chunk or piece of an object at an offset of the
 * region, under a library reference. */
static inline void afxdp_give(struct afxdp *x, uint64_t offset)
{
	if (likely(offset < x->objects_from)) {
		uint8_t *held = &x->held[offset / GRANT_FRAME_BYTES];
		ASSERT(*held < UINT8_MAX);
		(*held)++;
	} else {
		ASSERT(x->pieces_end - x->pieces_begin <= x->pieces_mask);
		x->pieces[x->pieces_end++ & x->pieces_mask] = offset;
	}
}

bool afxdp_take_piece(struct afxdp *x, uint64_t offset);

/* Returns whether the kernel had it: what it writes into its rings is not to be relied on. */
static inline bool afxdp_take(struct afxdp *x, uint64_t offset)
{
	if (unlikely(offset >= x->objects_from))
		return afxdp_take_piece(x, offset);
	uint8_t *held = &x->held[offset / GRANT_FRAME_BYTES];
	if (unlikely(*held == 0))
		return false;
	(*held)--;
	return true;
}

/* memory.c: room to write all that down.  0 or -ENOMEM. */
int afxdp_ledger_open(struct afxdp *x, uint32_t ring);
/* The socket is closed: what the kernel had is ours again. */
void afxdp_ledger_close(struct afxdp *x);

/* receive.c */
uint32_t afxdp_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max);
/* Gives the kernel chunks to receive into. */
void afxdp_refill(struct afxdp *x);

/* transmit.c */
uint32_t afxdp_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count);
/* Calls the kernel if what is in TX waits for that. */
void afxdp_kick(struct afxdp *x);
/* Takes back what was sent. */
void afxdp_reap(struct afxdp *x);
/* So many frames were written to TX; busy: there was no room for more. */
void afxdp_given(struct afxdp *x, uint32_t count, bool busy);
void afxdp_doorbell(struct netdev *dev);

/* pooled.c */
uint32_t afxdp_pooled_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max);
uint32_t afxdp_pooled_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count);
bool afxdp_pooled_receives(struct netdev *dev, const struct netdev_flow *flow);
