/* SPDX-License-Identifier: MIT
 * tests/unit/xdp_helper_test.c - the privileged helper, without privilege: its judgement, and
 * connections whose other end is here and sends what it likes.  grant_open is a stand-in that
 * remembers what it was asked for; the real one is tested by net/xdp_helper_test.
 */
#include "support/test.h"

#include "helper/client.h"
#include "helper/kernel.h"
#include "helper/memory.h"
#include "netdev/afxdp/remote.h"
#include "support/child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/memfd.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY 65536

/* ---- the stand-in ---- */

struct fake {
	struct grant grant;
	uint32_t steered;
	uint16_t filtered; /* the last port, ... */
	uint32_t count;    /* ... and how many instructions its filter has */
};

static int fake_error; /* of the next grant */
static int fake_bind_error;
static int fake_steer_error;
static uint32_t fake_grants; /* that live */
static struct fake *fake_last;

static int fake_steer(struct grant *grant, const struct ip_address *address, bool wanted)
{
	(void)address;
	if (fake_steer_error)
		return fake_steer_error;
	((struct fake *)(void *)grant)->steered += wanted ? 1U : -1U;
	return 0;
}

static int fake_filter(struct grant *grant, uint16_t port, const struct sock_filter *program,
		       uint32_t count)
{
	assert_true(count == 0 || program[count - 1].code == (BPF_RET | BPF_K));
	((struct fake *)(void *)grant)->filtered = port;
	((struct fake *)(void *)grant)->count = count;
	return port == 9 ? -ENOSPC : 0;
}

static void fake_close(struct grant *grant)
{
	fake_grants--;
	free(grant);
}

static int fake_bind(struct grant *grant)
{
	assert_true(grant->fd >= 0);
	return fake_bind_error;
}

static const struct grant_ops fake_ops = {
	.bind = fake_bind, .steer = fake_steer, .filter = fake_filter, .close = fake_close};

int __wrap_grant_open(const struct log *log, const struct grant_request *request, void *memory,
		      struct grant **grant_out);

int __wrap_grant_open(const struct log *log, const struct grant_request *request, void *memory,
		      struct grant **grant_out)
{
	((char *)memory)[request->memory_bytes - 1] = 1; /* it is mapped, and to be written */
	log_write(log, LOG_LEVEL_INFO, "a line of the grant");
	if (fake_error)
		return fake_error;
	fake_last = calloc(1, sizeof(*fake_last));
	assert_non_null(fake_last);
	fake_last->grant = (struct grant){.ops = &fake_ops,
					  .fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
					  .queue = request->queue,
					  .native = true,
					  .segments = true};
	fake_grants++;
	*grant_out = &fake_last->grant;
	return 0;
}

int __wrap_grant_adopt(const struct log *log, const struct grant_request *request, int fd,
		       struct grant **grant_out);

int __wrap_grant_adopt(const struct log *log, const struct grant_request *request, int fd,
		       struct grant **grant_out)
{
	(void)log;
	(void)request;
	(void)fd;
	(void)grant_out;
	fail_msg("adopted, without an XDP socket");
	return -EINVAL;
}

/* ---- the machine's addresses: not those of the one that this runs on ---- */

int __wrap_getifaddrs(struct ifaddrs **all);
void __wrap_freeifaddrs(struct ifaddrs *all);

static bool mute; /* the kernel does not say */

int __wrap_getifaddrs(struct ifaddrs **all)
{
	static struct sockaddr_in v4 = {.sin_family = AF_INET};
	static struct sockaddr_in broadcast = {.sin_family = AF_INET};
	static struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	static struct sockaddr packet = {.sa_family = AF_PACKET};
	static struct ifaddrs list[4] = {
		{.ifa_next = &list[1]}, /* without an address, as a tunnel */
		{.ifa_next = &list[2], .ifa_addr = &packet},
		{.ifa_next = &list[3], .ifa_flags = IFF_BROADCAST},
		{.ifa_next = NULL},
	};

	list[2].ifa_addr = (struct sockaddr *)&v4;
	list[2].ifa_broadaddr = (struct sockaddr *)&broadcast;
	list[3].ifa_addr = (struct sockaddr *)&v6;
	assert_int_equal(inet_pton(AF_INET, "198.51.100.1", &v4.sin_addr), 1);
	assert_int_equal(inet_pton(AF_INET, "198.51.100.255", &broadcast.sin_addr), 1);
	assert_int_equal(inet_pton(AF_INET6, "2001:db8:9::1", &v6.sin6_addr), 1);
	*all = mute ? NULL : list;
	return mute ? -1 : 0;
}

