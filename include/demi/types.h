/* SPDX-License-Identifier: MIT
 * demi/types.h - the data types of the queue API.
 *
 * Names, order and packing are those of Demikernel 1.5 (source compatible; DEMI_SGARRAY_MAXSIZE is
 * 8 here, 1 there, so the binary layouts differ).  The structures are packed: never take the
 * address of a member that is wider than a byte, copy it.
 */
#ifndef DEMI_TYPES_H
#define DEMI_TYPES_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Segments that one scatter-gather array can carry.  Every queue takes arrays of up to this many.
 */
#define DEMI_SGARRAY_MAXSIZE 8

#ifdef __GNUC__
#define DEMI_PACKED __attribute__((packed))
#else
#define DEMI_PACKED
#endif

/* One asynchronous operation.  Valid from the call that issued it until a wait call returns its
 * result; 0 is never a token of an operation. */
typedef uint64_t demi_qtoken_t;

/* One contiguous piece of memory. */
typedef struct DEMI_PACKED demi_sgaseg {
	void *sgaseg_buf;    /* first byte */
	uint32_t sgaseg_len; /* bytes */
} demi_sgaseg_t;

/* Scatter-gather array: the unit of I/O.  Arrays that an application puts together itself have
 * sga_buf NULL. */
typedef struct DEMI_PACKED demi_sgarray {
	void *sga_buf;        /* reserved for the library; NULL in arrays of your own */
	uint32_t sga_numsegs; /* segments in use, 1 to DEMI_SGARRAY_MAXSIZE; 0 is the null array */
	demi_sgaseg_t sga_segs[DEMI_SGARRAY_MAXSIZE]; /* the data is their concatenation */
	struct sockaddr_in sga_addr; /* popped datagram: its IPv4 source; else sin_family is 0 */
} demi_sgarray_t;

/* What a result is the result of. */
typedef enum demi_opcode {
	DEMI_OPC_INVALID = 0, /* never returned by a successful wait */
	DEMI_OPC_PUSH = 1,
	DEMI_OPC_POP = 2,
	DEMI_OPC_ACCEPT = 3,
	DEMI_OPC_CONNECT = 4,
	DEMI_OPC_CLOSE = 5,
	DEMI_OPC_FAILED = 6,   /* the operation failed: qr_ret is the positive errno */
	DEMI_OPC_TRUNCATE = 7, /* demi/storage.h; not in Demikernel */
} demi_opcode_t;

/* Result of an accept: the new connection.  Its descriptor belongs to the application, which closes
 * it. */
typedef struct DEMI_PACKED demi_accept_result {
	int32_t qd;              /* descriptor of the new connection */
	struct sockaddr_in addr; /* IPv4 address of the peer; sin_family 0 if the peer is not IPv4
				    (demi_getpeername) */
} demi_accept_result_t;

/* Result of one operation, as wait calls return it. */
typedef struct DEMI_PACKED demi_qresult {
	enum demi_opcode qr_opcode; /* the operation's kind, or DEMI_OPC_FAILED */
	int32_t qr_qd;              /* the queue it was issued on */
	demi_qtoken_t qr_qt;        /* its token, spent now */
	int64_t qr_ret;             /* 0; the positive errno if it failed; push to a log: the
				       record's offset */

	union {
		demi_sgarray_t sga; /* pop: the data, yours to free; push: copy of what was pushed,
				       no reference */
		demi_accept_result_t ares; /* accept */
	} qr_value;
} demi_qresult_t;

/* Profiler callback of Demikernel; accepted and never called. */
typedef void (*demi_callback_t)(const char *name, uint32_t length, uint64_t nanoseconds);

/* Arguments of demi_init.  argc and argv are the program's own; the library takes nothing from
 * them. */
struct DEMI_PACKED demi_args {
	int argc;
	char *const *argv;
	demi_callback_t callback;
};

#ifdef __cplusplus
}
#endif

#endif
