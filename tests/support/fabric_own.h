/* tests/support/fabric_own.h - inside the devices of support/fabric.h.
 *
 * Every object that a caller holds begins with the public structure and has a fabric_object behind
 * it: which kind it is, whose, whether it lives, what uses it.
 *
 * A queue pair's requests are a ring of numbers that only grow:
 *
 *	retired <= answered <= arrived <= started <= posted <= retired + room
 *
 * started: under way (reads wait for resources of the responder); arrived: carried out there, or
 * failed; answered: completed; retired: its completion, or a later one, was polled.
 */
#pragma once

#include "support/fabric.h"

#include "base/bits.h"
#include "base/list.h"
#include "base/prng.h"

#include <netinet/in.h>

#define FABRIC_SGES        32U
#define FABRIC_SHELLS      8192U /* destroyed objects that are remembered */
#define FABRIC_NO_RETRY    7U    /* IBA 9.7.5.2.8: rnr_retry without end */
#define FABRIC_UNDEFINED   0x5a  /* bytes of what a completion does not define */
#define FABRIC_MESSAGE_MAX (1U << 30)

enum fabric_kind {
	FABRIC_CHANNEL = 0x5eed00,
	FABRIC_ID,
	FABRIC_PD,
	FABRIC_MR,
	FABRIC_MW,
	FABRIC_COMP_CHANNEL,
	FABRIC_CQ,
	FABRIC_SRQ,
	FABRIC_QP,
	FABRIC_AH,
};

struct fabric_object {
	struct list link; /* of device->objects, or of fabric->shells */
	struct fabric_device *device;
	enum fabric_kind kind;
	bool dead;
	uint32_t users;   /* objects that were made from it */
	uint32_t events;  /* of the fabric that are due */
	uint32_t unacked; /* events that the caller took */
	void *memory;     /* where the allocation begins */
};

struct fabric_event {
	uint64_t at_ns;
	uint64_t sequence;
	void (*fn)(void *arg);
	void *arg;
	struct fabric_object *hold; /* NULL: none */
};

/* Fails the nth. */
struct fabric_countdown {
	uint64_t left; /* 0: off */
	int what;
};

/* A descriptor that is readable while its list has something. */
struct fabric_inbox {
	struct list items;
	int fd;
};

struct fabric {
	uint64_t seed;
	struct prng prng;
	bool immediate;
	bool forgiving;
	bool settling;
	struct fabric_clock clock;
	uint64_t own_ns;
	uint64_t hash;
	struct fabric_chance chance;
	void (*failed)(void *arg, const char *what);
	void *failed_arg;
	struct fabric_event *events; /* a heap by time, then sequence */
	uint32_t num_events;
	uint32_t max_events;
	uint64_t sequence;
	uint32_t num_devices;
	struct fabric_device *devices[FABRIC_DEVICES];
	bool cut[FABRIC_DEVICES][FABRIC_DEVICES];
	struct list shells;
	uint32_t num_shells;
	struct list mails;     /* under way */
	struct list datagrams; /* the same */
	struct fabric_id **ids;
	uint32_t num_ids;
};

struct fabric_device {
	struct ibv_context context;
	struct ibv_device ibv;
	struct rdma_verbs verbs;
	struct fabric *fabric;
	uint32_t index;
	uint32_t slot; /* of the process's devices */
	bool unplugged;
	bool vanished;
	bool killed;
	bool removed;
	struct in6_addr v4; /* IPv4-mapped */
	struct in6_addr v6;
	bool has_v6;
	struct fabric_limits limits;
	struct fabric_counts counts;
	struct fabric_countdown fail_post;
	struct fabric_countdown fail_call;
	struct fabric_countdown fail_work;
	void (*wake)(void *arg, bool readable);
	void *wake_arg;
	struct list objects;
	struct fabric_inbox async;
	struct fabric_qp **qps; /* by number - FABRIC_FIRST_QP */
	uint32_t num_qps;
	struct fabric_key *keys; /* by key >> 8 */
	uint32_t num_keys;
	uint16_t next_port;
};