void __wrap_freeifaddrs(struct ifaddrs *all)
{
	(void)all;
}

/* ---- a helper on a bench ---- */

static struct policy policy;
static struct admission admission = {.mode = 0666};
static struct server_options options = {
	.policy = &policy, .admission = &admission, .clients_max = 2};
static struct clients clients;
static struct client *places[8];

static int prepare(void **state)
{
	(void)state;
	memset(&policy, 0, sizeof(policy));
	assert_int_equal(policy_read_interfaces(&policy, "lo,eth9"), 0);
	policy.memory_max = MEMORY;
	options.clients_max = 2;
	options.take_groups = false;
	options.alone = false;
	clients = (struct clients){.options = &options, .room = 8, .all = places};
	fake_error = 0;
	fake_steer_error = 0;
	return 0;
}

static int cleanup(void **state)
{
	(void)state;
	while (clients.count > 0)
		client_free(places[--clients.count]);
	assert_int_equal(fake_grants, 0);
	return 0;
}

/* Another process's connection: its other end. */
static int arrive(pid_t pid)
{
	struct client *client = calloc(1, sizeof(*client));
	int ends[2];

	assert_non_null(client);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	client->fd = ends[0];
	client->budget = &clients.lines;
	client->admitted = true;
	client->peer = (struct peer){.pid = pid, .uid = 1000};
	places[clients.count++] = client;
	return ends[1];
}

static struct client *newest(void)
{
	return places[clients.count - 1];
}

static int memory_make(uint64_t bytes, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_return_code(fd, errno);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static struct remote_request request_open(void)
{
	struct remote_request request;

	memset(&request, 0, sizeof(request));
	request.version = REMOTE_VERSION;
	request.kind = REMOTE_OPEN;
	request.sequence = 7;
	(void)snprintf(request.grant.interface, sizeof(request.grant.interface), "lo");
	request.grant.memory_bytes = MEMORY;
	request.grant.ring = 64;
	request.grant.queues = 1;
	return request;
}

static void put(int end, const void *bytes, size_t length, const int *fds, size_t count)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control = {0};
	struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (count > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
	}
	assert_int_equal(sendmsg(end, &message, MSG_NOSIGNAL), length);
}

/* The lines of a reply, then its answer. */
struct reply {
	char lines[2048];
	struct remote_reply answer;
	int fd;
};

static struct reply take(int end)
{
	struct reply reply = {.fd = -1};

	for (int i = 0; i <= REMOTE_LINES_MAX; i++) {
		union {
			struct cmsghdr head;
			char room[CMSG_SPACE(sizeof(int))];
		} control;
		struct iovec part = {.iov_base = &reply.answer, .iov_len = sizeof(reply.answer)};
		struct msghdr message = {.msg_iov = &part,
					 .msg_iovlen = 1,
					 .msg_control = &control,
					 .msg_controllen = sizeof(control)};
		assert_int_equal(recvmsg(end, &message, MSG_DONTWAIT), sizeof(reply.answer));
		const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		if (head)
			memcpy(&reply.fd, CMSG_DATA(head), sizeof(int));
		assert_int_equal(reply.answer.version, REMOTE_VERSION);
		if (reply.answer.level == 0)
			return reply;
		size_t length = strlen(reply.lines);
		(void)snprintf(reply.lines + length, sizeof(reply.lines) - length, "%s\n",
			       reply.answer.text);
	}
	fail_msg("no answer: %s", reply.lines);
	return reply;
}

/* Sends, has the newest client served, and takes the reply. */
static struct reply ask(int end, const struct remote_request *request, int fd)
{
	put(end, request, sizeof(*request), &fd, fd >= 0);
	client_serve(newest(), &clients);
	return take(end);
}

