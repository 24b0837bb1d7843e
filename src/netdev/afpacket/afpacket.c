/* SPDX-License-Identifier: MIT
 * netdev/afpacket/afpacket.c - see afpacket.h.
 *
 * The ring: slots of slot_bytes one behind the other, in blocks of SLOTS_PER_BLOCK that make whole
 * pages.  Invariant: the kernel fills slots in order; those up to next, exclusive, are its own.
 */
#include "netdev/afpacket/afpacket.h"

#include "netdev/interface.h"

#include "base/bits.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define ETHERNET        14
#define ADDRESSES       12 /* of an Ethernet header, in front of a tag */
#define VLAN            4
#define SLOTS_PER_BLOCK 64        /* of a multiple of 64 bytes: whole pages */
#define RING_BYTES      (4 << 20) /* what arrives in a few milliseconds at 10 Gbit/s */
#define REFUSED_NS      20000     /* until what the device had no room for is tried again */

struct afpacket {
	struct netdev dev;
	struct fd_watch watch; /* its fd is the socket */
	uint8_t *ring;
	uint64_t ring_bytes;
	uint32_t slot_bytes;
	uint32_t slots;
	uint32_t next; /* slot that is filled next */
	bool refused;  /* the last burst was not taken whole */
	struct interface interface;
};

static struct afpacket *afpacket_of(struct netdev *dev)
{
	return container_of(dev, struct afpacket, dev);
}

static void count_drop(struct afpacket *ap, enum drop reason)
{
	ap->dev.sched->counters.drops[reason]++;
}

/* ---- receiving ---- */