#define FABRIC_FIRST_QP 0x11U

/* What a key means: a region or a window. */
struct fabric_key {
	struct fabric_mr *mr;
	struct fabric_mw *mw;
};

struct fabric_channel {
	struct rdma_event_channel pub;
	struct fabric_object object;
	struct fabric_inbox inbox;
};

struct fabric_pd {
	struct ibv_pd pub;
	struct fabric_object object;
};

struct fabric_mr {
	struct ibv_mr pub;
	struct fabric_object object;
	unsigned int access;
};

struct fabric_mw {
	struct ibv_mw pub;
	struct fabric_object object;
	uint32_t key;         /* at present */
	struct fabric_mr *mr; /* NULL: not bound */
	struct fabric_qp *qp; /* of type 2 that is bound */
	uint64_t at;
	uint64_t length;
	unsigned int access;
};

struct fabric_ah {
	struct ibv_ah pub;
	struct fabric_object object;
	struct ibv_ah_attr attr;
};

struct fabric_comp_channel {
	struct ibv_comp_channel pub;
	struct fabric_object object;
	struct fabric_inbox inbox;
};

struct fabric_cqe {
	struct ibv_wc wc;
	struct fabric_qp *qp; /* of a send: whose requests retire up to */
	uint64_t retire;
};

struct fabric_cq {
	struct ibv_cq pub;
	struct fabric_object object;
	struct fabric_cqe *ring;
	uint32_t size;
	uint32_t head;
	uint32_t count;
	bool armed;
	bool armed_solicited;
	bool overrun;
};

struct fabric_receive {
	uint64_t wr_id;
	uint32_t num_sge;
	struct ibv_sge *sge;
};

struct fabric_receives {
	struct fabric_receive *ring;
	struct ibv_sge *sges;
	uint32_t size;
	uint32_t max_sge;
	uint32_t head;
	uint32_t count;
};

struct fabric_srq {
	struct ibv_srq pub;
	struct fabric_object object;
	struct fabric_receives receives;
	uint32_t limit; /* 0: off */
};

struct fabric_work {
	struct ibv_send_wr wr; /* its sg_list is the ring's */
	bool inlined;
	bool counted_read;         /* takes one of the resources of the responder */
	enum ibv_wc_status forced; /* by the test */
	enum ibv_wc_status status;
	uint64_t arrive_ns;
	uint64_t answer_ns;
	uint64_t length; /* of its data */
	uint8_t *data;   /* what a read has brought; NULL: none */
};

struct fabric_qp {
	struct ibv_qp pub;
	struct fabric_object object;
	struct fabric_id *id; /* NULL: none */
	struct fabric_pd *pd;
	struct fabric_cq *send_cq;
	struct fabric_cq *recv_cq;
	struct fabric_srq *srq;
	struct fabric_receives receives;
	struct ibv_qp_attr attr;
	struct ibv_qp_init_attr init;
	struct fabric_work *ring;
	struct ibv_sge *sges;
	uint8_t *inlines;
	uint32_t room;
	uint64_t posted;
	uint64_t started;
	uint64_t arrived;
	uint64_t answered;
	uint64_t retired;
	uint64_t last_arrive_ns;
	uint64_t last_answer_ns;
	uint32_t reads; /* under way */
	uint32_t tries;
	uint32_t rnr_tries;
	uint64_t last_datagram_ns;
	uint32_t windows; /* bound, of type 2 */
	bool told_alive;
	bool halted; /* one has failed: the rest waits for the error */
	bool gone;   /* its process was killed */
};

enum fabric_id_state {
	FABRIC_IDLE,
	FABRIC_BOUND,
	FABRIC_LISTENING,
	FABRIC_ADDR_QUERY,
	FABRIC_ADDR_RESOLVED,
	FABRIC_ROUTE_QUERY,
	FABRIC_ROUTE_RESOLVED,
	FABRIC_CONNECTING, /* request sent */
	FABRIC_RESPONDED,  /* reply here, not taken yet */
	FABRIC_REQUESTED,  /* request here */
	FABRIC_ACCEPTED,   /* reply sent */
	FABRIC_ESTABLISHED,
	FABRIC_DISCONNECTING, /* we said so, */
	FABRIC_PEER_GONE,     /* or the peer did */
	FABRIC_CLOSED,
};

