/* SPDX-License-Identifier: MIT
 * tests/sim/diff/stack.h - a TCP/IP stack as sim/differential_test.c drives it: frames and calls
 * in, frames and what an application sees out, on a clock that is told to go on.
 *
 * The stack is host 0 of sim/inet.h (10.0.0.1), its peer host 1; there is one connection, and the
 * stack's end of it has DIFF_PORT.  lwIP is a module of its own (DIFF_LWIP_SYMBOL), for its names
 * are ours too: the two meet by this header only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DIFF_PORT      80   /* the stack's */
#define DIFF_PEER_PORT 5000 /* the peer's */
#define DIFF_WINDOW    65535U
#define DIFF_MTU       1500

/* What an application sees. */
struct diff_app {
	bool connected;     /* its connect is done, or it has accepted */
	bool ended;         /* it read the end of the peer's stream */
	bool failed;        /* a call of it was told that the connection is gone, or refused */
	bool broken;        /* the stack has failed an assertion of its own */
	bool wrong;         /* it read bytes that were not sent */
	uint32_t delivered; /* bytes it read */
};

struct diff_wire {
	void *arg;
	/* The stack sends a frame. */
	void (*output)(void *arg, const uint8_t *frame, uint32_t length);
	/* Byte of a stream: of the peer (false), or of the application (true). */
	uint8_t (*byte)(bool own, uint32_t offset);
	uint8_t mac[6];
	uint8_t peer_mac[6];
};

struct diff_stack {
	const char *name;
	/* The wire stays the caller's until `close_all`. */
	void (*open_all)(const struct diff_wire *wire, uint64_t seed);
	void (*listen)(void);
	void (*connect)(void);
	/* The next bytes of its stream; how many were taken. */
	uint32_t (*send)(uint32_t bytes);
	/* Reads all there is. */
	void (*read)(void);
	void (*shutdown)(void);
	void (*close)(void);
	void (*abort)(void);
	void (*input)(const uint8_t *frame, uint32_t length);
	void (*pass)(uint64_t ns);
	void (*look)(struct diff_app *app);
	/* Nothing of the connection is left: it can be opened anew. */
	void (*close_all)(void);
};

#define DIFF_LWIP_SYMBOL "diff_lwip_stack"

extern const struct diff_stack diff_our_stack;
