/* SPDX-License-Identifier: MIT */
#include "netdev/afxdp/steer.h"

#include "netdev/afxdp/attach.h"
#include "netdev/afxdp/record.h"
#include "netdev/afxdp/translate.h"
#include "netdev/spread/tables.h"

#include "base/bits.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

struct steer {
	struct attach attach;
	int sockets; /* maps of the program, which owns them */
	int addresses;
	int ports;
	int counts;
	int filtering;
	int filters;
	int programs;
	int record;
	uint32_t num_ports; /* steered ones */
	uint32_t num_filters[STEER_SLOTS];
	bool filter_used[FILTERS_MAX]; /* places in programs */
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
	steer->filtering = map_of(steer, "filtering");
	steer->filters = map_of(steer, "filters");
	steer->programs = map_of(steer, "programs");
	steer->record = map_of(steer, "record");
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

/* ---- filters ---- */

/* A table of programs takes only what was loaded as the one that jumps by it, and how that was
 * libbpf and libxdp decide: the first that it takes. */
static const struct likeness {
	uint32_t flags;
	enum bpf_attach_type type;
} likenesses[] = {{BPF_F_XDP_HAS_FRAGS, BPF_XDP}, {BPF_F_XDP_HAS_FRAGS, 0}, {0, BPF_XDP}, {0, 0}};

static int enter_filter(struct steer *steer, uint32_t place, const struct bpf_insn *insns,
			uint32_t count, const struct likeness *like)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .prog_flags = like->flags,
		    .expected_attach_type = like->type);
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "demi_filter", "Dual MIT/GPL", insns, count,
			       &opts);

	if (fd < 0)
		return fd;
	int err = bpf_map_update_elem(steer->programs, &place, &fd, BPF_ANY);
	close(fd); /* the map has it */
	return err;
}

/* Makes it and puts it into a place. */
static int make_filter(struct steer *steer, uint32_t place, uint32_t key,
		       const struct sock_filter *program, uint32_t count)
{
	const struct translate_maps maps = {
		.sockets = steer->sockets, .record = steer->record, .counts = steer->counts};
	struct bpf_insn *insns = calloc(TRANSLATE_MAX, sizeof(*insns));
	int err = -EINVAL;

	if (!insns)
		return -ENOMEM;
	uint32_t length = translate(program, count, key, &maps, insns);
	for (uint32_t i = 0; i < ARRAY_LENGTH(likenesses) && err == -EINVAL; i++)
		err = enter_filter(steer, place, insns, length, &likenesses[i]);
	free(insns);
	return err;
}

/* The first place that is free; FILTERS_MAX: none is. */
static uint32_t free_place(const struct steer *steer)
{
	uint32_t place = 0;

	while (place < FILTERS_MAX && steer->filter_used[place])
		place++;
	return place;
}

/* How many a slot has is changed after there is one more, and before there is one less. */
static int count_filter(struct steer *steer, uint32_t slot, bool more)
{
	uint32_t count = steer->num_filters[slot] + (more ? 1 : -1U);
	int err = bpf_map_update_elem(steer->filtering, &slot, &count, BPF_ANY);

	if (!err)
		steer->num_filters[slot] = count;
	return err;
}

static int add_filter(struct steer *steer, uint32_t slot, uint32_t key,
		      const struct sock_filter *program, uint32_t count)
{
	uint32_t place = free_place(steer);

	if (place == FILTERS_MAX)
		return -ENOSPC;
	int err = make_filter(steer, place, key, program, count);
	if (err)
		return err;
	err = bpf_map_update_elem(steer->filters, &key, &place, BPF_ANY);
	if (!err)
		err = count_filter(steer, slot, true);
	if (err) {
		(void)bpf_map_delete_elem(steer->filters, &key);
		(void)bpf_map_delete_elem(steer->programs, &place);
		return err;
	}
	steer->filter_used[place] = true;
	return 0;
}

static int take_filter(struct steer *steer, uint32_t slot, uint32_t key, uint32_t place)
{
	int err = bpf_map_delete_elem(steer->filters, &key);

	if (err)
		return err;
	(void)count_filter(steer, slot, false);
	(void)bpf_map_delete_elem(steer->programs, &place);
	steer->filter_used[place] = false;
	return 0;
}

int steer_filter(struct steer *steer, uint16_t slot, uint16_t port,
		 const struct sock_filter *program, uint32_t count)
{
	uint32_t key = filter_key(slot, port);
	uint32_t place;

	if (slot >= STEER_SLOTS || (count > 0 && cbpf_check(program, count)))
		return -EINVAL;
	bool is_there = bpf_map_lookup_elem(steer->filters, &key, &place) == 0;
	if (count == 0)
		return is_there ? take_filter(steer, slot, key, place) : 0;
	return is_there ? make_filter(steer, place, key, program, count)
			: add_filter(steer, slot, key, program, count);
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
	if (!err)
		err = read_count(steer, STEER_COUNT_FILTERED, &out->filtered);
	return err;
}