static struct reply ask_to_open(int end, const struct remote_request *request)
{
	int memory = memory_make(request->grant.memory_bytes, F_SEAL_SHRINK);
	struct reply reply = ask(end, request, memory);

	close(memory);
	return reply;
}

static void assert_told(const struct reply *reply, int error, const char *words)
{
	assert_int_equal(reply->answer.error, error);
	if (!strstr(reply->lines, words))
		fail_msg("not told: %s; but: %s", words, reply->lines);
}

static void open_good(int end)
{
	struct remote_request request = request_open();
	struct reply reply = ask_to_open(end, &request);

	assert_told(&reply, 0, "a line of the grant");
	assert_true(reply.fd >= 0);
	close(reply.fd);
}

static struct reply steer(int end, const char *text, bool wanted)
{
	struct remote_request request;
	uint32_t v4;

	memset(&request, 0, sizeof(request));
	request.version = REMOTE_VERSION;
	request.kind = REMOTE_STEER;
	request.wanted = wanted;
	if (inet_pton(AF_INET, text, &v4) == 1)
		request.address = ip_from_v4(v4);
	else
		assert_int_equal(inet_pton(AF_INET6, text, request.address.bytes), 1);
	return ask(end, &request, -1);
}

static struct reply filter(int end, uint16_t port, uint16_t code, uint16_t count)
{
	struct remote_request request;

	memset(&request, 0, sizeof(request));
	request.version = REMOTE_VERSION;
	request.kind = REMOTE_FILTER;
	request.port = port;
	request.count = count;
	request.program[0] = (struct sock_filter){.code = code, .k = 1};
	return ask(end, &request, -1);
}

static int count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* ---- tests: opening ---- */

static void test_open(void **state)
{
	(void)state;
	int before = count_fds();
	int end = arrive(10);
	struct remote_request request = request_open();
	request.grant.queue = 3;
	struct reply reply = ask_to_open(end, &request);

	assert_told(&reply, 0, "a line of the grant");
	assert_int_equal(reply.answer.sequence, 7);
	assert_int_equal(reply.answer.queue, 3);
	assert_true(reply.answer.native);
	assert_true(reply.answer.segments);
	assert_false(reply.answer.zero_copy);
	int domain = 0;
	socklen_t length = sizeof(domain);
	assert_int_equal(getsockopt(reply.fd, SOL_SOCKET, SO_DOMAIN, &domain, &length), 0);
	assert_int_equal(domain, AF_INET);
	/* the helper keeps neither the socket nor the memory */
	assert_int_equal(fake_last->grant.fd, -1);
	assert_int_equal(count_fds(), before + 3);
	close(reply.fd);

	reply = ask_to_open(end, &request);
	assert_told(&reply, -EISCONN, "this connection has its socket");
	assert_int_equal(fake_grants, 1);

	close(end);
	client_serve(newest(), &clients);
	assert_true(newest()->broken);
	client_free(places[--clients.count]);
	assert_int_equal(fake_grants, 0);
	assert_int_equal(count_fds(), before);
}

