/* SPDX-License-Identifier: MIT
 * netdev/spread/shared.c - see shared.h.
 *
 * Sleeping.  Who is about to sleep says so, then looks into its lanes; who has put something into
 * one looks whether the taker sleeps.  Both are sequentially consistent, so one of the two sees the
 * other.
 */
#include "netdev/spread/shared.h"

#include "netdev/spread/place.h"
#include "netdev/spread/port.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define RETRY_NS    20000 /* until frames that found no room are tried again */
#define LAST_YIELDS 1000  /* for the receiver to take what an instance that goes sent last */

struct shared {
	struct netdev dev;
	struct netdev *inner; /* NULL: the receiver has the device */
	struct port *port;
	uint32_t place;
	struct fd_watch watch; /* of the bell */
	uint64_t retry_ns;
	uint32_t pending; /* frames of others, copied, that the device had no room for */
	struct frame *frames[NETDEV_BURST];
};

static struct shared *shared_of(struct netdev *dev)
{
	return container_of(dev, struct shared, dev);
}

static bool is_receiver(const struct shared *s)
{
	return s->place == 0;
}

/* Has each instance a queue pair of its own? */
static bool is_queued(const struct shared *s)
{
	return s->dev.offloads & NETDEV_RSS;
}

static struct side *side_of(const struct shared *s)
{
	return &s->port->sides[s->place];
}

static void count_drop(struct shared *s, enum drop reason, uint32_t count)
{
	s->dev.sched->counters.drops[reason] += count;
}

static void publish(struct lane *lane, struct side *taker)
{
	if (lane_publish(lane) && atomic_load(&taker->asleep))
		(void)eventfd_write(taker->bell, 1);
}

/* ---- the receiver ---- */

static void send_pending(struct shared *s)
{
	struct netdev *inner = s->inner;
	uint32_t sent = inner->ops->tx_burst(inner, s->frames, s->pending);

	s->pending -= sent;
	memmove(s->frames, s->frames + sent, s->pending * sizeof(struct frame *));
	s->retry_ns = s->pending > 0 ? s->dev.sched->now_ns + RETRY_NS : TIMER_NEVER;
}

/* Copies frames of another instance to those that are pending; false: memory is short. */
static bool collect(struct shared *s, struct lane *lane)
{
	struct heap *heap = s->dev.sched->heap;
	uint32_t count = lane_begin(lane);
	uint32_t n = 0;

	if (likely(count == 0))
		return true;
	if (count > NETDEV_BURST - s->pending)
		count = NETDEV_BURST - s->pending;
	for (; n < count; n++) {
		const struct frame *from = lane_at(lane, n);
		struct frame *to = frame_alloc(heap);
		if (unlikely(!to))
			break;
		if (likely(frame_bytes(from) <= frame_tailroom(to))) {
			frame_gather(to, from);
			s->frames[s->pending++] = to;
		} else {
			count_drop(s, DROP_DEVICE, 1);
			frame_free(heap, to);
		}
	}
	lane_end(lane, n);
	return n == count;
}

static void send_for_others(struct shared *s)
{
	struct port *port = s->port;

	if (likely(s->pending == 0))
		s->retry_ns = TIMER_NEVER; /* who was waited for may have gone */
	else
		send_pending(s);
	for (uint32_t place = 1; place < port->places && s->pending == 0; place++) {
		bool whole = collect(s, &port->sides[place].from);
		if (s->pending > 0)
			send_pending(s);
		if (unlikely(!whole))
			s->retry_ns = s->dev.sched->now_ns + RETRY_NS;
	}
}

/* Hands a frame over; it is lost if there is no room for it. */
static void hand_over(struct shared *s, struct frame *frame, uint32_t place)
{
	struct heap *heap = s->dev.sched->heap;

	if (likely(lane_give(&s->port->sides[place].to, heap, frame)))
		return;
	count_drop(s, DROP_RX_RING, 1);
	frame_free(heap, frame);
}

