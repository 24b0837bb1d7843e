/* SPDX-License-Identifier: MIT
 * tools/demi/uring.h - an io_uring as the echo benchmark uses it: DEFER_TASKRUN, a ring of provided
 * buffers, a sparse table of registered files.
 *
 * A buffer is the kernel's until a completion names it, ours until uring_give_buffer.
 */
#pragma once

#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define URING_GROUP 0 /* of the provided buffers */

struct uring {
	struct io_uring ring;
	struct io_uring_buf_ring *group;
	size_t group_bytes;
	uint8_t *memory;
	unsigned buffers; /* a power of two */
	size_t buffer_bytes;
	bool spins;
};

/* 0 or -errno with what failed in *what. */
int uring_open(struct uring *uring, unsigned files, unsigned buffers, size_t buffer_bytes,
	       bool spins, const char **what);
void uring_close(struct uring *uring);

static inline uint8_t *uring_buffer(const struct uring *uring, unsigned buffer)
{
	return uring->memory + buffer * uring->buffer_bytes;
}

void uring_give_buffer(struct uring *uring, unsigned buffer);

/* An empty submission entry; what is queued is submitted when the queue is full. */
struct io_uring_sqe *uring_sqe(struct uring *uring);

/* A multishot receive of a registered file into provided buffers. */
void uring_receive(struct uring *uring, unsigned file, uint64_t user_data);

/* Submits what is queued and lets completions come: sleeps for one, or (spinning) enters the kernel
 * only if there is something to submit or the kernel says that work waits there. 0 or -errno. */
int uring_turn(struct uring *uring);