static void test_open_refused(void **state)
{
	(void)state;

	static const struct {
		const char *words;
		int error;
		const char *interface;
		uint64_t memory;
		uint32_t queue;
		bool promiscuous;
		uint8_t mode;
		struct grant_ports ports;
	} cases[] = {
		{"interface eth1: not allowed", -EACCES, "eth1", 0, 0, false, 0, {0}},
		{"interface l: not allowed", -EACCES, "l", 0, 0, false, 0, {0}},
		{"out of range", -EINVAL, "", 0, 0, false, 0, {0}},
		{"out of range", -EINVAL, "a/b", 0, 0, false, 0, {0}},
		{"69632 bytes of memory: at most 65536", -EDQUOT, "lo", 69632, 0, false, 0, {0}},
		{"out of range", -EINVAL, "lo", 5000, 0, false, 0, {0}},
		{"queue 4: not allowed", -EACCES, "lo", 0, 4, false, 0, {0}},
		{"out of range", -EINVAL, "lo", 0, 100000, false, 0, {0}},
		{"promiscuous: not allowed", -EACCES, "lo", 0, 0, true, 0, {0}},
		{"out of range", -EINVAL, "lo", 0, 0, false, 9, {0}},
		{"ports tcp:22-22: not allowed",
		 -EACCES,
		 "lo",
		 0,
		 0,
		 false,
		 0,
		 {IPPROTO_TCP, 0, 22, 22}},
		{"ports tcp:80-90: not allowed",
		 -EACCES,
		 "lo",
		 0,
		 0,
		 false,
		 0,
		 {IPPROTO_TCP, 0, 80, 90}},
		{"out of range", -EINVAL, "lo", 0, 0, false, 0, {IPPROTO_TCP, 0, 80, 79}},
		{"out of range", -EINVAL, "lo", 0, 0, false, 0, {IPPROTO_ICMP, 0, 80, 80}},
	};

	int end = arrive(10);

	assert_int_equal(policy_read_queues(&policy, "0-3"), 0);
	assert_int_equal(policy_read_ports(&policy, "tcp:80-89,udp:90"), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct remote_request request = request_open();
		memset(request.grant.interface, 0, IFNAMSIZ);
		(void)snprintf(request.grant.interface, IFNAMSIZ, "%s", cases[i].interface);
		if (cases[i].memory)
			request.grant.memory_bytes = cases[i].memory;
		request.grant.queue = cases[i].queue;
		request.grant.promiscuous = cases[i].promiscuous;
		request.grant.mode = cases[i].mode;
		request.grant.num_ports = cases[i].ports.protocol != 0;
		request.grant.ports[0] = cases[i].ports;
		struct reply reply = ask_to_open(end, &request);
		assert_told(&reply, cases[i].error, cases[i].words);
		assert_int_equal(reply.fd, -1);
	}
	struct remote_request request = request_open();
	memset(request.grant.interface, 'x', IFNAMSIZ); /* not ended */
	struct reply reply = ask_to_open(end, &request);
	assert_told(&reply, -EINVAL, "out of range");
	/* and the connection is as good as before */
	open_good(end);
	close(end);
}

static void test_memory(void **state)
{
	(void)state;
	struct remote_request request = request_open();
	int end = arrive(10);
	int pipes[2];
	struct reply reply = ask(end, &request, -1);

	assert_told(&reply, -EBADF, "not a memfd");
	assert_int_equal(pipe(pipes), 0);
	reply = ask(end, &request, pipes[0]);
	assert_told(&reply, -EBADF, "not a memfd");
	close(pipes[0]);
	close(pipes[1]);
	FILE *file = tmpfile();
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), MEMORY), 0);
	reply = ask(end, &request, fileno(file));
	assert_int_not_equal(reply.answer.error, 0);
	(void)fclose(file);

	static const struct {
		uint64_t bytes;
		int seals;
		int error;
		const char *words;
	} cases[] = {
		{MEMORY, 0, -EPERM, "may shrink"},
		{MEMORY, F_SEAL_GROW, -EPERM, "may shrink"},
		{MEMORY / 2, F_SEAL_SHRINK, -EINVAL, "a memfd of 32768 bytes, not 65536"},
		{MEMORY * 2, F_SEAL_SHRINK, -EINVAL, "a memfd of 131072 bytes, not 65536"},
		{0, F_SEAL_SHRINK, -EINVAL, "a memfd of 0 bytes"},
		{MEMORY, F_SEAL_SHRINK | F_SEAL_WRITE, -EPERM, "mmap"},
		{MEMORY, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, -EPERM, "mmap"},
		{MEMORY, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, 0, ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int fd = memory_make(cases[i].bytes, cases[i].seals);
		reply = ask(end, &request, fd);
		assert_told(&reply, cases[i].error, cases[i].words);
		close(fd);
	}
	close(reply.fd);
	close(end);
}

