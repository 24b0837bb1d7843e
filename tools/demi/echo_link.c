/* SPDX-License-Identifier: MIT
 * tools/demi/echo_link.c - see echo_link.h.
 */
#include "echo_link.h"

#include "echo_dpdk.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* RFC 5180: addresses for benchmarks are 198.18.0.0/15. */
static const char *const kernels[2] = {"198.18.0.1", "198.18.0.2"};
static const char *const ours[2] = {"198.19.0.1", "198.19.0.2"};
static const char *const interfaces[2] = {"bench0", "bench1"};

/* The name of a device, without the keys behind it. */
static bool is_called(const char *device, const char *name)
{
	size_t length = strlen(name);

	return strncmp(device, name, length) == 0 &&
	       (device[length] == '\0' || device[length] == ',');
}

bool echo_link_is(const char *device)
{
	return device && (is_called(device, "veth") || is_called(device, "afpacket") ||
			  is_called(device, "tap") || echo_dpdk_is(device));
}

/* ---- commands ---- */

/* Runs a command with its own output.  0 or -EIO after a complaint. */
__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
	char command[256];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	status = system(command); // NOLINT(cert-env33-c): all of it is ours
	if (status == 0)
		return 0;
	tool_complain("%s: status %d", command, WIFEXITED(status) ? WEXITSTATUS(status) : status);
	return -EIO;
}

/* ---- namespaces ---- */

static int enter(int namespace)
{
	return setns(namespace, CLONE_NEWNET) < 0 ? -errno : 0;
}

static int current_namespace(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Moves this process into a new namespace.  Its descriptor or -errno. */
static int make_namespace(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	int error = run("ip link set lo up && sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
	return error ? error : current_namespace();
}

/* A child that only holds a place, so that `ip` can name its namespace. */
static pid_t stand_in(int namespace)
{
	pid_t parent = getpid();
	int ends[2];
	char byte;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent && enter(namespace) == 0 && write(ends[1], "r", 1) == 1)
			pause();
		_exit(1);
	}
	close(ends[1]);
	if (child > 0 && read(ends[0], &byte, 1) != 1) {
		waitpid(child, NULL, 0);
		child = -EIO;
	}
	close(ends[0]);
	return child;
}

/* In the server's namespace: one end of the pair goes to the client's. */
static int make_pair(const struct echo_link *link)
{
	pid_t there = stand_in(link->sides[ECHO_CLIENT]);

	if (there < 0)
		return there;
	int error = run("ip link add %s type veth peer name %s netns %d", interfaces[ECHO_SERVER],
			interfaces[ECHO_CLIENT], (int)there);
	kill(there, SIGKILL);
	waitpid(there, NULL, 0);
	return error;
}

static int set_up(int side)
{
	return run("ip addr add %s/24 dev %s && ip link set %s up", kernels[side], interfaces[side],
		   interfaces[side]);
}

static int open_veth(struct echo_link *link)
{
	for (int side = ECHO_CLIENT; side >= ECHO_SERVER; side--) {
		link->sides[side] = make_namespace();
		if (link->sides[side] < 0)
			return link->sides[side];
	}
	int error = make_pair(link);
	if (!error)
		error = set_up(ECHO_SERVER);
	if (!error)
		error = enter(link->sides[ECHO_CLIENT]);
	return error ? error : set_up(ECHO_CLIENT);
}

/* Both ends are in one namespace: a TAP interface is a program's, and the bridge the kernel's. */
static int open_tap(struct echo_link *link)
{
	link->sides[ECHO_SERVER] = make_namespace();
	if (link->sides[ECHO_SERVER] < 0)
		return link->sides[ECHO_SERVER];
	link->sides[ECHO_CLIENT] = current_namespace();
	int error = run("ip link add bench type bridge && ip link set bench up");
	for (int side = ECHO_SERVER; side <= ECHO_CLIENT && !error; side++)
		error = run("ip tuntap add %s mode tap && ip link set %s master bench up",
			    interfaces[side], interfaces[side]);
	return error;
}

