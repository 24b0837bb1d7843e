/* SPDX-License-Identifier: MIT
 * blkdev/vhost/vhost.h - a drive that a storage daemon serves in memory shared with us: virtio-blk
 * over vhost-user, of which this is the front end.
 *
 * The daemon listens at a Unix socket.  By messages there (protocol.c) it tells what the drive is
 * and learns where the memory (memory.c) and the queues (ring.c) are; after that requests and their
 * ends go through the queues alone (request.c).  The addresses that descriptors hold are our own.
 *
 * The daemon is not trusted: each field that it writes is read once, checked, then used.  One that
 * writes nonsense is given up for good (vhost_break).  One that dies is waited for (life.c):
 * requests that were under way, or come meanwhile, are submitted to the next at that socket.
 *
 * Life of a request: waiting -> in a slot of a queue -> done; a durable write goes from its slot to
 * unflushed -> flushing -> done, and a flush starts at unflushed.  What ends without the daemon
 * goes by way of ended, so that done is called from poll alone.
 * Invariants: taken == the requests in those lists and slots <= dev.depth == all slots but one,
 * which is for our flush; flushing is empty unless that slot is in use.
 */
#pragma once

#include "blkdev/blkdev.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#define VHOST_QUEUES_MAX    4
#define VHOST_RING          128 /* descriptors of a queue, each one request by an indirect table */
#define VHOST_RING_DIRECT   512 /* where there are no indirect tables */
#define VHOST_SEGMENTS      64  /* of a request */
#define VHOST_REQUEST_BYTES (1U << 20)
#define VHOST_CHUNK_BYTES   16384 /* what goes by way of our memory is cut into */
#define VHOST_NONE          UINT32_MAX
#define VHOST_ANSWER_NS     5000000000ULL /* longest that we wait for the daemon's answers */

/* What of struct virtio_blk_config every daemon has. */
#define VHOST_CONFIG_BYTES 60

/* A message of the protocol. */
struct vhost_message {
	uint32_t request;
	uint32_t flags;
	uint32_t bytes; /* of what follows */

	union {
		uint64_t number;

		struct {
			uint32_t index;
			uint32_t number;
		} vring;

		struct {
			uint32_t index;
			uint32_t flags;
			uint64_t desc;
			uint64_t used;
			uint64_t avail;
			uint64_t log;
		} address;

		struct {
			uint32_t count;
			uint32_t padding;

			struct {
				uint64_t guest; /* addresses in descriptors, */
				uint64_t bytes;
				uint64_t user; /* and in the messages about queues */
				uint64_t offset;
			} pieces[2];
		} memory;

		struct {
			uint32_t offset;
			uint32_t bytes;
			uint32_t flags;
			uint8_t space[VHOST_CONFIG_BYTES];
		} config;
	};
} __attribute__((packed));

/* What the drive is: it stays, whoever serves it. */
struct vhost_drive {
	uint64_t features;
	uint64_t capacity_bytes;
	uint32_t block_bytes;
	uint32_t queues;
	uint32_t segments_max; /* of a request */
	uint32_t segment_bytes_max;
	uint32_t discard_bytes_max;
};

/* The connection. */
struct vhost_link {
	struct fd_watch watch; /* fd -1: there is none */
	uint32_t step;         /* of the greeting */
	uint32_t queue;        /* that it is about */
	bool said;             /* its message was sent, */
	uint32_t heard;        /* and so many bytes of the answer have come */
	bool acks;             /* every message is answered */
	bool has_queues;       /* the daemon can be asked for their number */
	bool look;             /* something happened on the socket */
	struct vhost_drive drive;
	struct vhost_message answer;
};

/* Memory of a slot that the daemon reads and, the status, writes. */
struct vhost_shared {
	struct virtio_blk_outhdr head;
	struct virtio_blk_discard_write_zeroes range;
	uint8_t status;
} __attribute__((aligned(CACHE_LINE)));

struct vhost_slot {
	struct blk_request *request; /* NULL: our flush */
	uint32_t chunks;             /* the first that its data goes by; VHOST_NONE */
	uint32_t next;               /* free one */
	bool under_way;
};

struct vhost_queue {
	struct vring ring;
	struct vhost_slot *slots;
	struct vhost_shared *shared;
	struct vring_desc *tables; /* of each slot; NULL: they are in the ring itself */
	uint32_t free;
	uint32_t under_way;
	uint16_t put;    /* entries of the available ring, running freely */
	uint16_t kicked; /* those of them that the daemon knows of */
	uint16_t seen;   /* of the used ring */
	int kick_fd;
};

struct vhost_list {
	struct blk_request *first;
	struct blk_request *last;
};

enum vhost_state { VHOST_GREETING, VHOST_READY, VHOST_AWAY, VHOST_DEAD };

struct vhost {
	struct blkdev dev;
	enum vhost_state state;
	bool opened;    /* greeted once: the drive and the memory are there */
	bool gave_up;   /* the daemon is away for so long that requests fail */
	bool flush_out; /* our flush is under way */
	bool read_only;
	bool polling; /* what is submitted meanwhile is put out at the end of the poll */
	uint32_t num_queues;
	uint32_t num_slots;     /* of each queue */
	uint32_t table_entries; /* of each slot */
	uint32_t turn;          /* queue of the next request, */
	uint32_t turn_left;     /* and of so many after it */
	uint32_t taken;         /* requests under way */
	uint32_t idle_polls;    /* since the socket was looked at */
	uint64_t kicks;         /* so far */
	uint64_t away_since_ns; /* while not ready */
	uint64_t retry_ns;      /* away: when to connect; greeting: when to give it up */
	struct vhost_list waiting;
	struct vhost_list unflushed;
	struct vhost_list flushing;
	struct vhost_list ended;
	struct vhost_queue queues[VHOST_QUEUES_MAX];
	struct vhost_drive drive;
	struct vhost_link link;
	struct fd_watch call; /* the daemon's, of all queues */

