/* SPDX-License-Identifier: MIT
 * posix/poll.c - poll and epoll.
 *
 * A wait issues what tells of each descriptor's events (a pop, an accept), waits for any of them,
 * and cancels what has not come when it ends.  Whether a full send buffer has room again no
 * operation tells: while somebody waits for that, the wait looks every SLICE_NS.
 */
#include "posix/file.h"

#include <demi/libos.h>
#include <demi/wait.h>
#include <errno.h>
#include <stdlib.h>

#define SLICE_NS 1000000

/* ---- what is ready ---- */

static uint32_t stream_output(struct posix *px, struct posix_file *file)
{
	if (file->dead || file->tx_shut)
		return EPOLLOUT;
	if (!posix_writable(px, file))
		return 0;
	if (file->tx_blocked) {
		file->tx_blocked = false;
		file->tx_events++;
	}
	return EPOLLOUT;
}

static uint32_t stream_events(struct posix *px, struct posix_file *file, bool edge)
{
	uint32_t ready = 0;

	if (file->state == POSIX_CONNECTING)
		return 0;
	if (file->state == POSIX_FRESH && !file->dead)
		return EPOLLOUT | EPOLLHUP;
	if ((edge || file->rx_bytes == 0) && !file->rx_end)
		(void)posix_fill(px, file, 0);
	if (file->rx_bytes > 0 || file->rx_end)
		ready |= EPOLLIN | EPOLLRDNORM;
	if (file->rx_end)
		ready |= EPOLLRDHUP;
	if (file->dead || (file->rx_end && file->tx_shut))
		ready |= EPOLLHUP;
	return ready | stream_output(px, file);
}

static uint32_t datagram_events(struct posix *px, struct posix_file *file, bool edge)
{
	uint32_t ready = posix_send_space(px, file) > 0 ? EPOLLOUT : 0;

	if (edge || !file->rx)
		(void)posix_fill(px, file, 0);
	return ready | (file->rx || file->error ? EPOLLIN | EPOLLRDNORM : 0);
}

/* What is ready of a file. edge: also take in what arrived behind something unread. */
static uint32_t events_of(struct posix *px, struct posix_file *file, bool edge)
{
	uint32_t ready;

	posix_progress(px, file, 0);
	if (file->state == POSIX_LISTENING)
		return posix_take_connection(px, file, 0) == 0 ? EPOLLIN | EPOLLRDNORM : 0;
	ready = file->stream ? stream_events(px, file, edge) : datagram_events(px, file, edge);
	if (file->error)
		ready |= EPOLLERR;
	return ready & EPOLLOUT ? ready | EPOLLWRNORM : ready;
}

/* ---- the wait for anything ---- */

/* What one round waits for. */
struct round {
	int count;
	bool slice; /* something has no token */
	demi_qtoken_t *qts;
	struct posix_file **files;
};

static void add_token(struct round *round, struct posix_file *file, demi_qtoken_t qt)
{
	if (!qt)
		return;
	round->qts[round->count] = qt;
	round->files[round->count++] = file;
}

/* At most two tokens. */
static void add_file(struct round *round, struct posix_file *file, uint32_t events)
{
	if (file->state == POSIX_LISTENING) {
		if (!file->accept_qt)
			(void)demi_accept(&file->accept_qt, file->qd);
		add_token(round, file, file->accept_qt);
	} else if (file->connect_qt) {
		add_token(round, file, file->connect_qt);
	} else if (file->state == POSIX_CONNECTED || !file->stream) {
		bool wanted = file->rx_bytes == 0 || (events & EPOLLET);
		if (!file->pop_qt && !file->rx_end && wanted)
			(void)demi_pop(&file->pop_qt, file->qd);
		add_token(round, file, file->pop_qt);
		add_token(round, file, file->push_qt);
		round->slice |= (events & EPOLLOUT) && !file->push_qt &&
				(!(events & EPOLLET) || file->tx_blocked);
	}
}

static void take_result(struct posix_file *file, const demi_qresult_t *qr)
{
	if (file->pop_qt == qr->qr_qt) {
		file->pop_qt = 0;
		posix_note_pop(file, qr);
	} else if (file->push_qt == qr->qr_qt) {
		file->push_qt = 0;
		posix_note_push(file, qr);
	} else if (file->accept_qt == qr->qr_qt) {
		file->accept_qt = 0;
		posix_note_accept(file, qr);
	} else if (file->connect_qt == qr->qr_qt) {
		file->connect_qt = 0;
		posix_note_connect(file, qr);
	}
}