struct fabric_id {
	struct rdma_cm_id pub;
	struct fabric_object object;
	struct fabric_channel *channel;
	enum fabric_id_state state;
	uint32_t number; /* of the fabric's, and of the other end's: */
	uint32_t peer;   /* UINT32_MAX: not known */
	uint32_t peer_device;
	uint16_t port; /* host order */
	bool reuse;
	bool passive; /* a request made it */
	bool only_v6;
	uint8_t ack_timeout; /* 0: the usual */
	int backlog;
	int waiting; /* requests that were not taken */
	uint64_t deadline_ns;
	int resolve_status;
	struct rdma_conn_param conn; /* ours or, of a request, theirs; no data */
	uint32_t remote_qp;
};

enum fabric_mail_kind {
	FABRIC_REQ,
	FABRIC_REP,
	FABRIC_RTU,
	FABRIC_REJ,
	FABRIC_DREQ,
	FABRIC_DREP,
	FABRIC_SIDR_REQ,
	FABRIC_SIDR_REP,
};

struct fabric_mail {
	struct list link;
	struct fabric *fabric;
	enum fabric_mail_kind kind;
	uint32_t from_device;
	uint32_t to_device;
	uint32_t from;
	uint32_t to; /* UINT32_MAX: not known */
	uint32_t tries;
	int status; /* of a rejection or a look-up */
	struct rdma_conn_param conn;
	uint32_t qp_num;
	uint32_t qkey;
	struct sockaddr_storage source; /* of a request */
	struct sockaddr_storage target;
	uint8_t data[FABRIC_ACCEPT_BYTES];
};

struct fabric_cm_event {
	struct rdma_cm_event pub;
	struct list link;
	struct fabric_id *id;    /* whom it is about */
	struct fabric_id *owner; /* who waits for its acknowledgement: of a request the listener */
	uint8_t data[FABRIC_ACCEPT_BYTES];
};

struct fabric_async {
	struct list link;
	struct ibv_async_event event;
	struct fabric_object *object; /* NULL: the device's */
};

struct fabric_notice {
	struct list link;
	struct fabric_cq *cq;
};

struct fabric_datagram {
	struct list link;
	struct fabric_device *from;
	struct fabric_device *to;
	struct in6_addr source;
	struct in6_addr target;
	uint32_t qp_num;
	uint32_t src_qp;
	uint32_t qkey;
	bool has_imm;
	bool solicited;
	__be32 imm;
	uint32_t length;
	uint8_t data[];
};

/* ---- fabric.c ---- */

/* Memory of the fabric itself does not run out when a test says that memory does. */
void *fabric_alloc(size_t bytes);
void *fabric_realloc(void *old, size_t bytes);
void fabric_free(void *memory);
/* The caller has done what it must not: ends the program, or counts. */
void fabric_misuse(struct fabric_device *device, const char *what);
void fabric_note(struct fabric *fabric, uint64_t value);
void fabric_put_event(struct fabric *fabric, uint64_t at_ns, void (*fn)(void *arg), void *arg,
		      struct fabric_object *hold);
/* After a call that may have made events: they happen if it is immediate. */
void fabric_kick(struct fabric *fabric);
bool fabric_happens(struct fabric *fabric, uint32_t millionths);
uint64_t fabric_delay(struct fabric *fabric);
bool fabric_counts_down(struct fabric_countdown *countdown);

void fabric_born(struct fabric_device *device, struct fabric_object *object, enum fabric_kind kind,
		 void *memory);
void fabric_die(struct fabric_object *object);
/* Is it a living one of that kind?  If not, that is misuse. */
bool fabric_lives(const struct fabric_object *object, enum fabric_kind kind);

/* ---- fabric_device.c ---- */

