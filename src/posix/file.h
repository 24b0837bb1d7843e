/* SPDX-License-Identifier: MIT
 * posix/file.h - what a descriptor of the layer is.
 *
 * A file belongs to its struct posix and is counted: a call holds it while it runs, so that a close
 * by another coroutine does not pull it away.  Tokens are 0 when nothing is outstanding; at most
 * one operation of a kind is.  Received arrays that nobody has read yet are in rx, oldest first.
 *
 * Invariant: rx_bytes is the sum of what is unread in rx.
 */
#pragma once

#include "posix/posix.h"

#include <demi/types.h>
#include <stdbool.h>
#include <time.h>

enum posix_state { POSIX_FRESH, POSIX_LISTENING, POSIX_CONNECTING, POSIX_CONNECTED };

/* A popped array, or a datagram. */
struct posix_chunk {
	struct posix_chunk *next;
	size_t offset; /* bytes read already */
	size_t length;
	demi_sgarray_t sga;
};

/* What an epoll descriptor watches. */
struct posix_watch {
	struct posix_file *file;
	uint32_t events;
	epoll_data_t data;
	uint32_t rx_seen; /* edge-triggered: what was told */
	uint32_t tx_seen;
};

struct posix_file {
	int refs;
	bool closed;
	bool is_epoll;
	bool nonblock;
	bool cloexec;
	bool stream;
	bool rx_end;     /* the end of the stream was popped, or an error ended it */
	bool rx_shut;    /* SHUT_RD: rx_end need not be the last word */
	bool tx_shut;    /* SHUT_WR */
	bool tx_blocked; /* a write was told EAGAIN */
	bool more;       /* TCP_CORK is on because of MSG_MORE */
	bool dead;       /* an error has ended the connection */
	int fd;
	int qd;
	int domain;
	enum posix_state state;
	int error; /* pending: for the next call, or SO_ERROR */
	demi_qtoken_t pop_qt;
	demi_qtoken_t push_qt;
	demi_qtoken_t accept_qt;
	demi_qtoken_t connect_qt;
	int accepted; /* descriptor of a connection nobody accepted yet; -1: none */
	struct posix_chunk *rx;
	struct posix_chunk *rx_tail;
	size_t rx_bytes;
	uint32_t rx_events; /* counts what happened, for edge-triggered watches */
	uint32_t tx_events;
	uint64_t rx_timeout_ns; /* SO_RCVTIMEO; 0: none */
	uint64_t tx_timeout_ns;
	int num_watches; /* epoll */
	int max_watches;
	struct posix_watch *watches;
};

#define POSIX_FOREVER UINT64_MAX

/* Sets errno; -1. */
int posix_fail(int err);
/* Ends a call: puts the file; 0, or -1 with errno if err is one. */
int posix_done(struct posix_file *file, int err);

/* A descriptor's file, held; NULL with errno EBADF (ENOTSOCK: an epoll descriptor). */
struct posix_file *posix_get(struct posix *px, int fd);
struct posix_file *posix_get_socket(struct posix *px, int fd);
struct posix_file *posix_get_epoll(struct posix *px, int fd);
void posix_put(struct posix_file *file);
/* Enters a file at the lowest free descriptor.  The descriptor, or -1 with EMFILE and the file put.
 */
int posix_enter(struct posix *px, struct posix_file *file);
/* NULL: no memory. */
struct posix_file *posix_file_new(int domain, bool stream, int flags);

/* When a call with a timeout (0: none) must end. */
uint64_t posix_deadline(struct posix *px, uint64_t timeout_ns);

/* Waits for one operation until deadline_ns (0: does not wait).  0 or an errno: ETIMEDOUT, EBUSY.
 */
int posix_wait(struct posix *px, demi_qtoken_t qt, uint64_t deadline_ns, demi_qresult_t *qr);
/* The same, and cancels what has not ended by then: *qt is 0 unless it goes on. */
int posix_wait_or_cancel(struct posix *px, demi_qtoken_t *qt, uint64_t deadline_ns,
			 demi_qresult_t *qr);

/* Does each operation's result to its file. */
void posix_note_pop(struct posix_file *file, const demi_qresult_t *qr);
void posix_note_push(struct posix_file *file, const demi_qresult_t *qr);
void posix_note_accept(struct posix_file *file, const demi_qresult_t *qr);
void posix_note_connect(struct posix_file *file, const demi_qresult_t *qr);
/* The connection has ended with err. */
void posix_note_error(struct posix_file *file, int err);

/* Takes in one unit more.  0: something came, be it the end or an error; EAGAIN, or why there can
 * be none. */
int posix_fill(struct posix *px, struct posix_file *file, uint64_t deadline_ns);
/* Looks how a connect goes; waits for it until deadline_ns. */
void posix_progress(struct posix *px, struct posix_file *file, uint64_t deadline_ns);
/* Has one accepted connection ready.  0 or an errno. */
int posix_take_connection(struct posix *px, struct posix_file *file, uint64_t deadline_ns);
/* Bytes of a stream that can be sent now; 0: a push is outstanding, or the buffer is full. */
size_t posix_send_space(struct posix *px, struct posix_file *file);
/* Is it worth while to write: a third of the send buffer is free? */
bool posix_writable(struct posix *px, struct posix_file *file);
/* Bytes that were pushed and not acknowledged; false: the stack does not tell. */
bool posix_unacknowledged(const struct posix_file *file, size_t *bytes);
/* TCP_NOTSENT_LOWAT: is as much unsent as may be? */
bool posix_enough_unsent(const struct posix_file *file);

/* A pending error, which is then told. */
int posix_take_error(struct posix_file *file);
/* Takes a closed file out of every epoll descriptor. */
void posix_forget_watches(struct posix *px, const struct posix_file *file);