static struct frame *copy(struct heap *heap, const struct frame *from)
{
	uint64_t bytes = sizeof(struct frame) + FRAME_PAD + from->length;
	struct frame *to = frame_alloc(heap);

	if (unlikely(to && frame_tailroom(to) < from->length)) {
		frame_free_received(heap, to);
		void *object = heap_alloc(heap, bytes);
		to = object ? frame_init(object, bytes, FRAME_PAD) : NULL;
	}
	if (likely(to))
		frame_gather(to, from);
	return to;
}

static void copy_to_all(struct shared *s, const struct frame *frame)
{
	for (uint32_t place = 1; place < s->port->places; place++) {
		if (!port_has(s->port, place))
			continue;
		struct frame *one = copy(s->dev.sched->heap, frame);
		if (one)
			hand_over(s, one, place);
		else
			count_drop(s, DROP_FRAMES, 1);
	}
}

/* What others are to see is seen, what they saw is freed. */
static void settle_lanes(struct shared *s)
{
	for (uint32_t place = 1; place < s->port->places; place++) {
		struct side *side = &s->port->sides[place];
		if (!lane_holds(&side->to))
			continue;
		publish(&side->to, side);
		lane_reap(&side->to, s->dev.sched->heap);
	}
}

static uint32_t receiver_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct shared *s = shared_of(dev);
	uint32_t n = 0;

	send_for_others(s);
	uint32_t count = s->inner->ops->rx_burst(s->inner, frames, max);

	for (uint32_t i = 0; i < count; i++) {
		struct frame *frame = frames[i];
		uint32_t place =
			is_queued(s) ? place_in_queue(frame->data, frame->length)
				     : place_of_frame(frame->data, frame->length, s->port->places);
		if (unlikely(place == PLACE_ALL)) {
			copy_to_all(s, frame);
			place = 0;
		}
		if (place > 0 && port_has(s->port, place))
			hand_over(s, frame, place);
		else
			frames[n++] = frame;
	}
	settle_lanes(s);
	dev->stats = s->inner->stats;
	return n;
}

static uint32_t inner_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct netdev *inner = shared_of(dev)->inner;
	uint32_t sent = inner->ops->tx_burst(inner, frames, count);

	dev->stats = inner->stats;
	return sent;
}

static void inner_doorbell(struct netdev *dev)
{
	struct netdev *inner = shared_of(dev)->inner;

	inner->ops->doorbell(inner);
}

static bool has_work(const struct shared *s)
{
	for (uint32_t place = 1; place < s->port->places; place++) {
		if (!lane_is_empty(&s->port->sides[place].from))
			return true;
	}
	return false;
}

static int receiver_arm(struct netdev *dev)
{
	struct shared *s = shared_of(dev);
	struct side *side = side_of(s);

	atomic_store(&side->asleep, true);
	int err = has_work(s) ? -EAGAIN : s->inner->ops->arm(s->inner);
	if (err)
		atomic_store(&side->asleep, false);
	return err;
}

static void receiver_disarm(struct netdev *dev)
{
	struct shared *s = shared_of(dev);

	atomic_store(&side_of(s)->asleep, false);
	s->inner->ops->disarm(s->inner);
}

static uint64_t receiver_next_deadline(struct netdev *dev)
{
	const struct shared *s = shared_of(dev);
	uint64_t next = s->inner->ops->next_deadline(s->inner);

	return next < s->retry_ns ? next : s->retry_ns;
}

static int inner_steer(struct netdev *dev, const struct ip_address *address, bool wanted)
{
	struct netdev *inner = shared_of(dev)->inner;

	return inner->ops->steer(inner, address, wanted);
}

/* ---- the others ---- */

