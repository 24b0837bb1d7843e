/* tests/unit/vhost_liar.c: see vhost_liar.h. What it reads of our memory it trusts: it is the
 * test's.
 */
#include "unit/vhost_liar.h"

#include "base/bits.h"
#include "base/prng.h"
#include "blkdev/vhost/vhost.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER offsetof(struct vhost_message, number)

enum {
	GET_FEATURES = 1,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	GET_QUEUE_NUM = 17,
	GET_CONFIG = 24
};

struct piece {
	uint64_t address; /* the front end's */
	uint64_t bytes;
	char *at;
};

/* One connection. */
struct session {
	struct liar *liar;
	int fd;
	struct piece pieces[2];
	uint32_t num_pieces;
	struct vring rings[LIAR_QUEUES];
	uint16_t seen[LIAR_QUEUES];
	int kick[LIAR_QUEUES];
	int call[LIAR_QUEUES];
	struct prng prng;
};

static void *reach(const struct session *s, uint64_t address)
{
	for (uint32_t i = 0; i < s->num_pieces; i++) {
		const struct piece *piece = &s->pieces[i];
		if (address - piece->address < piece->bytes)
			return piece->at + (address - piece->address);
	}
	(void)fprintf(stderr, "liar: %#lx is not in memory\n", (unsigned long)address);
	abort();
}

/* ---- requests ---- */

static uint8_t transfer(const struct session *s, uint32_t type, uint64_t at,
			const struct vring_desc *desc)
{
	unsigned char *drive = s->liar->drive + at;

	if (at + desc->len > s->liar->bytes)
		return VIRTIO_BLK_S_IOERR;
	if (s->liar->size_max && desc->len > s->liar->size_max)
		return VIRTIO_BLK_S_IOERR;
	if (type == VIRTIO_BLK_T_IN)
		memcpy(reach(s, desc->addr), drive, desc->len);
	else
		memcpy(drive, reach(s, desc->addr), desc->len);
	return VIRTIO_BLK_S_OK;
}

static void serve_one(const struct session *s, const struct vring *ring, uint16_t head)
{
	const struct vring_desc *table = ring->desc;
	const struct vring_desc *desc = &table[head];
	uint8_t status = VIRTIO_BLK_S_OK;

	if (desc->flags & VRING_DESC_F_INDIRECT) {
		table = reach(s, desc->addr);
		desc = table;
	}
	const struct virtio_blk_outhdr *request = reach(s, desc->addr);
	uint64_t at = request->sector * 512;
	for (desc = &table[desc->next]; desc->flags & VRING_DESC_F_NEXT;
	     desc = &table[desc->next]) {
		if (request->type == VIRTIO_BLK_T_IN || request->type == VIRTIO_BLK_T_OUT)
			status |= transfer(s, request->type, at, desc);
		at += desc->len;
	}
	if (s->liar->lie == LIE_STATUS)
		status = 77;
	if (s->liar->lie != LIE_NO_STATUS)
		__atomic_store_n((uint8_t *)reach(s, desc->addr), status, __ATOMIC_RELAXED);
}

static void use(const struct session *s, uint32_t queue, uint32_t id)
{
	struct vring *ring = (struct vring *)(uintptr_t)&s->rings[queue];
	uint16_t at = ring->used->idx;

	__atomic_store_n(&ring->used->ring[at % ring->num].id, id, __ATOMIC_RELAXED);
	__atomic_store_n(&ring->used->idx, (uint16_t)(at + 1), __ATOMIC_RELEASE);
}

static void jump(const struct session *s, uint32_t queue, uint16_t by)
{
	struct vring_used *used = s->rings[queue].used;

	__atomic_store_n(&used->idx, (uint16_t)(used->idx + by), __ATOMIC_RELEASE);
}

static void make_noise(struct session *s, uint32_t queue)
{
	struct vring *ring = &s->rings[queue];

	for (uint32_t i = 0; i < ring->num; i++)
		__atomic_store_n(&ring->used->ring[i].id, (uint32_t)prng_below(&s->prng, 160),
				 __ATOMIC_RELAXED);
	jump(s, queue, (uint16_t)prng_below(&s->prng, 4));
}

/* What a liar does in place of using head. */
static void lie(struct session *s, uint32_t queue, uint32_t head)
{
	static const char words[] = "good morning";

	switch (s->liar->lie) {
	case LIE_ID_RANGE:
		use(s, queue, UINT32_MAX - 3);
		break;
	case LIE_ID_STRIDE:
		use(s, queue, head + 1);
		break;
	case LIE_ID_IDLE:
		use(s, queue, 100);
		break;
	case LIE_ID_FLUSH:
		use(s, queue, 127);
		break;
	case LIE_ID_TWICE:
		use(s, queue, head);
		use(s, queue, head);
		break;
	case LIE_INDEX_AHEAD:
		jump(s, queue, 1000);
		break;
	case LIE_INDEX_BACK:
		jump(s, queue, UINT16_MAX);
		break;
	case LIE_INDEX_HALF:
		jump(s, queue, 32767); /* eight of them are not 0 */
		break;
	case LIE_SPEAKS:
		(void)!send(s->fd, words, sizeof(words), MSG_NOSIGNAL);
		break;
	case LIE_NOISE:
		make_noise(s, queue);
		break;
	default:
		use(s, queue, head);
	}
}

