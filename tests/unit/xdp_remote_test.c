/* SPDX-License-Identifier: MIT
 * tests/unit/xdp_remote_test.c - netdev/afxdp/remote.c against a helper that answers nonsense: it
 * is refused with words, and no descriptor that came with it stays open.
 */
#include "support/test.h"

#include "netdev/afxdp/pass.h"
#include "netdev/afxdp/remote.h"

#include "base/bits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 10000

static char directory[] = "/tmp/xdp_remote_testXXXXXX";
static char path[108];
static char said[4096];

static void note(void *arg, int level, const char *message)
{
	size_t length = strlen(said);

	(void)arg;
	(void)level;
	(void)snprintf(said + length, sizeof(said) - length, "%s\n", message);
}

static uint32_t open_descriptors(void)
{
	DIR *all = opendir("/proc/self/fd");
	uint32_t count = 0;

	assert_non_null(all);
	while (readdir(all))
		count++;
	closedir(all);
	return count;
}

/* What a helper answers to an opening. */
struct nonsense {
	const char *words; /* of the log */
	uint32_t bytes;    /* of a reply; 0: it goes away */
	uint32_t queue;
	int32_t error;
	bool with_fd;
	int err;
};

static const struct nonsense cases[] = {
	{"its queue", sizeof(struct remote_reply), 9, 0, true, -EPROTO},
	{"its queue", sizeof(struct remote_reply), 0, 0, false, -EPROTO},
	{"no XDP socket", sizeof(struct remote_reply), 3, 0, true, -EPROTO},
	{"no XDP socket", sizeof(struct remote_reply), 3, 0, false, -EPROTO},
	{"", sizeof(struct remote_reply), 3, -EACCES, true, -EACCES},
	{"", sizeof(struct remote_reply), 3, 5, true, -EPROTO},
	{"no answer", 10, 3, 0, true, -EPROTO},
	{"it went away", 0, 0, 0, false, -ECONNRESET},
};

/* One connection, one answer. */
static void serve(int listener, const struct nonsense *one)
{
	struct pollfd ready = {.fd = listener, .events = POLLIN};
	struct remote_reply reply = {.version = REMOTE_VERSION};
	struct remote_request request;
	bool truncated;
	int fd;

	if (poll(&ready, 1, WAIT_MS) != 1)
		return;
	ready.fd = accept(listener, NULL, NULL);
	if (poll(&ready, 1, WAIT_MS) != 1 ||
	    pass_receive(ready.fd, &request, sizeof(request), &fd, &truncated) != sizeof(request))
		return;
	reply.sequence = request.sequence;
	reply.queue = one->queue;
	reply.error = one->error;
	if (one->bytes > 0)
		(void)pass_send(ready.fd, &reply, one->bytes, one->with_fd ? listener : -1);
}

static int open_listener(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_return_code(fd, errno);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	(void)unlink(path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void test_nonsense(void **state)
{
	const struct grant_request request = {.interface = "v0", .queue = 3, .queues = 1};
	const struct log log = {.fn = note};
	int memory = memfd_create("xdp_remote_test", MFD_CLOEXEC);

	(void)state;
	assert_return_code(memory, errno);
	for (uint32_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct grant *grant;
		int listener = open_listener();
		pid_t child = fork();
		assert_return_code(child, errno);
		if (child == 0) {
			serve(listener, &cases[i]);
			_exit(0);
		}
		uint32_t before = open_descriptors();
		said[0] = '\0';
		assert_int_equal(remote_open(&log, &request, path, memory, &grant), cases[i].err);
		if (!strstr(said, cases[i].words))
			fail_msg("case %u: not told: %s; but: %s", i, cases[i].words, said);
		assert_int_equal(open_descriptors(), before);
		assert_int_equal(waitpid(child, NULL, 0), child);
		close(listener);
	}
	close(memory);
}

static void test_nobody(void **state)
{
	const struct grant_request request = {.interface = "v0", .queues = 1};
	const struct log log = {.fn = note};
	struct grant *grant;

	(void)state;
	(void)unlink(path);
	uint32_t before = open_descriptors();
	said[0] = '\0';
	assert_int_equal(remote_open(&log, &request, path, 0, &grant), -ENOENT);
	assert_non_null(strstr(said, "start `demi xdp-helper`"));
	assert_int_equal(open_descriptors(), before);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_nobody),
	};

	if (!mkdtemp(directory))
		return 1;
	(void)snprintf(path, sizeof(path), "%s/socket", directory);
	int status = test_run("xdp_remote", tests);
	(void)unlink(path);
	(void)rmdir(directory);
	return status;
}
