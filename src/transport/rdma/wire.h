/* SPDX-License-Identifier: MIT
 * transport/rdma/wire.h - what catmint's peers tell each other; all numbers are little-endian.
 *
 * In the private data of rdma_cm: struct rdma_hello.  In front of each message: struct rdma_header.
 * Into the peer's credit word: granted and done, 8 bytes in one write.
 */
#pragma once

#include <assert.h>
#include <endian.h>
#include <stdint.h>

#define RDMA_MAGIC   0x6d696e74U /* "mint" */
#define RDMA_VERSION 1

struct rdma_hello {
	uint32_t magic;
	uint16_t version;
	uint16_t zero;
	uint32_t credits;      /* messages that the other side may send at first */
	uint32_t buffer_bytes; /* that a message, its header included, may have */
	uint32_t message_max;  /* bytes of an element */
	uint32_t word_rkey;    /* of the credit word, 8 bytes */
	uint64_t word_address;
};

static_assert(sizeof(struct rdma_hello) == 32, "rdma_cm's private data has room for 56 bytes");

enum rdma_kind {
	RDMA_DATA = 1, /* an element */
	RDMA_END,      /* of the stream */
	RDMA_ANNOUNCE, /* of an element that is to be read: struct rdma_piece */
};

struct rdma_header {
	uint32_t length; /* of what follows */
	uint8_t kind;
	uint8_t zero[3];
	uint32_t granted; /* credits so far, modulo 2^32 */
	uint32_t done;    /* rendezvous that were read so far, modulo 2^32 */
};

static_assert(sizeof(struct rdma_header) == 16, "keeps payload aligned");

struct rdma_piece {
	uint64_t address;
	uint32_t rkey;
	uint32_t length;
};

static_assert(sizeof(struct rdma_piece) == 16, "no padding on the wire");
