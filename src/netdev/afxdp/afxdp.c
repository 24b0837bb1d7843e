/* SPDX-License-Identifier: MIT
 * netdev/afxdp/afxdp.c - see afxdp.h: the device's operations but for frames, alone or as one of
 * several instances of the process on the interface.
 */
#include "netdev/afxdp/afxdp.h"
#include "netdev/spread/for_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- losses ---- */

/* What the kernel could not give us: no chunk was free, or RX was full. */
static void count_losses(struct afxdp *x)
{
	struct xdp_statistics stats;
	socklen_t length = sizeof(stats);

	if (getsockopt(x->watch.fd, SOL_XDP, XDP_STATISTICS, &stats, &length) ||
	    length != sizeof(stats))
		return;
	uint64_t lost = stats.rx_dropped + stats.rx_ring_full;
	x->dev.sched->counters.drops[DROP_RX_RING] += lost - x->lost;
	x->lost = lost;
}

/* A kernel at the other end of a veth pair leaves checksums to its device. */
void afxdp_dropped(struct netdev *dev, const struct frame *frame, enum drop reason)
{
	struct afxdp *x = afxdp_of(dev);

	(void)frame;
	if (reason == DROP_TCP_CHECKSUM || reason == DROP_UDP_CHECKSUM)
		interface_tell_offloads(dev->sched, &x->interface);
}

/* ---- sleeping ---- */

static int afxdp_arm(struct netdev *dev)
{
	struct afxdp *x = afxdp_of(dev);

	afxdp_doorbell(dev);
	if (ring_ready(&x->rx) > 0)
		return -EAGAIN;
	count_losses(x);
	return 0;
}

static void afxdp_disarm(struct netdev *dev)
{
	(void)dev; /* the socket stays watched */
}

static uint64_t afxdp_next_deadline(struct netdev *dev)
{
	const struct afxdp *x = afxdp_of(dev);

	return x->kick ? x->kick_ns : TIMER_NEVER;
}

/* A frame wakes the instance by being there. */
static void afxdp_event(struct fd_watch *watch, uint32_t events)
{
	struct afxdp *x = container_of(watch, struct afxdp, watch);

	interface_take_error(x->dev.sched, &x->interface, watch->fd, events);
}

/* ---- instances that share the interface ---- */

static uint32_t take_mail(struct afxdp *x, struct frame **frames, uint32_t max)
{
	uint32_t n = 0;

	while (n < max && mail_is_there(x->mail)) {
		struct frame *frame = frame_alloc(x->dev.sched->heap);
		if (!frame)
			break;
		frame->length = mail_take(x->mail, frame->data, frame_tailroom(frame));
		frames[n++] = frame;
	}
	return n;
}

typedef uint32_t rx_burst_fn(struct netdev *dev, struct frame **frames, uint32_t max);

/* By hash, fragments are for whoever the whole is for. */
static inline bool is_for_all(const struct afxdp *x, const struct frame *frame)
{
	return frame_is_for_all(frame->data, frame->length) ||
	       (x->pool && frame_is_fragment(frame->data, frame->length));
}

/* What others passed on, then what the socket received. */
static inline uint32_t receive_all(struct netdev *dev, struct frame **frames, uint32_t max,
				   rx_burst_fn *rx_burst)
{
	struct afxdp *x = afxdp_of(dev);
	uint32_t mails = unlikely(mail_is_there(x->mail)) ? take_mail(x, frames, max / 2) : 0;
	uint32_t n = mails + rx_burst(dev, frames + mails, max - mails);

	for (uint32_t i = mails; i < n; i++) {
		if (unlikely(is_for_all(x, frames[i])))
			dev->sched->counters.drops[DROP_RX_RING] +=
				mail_pass_on(x->mail, frames[i]->data, frames[i]->length);
	}
	return n;
}

static uint32_t sharing_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	return receive_all(dev, frames, max, afxdp_rx_burst);
}

static uint32_t pooled_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	return receive_all(dev, frames, max, afxdp_pooled_rx_burst);
}

/* What is put there later wakes the instance by its eventfd. */
static int sharing_arm(struct netdev *dev)
{
	return mail_is_there(afxdp_of(dev)->mail) ? -EAGAIN : afxdp_arm(dev);
}

