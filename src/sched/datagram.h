/* SPDX-License-Identifier: MIT
 * sched/datagram.h - a popped datagram in its heap object: the source address, then the data.
 *
 * The array's sga_buf is the object's address with the lowest bit set (objects are aligned to 16):
 * so nothing that arrives on a stream, and no array of the application's own making, can pass for
 * one.
 */
#pragma once

#include "base/assert.h"
#include "sched/op.h"

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

union datagram_source {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

struct datagram {
	union datagram_source source;

	socklen_t source_length;
	char data[];
};

static_assert(offsetof(struct datagram, data) == 32, "half a cache line");

static inline void datagram_set(struct op *op, void *object, uint32_t bytes)
{
	op->sga_buf = (char *)object + 1;
	op_set_segment(op, ((struct datagram *)object)->data, bytes);
}

/* The object that an array's sga_buf stands for; *is_datagram: its lowest bit. */
static inline void *datagram_object(void *sga_buf, int *is_datagram)
{
	*is_datagram = (int)((uintptr_t)sga_buf & 1);
	return (char *)sga_buf - *is_datagram;
}