static void call_back(const struct session *s, uint32_t queue, uint16_t before)
{
	static const uint64_t one = 1;
	const struct vring *ring = &s->rings[queue];

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (s->liar->features >> VIRTIO_RING_F_EVENT_IDX & 1) {
		uint16_t event = __atomic_load_n(&vring_used_event(ring), __ATOMIC_RELAXED);
		if (!vring_need_event(event, ring->used->idx, before))
			return;
	} else if (__atomic_load_n(&ring->avail->flags, __ATOMIC_RELAXED) &
		   VRING_AVAIL_F_NO_INTERRUPT) {
		return;
	}
	(void)!write(s->call[queue], &one, sizeof(one));
}

static void serve(struct session *s, uint32_t queue)
{
	struct vring *ring = &s->rings[queue];
	uint16_t before = ring->used->idx;
	uint64_t kicks;

	(void)!read(s->kick[queue], &kicks, sizeof(kicks));
	while (s->seen[queue] != __atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE)) {
		uint16_t head = ring->avail->ring[s->seen[queue]++ % ring->num];
		serve_one(s, ring, head);
		lie(s, queue, head);
		__atomic_store_n(&vring_avail_event(ring), s->seen[queue], __ATOMIC_SEQ_CST);
	}
	call_back(s, queue, before);
}

/* ---- messages ---- */

static void answer(const struct session *s, struct vhost_message *m, uint32_t bytes)
{
	m->flags = 1 | 1 << 2;
	m->bytes = bytes;
	if (s->liar->lie == LIE_OTHER_ANSWER)
		m->request++;
	if (s->liar->lie == LIE_LONG_ANSWER)
		m->bytes = UINT32_MAX;
	if (s->liar->lie == LIE_SHORT_ANSWER)
		m->bytes = bytes = 0;
	if (s->liar->lie == LIE_NO_ANSWER_BIT)
		m->flags = 1;
	if (s->liar->lie != LIE_MUTE)
		(void)!send(s->fd, m, HEADER + bytes, MSG_NOSIGNAL);
}

static void answer_config(const struct session *s, struct vhost_message *m)
{
	const struct liar *liar = s->liar;
	struct virtio_blk_config config = {
		.capacity = liar->bytes / 512,
		.size_max = liar->size_max,
		.seg_max = liar->seg_max,
		.blk_size = liar->lie == LIE_BLOCK_SIZE ? 3 : 512,
		.num_queues = (uint16_t)liar->queues,
		.max_discard_sectors = 2048,
	};

	if (liar->lie == LIE_CAPACITY)
		config.capacity = UINT64_MAX;
	if (liar->lie == LIE_EMPTY)
		config.capacity = 0;
	memcpy(m->config.space, &config, VHOST_CONFIG_BYTES);
	answer(s, m, sizeof(m->config));
}

static void answer_number(const struct session *s, struct vhost_message *m, uint64_t number)
{
	m->number = number;
	answer(s, m, 8);
}

static void answer_features(const struct session *s, struct vhost_message *m)
{
	uint64_t features = s->liar->features | 1 << 30 | (uint64_t)1 << VIRTIO_F_VERSION_1;

	if (s->liar->lie == LIE_OLD)
		features &= ~((uint64_t)1 << VIRTIO_F_VERSION_1);
	if (s->liar->lie == LIE_READ_ONLY)
		features |= 1 << VIRTIO_BLK_F_RO;
	answer_number(s, m, features);
}

static void take_memory(struct session *s, const struct vhost_message *m, const int *fds)
{
	for (uint32_t i = 0; i < m->memory.count; i++) {
		struct piece *piece = &s->pieces[s->num_pieces++];
		piece->address = m->memory.pieces[i].user;
		piece->bytes = m->memory.pieces[i].bytes;
		piece->at = mmap(NULL, piece->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i],
				 (off_t)m->memory.pieces[i].offset);
		if (piece->at == MAP_FAILED)
			abort();
		(void)close(fds[i]);
	}
}

static void take_rings(struct session *s, const struct vhost_message *m)
{
	struct vring *ring = &s->rings[m->address.index];

	ring->desc = reach(s, m->address.desc);
	ring->avail = reach(s, m->address.avail);
	ring->used = reach(s, m->address.used);
}

static void acknowledge(const struct session *s, struct vhost_message *m)
{
	if (m->flags >> 3 & 1)
		answer_number(s, m, s->liar->lie == LIE_REFUSES && m->request == SET_MEM_TABLE);
}

