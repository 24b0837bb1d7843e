/* tests/net/attach_test.c: attaching the XDP program: modes, what else is attached, libxdp's
 * dispatcher, and what a killed process leaves; on a veth pair in a network namespace of the test's
 * own, with a bpffs in a mount namespace of its own.
 */
#include "support/test.h"

#include "netdev/afxdp/steer.h"
#include "support/netns.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

#define BPFFS    "/sys/fs/bpf"
#define WAIT_MS  10000
#define UMEM     (64 * 4096)
#define OURS     0x0200000a /* 10.0.0.2 */
#define OURS_TOO 0x0300000a /* 10.0.0.3 */
#define KERNELS  0x0100000a /* 10.0.0.1 */

static struct {
	bool privileged;
	bool bpffs;
	bool extensions; /* the kernel has what the dispatcher is made of */
	int kernel;      /* packet socket of aA: sees what the kernel gets */
	int peer;        /* packet socket of aB */
	char log[4096];
} bench = {.kernel = -1, .peer = -1};

#define NEED_PRIVILEGE                                                                       \
	do {                                                                                 \
		if (!bench.privileged)                                                       \
			skip_because("privilege: XDP programs need CAP_NET_ADMIN, CAP_BPF"); \
	} while (0)

#define NEED_DISPATCHER                                                                   \
	do {                                                                              \
		NEED_PRIVILEGE;                                                           \
		if (!bench.bpffs)                                                         \
			skip_because("privilege: a bpffs needs CAP_SYS_ADMIN");           \
		if (!bench.extensions)                                                    \
			skip_because("kernel: refuses BPF_PROG_TYPE_EXT, which libxdp's " \
				     "dispatcher needs");                                 \
	} while (0)

/* ---- the log ---- */

static void note(void *arg, int level, const char *message)
{
	size_t length = strlen(bench.log);

	(void)arg;
	(void)snprintf(bench.log + length, sizeof(bench.log) - length, "%d: %s\n", level, message);
}

static void assert_told(int level, const char *words)
{
	char start[8];
	const char *line = strstr(bench.log, words);

	if (!line)
		fail_msg("not told: %s; but: %s", words, bench.log);
	while (line && line > bench.log && line[-1] != '\n')
		line--;
	(void)snprintf(start, sizeof(start), "%d: ", level);
	if (line && strncmp(line, start, strlen(start)) != 0)
		fail_msg("not at level %d: %s", level, bench.log);
}

/* ---- the bench ---- */

static int open_packet(const char *interface)
{
	const struct sockaddr_ll local = {.sll_family = AF_PACKET,
					  .sll_protocol = htons(ETH_P_ALL),
					  .sll_ifindex = (int)if_nametoindex(interface)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&local, sizeof(local)), 0);
	return fd;
}

static void start(void)
{
	(void)netns_try("ip link del aA 2>/dev/null"); /* of a test that failed */
	netns_veth("aA", "aB");
	bench.kernel = open_packet("aA");
	bench.peer = open_packet("aB");
}

static void stop(void)
{
	(void)close(bench.kernel);
	(void)close(bench.peer);
	(void)netns_try("ip link del aA 2>/dev/null");
}

/* 0 or -errno; the log is of this call. */
static int try_open(const char *interface, enum steer_mode mode, bool alone, struct steer **steer)
{
	const struct log log = {.fn = note};
	const struct steer_options options = {.interface = interface,
					      .index = (int)if_nametoindex(interface),
					      .mode = mode,
					      .alone = alone};

	bench.log[0] = '\0';
	return steer_open(&log, &options, steer);
}

static struct steer *open_on(const char *interface, enum steer_mode mode, bool alone)
{
	struct steer *steer = NULL;

	if (try_open(interface, mode, alone, &steer))
		fail_msg("steer_open: %s", bench.log);
	return steer;
}

/* What is attached: XDP_ATTACHED_NONE, _DRV, _SKB. */
static int attached(const char *interface)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, found);

	assert_int_equal(bpf_xdp_query((int)if_nametoindex(interface), 0, &found), 0);
	return found.attach_mode;
}

/* Links end a moment after their descriptor. */
static void expect_detached(void)
{
	for (uint32_t i = 0; i < WAIT_MS / 10 && attached("aA") != XDP_ATTACHED_NONE; i++)
		(void)usleep(10000);
	assert_int_equal(attached("aA"), XDP_ATTACHED_NONE);
}