void fabric_device_close(struct fabric_device *device);
struct fabric_device *fabric_find(struct fabric *fabric, const struct in6_addr *address);
bool fabric_has(const struct fabric_device *device, const struct in6_addr *address);
/* Does what leaves one device arrive at the other? */
bool fabric_path(const struct fabric_device *from, const struct fabric_device *to);
/* A call of the control path: does it fail?  errno says how. */
bool fabric_call_fails(struct fabric_device *device);
void fabric_wake_host(struct fabric_device *device, bool readable);
void fabric_inbox_open(struct fabric_inbox *inbox);
void fabric_inbox_close(struct fabric_inbox *inbox);
void fabric_inbox_put(struct fabric_inbox *inbox, struct list *item);
void fabric_inbox_drop(struct fabric_inbox *inbox, struct list *item);
/* The first; NULL: none. */
struct list *fabric_inbox_take(struct fabric_inbox *inbox);
void fabric_tell(struct fabric_device *device, enum ibv_event_type type,
		 struct fabric_object *object, void *element);
/* Those about the object that were not taken. */
void fabric_untell(const struct fabric_object *object);

int fabric_get_async_event(struct ibv_context *context, struct ibv_async_event *event);
void fabric_ack_async_event(struct ibv_async_event *event);
int fabric_query_device(struct ibv_context *context, struct ibv_device_attr *attr);
int fabric_query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr);

/* ---- fabric_memory.c: domains, regions, windows, address handles ---- */

struct ibv_pd *fabric_alloc_pd(struct ibv_context *context);
int fabric_dealloc_pd(struct ibv_pd *pd);
struct ibv_mr *fabric_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access);
int fabric_dereg_mr(struct ibv_mr *mr);
void fabric_unmake_mr(struct fabric_mr *mr);
void fabric_unmake_mw(struct fabric_mw *mw);
void fabric_unmake_ah(struct fabric_ah *ah);
struct ibv_mw *fabric_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type);
int fabric_dealloc_mw(struct ibv_mw *mw);
struct ibv_ah *fabric_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr);
int fabric_destroy_ah(struct ibv_ah *ah);
/* May the segments be read or, with IBV_ACCESS_LOCAL_WRITE, written? */
bool fabric_local_allows(const struct fabric_pd *pd, const struct ibv_sge *sge, uint32_t num_sge,
			 unsigned int access);
/* May a peer on this queue pair (NULL: on some)? */
bool fabric_remote_allows(const struct fabric_device *device, const struct fabric_qp *qp,
			  uint32_t rkey, uint64_t at, uint64_t length, unsigned int access);
bool fabric_bind(struct fabric_qp *qp, const struct ibv_send_wr *wr);
bool fabric_invalidate(struct fabric_qp *qp, uint32_t rkey);
/* The windows of a queue pair that goes. */
void fabric_unbind_all(const struct fabric_qp *qp);

/* ---- fabric_cq.c ---- */

struct ibv_comp_channel *fabric_create_comp_channel(struct ibv_context *context);
int fabric_destroy_comp_channel(struct ibv_comp_channel *channel);
void fabric_unmake_comp_channel(struct fabric_comp_channel *channel);
void fabric_unmake_cq(struct fabric_cq *cq);
struct ibv_cq *fabric_create_cq(struct ibv_context *context, int cqe, void *cq_context,
				struct ibv_comp_channel *channel, int comp_vector);
int fabric_destroy_cq(struct ibv_cq *cq);
int fabric_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context);
void fabric_ack_cq_events(struct ibv_cq *cq, unsigned int count);
int fabric_poll_cq(struct ibv_cq *cq, int num_entries, struct ibv_wc *wc);
int fabric_req_notify_cq(struct ibv_cq *cq, int solicited_only);
void fabric_complete(struct fabric_cq *cq, const struct fabric_cqe *cqe, bool solicited);
/* Those of a queue pair that goes. */
void fabric_forget_completions(struct fabric_cq *cq, const struct fabric_qp *qp);

/* ---- fabric_qp.c ---- */

