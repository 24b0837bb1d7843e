/* SPDX-License-Identifier: MIT
 * transport/rdma/rdma.h - libOS catmint: queues over a network that the device itself makes
 * reliable.
 *
 * A stream socket is an rdma_cm id with an RC queue pair; what is pushed as one element pops as
 * one.  An instance has one device, found by the first address that is bound or connected to, with
 * one shared receive queue (SRQ) and one completion queue.  docs/design/0015-rdma.md says why.
 *
 * A message is a header (wire.h) and its payload, received into a frame of the heap.  Each takes a
 * credit of the receiver's, so a receive is posted whenever one comes.  Credits, and how many
 * rendezvous are done, are two counters that only grow: they ride on every header, and where the
 * reverse direction is idle they are written into the peer's credit word by a one-sided write.
 *
 * Memory: struct rdma_engine owns the device and all connections.  A connection is freed when its
 * queue pair is gone and neither a queue nor a listener's backlog has it.  Frames are the heap's,
 * one application reference each, which becomes that of whoever pops them.  Pushed memory is held
 * by library references, in the slot of the send queue that it went out by (struct rdma_slot) or in
 * the offer of a rendezvous (struct rdma_offer), until the device is done with it.
 *
 * Invariants, walked by rdma_check; all counters are modulo 2^32:
 *   engine:     posted + num_free == receives_max: wr_id of a receive is a place in receives
 *               posted == sum of open of all connections + ungranted, and ungranted >= 0: a
 *               receive is posted for each credit that a peer has
 *               posted + post_wanted + sum of queued == sum of windows + RDMA_SLACK
 *               num_bare <= num_free: the first places of free_receives have no frame, the
 *               others have kept theirs, for the next receive
 *   connection: open + queued <= window, while it has one; what is missing is due (rdma_due)
 *               a pop waits only while nothing is queued, or nothing that is ready, and never
 *               behind the end
 *               sent - granted <= 0: nothing is sent without a credit
 *               posted - completed <= depth; signalled <= posted
 *               released <= invalidated <= done <= announced <= released + RDMA_OFFERS
 *
 * What is called of the core, for src/sched/plugin.def: borrow_ref, borrow_unref, fdset_add,
 * fdset_remove, heap_alloc_huge, heap_alloc_slow, heap_frames_left, heap_free, heap_free_inside,
 * heap_release, heap_set_frames, op_complete, queue_take_none, timer_arm, timer_cancel, timer_init;
 * base/log.c and base/assert.c are in every plug-in.
 */
#pragma once

#include "sched/hold.h"
#include "transport/rdma/verbs.h"
#include "transport/rdma/wire.h"
#include "transport/transport.h"

#include "base/list.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#define RDMA_BATCH       32 /* completions, receives that are posted, sends of which one is signalled */
#define RDMA_SLACK       16  /* receives beyond the credits: so many are posted at a time */
#define RDMA_OFFERS      8   /* rendezvous of a connection that are under way */
#define RDMA_SPARES      64  /* frames that are kept for the next receives, but for their own */
#define RDMA_SLOT_BYTES  256 /* registered memory of each slot: a header, and small payload */
#define RDMA_COPY_BYTES  256 /* shorter payload is copied out of its frame */
#define RDMA_CREDITS_MAX 65536
#define RDMA_BUFFER_MIN  512        /* a header and what is announced fit, and small payload */
#define RDMA_BUFFER_MAX  2097152    /* of a peer's, too */
#define RDMA_WAIT_NS     50000      /* between two looks at a credit word while asleep */
#define RDMA_EVENTS_NS   1000000    /* between two looks at rdma_cm's events while awake ... */
#define RDMA_EAGER_NS    50000      /* ... and while something is being set up or torn down */
#define RDMA_RESOLVE_MS  2000       /* for an address, and for a route */
#define RDMA_DRAIN_NS    1000000000 /* a device that gave work back no sooner has failed */
#define RDMA_CLOSED_NS \
	100000000000 /* a closed connection that its peer does not let end is given up */
#define RDMA_SEND_WR \
	((uint64_t)1 << 63) /* wr_id: a send's, connection and position; else a receive's */

