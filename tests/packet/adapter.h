/* SPDX-License-Identifier: MIT
 * tests/packet/adapter.h - packetdrill-adapter.so: one instance of the library behind packetdrill's
 * interface, in virtual time.
 *
 * The adapter is the instance's world: its time, and the wire of its device, whose other end it
 * plays: it answers questions for link-layer addresses itself and keeps every other packet for
 * netdev_receive.  Time stands still while the stack works.  It moves by a microsecond with every
 * gettimeofday, by usleep, from timer to timer while netdev_receive has nothing to give, and in the
 * same way while a call of the thread that made the adapter blocks, for then nobody else is there
 * to move it.  A call that blocks on another thread waits for a condition variable.
 *
 * One lock is held around everything.  Socket calls run in coroutines of their own, on whichever
 * thread moves the stack; what is pending is in calls.
 */
#pragma once

#include "packet/frame.h"
#include "packet/packetdrill.h"

#include "netdev/sim/sim.h"
#include "posix/posix.h"

#include <pthread.h>
#include <stdbool.h>

#define ADAPTER_FDS      1024                  /* numbers of the kernel's descriptors are below */
#define ADAPTER_FILES    256                   /* of the layer */
#define ADAPTER_START_NS 1000000000000ULL      /* when the world begins */
#define ADAPTER_QUIET_NS (130ULL * 1000000000) /* how long one waits for something to happen */

struct demi;

struct adapter_packet {
	struct adapter_packet *next;
	uint64_t at_ns;
	uint32_t length;
	uint8_t bytes[]; /* from the IP header on */
};

struct adapter {
	struct sim_wire wire;
	struct netdev *dev;
	struct demi *demi;
	struct posix posix;
	pthread_mutex_t lock;
	pthread_t owner; /* made the adapter */
	uint64_t now_ns;
	struct adapter_packet *sent; /* oldest first */
	struct adapter_packet *sent_tail;
	int files[ADAPTER_FDS]; /* the layer's descriptor by the kernel's; -1: none */
	uint32_t callers;       /* threads that wait within a call */
	pthread_cond_t left;    /* one of them is through */
	/* When the last call ended that was another thread's than the owner's: what this thread is
	 * told next. */
	bool has_ended;
	pthread_t ended_thread;
	uint64_t ended_ns;
	char log[256];                      /* last error line of the instance */
	uint8_t frame[LIVE_BYTES_MAX + 64]; /* that is being delivered */
};

/* A system call: what it is given, what it returns.  It lies on its caller's stack. */
struct adapter_call {
	ssize_t (*make)(struct posix *px, struct adapter_call *call);
	int fd; /* the kernel's; then the layer's */
	int a;
	int b;
	unsigned long request;
	const void *in;
	void *out;
	size_t size;
	socklen_t length;
	const struct sockaddr *to;
	struct sockaddr *from;
	socklen_t *from_length;
	/* below: the adapter's */
	struct adapter *adapter;
	bool ended;
	ssize_t result;
	int error;
	uint64_t ended_ns;
	pthread_cond_t done;
};

/* ---- adapter_world.c ---- */

/* Takes the lock and makes the instance the thread's, and back. */
void adapter_enter(struct adapter *adapter);
void adapter_leave(struct adapter *adapter);
/* Opens the device on the wire, which takes packets of up to mtu bytes.  0 or -errno. */
int adapter_open_wire(struct adapter *adapter, uint32_t mtu);
/* A bare IP packet arrives.  False: the device takes no more. */
bool adapter_arrive(struct adapter *adapter, const uint8_t *packet, uint32_t length);
/* Turns until nothing happens any more. */
void adapter_settle(struct adapter *adapter);
/* Lets time pass until until_ns, or until what is true of arg (NULL: only the former). */
void adapter_pass(struct adapter *adapter, uint64_t until_ns, bool (*what)(const void *arg),
		  const void *arg);
uint64_t adapter_now(void *adapter);
void adapter_free_packets(struct adapter *adapter);

/* ---- adapter_script.c ---- */

/* Tells of each setting that packetdrill's command line and script hold: mtu, local, tcp_ecn. */
typedef void (*adapter_tell_t)(void *arg, const char *key, const char *value);
void adapter_read_script(adapter_tell_t tell, void *arg);

/* ---- adapter_call.c ---- */

/* Fills in the members that are system calls. */
void adapter_fill_calls(struct packetdrill_interface *ifc);
/* Ends every call that blocks, and closes every socket. */
void adapter_close_all(struct adapter *adapter);
