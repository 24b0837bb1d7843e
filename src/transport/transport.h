/* SPDX-License-Identifier: MIT
 * transport/transport.h - the seam of back ends that implement queues.
 *
 * A transport is an engine (one an instance: devices, polling) and the queues that it makes.  Every
 * queue has queue_ops; sockets have socket_ops as well.  All functions return 0 or -errno and never
 * block.
 *
 * An operation that was handed to push, pop, accept or connect with result 0 is held by the queue
 * until it passes it to op_complete; with another result it stays the caller's.  Segments of a push
 * were checked by src/api/ (each lies in one live object of the heap, or is foreign memory); a
 * transport that keeps them beyond the call takes library references.  The segments of a completed
 * pop carry one application reference each.
 */
#pragma once

#include "base/cbpf.h"
#include "sched/sched.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct engine;
struct engine_capture;
struct queue;
struct derived;
struct queue_user;

/* What `demi stat` shows of a queue. */
struct queue_info {
	const char *kind;  /* "tcp", "udp", "memory" */
	const char *state; /* "listening", "connected" ... */
	struct sockaddr_storage local;
	struct sockaddr_storage peer;
	uint32_t pops_pending;
	uint32_t pushes_pending;
	/* Of memory queues; of logs: records that its pops have not reached; of catloop's and
	 * catmint's listeners: connections that nobody accepted. */
	uint32_t elements;
	uint64_t held_bytes; /* copies that the library holds */
	const char *name;    /* of a log or pipe; NULL */
	/* Who runs a filter of its pops: "xdp", the device of a socket; "cpu"; NULL: there is none.
	 */
	const char *filter;
	const char *expression; /* that filter's, of a queue made by it; NULL */
};

#define ENGINE_STATES_MAX    12
#define ENGINE_ADDRESSES_MAX 33

/* What `demi stat` shows of an engine that has a network stack of its own. */
struct engine_info {
	const char *device; /* what moves frames: "afpacket", or the middleware around it */
	const char *mode;   /* how, of several ways; "": there is one */
	uint32_t mtu;       /* of IP packets */
	uint8_t mac[6];
	bool tx_checksum;      /* the device completes transport checksums, ... */
	bool rx_checksum;      /* ... verifies them */
	uint32_t tx_cut_bytes; /* ... cuts so much TCP payload into segments; 0: it does not */
	bool lro;              /* ... joins segments that it received */
	bool rss;              /* ... spreads flows over instances */
	uint32_t tx_segments;  /* ... sends a frame from so many pieces of memory beside its headers
				*/
	uint64_t rx_frames;
	uint64_t rx_bytes;
	uint64_t tx_frames;
	uint64_t tx_bytes;
	uint64_t tx_busy; /* bursts that were not taken whole */
	uint32_t neighbours;
	uint32_t neighbours_max;
	uint32_t num_states; /* of connections, those that the user closed included */

	struct {
		const char *name;
		uint32_t count;
	} states[ENGINE_STATES_MAX];

	uint32_t num_addresses;

	struct {
		char text[52];      /* with its prefix: "fd00::2/64" */
		const char *state;  /* "preferred", "duplicate" ... */
		const char *origin; /* "configured", "router", "link_local" */
		/* Seconds that are left; -1: for ever. */
		int64_t preferred_s;
		int64_t valid_s;
	} addresses[ENGINE_ADDRESSES_MAX];

	char routers[2][46]; /* IPv4, IPv6: next hops of what is not on the link; "": none */
};

