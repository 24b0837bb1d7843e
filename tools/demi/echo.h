/* SPDX-License-Identifier: MIT
 * tools/demi/echo.h - the echo benchmark: what is measured, its result, and the table of back ends.
 *
 * A run is two processes, a server and a client, each a function of a back end. They share one
 * anonymous mapping (struct echo_shared) that the parent reads; the client fills the result, each
 * end may leave a message why it failed.
 */
#pragma once

#include "echo_link.h"
#include "histogram.h"
#include "load.h"
#include "log_file.h"
#include "server_cpu.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#define ECHO_SIZE_MAX     262144
#define ECHO_DATAGRAM_MAX 65507
#define ECHO_DATAGRAM_MIN 4 /* a datagram carries its sequence number */
#define ECHO_ONE_WAY_MIN  8 /* a message that is not answered carries its number */
#define ECHO_NAME_MAX     32
#define ECHO_DEVICE_MAX   1024

enum echo_proto { ECHO_TCP = 1, ECHO_UDP = 2 };

struct echo_proxy;

struct echo_spec {
	const struct echo_backend *server, *client;
	const struct echo_proxy *proxy; /* between them; NULL: nothing, see echo_proxy.h */
	const char *device;             /* as given: NAME[,key=value...]; NULL: none */
	const struct echo_link *link;   /* both ends are on it; NULL: they are where we are */
	const char *idle;               /* of a library OS: adaptive or busy */
	const char *log; /* file that the server makes, and logs each request in before it
			    answers; NULL: it logs nothing */
	enum echo_proto proto;
	bool one_way; /* messages are not answered */
	size_t size;
	unsigned connections, depth;
	double rate_per_s;   /* 0: closed loop */
	uint64_t rounds;     /* 0: by time */
	double seconds;      /* of the timed part */
	int core;            /* the server's; the client's is the next */
	const char *address; /* numeric, of a device of DPDK with a prefix; NULL: the loopback
				address, or all of a device's */
	const char *local;   /* the client's, with a prefix: for a device of DPDK */
	uint16_t port;       /* 0: the server chooses */
};

/* What one run, or several merged, gave. */
struct echo_result {
	struct histogram rtt;
	uint64_t requests; /* answered in the timed part; one way: received */
	uint64_t errors;   /* lost, or with other bytes than were sent */
	uint64_t elapsed_ns;
	uint64_t server_cpu_ns; /* of the timed part; 0: not known */
};

#define ECHO_MESSAGE_MAX 256

struct echo_shared {
	struct echo_result result;
	struct server_cpu server_cpu;

	struct echo_received {
		/* Messages that came, one way. The server stores it, release, behind what it did
		 * with them; the client's acquire in echo_one_way.c waits for it. */
		_Alignas(128) _Atomic uint64_t messages;
		_Atomic uint64_t damaged; /* with another number than theirs; relaxed */
	} received;

	_Alignas(128) uint16_t port; /* the server's, once it is ready */
	uint16_t proxy_port;
	char proxy_message[ECHO_MESSAGE_MAX];
	char server_message[ECHO_MESSAGE_MAX];
	char client_message[ECHO_MESSAGE_MAX];
};

union echo_address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

/* One end of a run, in its own process. */
struct echo_end {
	const struct echo_spec *spec;
	struct echo_shared *shared;
	union echo_address address; /* where the server listens */
	socklen_t address_size;
	union echo_address target;    /* proxy: where the server is; as long as address */
	char device[ECHO_DEVICE_MAX]; /* of this end; empty: none */
	int control;                  /* server: for process_ready */
	int memory;  /* device shm: a memfd of ECHO_SHM_BYTES that both ends have; -1: none */
	int pipe[2]; /* a back end over a pipe: its ends, read and write; -1: none */
	bool stays;  /* server: serves until echo_interrupted, not only the clients of this run */
	pid_t server_pid;     /* client: of the server or proxy, 0 if it is not ours */
	char *message;        /* this end's part of shared */
	struct load load;     /* client */
	struct plain_log log; /* server over plain sockets */
};

/* Ends by themselves: a TCP server when `connections` clients have come and gone, a UDP server by
 * an empty datagram. 0 or -errno; -ENOTSUP: cannot run here, the message says why. */
