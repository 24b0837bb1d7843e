/* SPDX-License-Identifier: MIT */
#include "netdev/afxdp/steer.h"

#include "netdev/afxdp/attach.h"
#include "netdev/spread/tables.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

struct steer {
	struct attach attach;
	int sockets; /* maps of the program, which owns them */
	int addresses;
	int ports;
	int counts;
	uint32_t num_ports; /* steered ones */
};

static int map_of(const struct steer *steer, const char *name)
{
	return bpf_object__find_map_fd_by_name(steer->attach.object, name);
}

int steer_open(const struct log *log, const struct steer_options *options, struct steer **steer_out)
{
	struct steer *steer = calloc(1, sizeof(*steer));

	if (!steer)
		return -ENOMEM;
	int err = attach_open(log, options, &steer->attach);
	if (err) {
		free(steer);
		return err;
	}
	steer->sockets = map_of(steer, "sockets");
	steer->addresses = map_of(steer, "addresses");
	steer->ports = map_of(steer, "ports");
	steer->counts = map_of(steer, "counts");
	*steer_out = steer;
	return 0;
}

void steer_close(struct steer *steer)
{
	attach_close(&steer->attach);
	free(steer);
}

bool steer_is_native(const struct steer *steer)
{
	return steer->attach.native;
}

bool steer_is_dispatched(const struct steer *steer)
{
	return steer->attach.program != NULL;
}

/* ---- maps ---- */

int steer_socket(struct steer *steer, uint16_t slot, int fd)
{
	const uint32_t key = slot;

	if (slot >= STEER_SLOTS)
		return -EINVAL;
	if (fd >= 0)
		return bpf_map_update_elem(steer->sockets, &key, &fd, BPF_ANY);
	int err = bpf_map_delete_elem(steer->sockets, &key);
	return err == -ENOENT ? 0 : err;
}

/* 0 or -EINVAL. */
static int entry_of(const struct steer_target *target, uint64_t *entry)
{
	*entry = STEER_KERNEL;
	if (!target)
		return 0;
	if (target->count == 0 || target->first + target->count > STEER_SLOTS)
		return -EINVAL;
	*entry = steer_entry(target->first, target->count) | (target->by_hash ? STEER_BY_HASH : 0);
	return 0;
}

static int put_address(struct steer *steer, const struct ip_address *address, uint64_t entry)
{
	int err = bpf_map_update_elem(steer->addresses, address, &entry, BPF_ANY);

	return err == -E2BIG ? -ENOSPC : err;
}

static int take_address(struct steer *steer, const struct ip_address *address)
{
	int err = bpf_map_delete_elem(steer->addresses, address);

	return err == -ENOENT ? 0 : err;
}

int steer_address(struct steer *steer, const struct ip_address *address,
		  const struct steer_target *target)
{
	uint64_t entry;
	int err = entry_of(target, &entry);

	if (err)
		return err;
	return target ? put_address(steer, address, entry) : take_address(steer, address);
}

int steer_share(struct steer *steer, const struct ip_address *address, bool wanted)
{
	return wanted ? put_address(steer, address, STEER_SHARED) : take_address(steer, address);
}

/* How many ports are steered decides whether ARP replies to 0.0.0.0 are.  0 or -errno. */
static int count_port(struct steer *steer, uint32_t index, const struct steer_target *target)
{
	const struct ip_address any = ip_from_v4(0);
	uint64_t old;
	int err = bpf_map_lookup_elem(steer->ports, &index, &old);

	if (err)
		return err;
	if (target && old == STEER_KERNEL && steer->num_ports++ == 0)
		return steer_address(steer, &any, target);
	if (!target && old != STEER_KERNEL && --steer->num_ports == 0)
		return steer_address(steer, &any, NULL);
	return 0;
}

int steer_port(struct steer *steer, uint8_t protocol, uint16_t port,
	       const struct steer_target *target)
{
	const uint32_t index = steer_port_index(protocol, port);
	uint64_t entry;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return -EINVAL;
	int err = entry_of(target, &entry);
	if (!err)
		err = count_port(steer, index, target);
	if (!err)
		err = bpf_map_update_elem(steer->ports, &index, &entry, BPF_ANY);
	return err;
}

/* ---- counters ---- */

/* Sum over the processors.  0 or -errno. */
static int read_count(const struct steer *steer, uint32_t which, uint64_t *sum)
{
	int processors = libbpf_num_possible_cpus();

	if (processors < 0)
		return processors;
	uint64_t *each = calloc((size_t)processors, sizeof(*each));
	if (!each)
		return -ENOMEM;
	int err = bpf_map_lookup_elem(steer->counts, &which, each);
	*sum = 0;
	for (int i = 0; i < processors; i++)
		*sum += each[i];
	free(each);
	return err;
}

int steer_stat(const struct steer *steer, struct steer_stat *out)
{
	int err = read_count(steer, STEER_COUNT_STEERED, &out->steered);

	if (!err)
		err = read_count(steer, STEER_COUNT_NO_SOCKET, &out->no_socket);
	if (!err)
		err = read_count(steer, STEER_COUNT_PASSED, &out->passed);
	return err;
}