/* Huge pages: there may be none to be had here, and then it is said. */
static void test_memory_huge(void **state)
{
	(void)state;
	struct remote_request request = request_open();
	int end = arrive(10);
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB);

	if (fd < 0)
		skip_because("a kernel with huge pages of 2 MiB");
	policy.memory_max = 4 << 20;
	request.grant.memory_bytes = 2 << 20;
	assert_int_equal(ftruncate(fd, 2 << 20), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	struct reply reply = ask(end, &request, fd);
	assert_told(&reply, reply.answer.error == 0 ? 0 : -ENOMEM,
		    reply.answer.error == 0 ? "a line of the grant" : "memory: mmap: ");
	if (reply.fd >= 0)
		close(reply.fd);
	/* a part of a huge page is refused before it is mapped */
	request.grant.memory_bytes = 1 << 20;
	close(end);
	end = arrive(11);
	reply = ask(end, &request, fd);
	assert_told(&reply, -EINVAL, "a memfd of 2097152 bytes, not 1048576");
	close(fd);
	close(end);
}

static void test_grant_fails(void **state)
{
	(void)state;
	int before = count_fds();
	int end = arrive(10);
	struct remote_request request = request_open();

	fake_error = -EBUSY;
	struct reply reply = ask_to_open(end, &request);
	assert_told(&reply, -EBUSY, "a line of the grant");
	assert_int_equal(reply.fd, -1);
	assert_int_equal(count_fds(), before + 2);
	reply = steer(end, "10.0.0.1", true);
	assert_told(&reply, -ENOTCONN, "no socket yet");
	fake_error = 0;
	fake_bind_error = -EBUSY;
	reply = ask_to_open(end, &request);
	assert_told(&reply, -EBUSY, "a line of the grant");
	assert_int_equal(reply.fd, -1);
	assert_int_equal(fake_grants, 0);
	assert_int_equal(count_fds(), before + 2);
	reply = steer(end, "10.0.0.1", true);
	assert_told(&reply, -ENOTCONN, "no socket yet");
	fake_bind_error = 0;
	open_good(end);
	close(end);
}

/* What is no XDP socket is not adopted. */
static void test_adopt_refused(void **state)
{
	(void)state;
	struct remote_request request = request_open();
	int end = arrive(10);

	request.kind = REMOTE_ADOPT;
	struct reply reply = ask_to_open(end, &request);
	assert_told(&reply, -EBADF, "not an XDP socket");
	reply = ask(end, &request, end);
	assert_told(&reply, -EBADF, "not an XDP socket");
	reply = ask(end, &request, -1);
	assert_told(&reply, -EBADF, "not an XDP socket");
	(void)snprintf(request.grant.interface, sizeof(request.grant.interface), "eth1");
	reply = ask(end, &request, end);
	assert_told(&reply, -EACCES, "interface eth1: not allowed");
	close(end);
}

static void test_clients_max(void **state)
{
	(void)state;
	int ends[3];

	for (int i = 0; i < 2; i++) {
		ends[i] = arrive(10 + i);
		open_good(ends[i]);
	}
	ends[2] = arrive(12);
	struct remote_request request = request_open();
	struct reply reply = ask_to_open(ends[2], &request);
	assert_told(&reply, -EUSERS, "2 sockets are given");
	for (int i = 0; i < 3; i++)
		close(ends[i]);
}

static void test_not_admitted(void **state)
{
	(void)state;
	int end = arrive(10);
	struct remote_request request = request_open();

	newest()->admitted = false;
	struct reply reply = ask_to_open(end, &request);
	assert_told(&reply, -EACCES, "this user may not connect");
	assert_true(newest()->broken);
	close(end);
}

/* ---- tests: steering ---- */

