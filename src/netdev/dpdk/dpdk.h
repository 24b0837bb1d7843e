/* SPDX-License-Identifier: MIT
 * netdev/dpdk/dpdk.h - libOS catnip: frames to and from a port of DPDK, a network card or one of
 * its virtual devices, by a queue pair that is polled.
 *
 * Memory.  The heap's region is DPDK's own memory, which virtual devices can share with their
 * peers.  An object of its frames is
 *
 *	struct frame | room: headroom, data | struct rte_mbuf
 *
 * so that a frame becomes an mbuf and an mbuf a frame without a look-up.  DPDK's mempool of frames
 * takes from the heap and gives back to it, but for DPDK_SPARES that stay at hand (pool.c).  What
 * DPDK has is under a library reference each: buffers to receive into, frames that are being sent,
 * and payload, which has a small mbuf of its own chained to that of its frame.
 *
 * Invariant: an mbuf of a frame is written anew whenever it leaves the heap's hands, so what an
 * application wrote behind received data does not matter.
 */
#pragma once

#include "netdev/netdev.h"

#include <pthread.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <signal.h>
#include <stdatomic.h>

#define DPDK_ETHERNET 14
#define DPDK_VLAN     4
#define DPDK_SPARES   (2 * NETDEV_BURST)
#define DPDK_RESERVE  (4 * NETDEV_BURST)
/* From the start of a frame's object to the buffer that DPDK knows, whose data begins behind its
 * headroom: where frame_init puts it. (That is in the object of the frame before; nobody writes
 * there: a driver's header in front of received data is 16 bytes at most.) */
#define DPDK_BUFFER ((int64_t)sizeof(struct frame) + FRAME_PAD - RTE_PKTMBUF_HEADROOM)

struct dpdk {
	struct netdev dev;
	struct fd_watch watch; /* of the receive interrupt; fd -1: the driver has none */
	uint16_t port;
	uint16_t queue;          /* of the port: the pair that is ours */
	bool probed;             /* the port is there, and ours to close */
	bool started;            /* and moves frames */
	uint32_t port_mtu;       /* as the port is told */
	uint32_t joined_max;     /* NETDEV_LRO: bytes of a packet made of several */
	bool scatters;           /* ... over several buffers */
	uint16_t segments_max;   /* that the driver takes of a frame to be sent */
	_Atomic uintptr_t owner; /* the thread that may touch the heap */
	struct rte_mempool *frames;
	struct rte_mempool *payload;
	_Atomic(struct rte_mbuf *) strays; /* by next; other threads put, the owner takes all */
	int64_t *iova_of_unit;    /* of the region: from address to what the device says; NULL: the
				     same */
	void *spare[DPDK_SPARES]; /* buffers of the mempool of frames */
	uint32_t spares;
	struct rte_mbuf *stash[NETDEV_BURST]; /* received when the interrupt was armed */
	uint32_t stashed;
	bool was_up;         /* a peer has been there */
	uint64_t retry_ns;   /* frames wait for room: when to try again */
	_Atomic bool *gate;  /* true: no bursts now (gate.c, queues.c); NULL: they may always be */
	_Atomic bool inside; /* in a burst */
	struct dpdk *gate_next; /* gate.lock */
	struct queues *queues; /* of a port with a queue pair for each instance; NULL: it has one */
	uint32_t place;        /* there */
	uint32_t reserved;
	void *reserve[DPDK_RESERVE]; /* with queues: buffers for a start by another thread */
	char name[64];
};

/* gate.c: of the process. */
struct gate {
	pthread_mutex_t lock;
	struct dpdk *members;
	int fd;            /* has the EAL's thread call our callback; -1: not yet */
	_Atomic bool open; /* the EAL's thread may do anything */
};

extern struct gate gate;

/* gate.c: from now on the EAL's thread stays away while x is in a burst; no longer.  0 or -errno.
 */
int gate_join(struct dpdk *x);
void gate_part(struct dpdk *x);

/* gate.c: before the first gate_await.  0 or -errno. */
int gate_prepare(void);
/* gate.c: x's gate was closed: waits until x is not in a burst. */
void gate_await(struct dpdk *x);

/* gate.c: not now; if who closed the gate waits for our core, it gets it. */
void gate_yield(struct dpdk *x);