#define RDMA_DATAGRAM_WR ((uint64_t)1 << 62) /* one of a datagram socket's */
#define RDMA_DATAGRAMS   64                  /* sockets of an instance */

struct rdma_datagram;
struct rdma_engine;
struct rdma_listener;
struct rdma_peer;
struct rdma_queue;

/* ---- the device ---- */

struct rdma_region {
	uint64_t base; /* 0: free */
	uint64_t bytes;
	struct ibv_mr *mr;
};

/* What is registered: whole superblocks, by a hash of their addresses, linear probing. */
struct rdma_memory {
	struct rdma_region *regions;
	uint32_t size; /* a power of two */
	uint32_t used;
	bool told; /* the log knows that too little memory may be locked */
};

struct rdma_word {
	_Atomic uint32_t granted
		__attribute__((aligned(64))); /* pairs with the device, which writes both */
	_Atomic uint32_t done;
};

struct rdma_device {
	struct ibv_context *context; /* NULL: there is none yet */
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_srq *srq;
	struct fd_watch completions;
	struct fd_watch asyncs;
	struct rdma_word *words; /* a credit word for each connection */
	struct heap_watcher watcher;
	bool watching;
	bool windows; /* memory windows of type 2 */
	bool gone;
	uint32_t inline_max;
	uint32_t sge_max;
	uint32_t read_bytes_max; /* of one RDMA read */
	uint8_t responder_resources;
	uint8_t initiator_depth;
	uint32_t receives_max;
	uint32_t depth; /* of a send queue, a power of two */
};

/* ---- connections ---- */

enum rdma_state {
	RDMA_RESOLVING,  /* waits for the peer's address, then for the route */
	RDMA_CONNECTING, /* waits for the peer's answer */
	RDMA_ACCEPTING,  /* answered, waits for the peer's last word */
	RDMA_OPEN,
	RDMA_DRAINING, /* the queue pair is in error: what it has been given comes back */
	RDMA_OVER,     /* the queue pair is gone */
};

enum rdma_slot_kind {
	RDMA_SLOT_SEND,       /* references to be dropped */
	RDMA_SLOT_COPY,       /* refs[0]: a copy, to be freed */
	RDMA_SLOT_READ,       /* the last read of the entry at position entry */
	RDMA_SLOT_INVALIDATE, /* the last window of an offer */
};

/* What a work request of the send queue holds. */
struct rdma_slot {
	uint8_t kind;
	uint8_t num_refs;
	bool holds; /* that somebody waits for: memory is released by its completion */
	uint32_t entry;
	void *refs[OP_SEGMENTS_MAX];
};

/* A message that the peer reads by itself. */
struct rdma_offer {
	uint32_t num_segments;
	uint32_t copied; /* bitmap: those that are copies of ours */
	void *refs[OP_SEGMENTS_MAX];
	struct ibv_mw *windows[OP_SEGMENTS_MAX]; /* kept for the next offer in this place */
	struct ibv_mr *regions[OP_SEGMENTS_MAX]; /* without windows */
};

/* A message that nobody has popped yet. */
struct rdma_entry {
	char *frame;  /* NULL: the payload is all in object */
	char *object; /* a copy, or what is read into; NULL: not yet */
	uint64_t bytes;
	uint8_t kind;
	uint8_t segment; /* where the next read goes on */
	bool ready;
	bool asked; /* all reads are posted */
	uint32_t offset;
};

enum rdma_user { RDMA_USER_LISTENER, RDMA_USER_CONN, RDMA_USER_DATAGRAM, RDMA_USER_PEER };

struct rdma_conn {
	enum rdma_user user; /* first: an id's context */
	enum rdma_state state;
	struct rdma_engine *engine;
	struct rdma_queue *queue;       /* NULL: closed, or not accepted yet */
	struct rdma_listener *listener; /* in whose backlog it is */
	struct rdma_cm_id *id;
	struct ibv_qp *qp;
	uint32_t qp_num; /* its */
	struct rdma_conn *hash_next;
	uint32_t index; /* of its credit word */
	int error;      /* what operations are told; 0: none yet */
	struct op *connect;