static void test_steer(void **state)
{
	(void)state;

	static const struct {
		const char *address;
		int error;
		const char *words;
	} cases[] = {
		{"192.0.2.1", 0, ""},
		{"192.0.2.1", 0, ""}, /* again */
		{"2001:db8::1", 0, ""},
		{"233.252.0.1", 0, ""},
		{"127.0.0.1", -EACCES, "the kernel's own"},
		{"127.1.2.3", -EACCES, "the kernel's own"},
		{"0.0.0.0", -EACCES, "the kernel's own"},
		{"::", -EACCES, "the kernel's own"},
		{"::1", -EACCES, "the kernel's own"},
		{"198.51.100.1", -EACCES, "the kernel's own"},
		{"198.51.100.2", 0, ""},
		{"2001:db8:9::1", -EACCES, "the kernel's own"},
		{"198.51.100.255", -EACCES, "a broadcast"},
		{"255.255.255.255", -EACCES, "a broadcast"},
		{"224.0.0.1", -EACCES, "a group that the kernel is in"},
	};

	int end = arrive(10);
	struct reply reply;

	open_good(end);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		reply = steer(end, cases[i].address, true);
		assert_told(&reply, cases[i].error, cases[i].words);
	}
	assert_int_equal(fake_last->steered, 4);
	assert_int_equal(newest()->num_addresses, 4);
	mute = true;
	reply = steer(end, "192.0.2.7", true);
	mute = false;
	assert_told(&reply, -EACCES, "the kernel does not say");
	options.take_groups = true;
	reply = steer(end, "224.0.0.1", true);
	assert_told(&reply, 0, "");
	reply = steer(end, "192.0.2.1", false);
	assert_told(&reply, 0, "");
	reply = steer(end, "192.0.2.9", false); /* never had */
	assert_told(&reply, 0, "");
	assert_int_equal(fake_last->steered, 4);
	fake_steer_error = -ENOSPC;
	reply = steer(end, "192.0.2.5", true);
	assert_told(&reply, -ENOSPC, "");
	assert_int_equal(newest()->num_addresses, 4);
	close(end);
}

static void test_steer_prefixes(void **state)
{
	(void)state;
	int end = arrive(10);
	struct reply reply;

	assert_int_equal(policy_read_addresses(&policy, "192.0.2.0/25,192.0.2.200,2001:db8::/32"),
			 0);
	open_good(end);

	static const struct {
		const char *address;
		int error;
	} cases[] = {
		{"192.0.2.127", 0},       {"192.0.2.128", -EACCES}, {"192.0.2.200", 0},
		{"192.0.2.201", -EACCES}, {"2001:db8:1::1", 0},     {"2001:db9::1", -EACCES},
		{"::192.0.2.1", -EACCES}, /* not the mapped form */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		reply = steer(end, cases[i].address, true);
		assert_told(&reply, cases[i].error,
			    cases[i].error ? "not allowed (--addresses)" : "");
	}
	close(end);
}

static void test_steer_many(void **state)
{
	(void)state;
	int end = arrive(10);
	char text[32];
	struct reply reply;

	open_good(end);
	for (int i = 0; i < REMOTE_ADDRESSES_MAX; i++) {
		(void)snprintf(text, sizeof(text), "192.0.2.%d", i);
		reply = steer(end, text, true);
		assert_told(&reply, 0, "");
	}
	reply = steer(end, "203.0.113.1", true);
	assert_told(&reply, -ENOSPC, "more than 64");
	reply = steer(end, "192.0.2.7", false);
	assert_told(&reply, 0, "");
	reply = steer(end, "203.0.113.1", true);
	assert_told(&reply, 0, "");
	close(end);
}

/* What a process has, no other gets, but its own further instances do. */
static void test_steer_shared(void **state)
{
	(void)state;
	int first = arrive(10);
	open_good(first);
	struct reply reply = steer(first, "192.0.2.1", true);
	assert_told(&reply, 0, "");
	int second = arrive(11);
	open_good(second);
	reply = steer(second, "192.0.2.1", true);
	assert_told(&reply, -EADDRINUSE, "process 10 of user 1000 has it");
	reply = steer(second, "192.0.2.1", false);
	assert_told(&reply, 0, "");
	assert_int_equal(fake_last->steered, 0);
	newest()->peer.pid = 10;
	reply = steer(second, "192.0.2.1", true);
	assert_told(&reply, 0, "");
	close(first);
	close(second);
}

