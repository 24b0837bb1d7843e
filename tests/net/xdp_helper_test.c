/* SPDX-License-Identifier: MIT
 * tests/net/xdp_helper_test.c - demi-xdp-helper as it is run: as root in a network namespace, with
 * applications of nobody (no capability at all) that talk to the kernel at the other end of a veth
 * pair, and clients here that send what they like.
 *
 * This process stays in the namespace of the other end; the "machine" is a second one.
 */
#include "support/test.h"

#include "netdev/afxdp/remote.h"
#include "support/net.h"
#include "support/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY  65534
#define HELPER  65533 /* user of a helper that is not root */
#define ARGS    24
#define KERNELS "10.9.7.1" /* the machine's */
#define OURS    "10.9.7.7"
#define SECOND  "10.9.7.8"
#define MEMORY  (4 << 20)

static bool privileged;
static int machine = -1; /* its network namespace */
static char directory[64];
static char path[108]; /* of the helper's socket */
static char build[256];
static int passed = -1; /* a socket that a helper is started with */
static int notify = -1; /* where the helper says that it is ready */

/* ---- processes ---- */

static pid_t live[16]; /* what a test that failed leaves is killed behind it */

static void set_live(pid_t from, pid_t to)
{
	for (size_t i = 0; i < sizeof(live) / sizeof(*live); i++) {
		if (live[i] == from) {
			live[i] = to;
			return;
		}
	}
	fail_msg("too many processes");
}

static int kill_live(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(live) / sizeof(*live); i++) {
		if (live[i] > 0) {
			(void)kill(live[i], SIGKILL);
			(void)waitpid(live[i], NULL, 0);
		}
		live[i] = 0;
	}
	return 0;
}

struct process {
	pid_t pid;
	char log[128]; /* file of its stderr */
};

static void assert_ok(int result)
{
	assert_return_code(result, errno);
}

static char *read_log(const struct process *process)
{
	static char text[65536];
	FILE *file = fopen(process->log, "re");

	assert_non_null(file);
	size_t length = fread(text, 1, sizeof(text) - 1, file);
	text[length] = '\0';
	(void)fclose(file);
	return text;
}

/* It comes to be in the log. */
static void await_told(const struct process *process, const char *words)
{
	uint64_t end = net_now_ns() + NET_WAIT_S * 1000000000ULL;

	while (!strstr(read_log(process), words)) {
		if (net_now_ns() > end)
			fail_msg("not told: %s; but: %s", words, read_log(process));
		net_sleep_ms(5);
	}
}

static void become_nobody(void)
{
	const gid_t none = NOBODY;

	if (setgroups(0, &none) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		_exit(120);
}

/* As systemd.exec(5) does: a user of its own with capabilities, and the socket as descriptor 3. */
static void become_service(void)
{
	static const int needed[] = {CAP_NET_RAW, CAP_NET_ADMIN, CAP_IPC_LOCK, CAP_BPF};
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	char pid[16];

	for (size_t i = 0; i < sizeof(needed) / sizeof(*needed); i++) {
		uint32_t bit = 1U << (needed[i] % 32);
		data[needed[i] / 32].effective |= bit;
		data[needed[i] / 32].permitted |= bit;
		data[needed[i] / 32].inheritable |= bit;
	}
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (setenv("LISTEN_PID", pid, 1) || dup2(passed, 3) != 3 ||
	    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) ||
	    setresgid(HELPER, HELPER, HELPER) || setresuid(HELPER, HELPER, HELPER) ||
	    syscall(SYS_capset, &header, data))
		_exit(123);
	for (size_t i = 0; i < sizeof(needed) / sizeof(*needed); i++) {
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, needed[i], 0, 0))
			_exit(124);
	}
}

