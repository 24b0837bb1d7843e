/* SPDX-License-Identifier: MIT
 * tools/demi/doctor_probe.c - the smallest XDP program and the smallest XDP socket, to find out
 * whether they can be had.
 */
#include "doctor.h"

#include "tool.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

#define CHUNK_BYTES 4096
#define RING        64
#define TRIES       50
#define BETWEEN_US  2000

/* ---- programs ---- */

int probe_program(bool parts)
{
	static const struct bpf_insn program[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr attributes = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.insn_cnt = TOOL_COUNT(program),
		.insns = (uintptr_t)program,
		.license = (uintptr_t) "MIT",
		.prog_flags = parts ? BPF_F_XDP_HAS_FRAGS : 0,
		.prog_name = "demi_doctor",
	};

	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes));
}

int probe_attach(int program, unsigned index, bool native)
{
	union bpf_attr attributes = {
		.link_create = {.prog_fd = (unsigned)program,
				.target_ifindex = index,
				.attach_type = BPF_XDP,
				.flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE},
	};

	return (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attributes, sizeof(attributes));
}

/* ---- sockets ---- */

static int give_rings(int fd)
{
	static const int rings[] = {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING};
	const int size = RING;

	for (size_t i = 0; i < TOOL_COUNT(rings); i++) {
		if (setsockopt(fd, SOL_XDP, rings[i], &size, sizeof(size)))
			return -1;
	}
	return 0;
}

static int give_memory(struct probe_socket *xsk)
{
	xsk->memory =
		mmap(NULL, xsk->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (xsk->memory == MAP_FAILED)
		return -1;
	const struct xdp_umem_reg registration = {
		.addr = (uintptr_t)xsk->memory, .len = xsk->bytes, .chunk_size = CHUNK_BYTES};
	return setsockopt(xsk->fd, SOL_XDP, XDP_UMEM_REG, &registration, sizeof(registration));
}

int probe_socket_open(struct probe_socket *xsk, size_t bytes)
{
	*xsk = (struct probe_socket){.memory = MAP_FAILED, .bytes = bytes};
	xsk->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (xsk->fd < 0)
		return -1;
	if (give_memory(xsk) == 0 && give_rings(xsk->fd) == 0)
		return 0;
	int error = errno;
	probe_socket_close(xsk);
	errno = error;
	return -1;
}

void probe_socket_close(struct probe_socket *xsk)
{
	close(xsk->fd);
	if (xsk->memory != MAP_FAILED)
		munmap(xsk->memory, xsk->bytes);
}

/* The kernel lets go of a queue some time after a socket was closed: so a busy one is tried
 * again. */
int probe_socket_bind(const struct probe_socket *xsk, unsigned index, unsigned queue,
		      unsigned flags)
{
	const struct sockaddr_xdp address = {
		.sxdp_family = AF_XDP,
		.sxdp_flags = (uint16_t)flags,
		.sxdp_ifindex = index,
		.sxdp_queue_id = queue,
	};

	for (int i = 0; i < TRIES; i++) {
		if (bind(xsk->fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
			return 0;
		if (errno != EBUSY)
			break;
		usleep(BETWEEN_US);
	}
	return errno;
}