/* False: hangs up. */
static bool heed(struct session *s, struct vhost_message *m, const int *fds)
{
	switch (m->request) {
	case GET_FEATURES:
		answer_features(s, m);
		return true;
	case GET_PROTOCOL_FEATURES:
		answer_number(s, m, 1 | 1 << 9 | (s->liar->acks ? 1 << 3 : 0));
		return true;
	case GET_QUEUE_NUM:
		answer_number(s, m, s->liar->lie == LIE_NO_QUEUES ? 0 : s->liar->queues);
		return true;
	case GET_CONFIG:
		if (s->liar->lie == LIE_HANGS_UP)
			return false;
		answer_config(s, m);
		return true;
	case SET_MEM_TABLE:
		take_memory(s, m, fds);
		break;
	case SET_VRING_NUM:
		s->rings[m->vring.index].num = m->vring.number;
		break;
	case SET_VRING_ADDR:
		take_rings(s, m);
		break;
	case SET_VRING_KICK:
		s->kick[m->number] = fds[0];
		break;
	case SET_VRING_CALL:
		s->call[m->number] = fds[0];
		break;
	default:
		break;
	}
	acknowledge(s, m);
	return true;
}

static bool hear(struct session *s)
{
	struct vhost_message m = {0};
	int fds[2] = {-1, -1};

	union {
		char bytes[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr header;
	} control = {0};
	struct iovec iov = {.iov_base = &m, .iov_len = HEADER};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	if (recvmsg(s->fd, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC) != (ssize_t)HEADER)
		return false;
	if (message.msg_controllen > 0)
		memcpy(fds, CMSG_DATA(&control.header), control.header.cmsg_len - CMSG_LEN(0));
	if (m.bytes > 0 &&
	    recv(s->fd, (char *)&m + HEADER, m.bytes, MSG_WAITALL) != (ssize_t)m.bytes)
		return false;
	return heed(s, &m, fds);
}

/* ---- life ---- */

/* Until the front end hangs up or the test wants it to end. */
static void run_session(struct session *s)
{
	for (;;) {
		struct pollfd fds[2 + LIAR_QUEUES] = {{.fd = s->fd, .events = POLLIN},
						      {.fd = s->liar->stop[0], .events = POLLIN}};
		for (uint32_t i = 0; i < LIAR_QUEUES; i++)
			fds[2 + i] = (struct pollfd){.fd = s->kick[i], .events = POLLIN};
		(void)poll(fds, ARRAY_LENGTH(fds), -1);
		if (fds[1].revents || (fds[0].revents && !hear(s)))
			return;
		for (uint32_t i = 0; i < LIAR_QUEUES; i++) {
			if (fds[2 + i].revents)
				serve(s, i);
		}
	}
}

static void end_session(struct session *s)
{
	for (uint32_t i = 0; i < s->num_pieces; i++)
		(void)munmap(s->pieces[i].at, s->pieces[i].bytes);
	for (uint32_t i = 0; i < LIAR_QUEUES; i++) {
		if (s->kick[i] >= 0)
			(void)close(s->kick[i]);
		if (s->call[i] >= 0)
			(void)close(s->call[i]);
	}
	(void)close(s->fd);
}

static void *run_liar(void *arg)
{
	struct liar *liar = arg;

	for (;;) {
		struct pollfd fds[] = {{.fd = liar->listener, .events = POLLIN},
				       {.fd = liar->stop[0], .events = POLLIN}};
		(void)poll(fds, ARRAY_LENGTH(fds), -1);
		if (fds[1].revents)
			return NULL;
		struct session s = {.liar = liar, .fd = accept(liar->listener, NULL, NULL)};
		memset(s.kick, -1, sizeof(s.kick));
		memset(s.call, -1, sizeof(s.call));
		prng_seed(&s.prng, 4711);
		run_session(&s);
		end_session(&s);
	}
}

int liar_make(struct liar *liar)
{
	(void)snprintf(liar->directory, sizeof(liar->directory), "/tmp/demi-liar-XXXXXX");
	liar->drive = calloc(1, LIAR_BYTES);
	if (!liar->drive || !mkdtemp(liar->directory))
		return -ENOMEM;
	(void)snprintf(liar->socket, sizeof(liar->socket), "%s/socket", liar->directory);
	return 0;
}

int liar_start(struct liar *liar)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};

	(void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", liar->socket);
	liar->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(liar->listener, (const struct sockaddr *)&name, sizeof(name)) ||
	    listen(liar->listener, 4) || pipe(liar->stop))
		return -errno;
	liar->running = pthread_create(&liar->thread, NULL, run_liar, liar) == 0;
	return liar->running ? 0 : -EAGAIN;
}

void liar_stop(struct liar *liar)
{
	if (!liar->running)
		return;
	(void)close(liar->stop[1]);
	(void)pthread_join(liar->thread, NULL);
	(void)close(liar->stop[0]);
	(void)close(liar->listener);
	(void)unlink(liar->socket);
	liar->running = false;
}

void liar_end(struct liar *liar)
{
	char lock[sizeof(liar->socket) + 8];

	liar_stop(liar);
	(void)snprintf(lock, sizeof(lock), "%s.lock", liar->socket);
	(void)unlink(lock);
	(void)rmdir(liar->directory);
	free(liar->drive);
	liar->drive = NULL;
}