	/* What goes out. */
	uint32_t sent;    /* messages */
	uint32_t granted; /* the peer's: so many may be */
	uint32_t posted;  /* work requests */
	uint32_t completed;
	uint32_t signalled; /* the last that was: its number + 1 */
	uint32_t held;      /* the last that holds something: its number + 1 */
	uint32_t depth;     /* a power of two */
	uint32_t inline_max;
	uint32_t peer_payload_max; /* of a message; more is by rendezvous */
	uint32_t peer_message_max;
	uint32_t slot_key;
	char *slot_memory;
	struct rdma_slot *slots;
	struct op_list pushes; /* that wait for a credit or for room */
	uint64_t word_address; /* the peer's credit word */
	uint32_t word_rkey;
	bool write_shut; /* the user's */
	bool end_wanted;
	bool end_sent;
	bool closing; /* the queue is gone, what was pushed is not through yet */

	/* Rendezvous that we offer, modulo 2^32. */
	uint32_t announced;
	uint32_t done; /* by the peer's word */
	uint32_t invalidated;
	uint32_t released;
	struct rdma_offer *offers; /* RDMA_OFFERS; NULL until the first */

	/* What comes in. */
	uint32_t window;
	uint32_t in_granted;
	int32_t open;        /* of these, the peer has so many still */
	uint32_t due_enough; /* messages, taken and not yet granted anew, to be worth a write */
	int32_t open_enough; /* window - due_enough */
	uint32_t in_done;    /* rendezvous that we have read */
	uint32_t told_done;
	bool untold;   /* what was to be told was not posted */
	uint32_t head; /* of entries, modulo 2^32 */
	uint32_t tail;
	uint32_t asked; /* reads are posted of what is before it */
	uint32_t entries_mask;
	struct rdma_entry *entries;
	uint64_t read_bytes; /* of entries that have an object to be read into */
	struct op_list pops;
	struct ibv_mr *word_region;
	bool in_ended;
	bool deaf; /* nobody will pop */
	bool established;
	struct sockaddr_storage local;
	struct sockaddr_storage peer;

	uint64_t deadline_ns; /* draining; closed, and not through yet */
	uint32_t moved;       /* closed: what the peer granted and read when that was set */
	bool drain_looked;    /* the CQ was looked at since */
	struct timer timer;   /* connecting; open: keep-alive */
	struct list in_engine;
	struct list in_backlog;
	struct list waits; /* in engine->waiting */
	struct list owes;  /* in engine->owing */
	struct list drains;
};

/* ---- sockets ---- */

struct rdma_listener {
	enum rdma_user user; /* first */
	struct rdma_engine *engine;
	struct rdma_cm_id *id;
	struct list backlog; /* connections that nobody has accepted, oldest first */
	uint32_t num_backlog;
	uint32_t backlog_max;
	struct op_list accepts;
	int domain;
	int error; /* the device is gone */
	struct list in_engine;
};

struct rdma_queue {
	struct queue queue;
	struct rdma_engine *engine;
	struct rdma_conn *conn;         /* NULL: not connected */
	struct rdma_listener *listener; /* NULL: none */
	struct rdma_cm_id *bound;       /* an id with an address and nothing else */
	int domain;
	bool reuse_address;
};

struct rdma_engine {
	struct engine engine;
	const struct rdma_verbs *verbs;
	struct rdma_event_channel *channel;
	struct fd_watch events;
	struct rdma_device device;
	struct rdma_memory memory;
	int32_t post_wanted; /* receives; below 0: more are posted than are needed */
	int32_t ungranted;   /* those that are posted, and no peer has a credit for; below 0: peers
				sent without */
	uint32_t windows;    /* sum */
	bool frames_short;
	uint32_t frames_out; /* given to the application since the last look */
	char **receives;     /* frames that are posted or kept, by wr_id */
	uint32_t *free_receives;
	uint32_t num_free;
	uint32_t num_bare;
	struct rdma_conn **by_qp; /* hash by number of queue pair */
	uint32_t by_qp_mask;
	struct rdma_conn **by_index;
	uint32_t conns_max;
	uint32_t num_conns;
	uint32_t next_index;
	uint32_t num_lingering;
	uint32_t num_changing; /* ids that are being connected or torn down */
	uint64_t looked_ns;    /* at events */
	struct list conns;
	struct list listeners;
	struct list waiting; /* for what a peer writes into their words */
	struct list owing;   /* credits, or news of rendezvous */
	struct list draining;
	struct rdma_datagram *datagrams[RDMA_DATAGRAMS]; /* by their numbers in wr_id */
	struct list over; /* connections that outlived their device, for their queues */
};