static void mail_event(struct fd_watch *watch, uint32_t events)
{
	(void)events;
	mail_woken(container_of(watch, struct afxdp, mail_watch)->mail);
}

static int watch_mail(struct afxdp *x)
{
	x->mail_watch = (struct fd_watch){.fd = x->mail->fd, .lazy = true, .fn = mail_event};
	return fdset_add(&x->dev.sched->fds, &x->mail_watch, EPOLLIN);
}

/* ---- life ---- */

static int afxdp_start(struct netdev *dev)
{
	struct afxdp *x = afxdp_of(dev);

	if (!x->pool)
		afxdp_refill(x);
	x->watch.lazy = true;
	x->watch.fn = afxdp_event;
	int err = fdset_add(&dev->sched->fds, &x->watch, EPOLLIN);
	if (!err && x->mail)
		err = watch_mail(x);
	return err ? err : afxdp_watch_giver(x);
}

static int afxdp_steer(struct netdev *dev, const struct ip_address *address, bool wanted)
{
	struct grant *grant = afxdp_of(dev)->grant;

	return grant->ops->steer(grant, address, wanted);
}

int afxdp_filter(struct netdev *dev, uint16_t port, const struct sock_filter *program,
		 uint32_t count)
{
	struct grant *grant = afxdp_of(dev)->grant;

	return grant->ops->filter(grant, port, program, count);
}

/* The socket, its rings and what it stood for. */
static void close_socket(struct afxdp *x)
{
	if (x->watch.fd >= 0)
		close(x->watch.fd);
	if (x->pool)
		pool_recover(x->pool, &x->rx, &x->tx);
	ring_unmap(&x->fill);
	ring_unmap(&x->completion);
	ring_unmap(&x->rx);
	ring_unmap(&x->tx);
	if (x->grant)
		x->grant->ops->close(x->grant);
}

static void leave_pool(struct afxdp *x)
{
	pool_begin_change();
	close_socket(x);
	pool_leave(x->pool);
	pool_end_change();
}

void afxdp_close(struct netdev *dev)
{
	struct afxdp *x = afxdp_of(dev);

	afxdp_doorbell(dev);
	if (x->watch.watched)
		fdset_remove(&dev->sched->fds, &x->watch);
	afxdp_forget_giver(x);
	if (x->mail_watch.watched)
		fdset_remove(&dev->sched->fds, &x->mail_watch);
	if (x->mail)
		mail_close(x->mail);
	if (x->pool)
		leave_pool(x);
	else
		close_socket(x);
	afxdp_ledger_close(x);
	if (x->partial)
		frame_free_received(dev->sched->heap, x->partial);
	free(x);
}

const struct netdev_ops afxdp_ops = {
	.name = "afxdp",
	.rx_burst = afxdp_rx_burst,
	.tx_burst = afxdp_tx_burst,
	.doorbell = afxdp_doorbell,
	.arm = afxdp_arm,
	.disarm = afxdp_disarm,
	.next_deadline = afxdp_next_deadline,
	.start = afxdp_start,
	.steer = afxdp_steer,
	.receives = netdev_receives_all,
	.close = afxdp_close,
};

const struct netdev_ops afxdp_sharing_ops = {
	.name = "afxdp",
	.rx_burst = sharing_rx_burst,
	.tx_burst = afxdp_tx_burst,
	.doorbell = afxdp_doorbell,
	.arm = sharing_arm,
	.disarm = afxdp_disarm,
	.next_deadline = afxdp_next_deadline,
	.start = afxdp_start,
	.steer = afxdp_steer,
	.receives = netdev_receives_all,
	.close = afxdp_close,
};

const struct netdev_ops afxdp_pooled_ops = {
	.name = "afxdp",
	.rx_burst = pooled_rx_burst,
	.tx_burst = afxdp_pooled_tx_burst,
	.doorbell = afxdp_doorbell,
	.arm = sharing_arm,
	.disarm = afxdp_disarm,
	.next_deadline = afxdp_next_deadline,
	.start = afxdp_start,
	.steer = afxdp_steer,
	.receives = afxdp_pooled_receives,
	.close = afxdp_close,
};