/* The ring was full for a while: how many frames were lost by it.  Asking clears the mark. */
static void count_losses(struct afpacket *ap)
{
	struct tpacket_stats stats = {0};
	socklen_t length = sizeof(stats);

	if (getsockopt(ap->watch.fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0)
		ap->dev.sched->counters.drops[DROP_RX_RING] += stats.tp_drops;
}

/* DROP_NONE, or why the frame in a slot is none for us. */
static enum drop judge(struct afpacket *ap, const struct tpacket2_hdr *slot, const uint8_t *bytes)
{
	if (unlikely(slot->tp_len > ap->dev.mtu + ETHERNET + VLAN ||
		     slot->tp_snaplen < slot->tp_len))
		return DROP_RX_LONG;
	if (unlikely(slot->tp_status & TP_STATUS_CSUMNOTREADY))
		return DROP_RX_PARTIAL;
	if (unlikely(slot->tp_snaplen < ETHERNET))
		return DROP_ETHER_SHORT;
	if (unlikely(!(bytes[0] & 1) && memcmp(bytes, ap->dev.mac, 6) != 0))
		return DROP_ETHER_ADDRESS;
	/* the tag comes back into the frame */
	if (unlikely((slot->tp_status & TP_STATUS_VLAN_VALID) &&
		     slot->tp_len > ap->dev.mtu + ETHERNET))
		return DROP_RX_LONG;
	return DROP_NONE;
}

/* Copies the frame in a slot.  The kernel has taken the tag of a virtual LAN off: the stack, and a
 * capture, see the frame as it was on the link. */
static void copy(struct frame *frame, const struct tpacket2_hdr *slot, const uint8_t *bytes)
{
	uint32_t length = slot->tp_snaplen;
	uint16_t tpid =
		slot->tp_status & TP_STATUS_VLAN_TPID_VALID ? slot->tp_vlan_tpid : ETH_P_8021Q;

	if (likely(!(slot->tp_status & TP_STATUS_VLAN_VALID))) {
		memcpy(frame->data, bytes, length);
		frame->length = length;
		return;
	}
	const uint16_t tag[2] = {__builtin_bswap16(tpid), __builtin_bswap16(slot->tp_vlan_tci)};
	memcpy(frame->data, bytes, ADDRESSES);
	memcpy(frame->data + ADDRESSES, tag, VLAN);
	memcpy(frame->data + ADDRESSES + VLAN, bytes + ADDRESSES, length - ADDRESSES);
	frame->length = length + VLAN;
}

/* The frame in a slot, copied; NULL: dropped. */
static struct frame *take(struct afpacket *ap, const struct tpacket2_hdr *slot)
{
	const uint8_t *bytes = (const uint8_t *)slot + slot->tp_mac;
	struct sched *sched = ap->dev.sched;
	enum drop reason = judge(ap, slot, bytes);
	struct frame *frame = NULL;

	if (likely(!reason)) {
		frame = frame_alloc(sched->heap);
		if (unlikely(!frame))
			reason = DROP_FRAMES;
	}
	if (unlikely(reason)) {
		count_drop(ap, reason);
		if (reason == DROP_RX_LONG || reason == DROP_RX_PARTIAL)
			interface_tell_offloads(sched, &ap->interface);
		return NULL;
	}
	copy(frame, slot, bytes);
	if (slot->tp_status & TP_STATUS_CSUM_VALID)
		frame->flags = FRAME_CHECKED;
	ap->dev.stats.rx_bytes += frame->length;
	return frame;
}

static struct tpacket2_hdr *slot_at(const struct afpacket *ap, uint32_t i)
{
	return (void *)(ap->ring + (uint64_t)i * ap->slot_bytes);
}

/* acquire: the kernel wrote the frame before the status */
static uint32_t status_of(struct tpacket2_hdr *slot)
{
	return __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
}

/* Own frames come back to the socket of an old kernel. */
static bool is_own(const struct tpacket2_hdr *slot)
{
	const struct sockaddr_ll *from =
		(const void *)((const uint8_t *)slot + TPACKET_ALIGN(sizeof(*slot)));

	return from->sll_pkttype == PACKET_OUTGOING;
}

static uint32_t afpacket_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct afpacket *ap = afpacket_of(dev);
	uint32_t n = 0;

	for (uint32_t seen = 0; seen < max; seen++) {
		struct tpacket2_hdr *slot = slot_at(ap, ap->next);
		uint32_t status = status_of(slot);
		if (!(status & TP_STATUS_USER))
			break;
		frames[n] = is_own(slot) ? NULL : take(ap, slot);
		n += frames[n] != NULL;
		/* release: the kernel writes the slot after it was read */
		__atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		ap->next = ap->next + 1 == ap->slots ? 0 : ap->next + 1;
		if (unlikely(status & TP_STATUS_LOSING))
			count_losses(ap);
	}
	dev->stats.rx_frames += n;
	return n;
}

/* ---- sending ---- */

/* iov: room for 1 + FRAME_SEGMENTS. */
static void describe(struct mmsghdr *message, struct iovec *iov, const struct frame *frame)
{
	iov[0] = (struct iovec){.iov_base = frame->data, .iov_len = frame->length};
	for (uint32_t s = 0; s < frame->num_segments; s++)
		iov[1 + s] = frame->segments[s];
	*message = (struct mmsghdr){
		.msg_hdr = {.msg_iov = iov, .msg_iovlen = 1U + frame->num_segments}};
}

static void sent(struct afpacket *ap, struct frame *frame)
{
	ap->dev.stats.tx_frames++;
	ap->dev.stats.tx_bytes += frame_bytes(frame);
	frame_free(ap->dev.sched->heap, frame);
}

/* The kernel does not take a frame, now or ever.  Returns whether it is gone. */
static bool refuse(struct afpacket *ap, struct frame *frame, int err)
{
	if (err == EAGAIN || err == ENOBUFS || err == EINTR || err == ENOMEM)
		return false;
	count_drop(ap, DROP_DEVICE);
	log_once(&ap->dev.sched->log, &ap->dev.sched->log_seen, LOG_LEVEL_WARNING,
		 "interface %s takes no frame of %u bytes: %s", ap->interface.name,
		 frame_bytes(frame), strerror(err));
	frame_free(ap->dev.sched->heap, frame);
	return true;
}

