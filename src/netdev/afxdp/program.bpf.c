/* SPDX-License-Identifier: MIT
 * netdev/afxdp/program.bpf.c - the XDP program of an interface: frames that are ours go to an XDP
 * socket, all others to the kernel.
 *
 * decide.h has the rules.  steer.c fills the maps, knowing them by their names.
 */
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
	/* An empty slot leaves the frame to the kernel. */
	long verdict = slot < 0 ? XDP_PASS : bpf_redirect_map(&sockets, slot, XDP_PASS);

	count(verdict == XDP_REDIRECT ? STEER_COUNT_STEERED : STEER_COUNT_NO_SOCKET);
	return (int)verdict;
}

char _license[] SEC("license") = "Dual MIT/GPL";
