/* SPDX-License-Identifier: MIT
 * tools/demi/net/lwip_end.h - one end of a connection benchmark on lwIP: what the module
 * demi-bench-lwip.so gives to `demi bench net`, which loads it twice, and to the server `lwip` of
 * `demi bench echo`.
 *
 * lwIP's state is global. Each end is a copy of the module and of liblwip in a namespace of the
 * dynamic linker of its own (dlmopen), so two of them live in one process; they meet by these
 * functions only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* What it speaks over. */
struct lwip_wire {
	void *end;
	/* Copies a frame, in n pieces; or there is no room, then not 0. */
	int (*put)(void *end, const struct iovec *iov, uint32_t n);
	/* The next frame, if there is one, until done. */
	bool (*get)(void *end, const void **bytes_out, uint32_t *length_out);
	void (*done)(void *end);
	uint8_t mac[6];
	uint32_t mtu;
	uint32_t address; /* in host order, everything below its first 3 bytes on the link */
};

/* int: 0, or a negative error of lwIP's. */
struct lwip_end {
	/* wire is copied. Once a copy of the module; what was open before is dropped. */
	int (*open)(const struct lwip_wire *wire);
	/* Answers what comes, or (answers false) only takes it in. */
	int (*listen)(uint16_t port, bool answers);
	/* Begins connections to an address in host order; connected tells how many there are by
	 * now. */
	int (*connect)(uint32_t address, uint16_t port, unsigned count);
	unsigned (*connected)(void);
	/* Those that the other end has closed. */
	unsigned (*closed)(void);
	/* Takes in up to so many frames, and looks after timers; how many came. */
	unsigned (*poll)(unsigned frames);
	/* Sends a message of so many bytes on each of the next count connections of the first
	 * `active`, in turn. */
	int (*request)(unsigned active, unsigned count, uint32_t bytes);
	/* Puts as much as fits, at most bytes, on the connection made first; how much. */
	uint32_t (*fill)(uint32_t bytes);
	/* Whole answers, and bytes, that came since open. */
	uint64_t (*answers)(void);
	uint64_t (*received)(void);
	/* Bytes that are allocated here now. */
	uint64_t (*allocated)(void);
	/* Ends every connection at once. */
	void (*close)(void);
	/* How it is built, as text. */
	const char *(*options)(void);
};

#define LWIP_END_SYMBOL "demi_lwip_end"