/* At most NETDEV_BURST frames.  Returns how many are gone. */
static uint32_t send_batch(struct afpacket *ap, struct frame **frames, uint32_t count)
{
	struct mmsghdr messages[NETDEV_BURST];
	struct iovec iov[NETDEV_BURST][1 + FRAME_SEGMENTS];

	for (uint32_t i = 0; i < count; i++)
		describe(&messages[i], iov[i], frames[i]);
	int n = sendmmsg(ap->watch.fd, messages, count, MSG_DONTWAIT);
	for (int i = 0; i < n; i++)
		sent(ap, frames[i]);
	if (n > 0)
		return (uint32_t)n;
	return refuse(ap, frames[0], errno);
}

static uint32_t afpacket_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct afpacket *ap = afpacket_of(dev);
	uint32_t done = 0;
	uint32_t gone = 1;

	while (done < count && gone > 0) {
		uint32_t rest = count - done;
		gone = send_batch(ap, frames + done, rest < NETDEV_BURST ? rest : NETDEV_BURST);
		done += gone;
	}
	ap->refused = done < count;
	dev->stats.tx_busy += ap->refused;
	return done;
}

/* ---- sleeping ---- */

static int afpacket_arm(struct netdev *dev)
{
	struct afpacket *ap = afpacket_of(dev);

	return status_of(slot_at(ap, ap->next)) & TP_STATUS_USER ? -EAGAIN : 0;
}

static void afpacket_disarm(struct netdev *dev)
{
	(void)dev; /* the socket stays watched */
}

static uint64_t afpacket_next_deadline(struct netdev *dev)
{
	return afpacket_of(dev)->refused ? dev->sched->now_ns + REFUSED_NS : TIMER_NEVER;
}

/* A frame wakes the instance by being there. */
static void afpacket_event(struct fd_watch *watch, uint32_t events)
{
	struct afpacket *ap = container_of(watch, struct afpacket, watch);

	interface_take_error(ap->dev.sched, &ap->interface, watch->fd, events);
}

static int afpacket_start(struct netdev *dev)
{
	struct afpacket *ap = afpacket_of(dev);

	ap->watch.lazy = true;
	ap->watch.fn = afpacket_event;
	return fdset_add(&dev->sched->fds, &ap->watch, EPOLLIN);
}

/* ---- life ---- */

static void afpacket_close(struct netdev *dev)
{
	struct afpacket *ap = afpacket_of(dev);

	if (ap->watch.watched)
		fdset_remove(&dev->sched->fds, &ap->watch);
	if (ap->ring)
		munmap(ap->ring, ap->ring_bytes);
	if (ap->watch.fd >= 0)
		close(ap->watch.fd);
	free(ap);
}

static const struct netdev_ops afpacket_ops = {
	.name = "afpacket",
	.rx_burst = afpacket_rx_burst,
	.tx_burst = afpacket_tx_burst,
	.doorbell = netdev_no_doorbell,
	.arm = afpacket_arm,
	.disarm = afpacket_disarm,
	.next_deadline = afpacket_next_deadline,
	.start = afpacket_start,
	.steer = netdev_takes_all,
	.receives = netdev_receives_all,
	.close = afpacket_close,
};

/* ---- opening: each 0 or a positive errno ---- */

static int set_option(struct afpacket *ap, int name, int value)
{
	return setsockopt(ap->watch.fd, SOL_PACKET, name, &value, sizeof(value)) ? errno : 0;
}

