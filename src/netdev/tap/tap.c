/* SPDX-License-Identifier: MIT
 * netdev/tap/tap.c - see tap.h.
 *
 * spare is the frame that is read into next; one is kept so that a look at nothing costs no more
 * than the system call.
 */
#include "netdev/tap/tap.h"

#include "netdev/interface.h"

#include "base/bits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define ETHERNET 14
#define VLAN     4

struct tap {
	struct netdev dev;
	struct fd_watch watch; /* its fd is the device */
	struct frame *spare;
	bool gone; /* the interface was deleted */
	struct interface interface;
};

static struct tap *tap_of(struct netdev *dev)
{
	return container_of(dev, struct tap, dev);
}

static void count_drop(struct tap *tap, enum drop reason)
{
	tap->dev.sched->counters.drops[reason]++;
}

/* The interface was deleted: descriptor and instance have nothing to say to each other any more. */
static void lost(struct tap *tap, int err)
{
	if (tap->gone)
		return;
	tap->gone = true;
	fdset_remove(&tap->dev.sched->fds, &tap->watch);
	log_write(&tap->dev.sched->log, LOG_LEVEL_ERROR, "TAP interface %s is gone: %s",
		  tap->interface.name, strerror(err));
}

/* ---- receiving ---- */

/* Reads a frame that nobody has memory for.  False: there is none. */
static bool discard(struct tap *tap)
{
	char byte;

	if (read(tap->watch.fd, &byte, 1) <= 0)
		return false;
	count_drop(tap, DROP_FRAMES);
	return true;
}

/* Reads into spare.  Returns bytes, 0: there is nothing. */
static uint32_t read_frame(struct tap *tap)
{
	uint32_t most = tap->dev.mtu + ETHERNET + VLAN;
	char more; /* read if the frame is longer */
	const struct iovec iov[2] = {{.iov_base = tap->spare->data, .iov_len = most},
				     {.iov_base = &more, .iov_len = 1}};
	ssize_t n = readv(tap->watch.fd, iov, 2);

	if (n > 0)
		return (uint32_t)n;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		lost(tap, errno);
	return 0;
}

static enum drop judge(const struct tap *tap, uint32_t length)
{
	const uint8_t *to = tap->spare->data;

	if (unlikely(length > tap->dev.mtu + ETHERNET + VLAN))
		return DROP_RX_LONG;
	if (unlikely(length < ETHERNET))
		return DROP_ETHER_SHORT;
	if (unlikely(!(to[0] & 1) && memcmp(to, tap->dev.mac, 6) != 0))
		return DROP_ETHER_ADDRESS;
	return DROP_NONE;
}

static uint32_t tap_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct tap *tap = tap_of(dev);
	uint32_t n = 0;

	for (uint32_t seen = 0; seen < max && !tap->gone; seen++) {
		if (!tap->spare)
			tap->spare = frame_alloc(dev->sched->heap);
		if (unlikely(!tap->spare)) {
			if (!discard(tap))
				break;
			continue;
		}
		uint32_t length = read_frame(tap);
		if (length == 0)
			break;
		enum drop reason = judge(tap, length);
		if (unlikely(reason)) {
			count_drop(tap, reason);
			continue;
		}
		tap->spare->length = length;
		dev->stats.rx_bytes += length;
		frames[n++] = tap->spare;
		tap->spare = NULL;
	}
	dev->stats.rx_frames += n;
	return n;
}

/* ---- sending ---- */

static bool busy(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM);
}

static ssize_t write_frame(struct tap *tap, const struct frame *frame)
{
	struct iovec iov[1 + FRAME_SEGMENTS];

	iov[0] = (struct iovec){.iov_base = frame->data, .iov_len = frame->length};
	for (uint32_t i = 0; i < frame->num_segments; i++)
		iov[1 + i] = frame->segments[i];
	return writev(tap->watch.fd, iov, 1 + frame->num_segments);
}

static void refused(struct tap *tap, const struct frame *frame, int err)
{
	count_drop(tap, DROP_DEVICE);
	if (err == EBADFD)
		lost(tap, err);
	else
		log_once(&tap->dev.sched->log, &tap->dev.sched->log_seen, LOG_LEVEL_WARNING,
			 "TAP interface %s takes no frame of %u bytes: %s%s%s", tap->interface.name,
			 frame_bytes(frame), strerror(err),
			 err == EIO ? "; is it down? ip link set up dev " : "",
			 err == EIO ? tap->interface.name : "");
}

static uint32_t tap_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct tap *tap = tap_of(dev);

	for (uint32_t i = 0; i < count; i++) {
		struct frame *frame = frames[i];
		ssize_t n = write_frame(tap, frame);
		if (unlikely(busy(n))) {
			dev->stats.tx_busy++;
			return i;
		}
		if (likely(n >= 0)) {
			dev->stats.tx_frames++;
			dev->stats.tx_bytes += frame_bytes(frame);
		} else {
			refused(tap, frame, errno);
		}
		frame_free(dev->sched->heap, frame);
	}
	return count;
}

/* ---- sleeping ---- */

