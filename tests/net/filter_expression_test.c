/* SPDX-License-Identifier: MIT
 * tests/net/filter_expression_test.c - demi_filter_expression: over every kind of queue on the CPU;
 * and over catpowder on a veth pair, where the device drops what does not pass: the same datagrams
 * are popped as without, what is dropped never reaches the instance, and `demi stat` tells.
 */
#include "support/net.h"

#include "api/instance.h"
#include "support/child.h"
#include "support/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool privileged;
static char lines[4096]; /* of the log */

static void keep_lines(void *arg, enum demi_log_level level, const char *message)
{
	size_t used = strlen(lines);

	(void)arg;
	(void)level;
	(void)snprintf(lines + used, sizeof(lines) - used, "%s\n", message);
}

static const struct timespec no_time;

/* ---- helpers ---- */

static int filtered(int qd, const char *expression)
{
	int derived;

	assert_int_equal(demi_filter_expression(&derived, qd, expression), 0);
	return derived;
}

static void close_qd(int qd)
{
	assert_int_equal(demi_close(qd), 0);
}

static bool document_has(const char *words)
{
	size_t bytes;
	char *text = stat_document(thread_state.current, 0, &bytes);

	assert_non_null(text);
	bool found = strstr(text, words) != NULL;
	free(text);
	return found;
}

static void put(int qd, const char *text)
{
	demi_qresult_t qr = net_wait(net_push_bytes(qd, text, (uint32_t)strlen(text)));

	assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
}

static void get(int qd, const char *text)
{
	net_pop_bytes(qd, text, (uint32_t)strlen(text));
}

/* ---- on the CPU ---- */

static void test_memory_queue(void **state)
{
	(void)state;
	int qd;
	assert_int_equal(demi_queue(&qd), 0);
	int only = filtered(qd, "len < 4 && data[0] != 0x62");
	assert_true(
		document_has("\"filter\":\"cpu\",\"expression\":\"len < 4 && data[0] != 0x62\""));
	put(qd, "long");
	put(qd, "b");
	put(qd, "abc");
	get(only, "abc");
	/* and pushes */
	net_wait_failed(net_push_bytes(only, "bb", 2), EPERM);
	put(only, "aa");
	get(only, "aa");
	/* what no element here has */
	int from = filtered(only, "ip.version == 4");
	put(qd, "a");
	put(from, "c"); /* a push that is not asked for where it came from */
	demi_qtoken_t qt = net_pop(from);
	net_assert_pending(qt);
	close_qd(from);
	net_wait_failed(qt, ECANCELED);
	close_qd(only);
	put(qd, "long");
	get(qd, "long");
	close_qd(qd);
}