/* Takes back what a round issued and nobody else waits for. */
static void settle(struct posix *px, const struct round *round)
{
	for (int i = 0; i < round->count; i++) {
		struct posix_file *file = round->files[i];
		demi_qresult_t qr;
		if (file->pop_qt && posix_wait_or_cancel(px, &file->pop_qt, 0, &qr) == 0)
			posix_note_pop(file, &qr);
		if (file->accept_qt && posix_wait_or_cancel(px, &file->accept_qt, 0, &qr) == 0)
			posix_note_accept(file, &qr);
	}
}

/* Sleeps until one operation of the round ends, or until deadline_ns. */
static int wait_round(struct posix *px, struct round *round, uint64_t deadline_ns)
{
	uint64_t now = px->now_ns(px->arg);
	uint64_t ns = deadline_ns > now ? deadline_ns - now : 0;
	demi_qresult_t qr;
	int offset;

	if (round->slice && ns > SLICE_NS)
		ns = SLICE_NS;
	struct timespec left = {.tv_sec = (time_t)(ns / 1000000000),
				.tv_nsec = (long)(ns % 1000000000)};
	bool forever = deadline_ns == POSIX_FOREVER && !round->slice;
	int err = demi_wait_any(&qr, &offset, round->qts, round->count, forever ? NULL : &left);
	if (!err)
		take_result(round->files[offset], &qr);
	return err == ETIMEDOUT ? 0 : err;
}

static int round_open(struct round *round, int files)
{
	*round = (struct round){0};
	round->qts = calloc((size_t)files * 2 + 1, sizeof(*round->qts));
	round->files = calloc((size_t)files * 2 + 1, sizeof(struct posix_file *));
	return round->qts && round->files ? 0 : ENOMEM;
}

static void round_close(struct round *round)
{
	free(round->qts);
	free(round->files);
}

static uint64_t deadline_of(struct posix *px, int timeout_ms)
{
	if (timeout_ms < 0)
		return POSIX_FOREVER;
	return timeout_ms == 0 ? 0 : posix_deadline(px, (uint64_t)timeout_ms * 1000000);
}

static bool expired(struct posix *px, uint64_t deadline_ns)
{
	return deadline_ns == 0 ||
	       (deadline_ns != POSIX_FOREVER && px->now_ns(px->arg) >= deadline_ns);
}

/* ---- poll ---- */

/* Fills revents; how many are not 0.  held[i]: the files, NULL: a bad descriptor. */
static int look(struct posix *px, struct pollfd *fds, nfds_t count, struct posix_file **held)
{
	int ready = 0;

	for (nfds_t i = 0; i < count; i++) {
		fds[i].revents = 0;
		if (held[i])
			fds[i].revents =
				(short)(events_of(px, held[i], false) &
					((uint32_t)(uint16_t)fds[i].events | EPOLLERR | EPOLLHUP));
		else if (fds[i].fd >= 0)
			fds[i].revents = POLLNVAL;
		ready += fds[i].revents != 0;
	}
	return ready;
}

int posix_poll(struct posix *px, struct pollfd *fds, nfds_t count, int timeout_ms)
{
	uint64_t deadline = deadline_of(px, timeout_ms);
	struct posix_file **held = calloc(count + 1, sizeof(struct posix_file *));
	struct round round;
	int err = round_open(&round, (int)count);
	int ready = 0;

	if (err || !held)
		goto out;
	for (nfds_t i = 0; i < count; i++)
		held[i] = fds[i].fd >= 0 ? posix_get_socket(px, fds[i].fd) : NULL;
	while ((ready = look(px, fds, count, held)) == 0 && !expired(px, deadline) && !err) {
		round.count = 0;
		round.slice = false;
		for (nfds_t i = 0; i < count; i++) {
			if (held[i])
				add_file(&round, held[i], (uint32_t)fds[i].events);
		}
		err = wait_round(px, &round, deadline);
		settle(px, &round);
	}
	for (nfds_t i = 0; i < count; i++) {
		if (held[i])
			posix_put(held[i]);
	}
out:
	free(held);
	round_close(&round);
	return err ? posix_fail(held ? err : ENOMEM) : ready;
}

/* ---- epoll ---- */

int posix_epoll_create(struct posix *px, int flags)
{
	struct posix_file *file =
		posix_file_new(0, false, flags & EPOLL_CLOEXEC ? SOCK_CLOEXEC : 0);

	if (!file)
		return posix_fail(ENOMEM);
	file->is_epoll = true;
	return posix_enter(px, file);
}

static struct posix_watch *find_watch(struct posix_file *epoll, const struct posix_file *file)
{
	for (int i = 0; i < epoll->num_watches; i++) {
		if (epoll->watches[i].file == file)
			return &epoll->watches[i];
	}
	return NULL;
}

void posix_forget_watches(struct posix *px, const struct posix_file *file)
{
	for (int i = 0; i < px->num_files; i++) {
		struct posix_file *epoll = px->files[i];
		struct posix_watch *watch = epoll ? find_watch(epoll, file) : NULL;
		if (watch)
			*watch = epoll->watches[--epoll->num_watches];
	}
}

