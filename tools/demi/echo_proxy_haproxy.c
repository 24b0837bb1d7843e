/* SPDX-License-Identifier: MIT
 * tools/demi/echo_proxy_haproxy.c - haproxy in TCP mode, one thread: the reference proxy.
 *
 * It inherits the socket that listens, and reads its configuration from a file without a name, so
 * nothing of it is left however it ends.
 */
#include "echo_proxy.h"
#include "echo_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *find_program(void)
{
	static const char *const paths[] = {"/usr/sbin/haproxy", "/usr/local/sbin/haproxy"};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	}
	return NULL;
}

/* A file to be inherited. Its descriptor or -errno. */
static int write_configuration(const struct echo_end *end, int listener)
{
	char target[INET_ADDRSTRLEN] = "";
	int fd = memfd_create("haproxy.cfg", 0);

	if (fd < 0)
		return -errno;
	inet_ntop(AF_INET, &end->target.in.sin_addr, target, sizeof(target));
	int written = dprintf(fd,
			      "global\n\tnbthread 1\n\tmaxconn 4096\n"
			      "defaults\n\tmode tcp\n\toption splice-auto\n\ttimeout connect 5s\n"
			      "\ttimeout client 300s\n\ttimeout server 300s\n"
			      "listen bench\n\tbind fd@%d\n\tserver one %s:%u\n",
			      listener, target, ntohs(end->target.in.sin_port));
	if (written > 0)
		return fd;
	close(fd);
	return -EIO;
}

/* What is listened on must survive exec. */
static int inheritable(int fd)
{
	int copy = dup(fd);
	int error = -errno;

	close(fd);
	return copy < 0 ? error : copy;
}

int echo_proxy_haproxy(struct echo_end *end)
{
	const char *program = find_program();
	char path[32];

	if (!program)
		return echo_fail(end, -ENOTSUP, "not installed -> apt-get install haproxy");
	int listener = echo_socket_serve(end, SOCK_NONBLOCK);
	if (listener < 0)
		return listener;
	listener = inheritable(listener);
	int file = listener < 0 ? listener : write_configuration(end, listener);
	if (file < 0)
		return echo_fail(end, file, "its configuration: %s", strerror(-file));
	(void)snprintf(path, sizeof(path), "/dev/fd/%d", file);
	echo_proxy_ready(end, echo_socket_port(listener));
	execl(program, "haproxy", "-db", "-f", path, (char *)NULL);
	return echo_fail(end, -errno, "%s: %s", program, strerror(errno));
}
