/* SPDX-License-Identifier: MIT
 * netdev/fault/fault.c - see fault.h.
 *
 * Every frame goes through the queue of its direction, ordered by the time at which it is due, and
 * leaves it when that has come: at once, if it is not delayed.
 *
 * Invariant of a lane: held[first .. first + count) ascend by due_ns.
 */
#include "netdev/fault/fault.h"

#include "base/bits.h"
#include "base/prng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HELD_MAX   1024 /* frames of a direction, a power of two */
#define MILLION    1000000U
#define LATE_NS    1000000 /* a reordered frame's further delay, at most */
#define DELAY_MAX  ((uint64_t)60000000000)
#define SECOND_NS  ((uint64_t)1000000000)
#define ITEM_BYTES 64

struct held {
	struct frame *frame;
	uint64_t due_ns;
};

/* One direction.  Rates in millionths. */
struct lane {
	uint32_t drop;
	uint32_t duplicate;
	uint32_t reorder;
	uint32_t corrupt;
	uint64_t delay_ns;
	uint32_t first;
	uint32_t count;
	struct held held[HELD_MAX];
};

struct fault {
	struct netdev dev;
	struct netdev *inner;
	struct prng prng;
	struct lane rx;
	struct lane tx;
};

static struct fault *fault_of(struct netdev *dev)
{
	return container_of(dev, struct fault, dev);
}

/* ---- the queue of a direction ---- */

static struct held *held_at(struct lane *lane, uint32_t place)
{
	return &lane->held[(lane->first + place) % HELD_MAX];
}

static void hold(struct lane *lane, struct frame *frame, uint64_t due_ns)
{
	uint32_t place = lane->count++;

	ASSERT(place < HELD_MAX);
	for (; place > 0 && held_at(lane, place - 1)->due_ns > due_ns; place--)
		*held_at(lane, place) = *held_at(lane, place - 1);
	*held_at(lane, place) = (struct held){.frame = frame, .due_ns = due_ns};
}

static void forget_first(struct lane *lane, uint32_t n)
{
	lane->first = (lane->first + n) % HELD_MAX;
	lane->count -= n;
}

/* The frames that are due, oldest first, at most max; they stay in the queue. */
static uint32_t due_frames(struct lane *lane, uint64_t now_ns, struct frame **frames, uint32_t max)
{
	uint32_t n = 0;

	while (n < max && n < lane->count && held_at(lane, n)->due_ns <= now_ns) {
		frames[n] = held_at(lane, n)->frame;
		n++;
	}
	return n;
}

/* ---- what happens to a frame ---- */

static bool chance(struct fault *fault, uint32_t millionths)
{
	return millionths > 0 && prng_below(&fault->prng, MILLION) < millionths;
}

/* The whole of a frame in one piece, of its own; NULL: no memory. */
static struct frame *copy_flat(struct fault *fault, const struct frame *frame, bool received)
{
	struct heap *heap = fault->dev.sched->heap;
	struct frame *copy =
		received ? frame_alloc(heap) : frame_alloc_tx(heap, frame_bytes(frame));

	if (!copy)
		return NULL;
	memcpy(copy->data, frame->data, frame->length);
	copy->length = frame->length;
	for (uint32_t i = 0; i < frame->num_segments; i++) {
		memcpy(copy->data + copy->length, frame->segments[i].iov_base,
		       frame->segments[i].iov_len);
		copy->length += (uint32_t)frame->segments[i].iov_len;
	}
	copy->flags = frame->flags;
	copy->transport_offset = frame->transport_offset;
	copy->checksum_offset = frame->checksum_offset;
	return copy;
}

static bool is_arp(const struct frame *frame)
{
	return frame->length >= 14 && frame->data[12] == 0x08 && frame->data[13] == 0x06;
}

/* Returns the frame to go on with: another one if this one lies in memory of the application. */
static struct frame *damage(struct fault *fault, struct frame *frame, bool received)
{
	if (is_arp(frame))
		return frame;
	struct frame *copy = received ? frame : copy_flat(fault, frame, false);
	if (!copy || copy->length == 0)
		return frame;
	uint64_t bit = prng_below(&fault->prng, (uint64_t)copy->length * 8);
	copy->data[bit / 8] ^= (uint8_t)(1U << bit % 8);
	copy->flags &= (uint8_t)~FRAME_CHECKED;
	if (copy != frame)
		frame_free(fault->dev.sched->heap, frame);
	return copy;
}

static uint64_t due_ns(struct fault *fault, const struct lane *lane)
{
	uint64_t due = fault->dev.sched->now_ns + lane->delay_ns;

	return chance(fault, lane->reorder) ? due + 1 + prng_below(&fault->prng, LATE_NS) : due;
}