	/* Shared memory. */
	int region_fd; /* the heap's */
	char *region;  /* NULL: none */
	uint64_t region_bytes;
	int arena_fd;
	char *arena;
	uint64_t arena_bytes;
	char *chunk_base;
	uint32_t *chunk_next; /* of a request, or of the free ones */
	uint32_t chunk_free;
	uint32_t chunks_left;
	int lock_fd;
	char path[108];
};

static inline struct vhost *vhost_of(struct blkdev *dev)
{
	return container_of(dev, struct vhost, dev);
}

static inline bool vhost_has(const struct vhost *v, uint32_t feature)
{
	return v->drive.features >> feature & 1;
}

/* Entries of the ring that a slot has. */
static inline uint32_t vhost_stride(const struct vhost *v)
{
	return v->queues[0].tables ? 1 : v->table_entries;
}

void vhost_list_add(struct vhost_list *list, struct blk_request *request);
/* All of from goes to the front of list. */
void vhost_list_prepend(struct vhost_list *list, struct vhost_list *from);
struct blk_request *vhost_list_take(struct vhost_list *list);

/* ---- vhost.c ---- */

int vhost_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out);

/* The drive is known: the memory, with the queues, and what else it needs.  0 or -errno. */
int vhost_prepare(struct vhost *v, const struct vhost_drive *drive);

/* ---- protocol.c ---- */

/* Begins a connection.  0 or -errno; -EAGAIN: too many are about to. */
int vhost_connect(struct vhost *v);
void vhost_disconnect(struct vhost *v);

/* Goes on with the greeting without blocking.  0: it is complete; -EAGAIN: an answer is to come;
 * -ECONNRESET: the daemon went away; else what is wrong with it. */
int vhost_greet(struct vhost *v);

/* ---- memory.c ---- */

/* By v->drive: the memory, with the queues in it.  0 or -errno. */
int vhost_memory_open(struct vhost *v);
void vhost_memory_close(struct vhost *v);

/* Is all that a request points to memory that the daemon reaches? */
bool vhost_reaches(const struct vhost *v, const struct blk_request *request);

/* Chunks for so many bytes: the first; VHOST_NONE: there are too few. */
uint32_t vhost_chunks_get(struct vhost *v, uint64_t bytes);
void vhost_chunks_put(struct vhost *v, uint32_t first);

static inline char *vhost_chunk(const struct vhost *v, uint32_t i)
{
	return v->chunk_base + (uint64_t)i * VHOST_CHUNK_BYTES;
}

/* Copies a request's data to its chunks, or back. */
void vhost_copy(const struct vhost *v, const struct blk_request *request, uint32_t chunk,
		bool back);

/* ---- ring.c ---- */

/* Empties a queue for a daemon that does not know it yet; no slot of it is in use. */
void vhost_queue_reset(struct vhost *v, struct vhost_queue *q);

/* Makes slot's head and table of the request, or of a flush if it has none; and puts it out. */
void vhost_queue_put(struct vhost *v, struct vhost_queue *q, uint32_t slot);

/* Tells the daemon of what was put. */
void vhost_queue_kick(struct vhost *v, struct vhost_queue *q);

/* How many used entries there are; -EPROTO: more than can be. */
int vhost_queue_used(const struct vhost_queue *q);

/* Takes the oldest, which there is: its slot, or -EPROTO. */
int vhost_queue_take(struct vhost *v, struct vhost_queue *q);

/* Whether the daemon calls when it has used an entry. */
void vhost_queue_call(struct vhost *v, struct vhost_queue *q, bool call);

/* ---- request.c ---- */

uint32_t vhost_submit(struct blkdev *dev, struct blk_request *const *requests, uint32_t count);

/* Takes used entries in.  Returns how many requests were done. */
uint32_t vhost_reap(struct vhost *v);

/* Puts out what waits, and a flush for what wants one; tells the daemon. */
void vhost_push(struct vhost *v);

/* Calls done of what ended without the daemon. */
uint32_t vhost_end(struct vhost *v);

/* The daemon is gone: its requests wait for the next. */
void vhost_recall(struct vhost *v);

/* All requests that wait end. */
void vhost_fail_all(struct vhost *v, int err);

/* ---- life.c ---- */

/* What is wrong with the daemon, after its name. */
const char *vhost_reason(int err);

uint64_t vhost_next_deadline(struct blkdev *dev);

/* The daemon is there and knows all. */
void vhost_begin(struct vhost *v);

/* Goes on with connecting anew, and with giving up. */
void vhost_revive(struct vhost *v);

/* Looks whether the daemon is still there. */
void vhost_look(struct vhost *v);

/* Cannot be used any more: what is under way ends with err, what comes later with -ENODEV.  why:
 * for the log. */
void vhost_break(struct vhost *v, int err, const char *why);