static int open_directory(struct echo_link *link)
{
	*link = (struct echo_link){
		.home = -1, .sides = {-1, -1}, .directory = "/tmp/demi-bench-XXXXXX"};
	if (mkdtemp(link->directory)) {
		snprintf(link->socket, sizeof(link->socket), "%s/socket", link->directory);
		return 0;
	}
	int error = -errno;
	tool_complain("%s: %s", link->directory, strerror(-error));
	link->directory[0] = '\0';
	return error;
}

int echo_link_open(struct echo_link *link, const char *device)
{
	if (echo_dpdk_is(device))
		return open_directory(link);
	*link = (struct echo_link){.home = current_namespace(), .sides = {-1, -1}};
	if (link->home < 0)
		return link->home;
	link->tap = is_called(device, "tap");
	int error = link->tap ? open_tap(link) : open_veth(link);
	int back = enter(link->home);
	if (error == -EPERM)
		tool_complain("--device: %s: the link's network namespaces need root", device);
	else if (error || back)
		tool_complain("--device: %s: %s", device, strerror(-(error ? error : back)));
	if (error || back)
		echo_link_close(link);
	return error ? error : back;
}

void echo_link_close(struct echo_link *link)
{
	if (link->directory[0]) {
		unlink(link->socket);
		rmdir(link->directory);
		link->directory[0] = '\0';
	}
	for (int side = 0; side < 2; side++) {
		if (link->sides[side] >= 0)
			close(link->sides[side]);
		link->sides[side] = -1;
	}
	if (link->home >= 0)
		close(link->home);
	link->home = -1;
}

int echo_link_enter(const struct echo_link *link, enum echo_side side)
{
	if (link->directory[0]) {
		if (side == ECHO_SERVER) /* of the run before */
			unlink(link->socket);
		return 0;
	}
	return enter(link->sides[side]);
}

/* ---- what the ends are told ---- */

const char *echo_link_address(const struct echo_link *link, bool device)
{
	if (device)
		return ours[ECHO_SERVER];
	return link->tap || link->directory[0] ? "127.0.0.1" : kernels[ECHO_SERVER];
}

int echo_link_for_proxy(const struct echo_link *link)
{
	const char *interface = interfaces[ECHO_CLIENT];
	int error = enter(link->sides[ECHO_CLIENT]);

	/* What the kernel leaves to the device over a veth pair is not done before the program. */
	if (!error)
		error = run("ip addr add %s/24 dev %s && ethtool -K %s tx off >/dev/null",
			    ours[ECHO_CLIENT], interface, interface);
	int back = enter(link->home);
	return error ? error : back;
}

const char *echo_link_behind(bool device)
{
	return device ? ours[ECHO_CLIENT] : kernels[ECHO_CLIENT];
}

bool echo_link_packet(enum echo_side side, const char *device, char *out, size_t room)
{
	const char *keys = device + strcspn(device, ",");
	int length = snprintf(out, room,
			      "tap,addresses=%s/24%s,dpdk_device=net_af_packet0,iface=%s,"
			      "qdisc_bypass=1,framesz=8192,blocksz=65536",
			      ours[side], keys, interfaces[side]);

	return length >= 0 && (size_t)length < room;
}

bool echo_link_device(const struct echo_link *link, enum echo_side side, const char *device,
		      char *out, size_t room)
{
	if (link->directory[0]) {
		char address[32];
		snprintf(address, sizeof(address), "%s/24", ours[side]);
		return echo_dpdk_device(side, device, link->socket, address, out, room);
	}
	const char *keys = strchr(device, ',');
	int length = (int)(keys ? (size_t)(keys - device) : strlen(device));
	bool veth = is_called(device, "veth");

	/* The interface is ours alone: nothing needs to be beside the program. */
	length = snprintf(out, room, "%.*s,interface=%s,addresses=%s/24%s%s", veth ? 5 : length,
			  veth ? "afxdp" : device, interfaces[side], ours[side],
			  veth ? ",xdp_dispatcher=never" : "", keys ? keys : "");
	return length >= 0 && (size_t)length < room;
}
