/* SPDX-License-Identifier: MIT
 * netdev/pcap/pcap.c - see pcap.h.
 *
 * The buffer holds whole blocks, used bytes of it, the first written bytes of which are in the file
 * already.  While blocks of the last received burst are in it, marks tell where, so that a comment
 * can be put into them.
 *
 * Invariant: written <= used <= room; marks ascend by at, and each block lies in [written, used).
 */
#include "netdev/pcap/pcap.h"

#include "base/assert.h"
#include "base/bits.h"
#include "netdev/checksum.h"
#include "netdev/pcap/pcapng.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES 65536  /* written when so much is there */
#define ROOM_BYTES  262144 /* of the buffer, at least */
#define PIPE_BYTES  4096   /* a pipe that polls as writable takes so much without blocking */
#define DELAY_NS    100000000
#define ETHERNET    14

/* A received frame whose block is in the buffer. */
struct mark {
	const struct frame *frame;
	uint32_t at;
	uint32_t bytes;
};

struct pcap {
	struct netdev dev;
	struct netdev *inner;
	int fd;
	bool regular; /* a file, which is written at once */
	int64_t epoch_ns;
	uint64_t due_ns; /* when the buffer is to be written */
	struct pcap_counts counts;
	uint32_t num_marks;
	struct mark marks[NETDEV_BURST];
	uint32_t room;
	uint32_t used;
	uint32_t written;
	uint8_t buffer[];
};

static struct pcap *pcap_of(struct netdev *dev)
{
	return container_of(dev, struct pcap, dev);
}

/* ---- the descriptor ---- */

/* write() without SIGPIPE. */
static ssize_t write_quietly(int fd, const void *bytes, size_t n)
{
	const struct timespec now = {0};
	sigset_t pipe_signal;
	sigset_t pending;
	sigset_t old;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, &old);
	ssize_t done = write(fd, bytes, n);
	int err = errno;
	if (done < 0 && err == EPIPE && !sigismember(&pending, SIGPIPE))
		(void)sigtimedwait(&pipe_signal, NULL, &now);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return done < 0 ? -err : done;
}

/* Bytes written, 0: not now, or -errno. */
static ssize_t write_some(const struct pcap *pcap, const uint8_t *bytes, size_t n)
{
	if (!pcap->regular) {
		struct pollfd pollfd = {.fd = pcap->fd, .events = POLLOUT};
		if (poll(&pollfd, 1, 0) <= 0)
			return 0;
		n = n < PIPE_BYTES ? n : PIPE_BYTES;
	}
	ssize_t done = write_quietly(pcap->fd, bytes, n);
	return done == -EINTR || done == -EAGAIN ? 0 : done;
}

/* Writes what the descriptor takes.  Blocks that are in the file get no comment any more. */
static void write_out(struct pcap *pcap)
{
	ssize_t done = 1;

	while (pcap->written < pcap->used && done > 0) {
		done = write_some(pcap, pcap->buffer + pcap->written, pcap->used - pcap->written);
		if (done > 0)
			pcap->written += (uint32_t)done;
	}
	if (done < 0) {
		pcap->counts.err = (int)done;
		pcap->written = pcap->used;
	}
	pcap->num_marks = 0;
	memmove(pcap->buffer, pcap->buffer + pcap->written, pcap->used - pcap->written);
	pcap->used -= pcap->written;
	pcap->written = 0;
	pcap->due_ns = pcap->used > 0 ? pcap->dev.sched->now_ns + DELAY_NS : TIMER_NEVER;
}

static void write_when_due(struct pcap *pcap)
{
	if (pcap->used >= CHUNK_BYTES || pcap->dev.sched->now_ns >= pcap->due_ns)
		write_out(pcap);
}

/* ---- frames into the buffer ---- */

static uint64_t time_ns(const struct pcap *pcap)
{
	return pcap->dev.sched->now_ns + (uint64_t)pcap->epoch_ns;
}

/* Bytes of a block and of the comment that it may get. */
static uint32_t block_bytes(uint32_t length)
{
	return length + PCAPNG_PACKET_MORE + PCAPNG_COMMENT_MAX;
}

/* Has the buffer take a burst: afterwards nothing is written until the burst is in it. */
static void make_room(struct pcap *pcap, struct frame *const *frames, uint32_t count)
{
	uint32_t need = 0;

	for (uint32_t i = 0; i < count; i++)
		need += block_bytes(frame_bytes(frames[i]));
	if (pcap->room - pcap->used < need)
		write_out(pcap);
}

static void gather(uint8_t *at, const struct frame *frame, uint32_t length)
{
	memcpy(at, frame->data, frame->length);
	uint32_t done = frame->length;
	for (uint32_t i = 0; i < frame->num_segments; i++) {
		memcpy(at + done, frame->segments[i].iov_base, frame->segments[i].iov_len);
		done += (uint32_t)frame->segments[i].iov_len;
	}
	if (frame->flags & FRAME_CHECKSUM)
		netdev_complete_checksum(at, length, frame->transport_offset,
					 frame->checksum_offset);
}

