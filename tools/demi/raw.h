/* SPDX-License-Identifier: MIT
 * tools/demi/raw.h - frames over a port of DPDK with nothing between: the floor that `demi bench
 * echo` measures stacks against, and the port of its generator without a stack.
 *
 * What links DPDK is a module, demi-bench-raw.so.  One port a process; polled; by one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAW_BURST 32

struct raw_frame {
	uint8_t *data;
	uint32_t length;
	void *buffer; /* the port's */
};

struct raw_ops {
	/* device: name and arguments.  0 or -errno with a message. */
	int (*open)(const char *device, char *message, size_t room);
	/* Is the peer there? */
	bool (*is_up)(void);
	/* Frames of length bytes to be written; how many there are. */
	uint32_t (*make)(struct raw_frame *frames, uint32_t count, uint32_t length);
	/* At most RAW_BURST. */
	uint32_t (*receive)(struct raw_frame *frames, uint32_t max);
	/* The first ones of count, at most RAW_BURST, are the port's; how many. */
	uint32_t (*send)(const struct raw_frame *frames, uint32_t count);
	void (*drop)(const struct raw_frame *frames, uint32_t count);
	void (*close)(void);
};

/* The module's only symbol. */
#define RAW_SYMBOL "demi_bench_raw"

/* raw.c: opens the device of an end of `demi bench echo`: what is behind dpdk_device= in text.  0
 * or -errno with a message; -ENOTSUP: there is no module. */
int raw_open(const struct raw_ops **ops_out, const char *text, char *message, size_t room);

/* Waits until the peer is there.  0 or -ETIMEDOUT. */
int raw_await_peer(const struct raw_ops *ops);

/* Sends all, as soon as there is room. */
void raw_send_all(const struct raw_ops *ops, const struct raw_frame *frames, uint32_t count);