/* Directories that libxdp keeps for dispatchers. */
static uint32_t pins(void)
{
	DIR *directory = opendir(BPFFS "/xdp");
	uint32_t count = 0;

	for (struct dirent *entry; directory && (entry = readdir(directory));)
		count += strncmp(entry->d_name, "dispatch-", 9) == 0;
	if (directory)
		(void)closedir(directory);
	return count;
}

/* ---- frames ---- */

static void send_to(uint32_t v4, uint8_t number)
{
	uint8_t frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 0, 0x45};

	frame[14 + 9] = IPPROTO_UDP;
	memcpy(frame + 14 + 16, &v4, 4);
	frame[59] = number;
	assert_int_equal(send(bench.peer, frame, sizeof(frame), 0), sizeof(frame));
}

/* Number of the next frame that the kernel gets from the peer. */
static uint8_t next_of_kernel(void)
{
	for (;;) {
		struct pollfd wait = {.fd = bench.kernel, .events = POLLIN};
		struct sockaddr_ll from = {0};
		socklen_t length = sizeof(from);
		uint8_t frame[2048];
		assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
		ssize_t n = recvfrom(bench.kernel, frame, sizeof(frame), 0,
				     (struct sockaddr *)&from, &length);
		assert_true(n > 0);
		if (n == 60 && from.sll_pkttype == PACKET_BROADCAST && frame[11] == 9)
			return frame[59];
	}
}

/* Does the kernel get frames to this address?  It gets one to its own behind it, in order. */
static bool kernel_gets(uint32_t v4)
{
	send_to(v4, 1);
	send_to(KERNELS, 2);
	if (next_of_kernel() == 2)
		return false;
	assert_int_equal(next_of_kernel(), 2);
	return true;
}

static void expect_kernel_gets(uint32_t v4)
{
	for (uint32_t i = 0; i < WAIT_MS / 10 && !kernel_gets(v4); i++)
		(void)usleep(10000);
	assert_true(kernel_gets(v4));
}

/* An XDP socket bound to queue 0, whose fill ring is empty: what it is given is lost. */
static int open_socket(const char *interface)
{
	const int ring = 64;
	const struct sockaddr_xdp local = {.sxdp_family = AF_XDP,
					   .sxdp_flags = XDP_COPY,
					   .sxdp_ifindex = if_nametoindex(interface)};
	struct xdp_umem_reg umem = {.len = UMEM, .chunk_size = 4096};
	void *memory = mmap(NULL, UMEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	assert_true(memory != MAP_FAILED && fd >= 0);
	umem.addr = (uintptr_t)memory;
	assert_int_equal(setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof(umem)), 0);
	for (int what = XDP_RX_RING; what <= XDP_UMEM_COMPLETION_RING; what++) {
		if (what != XDP_UMEM_REG)
			assert_int_equal(setsockopt(fd, SOL_XDP, what, &ring, sizeof(ring)), 0);
	}
	assert_int_equal(bind(fd, (const struct sockaddr *)&local, sizeof(local)), 0);
	return fd;
}

/* Frames to an address go to a socket.  Returns it. */
static int steer_to_socket(struct steer *steer, uint32_t v4)
{
	const struct steer_target target = {.first = 3, .count = 1};
	const struct ip_address address = ip_from_v4(v4);
	int fd = open_socket("aA");

	assert_int_equal(steer_socket(steer, 3, fd), 0);
	assert_int_equal(steer_address(steer, &address, &target), 0);
	return fd;
}

/* ---- processes ---- */

/* A child that has attached, and steers OURS to a socket of its own. */
static pid_t attached_child(enum steer_mode mode, bool alone)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct steer *steer;
		(void)alarm(60);
		if (try_open("aA", mode, alone, &steer))
			_exit(1);
		(void)steer_to_socket(steer, OURS);
		(void)!write(ready[1], "", 1);
		for (;;)
			(void)pause();
	}
	(void)close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
	return child;
}

static void kill_child(pid_t child)
{
	int status;

	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
}

static int load_other(void)
{
	const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "somebody", "MIT", pass, 2, NULL);

	assert_true(fd >= 0);
	return fd;
}