struct socket_ops {
	int (*socket)(struct engine *engine, int domain, int type, int protocol,
		      struct queue **queue_out);
	int (*bind)(struct queue *queue, const struct sockaddr *address, socklen_t length);
	int (*listen)(struct queue *queue, int backlog);
	int (*accept)(struct queue *queue, struct op *op);
	int (*connect)(struct queue *queue, struct op *op, const struct sockaddr *address,
		       socklen_t length);
	int (*shutdown)(struct queue *queue, int how);
	int (*set_option)(struct queue *queue, int level, int name, const void *value,
			  socklen_t length);
	int (*get_option)(struct queue *queue, int level, int name, void *value, socklen_t *length);
	int (*local_name)(struct queue *queue, struct sockaddr *address, socklen_t *length);
	int (*peer_name)(struct queue *queue, struct sockaddr *address, socklen_t *length);
	/* Elements for which a program of base/cbpf.h is 0 need not come up to pops any more; count
	 * 0: all do again, but for what is on its way.  Only a hint: whoever pops looks at what
	 * comes.  It ends by itself where the queue can't keep it up, and with the queue.  0, or
	 * -errno: all come; -ENOTSUP: nobody below can do it. */
	int (*filter)(struct queue *queue, const struct sock_filter *program, uint32_t count);
};

/* What a log has beside push and pop. */
struct log_ops {
	/* As lseek(2), with record offsets (demi/storage.h). */
	int (*seek)(struct queue *queue, int64_t offset, int whence, int64_t *offset_out);
	/* Collects the records before one.  The operation is pending, as in queue_ops. */
	int (*truncate)(struct queue *queue, struct op *op, uint64_t offset);
};

struct queue_ops {
	/* to: NULL, or the destination (length bytes). */
	int (*push)(struct queue *queue, struct op *op, const struct sockaddr *to,
		    socklen_t length);
	int (*pop)(struct queue *queue, struct op *op);
	/* An element that is there, for an operator (queue/operator.h): a complete pop that is in
	 * no list and the caller's to free.  NULL: there is none. */
	struct op *(*take)(struct queue *queue);
	/* Completes a pending operation with ECANCELED unless it is too late. */
	void (*cancel)(struct queue *queue, struct op *op);
	/* Completes what is pending with ECANCELED; the queue lives on only for a push of which
	 * bytes were taken, and frees itself. */
	void (*close)(struct queue *queue);
	void (*describe)(struct queue *queue, struct queue_info *info);
	const struct socket_ops *socket; /* NULL: not a socket */
	const struct log_ops *log;       /* NULL: not a log */
};

/* The take of queues whose elements come by pop only: NULL. */
struct op *queue_take_none(struct queue *queue);

/* The filter of sockets that have no device: -ENOTSUP. */
int socket_filter_none(struct queue *queue, const struct sock_filter *program, uint32_t count);

/* Embedded first in every queue. */
struct queue {
	const struct queue_ops *ops;
	struct sched *sched;
	int32_t qd;
	/* An empty pop (one segment, buf NULL, len 0) is the end of its stream: nothing comes
	 * behind it but such.  false: an empty element is an element. */
	bool ends;
	bool shows; /* its take tells whether an element is there: NULL, there is none */
	/* Operators (queue/operator.h). */
	uint8_t depth;            /* how many stand below it */
	bool owned;               /* its pops are an operator's: the application's are EBUSY */
	struct derived *above;    /* whose they are; NULL: nobody's, or qconnect's */
	struct queue_user *users; /* qconnect's ends; NULL: none */
};

struct engine_ops {
	const char *name;
	/* owner and adopt: see struct engine. */
	int (*open)(struct sched *sched, struct engine **engine_out);
	/* Frees the engine; all its queues were closed.  What they have not sent yet is given up
	 * and counted. */
	void (*close)(struct engine *engine);
	/* Queues that were closed and still send. */
	uint32_t (*lingering)(struct engine *engine);
	/* Fills all of it; NULL: there is nothing of that kind. */
	void (*describe)(struct engine *engine, struct engine_info *info);
	const struct socket_ops *socket;
	/* Writes every frame to fd as pcapng, from now on.  fd is the engine's then; after an error
	 * the caller's.  0 or -errno, -EBUSY: it is being done already.  NULL: there are no
	 * frames here. */
	int (*capture)(struct engine *engine, int fd);
	void (*capture_end)(struct engine *engine, struct engine_capture *result);
};

