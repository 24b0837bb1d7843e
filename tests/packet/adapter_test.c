/* SPDX-License-Identifier: MIT
 * tests/packet/adapter_test.c - packetdrill-adapter.so as packetdrill loads it: its members by what
 * they do, the flags, calls that block, threads that are cancelled.
 */
#include "support/test.h"

#include "packet/frame.h"
#include "packet/packetdrill.h"
#include "packet/run.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define REMOTE_PORT 40000
#define LOCAL_PORT  8080
#define ISS         1000 /* the remote end's */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DLOPEN_FLAGS (RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) /* the sanitizers refuse DEEPBIND */
#else
#define LOCKS_MEMORY
#define DLOPEN_FLAGS (RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE | RTLD_DEEPBIND)
#endif

#define CALL(member, ...) ifc.member(ifc.userdata, __VA_ARGS__)

static struct packetdrill_interface ifc;
static packetdrill_interface_init_t init;

/* ---- the other end ---- */

static struct frame_spec spec;

static void inject(uint8_t flags, uint32_t seq, uint32_t ack, const char *options,
		   uint32_t option_bytes, uint32_t payload)
{
	uint8_t packet[2048];
	uint8_t *at = spec.bytes;

	spec.from = ip_from_v4(htonl(0xc0000201));
	spec.to = ip_from_v4(htonl(0xc0a80001));
	spec.ttl = 64;
	spec.protocol = 6;
	spec.length = 20 + option_bytes + payload;
	memset(at, 0, spec.length);
	put16(at, REMOTE_PORT);
	put16(at + 2, LOCAL_PORT);
	put32(at + 4, seq);
	put32(at + 8, ack);
	at[12] = (uint8_t)((20 + option_bytes) / 4 << 4);
	at[13] = flags;
	put16(at + 14, 65535);
	memcpy(at + 20, options, option_bytes);
	for (uint32_t i = 0; i < payload; i++)
		at[20 + option_bytes + i] = frame_pattern(i);
	assert_int_equal(CALL(netdev_send, packet, frame_build(&spec, packet)), 0);
}

/* The next packet, which must come.  Freed by the caller. */
static struct live_packet *next(long long *at_us)
{
	uint8_t bytes[2048];
	size_t length = sizeof(bytes);

	assert_int_equal(CALL(netdev_receive, bytes, &length, at_us), 0);
	assert_int_not_equal(length, 0);
	struct live_packet *live = live_parse(bytes, (uint32_t)length);
	assert_non_null(live);
	assert_null(live->wrong);
	assert_int_equal(live->kind, PACKET_TCP);
	return live;
}

static long long now_us(void)
{
	struct timeval tv;

	assert_int_equal(CALL(gettimeofday, &tv, NULL), 0);
	return tv.tv_sec * 1000000LL + tv.tv_usec;
}

/* ---- life ---- */

static void load(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);

	assert_true(n > 0);
	path[n] = '\0';
	snprintf(strrchr(path, '/'), 64, "/packetdrill-adapter.so");
	void *object = dlopen(path, DLOPEN_FLAGS);
	if (!object)
		fail_msg("%s", dlerror());
	void *symbol = dlsym(object, "packetdrill_interface_init");
	assert_non_null(symbol);
	memcpy(&init, &symbol, sizeof(init));
	assert_null(dlsym(object, "demi_init")); /* nothing else is to be seen */
}

static int set_up(void **state)
{
	(void)state;
#ifdef LOCKS_MEMORY /* as packetdrill does; where it may not, it is done without */
	(void)mlockall(MCL_CURRENT | MCL_FUTURE);
#endif
	if (!init)
		load();
	init("linux", &ifc);
	assert_non_null(ifc.userdata);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ifc.free(ifc.userdata);
	(void)munlockall();
	return 0;
}

