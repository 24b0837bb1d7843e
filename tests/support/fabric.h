/* tests/support/fabric.h - RDMA devices of a test's own process, behind src/transport/rdma/verbs.h:
 * several hosts with a device each on one network, a clock, one seeded generator.
 *
 * A device gives a table of verbs (fabric_verbs) whose event channels are that device's, and
 * contexts whose ops the in-line functions of <infiniband/verbs.h> go through, as a provider's.
 * A raw peer uses the same table by hand, or support/fabric_peer.h.
 *
 * What a call asks for takes effect by events of the fabric: a request arrives after a drawn delay,
 * its answer after another; each queue pair keeps its order.  Data is read from the sender's memory
 * when the request arrives, as late as a device may.  Who makes time pass:
 *   - nobody: `immediate`; all that needs no time happens within the call, delays are 0.  Timers
 *     (receiver not ready, retries, time-outs of rdma_cm, timewait) pass by fabric_step.
 *   - the test: fabric_step and fabric_run_until, by the fabric's own virtual clock;
 *   - a clock of somebody else: `clock` (sim/fabric_host.h has a world's).
 * Polling for completions or events has everything happen that is due.
 *
 * File descriptors of channels and of asynchronous events are real and become readable when there
 * is an event; they never block.
 *
 * Memory: the fabric owns everything; objects that were destroyed stay as shells until
 * fabric_close, so that their use afterwards is seen.  One thread for a fabric.
 *
 * Misuse by the caller (a destroyed object, memory deregistered under work, events that were not
 * acknowledged, objects left over) ends the program telling the seed, or is counted if the test
 * says so (fabric_forgive). */
#pragma once

#include "transport/rdma/verbs.h"

#include <stdbool.h>
#include <stdint.h>

#define FABRIC_DEVICES 16 /* of a process */
#define FABRIC_US      ((uint64_t)1000)
#define FABRIC_MS      ((uint64_t)1000000)
#define FABRIC_S       ((uint64_t)1000000000)
#define FABRIC_NEVER   UINT64_MAX
#define FABRIC_MILLION 1000000U /* probabilities are in millionths */
#define FABRIC_GID_V4  0        /* index of the IPv4-mapped address in a device's table */
#define FABRIC_GID_V6  1
#define FABRIC_PORT    1
#define FABRIC_GRH     40 /* bytes before what a datagram queue pair receives */

/* IBA 12.7: bytes of private data as rdma_cm leaves them to its users (rdma_connect(3),
 * rdma_accept(3)).  What arrives always is of this length, filled up with zeros. */
#define FABRIC_CONNECT_BYTES    56
#define FABRIC_ACCEPT_BYTES     196
#define FABRIC_REJECT_BYTES     148
#define FABRIC_UD_CONNECT_BYTES 180
#define FABRIC_UD_ACCEPT_BYTES  136

/* IBA 12.6.7.2, 12.11.1.2: what a rejected connection and a look-up without result say. */
#define FABRIC_REJECT_TIMEOUT   4
#define FABRIC_REJECT_NOBODY    8 /* no listener there */
#define FABRIC_REJECT_CONSUMER  28
#define FABRIC_SIDR_UNSUPPORTED 1 /* no listener there */
#define FABRIC_SIDR_REJECT      2

struct fabric;
struct fabric_device;

struct fabric_clock {
	uint64_t (*now_ns)(void *arg);
	/* fabric_settle is to be called at this time; NULL: polling does it. */
	void (*at)(void *arg, uint64_t at_ns);
	void *arg;
};

struct fabric_options {
	uint64_t seed;
	const struct fabric_clock *clock; /* copied; NULL: its own */
	bool immediate;
	uint64_t delay_ns;  /* of a message; 0: 1 us, unless immediate */
	uint64_t jitter_ns; /* at most this is added */
};

/* How devices of the fabric are.  May be changed at any time; 0 from the start where it says so. */
struct fabric_chance {
	uint64_t delay_ns;
	uint64_t jitter_ns;
	uint32_t lose;      /* a datagram; 0, like all that follow */
	uint32_t overtake;  /* a datagram is overtaken by those after it */
	uint32_t late_rtu;  /* data overtakes the message that says established */
	uint32_t delivered; /* of requests that are flushed: that they arrive all the same */
	uint32_t fail_post; /* a post fails with ENOMEM */
	uint32_t fail_call; /* a call of the control path fails with ENOMEM */
	uint32_t fail_work; /* a request completes with IBV_WC_GENERAL_ERR */
};

/* Parameters of a device; fabric_limits.  Those of ibv_query_device and ibv_query_port beside what
 * these do not say. */
struct fabric_limits {
	struct ibv_device_attr attr;
	uint32_t max_inline;        /* bytes; 256 */
	enum ibv_mtu mtu;           /* IBV_MTU_1024 */
	uint64_t memlock_bytes;     /* registered at most; reg_mr fails with ENOMEM beyond */
	uint64_t cm_response_ns;    /* 4.3 s, as Linux */
	uint32_t cm_retries;        /* 15 */
	uint64_t cm_timewait_ns;    /* 1 s */
	uint64_t ack_timeout_ns;    /* before a request is sent again; 67 ms (attribute 14) */
	bool keeps_completions;     /* those of a destroyed queue pair stay in their queue (rxe) */
	bool no_flush_when_removed; /* work of a removed device never completes */
};