/* What became of a capture. */
struct engine_capture {
	uint64_t frames;
	uint64_t lost; /* those of them that are not in the file */
	int err;       /* -errno of the file; 0 */
};

/* Embedded first in every engine.  Its poller is registered by who opened it. */
struct engine {
	const struct engine_ops *ops;
	struct poller poller;
	struct sched *sched;
	/* Enters an accepted connection into the descriptor table: the descriptor, or -EMFILE. */
	int32_t (*adopt)(void *owner, struct queue *queue);
	void *owner;
};

/* The engine of the world, or of the configuration, its table checked for missing members.  0 or
 * -errno, told to the log: -ENOTSUP, it is not in this build. */
int transport_open(struct sched *sched, struct engine **engine_out);

/* ---- logs: beside the network transport of every instance (transport/log/) ---- */

struct log_engine;

/* The devices that logs are on, none at first; its poller is registered.  0 or -ENOMEM. */
int log_engine_open(struct sched *sched, struct log_engine **engine_out);

/* All queues were closed.  What is not on the medium is given up. */
void log_engine_close(struct log_engine *engine);

/* Logs that were closed and are still being written. */
uint32_t log_engine_lingering(const struct log_engine *engine);

/* What `demi stat` shows of a log; since it was opened, what is not of now. */
struct log_info {
	const char *drive; /* the path of its device */
	const char *name;
	const char *state;
	uint32_t queues;
	uint64_t head; /* offsets: of the first record, and behind the last */
	uint64_t end;
	uint64_t records; /* between them */
	uint64_t appended;
	uint64_t appended_bytes;
	uint64_t batches;   /* writes that appended them */
	uint32_t in_flight; /* batches */
	uint32_t waiting;   /* pushes for which there is no room in batches */
	uint64_t failed;    /* pushes */
	uint64_t popped;
	uint64_t popped_bytes;
	uint64_t lost;   /* records that were damaged when it was opened */
	uint64_t met;    /* damage that pops came upon */
	uint64_t passed; /* records that SEEK_DATA passed over there */
};

/* What it shows of a device with logs. */
struct drive_info {
	const char *path;
	const char *driver;
	const char *mode; /* how it works, of several ways; "": there is one */
	uint32_t block_bytes;
	uint64_t capacity_bytes;
	uint64_t used_bytes; /* by logs, in whole segments */
	uint64_t free_bytes;
	bool grows;     /* a file: it becomes longer when nothing is free */
	uint64_t reads; /* requests that were done, or failed */
	uint64_t read_bytes;
	uint64_t writes;
	uint64_t written_bytes;
	uint64_t durable_writes; /* of them: done when they are on stable media */
	uint64_t flushes;
	uint64_t discards;
	uint32_t in_flight;
	uint32_t waiting; /* for room in the device */
	uint64_t errors;  /* those that failed */
};

/* Call fn for every log and every device that is open. */
void log_engine_each_log(const struct log_engine *engine,
			 void (*fn)(void *arg, const struct log_info *info), void *arg);
void log_engine_each_drive(const struct log_engine *engine,
			   void (*fn)(void *arg, const struct drive_info *info), void *arg);

/* A queue on a log, opened as by open(2).  Blocks.  0 or -errno, told to the log. */
int log_queue_open(struct log_engine *engine, const char *path, int flags, mode_t mode,
		   struct queue **queue_out);

extern const struct engine_ops kernel_direct_engine;
extern const struct engine_ops inet_engine;
extern const struct engine_ops catmem_engine;
extern const struct engine_ops catloop_engine;

/* The sockets that there are: TCP and UDP over both families. */
static inline bool transport_supports(int domain, int type, int protocol)
{
	if (domain != AF_INET && domain != AF_INET6)
		return false;
	if (type == SOCK_STREAM)
		return protocol == 0 || protocol == IPPROTO_TCP;
	return type == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP);
}