/* ---- modes ---- */

static void mode_is(enum steer_mode mode, bool native, const char *words)
{
	start();
	struct steer *steer = open_on("aA", mode, true);
	assert_told(LOG_LEVEL_INFO, words);
	assert_int_equal(steer_is_native(steer), native);
	assert_false(steer_is_dispatched(steer));
	assert_int_equal(attached("aA"), native ? XDP_ATTACHED_DRV : XDP_ATTACHED_SKB);
	assert_true(kernel_gets(OURS));
	int fd = steer_to_socket(steer, OURS);
	assert_false(kernel_gets(OURS));
	assert_true(kernel_gets(OURS_TOO));
	(void)close(fd);
	expect_kernel_gets(OURS);
	steer_close(steer);
	expect_detached();
	stop();
}

static void test_modes(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	mode_is(STEER_NATIVE, true, "attached in native mode (configured), alone");
	mode_is(STEER_GENERIC, false, "attached in generic mode (configured), alone");
	mode_is(STEER_AUTO, false, "attached in generic mode (faster than native on veth), alone");
}

static void test_a_driver_without_native_mode(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	struct steer *steer;
	assert_int_equal(try_open("lo", STEER_NATIVE, true, &steer), -EOPNOTSUPP);
	assert_told(LOG_LEVEL_ERROR, "lo: its driver has no native XDP");
	steer = open_on("lo", STEER_AUTO, true);
	assert_false(steer_is_native(steer));
	assert_told(LOG_LEVEL_WARNING, "lo: its driver has no native XDP: generic mode");
	assert_told(LOG_LEVEL_INFO, "attached in generic mode");
	steer_close(steer);
}

/* Frames of several buffers: a native program that does not take them cannot be attached. */
static void test_jumbo_frames(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	int other = load_other();
	start();
	netns_run("ip link set aA mtu 9000; ip link set aB mtu 9000");
	libbpf_print_fn_t print = libbpf_set_print(NULL);
	assert_int_not_equal(
		bpf_xdp_attach((int)if_nametoindex("aA"), other, XDP_FLAGS_DRV_MODE, NULL), 0);
	(void)libbpf_set_print(print);
	(void)close(other);
	struct steer *steer = open_on("aA", STEER_NATIVE, true);
	assert_true(kernel_gets(OURS));
	steer_close(steer);
	expect_detached();
	stop();
}

/* ---- who else is there ---- */

static void busy_with_another(uint32_t flags, int mode, const char *mend)
{
	struct steer *steer;
	int other = load_other();

	start();
	assert_int_equal(bpf_xdp_attach((int)if_nametoindex("aA"), other, flags, NULL), 0);
	assert_int_equal(try_open("aA", STEER_AUTO, false, &steer), -EBUSY);
	assert_told(LOG_LEVEL_ERROR, "aA: has the XDP program somebody already");
	assert_told(LOG_LEVEL_ERROR, "`bpftool net show dev aA`, `ip link show dev aA`");
	assert_told(LOG_LEVEL_ERROR, mend);
	assert_int_equal(attached("aA"), mode);
	assert_int_equal(try_open("aA", STEER_NATIVE, true, &steer), -EBUSY);
	netns_run("%s", strstr(mend, "ip link"));
	steer_close(open_on("aA", STEER_AUTO, true));
	(void)close(other);
	stop();
}

static void test_another_program(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	busy_with_another(XDP_FLAGS_SKB_MODE, XDP_ATTACHED_SKB,
			  "not through libxdp's dispatcher: end its process, or: ip link set dev "
			  "aA xdpgeneric off");
	busy_with_another(XDP_FLAGS_DRV_MODE, XDP_ATTACHED_DRV,
			  "or: ip link set dev aA xdpdrv off");
}

static void test_another_of_ours_alone(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	struct steer *steer;
	start();
	pid_t child = attached_child(STEER_AUTO, true);
	assert_int_equal(try_open("aA", STEER_AUTO, true, &steer), -EBUSY);
	assert_told(LOG_LEVEL_ERROR, "another process of ours");
	kill_child(child);
	expect_detached();
	stop();
}

/* ---- alone ---- */