static void test_what_is_refused(void **state)
{
	(void)state;

	static const struct {
		const char *expression;
		const char *said;
	} cases[] = {
		{"", "filter: character 1: a field must stand here"},
		{"udp.src == 70000",
		 "filter: character 12: udp.src is at most 65535: \"udp.src == "},
		{"len = 3", "filter: character 5: &&, || or the end must stand here"},
		{"udp.dst == 5", "udp.dst is what a socket is bound to"},
		{"ip.dst == 10.0.0.1", "is what a socket is bound to"},
	};

	int qd;
	int derived = -7;
	assert_int_equal(demi_queue(&qd), 0);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		lines[0] = '\0';
		assert_int_equal(demi_filter_expression(&derived, qd, cases[i].expression), EINVAL);
		if (!strstr(lines, cases[i].said))
			fail_msg("%s: not told: %s, but: %s", cases[i].expression, cases[i].said,
				 lines);
	}
	assert_int_equal(derived, -7);
	const char *volatile none = NULL; /* the compiler warns of a plain NULL */
	int *volatile nowhere = NULL;
	assert_int_equal(demi_filter_expression(&derived, qd, none), EINVAL);
	assert_int_equal(demi_filter_expression(nowhere, qd, "len"), EINVAL);
	assert_int_equal(demi_filter_expression(&derived, -1, "len"), EBADF);
	int only = filtered(qd, "len");
	assert_int_equal(demi_filter_expression(&derived, qd, "len"), EBUSY);
	close_qd(only);
	/* bound to a port, and to no address */
	const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = 0};
	int udp = net_socket(AF_INET, SOCK_DGRAM);
	assert_int_equal(demi_filter_expression(&derived, udp, "udp.dst == 5"), EINVAL);
	assert_int_equal(demi_bind(udp, (const struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(demi_filter_expression(&derived, udp, "ip.dst == 10.0.0.1"), EINVAL);
	close_qd(filtered(udp, "udp.dst == 5"));
	close_qd(udp);
	close_qd(qd);
}

static void send_plain(int fd, const struct net_address *to, const void *bytes, size_t length)
{
	assert_int_equal(sendto(fd, bytes, length, 0, &to->any, to->length), length);
}

/* What each says of a datagram that comes from 127.0.0.1 or ::1. */
static void check_loopback(int domain, const char *yes, const char *no)
{
	char text[128];
	int qd = net_bound(domain, SOCK_DGRAM);
	struct net_address here = net_local(qd);
	int plain = socket(domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_return_code(plain, errno);
	(void)snprintf(text, sizeof(text), "%s && udp.dst == %u", yes, net_port(&here));
	int only = filtered(qd, text);
	send_plain(plain, &here, "x", 1);
	get(only, "x");
	(void)snprintf(text, sizeof(text), "%s || data[0] == 0x79", no);
	int second = filtered(only, text);
	assert_true(document_has("\"filter\":\"cpu\""));
	send_plain(plain, &here, "x", 1);
	send_plain(plain, &here, "y", 1);
	get(second, "y");
	close_qd(second);
	close_qd(only);
	close_qd(qd);
	(void)close(plain);
}

static void test_kernel_sockets(void **state)
{
	(void)state;
	check_loopback(AF_INET, "ip.src == 127.0.0.0/8 && ip.dst == 127.0.0.1 && ip.version == 4",
		       "ip.src != 127.0.0.1");
	if (net_has_ipv6())
		check_loopback(AF_INET6, "ip.src == ::1 && ip.dst == ::1 && ip.version == 6",
			       "ip.src == 127.0.0.0/8");
}

/* A stream has bytes, and no datagrams. */
static void test_streams(void **state)
{
	(void)state;
	struct net_pair pair = net_tcp_pair(AF_INET);
	int only = filtered(pair.server, "data[0] == 0x61");
	put(pair.client, "abc");
	get(only, "abc");
	close_qd(only);
	only = filtered(pair.server, "udp.src > 0");
	put(pair.client, "abc");
	demi_qtoken_t qt = net_pop(only);
	net_assert_pending(qt);
	assert_int_equal(demi_shutdown(pair.client, SHUT_WR), 0);
	demi_qresult_t qr = net_wait(qt); /* the end is not asked for */
	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	close_qd(only);
	net_close_pair(&pair);
}

/* ---- over a device ---- */

#define OURS  "10.9.0.2"
#define PORT  7000
#define COUNT 300
#define LONG  3000 /* in fragments */
#define MARK  77   /* bytes */

static const char expression[] =
	"udp.dst == 7000 && ip.src == 10.9.0.0/30 && (len >= 100 && len < 600 || "
	"len > 2000 && data[0] & 1) || len == 77";

static bool should_pass(uint32_t i, uint32_t length)
{
	return (length >= 100 && length < 600) || (length > 2000 && (i & 1)) || length == MARK;
}

static uint32_t length_of(uint32_t i)
{
	uint32_t length = i * 37 % 1400;

	return i % 10 == 3 || i % 10 == 6 ? LONG : length == MARK ? MARK + 1 : length;
}

static char helper[128]; /* the helper's socket, if one is asked */
static pid_t helper_pid;

static void set(const char *name, const char *value)
{
	assert_int_equal(setenv(name, value, 1), 0);
}

static void prepare(const char *device, const char *mode)
{
	(void)netns_try("ip link del vF 2>/dev/null");
	netns_run("ip link add vF type veth peer name vP");
	netns_run("ethtool -K vP tx off tso off gso off >/dev/null");
	netns_run("ip link set vF up && ip link set vP up && ip addr add 10.9.0.1/24 dev vP");
	set("LIBOS", "catpowder");
	set("DEMI_DEVICE", device);
	set("DEMI_INTERFACE", "vF");
	set("DEMI_ADDRESSES", OURS "/24");
	set("DEMI_XDP_MODE", mode);
	set("DEMI_XDP_MEMORY_BYTES", "8388608");
	set("DEMI_XDP_HELPER", helper);
}

static void leave_device(void)
{
	set("LIBOS", "catnap");
	set("DEMI_XDP_HELPER", "");
	netns_run("ip link del vF");
}

static void finish(void **state)
{
	(void)net_fini(state);
	leave_device();
}

static struct engine_info engine_info(void)
{
	struct engine *engine = thread_state.current->engine;
	struct engine_info info;

	engine->ops->describe(engine, &info);
	return info;
}

static uint64_t received_frames(void)
{
	return engine_info().rx_frames;
}

static struct net_address ours(void)
{
	struct net_address address = {.in = {.sin_family = AF_INET, .sin_port = htons(PORT)},
				      .length = sizeof(struct sockaddr_in)};

	assert_int_equal(inet_pton(AF_INET, OURS, &address.in.sin_addr), 1);
	return address;
}

static int bound(bool shared)
{
	const struct net_address here = ours();
	const int yes = shared;
	int qd = net_socket(AF_INET, SOCK_DGRAM);

	assert_int_equal(demi_setsockopt(qd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes)), 0);
	assert_int_equal(demi_bind(qd, &here.any, here.length), 0);
	return qd;
}

static void send_one(int plain, uint32_t i, uint32_t length)
{
	const struct net_address to = ours();
	uint8_t bytes[LONG] = {(uint8_t)i, (uint8_t)(i >> 8)};

	send_plain(plain, &to, bytes, length);
}

/* Pops what there is, within the time; sets marks in got by the number of each, and returns whether
 * the mark came.  *qt is pending before and behind. */
static bool pop_some(int qd, demi_qtoken_t *qt, bool got[COUNT], const struct timespec *timeout)
{
	demi_qresult_t qr;

	while (demi_wait(&qr, *qt, timeout) == 0) {
		assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
		demi_sgarray_t sga = qr.qr_value.sga;
		const demi_sgaseg_t first = sga.sga_segs[0];
		const uint8_t *bytes = first.sgaseg_buf;
		bool mark = net_array_bytes(&sga) == MARK;
		uint32_t i = first.sgaseg_len > 1 ? bytes[0] | (uint32_t)bytes[1] << 8 : 0;
		assert_true(i < COUNT);
		if (!mark && first.sgaseg_len > 1)
			got[i] = true;
		assert_int_equal(demi_sgafree(&sga), 0);
		*qt = net_pop(qd);
		if (mark)
			return true;
	}
	return false;
}

/* The mark comes, in the end: neighbours find each other first, or another helper. */
static void await_mark(int qd, int plain, demi_qtoken_t *qt)
{
	const struct timespec moment = {.tv_nsec = 100000000};
	bool got[COUNT];

	for (uint32_t tries = 0; tries < 100; tries++) {
		send_one(plain, 0, MARK);
		if (pop_some(qd, qt, got, &moment))
			return;
	}
	fail_msg("nothing arrives");
}

/* All of it comes and goes; marks behind it that are late do not matter. */
static void exchange(int qd, int plain, demi_qtoken_t *qt, bool got[COUNT])
{
	const struct timespec long_time = {.tv_sec = NET_WAIT_S};

	memset(got, 0, COUNT * sizeof(*got));
	for (uint32_t i = 0; i < COUNT; i++) {
		send_one(plain, i, length_of(i));
		(void)pop_some(qd, qt, got, &no_time);
	}
	send_one(plain, 0, MARK);
	assert_true(pop_some(qd, qt, got, &long_time));
}

static void check_got(const bool got[COUNT])
{
	for (uint32_t i = 0; i < COUNT; i++) {
		uint32_t length = length_of(i);
		if (length > 1 && got[i] != should_pass(i, length))
			fail_msg("datagram %u of %u bytes: %s", i, length,
				 got[i] ? "came" : "lost");
	}
}

/* Frames that have to come up: what passes, and all fragments. */
static uint64_t frames_needed(void)
{
	uint64_t frames = 1;

	for (uint32_t i = 0; i < COUNT; i++)
		frames += length_of(i) == LONG ? 3 : should_pass(i, length_of(i));
	return frames;
}

static void end_helper(void)
{
	if (helper_pid > 0)
		test_kill(helper_pid);
	helper_pid = 0;
}

static void start_helper(void)
{
	const char *demi = getenv("DEMI");
	char program[256];
	const char *const argv[] = {program, "--interface", "vF", "--socket", helper, NULL};
	const int none = -1;

	(void)snprintf(program, sizeof(program), "%s-xdp-helper", demi ? demi : "build/demi");
	(void)unlink(helper);
	helper_pid = test_spawn(argv, &none);
	assert_true(helper_pid > 0);
	for (uint32_t tries = 0; access(helper, F_OK) != 0; tries++) {
		assert_true(tries < NET_WAIT_S * 100);
		net_sleep_ms(10);
	}
}

static void finish_helper(void)
{
	end_helper();
	(void)unlink(helper);
	helper[0] = '\0';
	leave_device();
}

/* A few frames beside ours: ARP, groups. */
#define OTHERS 16

static void check_device(const char *where, bool drops)
{
	bool got[COUNT];
	char words[64];
	int qd = bound(false);
	int only = filtered(qd, expression);
	int plain = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_return_code(plain, errno);
	demi_qtoken_t qt = net_pop(only);
	await_mark(only, plain, &qt);
	(void)snprintf(words, sizeof(words), "\"filter\":\"%s\",\"expression\"", where);
	assert_true(document_has(words));
	uint64_t before = received_frames();
	exchange(only, plain, &qt, got);
	uint64_t frames = received_frames() - before;
	check_got(got);
	if (drops && (frames < frames_needed() || frames > frames_needed() + OTHERS))
		fail_msg("%llu frames came up, not %llu", (unsigned long long)frames,
			 (unsigned long long)frames_needed());
	if (!drops)
		assert_true(frames >= COUNT);
	printf("# %s, %s: %llu frames of %u datagrams came up, %llu had to\n", where,
	       engine_info().mode, (unsigned long long)frames, COUNT + 1,
	       (unsigned long long)frames_needed());
	/* once it is closed all come */
	close_qd(only);
	net_wait_failed(qt, ECANCELED);
	assert_false(document_has("\"filter\""));
	qt = net_pop(qd);
	send_one(plain, 0, 5);
	demi_qresult_t qr = net_wait(qt);
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 5);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	(void)close(plain);
	close_qd(qd);
}

#define NEED_PRIVILEGE                                                           \
	do {                                                                     \
		if (!privileged)                                                 \
			skip_because("privilege: network interfaces need root"); \
	} while (0)

static void check_over(void **state, const char *device, const char *mode, const char *where)
{
	prepare(device, mode);
	assert_int_equal(net_init(state), 0);
	demi_set_log(keep_lines, NULL);
	check_device(where, strcmp(where, "xdp") == 0);
	finish(state);
}

static void test_a_device_without(void **state)
{
	NEED_PRIVILEGE;
	check_over(state, "afpacket", "auto", "cpu");
}

static void test_native(void **state)
{
	NEED_PRIVILEGE;
	check_over(state, "afxdp", "native", "xdp");
}

static void test_generic(void **state)
{
	NEED_PRIVILEGE;
	check_over(state, "afxdp", "generic", "xdp");
}

/* Middleware sees every frame. */
static void test_middleware(void **state)
{
	NEED_PRIVILEGE;
	set("DEMI_FAULT", "rx-duplicate=0%");
	check_over(state, "afxdp", "generic", "cpu");
	set("DEMI_FAULT", "");
}

/* Another socket comes to the port: the CPU goes on alone.  Connected, too. */
static void test_the_port_is_shared(void **state)
{
	NEED_PRIVILEGE;
	prepare("afxdp", "generic");
	assert_int_equal(net_init(state), 0);
	int qd = bound(true);
	int only = filtered(qd, "len == 77");
	assert_true(document_has("\"filter\":\"xdp\",\"expression\""));
	int other = bound(true);
	assert_true(document_has("\"filter\":\"cpu\",\"expression\""));
	close_qd(other);
	close_qd(only);
	only = filtered(qd, "len == 77");
	assert_true(document_has("\"filter\":\"xdp\",\"expression\""));
	/* a filter on a filter is the CPU's */
	demi_qtoken_t qt;
	int second = filtered(only, "len != 3");
	assert_true(document_has("\"filter\":\"cpu\",\"expression\":\"len != 3\""));
	close_qd(qd);
	assert_false(document_has("\"filter\":\"xdp\""));
	assert_int_equal(demi_pop(&qt, second), ECANCELED);
	close_qd(second);
	close_qd(only);
	finish(state);
}

/* ---- instances that share a queue, by the program ---- */

#define FLOWS      48
#define FLOW_FIRST 5000 /* source ports */
#define GOOD       100  /* bytes of what passes, and of what does not */
#define BAD        50

struct member {
	struct demi *demi;
	int qd;
	int popped; /* the queue that pops are asked of */
	demi_qtoken_t qt;
	bool good[FLOWS];
	bool bad[FLOWS];
};

static void open_member(struct member *member, bool filters)
{
	const struct demi_args args = {.argc = 0};

	*member = (struct member){.qd = -1};
	assert_int_equal(demi_create(&member->demi, &args), 0);
	assert_int_equal(demi_enter(member->demi), 0);
	member->qd = bound(false);
	member->popped = filters ? filtered(member->qd, "len == 100") : member->qd;
	member->qt = net_pop(member->popped);
	assert_true(document_has("\"filter\":\"xdp\"") == filters);
}

static void pop_member(struct member *member)
{
	demi_qresult_t qr;

	assert_int_equal(demi_enter(member->demi), 0);
	while (demi_wait(&qr, member->qt, &no_time) == 0) {
		demi_sgarray_t sga = qr.qr_value.sga;
		struct net_address from = {.length = sizeof(from.room)};
		assert_int_equal(demi_sgaaddr(&sga, &from.any, &from.length), 0);
		uint32_t flow = net_port(&from) - FLOW_FIRST;
		assert_true(flow < FLOWS);
		*(net_array_bytes(&sga) == GOOD ? &member->good[flow] : &member->bad[flow]) = true;
		assert_int_equal(demi_sgafree(&sga), 0);
		member->qt = net_pop(member->popped);
	}
}

static void close_member(struct member *member)
{
	assert_int_equal(demi_enter(member->demi), 0);
	close_qd(member->qd);
	assert_int_equal(demi_destroy(member->demi), 0);
}

static uint32_t count_good(const struct member members[2])
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < FLOWS; i++)
		count += members[0].good[i] + members[1].good[i];
	return count;
}