/* Takes a frame in: it is held, perhaps twice, or gone.  The lane has room. */
static void pass(struct fault *fault, struct lane *lane, struct frame *frame)
{
	bool received = lane == &fault->rx;

	if (chance(fault, lane->drop)) {
		frame_free(fault->dev.sched->heap, frame);
		return;
	}
	if (chance(fault, lane->duplicate) && lane->count + 2 <= HELD_MAX) {
		struct frame *copy = copy_flat(fault, frame, received);
		if (copy)
			hold(lane, copy, due_ns(fault, lane));
	}
	if (chance(fault, lane->corrupt))
		frame = damage(fault, frame, received);
	hold(lane, frame, due_ns(fault, lane));
}

/* ---- netdev ---- */

/* Puts out what is due. */
static void put_out(struct fault *fault)
{
	struct frame *frames[NETDEV_BURST];
	uint32_t due;

	while ((due = due_frames(&fault->tx, fault->dev.sched->now_ns, frames, NETDEV_BURST)) > 0) {
		uint32_t taken = fault->inner->ops->tx_burst(fault->inner, frames, due);
		forget_first(&fault->tx, taken);
		if (taken < due)
			return;
	}
}

static void take_in(struct fault *fault)
{
	struct frame *frames[NETDEV_BURST];

	if (fault->rx.count > HELD_MAX - 2 * NETDEV_BURST)
		return; /* they wait in the device */
	uint32_t n = fault->inner->ops->rx_burst(fault->inner, frames, NETDEV_BURST);
	for (uint32_t i = 0; i < n; i++)
		pass(fault, &fault->rx, frames[i]);
}

static uint32_t fault_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct fault *fault = fault_of(dev);

	put_out(fault);
	take_in(fault);
	uint32_t n = due_frames(&fault->rx, dev->sched->now_ns, frames, max);
	forget_first(&fault->rx, n);
	for (uint32_t i = 0; i < n; i++)
		dev->stats.rx_bytes += frames[i]->length;
	dev->stats.rx_frames += n;
	return n;
}

static uint32_t fault_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct fault *fault = fault_of(dev);
	uint32_t n = 0;

	put_out(fault);
	for (; n < count && fault->tx.count < HELD_MAX; n++) {
		dev->stats.tx_bytes += frame_bytes(frames[n]);
		pass(fault, &fault->tx, frames[n]);
	}
	dev->stats.tx_frames += n;
	dev->stats.tx_busy += n < count;
	put_out(fault);
	return n;
}

static uint64_t first_due(struct lane *lane)
{
	return lane->count > 0 ? held_at(lane, 0)->due_ns : TIMER_NEVER;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int fault_arm(struct netdev *dev)
{
	struct fault *fault = fault_of(dev);

	if (first_due(&fault->rx) <= dev->sched->now_ns)
		return -EAGAIN;
	return fault->inner->ops->arm(fault->inner);
}

static void fault_disarm(struct netdev *dev)
{
	struct fault *fault = fault_of(dev);

	fault->inner->ops->disarm(fault->inner);
}

static uint64_t fault_next_deadline(struct netdev *dev)
{
	struct fault *fault = fault_of(dev);
	uint64_t next =
		least(first_due(&fault->rx), fault->inner->ops->next_deadline(fault->inner));
	uint64_t tx = first_due(&fault->tx);

	/* What is due and still here was refused by the device, which knows when to try again. */
	return tx > dev->sched->now_ns ? least(next, tx) : next;
}

/* A device may learn what it can do when it starts. */
static void copy_traits(struct fault *fault)
{
	netdev_copy_traits(&fault->dev, fault->inner);
	if (fault->tx.corrupt > 0) /* it would complete the checksum of what was damaged */
		fault->dev.offloads &= (uint8_t)~NETDEV_TX_CHECKSUM;
}

static int fault_start(struct netdev *dev)
{
	struct fault *fault = fault_of(dev);

	fault->inner->sched = dev->sched;
	int err = fault->inner->ops->start(fault->inner);
	copy_traits(fault);
	return err;
}

static int fault_steer(struct netdev *dev, const struct ip_address *address, bool wanted)
{
	struct netdev *inner = fault_of(dev)->inner;

	return inner->ops->steer(inner, address, wanted);
}

static void fault_doorbell(struct netdev *dev)
{
	struct netdev *inner = fault_of(dev)->inner;

	inner->ops->doorbell(inner);
}

static bool fault_receives(struct netdev *dev, const struct netdev_flow *flow)
{
	struct netdev *inner = fault_of(dev)->inner;

	return inner->ops->receives(inner, flow);
}

static void free_held(struct fault *fault, struct lane *lane)
{
	for (uint32_t i = 0; i < lane->count; i++)
		frame_free(fault->dev.sched->heap, held_at(lane, i)->frame);
}

static void fault_close(struct netdev *dev)
{
	struct fault *fault = fault_of(dev);

	free_held(fault, &fault->rx);
	free_held(fault, &fault->tx);
	fault->inner->ops->close(fault->inner);
	free(fault);
}

static void fault_dropped(struct netdev *dev, const struct frame *frame, enum drop reason)
{
	struct netdev *inner = fault_of(dev)->inner;

	if (inner->dropped)
		inner->dropped(inner, frame, reason);
}

static const struct netdev_ops fault_ops = {
	.name = "fault",
	.rx_burst = fault_rx_burst,
	.tx_burst = fault_tx_burst,
	.doorbell = fault_doorbell,
	.arm = fault_arm,
	.disarm = fault_disarm,
	.next_deadline = fault_next_deadline,
	.start = fault_start,
	.steer = fault_steer,
	.receives = fault_receives,
	.close = fault_close,
};

/* ---- the spec ---- */

/* A decimal number with at most places digits behind the point, times 10^places; the rest of the
 * text in *end.  False: none, or above most. */
static bool read_decimal(const char *text, uint32_t places, uint64_t most, uint64_t *value,
			 const char **end)
{
	uint64_t number = 0;
	bool behind = false;

	if (*text < '0' || *text > '9')
		return false;
	for (; (*text >= '0' && *text <= '9') || (*text == '.' && !behind && places > 0); text++) {
		if (*text == '.') {
			behind = true;
			continue;
		}
		if (behind && places-- == 0)
			return false;
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number))
			return false;
	}
	for (; places > 0; places--)
		if (__builtin_mul_overflow(number, 10, &number))
			return false;
	*value = number;
	*end = text;
	return number <= most;
}