static int tap_arm(struct netdev *dev)
{
	(void)dev; /* the kernel says at once what is ready */
	return 0;
}

static void tap_disarm(struct netdev *dev)
{
	(void)dev; /* the device stays watched */
}

static uint64_t tap_next_deadline(struct netdev *dev)
{
	(void)dev;
	return TIMER_NEVER;
}

static void tap_event(struct fd_watch *watch, uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP))
		lost(container_of(watch, struct tap, watch), EBADFD);
}

static int tap_start(struct netdev *dev)
{
	struct tap *tap = tap_of(dev);

	tap->watch.lazy = true;
	tap->watch.fn = tap_event;
	return fdset_add(&dev->sched->fds, &tap->watch, EPOLLIN);
}

/* ---- life ---- */

static void tap_close(struct netdev *dev)
{
	struct tap *tap = tap_of(dev);

	if (tap->watch.watched)
		fdset_remove(&dev->sched->fds, &tap->watch);
	if (tap->spare)
		frame_free(dev->sched->heap, tap->spare);
	if (tap->watch.fd >= 0)
		close(tap->watch.fd);
	free(tap);
}

static const struct netdev_ops tap_ops = {
	.name = "tap",
	.rx_burst = tap_rx_burst,
	.tx_burst = tap_tx_burst,
	.doorbell = netdev_no_doorbell,
	.arm = tap_arm,
	.disarm = tap_disarm,
	.next_deadline = tap_next_deadline,
	.start = tap_start,
	.steer = netdev_takes_all,
	.receives = netdev_receives_all,
	.close = tap_close,
};

/* ---- opening ---- */

/* Attaches to the interface called name, which is made if it is not there; name may end in %d, and
 * is the real one afterwards.  0 or -errno, told. */
static int attach(struct tap *tap, char name[IFNAMSIZ])
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};

	memcpy(ifr.ifr_name, name, IFNAMSIZ);
	tap->watch.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->watch.fd < 0)
		return interface_refused(tap->dev.sched, "/dev/net/tun", "CAP_NET_ADMIN", errno);
	if (ioctl(tap->watch.fd, TUNSETIFF, &ifr))
		return interface_refused(tap->dev.sched, "TAP interface", "CAP_NET_ADMIN", errno);
	memcpy(name, ifr.ifr_name, IFNAMSIZ);
	return 0;
}

/* The interface was made for us: as the configuration wants it. */
static int set_up(struct tap *tap, const char *name)
{
	uint32_t mtu = (uint32_t)tap->dev.sched->config.mtu;
	int err = mtu ? interface_set_mtu(name, mtu) : 0;

	if (!err)
		err = interface_set_flags(name, IFF_UP);
	return err ? interface_refused(tap->dev.sched, "new TAP interface", "CAP_NET_ADMIN", -err)
		   : 0;
}

/* An address that is not the kernel's end's, and the same whenever that is the same. */
static void derive_mac(const uint8_t kernels[6], uint8_t out[6])
{
	memcpy(out, kernels, 6);
	out[0] = (uint8_t)((out[0] | 2) & ~1U); /* locally administered, one station */
	out[5] ^= 1;
}

static int choose_mac(struct tap *tap)
{
	uint8_t derived[6];

	derive_mac(tap->interface.mac, derived);
	int err = interface_mac(tap->dev.sched, derived, tap->dev.mac);
	if (err || memcmp(tap->dev.mac, tap->interface.mac, 6) != 0)
		return err;
	log_write(&tap->dev.sched->log, LOG_LEVEL_ERROR,
		  "demikernel.local_link_addr: \"%s\": is that of the kernel's end of %s; the two "
		  "must differ",
		  tap->dev.sched->config.mac, tap->interface.name);
	return -EINVAL;
}

static int open_device(struct tap *tap)
{
	struct sched *sched = tap->dev.sched;
	char name[IFNAMSIZ] = "tap%d";

	int err = interface_check_addresses(sched, false);
	if (err)
		return err;
	if (*sched->config.interface)
		(void)snprintf(name, sizeof(name), "%s", sched->config.interface);
	bool made = if_nametoindex(name) == 0;
	err = attach(tap, name);
	if (!err && made)
		err = set_up(tap, name);
	if (!err)
		err = interface_read(sched, name, &tap->interface);
	if (!err)
		err = choose_mac(tap);
	if (err)
		return err;
	tap->dev.mtu = tap->interface.mtu;
	tap->dev.index = (uint32_t)tap->interface.index;
	if (made)
		log_write(&sched->log, LOG_LEVEL_INFO, "TAP interface %s was made", name);
	return 0;
}

int tap_open(struct sched *sched, struct netdev **dev_out)
{
	struct tap *tap = calloc(1, sizeof(*tap));

	if (!tap)
		return -ENOMEM;
	tap->dev = (struct netdev){
		.ops = &tap_ops,
		.sched = sched,
		.max_segments = FRAME_SEGMENTS,
	};
	tap->watch.fd = -1;
	int err = open_device(tap);
	if (err) {
		tap_close(&tap->dev);
		return err;
	}
	*dev_out = &tap->dev;
	return 0;
}