static void send_flow(uint32_t flow, uint32_t length)
{
	const struct sockaddr_in from = {.sin_family = AF_INET,
					 .sin_port = htons((uint16_t)(FLOW_FIRST + flow))};
	int plain = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_return_code(plain, errno);
	assert_int_equal(bind(plain, (const struct sockaddr *)&from, sizeof(from)), 0);
	send_one(plain, 0, length);
	(void)close(plain);
}

/* Both are bound to the port; the filter of one is nothing to the other. */
static void test_instances_that_share(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	struct member members[2];
	prepare("afxdp", "generic");
	set("DEMI_XDP_QUEUES", "2");
	set("DEMI_XDP_SPREAD", "program");
	set("DEMI_STAT_SOCKET", "off");
	open_member(&members[0], true);
	open_member(&members[1], false);
	for (uint32_t tries = 0; count_good(members) < FLOWS; tries++) {
		for (uint32_t flow = 0; flow < FLOWS; flow++) {
			send_flow(flow, BAD);
			send_flow(flow, GOOD);
			pop_member(&members[0]);
			pop_member(&members[1]);
		}
		assert_true(tries < 100);
	}
	uint32_t at_first = 0;
	for (uint32_t flow = 0; flow < FLOWS; flow++) {
		at_first += members[0].good[flow];
		assert_true(members[0].good[flow] != members[1].good[flow]);
		assert_false(members[0].bad[flow]);
		assert_true(members[1].bad[flow] == members[1].good[flow]);
	}
	assert_true(at_first > 0 && at_first < FLOWS);
	close_member(&members[1]);
	close_member(&members[0]);
	set("DEMI_XDP_QUEUES", "1");
	set("DEMI_XDP_SPREAD", "auto");
	leave_device();
}