/* What the receiver has handed over. */
static uint32_t take_handed(struct shared *s, struct frame **frames, uint32_t max)
{
	struct netdev_stats *stats = s->inner ? &s->inner->stats : &s->dev.stats;
	struct heap *heap = s->dev.sched->heap;
	struct side *side = side_of(s);
	uint32_t count = lane_begin(&side->to);
	uint32_t n = 0;

	if (lane_holds(&side->from))
		lane_reap(&side->from, heap);
	if (count == 0)
		return 0;
	if (count > max)
		count = max;
	for (uint32_t i = 0; i < count; i++) {
		struct frame *frame = copy(heap, lane_at(&side->to, i));
		if (unlikely(!frame)) {
			count_drop(s, DROP_FRAMES, 1);
			continue;
		}
		stats->rx_bytes += frame->length;
		frames[n++] = frame;
	}
	lane_end(&side->to, count);
	stats->rx_frames += n;
	return n;
}

static uint32_t other_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct shared *s = shared_of(dev);
	uint32_t n = s->inner ? s->inner->ops->rx_burst(s->inner, frames, max) : 0;

	n += take_handed(s, frames + n, max - n);
	if (s->inner)
		dev->stats = s->inner->stats;
	return n;
}

static void lose(struct shared *s, struct frame **frames, uint32_t count)
{
	count_drop(s, DROP_DEVICE, count);
	for (uint32_t i = 0; i < count; i++)
		frame_free(s->dev.sched->heap, frames[i]);
}

static uint32_t hand_to_receiver(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct shared *s = shared_of(dev);
	struct side *side = side_of(s);
	uint32_t n = 0;

	s->retry_ns = TIMER_NEVER;
	if (unlikely(!lane_has_taker(&side->from))) {
		lose(s, frames, count);
		return count;
	}
	for (; n < count; n++) {
		uint32_t bytes = frame_bytes(frames[n]);
		if (unlikely(!lane_give(&side->from, dev->sched->heap, frames[n])))
			break;
		dev->stats.tx_bytes += bytes;
	}
	publish(&side->from, &s->port->sides[0]);
	dev->stats.tx_frames += n;
	if (unlikely(n < count)) {
		dev->stats.tx_busy++;
		s->retry_ns = dev->sched->now_ns + RETRY_NS;
	}
	return n;
}

static int other_arm(struct netdev *dev)
{
	struct shared *s = shared_of(dev);
	struct side *side = side_of(s);
	int err = 0;

	atomic_store(&side->asleep, true);
	if (!lane_is_empty(&side->to))
		err = -EAGAIN;
	else if (s->inner)
		err = s->inner->ops->arm(s->inner);
	if (err)
		atomic_store(&side->asleep, false);
	return err;
}

static void other_disarm(struct netdev *dev)
{
	struct shared *s = shared_of(dev);

	atomic_store(&side_of(s)->asleep, false);
	if (s->inner)
		s->inner->ops->disarm(s->inner);
}

static uint64_t other_next_deadline(struct netdev *dev)
{
	const struct shared *s = shared_of(dev);

	return s->inner ? s->inner->ops->next_deadline(s->inner) : s->retry_ns;
}

/* ---- both ---- */

static bool shared_receives(struct netdev *dev, const struct netdev_flow *flow)
{
	const struct shared *s = shared_of(dev);

	if (s->inner && is_queued(s))
		return s->inner->ops->receives(s->inner, flow);
	uint32_t place = place_of_flow(flow, s->port->places);
	return place == s->place || (is_receiver(s) && !port_has(s->port, place));
}

static void rung(struct fd_watch *watch, uint32_t events)
{
	eventfd_t count;

	(void)events;
	(void)eventfd_read(watch->fd, &count);
}

static int shared_start(struct netdev *dev)
{
	struct shared *s = shared_of(dev);

	s->watch = (struct fd_watch){.fd = side_of(s)->bell, .lazy = true, .fn = rung};
	int err = fdset_add(&dev->sched->fds, &s->watch, EPOLLIN);
	if (err || !s->inner)
		return err;
	s->inner->sched = dev->sched;
	return s->inner->ops->start(s->inner);
}

static void shared_dropped(struct netdev *dev, const struct frame *frame, enum drop reason)
{
	struct netdev *inner = shared_of(dev)->inner;

	if (inner && inner->dropped)
		inner->dropped(inner, frame, reason);
}

/* ---- coming and going ---- */