struct fabric_qp *fabric_make_qp(struct fabric_device *device, struct fabric_pd *pd,
				 struct ibv_qp_init_attr *attr);
void fabric_unmake_qp(struct fabric_qp *qp);
int fabric_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
int fabric_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
		    struct ibv_qp_init_attr *init);
struct fabric_qp *fabric_find_qp(const struct fabric_device *device, uint32_t number);
/* To IBV_QPS_ERR: what is outstanding is flushed. */
void fabric_error_qp(struct fabric_qp *qp);
/* A fault of the device, in an event of its own. */
void fabric_break_later(struct fabric_qp *qp);
void fabric_state_qp(struct fabric_qp *qp, enum ibv_qp_state state);

/* ---- fabric_post.c ---- */

struct ibv_srq *fabric_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *attr);
int fabric_destroy_srq(struct ibv_srq *srq);
void fabric_unmake_srq(struct fabric_srq *srq);
int fabric_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr);
int fabric_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr);
int fabric_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr);
int fabric_bind_mw(struct ibv_qp *qp, struct ibv_mw *mw, struct ibv_mw_bind *bind);
void fabric_receives_open(struct fabric_receives *receives, uint32_t size, uint32_t max_sge);
void fabric_receives_close(struct fabric_receives *receives);
/* The next; NULL: none is there. */
const struct fabric_receive *fabric_receives_take(struct fabric_receives *receives);
/* Of what a queue pair receives into. */
const struct fabric_receive *fabric_take_receive(struct fabric_qp *qp);
const struct fabric_receive *fabric_next_receive(const struct fabric_qp *qp);
/* Does work that is outstanding mean the region? */
bool fabric_uses_mr(const struct fabric_device *device, const struct fabric_mr *mr);
bool fabric_uses_mw(const struct fabric_device *device, const struct fabric_mw *mw);
bool fabric_uses_ah(const struct fabric_device *device, const struct fabric_ah *ah);

/* ---- fabric_request.c ---- */

static inline struct fabric_work *fabric_work_at(const struct fabric_qp *qp, uint64_t number)
{
	return &qp->ring[number % qp->room];
}

void fabric_start_requests(struct fabric_qp *qp);
/* IBV_EVENT_SQ_DRAINED, if it was asked for and is so. */
void fabric_tell_drained(struct fabric_qp *qp);
/* Of a queue pair in error, both directions; later. */
void fabric_flush(struct fabric_qp *qp);
/* Some of what is under way arrives all the same, before a queue pair goes. */
void fabric_deliver_some(struct fabric_qp *qp);

/* ---- fabric_respond.c ---- */

enum fabric_outcome {
	FABRIC_DONE,      /* with a status */
	FABRIC_NOT_READY, /* no receive was there */
	FABRIC_LOST,      /* nobody answers */
};

/* A request arrives at the other end. */
enum fabric_outcome fabric_respond(struct fabric_qp *from, struct fabric_work *work,
				   struct fabric_qp *to);
struct fabric_qp *fabric_peer_of(const struct fabric_qp *qp);
struct fabric_device *fabric_peer_device(const struct fabric_qp *qp);
void fabric_send_datagram(struct fabric_qp *from, struct fabric_work *work);
/* Copies between lists of segments. */
void fabric_gather(uint8_t *to, const struct ibv_sge *sge, uint32_t num_sge);
void fabric_scatter(const struct ibv_sge *sge, uint32_t num_sge, uint64_t skip, const uint8_t *from,
		    uint64_t length);
uint64_t fabric_sge_bytes(const struct ibv_sge *sge, uint32_t num_sge);

/* ---- fabric_cm.c ---- */

struct rdma_event_channel *fabric_open_channel(struct fabric_device *device);
void fabric_unmake_channel(struct fabric_channel *channel);
void fabric_destroy_event_channel(struct rdma_event_channel *channel);
int fabric_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
		     enum rdma_port_space ps);