/* Runs a program of the build directory on the machine. */
static struct process start(const char *name, bool nobody, const char *const *environment,
			    const char *const *args)
{
	static int number;
	struct process process;
	char program[320];
	const char *argv[ARGS] = {name};

	(void)snprintf(program, sizeof(program), "%s/%s", build, name);
	(void)snprintf(process.log, sizeof(process.log), "%s/log.%d", directory, number++);
	for (int i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	process.pid = fork();
	assert_ok(process.pid);
	if (process.pid > 0) {
		set_live(0, process.pid);
		return process;
	}
	int log = open(process.log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (log < 0 || dup2(log, STDERR_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
	    setns(machine, CLONE_NEWNET) || prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(121);
	for (int i = 0; environment[i]; i += 2)
		(void)setenv(environment[i], environment[i + 1], 1);
	if (nobody)
		become_nobody();
	else if (passed >= 0)
		become_service();
	execv(program, (char *const *)(uintptr_t)argv);
	_exit(122);
}

/* Ends within the bound, and how. */
static int await_end(struct process *process)
{
	uint64_t end = net_now_ns() + NET_WAIT_S * 1000000000ULL;
	int status = -1;

	while (waitpid(process->pid, &status, WNOHANG) == 0) {
		if (net_now_ns() > end) {
			(void)kill(process->pid, SIGKILL);
			fail_msg("it goes on: %s", read_log(process));
		}
		net_sleep_ms(2);
	}
	set_live(process->pid, 0);
	process->pid = -1;
	return status;
}

static void end_by(struct process *process, int number)
{
	assert_ok(kill(process->pid, number));
	int status = await_end(process);
	if (number == SIGTERM && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
		fail_msg("status %x: %s", (unsigned int)status, read_log(process));
}

/* ---- the helper and applications ---- */

static void await_ready(const struct process *helper)
{
	struct pollfd wait = {.fd = notify, .events = POLLIN};
	char text[64] = "";

	if (poll(&wait, 1, NET_WAIT_S * 1000) != 1)
		fail_msg("not ready: %s", read_log(helper));
	assert_true(recv(notify, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, "READY=1");
}

static void forget_notes(void)
{
	char text[64];

	while (recv(notify, text, sizeof(text), MSG_DONTWAIT) > 0)
		;
}

/* more: further options, ended by NULL. */
static struct process start_helper(const char *const *more)
{
	char place[128];
	const char *environment[] = {"NOTIFY_SOCKET", place, NULL};
	const char *args[ARGS] = {"--interface", "vM,lo", "--socket", path};

	(void)snprintf(place, sizeof(place), "%s/notify", directory);
	for (int i = 0; more[i]; i++)
		args[4 + i] = more[i];
	forget_notes();
	return start("demi-xdp-helper", false, environment, args);
}

static struct process ready_helper(const char *const *more)
{
	struct process helper = start_helper(more);

	await_ready(&helper);
	return helper;
}

static const char *const anybody[] = {"--mode", "0666", NULL};

#define APP_ENVIRONMENT                                                                            \
	"LIBOS", "catpowder", "DEMI_DEVICE", "afxdp", "DEMI_INTERFACE", "vM", "DEMI_PLUGIN_DIR",   \
		build, "DEMI_XDP_HELPER", path, "LD_LIBRARY_PATH", build, "DEMI_XDP_MEMORY_BYTES", \
		"4194304", "DEMI_HEAP_MAX_BYTES", "67108864", "DEMI_STAT_SOCKET", "off"

static struct process start_app(const char *address, const char *port, const char *key,
				const char *value)
{
	char prefix[64];
	const char *environment[] = {APP_ENVIRONMENT, "DEMI_ADDRESSES", prefix, key, value, NULL};
	const char *args[] = {address, port, NULL};

	(void)snprintf(prefix, sizeof(prefix), "%s/24", address);
	return start("examples/echo_server", true, environment, args);
}

/* ---- the other end: plain sockets here ---- */

static int try_connect(const char *address, uint16_t port, int wait_ms)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd wait = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t length = sizeof(err);

	assert_ok(fd);
	assert_int_equal(inet_pton(AF_INET, address, &to.sin_addr), 1);
	(void)connect(fd, (struct sockaddr *)&to, sizeof(to));
	bool done = poll(&wait, 1, wait_ms) == 1;
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &length), 0);
	if (done && err == 0)
		return fd;
	close(fd);
	return -1;
}

/* What is sent comes back. */
static void echo_on(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	char text[] = "what is sent comes back";
	char back[sizeof(text)];
	size_t have = 0;

	assert_int_equal(send(fd, text, sizeof(text), MSG_NOSIGNAL), sizeof(text));
	while (have < sizeof(back)) {
		assert_int_equal(poll(&wait, 1, NET_WAIT_S * 1000), 1);
		ssize_t got = recv(fd, back + have, sizeof(back) - have, 0);
		assert_true(got > 0);
		have += (size_t)got;
	}
	assert_memory_equal(back, text, sizeof(text));
}

static void await_echo(const char *address, uint16_t port, const struct process *app)
{
	uint64_t end = net_now_ns() + NET_WAIT_S * 1000000000ULL;
	int fd = -1;

	while (fd < 0) {
		if (net_now_ns() > end || waitpid(app->pid, NULL, WNOHANG) != 0)
			fail_msg("no echo: %s", read_log(app));
		fd = try_connect(address, port, 100);
	}
	echo_on(fd);
	close(fd);
}

/* The kernel has its address and everything that is not ours. */
static void assert_kernels(void)
{
	netns_run("ping -n -q -c 1 -w 10 -i 0.05 " KERNELS " >/dev/null");
}

static bool has_program(void)
{
	return netns_try("nsenter --net=/proc/%d/fd/%d ip -d link show vM | grep -q prog/xdp",
			 (int)getpid(), machine);
}

/* Links of the kernel may end a moment after their process. */
static void await_no_program(void)
{
	for (int i = 0; i < 1000 && has_program(); i++)
		net_sleep_ms(5);
	assert_false(has_program());
}

/* ---- clients of ours ---- */

static char told[8192];

static void note(void *arg, int level, const char *message)
{
	size_t length = strlen(told);

	(void)arg;
	(void)level;
	(void)snprintf(told + length, sizeof(told) - length, "%s\n", message);
}

static const struct log notes = {.fn = note};

static int make_memory(uint64_t bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_ok(fd);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	return fd;
}

static struct grant_request make_request(void)
{
	struct grant_request request;

	memset(&request, 0, sizeof(request));
	(void)snprintf(request.interface, sizeof(request.interface), "vM");
	request.memory_bytes = MEMORY;
	request.headroom = 128;
	request.ring = 64;
	request.queues = 1;
	return request;
}

static int try_remote(const struct grant_request *request, struct grant **grant)
{
	int memory = make_memory(request->memory_bytes);

	told[0] = '\0';
	int err = remote_open(&notes, request, path, memory, grant);
	close(memory);
	return err ? err : (*grant)->ops->bind(*grant);
}

static void assert_told(const char *words)
{
	if (!strstr(told, words))
		fail_msg("not told: %s; but: %s", words, told);
}

static void close_remote(struct grant *grant)
{
	close(grant->fd);
	grant->ops->close(grant);
}

static int steer(struct grant *grant, const char *text, bool wanted)
{
	struct ip_address address;
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		address = ip_from_v4(v4);
	else
		assert_int_equal(inet_pton(AF_INET6, text, address.bytes), 1);
	told[0] = '\0';
	return grant->ops->steer(grant, &address, wanted);
}

static int raw_connect(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_ok(fd);
	memcpy(address.sun_path, path, strlen(path) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* ---- tests ---- */

#define NEED_PRIVILEGE()                                                                  \
	do {                                                                              \
		if (!privileged)                                                          \
			skip_because("privilege: a network namespace of its own (root)"); \
	} while (0)

/* The value of a line of /proc/PID/status, in hexadecimal or decimal. */
static uint64_t status_of(pid_t pid, const char *name, int base)
{
	char file[64];
	char line[256];
	uint64_t value = UINT64_MAX;

	(void)snprintf(file, sizeof(file), "/proc/%d/status", (int)pid);
	FILE *status = fopen(file, "re");
	assert_non_null(status);
	while (fgets(line, sizeof(line), status)) {
		if (strncmp(line, name, strlen(name)) == 0)
			value = strtoull(line + strlen(name) + 1, NULL, base);
	}
	(void)fclose(status);
	return value;
}

static void check_echo(const char *mode)
{
	struct process helper = ready_helper(anybody);
	struct process app = start_app(OURS, "7000", "DEMI_XDP_MODE", mode);

	await_echo(OURS, 7000, &app);
	assert_int_equal(status_of(app.pid, "Uid:", 10), NOBODY);
	assert_int_equal(status_of(app.pid, "CapEff:", 16), 0);
	assert_int_equal(status_of(app.pid, "CapPrm:", 16), 0);
	assert_true(has_program());
	assert_kernels();
	await_told(&helper, "interface vM, queue 0: given");
	await_told(&helper, mode);
	end_by(&app, SIGKILL);
	await_told(&helper, "interface vM, queue 0: taken back");
	await_no_program();
	assert_kernels();
	end_by(&helper, SIGTERM);
}

static void test_echo_generic(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	check_echo("generic");
}

static void test_echo_native(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	check_echo("native");
}

/* The queue of one that was killed is free again; that of one that lives is not. */
static void test_applications(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	struct process helper = ready_helper(anybody);
	struct process first = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");

	await_echo(OURS, 7000, &first);
	struct process second = start_app(SECOND, "7000", "DEMI_XDP_QUEUE", "0");
	assert_int_not_equal(await_end(&second), 0);
	await_told(&second, "another socket is bound to this queue");
	second = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "1");
	assert_int_not_equal(await_end(&second), 0);
	await_told(&second, "of user 65534 has it");
	await_echo(OURS, 7000, &first);

	end_by(&first, SIGKILL);
	second = start_app(SECOND, "7000", "DEMI_XDP_QUEUE", "0");
	await_echo(SECOND, 7000, &second);
	assert_kernels();
	end_by(&second, SIGKILL);
	await_no_program();
	end_by(&helper, SIGTERM);
}

static void test_application_refused(void **state)
{
	(void)state;
	NEED_PRIVILEGE();

	static const struct {
		const char *key;
		const char *value;
		const char *words;
	} cases[] = {
		{"DEMI_INTERFACE", "vN", "interface vN: not allowed (--interface)"},
		{"DEMI_XDP_MEMORY_BYTES", "8388608", "at most 4194304 are allowed (--max-memory)"},
		{"DEMI_XDP_QUEUE", "1", "queue 1: not allowed (--queues)"},
		{"DEMI_XDP_PORTS", "tcp:22", "ports tcp:22-22: not allowed (--ports)"},
		{"DEMI_MAC", "02:00:00:00:00:07", "promiscuous: not allowed (--promiscuous)"},
		{"DEMI_ADDRESSES", SECOND "/24", "address " SECOND ": not allowed (--addresses)"},
	};

	const char *const more[] = {"--mode", "0666",        "--max-memory", "4Mi", "--queues",
				    "0",      "--addresses", OURS,           NULL};
	struct process helper = ready_helper(more);

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct process app = start_app(OURS, "7000", cases[i].key, cases[i].value);
		assert_int_not_equal(await_end(&app), 0);
		await_told(&app, cases[i].words);
		await_told(&helper, cases[i].words);
	}
	struct process app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");
	await_echo(OURS, 7000, &app);
	end_by(&app, SIGKILL);
	end_by(&helper, SIGTERM);
	app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");
	assert_int_not_equal(await_end(&app), 0);
	await_told(&app, "start `demi xdp-helper`");
}

/* Who may connect: by the file, and by the kernel's word on who did. */
static void test_admission(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	const char *const nobody[] = {"--group", "65534", NULL};
	const char *const none[] = {NULL};
	struct process helper = ready_helper(none);
	struct process app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");

	assert_int_not_equal(await_end(&app), 0);
	await_told(&app, "Permission denied: its --group or --mode");
	assert_int_equal(chmod(path, 0666), 0); /* the file lets all in, the helper does not */
	app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");
	assert_int_not_equal(await_end(&app), 0);
	await_told(&app, "this user may not connect");
	end_by(&helper, SIGTERM);

	helper = ready_helper(nobody);
	app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");
	await_echo(OURS, 7000, &app);
	end_by(&app, SIGKILL);
	end_by(&helper, SIGTERM);
}

/* Does the kernel answer a connection to a port of its address, be it by a reset? */
static bool kernel_answers(uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd wait = {.fd = fd, .events = POLLOUT};

	assert_ok(fd);
	assert_int_equal(inet_pton(AF_INET, KERNELS, &to.sin_addr), 1);
	(void)connect(fd, (struct sockaddr *)&to, sizeof(to));
	bool answered = poll(&wait, 1, 300) == 1;
	close(fd);
	return answered;
}

/* Ports of the kernel's own address, the rest of which stays the kernel's. */
static void test_ports(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	const char *const more[] = {"--mode", "0666", "--ports", "tcp:7000-7009", NULL};
	struct process helper = ready_helper(more);
	struct grant_request request = make_request();
	struct grant *grant;

	request.num_ports = 1;
	request.ports[0] = (struct grant_ports){IPPROTO_TCP, 0, 22, 22};
	assert_int_equal(try_remote(&request, &grant), -EACCES);
	assert_told("ports tcp:22-22: not allowed (--ports)");
	request.ports[0] = (struct grant_ports){IPPROTO_TCP, 0, 7001, 7002};
	assert_int_equal(try_remote(&request, &grant), 0);
	assert_int_equal(steer(grant, KERNELS, true), 0); /* named, as the stack does */
	assert_kernels();
	assert_true(kernel_answers(7000));
	assert_false(kernel_answers(7001));
	assert_false(kernel_answers(7002));
	assert_true(kernel_answers(7003));

	/* a second one that shares the address, and goes */
	struct grant *other;
	request.ports[0] = (struct grant_ports){IPPROTO_TCP, 0, 7005, 7005};
	request.queue = 1;
	assert_int_equal(try_remote(&request, &other), 0);
	assert_int_equal(steer(other, KERNELS, true), 0);
	assert_false(kernel_answers(7001));
	close_remote(other);
	await_told(&helper, "queue 1: taken back");
	assert_false(kernel_answers(7001));
	close_remote(grant);
	await_told(&helper, "queue 0: taken back");
	await_no_program();
	assert_true(kernel_answers(7001));
	end_by(&helper, SIGTERM);
}

/* An XDP socket that goes over, and what its grant may steer. */
static void test_remote(void **state)
{
	(void)state;
	NEED_PRIVILEGE();

	static const struct {
		const char *address;
		int error;
		const char *words;
	} cases[] = {
		{OURS, 0, ""},
		{"2001:db8::7", 0, ""},
		{"233.252.0.1", 0, ""},
		{KERNELS, -EACCES, "the kernel's own"},
		{"127.0.0.1", -EACCES, "the kernel's own"},
		{"10.9.7.255", -EACCES, "a broadcast that the kernel listens to"},
		{"255.255.255.255", -EACCES, "a broadcast that the kernel listens to"},
		{"224.0.0.1", -EACCES, "a group that the kernel is in"},
	};
	struct process helper = ready_helper(anybody);
	struct grant_request request = make_request();
	struct grant *grant;
	struct grant *other;

	assert_int_equal(try_remote(&request, &grant), 0);
	assert_told("xdp-helper: vM: ");
	assert_false(grant->zero_copy);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(steer(grant, cases[i].address, true), cases[i].error);
		assert_told(cases[i].words);
	}
	assert_int_equal(steer(grant, OURS, false), 0);
	assert_int_equal(try_remote(&request, &other), -EBUSY);
	assert_told("another socket is bound to this queue");
	request.queue = 100;
	assert_int_not_equal(try_remote(&request, &other), 0);
	assert_told("queue");
	(void)snprintf(request.interface, sizeof(request.interface), "vX");
	assert_int_equal(try_remote(&request, &other), -EACCES);
	assert_told("interface vX: not allowed");
	close_remote(grant);
	await_told(&helper, "taken back");
	await_no_program();
	end_by(&helper, SIGTERM);
}

/* Garbage, and many who say nothing: others are served all the same. */
static void test_hostile(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	struct process helper = ready_helper(anybody);
	struct grant_request request = make_request();
	struct grant *grant;
	int idle[200];
	char bytes[4096];

	memset(bytes, 0xa5, sizeof(bytes));
	for (size_t i = 0; i < sizeof(idle) / sizeof(*idle); i++) {
		idle[i] = raw_connect();
		if (i % 2)
			(void)send(idle[i], bytes, 1 + i * 20, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	assert_int_equal(try_remote(&request, &grant), 0);
	await_told(&helper, "not a request of this version");
	await_told(&helper, "let go: too many connections wait");
	assert_int_equal(steer(grant, OURS, true), 0);
	for (size_t i = 0; i < sizeof(idle) / sizeof(*idle); i++)
		close(idle[i]);
	assert_int_equal(steer(grant, OURS, false), 0);
	close_remote(grant);
	end_by(&helper, SIGTERM);
	assert_true(strlen(read_log(&helper)) < 32768);
}

/* Who connects and says nothing is let go after some seconds. */
static void test_silent(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	struct process helper = ready_helper(anybody);
	int fd = raw_connect();
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	char byte;

	assert_int_equal(poll(&wait, 1, NET_WAIT_S * 1000), 1);
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	close(fd);
	end_by(&helper, SIGTERM);
}

/* A helper that does not answer is not waited for longer than some seconds, and what it answers
 * later is not taken for an answer to something else. */
static void test_stopped(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	struct process helper = ready_helper(anybody);
	struct grant_request request = make_request();
	struct grant *grant;

	assert_int_equal(try_remote(&request, &grant), 0);
	assert_ok(kill(helper.pid, SIGSTOP));
	uint64_t start_ns = net_now_ns();
	assert_int_equal(steer(grant, KERNELS, true), -ETIMEDOUT);
	assert_told("no answer: Connection timed out");
	assert_true(net_now_ns() - start_ns < NET_WAIT_S * 1000000000ULL);
	assert_ok(kill(helper.pid, SIGCONT));
	assert_int_equal(steer(grant, OURS, true), 0);
	assert_int_equal(steer(grant, KERNELS, true), -EACCES);
	assert_told("the kernel's own");
	close_remote(grant);
	end_by(&helper, SIGTERM);
}

static void test_life(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	struct process helper = ready_helper(anybody);
	struct stat file;

	/* CAP_NET_ADMIN, NET_RAW, IPC_LOCK, SYS_ADMIN, PERFMON, BPF */
	const uint64_t most =
		1ULL << 12 | 1ULL << 13 | 1ULL << 14 | 1ULL << 21 | 1ULL << 38 | 1ULL << 39;
	assert_int_equal(status_of(helper.pid, "CapEff:", 16) & ~most, 0);
	assert_int_equal(status_of(helper.pid, "CapPrm:", 16) & ~most, 0);
	assert_int_equal(status_of(helper.pid, "NoNewPrivs:", 10), 1);
	struct process second = start_helper(anybody);
	assert_int_not_equal(await_end(&second), 0);
	await_told(&second, "another one listens there");

	/* killed: what it left is replaced */
	struct process app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");
	await_echo(OURS, 7000, &app);
	end_by(&helper, SIGKILL);
	await_no_program();
	assert_kernels();
	assert_int_equal(stat(path, &file), 0);
	end_by(&app, SIGKILL);
	const char *const alone[] = {"--mode", "0666", "--alone", NULL};
	helper = ready_helper(alone);
	assert_int_equal(status_of(helper.pid, "CapEff:", 16) & (1ULL << 21), 0);

	/* ended: everything is taken down */
	app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");
	await_echo(OURS, 7000, &app);
	end_by(&helper, SIGTERM);
	await_no_program();
	assert_int_equal(stat(path, &file), -1);
	end_by(&app, SIGKILL);
}

/* An address that the kernel gets while it is steered is the kernel's from then on. */
static void test_kernel_gets_address(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	struct process helper = ready_helper(anybody);
	struct process app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");

	await_echo(OURS, 7000, &app);
	netns_run("nsenter --net=/proc/%d/fd/%d ip addr add " OURS "/24 dev vM", (int)getpid(),
		  machine);
	await_told(&helper, "address " OURS ": the kernel has it now");
	await_told(&app, "address " OURS ": the kernel's own");
	netns_run("ip neigh flush dev vK; ping -n -q -c 1 -w 10 -i 0.05 " OURS " >/dev/null");
	assert_int_equal(try_connect(OURS, 7000, 1000), -1);
	netns_run("nsenter --net=/proc/%d/fd/%d ip addr del " OURS "/24 dev vM", (int)getpid(),
		  machine);
	await_echo(OURS, 7000, &app);
	end_by(&app, SIGKILL);
	await_no_program();
	end_by(&helper, SIGTERM);
}

/* A socket that a service manager made and passes, to a helper that is not root: who may connect is
 * said by the socket's file. */
static void test_passed(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *const environment[] = {"LISTEN_FDS", "1", NULL};
	const char *const args[] = {"--interface", "vM", NULL};
	struct stat file;

	memcpy(address.sun_path, path, strlen(path) + 1);
	passed = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_ok(passed);
	assert_int_equal(bind(passed, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(passed, 8), 0);
	assert_int_equal(chown(path, 0, NOBODY), 0);
	assert_int_equal(chmod(path, 0660), 0);
	struct process helper = start("demi-xdp-helper", false, environment, args);
	close(passed);
	passed = -1;
	struct process app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");
	await_echo(OURS, 7000, &app);
	assert_int_equal(status_of(helper.pid, "Uid:", 10), HELPER);
	assert_kernels();
	end_by(&app, SIGKILL);
	end_by(&helper, SIGTERM);
	assert_int_equal(stat(path, &file), 0); /* not ours to remove */
	assert_int_equal(unlink(path), 0);
	await_no_program();
}

/* The application outlives its helper, be it ended or killed, and its connections do too. */
static void test_another_helper(void **state)
{
	(void)state;
	NEED_PRIVILEGE();
	struct process helper = ready_helper(anybody);
	struct process app = start_app(OURS, "7000", "DEMI_XDP_QUEUE", "0");

	await_echo(OURS, 7000, &app);
	int fd = try_connect(OURS, 7000, NET_WAIT_S * 1000);
	assert_true(fd >= 0);
	for (int i = 0; i < 2; i++) {
		echo_on(fd);
		end_by(&helper, i ? SIGKILL : SIGTERM);
		await_told(&app, "xdp-helper went away");
		await_told(&app,
			   i ? "Connection refused: start" : "No such file or directory: start");
		await_no_program();
		assert_kernels();
		assert_int_equal(try_connect(OURS, 7000, 200), -1);
		helper = ready_helper(anybody);
		await_told(&helper, "interface vM, queue 0: taken on");
		echo_on(fd);
		assert_kernels();
	}
	/* one that refuses is asked again, and told of once */
	end_by(&helper, SIGTERM);
	const char *const others[] = {"--mode", "0666", "--addresses", SECOND, NULL};
	helper = ready_helper(others);
	await_told(&app, "address " OURS ": not allowed");
	end_by(&helper, SIGTERM);
	helper = ready_helper(anybody);
	await_told(&helper, "interface vM, queue 0: taken on");
	echo_on(fd);
	close(fd);
	end_by(&app, SIGKILL);
	await_no_program();
	end_by(&helper, SIGTERM);
}

/* ---- the site ---- */

static void open_site(void)
{
	struct sockaddr_un place = {.sun_family = AF_UNIX};

	machine = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_ok(machine);
	assert_true(netns_enter());
	/* vK sends by one queue: everything arrives on the first of vM */
	netns_run("ip link add vK numtxqueues 1 numrxqueues 1 type veth peer name vM numtxqueues 2 "
		  "numrxqueues 2 netns /proc/%d/fd/%d",
		  (int)getpid(), machine);
	netns_run("ip link set vK up && ip addr add 10.9.7.9/24 dev vK");
	netns_run("ethtool -K vK tx off tso off gso off gro off >/dev/null 2>&1");
	const int self = (int)getpid();
	netns_run("nsenter --net=/proc/%d/fd/%d sh -c 'ip link add vN type veth peer name vO; "
		  "ip link set vM up; ip addr add " KERNELS "/24 brd + dev vM'",
		  self, machine);

	(void)snprintf(directory, sizeof(directory), "/tmp/xdp_helper_test.XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chmod(directory, 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/xdp.sock", directory);
	notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_ok(notify);
	(void)snprintf(place.sun_path, sizeof(place.sun_path), "%s/notify", directory);
	assert_int_equal(bind(notify, (struct sockaddr *)&place, sizeof(place)), 0);
}

static int set_up(void **state)
{
	const char *demi = getenv("DEMI");

	(void)state;
	privileged = demi && netns_enter();
	if (!privileged)
		return 0;
	(void)snprintf(build, sizeof(build), "%.*s", (int)(strrchr(demi, '/') - demi), demi);
	open_site();
	return 0;
}

static int take_down(void **state)
{
	char command[128];

	(void)state;
	if (!privileged)
		return 0;
	(void)snprintf(command, sizeof(command), "rm -r %s", directory);
	netns_run("%s", command);
	close(notify);
	close(machine);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_echo_generic, kill_live),
		cmocka_unit_test_teardown(test_echo_native, kill_live),
		cmocka_unit_test_teardown(test_applications, kill_live),
		cmocka_unit_test_teardown(test_application_refused, kill_live),
		cmocka_unit_test_teardown(test_admission, kill_live),
		cmocka_unit_test_teardown(test_ports, kill_live),
		cmocka_unit_test_teardown(test_remote, kill_live),
		cmocka_unit_test_teardown(test_hostile, kill_live),
		cmocka_unit_test_teardown(test_silent, kill_live),
		cmocka_unit_test_teardown(test_stopped, kill_live),
		cmocka_unit_test_teardown(test_life, kill_live),
		cmocka_unit_test_teardown(test_kernel_gets_address, kill_live),
		cmocka_unit_test_teardown(test_passed, kill_live),
		cmocka_unit_test_teardown(test_another_helper, kill_live),
	};

	return test_run_group("xdp_helper", tests, sizeof(tests) / sizeof(*tests), set_up,
			      take_down);
}