/* A burst begins, unless it must not: then it is over already. */
static inline bool gate_enter(struct dpdk *x)
{
	if (!x->gate)
		return true;
	atomic_store_explicit(&x->inside, true, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	if (likely(!atomic_load_explicit(x->gate, memory_order_acquire)))
		return true;
	gate_yield(x);
	return false;
}

static inline void gate_leave(struct dpdk *x)
{
	if (x->gate)
		atomic_store_explicit(&x->inside, false, memory_order_release);
}

static inline struct dpdk *dpdk_of(struct netdev *dev)
{
	return container_of(dev, struct dpdk, dev);
}

/* open.c */
int dpdk_open(struct sched *sched, struct netdev **dev_out);
void dpdk_close(struct netdev *dev);

/* port.c: before it is configured.  The largest packet that x takes; 0 or -EINVAL, told. */
int port_choose_mtu(struct dpdk *x, const struct rte_eth_dev_info *info);
/* Bytes of a buffer: a packet, and what the driver insists on. */
uint32_t port_choose_room(const struct dpdk *x, const struct rte_eth_dev_info *info);
/* What the port offers and x uses. */
void port_choose_offloads(struct dpdk *x, const struct rte_eth_dev_info *info);
/* How it is to be configured then, but for its queues. */
void port_configuration(const struct dpdk *x, struct rte_eth_conf *conf);
/* Sets up x's queue pair of the configured port.  0 or -errno. */
int port_set_up_queue(struct dpdk *x);
/* Configures and starts a port of one queue pair, with its receive interrupt if the driver has it.
 * 0 or -errno. */
int port_start(struct dpdk *x, const struct rte_eth_dev_info *info);
/* x->dev.mac, and what else it is to receive.  0 or -errno. */
int port_settle_address(struct dpdk *x);

/* socket.c: sees to it that a device of shared memory can make its socket.  0 or -errno, told. */
int socket_prepare(const struct dpdk *x, const char *device);

/* queues.c: x, which has brought the port up, makes x->queues if the port can have several and the
 * configuration asks for it.  0 or -ENOMEM. */
int queues_make(struct dpdk *x, const struct rte_eth_dev_info *info);
/* x has x->queues, its memory, and what open.c settles of the port.  0 or -errno: then it has no
 * x->queues any more. */
int queues_come(struct dpdk *x, uint32_t place);
/* True: it was the last, the port is its to close. */
bool queues_go(struct dpdk *x);
/* One that is there. */
struct dpdk *queues_any(const struct queues *q);
bool queues_receives(struct netdev *dev, const struct netdev_flow *flow);

/* A device of DPDK's own, without hardware. */
static inline bool is_virtual(const char *device)
{
	return strncmp(device, "net_", 4) == 0;
}

/* eal.c: starts DPDK's environment, once a process, with memory for an instance that wants bytes;
 * device is what the configuration names.  0 or -errno, told to the log. */
int eal_start(struct sched *sched, const char *device, uint64_t bytes);

/* Around calls in which a driver may write to a peer that has gone: no SIGPIPE then. */
struct eal_quiet {
	sigset_t before;
	bool pending;
};

void eal_quiet_begin(struct eal_quiet *quiet);
void eal_quiet_end(const struct eal_quiet *quiet);

/* The last line that DPDK said, for a message of ours; "": nothing. */
const char *eal_said(void);

/* pool.c: a region of bytes for the heap of x's instance, whose frames have room for room bytes
 * behind Ethernet's padding, and the two mempools.  0 or -errno, told. */
int dpdk_memory_open(struct dpdk *x, uint64_t bytes, uint32_t room);
void dpdk_memory_close(struct dpdk *x);

/* frame->held of what DPDK has.  The application can't reach it: it was given data behind it. */
#define DPDK_HELD 0x4450

/* pool.c: the mbuf of an object of frames, made anew: nothing is in it. */
struct rte_mbuf *dpdk_mbuf_of(const struct dpdk *x, struct frame *frame);
/* An mbuf for payload of the region, whose library reference it gets; NULL: memory is short. */
struct rte_mbuf *dpdk_payload(struct dpdk *x, const struct iovec *payload);
void dpdk_payload_free(struct dpdk *x, struct rte_mbuf *mbuf);

static inline struct frame *dpdk_frame_of(const struct heap *heap, struct rte_mbuf *mbuf)
{
	return (struct frame *)((char *)mbuf - heap->frame_room);
}

/* The calling thread runs the instance from now on. */
static inline void dpdk_own(struct dpdk *x)
{
	atomic_store_explicit(&x->owner, (uintptr_t)pthread_self(), memory_order_relaxed);
}

/* pool.c: sets buffers aside, or again.  0 or -ENOMEM. */
int dpdk_fill_reserve(struct dpdk *x);

/* pool.c: what a driver gave back on another thread, its own, goes to the heap. */
void dpdk_take_strays(struct dpdk *x);

static inline bool dpdk_has_strays(struct dpdk *x)
{
	return atomic_load_explicit(&x->strays, memory_order_relaxed) != NULL;
}

/* burst.c */
uint32_t dpdk_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max);
uint32_t dpdk_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count);
int dpdk_arm(struct netdev *dev);
void dpdk_disarm(struct netdev *dev);
