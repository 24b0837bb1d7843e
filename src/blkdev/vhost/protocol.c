/* SPDX-License-Identifier: MIT
 * blkdev/vhost/protocol.c - the messages by which a daemon and we agree (QEMU's
 * docs/interop/vhost-user), one after the other: the greeting.
 */
#include "blkdev/vhost/vhost.h"

#include "base/bits.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER       offsetof(struct vhost_message, number)
#define VERSION      1U
#define VERSION_MASK 3U
#define IS_ANSWER    (1U << 2)
#define NEEDS_ACK    (1U << 3)
#define DIRECT_MAX   14 /* segments without indirect tables */
#define FDS_MAX      2
#define DISCARD_MAX  (1U << 21) /* sectors: 1 GiB */

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
};

enum { PROTOCOL_MQ = 0, PROTOCOL_REPLY_ACK = 3, PROTOCOL_CONFIG = 9 };

#define F_PROTOCOL_FEATURES 30
#define BIT(n)              ((uint64_t)1 << (n))

#define NEEDED (BIT(VIRTIO_F_VERSION_1) | BIT(F_PROTOCOL_FEATURES))
#define WANTED                                                                           \
	(NEEDED | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |      \
	 BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_RO) | \
	 BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ) |   \
	 BIT(VIRTIO_BLK_F_DISCARD))

static_assert(sizeof(struct virtio_blk_config) >= VHOST_CONFIG_BYTES, "what is asked for");

/* ---- what the daemon answers ---- */

static int heed_features(struct vhost *v)
{
	uint64_t features = v->link.answer.number & WANTED;

	if ((features & NEEDED) != NEEDED)
		return -ENOTSUP;
	/* Another daemon may offer more; the queues and we go on as before. */
	v->link.drive.features = v->opened ? features & v->drive.features : features;
	return 0;
}

static int heed_protocol_features(struct vhost *v)
{
	uint64_t features = v->link.answer.number;

	if (!(features & BIT(PROTOCOL_CONFIG)))
		return -ENOTSUP;
	v->link.has_queues = features & BIT(PROTOCOL_MQ);
	v->link.acks = features & BIT(PROTOCOL_REPLY_ACK);
	return 0;
}

static int heed_queue_num(struct vhost *v)
{
	uint64_t queues = v->link.answer.number;

	if (queues == 0)
		return -EPROTO;
	v->link.drive.queues = queues < VHOST_QUEUES_MAX ? (uint32_t)queues : VHOST_QUEUES_MAX;
	return 0;
}

static bool offers(const struct vhost_drive *drive, uint32_t feature)
{
	return drive->features >> feature & 1;
}

static void heed_limits(struct vhost_drive *drive, const struct virtio_blk_config *config)
{
	uint32_t most = offers(drive, VIRTIO_RING_F_INDIRECT_DESC) ? VHOST_SEGMENTS : DIRECT_MAX;
	uint32_t segments = offers(drive, VIRTIO_BLK_F_SEG_MAX) ? config->seg_max : 1;
	uint32_t discard = offers(drive, VIRTIO_BLK_F_DISCARD) ? config->max_discard_sectors : 0;

	segments = segments > 0 ? segments : 1;
	drive->segments_max = segments < most ? segments : most;
	drive->segment_bytes_max = VHOST_REQUEST_BYTES;
	/* QEMU's daemon offers it and says 0: any size. */
	if (offers(drive, VIRTIO_BLK_F_SIZE_MAX) && config->size_max > 0 &&
	    config->size_max < VHOST_REQUEST_BYTES)
		drive->segment_bytes_max = config->size_max;
	discard = discard < DISCARD_MAX ? discard : DISCARD_MAX;
	drive->discard_bytes_max = discard * 512 / drive->block_bytes * drive->block_bytes;
	uint32_t queues = offers(drive, VIRTIO_BLK_F_MQ) ? config->num_queues : 1;
	if (drive->queues > queues)
		drive->queues = queues;
}

static bool same_drive(const struct vhost_drive *a, const struct vhost_drive *b)
{
	return a->features == b->features && a->capacity_bytes == b->capacity_bytes &&
	       a->block_bytes == b->block_bytes && a->queues == b->queues &&
	       a->segments_max == b->segments_max && a->segment_bytes_max == b->segment_bytes_max &&
	       a->discard_bytes_max == b->discard_bytes_max;
}