static void test_ports_shared(void **state)
{
	(void)state;
	struct remote_request request = request_open();
	int first = arrive(10);

	assert_int_equal(policy_read_ports(&policy, "tcp:80-89,udp:80-89"), 0);
	request.grant.num_ports = 1;
	request.grant.ports[0] = (struct grant_ports){IPPROTO_TCP, 0, 80, 83};
	struct reply reply = ask_to_open(first, &request);
	assert_told(&reply, 0, "");
	close(reply.fd);
	/* the kernel's address is shared */
	reply = steer(first, "198.51.100.1", true);
	assert_told(&reply, 0, "");
	assert_int_equal(fake_last->steered, 1);
	reply = steer(first, "224.0.0.1", true);
	assert_told(&reply, -EACCES, "a group that the kernel is in");

	int second = arrive(11);
	request.grant.ports[0] = (struct grant_ports){IPPROTO_TCP, 0, 83, 89};
	reply = ask_to_open(second, &request);
	assert_told(&reply, -EADDRINUSE, "a port that process 10 of user 1000 has");
	request.grant.ports[0].protocol = IPPROTO_UDP;
	reply = ask_to_open(second, &request);
	assert_told(&reply, 0, "");
	close(reply.fd);
	reply = steer(second, "198.51.100.1", true);
	assert_told(&reply, 0, "");
	/* none has it as a whole beside them */
	reply = steer(second, "203.0.113.1", true);
	assert_told(&reply, 0, "");
	int third = arrive(12);
	options.clients_max = 3;
	open_good(third);
	reply = steer(third, "203.0.113.1", true);
	assert_told(&reply, -EADDRINUSE, "process 11 of user 1000 has it");
	close(first);
	close(second);
	close(third);
}

/* ---- tests: garbage ---- */

static void refuse_bytes(const void *bytes, size_t length, const int *fds, size_t count)
{
	int before = count_fds();
	int end = arrive(10);

	put(end, bytes, length, fds, count);
	client_serve(newest(), &clients);
	struct reply reply = take(end);
	assert_told(&reply, -EPROTO, "not a request of this version");
	assert_true(newest()->broken);
	client_free(places[--clients.count]);
	close(end);
	assert_int_equal(count_fds(), before);
	assert_int_equal(fake_grants, 0);
}

static void test_garbage(void **state)
{
	(void)state;
	struct remote_request good = request_open();
	struct remote_request request;
	uint8_t bytes[2 * sizeof(request)];
	int memory = memory_make(MEMORY, F_SEAL_SHRINK);
	const int fds[4] = {memory, memory, memory, memory};

	memset(bytes, 0xff, sizeof(bytes));
	refuse_bytes(bytes, 1, NULL, 0);
	refuse_bytes(bytes, sizeof(request), NULL, 0);
	refuse_bytes(bytes, sizeof(bytes), fds, 1);
	refuse_bytes(&good, sizeof(good) - 1, fds, 1);
	refuse_bytes(&good, sizeof(good), fds, 2);
	refuse_bytes(&good, sizeof(good), fds, 4);
	request = good;
	request.version++;
	refuse_bytes(&request, sizeof(request), fds, 1);
	request = good;
	request.kind = 0;
	refuse_bytes(&request, sizeof(request), fds, 1);
	request = good;
	request.wanted = 2;
	refuse_bytes(&request, sizeof(request), fds, 1);
	request = good;
	memset(&request.grant.alone, 2, 1);
	refuse_bytes(&request, sizeof(request), fds, 1);
	request = good;
	memset(&request.grant.promiscuous, 0xff, 1);
	refuse_bytes(&request, sizeof(request), fds, 1);
	request = good;
	request.grant.num_ports = GRANT_PORTS_MAX + 1;
	refuse_bytes(&request, sizeof(request), fds, 1);
	request = good;
	request.count = CBPF_MAX + 1;
	refuse_bytes(&request, sizeof(request), fds, 1);
	request = good;
	request.kind = REMOTE_FILTER + 1;
	refuse_bytes(&request, sizeof(request), fds, 1);
	close(memory);
}

/* Who asks and does not read is let go, in bounded memory. */
static void test_deaf(void **state)
{
	(void)state;
	struct remote_request request = request_open();
	int end = arrive(10);

	request.kind = REMOTE_STEER;
	for (int i = 0; i < 10000 && !newest()->broken; i++) {
		put(end, &request, sizeof(request), NULL, 0);
		client_serve(newest(), &clients);
	}
	assert_true(newest()->broken);
	close(end);
}

/* ---- tests: filters ---- */

