/* SPDX-License-Identifier: MIT */
#include "netdev/afxdp/ring.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>

int ring_size(int fd, enum ring_kind kind, uint32_t size)
{
	static const int names[RING_KINDS] = {
		[RING_FILL] = XDP_UMEM_FILL_RING,
		[RING_COMPLETION] = XDP_UMEM_COMPLETION_RING,
		[RING_RX] = XDP_RX_RING,
		[RING_TX] = XDP_TX_RING,
	};

	return setsockopt(fd, SOL_XDP, names[kind], &size, sizeof(size)) ? -errno : 0;
}

int ring_map(struct ring *ring, int fd, enum ring_kind kind, uint32_t size)
{
	static const uint64_t pages[RING_KINDS] = {
		[RING_FILL] = XDP_UMEM_PGOFF_FILL_RING,
		[RING_COMPLETION] = XDP_UMEM_PGOFF_COMPLETION_RING,
		[RING_RX] = XDP_PGOFF_RX_RING,
		[RING_TX] = XDP_PGOFF_TX_RING,
	};
	struct xdp_mmap_offsets all;
	socklen_t length = sizeof(all);

	if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &all, &length))
		return -errno;
	if (length != sizeof(all))
		return -ENOTSUP; /* a kernel before 5.4 */
	const struct xdp_ring_offset *offsets[RING_KINDS] = {[RING_FILL] = &all.fr,
							     [RING_COMPLETION] = &all.cr,
							     [RING_RX] = &all.rx,
							     [RING_TX] = &all.tx};
	const struct xdp_ring_offset *at = offsets[kind];
	bool producing = kind == RING_FILL || kind == RING_TX;
	bool described = kind == RING_RX || kind == RING_TX;
	uint64_t entry = described ? sizeof(struct xdp_desc) : sizeof(uint64_t);
	char *map = mmap(NULL, at->desc + size * entry, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_POPULATE, fd, (off_t)pages[kind]);
	if (map == MAP_FAILED)
		return -errno;
	*ring = (struct ring){
		.published = (void *)(map + (producing ? at->producer : at->consumer)),
		.seen = (void *)(map + (producing ? at->consumer : at->producer)),
		.flags = (void *)(map + at->flags),
		.addresses = (void *)(map + at->desc),
		.mask = size - 1,
		.map = map,
		.map_bytes = at->desc + size * entry,
	};
	ring->ours = *ring->published;
	ring->theirs = producing ? ring->ours : *ring->seen;
	return 0;
}

void ring_unmap(struct ring *ring)
{
	if (ring->map)
		munmap(ring->map, ring->map_bytes);
	ring->map = NULL;
}