static int heed_config(struct vhost *v)
{
	struct vhost_drive *drive = &v->link.drive;
	struct virtio_blk_config config = {0};

	memcpy(&config, v->link.answer.config.space, VHOST_CONFIG_BYTES);
	uint32_t block = offers(drive, VIRTIO_BLK_F_BLK_SIZE) ? config.blk_size : 512;
	if (block < 512 || block > BLKDEV_BLOCK_MAX || (block & (block - 1)))
		return -ENOTSUP;
	drive->block_bytes = block == 512 ? 512 : BLKDEV_BLOCK_MAX;
	if (config.capacity > INT64_MAX / 512)
		return -EPROTO;
	drive->capacity_bytes = config.capacity * 512 / drive->block_bytes * drive->block_bytes;
	heed_limits(drive, &config);
	if (drive->capacity_bytes == 0 || drive->queues == 0 ||
	    drive->segment_bytes_max < BLKDEV_BLOCK_MAX)
		return -ENOTSUP;
	if (v->opened)
		return same_drive(drive, &v->drive) ? 0 : -ENXIO;
	return vhost_prepare(v, drive);
}

/* ---- what we say ---- */

struct fds {
	uint32_t count;
	int fd[FDS_MAX];
};

static void fill_protocol_features(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	(void)fds;
	m->number = v->link.answer.number &
		    (BIT(PROTOCOL_MQ) | BIT(PROTOCOL_REPLY_ACK) | BIT(PROTOCOL_CONFIG));
}

static void fill_config(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	(void)v;
	(void)fds;
	m->config.bytes = VHOST_CONFIG_BYTES;
}

static void fill_features(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	(void)fds;
	m->number = v->drive.features;
}

static void add_piece(struct vhost_message *m, const char *at, uint64_t bytes)
{
	uint32_t i = m->memory.count++;

	m->memory.pieces[i].guest = (uint64_t)(uintptr_t)at;
	m->memory.pieces[i].bytes = bytes;
	m->memory.pieces[i].user = (uint64_t)(uintptr_t)at;
}

static void fill_memory(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	if (v->region) {
		add_piece(m, v->region, v->region_bytes);
		fds->fd[fds->count++] = v->region_fd;
	}
	add_piece(m, v->arena, v->arena_bytes);
	fds->fd[fds->count++] = v->arena_fd;
	m->bytes = (uint32_t)(offsetof(struct vhost_message, memory.pieces) - HEADER +
			      m->memory.count * sizeof(m->memory.pieces[0]));
}

static void fill_number(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	(void)fds;
	m->vring.index = v->link.queue;
	m->vring.number = v->queues[v->link.queue].ring.num;
}

static void fill_base(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	(void)fds;
	m->vring.index = v->link.queue;
}

static void fill_enable(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	(void)fds;
	m->vring.index = v->link.queue;
	m->vring.number = 1;
}

static void fill_address(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	const struct vring *ring = &v->queues[v->link.queue].ring;

	(void)fds;
	m->address.index = v->link.queue;
	m->address.desc = (uint64_t)(uintptr_t)ring->desc;
	m->address.used = (uint64_t)(uintptr_t)ring->used;
	m->address.avail = (uint64_t)(uintptr_t)ring->avail;
}

static void fill_kick(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	m->number = v->link.queue;
	fds->fd[fds->count++] = v->queues[v->link.queue].kick_fd;
}

static void fill_call(const struct vhost *v, struct vhost_message *m, struct fds *fds)
{
	m->number = v->link.queue;
	fds->fd[fds->count++] = v->call.fd;
}

/* ---- step by step ---- */

struct step {
	uint32_t request;
	uint32_t bytes;
	uint32_t answer_bytes; /* 0: none but an acknowledgement */
	void (*fill)(const struct vhost *v, struct vhost_message *m, struct fds *fds);
	int (*heed)(struct vhost *v);
};

#define BYTES_OF(member) sizeof(((struct vhost_message *)0)->member)

static const struct step steps[] = {
	{GET_FEATURES, 0, 8, NULL, heed_features},
	{SET_OWNER, 0, 0, NULL, NULL},
	{GET_PROTOCOL_FEATURES, 0, 8, NULL, heed_protocol_features},
	{SET_PROTOCOL_FEATURES, 8, 0, fill_protocol_features, NULL},
	{GET_QUEUE_NUM, 0, 8, NULL, heed_queue_num},
	{GET_CONFIG, BYTES_OF(config), BYTES_OF(config), fill_config, heed_config},
	{SET_FEATURES, 8, 0, fill_features, NULL},
	{SET_MEM_TABLE, 0, 0, fill_memory, NULL},
	{SET_VRING_NUM, BYTES_OF(vring), 0, fill_number, NULL}, /* from here on: each queue */
	{SET_VRING_BASE, BYTES_OF(vring), 0, fill_base, NULL},
	{SET_VRING_ADDR, BYTES_OF(address), 0, fill_address, NULL},
	{SET_VRING_KICK, 8, 0, fill_kick, NULL},
	{SET_VRING_CALL, 8, 0, fill_call, NULL},
	{SET_VRING_ENABLE, BYTES_OF(vring), 0, fill_enable, NULL},
};