static bool read_rate(const char *text, uint64_t *millionths)
{
	const char *end;

	return read_decimal(text, 4, MILLION, millionths, &end) &&
	       (*end == '\0' || strcmp(end, "%") == 0);
}

static bool read_time(const char *text, uint64_t *ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", SECOND_NS}};

	uint64_t number;
	const char *end;

	if (!read_decimal(text, 0, DELAY_MAX, &number, &end))
		return false;
	for (size_t i = 0; i < ARRAY_LENGTH(units); i++) {
		if (strcmp(end, units[i].name) == 0) {
			*ns = number * units[i].ns;
			return number <= DELAY_MAX / units[i].ns;
		}
	}
	return false;
}

static bool set_lane(struct lane *lane, const char *name, const char *value)
{
	const struct {
		const char *name;
		uint32_t *rate;
	} rates[] = {{"drop", &lane->drop},
		     {"duplicate", &lane->duplicate},
		     {"reorder", &lane->reorder},
		     {"corrupt", &lane->corrupt}};

	uint64_t number;

	if (strcmp(name, "delay") == 0)
		return read_time(value, &lane->delay_ns);
	for (size_t i = 0; i < ARRAY_LENGTH(rates); i++) {
		if (strcmp(name, rates[i].name) == 0) {
			if (!read_rate(value, &number))
				return false;
			*rates[i].rate = (uint32_t)number;
			return true;
		}
	}
	return false;
}

/* One item, NAME=VALUE. */
static bool set_item(struct fault *fault, char *item)
{
	char *value = strchr(item, '=');
	uint64_t seed;
	const char *end;

	if (!value)
		return false;
	*value++ = '\0';
	if (strncmp(item, "rx-", 3) == 0)
		return set_lane(&fault->rx, item + 3, value);
	if (strncmp(item, "tx-", 3) == 0)
		return set_lane(&fault->tx, item + 3, value);
	if (strcmp(item, "seed") == 0) {
		if (!read_decimal(value, 0, UINT64_MAX, &seed, &end) || *end != '\0')
			return false;
		prng_seed(&fault->prng, seed);
		return true;
	}
	return set_lane(&fault->rx, item, value) && set_lane(&fault->tx, item, value);
}

static bool read_spec(struct fault *fault, const char *spec, const struct log *log)
{
	while (*spec) {
		char item[ITEM_BYTES];
		size_t length = strcspn(spec, ",");
		if (length < sizeof(item)) {
			memcpy(item, spec, length);
			item[length] = '\0';
		}
		if (length >= sizeof(item) || !set_item(fault, item)) {
			log_write(log, LOG_LEVEL_ERROR,
				  "demitasse.fault: \"%.*s\": allowed are drop=, duplicate=, "
				  "reorder=, corrupt= with 0%% to 100%%, delay= with 0ns to 60s, "
				  "all with rx- or tx- in front for one direction, and seed=NUMBER",
				  (int)length, spec);
			return false;
		}
		spec += length + (spec[length] == ',');
	}
	return true;
}

int fault_wrap(struct netdev *inner, const char *spec, const struct log *log, struct netdev **out)
{
	struct fault *fault = calloc(1, sizeof(*fault));

	if (!fault)
		return -ENOMEM;
	prng_seed(&fault->prng, 1);
	if (!read_spec(fault, spec, log)) {
		free(fault);
		return -EINVAL;
	}
	fault->inner = inner;
	fault->dev.ops = &fault_ops;
	fault->dev.dropped = fault_dropped;
	copy_traits(fault);
	*out = &fault->dev;
	return 0;
}
