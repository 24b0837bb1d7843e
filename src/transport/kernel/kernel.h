/* SPDX-License-Identifier: MIT
 * transport/kernel/kernel.h - libOS catnap: queues over the kernel's sockets, engine "direct".
 *
 * Direct: the system call itself, non-blocking.  A push is sent in the call; a pop is served when
 * the socket is known to be readable.  Readiness comes from edge-triggered epoll, except for the
 * hot socket: the one whose data came in KERNEL_HOT_STREAK times in a row is taken out of epoll
 * (each arrival costs the kernel a callback there) and tried in every poll turn, until another
 * socket becomes active, a push blocks or the instance goes to sleep.
 *
 * Flags readable and writable mean "not known to be exhausted": set by an edge, cleared by EAGAIN
 * or a short read. Invariant: a socket with a pending operation is hot or watched, unless the flag
 * of that direction is set and it is being served.
 *
 * Memory: received data goes to a spare object and is handed over, or copied if it is small against
 * the spare. A push that blocks holds its heap segments by reference; other memory is copied while
 * the queue's copies stay within send_limit_bytes, else it is read in place when its turn comes.
 */
#pragma once

#include "sched/datagram.h"
#include "transport/transport.h"

#include <netinet/in.h>

#define KERNEL_HOT_STREAK   8 /* more than a burst, so that leaving epoll pays */
#define KERNEL_SPARES       3
#define KERNEL_DATAGRAM_MAX 65536

enum ksock_state {
	KSOCK_FRESH,
	KSOCK_LISTENING,
	KSOCK_CONNECTING,
	KSOCK_CONNECTED,
};

struct ksock {
	struct queue queue;
	struct fd_watch watch; /* its fd is the socket */
	struct kernel_engine *engine;
	uint8_t state; /* enum ksock_state */
	bool stream;
	bool bound;
	bool readable;
	bool writable;
	bool hung_up;    /* the peer's end or an error is to be read: short reads prove nothing */
	bool write_shut; /* demi_shutdown for writing was asked for */
	bool lingers;    /* closed, and a push is under way */
	uint8_t spare;   /* index into the engine's spares: grows and shrinks with what arrives */
	int reset;       /* errno that ended the connection; 0 */
	struct op_list pops;
	struct op_list pushes;
	struct op_list accepts;
	struct op *connect;
	uint64_t push_done; /* bytes of the first push that were taken */
	uint64_t copied_bytes;
	struct list in_engine;
	/* Connected UDP: where every datagram comes from, if that is sure (length 0: it is not). */
	union datagram_source peer;
	socklen_t peer_length;
};

struct kernel_engine {
	struct engine engine;
	struct ksock *hot;
	struct ksock *last; /* whose data came in last */
	uint32_t streak;
	uint32_t num_lingering;
	bool so_linger; /* a socket may have SO_LINGER set */
	struct list lingering;
	char *spares[KERNEL_SPARES];
};

/* What a push that blocks needs beside its operation: op->transport. */
struct kernel_held {
	struct sockaddr_storage to;
	socklen_t to_length;
	uint64_t copied_bytes;
	struct iovec
		iov[OP_SEGMENTS_MAX]; /* what is sent: the application's memory, or copies of it */
	bool copied[OP_SEGMENTS_MAX];
};

static inline struct ksock *ksock_of(struct queue *queue)
{
	return container_of(queue, struct ksock, queue);
}

/* socket.c: what is one system call. */
extern const struct socket_ops kernel_socket_ops;
int ksock_new(struct kernel_engine *engine, int fd, bool stream, struct ksock **out);
void ksock_delete(struct ksock *ks);
void ksock_options(struct ksock *ks);

/* direct.c */
extern const struct queue_ops kernel_queue_ops;
void ksock_event(struct fd_watch *watch, uint32_t events);
/* Makes sure that the socket's readiness is known: it is hot or watched.  0 or -errno. */
int ksock_watch(struct ksock *ks);
/* The same for room to send: it is watched. */
int ksock_watch_output(struct ksock *ks);
/* Serves pending pops while the socket is readable; returns how many. */
uint32_t ksock_serve_pops(struct ksock *ks);
int kernel_accept(struct queue *queue, struct op *op);
int kernel_connect(struct queue *queue, struct op *op, const struct sockaddr *address,
		   socklen_t length);
/* The engine's pointers to the socket are gone. */
void kernel_forget(struct ksock *ks);

/* receive.c: one receive call.  0: op holds the data; -EAGAIN; other -errno: the operation fails
 * with it. */
int kernel_receive(struct ksock *ks, struct op *op);
void kernel_spares_free(struct kernel_engine *engine);

/* send.c: pushes. */
int kernel_push(struct queue *queue, struct op *op, const struct sockaddr *to, socklen_t length);
/* Sends what is pending, as far as the socket takes it; returns operations completed. */
uint32_t kernel_send_pending(struct ksock *ks);
/* Ends all pushes but one under way; true: there is one. */
bool kernel_cut_pushes(struct ksock *ks);
/* Fails all pushes. */
void kernel_fail_pushes(struct ksock *ks, int err);
void kernel_cancel_push(struct ksock *ks, struct op *op);