/* Lets the receiver send what was handed to it last. */
static void await_receiver(const struct shared *s)
{
	struct lane *lane = &side_of(s)->from;

	for (uint32_t i = 0; i < LAST_YIELDS && lane_has_taker(lane) && !lane_is_empty(lane); i++)
		(void)sched_yield();
}

static void shared_close(struct netdev *dev)
{
	struct shared *s = shared_of(dev);

	if (s->watch.watched)
		fdset_remove(&dev->sched->fds, &s->watch);
	if (!is_receiver(s))
		await_receiver(s);
	port_lock();
	port_go(s->port, s->place, dev->sched->heap);
	for (uint32_t i = 0; i < s->pending; i++)
		frame_free(dev->sched->heap, s->frames[i]);
	if (s->inner)
		s->inner->ops->close(s->inner);
	port_release(s->port);
	port_unlock();
	free(s);
}

static const struct netdev_ops receiver_ops = {
	.name = "shared",
	.rx_burst = receiver_rx_burst,
	.tx_burst = inner_tx_burst,
	.doorbell = inner_doorbell,
	.arm = receiver_arm,
	.disarm = receiver_disarm,
	.next_deadline = receiver_next_deadline,
	.start = shared_start,
	.steer = inner_steer,
	.receives = shared_receives,
	.close = shared_close,
};

static const struct netdev_ops other_ops = {
	.name = "shared",
	.rx_burst = other_rx_burst,
	.tx_burst = hand_to_receiver,
	.doorbell = netdev_no_doorbell,
	.arm = other_arm,
	.disarm = other_disarm,
	.next_deadline = other_next_deadline,
	.start = shared_start,
	.steer = netdev_takes_all,
	.receives = shared_receives,
	.close = shared_close,
};

/* Others that have a queue pair of their own. */
static const struct netdev_ops queued_ops = {
	.name = "shared",
	.rx_burst = other_rx_burst,
	.tx_burst = inner_tx_burst,
	.doorbell = inner_doorbell,
	.arm = other_arm,
	.disarm = other_disarm,
	.next_deadline = other_next_deadline,
	.start = shared_start,
	.steer = inner_steer,
	.receives = shared_receives,
	.close = shared_close,
};

static const struct netdev_ops *choose_ops(const struct shared *s)
{
	if (is_receiver(s))
		return &receiver_ops;
	return s->inner ? &queued_ops : &other_ops;
}

static int open_locked(struct sched *sched, const struct shared_wish *wish, struct shared *s)
{
	int err = port_find(sched, wish, &s->port, &s->place);

	if (!err)
		err = wish->open(sched, s->place, &s->port->device, &s->inner);
	if (!err && s->inner)
		netdev_copy_traits(&s->port->traits, s->inner);
	if (err) {
		port_release(s->port);
		return err;
	}
	netdev_copy_traits(&s->dev, &s->port->traits);
	if (s->inner)
		s->dev.cut_bytes = s->inner->cut_bytes;
	else
		s->dev.max_segments = FRAME_SEGMENTS; /* they are copied */
	(void)snprintf(s->dev.mode, sizeof(s->dev.mode), "%.28s, %u of %u", s->port->traits.mode,
		       s->place + 1, wish->places);
	port_come(s->port, s->place);
	log_write(&sched->log, LOG_LEVEL_INFO, "%s: shared, place %u of %u", wish->name,
		  s->place + 1, wish->places);
	return 0;
}

int shared_open(struct sched *sched, const struct shared_wish *wish, struct netdev **dev_out)
{
	struct shared *s = calloc(1, sizeof(*s));

	ASSERT(wish->places <= SHARED_PLACES);
	if (!s)
		return -ENOMEM;
	s->dev.sched = sched;
	s->dev.dropped = shared_dropped;
	s->retry_ns = TIMER_NEVER;
	port_lock();
	int err = open_locked(sched, wish, s);
	port_unlock();
	if (err) {
		free(s);
		return err;
	}
	s->dev.ops = choose_ops(s);
	*dev_out = &s->dev;
	return 0;
}