static void test_filter(void **state)
{
	(void)state;
	int end = arrive(10);
	struct reply reply = filter(end, 53, BPF_RET | BPF_K, 1);

	assert_told(&reply, -ENOTCONN, "this connection has no socket yet");
	open_good(end);
	reply = filter(end, 53, BPF_RET | BPF_K, 1);
	assert_told(&reply, 0, "");
	assert_int_equal(fake_last->filtered, 53);
	assert_int_equal(fake_last->count, 1);
	reply = filter(end, 54, BPF_RET | BPF_A, 1);
	assert_told(&reply, -EINVAL, "port 54: its filter is no program");
	reply = filter(end, 54, BPF_JMP | BPF_JA, 1);
	assert_told(&reply, -EINVAL, "port 54: its filter is no program");
	assert_int_equal(fake_last->filtered, 53);
	reply = filter(end, 9, BPF_RET | BPF_K, 1);
	assert_told(&reply, -ENOSPC, "");
	reply = filter(end, 53, 0, 0);
	assert_told(&reply, 0, "");
	assert_int_equal(fake_last->count, 0);
	close(end);
	client_serve(newest(), &clients);
	client_free(places[--clients.count]);
}

/* ---- tests: options ---- */

static void test_read(void **state)
{
	(void)state;

	static const struct {
		int (*read)(struct policy *, const char *);
		const char *text;
		bool good;
	} cases[] = {
		{policy_read_interfaces, "eth0", true},
		{policy_read_interfaces, "eth0,eth1", true},
		{policy_read_interfaces, "", true},
		{policy_read_interfaces, ",", false},
		{policy_read_interfaces, "eth0,,eth1", false},
		{policy_read_interfaces, "0123456789abcde", true},
		{policy_read_interfaces, "0123456789abcdef", false},
		{policy_read_interfaces, "a/b", false},
		{policy_read_addresses, "10.0.0.1", true},
		{policy_read_addresses, "10.0.0.0/8,fd00::/8,::/0,0.0.0.0/0", true},
		{policy_read_addresses, "10.0.0.0/33", false},
		{policy_read_addresses, "10.0.0.0/", false},
		{policy_read_addresses, "10.0.0.0/-1", false},
		{policy_read_addresses, "fd00::/129", false},
		{policy_read_addresses, "fd00::/128", true},
		{policy_read_addresses, "host", false},
		{policy_read_addresses, "10.0.0.0/8x", false},
		{policy_read_ports, "tcp:80", true},
		{policy_read_ports, "tcp:1-65535,udp:53", true},
		{policy_read_ports, "tcp:0", false},
		{policy_read_ports, "tcp:65536", false},
		{policy_read_ports, "tcp:90-80", false},
		{policy_read_ports, "tcp:80-", false},
		{policy_read_ports, "80", false},
		{policy_read_ports, "icmp:1", false},
		{policy_read_queues, "0-255", true},
		{policy_read_queues, "0,3,7-9", true},
		{policy_read_queues, "256", false},
		{policy_read_queues, "3-1", false},
		{policy_read_queues, "x", false},
		{policy_read_queues, "18446744073709551617", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct policy read = {0};
		if (cases[i].read(&read, cases[i].text) != (cases[i].good ? 0 : -1))
			fail_msg("%s: %s", cases[i].text, cases[i].good ? "refused" : "taken");
	}
	char many[1000] = "1";
	struct policy read = {0};
	for (int i = 1; i < POLICY_RANGES_MAX; i++)
		(void)snprintf(many + strlen(many), 3, ",1");
	assert_int_equal(policy_read_queues(&read, many), 0);
	assert_int_equal(read.num_queues, POLICY_RANGES_MAX);
	(void)snprintf(many + strlen(many), 3, ",1");
	read = (struct policy){0};
	assert_int_equal(policy_read_queues(&read, many), -1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_open, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_open_refused, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_memory, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_memory_huge, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_grant_fails, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_adopt_refused, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_clients_max, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_not_admitted, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_steer, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_steer_prefixes, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_steer_many, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_steer_shared, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_ports_shared, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_garbage, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_deaf, prepare, cleanup),
		cmocka_unit_test_setup_teardown(test_filter, prepare, cleanup),
		cmocka_unit_test(test_read),
	};

	return test_run("xdp_helper", tests);
}