static inline struct rdma_engine *rdma_engine_of(struct engine *engine)
{
	return container_of(engine, struct rdma_engine, engine);
}

static inline struct rdma_queue *rdma_queue_of(struct queue *queue)
{
	return container_of(queue, struct rdma_queue, queue);
}

static inline struct sched *rdma_sched(const struct rdma_engine *re)
{
	return re->engine.sched;
}

/* ---- engine.c ---- */

/* The engine, with no device yet.  verbs outlives it.  0 or -errno. */
int rdma_open(struct sched *sched, const struct rdma_verbs *verbs, struct engine **engine_out);

extern const struct engine_ops rdma_engine_ops;

/* ---- device.c ---- */

/* Makes the device of an id the instance's, if it has none.  0 or -errno: -EADDRNOTAVAIL, it is not
 * the configured one, or not that of the other addresses. */
int rdma_device_use(struct rdma_engine *re, struct rdma_cm_id *id);
void rdma_device_close(struct rdma_engine *re);
/* Ends everything: the device was removed, or is broken. */
void rdma_device_lost(struct rdma_engine *re);

/* -errno of a call that returned -1 or NULL, never 0. */
static inline int rdma_errno(void)
{
	return errno > 0 ? -errno : -EIO;
}

/* ---- memory.c ---- */

/* Registers the superblock of ptr, which is the heap's, unless it is.  0, -ENOMEM ... */
int rdma_register(struct rdma_engine *re, const void *ptr, const struct rdma_region **out);
void rdma_memory_close(struct rdma_engine *re);
void rdma_memory_going(struct heap_watcher *watcher, char *base, uint64_t bytes);

static inline uint32_t rdma_region_place(const struct rdma_memory *memory, uint64_t base)
{
	return (uint32_t)(base >> SUPERBLOCK_SHIFT) & (memory->size - 1);
}

/* The key of memory of the heap, registering it if need be: 0, or -errno. */
static inline int rdma_region_of(struct rdma_engine *re, const void *ptr,
				 const struct rdma_region **out)
{
	const struct rdma_memory *memory = &re->memory;
	uint64_t base = (uintptr_t)pages_find(ptr)->base;
	const struct rdma_region *region = &memory->regions[rdma_region_place(memory, base)];

	if (unlikely(region->base != base))
		return rdma_register(re, ptr, out);
	*out = region;
	return 0;
}

/* May the device read it where it is?  Not what another process has lent us. */
static inline bool rdma_own(const void *ptr)
{
	return pages_find(ptr)->class != HEAP_BORROWED;
}

/* ---- conn.c ---- */

/* A connection of an id whose device is known; id stays the caller's after an error.  0 or -errno.
 */
int rdma_conn_new(struct rdma_engine *re, struct rdma_conn **conn_out);
/* Queue pair, window and credit word, when the device is known. */
int rdma_conn_equip(struct rdma_conn *conn);
/* Takes in what the peer said of itself.  0 or -EPROTO. */
int rdma_conn_meet(struct rdma_conn *conn, const struct rdma_hello *hello);
void rdma_conn_hello(const struct rdma_conn *conn, struct rdma_hello *hello);
/* err: -errno that operations are told; what arrived before stays to be popped. */
void rdma_conn_fail(struct rdma_conn *conn, int err);
/* The queue is gone. */
void rdma_conn_close(struct rdma_conn *conn);
/* A connection that is closing goes on as far as it can. */
void rdma_conn_step(struct rdma_conn *conn);
/* The CQ was seen empty: those that have all their work back are over. */
void rdma_conns_drain(struct rdma_engine *re);
/* From now on an idle connection's peer is asked for now and then. */
void rdma_keep_alive(struct rdma_conn *conn);
/* As rdma_conn_fail; the device is gone, nothing comes back of it. */
void rdma_conn_lost(struct rdma_conn *conn, int err);
/* At once, the device may have its work still. */
void rdma_conn_destroy(struct rdma_conn *conn);
void rdma_leave_backlog(struct rdma_conn *conn);
/* The id is the caller's again, its queue pair is gone. */
void rdma_conn_release_id(struct rdma_conn *conn);
void rdma_conn_set_state(struct rdma_conn *conn, enum rdma_state state);

