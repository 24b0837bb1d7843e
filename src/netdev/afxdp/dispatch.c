/* SPDX-License-Identifier: MIT
 * netdev/afxdp/dispatch.c - see attach.h: the XDP program beside others.
 *
 * Whose process is gone?  Its owner binds an abstract Unix socket that is named after the
 * program's map of sockets.  Such names are of the network namespace, as the interface is, and end
 * with the process, in whatever container it was.  The map is made, and the name taken, before the
 * program is attached: so there is no moment in which it looks abandoned.
 */
#include "netdev/afxdp/attach.h"

#include "netdev/spread/tables.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#define PROGRAMS_MAX 16 /* more than a dispatcher has */
#define MAPS_MAX     16 /* more than the program has */

const char *dispatch_place(bool *is_there)
{
	const char *place = secure_getenv(XDP_BPFFS_ENVVAR);
	struct statfs fs;

	if (!place)
		place = "/sys/fs/bpf";
	*is_there = statfs(place, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
	return place;
}

/* ---- owners ---- */

static socklen_t owner_name(struct sockaddr_un *name, uint32_t map)
{
	*name = (struct sockaddr_un){.sun_family = AF_UNIX};
	int length =
		snprintf(name->sun_path + 1, sizeof(name->sun_path) - 1, "demitasse-xdp-%u", map);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* Descriptor or -errno. */
static int owner_claim(uint32_t map)
{
	struct sockaddr_un name;
	socklen_t length = owner_name(&name, map);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&name, length) == 0)
		return fd;
	int err = -errno;
	close(fd);
	return err;
}

static bool owner_lives(uint32_t map)
{
	int fd = owner_claim(map);

	if (fd >= 0)
		close(fd);
	return fd < 0;
}

/* Does one of the program's maps have an owner?  What cannot be known counts as one. */
static bool has_owner(const struct xdp_program *program)
{
	uint32_t maps[MAPS_MAX];
	struct bpf_prog_info info = {.map_ids = (uintptr_t)maps, .nr_map_ids = MAPS_MAX};
	uint32_t length = sizeof(info);

	if (bpf_obj_get_info_by_fd(xdp_program__fd(program), &info, &length))
		return true;
	for (uint32_t i = 0; i < info.nr_map_ids && i < MAPS_MAX; i++) {
		if (owner_lives(maps[i]))
			return true;
	}
	return false;
}

/* ---- the dispatcher ---- */

/* NULL: the interface has none. */
static struct xdp_multiprog *dispatcher_of(int index)
{
	struct xdp_multiprog *dispatcher = xdp_multiprog__get_from_ifindex(index);

	if (!dispatcher || libxdp_get_error(dispatcher))
		return NULL;
	if (!xdp_multiprog__is_legacy(dispatcher))
		return dispatcher;
	xdp_multiprog__close(dispatcher);
	return NULL;
}

enum dispatch_mode dispatch_mode_of(int index)
{
	struct xdp_multiprog *dispatcher = dispatcher_of(index);
	enum dispatch_mode mode = DISPATCH_NONE;

	if (dispatcher) {
		mode = xdp_multiprog__attach_mode(dispatcher) == XDP_MODE_SKB ? DISPATCH_GENERIC
									      : DISPATCH_NATIVE;
		xdp_multiprog__close(dispatcher);
	}
	return mode;
}

/* Takes one away.  False: there is none. */
static bool clean_one(int index)
{
	struct xdp_multiprog *dispatcher = dispatcher_of(index);
	struct xdp_program *program = NULL;
	bool cleaned = false;

	if (!dispatcher)
		return false;
	while ((program = xdp_multiprog__next_prog(program, dispatcher))) {
		if (strcmp(xdp_program__name(program), ATTACH_PROGRAM) == 0 && !has_owner(program))
			break;
	}
	if (program)
		cleaned = xdp_program__detach(program, index,
					      xdp_multiprog__attach_mode(dispatcher), 0) == 0;
	xdp_multiprog__close(dispatcher);
	return cleaned;
}

uint32_t dispatch_clean(int index)
{
	uint32_t cleaned = 0;

	while (cleaned < PROGRAMS_MAX && clean_one(index))
		cleaned++;
	return cleaned;
}

/* ---- our program ---- */

