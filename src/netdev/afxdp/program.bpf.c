/* SPDX-License-Identifier: MIT
 * netdev/afxdp/program.bpf.c - the XDP program of an interface: frames that are ours go to an XDP
 * socket, all others to the kernel.
 *
 * decide.h has the rules.  steer.c fills the maps, knowing them by their names.  What is ours and
 * for a port that has a filter goes by way of that: a program of its own, made by translate.c,
 * which redirects the frame or drops it.
 */
#include "netdev/afxdp/record.h"
#include "netdev/spread/decide.h"
#include "netdev/spread/tables.h"

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* Sockets by slot. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEER_SLOTS);
	__type(key, uint32_t);
	__type(value, uint32_t);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_ADDRESSES);
	__type(key, struct steer_key);
	__type(value, uint64_t);
} addresses SEC(".maps");

/* By steer_port_index. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * STEER_PORTS);
	__type(key, uint32_t);
	__type(value, uint64_t);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_COUNTS);
	__type(key, uint32_t);
	__type(value, uint64_t);
} counts SEC(".maps");

/* How many filters the instance that has a slot has: most have none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEER_SLOTS);
	__type(key, uint32_t);
	__type(value, uint32_t);
} filtering SEC(".maps");

/* Where the filter of a port stands, by filter_key. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FILTERS_MAX);
	__type(key, uint32_t);
	__type(value, uint32_t);
} filters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, FILTERS_MAX);
	__type(key, uint32_t);
	__type(value, uint32_t);
} programs SEC(".maps");

/* What a filter sees of the frame that is being handled. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct filter_record);
} record SEC(".maps");

STEER_HOOK bool steer_load(const struct steer_bytes *bytes, uint64_t offset, void *to,
			   uint32_t length)
{
	return bpf_xdp_load_bytes(bytes->frame, (uint32_t)offset, to, length) == 0;
}

STEER_HOOK uint64_t steer_find_address(const struct steer_key *address)
{
	const uint64_t *entry = bpf_map_lookup_elem(&addresses, address);

	return entry ? *entry : STEER_KERNEL;
}

STEER_HOOK uint64_t steer_find_port(uint64_t protocol, uint64_t port)
{
	uint32_t index = steer_port_index(protocol, port);
	const uint64_t *entry = bpf_map_lookup_elem(&ports, &index);

	return entry ? *entry : STEER_KERNEL;
}

STEER_INLINE void count(uint32_t which)
{
	uint64_t *counter = bpf_map_lookup_elem(&counts, &which);

	if (counter)
		++*counter;
}

/* Hands the frame to the filter of its port.  Comes back if there is none, or it can't judge. */
STEER_INLINE void filter(struct xdp_md *frame, const struct steer_bytes *bytes, uint32_t slot)
{
	const uint32_t *count = bpf_map_lookup_elem(&filtering, &slot);
	uint32_t zero = 0;

	if (!count || *count == 0)
		return;
	struct filter_record *r = bpf_map_lookup_elem(&record, &zero);
	if (!r || !filter_parse(r, bytes))
		return;
	uint32_t key = filter_key(slot, __builtin_bswap16(r->head.local_port));
	const uint32_t *index = bpf_map_lookup_elem(&filters, &key);
	if (!index)
		return;
	r->slot = slot;
	r->key = key;
	bpf_tail_call(frame, &programs, *index);
}

SEC("xdp.frags")

int demitasse(struct xdp_md *frame)
{
	const struct steer_bytes bytes = {
		.at = (const void *)(unsigned long)frame->data,
		.end = (const void *)(unsigned long)frame->data_end,
		.frame = frame,
	};
	struct steer_flow flow = {0};
	uint64_t entry = steer_decide(&flow, &bytes);

	if (entry == STEER_KERNEL) {
		count(STEER_COUNT_PASSED);
		return XDP_PASS;
	}
	int32_t slot = steer_slot(entry, &flow, frame->rx_queue_index);

	if (slot >= 0)
		filter(frame, &bytes, (uint32_t)slot);
	/* An empty slot leaves the frame to the kernel. */
	long verdict = slot < 0 ? XDP_PASS : bpf_redirect_map(&sockets, slot, XDP_PASS);

	count(verdict == XDP_REDIRECT ? STEER_COUNT_STEERED : STEER_COUNT_NO_SOCKET);
	return (int)verdict;
}

char _license[] SEC("license") = "Dual MIT/GPL";