int fabric_destroy_id(struct rdma_cm_id *id);
int fabric_migrate_id(struct rdma_cm_id *id, struct rdma_event_channel *channel);
int fabric_bind_addr(struct rdma_cm_id *id, struct sockaddr *addr);
int fabric_resolve_addr(struct rdma_cm_id *id, struct sockaddr *src, struct sockaddr *dst,
			int timeout_ms);
int fabric_resolve_route(struct rdma_cm_id *id, int timeout_ms);
int fabric_listen(struct rdma_cm_id *id, int backlog);
int fabric_set_option(struct rdma_cm_id *id, int level, int optname, void *optval, size_t optlen);
uint16_t fabric_get_src_port(struct rdma_cm_id *id);
int fabric_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
void fabric_destroy_qp(struct rdma_cm_id *id);
struct fabric_id *fabric_make_id(struct fabric_channel *channel, void *context,
				 enum rdma_port_space ps);
void fabric_unmake_id(struct fabric_id *id);
/* All of it but its events. */
void fabric_forget_id(struct fabric_id *id);
struct in6_addr fabric_address(const struct sockaddr *addr);
uint16_t fabric_port_of(const struct sockaddr *addr);
void fabric_set_address(struct sockaddr_storage *to, const struct in6_addr *address, uint16_t port);
void fabric_attach(struct fabric_id *id);

/* ---- fabric_event.c ---- */

int fabric_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **event);
int fabric_ack_cm_event(struct rdma_cm_event *event);
/* Puts an event into the channel of its id; data of so many bytes, filled up to room; NULL: none.
 */
struct fabric_cm_event *fabric_report(struct fabric_id *id, enum rdma_cm_event_type type,
				      int status);
void fabric_event_data(struct fabric_cm_event *event, const uint8_t *data, uint8_t room);
/* What was not taken of an id that goes. */
void fabric_unreport(struct fabric_id *id);

/* ---- fabric_connect.c ---- */

int fabric_connect(struct rdma_cm_id *id, struct rdma_conn_param *param);
int fabric_accept(struct rdma_cm_id *id, struct rdma_conn_param *param);
int fabric_reject(struct rdma_cm_id *id, const void *private_data, uint8_t bytes);
int fabric_disconnect(struct rdma_cm_id *id);
/* An id that goes tells its peer. */
void fabric_leave(struct fabric_id *id);
/* The active side takes the reply: its queue pair gets ready, the peer is told. */
bool fabric_take_reply(struct fabric_id *id);

/* ---- fabric_mail.c ---- */

struct fabric_mail *fabric_write(struct fabric_id *from, enum fabric_mail_kind kind);
void fabric_post_mail(struct fabric_mail *mail);
void fabric_close_id(struct fabric_id *id);
/* The time that packets under way may take. */
void fabric_wait_out(struct fabric_id *id);
/* The peer has all the time that it might have to answer. */
void fabric_set_deadline(struct fabric_id *id);

/* ---- living objects of a caller's pointer ---- */

#define FABRIC_OF(name, public_type, KIND)                                             \
	static inline struct fabric_##name *fabric_##name##_of(const public_type *pub) \
	{                                                                              \
		struct fabric_##name *own = (struct fabric_##name *)(uintptr_t)pub;    \
                                                                                       \
		return pub && fabric_lives(&own->object, KIND) ? own : NULL;           \
	}

FABRIC_OF(channel, struct rdma_event_channel, FABRIC_CHANNEL)
FABRIC_OF(id, struct rdma_cm_id, FABRIC_ID)
FABRIC_OF(pd, struct ibv_pd, FABRIC_PD)
FABRIC_OF(mr, struct ibv_mr, FABRIC_MR)
FABRIC_OF(mw, struct ibv_mw, FABRIC_MW)
FABRIC_OF(comp_channel, struct ibv_comp_channel, FABRIC_COMP_CHANNEL)
FABRIC_OF(cq, struct ibv_cq, FABRIC_CQ)
FABRIC_OF(srq, struct ibv_srq, FABRIC_SRQ)
FABRIC_OF(qp, struct ibv_qp, FABRIC_QP)
FABRIC_OF(ah, struct ibv_ah, FABRIC_AH)