static void test_killed_alone(void **state)
{
	static const enum steer_mode modes[] = {STEER_NATIVE, STEER_GENERIC};

	(void)state;
	NEED_PRIVILEGE;
	for (uint32_t i = 0; i < 2; i++) {
		start();
		pid_t child = attached_child(modes[i], true);
		assert_false(kernel_gets(OURS));
		assert_true(kernel_gets(OURS_TOO));
		kill_child(child);
		expect_kernel_gets(OURS);
		expect_detached();
		steer_close(open_on("aA", modes[i], true));
		stop();
	}
}

/* Neither library prints, and what they would have is told. */
static void test_without_a_bpffs(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	char printed[64];
	int said[2];
	start();
	assert_int_equal(setenv("LIBXDP_BPFFS", "/nowhere", 1), 0);
	assert_int_equal(pipe(said), 0);
	int before = dup(2);
	(void)dup2(said[1], 2);
	struct steer *steer = open_on("aA", STEER_AUTO, false);
	(void)dup2(before, 2);
	(void)close(before);
	(void)close(said[1]);
	assert_int_equal(read(said[0], printed, sizeof(printed)), 0);
	(void)close(said[0]);
	assert_told(LOG_LEVEL_WARNING, "aA: no bpffs at /nowhere");
	assert_told(LOG_LEVEL_WARNING, "(mount -t bpf bpf /nowhere)");
	assert_false(steer_is_dispatched(steer));
	steer_close(steer);
	assert_int_equal(unsetenv("LIBXDP_BPFFS"), 0);
	stop();
}

static void test_without_extensions(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	if (!bench.bpffs)
		skip_because("privilege: a bpffs needs CAP_SYS_ADMIN");
	if (bench.extensions)
		return; /* the dispatcher's tests are run instead */
	start();
	struct steer *steer = open_on("aA", STEER_AUTO, false);
	assert_told(LOG_LEVEL_WARNING, "BPF_PROG_TYPE_EXT");
	assert_false(steer_is_dispatched(steer));
	steer_close(steer);
	expect_detached();
	stop();
}

static void test_an_interface_that_goes(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	start();
	struct steer *steer = open_on("aA", STEER_AUTO, false);
	netns_run("ip link del aA");
	const struct ip_address address = ip_from_v4(OURS);
	assert_int_equal(steer_address(steer, &address, NULL), 0);
	steer_close(steer);
	assert_int_equal(pins(), 0);
	stop();
}

/* ---- privilege ---- */

/* Leaves the child two capabilities at most. */
static void keep(uint64_t capabilities)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const uint32_t low = (uint32_t)capabilities;
	const uint32_t high = (uint32_t)(capabilities >> 32);
	const struct __user_cap_data_struct data[2] = {{.effective = low, .permitted = low},
						       {.effective = high, .permitted = high}};

	if (syscall(SYS_capset, &header, data))
		_exit(9);
}

