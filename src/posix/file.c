/* SPDX-License-Identifier: MIT
 * posix/file.c - descriptors, their life and how they end; waiting; what an operation's result does
 * to its file.
 */
#include "posix/file.h"

#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

int posix_fail(int err)
{
	errno = err;
	return -1;
}

int posix_done(struct posix_file *file, int err)
{
	posix_put(file);
	return err ? posix_fail(err) : 0;
}

/* ---- descriptors ---- */

int posix_init(struct posix *px, int first_fd, int max, uint64_t (*now_ns)(void *arg), void *arg)
{
	*px = (struct posix){.now_ns = now_ns, .arg = arg, .first_fd = first_fd, .num_files = max};
	px->files = calloc((size_t)max, sizeof(struct posix_file *));
	return px->files ? 0 : posix_fail(ENOMEM);
}

struct posix_file *posix_file_new(int domain, bool stream, int flags)
{
	struct posix_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->refs = 1;
	file->domain = domain;
	file->stream = stream;
	file->nonblock = (flags & SOCK_NONBLOCK) != 0;
	file->cloexec = (flags & SOCK_CLOEXEC) != 0;
	file->qd = -1;
	file->accepted = -1;
	file->tx_events = 1; /* told once, when it is writable for the first time */
	return file;
}

struct posix_file *posix_get(struct posix *px, int fd)
{
	int i = fd - px->first_fd;

	if (fd < px->first_fd || i >= px->num_files || !px->files[i]) {
		errno = EBADF;
		return NULL;
	}
	px->files[i]->refs++;
	return px->files[i];
}

struct posix_file *posix_get_socket(struct posix *px, int fd)
{
	struct posix_file *file = posix_get(px, fd);

	if (file && file->is_epoll) {
		posix_put(file);
		errno = ENOTSOCK;
		return NULL;
	}
	return file;
}

struct posix_file *posix_get_epoll(struct posix *px, int fd)
{
	struct posix_file *file = posix_get(px, fd);

	if (file && !file->is_epoll) {
		posix_put(file);
		errno = EINVAL;
		return NULL;
	}
	return file;
}

static void free_chunks(struct posix_file *file)
{
	while (file->rx) {
		struct posix_chunk *chunk = file->rx;
		file->rx = chunk->next;
		(void)demi_sgafree(&chunk->sga);
		free(chunk);
	}
}

void posix_put(struct posix_file *file)
{
	if (--file->refs > 0)
		return;
	free_chunks(file);
	free(file->watches);
	free(file);
}

int posix_enter(struct posix *px, struct posix_file *file)
{
	for (int i = 0; i < px->num_files; i++) {
		if (!px->files[i]) {
			px->files[i] = file;
			file->fd = px->first_fd + i;
			return file->fd;
		}
	}
	posix_put(file);
	return posix_fail(EMFILE);
}

/* ---- waiting ---- */

uint64_t posix_deadline(struct posix *px, uint64_t timeout_ns)
{
	return timeout_ns == 0 ? POSIX_FOREVER : px->now_ns(px->arg) + timeout_ns;
}

/* The time left as a timespec; NULL: for ever. */
static const struct timespec *time_left(struct posix *px, uint64_t deadline_ns,
					struct timespec *left)
{
	uint64_t now = deadline_ns == 0 || deadline_ns == POSIX_FOREVER ? 0 : px->now_ns(px->arg);

	if (deadline_ns == POSIX_FOREVER)
		return NULL;
	uint64_t ns = deadline_ns > now ? deadline_ns - now : 0;
	*left = (struct timespec){.tv_sec = (time_t)(ns / 1000000000),
				  .tv_nsec = (long)(ns % 1000000000)};
	return left;
}

int posix_wait(struct posix *px, demi_qtoken_t qt, uint64_t deadline_ns, demi_qresult_t *qr)
{
	struct timespec left;

	return demi_wait(qr, qt, time_left(px, deadline_ns, &left));
}

int posix_wait_or_cancel(struct posix *px, demi_qtoken_t *qt, uint64_t deadline_ns,
			 demi_qresult_t *qr)
{
	int err = posix_wait(px, *qt, deadline_ns, qr);

	if (err == ETIMEDOUT) {
		(void)demi_cancel(*qt);
		err = posix_wait(px, *qt, 0, qr);
	}
	if (err != ETIMEDOUT && err != EBUSY)
		*qt = 0;
	return err;
}

/* ---- results ---- */

static int failure(const demi_qresult_t *qr)
{
	return qr->qr_opcode == DEMI_OPC_FAILED ? (int)qr->qr_ret : 0;
}

/* What the stack keeps for SO_ERROR was told to us by an operation already. */
static void clear_stack_error(const struct posix_file *file)
{
	int err = 0;
	socklen_t length = sizeof(err);

	(void)demi_getsockopt(file->qd, SOL_SOCKET, SO_ERROR, &err, &length);
}

void posix_note_error(struct posix_file *file, int err)
{
	if (err == ECANCELED || err == 0)
		return;
	file->error = err;
	file->rx_events++;
	file->tx_events++;
	if (file->stream) {
		file->rx_end = true;
		file->dead = true;
	}
	if (!file->closed)
		clear_stack_error(file);
}