/* Returns bytes of the block; 0: the frame is not in the capture. */
static uint32_t record(struct pcap *pcap, const struct frame *frame, bool outbound)
{
	uint32_t length = frame_bytes(frame);

	if (pcap->counts.err || pcap->room - pcap->used < block_bytes(length))
		return 0;
	uint8_t *at = pcap->buffer + pcap->used;
	gather(at + PCAPNG_FRAME_AT, frame, length);
	uint32_t bytes = pcapng_packet(at, time_ns(pcap), outbound, length);
	pcap->used += bytes;
	if (pcap->due_ns == TIMER_NEVER)
		pcap->due_ns = pcap->dev.sched->now_ns + DELAY_NS;
	return bytes;
}

static void count(struct pcap *pcap, uint32_t bytes)
{
	pcap->counts.frames++;
	pcap->counts.lost += bytes == 0;
}

/* Makes room for more bytes behind a mark's block. */
static void widen(struct pcap *pcap, struct mark *mark, uint32_t more)
{
	uint32_t end = mark->at + mark->bytes;

	memmove(pcap->buffer + end + more, pcap->buffer + end, pcap->used - end);
	pcap->used += more;
	for (struct mark *m = mark + 1; m < pcap->marks + pcap->num_marks; m++)
		m->at += more;
}

static void pcap_dropped(struct netdev *dev, const struct frame *frame, enum drop reason)
{
	struct pcap *pcap = pcap_of(dev);
	char text[PCAPNG_COMMENT_MAX];

	if (pcap->inner->dropped)
		pcap->inner->dropped(pcap->inner, frame, reason);
	(void)snprintf(text, sizeof(text), "dropped: %s", drop_name(reason));
	uint32_t more = pcapng_comment_bytes(text);
	for (uint32_t i = 0; i < pcap->num_marks; i++) {
		struct mark *mark = &pcap->marks[i];
		if (mark->frame != frame || pcap->room - pcap->used < more)
			continue;
		widen(pcap, mark, more);
		mark->bytes += pcapng_comment(pcap->buffer + mark->at, mark->bytes, text);
		mark->frame = NULL; /* its memory may be another frame's soon */
		return;
	}
}

/* ---- netdev ---- */

static uint32_t pcap_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct pcap *pcap = pcap_of(dev);

	write_when_due(pcap);
	uint32_t n = pcap->inner->ops->rx_burst(pcap->inner, frames,
						max < NETDEV_BURST ? max : NETDEV_BURST);
	dev->stats = pcap->inner->stats;
	if (n == 0)
		return 0;
	make_room(pcap, frames, n);
	pcap->num_marks = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t bytes = record(pcap, frames[i], false);
		count(pcap, bytes);
		if (bytes > 0)
			pcap->marks[pcap->num_marks++] = (struct mark){
				.frame = frames[i], .at = pcap->used - bytes, .bytes = bytes};
	}
	return n;
}

/* A burst of at most NETDEV_BURST.  The device may free frames that it takes, so they are recorded
 * before; those that it does not take are taken out of the buffer again. */
static uint32_t send_burst(struct pcap *pcap, struct frame **frames, uint32_t n)
{
	uint32_t bytes[NETDEV_BURST] = {0};

	make_room(pcap, frames, n);
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = record(pcap, frames[i], true);
	uint32_t taken = pcap->inner->ops->tx_burst(pcap->inner, frames, n);
	ASSERT(taken <= n);
	for (uint32_t i = 0; i < taken; i++)
		count(pcap, bytes[i]);
	for (uint32_t i = taken; i < n; i++)
		pcap->used -= bytes[i];
	return taken;
}

static uint32_t pcap_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct pcap *pcap = pcap_of(dev);
	uint32_t taken = 0;

	while (taken < count) {
		uint32_t n = count - taken < NETDEV_BURST ? count - taken : NETDEV_BURST;
		uint32_t more = send_burst(pcap, frames + taken, n);
		taken += more;
		if (more < n)
			break;
	}
	dev->stats = pcap->inner->stats;
	return taken;
}

static int pcap_arm(struct netdev *dev)
{
	struct pcap *pcap = pcap_of(dev);

	if (pcap->used > 0)
		write_out(pcap);
	return pcap->inner->ops->arm(pcap->inner);
}

static void pcap_disarm(struct netdev *dev)
{
	struct pcap *pcap = pcap_of(dev);

	pcap->inner->ops->disarm(pcap->inner);
}

static uint64_t pcap_next_deadline(struct netdev *dev)
{
	struct pcap *pcap = pcap_of(dev);
	uint64_t next = pcap->inner->ops->next_deadline(pcap->inner);

	return next < pcap->due_ns ? next : pcap->due_ns;
}