/* Makes the map of sockets and takes its name.  0 or -errno. */
static int claim(struct attach *attach)
{
	struct bpf_map *sockets = bpf_object__find_map_by_name(attach->object, "sockets");
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);
	int map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "sockets", sizeof(uint32_t), sizeof(uint32_t),
				 STEER_SLOTS, NULL);

	if (map < 0)
		return map;
	int err = bpf_obj_get_info_by_fd(map, &info, &length);
	if (!err)
		err = bpf_map__reuse_fd(sockets, map);
	close(map); /* the object has its own */
	if (err)
		return err;
	attach->owner = owner_claim(info.id);
	return attach->owner < 0 ? attach->owner : 0;
}

/* Where it has no dispatcher libxdp attaches a single program, which would outlive us. */
static int check_dispatched(struct attach *attach, enum xdp_attach_mode mode)
{
	if (dispatch_mode_of(attach->index) != DISPATCH_NONE)
		return 0;
	(void)xdp_program__detach(attach->program, attach->index, mode, 0);
	return -EOPNOTSUPP;
}

static int attach_program(struct attach *attach, enum xdp_attach_mode mode)
{
	attach->program = xdp_program__from_bpf_obj(attach->object, "xdp.frags");
	int err = (int)libxdp_get_error(attach->program);

	if (err) {
		attach->program = NULL;
		return err;
	}
	/* libxdp does not see it from the section's name. */
	(void)xdp_program__set_xdp_frags_support(attach->program, true);
	err = xdp_program__attach(attach->program, attach->index, mode, 0);
	return err ? err : check_dispatched(attach, mode);
}

static void let_go(struct attach *attach)
{
	if (attach->program)
		xdp_program__close(attach->program);
	if (attach->owner >= 0)
		close(attach->owner);
	bpf_object__close(attach->object);
	attach->object = NULL;
	attach->program = NULL;
	attach->owner = -1;
}

int dispatch_attach(struct attach *attach, bool native)
{
	attach->object = attach_object();
	if (!attach->object)
		return -errno;
	int err = claim(attach);
	if (!err)
		err = attach_program(attach, native ? XDP_MODE_NATIVE : XDP_MODE_SKB);
	if (err)
		let_go(attach);
	else
		attach->native = native;
	return err;
}

/* ---- files of a dispatcher whose interface is gone, which libxdp forgets ---- */

/* Is it the program with this number? */
static bool is_pin_of(const char *path, uint32_t id)
{
	struct bpf_prog_info info = {0};
	uint32_t length = sizeof(info);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return false;
	int err = bpf_obj_get_info_by_fd(fd, &info, &length);
	close(fd);
	return !err && info.id == id;
}

typedef bool (*file_fn)(const char *path, uint32_t id);

/* True: the function said so of a file. */
static bool any_file(const char *directory, const char *start, file_fn function, uint32_t id)
{
	DIR *files = opendir(directory);
	bool any = false;

	for (struct dirent *file; files && !any && (file = readdir(files));) {
		char path[PATH_MAX];
		int length = snprintf(path, sizeof(path), "%s/%s", directory, file->d_name);
		any = strncmp(file->d_name, start, strlen(start)) == 0 &&
		      length < (int)sizeof(path) && function(path, id);
	}
	if (files)
		(void)closedir(files);
	return any;
}

static bool take_file(const char *path, uint32_t id)
{
	(void)id;
	(void)unlink(path);
	return false; /* go on */
}

/* If the dispatcher has our program: takes it away. */
static bool take_dispatcher(const char *path, uint32_t id)
{
	if (!any_file(path, "prog", is_pin_of, id))
		return false;
	(void)any_file(path, "prog", take_file, id);
	(void)rmdir(path);
	return true;
}

static void take_pins(const struct attach *attach)
{
	char directory[PATH_MAX];
	char start[32];
	bool is_there;

	(void)snprintf(directory, sizeof(directory), "%s/xdp", dispatch_place(&is_there));
	(void)snprintf(start, sizeof(start), "dispatch-%d-", attach->index);
	(void)any_file(directory, start, take_dispatcher, xdp_program__id(attach->program));
}

void dispatch_detach(struct attach *attach)
{
	char name[IF_NAMESIZE];

	if (if_indextoname((unsigned int)attach->index, name))
		(void)xdp_program__detach(attach->program, attach->index,
					  attach->native ? XDP_MODE_NATIVE : XDP_MODE_SKB, 0);
	else
		take_pins(attach);
	let_go(attach);
}