static int add_watch(struct posix_file *epoll, struct posix_file *file,
		     const struct epoll_event *event)
{
	if (find_watch(epoll, file))
		return EEXIST;
	if (epoll->num_watches == epoll->max_watches) {
		int max = epoll->max_watches ? 2 * epoll->max_watches : 16;
		struct posix_watch *bigger = realloc(epoll->watches, (size_t)max * sizeof(*bigger));
		if (!bigger)
			return ENOMEM;
		epoll->watches = bigger;
		epoll->max_watches = max;
	}
	epoll->watches[epoll->num_watches++] =
		(struct posix_watch){.file = file, .events = event->events, .data = event->data};
	return 0;
}

/* A file stays watched without a reference: closing it ends its watches. */
static int control(struct posix_file *epoll, int operation, struct posix_file *file,
		   const struct epoll_event *event)
{
	struct posix_watch *watch = find_watch(epoll, file);

	if (operation != EPOLL_CTL_DEL && !event)
		return EFAULT;
	if (operation == EPOLL_CTL_ADD)
		return add_watch(epoll, file, event);
	if (!watch)
		return ENOENT;
	if (operation == EPOLL_CTL_DEL) {
		*watch = epoll->watches[--epoll->num_watches];
		return 0;
	}
	if (operation != EPOLL_CTL_MOD)
		return EINVAL;
	*watch = (struct posix_watch){.file = file, .events = event->events, .data = event->data};
	return 0;
}

int posix_epoll_ctl(struct posix *px, int epfd, int operation, int fd, struct epoll_event *event)
{
	struct posix_file *epoll = posix_get_epoll(px, epfd);
	struct posix_file *file;

	if (!epoll)
		return -1;
	file = posix_get_socket(px, fd);
	if (!file) {
		posix_put(epoll);
		return posix_fail(errno == ENOTSOCK ? EINVAL : errno);
	}
	int err = control(epoll, operation, file, event);
	posix_put(file);
	posix_put(epoll);
	return err ? posix_fail(err) : 0;
}

/* What a watch has to tell; an edge-triggered one tells once. */
static uint32_t watch_events(struct posix *px, struct posix_watch *watch)
{
	struct posix_file *file = watch->file;
	bool edge = (watch->events & EPOLLET) != 0;
	uint32_t ready;

	if (!(watch->events & ~(uint32_t)(EPOLLET | EPOLLONESHOT)))
		return 0; /* told already, until it is modified */
	ready = events_of(px, file, edge) & (watch->events | EPOLLERR | EPOLLHUP);
	if (edge && watch->rx_seen == file->rx_events && watch->tx_seen == file->tx_events)
		return 0;
	if (ready && edge) {
		watch->rx_seen = file->rx_events;
		watch->tx_seen = file->tx_events;
	}
	if (ready && (watch->events & EPOLLONESHOT))
		watch->events &= EPOLLET | EPOLLONESHOT;
	return ready;
}

static int collect(struct posix *px, struct posix_file *epoll, struct epoll_event *events, int max)
{
	int count = 0;

	for (int i = 0; i < epoll->num_watches && count < max; i++) {
		uint32_t ready = watch_events(px, &epoll->watches[i]);
		if (ready)
			events[count++] = (struct epoll_event){.events = ready,
							       .data = epoll->watches[i].data};
	}
	return count;
}

/* Sleeps until something may have changed. */
static int wait_watches(struct posix *px, struct posix_file *epoll, uint64_t deadline_ns)
{
	struct round round;
	int err = round_open(&round, epoll->num_watches);

	if (!err) {
		for (int i = 0; i < epoll->num_watches; i++)
			add_file(&round, epoll->watches[i].file, epoll->watches[i].events);
		for (int i = 0; i < round.count; i++)
			round.files[i]->refs++; /* another coroutine may close one meanwhile */
		err = wait_round(px, &round, deadline_ns);
		settle(px, &round);
		for (int i = 0; i < round.count; i++)
			posix_put(round.files[i]);
	}
	round_close(&round);
	return err;
}

int posix_epoll_wait(struct posix *px, int epfd, struct epoll_event *events, int max,
		     int timeout_ms)
{
	struct posix_file *epoll = posix_get_epoll(px, epfd);
	uint64_t deadline = deadline_of(px, timeout_ms);
	int count = 0;
	int err = 0;

	if (!epoll)
		return -1;
	if (max < 1 || !events) {
		posix_put(epoll);
		return posix_fail(EINVAL);
	}
	while (!err && (count = collect(px, epoll, events, max)) == 0 && !expired(px, deadline) &&
	       !epoll->closed)
		err = wait_watches(px, epoll, deadline);
	posix_put(epoll);
	return err ? posix_fail(err) : count;
}
