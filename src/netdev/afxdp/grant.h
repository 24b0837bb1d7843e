/* SPDX-License-Identifier: MIT
 * netdev/afxdp/grant.h - what needs privilege of an XDP socket: opening it, giving it its memory,
 * binding it to a queue, and having the interface's program steer to it.
 *
 * Two who can give it: this process (grant_open), or `demi xdp-helper`, which does the same for us
 * and passes the socket (remote_open); afterwards struct grant's ops do what its giver can.  Its
 * memory is the caller's, who closes the socket too: grant->fd.
 *
 * The helper may end before us.  The socket stays ours then, and sends; what arrives goes to the
 * kernel, until the next helper has taken the socket on (renew).
 *
 * struct grant_request is plain data that goes over a Unix socket as it is: whoever takes one from
 * there copies it first, then checks it by grant_check.
 */
#pragma once

#include "base/address.h"
#include "base/cbpf.h"
#include "base/log.h"
#include "netdev/afxdp/steer.h"

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#define GRANT_PORTS_MAX   16
#define GRANT_FILTERS_MAX 16
#define GRANT_FRAME_BYTES 4096 /* a chunk of the memory */
#define GRANT_ANY_PLACE   UINT32_MAX

enum grant_copy { GRANT_COPY_AUTO, GRANT_ZERO_COPY, GRANT_COPY };

struct grant_ports {
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	uint8_t reserved;
	uint16_t first; /* host order */
	uint16_t last;
};

struct grant_request {
	char interface[IFNAMSIZ];
	uint64_t memory_bytes; /* a multiple of GRANT_FRAME_BYTES */
	uint32_t headroom;     /* bytes at the start of each frame that are not the kernel's */
	uint32_t ring;         /* descriptors of each ring, a power of two */
	uint32_t queue;
	uint32_t queues;  /* how many sockets share the addresses: from queue on, one each */
	uint32_t process; /* whose sockets these are; the helper looks by itself */
	uint32_t place;   /* which of the queues, from 0 on; GRANT_ANY_PLACE: the lowest free one */
	uint32_t pool;    /* 0; else all are on the first queue, with one memory (pool.h): its id.
			     Not by the helper, which keeps no sockets that others could join. */
	uint32_t busy_poll_us;
	uint8_t mode; /* enum steer_mode */
	uint8_t copy; /* enum grant_copy */
	uint8_t reserved;
	bool alone; /* no dispatcher */
	bool promiscuous;
	uint8_t num_ports; /* 0: whole addresses */
	struct grant_ports ports[GRANT_PORTS_MAX];
};

/* With ports our addresses are the kernel's too, but for groups and link-local ones. */
static inline bool grant_is_shared(uint32_t num_ports, const struct ip_address *address)
{
	return num_ports > 0 && !ip_is_multicast(address) && !ip_is_link_local(address);
}

struct grant;

struct grant_ops {
	/* Binds the socket, if it is not yet, and has its interface's program give frames to it.
	 * Once, after the caller has mapped the rings: a kernel before 6.4 maps none of a bound
	 * socket.  What became of the wishes is known then.  0 or -errno, told. */
	int (*bind)(struct grant *grant);
	/* As netdev_ops.steer. */
	int (*steer)(struct grant *grant, const struct ip_address *address, bool wanted);
	/* As netdev.filter. */
	int (*filter)(struct grant *grant, uint16_t port, const struct sock_filter *program,
		      uint32_t count);
	/* The giver has gone: asks who is there now to go on, with everything that is steered.  0
	 * or -errno; each reason is told once. */
	int (*renew)(struct grant *grant);
	/* Frees it and ends what it stood for; the socket must be closed. */
	void (*close)(struct grant *grant);
};

/* Embedded first in what a giver makes. */
struct grant {
	const struct grant_ops *ops;
	int fd;    /* XDP socket, all rings of request->ring descriptors */
	int giver; /* has an end (EPOLLRDHUP) when the giver has gone; -1: it is this process */
	uint32_t queue;
	uint32_t place; /* of those that share the addresses */
	bool native;
	bool dispatched;
	bool zero_copy;
	bool segments; /* frames may be of several buffers (XDP_USE_SG) */
	bool busy_poll;
};

/* 0 or -EINVAL, told. */
int grant_check(const struct log *log, const struct grant_request *request);

/* memory: where request->memory_bytes are mapped in this process, while this runs; of a pool, which
 * has it from its first socket, the others bring none.  The sockets of a pool are opened, bound and
 * closed one at a time.  0 or -errno, told. */
int grant_open(const struct log *log, const struct grant_request *request, void *memory,
	       struct grant **grant_out);

/* The same for a socket that an earlier giver opened and bound, which stays the caller's: it is
 * steered to again. */
int grant_adopt(const struct log *log, const struct grant_request *request, int fd,
		struct grant **grant_out);

/* remote.c: the same by the helper at the Unix socket path.  memory_fd: the memfd that the memory
 * is of.  Blocks until the helper answers, at most some seconds. */
int remote_open(const struct log *log, const struct grant_request *request, const char *path,
		int memory_fd, struct grant **grant_out);