struct fabric_counts {
	uint64_t doorbells; /* calls of ibv_post_send, */
	uint64_t posts;     /* and work requests in them */
	uint64_t inlined;   /* of these */
	uint64_t receive_doorbells;
	uint64_t receive_posts;
	uint64_t completions; /* all that were put into queues, */
	uint64_t signalled;   /* of sends, */
	uint64_t errors;      /* with another status than success */
	uint64_t polls;
	uint64_t rnr;       /* requests that found no receive: at this device */
	uint64_t datagrams; /* that arrived, and those that did not: */
	uint64_t no_receive;
	uint64_t bad_qkey;
	uint64_t too_long;
	uint64_t lost;
	uint64_t messages; /* reliable ones that arrived here: sends, */
	uint64_t writes;
	uint64_t reads;
	uint64_t invalidations; /* of windows, by either side */
	uint64_t windows_left;  /* that were bound when their queue pair went: Soft-RoCE (Linux 6.1)
				   waits 50 s for each such queue pair */
	uint64_t refused;       /* requests of peers that a key or its bounds did not allow */
	uint64_t registrations;
	uint64_t registered_bytes; /* at present */
	uint64_t calls;            /* of the control path that may fail */
	uint64_t cm_events;        /* that were taken */
	uint64_t retries;          /* of requests, without an answer */
	uint64_t misuses;          /* that were forgiven */
	uint64_t objects;          /* at present: all that verbs or rdma_cm made */
};

/* ---- the fabric ---- */

struct fabric *fabric_open(const struct fabric_options *options);
/* Instances are ended, all objects destroyed: those that are left over are misuse. */
void fabric_close(struct fabric *fabric);
/* Misuse is counted and the call fails as the libraries' does or does nothing. */
void fabric_forgive(struct fabric *fabric);
/* Printed when a check failed; the world's may end otherwise. */
void fabric_on_failure(struct fabric *fabric, void (*fn)(void *arg, const char *what), void *arg);
struct fabric_chance *fabric_chance(struct fabric *fabric);

/* ---- time ---- */

uint64_t fabric_now(const struct fabric *fabric);
/* For sched_world.now_ns: arg is the fabric. */
uint64_t fabric_clock_now(void *fabric);
/* When the next event is due; FABRIC_NEVER. */
uint64_t fabric_next(const struct fabric *fabric);
/* Everything happens that is due now. */
void fabric_settle(struct fabric *fabric);
/* With its own clock: goes to the next event, which happens.  False: there is none. */
bool fabric_step(struct fabric *fabric);
void fabric_run_until(struct fabric *fabric, uint64_t at_ns);
/* A digest of all that happened. */
uint64_t fabric_hash(const struct fabric *fabric);

/* ---- devices ---- */

/* ipv4: as inet_pton reads it, like "10.0.0.1"; ipv6: NULL: none.  The port is up. */
struct fabric_device *fabric_add(struct fabric *fabric, const char *ipv4, const char *ipv6);
/* What its host calls: the device's until fabric_close. */
const struct rdma_verbs *fabric_verbs(struct fabric_device *device);
struct ibv_context *fabric_context(struct fabric_device *device);
struct fabric_device *fabric_device_of(const struct ibv_context *context);
struct fabric_limits *fabric_limits(struct fabric_device *device);
const struct fabric_counts *fabric_counts(const struct fabric_device *device);
/* Called when something has come to the device that its host may look at, for who drives the host;
 * within a call of the host, too.  readable: one of its descriptors has an event more: a host that
 * sleeps on them wakes. */
void fabric_on_wake(struct fabric_device *device, void (*fn)(void *arg, bool readable), void *arg);

/* ---- what goes wrong ---- */

/* The nth such thing from now on fails (1: the next), and those after it do not; 0: none. */
void fabric_fail_post(struct fabric_device *device, uint64_t nth, int err);
void fabric_fail_call(struct fabric_device *device, uint64_t nth, int err);
void fabric_fail_work(struct fabric_device *device, uint64_t nth, enum ibv_wc_status status);
/* Every datagram and message between two devices is lost; peers are told nothing. */
void fabric_cut(struct fabric_device *a, struct fabric_device *b, bool cut);
/* The cable: IBV_EVENT_PORT_ERR, IBV_EVENT_PORT_ACTIVE. */
void fabric_plug(struct fabric_device *device, bool in);
/* The host dies without a word: nothing arrives there or leaves it, its objects are forgotten. */
void fabric_vanish(struct fabric_device *device);
/* The process of the host is killed: the kernel disconnects and takes away what it had. */
void fabric_kill(struct fabric_device *device);
/* Hot unplug: IBV_EVENT_DEVICE_FATAL, RDMA_CM_EVENT_DEVICE_REMOVAL, posts fail with EIO. */
void fabric_remove(struct fabric_device *device);
/* A queue pair fails as by a fault of the device: IBV_EVENT_QP_FATAL. */
void fabric_break_qp(struct ibv_qp *qp);

/* ---- what the seam does not have ---- */

/* ibv_modify_srq with IBV_SRQ_LIMIT: IBV_EVENT_SRQ_LIMIT_REACHED once below it. */
int fabric_limit_srq(struct ibv_srq *srq, uint32_t limit);
/* Receives that are posted and not taken. */
uint32_t fabric_srq_posted(const struct ibv_srq *srq);
/* Requests of a queue pair that have not completed yet, and room for more. */
uint32_t fabric_sends_outstanding(const struct ibv_qp *qp);
uint32_t fabric_sends_free(const struct ibv_qp *qp);
/* Could a peer with this key on any queue pair read or write there now? */
bool fabric_is_open(struct fabric_device *device, uint32_t rkey, uint64_t at, uint64_t length,
		    unsigned int access);
/* How many bytes of a device's process can be written, or read, by peers at present. */
uint64_t fabric_open_bytes(struct fabric_device *device, unsigned int access);