static inline bool rdma_is_up(const struct rdma_conn *conn)
{
	return conn->state == RDMA_OPEN || conn->state == RDMA_ACCEPTING;
}

static inline struct rdma_conn *rdma_conn_by_qp(const struct rdma_engine *re, uint32_t number)
{
	struct rdma_conn *conn = re->by_qp[number & re->by_qp_mask];

	while (conn && conn->qp_num != number)
		conn = conn->hash_next;
	return conn;
}

/* ---- send.c ---- */

int rdma_push(struct rdma_conn *conn, struct op *op);
/* Sends what waits, as far as credits and room go. */
void rdma_send_waiting(struct rdma_conn *conn);
void rdma_send_completed(struct rdma_engine *re, const struct ibv_wc *wc);
/* Drops what slots hold, up to number position. */
void rdma_slots_release(struct rdma_conn *conn, uint32_t position);
void rdma_fail_pushes(struct rdma_conn *conn, int err);
void rdma_cancel_push(struct rdma_conn *conn, struct op *op);
/* Goes on with whatever waited for room or for the peer's counters. */
void rdma_conn_more(struct rdma_conn *conn);
bool rdma_send_end(struct rdma_conn *conn);
/* Writes what is owed into the peer's word; always: if nothing is, to have a completion. */
bool rdma_write_word(struct rdma_conn *conn, bool always);
/* The queue pair is in error: a last work request, behind all that was posted, comes back, too.
 * What was not signalled and went out before tells nothing by itself. */
void rdma_post_marker(struct rdma_conn *conn);
/* Has a completion come for the last work request. */
void rdma_signal_tail(struct rdma_conn *conn);
/* Takes in counters of the peer's; false: they cannot be, and the connection has failed. */
bool rdma_take_counters(struct rdma_conn *conn, uint32_t granted, uint32_t done);
void rdma_look_at_word(struct rdma_conn *conn);
/* The next work request's slot, and its memory: there is room. */
struct rdma_slot *rdma_slot_next(struct rdma_conn *conn, struct ibv_send_wr *wr);
int rdma_post(struct rdma_conn *conn, struct ibv_send_wr *wr);
/* One that takes a credit. */
int rdma_post_message(struct rdma_conn *conn, struct ibv_send_wr *wr);
void rdma_header(struct rdma_conn *conn, struct rdma_header *header, uint8_t kind, uint32_t length);

/* One place is kept for the marker. */
static inline uint32_t rdma_room(const struct rdma_conn *conn)
{
	return conn->depth - 1 - (conn->posted - conn->completed);
}

static inline char *rdma_slot_bytes(const struct rdma_conn *conn)
{
	return conn->slot_memory + (uint64_t)(conn->posted & (conn->depth - 1)) * RDMA_SLOT_BYTES;
}

static inline bool rdma_has_credit(const struct rdma_conn *conn)
{
	return conn->granted != conn->sent;
}

static inline void rdma_wait_for_word(struct rdma_conn *conn)
{
	if (list_empty(&conn->waits))
		list_append(&conn->engine->waiting, &conn->waits);
}

static inline void rdma_owe(struct rdma_conn *conn)
{
	if (list_empty(&conn->owes))
		list_append(&conn->engine->owing, &conn->owes);
}

/* ---- offer.c: rendezvous, the side that sends ---- */