static void append_chunk(struct posix_file *file, const demi_sgarray_t *sga)
{
	struct posix_chunk *chunk = calloc(1, sizeof(*chunk));
	demi_sgarray_t copy = *sga;

	if (!chunk) { /* as if the datagram, or the connection, was lost */
		(void)demi_sgafree(&copy);
		posix_note_error(file, ENOMEM);
		return;
	}
	chunk->sga = copy;
	for (uint32_t i = 0; i < copy.sga_numsegs; i++)
		chunk->length += copy.sga_segs[i].sgaseg_len;
	file->rx_bytes += chunk->length;
	if (file->rx)
		file->rx_tail->next = chunk;
	else
		file->rx = chunk;
	file->rx_tail = chunk;
}

void posix_note_pop(struct posix_file *file, const demi_qresult_t *qr)
{
	int err = failure(qr);
	demi_sgarray_t sga = qr->qr_value.sga;

	if (err) {
		posix_note_error(file, err);
		return;
	}
	file->rx_events++;
	if (file->stream && sga.sga_numsegs == 1 && sga.sga_segs[0].sgaseg_len == 0) {
		file->rx_end = true;
		(void)demi_sgafree(&sga);
	} else {
		append_chunk(file, &sga);
	}
}

void posix_note_push(struct posix_file *file, const demi_qresult_t *qr)
{
	posix_note_error(file, failure(qr));
	file->tx_events++;
}

void posix_note_accept(struct posix_file *file, const demi_qresult_t *qr)
{
	if (failure(qr))
		return;
	file->rx_events++;
	file->accepted = qr->qr_value.ares.qd;
}

void posix_note_connect(struct posix_file *file, const demi_qresult_t *qr)
{
	int err = failure(qr);

	file->state = err ? POSIX_FRESH : POSIX_CONNECTED;
	posix_note_error(file, err);
	file->tx_events++;
}

void posix_progress(struct posix *px, struct posix_file *file, uint64_t deadline_ns)
{
	demi_qresult_t qr;

	if (!file->connect_qt || posix_wait(px, file->connect_qt, deadline_ns, &qr))
		return;
	file->connect_qt = 0;
	posix_note_connect(file, &qr);
}

int posix_take_error(struct posix_file *file)
{
	int err = file->error;

	file->error = 0;
	return err;
}

/* ---- ending ---- */

/* Redeems pushes that ended after their descriptor was closed. */
static void sweep_orphans(struct posix *px)
{
	int kept = 0;

	for (int i = 0; i < px->num_orphans; i++) {
		demi_qresult_t qr;
		if (posix_wait(px, px->orphans[i], 0, &qr) == ETIMEDOUT)
			px->orphans[kept++] = px->orphans[i];
	}
	px->num_orphans = kept;
}

static void keep_orphan(struct posix *px, demi_qtoken_t qt)
{
	if (px->num_orphans == px->max_orphans) {
		int max = px->max_orphans ? 2 * px->max_orphans : 16;
		uint64_t *bigger = realloc(px->orphans, (size_t)max * sizeof(*bigger));
		if (!bigger)
			return;
		px->orphans = bigger;
		px->max_orphans = max;
	}
	px->orphans[px->num_orphans++] = qt;
}

/* Redeems an operation of a queue that is closed. */
static void redeem(struct posix *px, demi_qtoken_t qt)
{
	demi_qresult_t qr;

	if (!qt)
		return;
	int err = posix_wait(px, qt, 0, &qr);
	if (err == ETIMEDOUT) {
		keep_orphan(px, qt);
	} else if (!err && qr.qr_opcode == DEMI_OPC_POP) {
		demi_sgarray_t sga = qr.qr_value.sga;
		(void)demi_sgafree(&sga);
	} else if (!err && qr.qr_opcode == DEMI_OPC_ACCEPT) {
		(void)demi_close(qr.qr_value.ares.qd);
	}
}

/* RFC 2525 2.17: data that nobody will read is told to the peer by a reset. */
static void reset_if_unread(const struct posix_file *file)
{
	struct linger abort = {.l_onoff = 1, .l_linger = 0};

	if (file->stream && file->state == POSIX_CONNECTED && file->rx_bytes > 0)
		(void)demi_setsockopt(file->qd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
}

int posix_close(struct posix *px, int fd)
{
	struct posix_file *file = posix_get(px, fd);

	if (!file)
		return -1;
	px->files[fd - px->first_fd] = NULL;
	file->refs--; /* the table's; ours is left */
	file->closed = true;
	if (!file->is_epoll) {
		posix_forget_watches(px, file);
		reset_if_unread(file);
		if (file->accepted >= 0)
			(void)demi_close(file->accepted);
		(void)demi_close(file->qd);
		redeem(px, file->pop_qt);
		redeem(px, file->accept_qt);
		redeem(px, file->connect_qt);
		redeem(px, file->push_qt);
	}
	posix_put(file);
	sweep_orphans(px);
	return 0;
}

void posix_fini(struct posix *px)
{
	for (int i = 0; i < px->num_files; i++) {
		if (px->files[i])
			(void)posix_close(px, px->first_fd + i);
	}
	sweep_orphans(px);
	free(px->files);
	free(px->orphans);
	*px = (struct posix){0};
}
