/* tests/support/netns.c: see netns.h. */
#include "support/netns.h"

#include "support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return; /* a kernel without IPv6 */
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

bool netns_enter(void)
{
	if (unshare(CLONE_NEWNET)) {
		assert_int_equal(errno, EPERM);
		return false;
	}
	netns_run("ip link set lo up");
	write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	return true;
}

static bool run(const char *command)
{
	int status = system(command); // NOLINT(cert-env33-c): the commands are the test's own

	return status == 0;
}

void netns_run(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (!run(command))
		fail_msg("failed: %s", command);
}

bool netns_try(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	return run(command);
}

void netns_veth(const char *a, const char *b)
{
	(void)netns_try("ip link del %s 2>/dev/null", a); /* of a test that failed */
	netns_run("ip link add %s type veth peer name %s", a, b);
	netns_run("ip link set %s up && ip link set %s up", a, b);
}