/* What steer_open says to a process with these. */
static int open_with(uint64_t capabilities, bool alone)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct steer *steer;
		keep(capabilities);
		int err = try_open("aA", STEER_AUTO, alone, &steer);
		if (!err)
			steer_close(steer);
		bool told = strstr(bench.log, "CAP_BPF and CAP_NET_ADMIN");
		_exit(err == -EPERM && told ? 1 : err ? 2 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_privilege(void **state)
{
	const uint64_t bpf = 1ULL << CAP_BPF;
	const uint64_t net = 1ULL << CAP_NET_ADMIN;

	(void)state;
	NEED_PRIVILEGE;
	start();
	assert_int_equal(open_with(0, true), 1);
	assert_int_equal(open_with(bpf, true), 1);
	assert_int_equal(open_with(net, true), 1);
	/* The verifier is stricter without CAP_PERFMON: the program is one that it takes. */
	assert_int_equal(open_with(bpf | net, true), 0);
	assert_int_equal(open_with(bpf | net, false), 0);
	assert_int_equal(open_with(0, false), 1);
	expect_detached();
	stop();
}

/* ---- through the dispatcher ---- */

static void expect_clean(void)
{
	expect_detached();
	assert_int_equal(pins(), 0);
}

static void dispatched_in(enum steer_mode mode, bool native)
{
	start();
	struct steer *steer = open_on("aA", mode, false);
	assert_told(LOG_LEVEL_INFO, "by libxdp's dispatcher");
	assert_true(steer_is_dispatched(steer));
	assert_int_equal(steer_is_native(steer), native);
	assert_int_equal(attached("aA"), native ? XDP_ATTACHED_DRV : XDP_ATTACHED_SKB);
	assert_int_equal(pins(), 1);
	int fd = steer_to_socket(steer, OURS);
	assert_false(kernel_gets(OURS));
	assert_true(kernel_gets(OURS_TOO));
	(void)close(fd);
	steer_close(steer);
	expect_clean();
	stop();
}

static void test_dispatched(void **state)
{
	(void)state;
	NEED_DISPATCHER;
	dispatched_in(STEER_AUTO, false);
	dispatched_in(STEER_GENERIC, false);
	dispatched_in(STEER_NATIVE, true);
}

static void test_dispatched_without_native_mode(void **state)
{
	(void)state;
	NEED_DISPATCHER;
	struct steer *steer;
	assert_int_equal(try_open("lo", STEER_NATIVE, false, &steer), -EOPNOTSUPP);
	assert_told(LOG_LEVEL_ERROR, "lo: its driver has no native XDP");
	assert_int_equal(pins(), 0);
	steer = open_on("lo", STEER_AUTO, false);
	assert_told(LOG_LEVEL_WARNING, "lo: its driver has no native XDP: generic mode");
	assert_true(steer_is_dispatched(steer));
	steer_close(steer);
	assert_int_equal(pins(), 0);
}

/* A program of libxdp's own, which passes everything. */
static struct xdp_program *open_other(enum xdp_attach_mode mode)
{
	struct xdp_program *other = xdp_program__find_file("xsk_def_xdp_prog.o", NULL, NULL);

	assert_int_equal(libxdp_get_error(other), 0);
	assert_int_equal(xdp_program__attach(other, (int)if_nametoindex("aA"), mode, 0), 0);
	return other;
}

static void close_other(struct xdp_program *other, enum xdp_attach_mode mode)
{
	assert_int_equal(xdp_program__detach(other, (int)if_nametoindex("aA"), mode, 0), 0);
	xdp_program__close(other);
}

static void beside(enum xdp_attach_mode theirs, enum steer_mode ours, const char *words)
{
	start();
	struct xdp_program *other = open_other(theirs);
	struct steer *steer = open_on("aA", ours, false);
	assert_told(LOG_LEVEL_INFO, words);
	assert_true(steer_is_dispatched(steer));
	int fd = steer_to_socket(steer, OURS);
	assert_false(kernel_gets(OURS));
	assert_true(kernel_gets(OURS_TOO));
	assert_int_equal(xdp_program__is_attached(other, (int)if_nametoindex("aA")), theirs);
	steer_close(steer);
	assert_int_equal(xdp_program__is_attached(other, (int)if_nametoindex("aA")), theirs);
	(void)close(fd);
	close_other(other, theirs);
	expect_clean();
	stop();
}

static void test_beside_another(void **state)
{
	(void)state;
	NEED_DISPATCHER;
	beside(XDP_MODE_SKB, STEER_AUTO, "generic mode (that of the other programs)");
	beside(XDP_MODE_SKB, STEER_GENERIC, "generic mode (configured)");
	beside(XDP_MODE_NATIVE, STEER_AUTO, "native mode");
	beside(XDP_MODE_NATIVE, STEER_NATIVE, "native mode (configured)");
}

static void test_another_comes_later(void **state)
{
	(void)state;
	NEED_DISPATCHER;
	start();
	struct steer *steer = open_on("aA", STEER_AUTO, false);
	int fd = steer_to_socket(steer, OURS);
	struct xdp_program *other = open_other(XDP_MODE_SKB);
	assert_false(kernel_gets(OURS));
	assert_true(kernel_gets(OURS_TOO));
	close_other(other, XDP_MODE_SKB);
	assert_false(kernel_gets(OURS));
	(void)close(fd);
	steer_close(steer);
	expect_clean();
	stop();
}

static void test_another_in_another_mode(void **state)
{
	(void)state;
	NEED_DISPATCHER;
	struct steer *steer;
	start();
	struct xdp_program *other = open_other(XDP_MODE_SKB);
	assert_int_equal(try_open("aA", STEER_NATIVE, false, &steer), -EBUSY);
	assert_told(LOG_LEVEL_ERROR, "libxdp's dispatcher, which is generic");
	assert_int_equal(try_open("aA", STEER_GENERIC, true, &steer), -EBUSY);
	assert_told(LOG_LEVEL_ERROR, "nor to attach alone");
	close_other(other, XDP_MODE_SKB);
	expect_clean();
	stop();
}

/* Two of ours, each with its address. */
static void test_two_of_ours(void **state)
{
	(void)state;
	NEED_DISPATCHER;
	start();
	pid_t child = attached_child(STEER_AUTO, false);
	assert_false(kernel_gets(OURS));
	struct steer *steer = open_on("aA", STEER_AUTO, false);
	assert_null(strstr(bench.log, "took away"));
	const struct steer_target target = {.first = 3, .count = 1};
	const struct ip_address address = ip_from_v4(OURS_TOO);
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0); /* the queue is the child's */
	assert_int_equal(steer_socket(steer, 3, fd), 0);
	assert_int_equal(steer_address(steer, &address, &target), 0);
	assert_false(kernel_gets(OURS));
	assert_false(kernel_gets(OURS_TOO));
	kill_child(child);
	expect_kernel_gets(OURS);
	assert_false(kernel_gets(OURS_TOO));
	/* What was killed goes, what lives stays. */
	struct steer *third = open_on("aA", STEER_AUTO, false);
	assert_told(LOG_LEVEL_INFO, "took away 1 XDP program");
	assert_false(kernel_gets(OURS_TOO));
	steer_close(third);
	assert_false(kernel_gets(OURS_TOO));
	steer_close(steer);
	(void)close(fd);
	expect_clean();
	stop();
}