struct echo_backend {
	const char *name;
	unsigned protos;    /* set of enum echo_proto */
	bool library;       /* a library OS */
	bool device;        /* a library OS that drives a device of its own: each end needs one */
	bool rdma;          /* at the address of an RDMA device, and only with itself */
	bool local;         /* only between the processes of one run */
	bool memory;        /* passes messages by memory of both processes */
	bool logs;          /* its server can log what it answers */
	const char *medium; /* what rows have as its protocol; NULL: TCP or UDP */
	/* How its server waits: "block" or "spin"; NULL: as the library is told. */
	const char *idle;
	unsigned client_connections;         /* most that its client can drive; 0: any number */
	int (*server)(struct echo_end *end); /* NULL: it has no such end */
	int (*client)(struct echo_end *end);
	int (*sink)(struct echo_end *end); /* the same for messages that are not answered */
	int (*source)(struct echo_end *end);
};

/* The device of the back end raw that is no device: memory that both processes map. */
#define ECHO_SHM          "shm"
#define ECHO_SHM_BYTES    65536
#define ECHO_SHM_SIZE_MAX 48 /* of a message: it lies in one cache line with its number */

bool echo_is_shm(const struct echo_spec *spec);

/* By memory of both processes, one request in flight: so fast that its ends do nothing else
 * (echo_queue_lone.c). */
bool echo_is_lone(const struct echo_spec *spec);

/* What is measured: the server, or the proxy before it. */
const char *echo_spec_name(const struct echo_spec *spec);

const struct echo_backend *echo_backend_find(const char *name);
size_t echo_backend_count(void);
const struct echo_backend *echo_backend_at(size_t index);

/* Leaves the reason of a failure and returns error. */
__attribute__((format(printf, 3, 4))) int echo_fail(struct echo_end *end, int error,
						    const char *format, ...);

/* Whether a signal asked a server that stays to end. A server that does not look is ended by the
 * signal itself. */
bool echo_interrupted(void);

/* Server: it listens at this port now (host order; 0: an address without one). */
void echo_server_ready(struct echo_end *end, uint16_t port);

/* Client: connected; runs fn for the warm-up, where every byte is checked, and for the timed part.
 * 0, or fn's first error. */
int echo_client_run(struct echo_end *end, int (*fn)(void *arg), void *arg);

/* One run: both processes. Resets *result. 0 or -errno with *message (at least ECHO_MESSAGE_MAX
 * bytes) filled. */
int echo_run(const struct echo_spec *spec, struct echo_result *result, char *message);

/* --role server: serves in this process until it is killed. --role client: drives a server
 * elsewhere. */
int echo_run_server(const struct echo_spec *spec, char *message);
int echo_run_client(const struct echo_spec *spec, struct echo_result *result, char *message);

void echo_result_merge(struct echo_result *into, const struct echo_result *from);

/* The ends of the back ends. */
int echo_block_server(struct echo_end *end);
int echo_block_client(struct echo_end *end);
int echo_spin_server(struct echo_end *end);
int echo_spin_client(struct echo_end *end);
int echo_epoll_server(struct echo_end *end);
int echo_epoll_client(struct echo_end *end);
int echo_generator_client(struct echo_end *end);
int echo_lwip_server(struct echo_end *end);
int echo_stackless_client(struct echo_end *end);
int echo_raw_server(struct echo_end *end);
int echo_raw_client(struct echo_end *end);
int echo_uring_server(struct echo_end *end);
int echo_uring_client(struct echo_end *end);
int echo_uring_block_server(struct echo_end *end);
int echo_uring_block_client(struct echo_end *end);
int echo_queue_server(struct echo_end *end);
int echo_queue_client(struct echo_end *end);
int echo_shm_server(struct echo_end *end);
int echo_shm_client(struct echo_end *end);
int echo_shm_sink(struct echo_end *end);
int echo_shm_source(struct echo_end *end);
int echo_stream_sink(struct echo_end *end);
int echo_stream_source(struct echo_end *end);
int echo_pipe_sink(struct echo_end *end);
int echo_pipe_source(struct echo_end *end);
int echo_lone_server(struct echo_end *end);
int echo_lone_client(struct echo_end *end);
int echo_lone_sink(struct echo_end *end);
int echo_lone_source(struct echo_end *end);