static int open_ring(struct afpacket *ap)
{
	/* Where the kernel puts a frame: its network header on a multiple of 16 behind the slot's
	 * own header, with 16 bytes or more for Ethernet's. */
	uint32_t bytes = TPACKET_ALIGN(TPACKET2_HDRLEN + 16) + VLAN + ap->dev.mtu;
	int err = set_option(ap, PACKET_VERSION, TPACKET_V2);

	/* an odd number of lines: the slots share out the sets of the cache */
	ap->slot_bytes = (uint32_t)round_up(bytes, CACHE_LINE) | CACHE_LINE;
	uint32_t block_bytes = ap->slot_bytes * SLOTS_PER_BLOCK;
	uint32_t blocks = block_bytes > RING_BYTES / 2 ? 2 : RING_BYTES / block_bytes;
	ap->slots = blocks * SLOTS_PER_BLOCK;
	ap->ring_bytes = (uint64_t)blocks * block_bytes;
	const struct tpacket_req want = {.tp_block_size = block_bytes,
					 .tp_block_nr = blocks,
					 .tp_frame_size = ap->slot_bytes,
					 .tp_frame_nr = ap->slots};
	if (!err && setsockopt(ap->watch.fd, SOL_PACKET, PACKET_RX_RING, &want, sizeof(want)))
		err = errno;
	if (err)
		return err;
	void *at = mmap(NULL, ap->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			ap->watch.fd, 0);
	if (at == MAP_FAILED)
		return errno;
	ap->ring = at;
	return 0;
}

static int join(struct afpacket *ap, unsigned short type)
{
	const struct packet_mreq mreq = {.mr_ifindex = ap->interface.index, .mr_type = type};

	return setsockopt(ap->watch.fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq, sizeof(mreq))
		       ? errno
		       : 0;
}

/* What the hardware has to let through: groups, as those that a neighbour is asked for by (RFC 4861
 * 7.2.2), and a station that is not the interface's. */
static int open_filters(struct afpacket *ap)
{
	int err = join(ap, PACKET_MR_ALLMULTI);

	if (!err && memcmp(ap->dev.mac, ap->interface.mac, 6) != 0)
		err = join(ap, PACKET_MR_PROMISC);
	return err;
}

static int open_socket(struct afpacket *ap)
{
	/* Nothing is received before the bind. */
	ap->watch.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ap->watch.fd < 0)
		return errno;
	/* Without either it works all the same. */
	(void)set_option(ap, PACKET_QDISC_BYPASS, 1);
	(void)set_option(ap, PACKET_IGNORE_OUTGOING, 1);
	int err = open_ring(ap);
	if (!err)
		err = open_filters(ap);
	if (err)
		return err;
	const struct sockaddr_ll local = {.sll_family = AF_PACKET,
					  .sll_protocol = __builtin_bswap16(ETH_P_ALL),
					  .sll_ifindex = ap->interface.index};
	return bind(ap->watch.fd, (const struct sockaddr *)&local, sizeof(local)) ? errno : 0;
}

static int open_device(struct afpacket *ap)
{
	struct sched *sched = ap->dev.sched;
	int err = interface_mac(sched, ap->interface.mac, ap->dev.mac);

	if (!err)
		err = interface_check_addresses(sched, false);
	if (err)
		return err;
	ap->dev.mtu = ap->interface.mtu;
	ap->dev.index = (uint32_t)ap->interface.index;
	err = open_socket(ap);
	if (err)
		return interface_refused(sched, "packet socket", "CAP_NET_RAW", err);
	interface_tell_down(sched, &ap->interface);
	return 0;
}

int afpacket_open(struct sched *sched, struct netdev **dev_out)
{
	struct afpacket *ap = calloc(1, sizeof(*ap));
	if (!ap)
		return -ENOMEM;
	ap->dev = (struct netdev){
		.ops = &afpacket_ops,
		.sched = sched,
		.mac_shared = true,
		.offloads = NETDEV_RX_CHECKSUM,
		.max_segments = FRAME_SEGMENTS,
	};
	ap->watch.fd = -1;
	int err = interface_named(sched, "afpacket", &ap->interface);
	if (!err)
		err = open_device(ap);
	if (err) {
		afpacket_close(&ap->dev);
		return err;
	}
	*dev_out = &ap->dev;
	return 0;
}