static void test_killed_in_the_dispatcher(void **state)
{
	static const enum steer_mode modes[] = {STEER_NATIVE, STEER_GENERIC};

	(void)state;
	NEED_DISPATCHER;
	for (uint32_t i = 0; i < 2; i++) {
		start();
		pid_t child = attached_child(modes[i], false);
		assert_false(kernel_gets(OURS));
		kill_child(child);
		expect_kernel_gets(OURS);
		child = attached_child(modes[i], false);
		assert_int_equal(pins(), 1);
		assert_false(kernel_gets(OURS));
		kill_child(child);
		expect_kernel_gets(OURS);
		struct steer *steer = open_on("aA", modes[i], false);
		assert_told(LOG_LEVEL_INFO, "took away 1 XDP program");
		steer_close(steer);
		expect_clean();
		stop();
	}
}

static void test_jumbo_frames_in_the_dispatcher(void **state)
{
	(void)state;
	NEED_DISPATCHER;
	start();
	netns_run("ip link set aA mtu 9000; ip link set aB mtu 9000");
	struct steer *steer = open_on("aA", STEER_NATIVE, false);
	assert_true(steer_is_dispatched(steer));
	assert_true(kernel_gets(OURS));
	steer_close(steer);
	expect_clean();
	stop();
}

/* ---- namespaces ---- */

static void enter(void)
{
	bench.privileged = netns_enter();
	if (!bench.privileged || unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return;
	bench.bpffs = mount("bpf", BPFFS, "bpf", 0, NULL) == 0;
	libbpf_print_fn_t print = libbpf_set_print(NULL);
	bench.extensions = libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_EXT, NULL) == 1;
	(void)libbpf_set_print(print);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_a_driver_without_native_mode),
		cmocka_unit_test(test_jumbo_frames),
		cmocka_unit_test(test_another_program),
		cmocka_unit_test(test_another_of_ours_alone),
		cmocka_unit_test(test_killed_alone),
		cmocka_unit_test(test_without_a_bpffs),
		cmocka_unit_test(test_without_extensions),
		cmocka_unit_test(test_an_interface_that_goes),
		cmocka_unit_test(test_privilege),
		cmocka_unit_test(test_dispatched),
		cmocka_unit_test(test_dispatched_without_native_mode),
		cmocka_unit_test(test_beside_another),
		cmocka_unit_test(test_another_comes_later),
		cmocka_unit_test(test_another_in_another_mode),
		cmocka_unit_test(test_two_of_ours),
		cmocka_unit_test(test_killed_in_the_dispatcher),
		cmocka_unit_test(test_jumbo_frames_in_the_dispatcher),
	};

	enter();
	return test_run("attach", tests);
}