/* 0, -EAGAIN: it has to wait, or -errno. */
int rdma_offer(struct rdma_conn *conn, struct op *op);
/* Closes the windows of what the peer has read. */
void rdma_offers_step(struct rdma_conn *conn);
/* The windows of the oldest offer are closed. */
void rdma_offer_release(struct rdma_conn *conn);
/* Nothing is offered any more: the windows go. */
void rdma_offers_shut(struct rdma_conn *conn);
/* The queue pair is gone, and so goes the memory. */
void rdma_offers_drop(struct rdma_conn *conn);

/* ---- receive.c ---- */

/* Takes up to RDMA_BATCH completions, those of sends, too; how many. */
uint32_t rdma_take_batch(struct rdma_engine *re);
int rdma_pop(struct rdma_conn *conn, struct op *op);
void rdma_deliver(struct rdma_conn *conn);
/* Nobody pops any more. */
void rdma_go_deaf(struct rdma_conn *conn);
/* An entry, the oldest, goes: a credit is due. */
void rdma_entry_done(struct rdma_conn *conn);
/* All entries go, whatever state they are in: the queue pair is gone. */
void rdma_entries_drop(struct rdma_conn *conn);
/* Entries that were not read whole, and what is behind them. */
void rdma_entries_cut(struct rdma_conn *conn);
void rdma_end_pops(struct rdma_conn *conn);
void rdma_frame_put(struct rdma_engine *re, char *frame);
/* Posts the receives that are wanted, if they are at least enough.  How many. */
uint32_t rdma_post_receives(struct rdma_engine *re, int32_t enough);

/* Receives that are posted. */
static inline uint32_t rdma_posted(const struct rdma_engine *re)
{
	return re->device.receives_max - re->num_free;
}

static inline uint32_t rdma_queued(const struct rdma_conn *conn)
{
	return conn->tail - conn->head;
}

/* Messages that were taken, and are not yet granted anew. */
static inline uint32_t rdma_due(const struct rdma_conn *conn)
{
	return conn->window - (uint32_t)conn->open - rdma_queued(conn);
}

/* ---- read.c: rendezvous, the side that receives ---- */

/* Is what the peer announces within bounds?  Its bytes, 0: it is not. */
uint64_t rdma_announced_bytes(const struct rdma_conn *conn, const char *frame);
/* Posts reads. */
void rdma_read_step(struct rdma_conn *conn);
void rdma_read_completed(struct rdma_conn *conn, uint32_t entry);

/* ---- cm.c ---- */

/* Takes rdma_cm's events; how many. */
uint32_t rdma_cm_poll(struct rdma_engine *re);
void rdma_cm_readable(struct fd_watch *watch, uint32_t events);
/* What the application is told when an address cannot be resolved. */
int rdma_address_error(int err);
int rdma_cm_connect(struct rdma_queue *rq, struct op *op, const struct sockaddr *address);
int rdma_cm_listen(struct rdma_queue *rq, int backlog);
int rdma_cm_accept(struct rdma_listener *listener, struct op *op);
void rdma_listener_close(struct rdma_listener *listener, int err);
/* The peer knows that it is accepted. */
void rdma_established(struct rdma_conn *conn);
/* The attempt to connect is over: 0, or -errno. */
void rdma_connect_done(struct rdma_conn *conn, int err);

/* ---- socket.c, queue.c ---- */

extern const struct socket_ops rdma_socket_ops;
extern const struct queue_ops rdma_stream_ops;
struct rdma_queue *rdma_queue_new(struct rdma_engine *re, int domain);

/* ---- datagram.c, datagram_cm.c ---- */

int rdma_datagram_new(struct rdma_engine *re, int domain, struct queue **queue_out);
void rdma_datagram_completed(struct rdma_engine *re, const struct ibv_wc *wc);
void rdma_datagram_asked(struct rdma_datagram *dg, struct rdma_cm_id *id);
void rdma_datagrams_end(struct rdma_engine *re, int err);
void rdma_peer_event(struct rdma_peer *peer, enum rdma_cm_event_type type, int status,
		     const struct rdma_ud_param *ud);
void rdma_peer_flush(struct rdma_peer *peer);

/* ---- check.c ---- */

/* Asserts the invariants; walks everything. */
void rdma_check(const struct rdma_engine *re);