/* ---- the helper ---- */

/* The helper has the privilege; the next one goes on with the filter. */
static void test_a_helper(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	bool got[COUNT];
	(void)snprintf(helper, sizeof(helper), "/tmp/demi-filter-%d.sock", (int)getpid());
	prepare("afxdp", "generic");
	start_helper();
	lines[0] = '\0';
	demi_set_log(keep_lines, NULL);
	const struct demi_args args = {.argc = 0};
	assert_int_equal(demi_set_config("stat_socket", "off"), 0);
	if (demi_init(&args) && strstr(lines, "this takes Linux 6.4")) {
		finish_helper();
		skip_because("kernel: a helper takes Linux 6.4");
	}
	check_device("xdp", true);
	int qd = bound(false);
	int only = filtered(qd, expression);
	int plain = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	demi_qtoken_t qt = net_pop(only);
	end_helper();
	start_helper();
	await_mark(only, plain, &qt);
	assert_true(document_has("\"filter\":\"xdp\",\"expression\""));
	uint64_t before = received_frames();
	exchange(only, plain, &qt, got);
	check_got(got);
	assert_true(received_frames() - before <= frames_needed() + OTHERS);
	(void)close(plain);
	close_qd(only);
	net_wait_failed(qt, ECANCELED);
	close_qd(qd);
	assert_int_equal(demi_fini(), 0);
	finish_helper();
}

static int init(void **state)
{
	int err = net_init(state);

	demi_set_log(keep_lines, NULL);
	return err;
}

#define ON_THE_CPU(test) cmocka_unit_test_setup_teardown(test, init, net_fini)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ON_THE_CPU(test_memory_queue),
		ON_THE_CPU(test_what_is_refused),
		ON_THE_CPU(test_kernel_sockets),
		ON_THE_CPU(test_streams),
		cmocka_unit_test(test_a_device_without),
		cmocka_unit_test(test_native),
		cmocka_unit_test(test_generic),
		cmocka_unit_test(test_middleware),
		cmocka_unit_test(test_the_port_is_shared),
		cmocka_unit_test(test_instances_that_share),
		cmocka_unit_test(test_a_helper),
	};

	privileged = netns_enter();
	int status = test_run("filter_expression", tests);
	end_helper();
	return status;
}
