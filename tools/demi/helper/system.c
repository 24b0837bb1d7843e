/* SPDX-License-Identifier: MIT
 * tools/demi/helper/system.c - see system.h.
 */
#include "helper/system.h"

#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define BACKLOG         64
#define PASSED_FIRST    3 /* SD_LISTEN_FDS_START of sd_listen_fds(3) */
#define PEER_GROUPS_MAX 1024

/* ---- capabilities ---- */

#define BIT(capability) (1ULL << (capability))

/* Sockets and memory; attaching; loading, and what verifiers of other kernels than Linux 6.18 may
 * want to let a program follow pointers. */
static const uint64_t needed =
	BIT(CAP_NET_RAW) | BIT(CAP_IPC_LOCK) | BIT(CAP_NET_ADMIN) | BIT(CAP_BPF) | BIT(CAP_PERFMON);

static int set_capabilities(uint64_t wanted)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -1;
	for (int i = 0; i < 2; i++) {
		uint32_t half = (uint32_t)(wanted >> (32 * i)) & data[i].permitted;
		data[i].permitted = half;
		data[i].effective = half;
		data[i].inheritable = 0;
	}
	return (int)syscall(SYS_capset, &header, data);
}

int system_drop_privilege(bool dispatcher)
{
	/* libxdp finds programs by their numbers */
	uint64_t kept = needed | (dispatcher ? BIT(CAP_SYS_ADMIN) : 0);

	/* without CAP_SETPCAP the bounding set stays: it matters only to what is executed */
	for (int capability = 0; capability <= CAP_LAST_CAP; capability++) {
		if (!(kept & BIT(capability)))
			(void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) || set_capabilities(kept)) {
		tool_complain("xdp-helper: capabilities: %s", strerror(errno));
		return -1;
	}
	return 0;
}

/* ---- the socket file ---- */

static int complain(const char *path, const char *what)
{
	tool_complain("xdp-helper: %s: %s: %s", path, what, strerror(errno));
	return -1;
}

/* Does anybody listen there? */
static bool is_alive(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool alive =
		fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
			    errno == EAGAIN || errno == EPROTOTYPE);

	if (fd >= 0)
		close(fd);
	return alive;
}

/* Removes the socket that one left that was killed.  0, or -1: complained of. */
static int clear_path(const struct sockaddr_un *address)
{
	const char *path = address->sun_path;
	struct stat there;

	if (lstat(path, &there))
		return 0;
	if (!S_ISSOCK(there.st_mode)) {
		tool_complain("xdp-helper: %s: is there, and is not a socket", path);
		return -1;
	}
	if (is_alive(address)) {
		tool_complain("xdp-helper: %s: another one listens there", path);
		return -1;
	}
	return unlink(path) ? complain(path, "unlink") : 0;
}

/* The directory of path, if it is missing; what stands above it must be there. */
static void make_directory(const char *path)
{
	char directory[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return;
	tool_copy_text(directory, (size_t)(slash - path) + 1, path);
	(void)mkdir(directory, 0755);
}

/* Nobody may connect until owner and mode are as they should be: listen comes last. */
static int make_file(struct listener *listener, const struct sockaddr_un *address,
		     const struct admission *admission)
{
	struct stat made;
	const char *path = listener->path;
	mode_t before = umask(0777);
	int failed = bind(listener->fd, (const struct sockaddr *)address, sizeof(*address));

	umask(before);
	if (failed)
		return complain(path, "bind");
	if (lstat(path, &made))
		return complain(path, "stat");
	listener->dev = made.st_dev;
	listener->ino = made.st_ino;
	bool as_wanted = made.st_uid == admission->user && made.st_gid == admission->group;
	if (!as_wanted && lchown(path, admission->user, admission->group)) /* CAP_CHOWN */
		return complain(path, "owner");
	if (chmod(path, admission->mode))
		return complain(path, "mode");
	return listen(listener->fd, BACKLOG) ? complain(path, "listen") : 0;
}

/* Did the service manager pass a socket, as sd_listen_fds(3) has it? */
static bool is_passed(void)
{
	const char *pid = getenv("LISTEN_PID");
	const char *count = getenv("LISTEN_FDS");

	return pid && count && strtol(pid, NULL, 10) == getpid() && strcmp(count, "1") == 0;
}

/* 0, or -1: complained of. */
static int take_passed(int fd, struct admission *admission)
{
	struct sockaddr_un address;
	struct stat file;
	int type = 0;
	socklen_t length = sizeof(type);
	socklen_t address_length = sizeof(address) - 1;

	memset(&address, 0, sizeof(address));
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) || type != SOCK_SEQPACKET ||
	    getsockname(fd, (struct sockaddr *)&address, &address_length) ||
	    address.sun_family != AF_UNIX || stat(address.sun_path, &file)) {
		tool_complain("xdp-helper: descriptor 3, which was passed: not a Unix socket of "
			      "packets with a file (ListenSequentialPacket=)");
		return -1;
	}
	*admission = (struct admission){
		.user = file.st_uid, .group = file.st_gid, .mode = file.st_mode & 0777};
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
		return 0;
	return complain(address.sun_path, "descriptor");
}

int listener_open(struct listener *listener, const char *path, struct admission *admission)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	*listener = (struct listener){.fd = is_passed() ? PASSED_FIRST : -1};
	if (listener->fd >= 0)
		return take_passed(listener->fd, admission);
	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return complain(path, "socket");
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	make_directory(path);
	if (clear_path(&address))
		return -1;
	listener->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0)
		return complain(path, "socket");
	listener->path = path;
	if (make_file(listener, &address, admission) == 0)
		return 0;
	listener_close(listener);
	return -1;
}

void listener_close(const struct listener *listener)
{
	struct stat now;

	if (listener->fd >= 0)
		close(listener->fd);
	if (listener->path && lstat(listener->path, &now) == 0 && now.st_dev == listener->dev &&
	    now.st_ino == listener->ino)
		(void)unlink(listener->path);
}

/* ---- who connects ---- */

static bool in_group(int fd, gid_t primary, gid_t group)
{
	gid_t groups[PEER_GROUPS_MAX];
	socklen_t length = sizeof(groups);

	if (primary == group)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length))
		return false;
	for (size_t i = 0; i < length / sizeof(*groups); i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

bool peer_admitted(const struct admission *admission, int fd, struct peer *peer_out)
{
	struct ucred who;
	socklen_t length = sizeof(who);

	*peer_out = (struct peer){.pid = -1, .uid = (uid_t)-1};
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length))
		return false;
	*peer_out = (struct peer){.pid = who.pid, .uid = who.uid};
	if (who.uid == 0 || who.uid == geteuid())
		return true;
	if (who.uid == admission->user)
		return admission->mode & S_IWUSR;
	if (in_group(fd, who.gid, admission->group))
		return admission->mode & S_IWGRP;
	return admission->mode & S_IWOTH;
}

/* ---- the service manager ---- */

void system_notify(const char *state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;

	if (length < 2 || length >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0'; /* the abstract name space */
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
	close(fd);
}