static int listener(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(LOCAL_PORT)};
	int on = 1;
	int fd = CALL(socket, AF_INET, SOCK_STREAM, IPPROTO_TCP);

	assert_true(fd >= 0);
	assert_int_equal(CALL(setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(CALL(bind, fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(CALL(listen, fd, 1), 0);
	return fd;
}

/* The remote end connects; returns our initial sequence number. */
static uint32_t shake_hands(void)
{
	long long at_us;

	inject(LIVE_SYN, ISS, 0, "\2\4\3\350\4\2\1\1\1\3\3\7", 12,
	       0); /* mss 1000,sackOK,..wscale 7 */
	struct live_packet *live = next(&at_us);
	uint32_t iss = live->seq;
	assert_int_equal(live->flags, LIVE_SYN | LIVE_ACK);
	assert_int_equal(live->ack, ISS + 1);
	/* mss 1460,nop,nop,sackOK,nop,wscale 8: Linux's layout */
	assert_int_equal(live->options_bytes, 12);
	assert_memory_equal(live->options, "\2\4\5\264\1\1\4\2\1\3\3\10", 12);
	free(live);
	inject(LIVE_ACK, ISS + 1, iss + 1, "", 0, 0);
	return iss;
}

/* ---- tests ---- */

/* The members one after the other, on one connection. */
static void test_members(void **state)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);
	struct tcp_info info[2];
	uint8_t bytes[1000] = {0};
	long long at_us;
	int value = 0;

	(void)state;
	int fd = listener();
	uint32_t iss = shake_hands();
	int conn = CALL(accept, fd, (struct sockaddr *)&peer, &length);
	assert_true(conn >= 0 && conn != fd);
	assert_int_equal(((struct sockaddr_in *)&peer)->sin_port, htons(REMOTE_PORT));
	assert_true(fcntl(conn, F_GETFD) >= 0); /* the kernel's own descriptor */
	assert_int_equal(CALL(fcntl, conn, F_SETFL, O_RDWR | O_NONBLOCK), 0);
	assert_int_equal(CALL(fcntl, conn, F_GETFL), O_RDWR | O_NONBLOCK);
	assert_int_equal(CALL(read, conn, bytes, sizeof(bytes)), -1);
	assert_int_equal(errno, EAGAIN);

	long long before = now_us();
	inject(LIVE_ACK | LIVE_PSH, ISS + 1, iss + 1, "", 0, 300);
	struct live_packet *live = next(&at_us); /* not of full size: a delayed ACK */
	assert_int_equal(live->ack, ISS + 301);
	assert_in_range(at_us, before + 39000, before + 41000);
	free(live);
	assert_int_equal(CALL(ioctl, conn, FIONREAD, &value), 0);
	assert_int_equal(value, 300);
	struct iovec iov[2] = {{bytes, 60}, {bytes + 60, 40}};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
	assert_int_equal(CALL(recv, conn, bytes, 10, MSG_PEEK), 10);
	assert_int_equal(CALL(recvfrom, conn, bytes, 50, 0, NULL, NULL), 50);
	assert_int_equal(CALL(readv, conn, iov, 2), 100);
	assert_int_equal(bytes[0], frame_pattern(50));
	assert_int_equal(CALL(recvmsg, conn, &message, 0), 100);
	assert_int_equal(CALL(read, conn, bytes, sizeof(bytes)), 50);
	assert_int_equal(bytes[49], frame_pattern(299));

	assert_int_equal(CALL(write, conn, bytes, 10), 10);
	live = next(&at_us);
	assert_int_equal(live->payload_bytes, 10);
	assert_int_equal(live->flags, LIVE_ACK | LIVE_PSH);
	free(live);
	/* Nagle: the profile of Linux has it on; what follows waits. */
	assert_int_equal(CALL(writev, conn, iov, 2), 100);
	assert_int_equal(CALL(send, conn, bytes, 10, 0), 10);
	assert_int_equal(CALL(sendto, conn, bytes, 10, 0, NULL, 0), 10);
	assert_int_equal(CALL(sendmsg, conn, &message, 0), 100);
	inject(LIVE_ACK, ISS + 301, iss + 11, "", 0, 0);
	live = next(&at_us);
	assert_int_equal(live->payload_bytes, 220);
	free(live);

	length = sizeof(info);
	assert_int_equal(CALL(getsockopt, conn, IPPROTO_TCP, TCP_INFO, info, &length), 0);
	assert_int_equal(length, sizeof(info)); /* all that was asked for */
	assert_int_equal(info[0].tcpi_snd_cwnd, 10);
	length = sizeof(info); /* what packetdrill asks for with it has to be there */
	assert_int_equal(CALL(getsockopt, conn, IPPROTO_TCP, TCP_CC_INFO, info, &length), 0);
	length = sizeof(info);
	assert_int_equal(CALL(getsockopt, conn, SOL_SOCKET, SO_MEMINFO, info, &length), 0);
	assert_true(length >= 9 * sizeof(uint32_t));
	assert_int_equal(CALL(shutdown, conn, SHUT_WR), 0);
	live = next(&at_us);
	assert_int_equal(live->flags, LIVE_ACK | LIVE_FIN);
	free(live);
	assert_int_equal(CALL(close, conn), 0);
	assert_int_equal(fcntl(conn, F_GETFD), -1);
	assert_int_equal(CALL(close, conn), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(close(fd), 0); /* behind the adapter's back, as packetdrill does */
	int again = CALL(socket, AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(again, fd < conn ? fd : conn);
}

static void test_poll(void **state)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	long long at_us;
	uint8_t bytes[100];
	int fds[2];

	(void)state;
	int fd = listener();
	uint32_t iss = shake_hands();
	int conn = CALL(accept, fd, NULL, NULL);
	struct pollfd polled[2] = {{.fd = conn, .events = POLLIN | POLLOUT}, {.fd = 999}};
	assert_int_equal(CALL(poll, polled, 2, 0), 2);
	assert_int_equal(polled[0].revents, POLLOUT);
	assert_int_equal(polled[0].fd, conn);
	assert_int_equal(polled[1].revents, POLLNVAL);
	int epfd = CALL(epoll_create, 1);
	event.data.u64 = 4711;
	assert_int_equal(CALL(epoll_ctl, epfd, EPOLL_CTL_ADD, conn, &event), 0);
	assert_int_equal(CALL(epoll_wait, epfd, &event, 1, 0), 0);
	inject(LIVE_ACK | LIVE_PSH, ISS + 1, iss + 1, "", 0, 100);
	free(next(&at_us));
	assert_int_equal(CALL(epoll_wait, epfd, &event, 1, 0), 1);
	assert_int_equal(event.data.u64, 4711);
	assert_int_equal(CALL(epoll_wait, epfd, &event, 1, 0), 0);
	assert_int_equal(CALL(epoll_create, 0), -1);
	assert_int_equal(errno, EINVAL);

	assert_int_equal(CALL(pipe, fds), 0);
	assert_int_equal(CALL(splice, conn, NULL, fds[1], NULL, 60, 0), 60);
	assert_int_equal(CALL(splice, conn, NULL, fds[1], NULL, 60, 0), 40);
	assert_int_equal(CALL(splice, conn, NULL, fds[1], NULL, 60, 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(CALL(splice, fds[0], NULL, conn, NULL, 70, 0), 70);
	assert_int_equal(read(fds[0], bytes, sizeof(bytes)), 30);
	assert_int_equal(bytes[0], frame_pattern(70));
	struct live_packet *live = next(&at_us);
	assert_int_equal(live->payload_bytes, 70);
	free(live);
	close(fds[0]);
	close(fds[1]);
}

/* The clock moves by being read, by usleep, and while nothing is to be received; timers fire in
 * their order, and a packet has the time at which it left. */
static void test_time(void **state)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(0xc0000201)};
	uint8_t bytes[2048];
	size_t length = sizeof(bytes);
	long long at_us;

	(void)state;
	long long start = now_us();
	assert_int_equal(now_us(), start + 1);
	int fd = CALL(socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(CALL(connect, fd, (struct sockaddr *)&a, sizeof(a)), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(CALL(usleep, 1500000), 0);
	assert_int_equal(now_us(), start + 1500002);
	free(next(&at_us)); /* the SYN */
	assert_int_equal(at_us, start + 1);
	free(next(&at_us)); /* again after a second */
	assert_in_range(at_us, start + 1000000, start + 1002000);
	free(next(&at_us)); /* and after two more, for which time passes */
	assert_in_range(at_us, start + 3000000, start + 3004000);
	assert_in_range(now_us(), at_us, at_us + 10);
	assert_int_equal(CALL(close, fd), 0);
	long long before = now_us();
	assert_int_equal(CALL(netdev_receive, bytes, &length, &at_us), 0);
	assert_int_equal(length, 0);
	assert_in_range(now_us() - before, 130000000, 130000010);
}

struct blocked {
	pthread_t thread;
	int fd;
	int result;
	int error;
	long long ended_us;
	pid_t tid;
};

static void *accept_one(void *arg)
{
	struct blocked *b = arg;

	__atomic_store_n(&b->tid, gettid(), __ATOMIC_RELEASE);
	b->result = CALL(accept, b->fd, NULL, NULL);
	b->error = errno;
	b->ended_us = now_us();
	return NULL;
}

static void start(struct blocked *b)
{
	assert_int_equal(pthread_create(&b->thread, NULL, accept_one, b), 0);
	while (!__atomic_load_n(&b->tid, __ATOMIC_ACQUIRE) || !caller_sleeps(b->tid))
		(void)sched_yield();
}

/* A call blocks on a second thread while the first goes on; its thread is told the time at which it
 * ended, though the first has come further. */
static void test_blocking(void **state)
{
	struct blocked b = {.fd = listener()};

	(void)state;
	start(&b);
	assert_int_equal(CALL(usleep, 200000), 0);
	(void)shake_hands();
	long long then = now_us();
	assert_int_equal(CALL(usleep, 700000), 0);
	assert_int_equal(pthread_join(b.thread, NULL), 0);
	assert_true(b.result >= 0);
	assert_in_range(b.ended_us, then - 10, then);
}

/* Time passes for a call of the first thread that blocks, for nobody else moves it. */
static void test_blocking_alone(void **state)
{
	struct timeval limit = {.tv_sec = 5};
	uint8_t byte;

	(void)state;
	int fd = listener();
	(void)shake_hands();
	int conn = CALL(accept, fd, NULL, NULL);
	assert_int_equal(CALL(setsockopt, conn, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	long long before = now_us();
	assert_int_equal(CALL(read, conn, &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_in_range(now_us() - before, 5000000, 5000010);
	/* One that would block for ever ends all the same. */
	assert_int_equal(CALL(accept, fd, NULL, NULL), -1);
	assert_int_equal(errno, EBADF);
}

/* packetdrill cancels the thread of a call that still blocks, then frees; or frees at once. */
static void test_cancelled(void **state)
{
	struct blocked b = {.fd = listener()};

	(void)state;
	start(&b);
	(void)now_us();
	assert_int_equal(pthread_cancel(b.thread), 0);
	assert_int_equal(pthread_join(b.thread, NULL), 0);
	(void)now_us();
}

/* ---- flags ---- */

static void init_with(void *flags)
{
	init(flags, &ifc);
}

/* What the adapter says to flags that it refuses. */
static void refuses(const char *flags, const char *expected)
{
	char said[1024] = "";
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	(void)fflush(stdout);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)dup2(fds[1], STDERR_FILENO);
		init_with((void *)(uintptr_t)flags);
		_exit(0);
	}
	close(fds[1]);
	size_t length = 0;
	ssize_t n;
	while ((n = read(fds[0], said + length, sizeof(said) - 1 - length)) > 0)
		length += (size_t)n;
	close(fds[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	if (!strstr(said, expected))
		fail_msg("%s: %s", flags, said);
}

static void test_flags(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(LOCAL_PORT)};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(LOCAL_PORT)};

	(void)state;
	if (!init)
		load();
	refuses("bogus", "unknown flag: `bogus`");
	refuses("linux,bogus=1", "bogus");
	refuses("tcp_rto_min_ms=0", "tcp_rto_min_ms");
	refuses("local=here", "no address: `here`");
	refuses("addresses", "unknown flag");
	/* None at all, or several, one of which wins over the profile wherever that stands. */
	static const char *const good[] = {NULL, "", ",", "tcp_initial_window=4,linux",
					   "local=10.1.2.3,local=fd00::7 mtu=1400"};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		init(good[i], &ifc);
		int fd = CALL(socket, AF_INET, SOCK_STREAM, 0);
		a.sin_addr.s_addr = htonl(i == 4 ? 0x0a010203 : 0xc0a80001);
		assert_int_equal(CALL(bind, fd, (struct sockaddr *)&a, sizeof(a)), 0);
		int fd6 = CALL(socket, AF_INET6, SOCK_STREAM, 0);
		(void)inet_pton(AF_INET6, i == 4 ? "fd00::7" : "fd3d:a0b:17d6::1", &a6.sin6_addr);
		assert_int_equal(CALL(bind, fd6, (struct sockaddr *)&a6, sizeof(a6)), 0);
		int value = -1;
		socklen_t length = sizeof(value);
		assert_int_equal(CALL(getsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &value, &length),
				 0);
		assert_int_equal(value, i != 3);
		ifc.free(ifc.userdata);
	}
}

/* ---- what the interface does not pass on ---- */

/* As packetdrill, with the script that the last argument names: it says what the SYN is like. */
static int play_script(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(0xc0000201)};
	const uint8_t mss[4] = {2, 4, 8960 >> 8, 8960 & 0xff};
	uint8_t bytes[2048];
	size_t length = sizeof(bytes);
	long long at_us;

	load();
	init(NULL, &ifc);
	int fd = CALL(socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	(void)CALL(connect, fd, (struct sockaddr *)&a, sizeof(a));
	(void)CALL(netdev_receive, bytes, &length, &at_us);
	struct live_packet *live = live_parse(bytes, (uint32_t)length);
	const struct ip_address from = ip_from_v4(htonl(0x0a000007));
	bool good = live && ip_equal(&live->from, &from) && (live->flags & 0xc0) == 0xc0 &&
		    memcmp(live->options, mss, sizeof(mss)) == 0;
	free(live);
	ifc.free(ifc.userdata);
	return good ? 0 : 1;
}

static void test_script(void **state)
{
	char path[] = "/tmp/adapter_test.XXXXXX";
	static const char text[] = "// --mtu=1234\n--mtu=9000\n--local_ip=1.2.3.4\n"
				   "`sysctl -q net.ipv4.tcp_ecn=1`\n";

	(void)state;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
	(void)fflush(stdout);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)execl("/proc/self/exe", "/usr/bin/packetdrill", "--local_ip=10.0.0.7", path,
			    (char *)NULL);
		_exit(2);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlink(path);
	assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_members, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_poll, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_blocking, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_blocking_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cancelled, set_up, tear_down),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_script),
	};

	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;

	if (slash && strcmp(slash, "/packetdrill") == 0)
		return play_script();
	return test_run("adapter", tests);
}
