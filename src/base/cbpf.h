/* SPDX-License-Identifier: MIT
 * base/cbpf.h - filters as programs of classic BPF, and the record of an element that they see.
 *
 * A program is an array of struct sock_filter (linux/filter.h), of which it uses a part: BPF_LD of
 * 1, 2 or 4 bytes in network order at a constant place of the record (BPF_ABS), BPF_AND with a
 * constant, forward jumps (BPF_JA, BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET with a constant), BPF_RET of
 * a constant: 0, the element does not pass; any other, it does.  cbpf_check says whether an array
 * is one; cbpf_run takes no more steps than it has instructions.
 *
 * The record is struct cbpf_head and behind it, from CBPF_DATA on, the payload.  A load of what is
 * not there ends the program with 0: bytes behind the payload, and all of the head but len of an
 * element that is no datagram.  So the whole filter is false then, however it goes on.
 *
 * The same program runs on the CPU (here) and, made into eBPF (netdev/afxdp/translate.h), in the
 * XDP program of an interface, which includes this file: so it is without libc.
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

struct iovec;

#define CBPF_MAX 256 /* instructions: any jump fits the 8 bits that it has */

/* All in network order.  local is what the queue pops from: the receiver. */
struct cbpf_head {
	uint32_t len; /* bytes of the payload; UINT32_MAX if there are more */
	uint16_t port;
	uint16_t local_port;
	uint8_t version; /* 4 or 6 */
	uint8_t zero[7];
	uint64_t address[2]; /* 16 bytes, as in struct ip_address */
	uint64_t local_address[2];
};

#define CBPF_DATA     48U    /* where the payload stands: sizeof(struct cbpf_head) */
#define CBPF_DATA_MAX 65535U /* bytes of payload that a load can reach */

/* An element on the CPU. */
struct cbpf_record {
	struct cbpf_head head;
	bool is_datagram; /* else only len of the head is there */
	uint32_t count;   /* of segments */
	const struct iovec *segments;
};

/* Is it a program?  0, or -EINVAL. */
int cbpf_check(const struct sock_filter *program, uint32_t count);

/* Runs a program that was checked.  Does the element pass? */
bool cbpf_run(const struct sock_filter *program, const struct cbpf_record *record);