#define STEP_ACKED 4 /* from here on messages are acknowledged */
#define STEP_QUEUE 8

static bool wants_ack(const struct vhost_link *link)
{
	return link->acks && link->step >= STEP_ACKED && steps[link->step].answer_bytes == 0;
}

static int send_message(const struct vhost_link *link, struct vhost_message *m,
			const struct fds *fds)
{
	union {
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct cmsghdr header;
	} control = {0};
	struct iovec iov = {.iov_base = m, .iov_len = HEADER + m->bytes};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fds->count > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fds->count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fds->count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds->fd, fds->count * sizeof(int));
	}
	ssize_t n = sendmsg(link->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n == (ssize_t)iov.iov_len)
		return 0;
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : -ECONNRESET;
}

static int say(struct vhost *v)
{
	struct vhost_link *link = &v->link;
	const struct step *step = &steps[link->step];
	struct vhost_message m = {.request = step->request, .flags = VERSION, .bytes = step->bytes};
	struct fds fds = {0};

	if (wants_ack(link))
		m.flags |= NEEDS_ACK;
	if (step->fill)
		step->fill(v, &m, &fds);
	int err = send_message(link, &m, &fds);
	if (err)
		return err;
	link->said = true;
	link->heard = 0;
	return 0;
}

/* Reads on, up to so many bytes of the answer.  0: they are there. */
static int hear_bytes(struct vhost_link *link, uint32_t bytes)
{
	while (link->heard < bytes) {
		ssize_t n = recv(link->watch.fd, (char *)&link->answer + link->heard,
				 bytes - link->heard, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return -EAGAIN;
		if (n <= 0)
			return -ECONNRESET;
		link->heard += (uint32_t)n;
	}
	return 0;
}

static int hear(struct vhost_link *link, uint32_t bytes)
{
	const struct vhost_message *answer = &link->answer;
	int err = hear_bytes(link, HEADER);

	if (err)
		return err;
	if (answer->request != steps[link->step].request || answer->bytes != bytes ||
	    (answer->flags & VERSION_MASK) != VERSION || !(answer->flags & IS_ANSWER))
		return -EPROTO;
	return hear_bytes(link, HEADER + bytes);
}

/* One message and its answer. */
static int take_step(struct vhost *v)
{
	struct vhost_link *link = &v->link;
	const struct step *step = &steps[link->step];
	bool ack = wants_ack(link);
	int err = link->said ? 0 : say(v);

	if (err)
		return err;
	if (ack || step->answer_bytes > 0) {
		err = hear(link, ack ? 8 : step->answer_bytes);
		if (err)
			return err;
	}
	if (ack && link->answer.number != 0)
		return -EINVAL;
	return step->heed ? step->heed(v) : 0;
}

static void next_step(struct vhost *v)
{
	struct vhost_link *link = &v->link;

	link->said = false;
	link->step++;
	if (steps[link->step % ARRAY_LENGTH(steps)].request == GET_QUEUE_NUM && !link->has_queues)
		link->step++;
	if (link->step == ARRAY_LENGTH(steps) && ++link->queue < v->num_queues)
		link->step = STEP_QUEUE;
}

int vhost_greet(struct vhost *v)
{
	v->link.look = false;
	while (v->link.step < ARRAY_LENGTH(steps)) {
		int err = take_step(v);
		if (err)
			return err;
		next_step(v);
	}
	return 0;
}

/* ---- the connection ---- */

static void something_happened(struct fd_watch *watch, uint32_t events)
{
	struct vhost_link *link = container_of(watch, struct vhost_link, watch);

	(void)events;
	link->look = true;
}

int vhost_connect(struct vhost *v)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	memcpy(name.sun_path, v->path, sizeof(name.sun_path));
	v->link = (struct vhost_link){
		.watch = {.fd = fd, .lazy = true, .fn = something_happened},
		.drive.queues = 1,
	};
	int err = connect(fd, (const struct sockaddr *)&name, sizeof(name)) ? -errno : 0;
	if (!err)
		err = fdset_add(&v->dev.sched->fds, &v->link.watch, EPOLLIN | EPOLLRDHUP | EPOLLET);
	if (err)
		vhost_disconnect(v);
	for (uint32_t i = 0; !err && i < v->num_queues; i++)
		vhost_queue_reset(v, &v->queues[i]);
	return err;
}

void vhost_disconnect(struct vhost *v)
{
	if (v->link.watch.fd < 0)
		return;
	fdset_remove(&v->dev.sched->fds, &v->link.watch);
	(void)close(v->link.watch.fd);
	v->link.watch.fd = -1;
}
