/* SPDX-License-Identifier: MIT
 * netdev/afxdp/translate.h - a filter of classic BPF (base/cbpf.h) made into a program of eBPF, to
 * which the XDP program of an interface jumps (program.bpf.c).
 *
 * It has the frame and its struct filter_record, redirects the frame to its slot's socket if the
 * filter is not 0, else drops it, and counts what it did.  A frame that is shorter than its headers
 * say goes up, to be dropped there by name.
 */
#pragma once

#include "base/cbpf.h"

#include <linux/bpf.h>

/* Most that a filter becomes. */
#define TRANSLATE_MAX (CBPF_MAX * 16 + 64)

/* Descriptors of the XDP program's maps. */
struct translate_maps {
	int sockets;
	int record;
	int counts;
};

/* A program that cbpf_check takes, for the port of a slot (key: filter_key).  Returns how many
 * instructions it became, at most TRANSLATE_MAX. */
uint32_t translate(const struct sock_filter *program, uint32_t count, uint32_t key,
		   const struct translate_maps *maps, struct bpf_insn *out);