static void copy_traits(struct pcap *pcap)
{
	netdev_copy_traits(&pcap->dev, pcap->inner);
	pcap->dev.stats = pcap->inner->stats;
}

static int pcap_start(struct netdev *dev)
{
	struct pcap *pcap = pcap_of(dev);

	pcap->inner->sched = dev->sched;
	int err = pcap->inner->ops->start(pcap->inner);
	copy_traits(pcap);
	return err;
}

static int pcap_steer(struct netdev *dev, const struct ip_address *address, bool wanted)
{
	struct netdev *inner = pcap_of(dev)->inner;

	return inner->ops->steer(inner, address, wanted);
}

static void pcap_doorbell(struct netdev *dev)
{
	struct netdev *inner = pcap_of(dev)->inner;

	inner->ops->doorbell(inner);
}

static bool pcap_receives(struct netdev *dev, const struct netdev_flow *flow)
{
	struct netdev *inner = pcap_of(dev)->inner;

	return inner->ops->receives(inner, flow);
}

static void pcap_close(struct netdev *dev)
{
	struct netdev *inner = pcap_unwrap(dev, NULL);

	inner->ops->close(inner);
}

static const struct netdev_ops pcap_ops = {
	.name = "pcap",
	.rx_burst = pcap_rx_burst,
	.tx_burst = pcap_tx_burst,
	.doorbell = pcap_doorbell,
	.arm = pcap_arm,
	.disarm = pcap_disarm,
	.next_deadline = pcap_next_deadline,
	.start = pcap_start,
	.steer = pcap_steer,
	.receives = pcap_receives,
	.close = pcap_close,
};

/* ---- life ---- */

bool pcap_is(const struct netdev *dev)
{
	return dev->ops == &pcap_ops;
}

/* The last blocks, as far as the descriptor takes them at once. */
static void finish(struct pcap *pcap)
{
	write_out(pcap);
	if (pcap->counts.err || pcap->room - pcap->used < PCAPNG_END_BYTES)
		return;
	pcap->used += pcapng_end(pcap->buffer + pcap->used, time_ns(pcap), pcap->counts.frames,
				 pcap->counts.lost);
	write_out(pcap);
}

struct netdev *pcap_unwrap(struct netdev *dev, struct pcap_counts *counts)
{
	struct pcap *pcap = pcap_of(dev);
	struct netdev *inner = pcap->inner;

	ASSERT(pcap_is(dev));
	if (dev->sched) /* it was started */
		finish(pcap);
	if (counts)
		*counts = pcap->counts;
	close(pcap->fd);
	free(pcap);
	return inner;
}

static uint32_t buffer_bytes(const struct netdev *inner)
{
	uint64_t burst = (uint64_t)NETDEV_BURST * block_bytes(inner->mtu + ETHERNET + 4);

	return (uint32_t)(2 * burst > ROOM_BYTES ? 2 * burst : ROOM_BYTES);
}

/* 0 or -errno. */
static int write_head(struct pcap *pcap, const char *name)
{
	pcap->used = pcapng_begin(pcap->buffer, name, pcap->inner->mac);
	ssize_t done = write_some(pcap, pcap->buffer, pcap->used);
	if (done > 0)
		pcap->written = (uint32_t)done;
	return done < 0 ? (int)done : 0;
}

int pcap_wrap(struct netdev *inner, const struct pcap_options *options, struct netdev **out)
{
	uint32_t room = buffer_bytes(inner);
	struct pcap *pcap = calloc(1, sizeof(*pcap) + room);
	struct stat stat;

	if (!pcap)
		return -ENOMEM;
	pcap->dev.ops = &pcap_ops;
	pcap->dev.sched = inner->sched;
	pcap->dev.dropped = pcap_dropped;
	pcap->inner = inner;
	pcap->fd = options->fd;
	pcap->regular = fstat(options->fd, &stat) == 0 && S_ISREG(stat.st_mode);
	pcap->epoch_ns = options->epoch_ns;
	pcap->due_ns = TIMER_NEVER;
	pcap->room = room;
	int err = write_head(pcap, options->name);
	if (err) {
		free(pcap);
		return err;
	}
	copy_traits(pcap);
	*out = &pcap->dev;
	return 0;
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int pcap_wrap_fd(struct netdev *inner, int fd, struct netdev **out)
{
	const struct pcap_options options = {
		.fd = fd,
		.epoch_ns = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC),
		.name = inner->ops->name,
	};

	return pcap_wrap(inner, &options, out);
}

int pcap_wrap_file(struct netdev *inner, const char *path, const struct log *log,
		   struct netdev **out)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0600);
	int err = fd < 0 ? -errno : pcap_wrap_fd(inner, fd, out);

	if (err) {
		log_write(log, LOG_LEVEL_ERROR, "demitasse.capture: \"%s\": %s", path,
			  strerrordesc_np(-err));
		if (fd >= 0)
			close(fd);
	}
	return err;
}
