/* SPDX-License-Identifier: MIT
 * netdev/afxdp/steer.h - the XDP program of an interface, and what it steers to XDP sockets.
 *
 * Control path of who has the privilege: the application itself, or `demi xdp-helper` for it.  One
 * struct steer an interface and process; sockets and targets come and go.  The program gives a
 * frame to a socket if it is for a steered address or port, and leaves everything else, ARP and
 * neighbour discovery of others included, to the kernel.  A slot without a socket leaves the frame
 * to the kernel too: so the kernel has everything back when the sockets are closed, however their
 * process ended.  The program itself goes with its process.
 *
 * Everything that is refused is told to the log, with the command that mends it.
 */
#pragma once

#include "base/address.h"
#include "base/cbpf.h"
#include "base/log.h"
#include "netdev/spread/tables.h"

#include <stdbool.h>
#include <stdint.h>

enum steer_mode { STEER_AUTO, STEER_NATIVE, STEER_GENERIC };

struct steer;

/* Where a frame goes: slot first + n, n < count.  By queue: n is the queue that received the frame
 * (count is then the number of queues).  By hash: of the flow's addresses and ports, the same both
 * ways of a flow, an ICMP error as the packet that it quotes; a fragment and what has no ports by
 * its addresses alone.  A queue without a slot leaves the frame to the kernel. */
struct steer_target {
	uint16_t first;
	uint16_t count; /* at least 1 */
	bool by_hash;
};

struct steer_options {
	const char *interface;
	int index;
	enum steer_mode mode;
	bool alone; /* not through libxdp's dispatcher, even where there is a bpffs */
};

/* Loads the program and attaches it, beside what is there already if it can be.  0 or -errno. */
int steer_open(const struct log *log, const struct steer_options *options,
	       struct steer **steer_out);
/* Detaches it. */
void steer_close(struct steer *steer);

/* What became of the wishes. */
bool steer_is_native(const struct steer *steer);
bool steer_is_dispatched(const struct steer *steer); /* through libxdp's dispatcher */

/* Enters the XDP socket fd under a slot; -1: takes it out.  0 or -errno. */
int steer_socket(struct steer *steer, uint16_t slot, int fd);

/* Frames to an address of ours or a group, and ARP and neighbour solicitations for it, go to the
 * target; NULL: to the kernel again.  0, -ENOSPC or -errno. */
int steer_address(struct steer *steer, const struct ip_address *address,
		  const struct steer_target *target);

/* The address is the kernel's too (wanted), and only frames to steered ports of it are ours; false:
 * the kernel's alone again.  0, -ENOSPC or -errno. */
int steer_share(struct steer *steer, const struct ip_address *address, bool wanted);

/* Frames to a port (IPPROTO_TCP, IPPROTO_UDP; host order) of the shared addresses; NULL: to the
 * kernel again.  With them go ICMP errors that quote a packet from the port, and ARP replies to
 * 0.0.0.0, which answer questions that were asked as from there (the kernel asks as from its
 * address). */
int steer_port(struct steer *steer, uint8_t protocol, uint16_t port,
	       const struct steer_target *target);

/* Of what is steered to a slot, datagrams to a UDP port (host order) go there only if a filter
 * (base/cbpf.h) is not 0 for them, or record.h does not judge them; others are dropped.  It takes
 * the place of an earlier one.  count 0: none is dropped any more; what was on its way may still
 * be.  0, or -ENOSPC, -errno: then all is as before. */
int steer_filter(struct steer *steer, uint16_t slot, uint16_t port,
		 const struct sock_filter *program, uint32_t count);

/* Frames since steer_open that were steered to a socket, that were ours but had no socket there,
 * that were the kernel's, and that a filter dropped. */
struct steer_stat {
	uint64_t steered;
	uint64_t no_socket;
	uint64_t passed;
	uint64_t filtered;
};

int steer_stat(const struct steer *steer, struct steer_stat *out);
