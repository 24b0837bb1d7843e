/* tests/net/steer_test.c: which frames the XDP program steers: its rules in user space, and the
 * program itself in the kernel, by test runs that send nothing.
 */
#include "support/test.h"

#include "base/prng.h"
#include "net/steer_frames.h"
#include "netdev/afxdp/steer.h"
#include "support/netns.h"
#include "support/seed.h"
#include "support/steer_model.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOTS_USED  64 /* all targets are below */
#define QUEUES      4
#define RUNS_RANDOM 20000

/* The program in the kernel. */
static struct {
	bool privileged;
	struct steer *steer;
	int index;
	int program;
	int socket;
	bool filled[SLOTS_USED];
} kernel;

#define NEED_PRIVILEGE                                                                       \
	do {                                                                                 \
		if (!kernel.privileged)                                                      \
			skip_because("privilege: XDP programs need CAP_NET_ADMIN, CAP_BPF"); \
	} while (0)

/* ---- tables ---- */

static struct ip_address address_of(const char *text)
{
	struct ip_address address;
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_from_v4(v4);
	assert_int_equal(inet_pton(AF_INET6, text, address.bytes), 1);
	return address;
}

static void fill_model(void)
{
	bool ports = false;

	memset(&steer_model, 0, sizeof(steer_model));
	for (uint32_t i = 0; i < steer_num_rows; i++) {
		const struct steer_row *row = &steer_rows[i];
		uint64_t entry = row->count ? steer_entry(row->first, row->count) : STEER_SHARED;
		entry |= row->by_hash ? STEER_BY_HASH : 0;
		const struct ip_address address =
			row->address ? address_of(row->address) : ip_from_v4(0);
		if (row->protocol)
			steer_model_port(row->protocol, row->port, entry);
		if (row->address || !ports)
			steer_model_address(&address, entry);
		ports = ports || row->protocol;
	}
}

static void fill_kernel(void)
{
	for (uint32_t i = 0; i < steer_num_rows; i++) {
		const struct steer_row *row = &steer_rows[i];
		const struct steer_target target = {row->first, row->count, row->by_hash};
		if (row->protocol) {
			assert_int_equal(
				steer_port(kernel.steer, row->protocol, row->port, &target), 0);
			continue;
		}
		const struct ip_address address = address_of(row->address);
		assert_int_equal(row->count ? steer_address(kernel.steer, &address, &target)
					    : steer_share(kernel.steer, &address, true),
				 0);
	}
}

/* ---- the program ---- */

static void kernel_open(void)
{
	const struct log silent = {0};
	const struct steer_options options = {
		.interface = "sA", .index = (int)if_nametoindex("sA"), .alone = true};
	LIBBPF_OPTS(bpf_xdp_query_opts, found);

	assert_int_equal(steer_open(&silent, &options, &kernel.steer), 0);
	kernel.index = options.index;
	assert_int_equal(bpf_xdp_query(options.index, 0, &found), 0);
	kernel.program = bpf_prog_get_fd_by_id(found.prog_id);
	assert_true(kernel.program >= 0);
	kernel.socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	assert_true(kernel.socket >= 0);
	memset(kernel.filled, 0, sizeof(kernel.filled));
	fill_kernel();
}

static void kernel_close(void)
{
	(void)close(kernel.socket);
	(void)close(kernel.program);
	steer_close(kernel.steer);
}

static void set_slot(uint16_t slot, bool filled)
{
	if (kernel.filled[slot] != filled)
		assert_int_equal(steer_socket(kernel.steer, slot, filled ? kernel.socket : -1), 0);
	kernel.filled[slot] = filled;
}

/* What the program says of a frame that came by a queue. */
static uint32_t kernel_run(const uint8_t *bytes, uint32_t length, uint32_t queue)
{
	struct xdp_md frame = {.data_end = length,
			       .ingress_ifindex = (uint32_t)kernel.index,
			       .rx_queue_index = queue};
	uint8_t out[4096];
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = bytes, .data_size_in = length,
		    .data_out = out, .data_size_out = sizeof(out), .ctx_in = &frame,
		    .ctx_size_in = sizeof(frame), .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(kernel.program, &run), 0);
	return run.retval;
}

/* ---- checks ---- */

static bool is_slot(int32_t slot, int32_t wanted)
{
	if (wanted == SLOT_HASH)
		return slot >= SLOT_HASH && slot < SLOT_HASH + HASH_COUNT;
	return slot == wanted;
}

/* In memory that ends where the frame does. */
static int32_t model_slot(const uint8_t *bytes, uint32_t length, uint32_t queue)
{
	uint8_t *copy = malloc(length ? length : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	int32_t slot = steer_model_slot(copy, length, queue);
	free(copy);
	return slot;
}

static void check_model(const char *name, const struct steer_frame *frame, int32_t wanted)
{
	int32_t slot = model_slot(frame->bytes, frame->length, 0);

	if (!is_slot(slot, wanted))
		fail_msg("%s: slot %d, not %d", name, slot, wanted);
}

/* Any shorter frame is read no further than it goes; without its addresses it is the kernel's. */
static void check_cut(const char *name, const struct steer_frame *frame, int32_t wanted)
{
	(void)wanted;
	for (uint32_t length = 0; length < frame->length; length++) {
		int32_t slot = model_slot(frame->bytes, length, 0);
		if (length < 14 + 20 && slot != MODEL_KERNEL)
			fail_msg("%s, cut to %u: slot %d", name, length, slot);
	}
}

/* One slot alone has a socket: the one that the frame belongs in. */
static void check_kernel(const char *name, const struct steer_frame *frame, int32_t wanted)
{
	int32_t slot = model_slot(frame->bytes, frame->length, 0);
	struct steer_stat before;
	struct steer_stat after;

	assert_int_equal(steer_stat(kernel.steer, &before), 0);
	if (slot >= 0)
		set_slot((uint16_t)slot, true);
	uint32_t with = kernel_run(frame->bytes, frame->length, 0);
	if (slot >= 0)
		set_slot((uint16_t)slot, false);
	uint32_t without = kernel_run(frame->bytes, frame->length, 0);
	assert_int_equal(steer_stat(kernel.steer, &after), 0);
	bool ours = wanted != FRAME_KERNEL;
	if (!is_slot(slot, wanted) || with != (ours ? XDP_REDIRECT : XDP_PASS) ||
	    without != XDP_PASS || after.steered != before.steered + ours ||
	    after.no_socket != before.no_socket + ours ||
	    after.passed != before.passed + (ours ? 0 : 2))
		fail_msg("%s: %u with a socket in slot %d, %u without", name, with, slot, without);
}

/* ---- tests ---- */

static void test_the_rules_are_as_written(void **state)
{
	(void)state;
	fill_model();
	steer_frames_each(check_model);
	steer_frames_each(check_cut);
}

static void test_the_program_follows_the_rules(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	fill_model();
	kernel_open();
	steer_frames_each(check_kernel);
	kernel_close();
}

/* By queue. */
static void test_queues_have_their_slots(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	struct steer_frame frame;
	fill_model();
	kernel_open();
	steer_frame_ports(&frame, "10.0.0.9", "10.0.0.4", IPPROTO_UDP, 1, 2);
	for (uint16_t queue = 0; queue < QUEUES; queue++) {
		bool has_slot = queue < 2;
		assert_int_equal(model_slot(frame.bytes, frame.length, queue),
				 has_slot ? SLOT_QUEUE + queue : FRAME_NOBODY);
		for (uint16_t slot = 0; slot < QUEUES; slot++) {
			set_slot(SLOT_QUEUE + slot, true);
			assert_int_equal(kernel_run(frame.bytes, frame.length, queue),
					 has_slot && slot == queue ? XDP_REDIRECT : XDP_PASS);
			set_slot(SLOT_QUEUE + slot, false);
		}
	}
	kernel_close();
}

static struct {
	uint32_t count;
	struct steer_frame frames[512];
} all;

static void collect(const char *name, const struct steer_frame *frame, int32_t wanted)
{
	(void)name;
	(void)wanted;
	assert_true(all.count < sizeof(all.frames) / sizeof(*all.frames));
	all.frames[all.count++] = *frame;
}

/* One of the table, damaged; its length. */
static uint32_t make_random(struct prng *prng, struct steer_frame *frame)
{
	*frame = all.frames[prng_below(prng, all.count)];
	for (uint64_t n = prng_below(prng, 4); n > 0; n--) {
		uint64_t at = prng_below(prng, frame->length);
		frame->bytes[at] = prng_below(prng, 2)
					   ? (uint8_t)prng_next(prng)
					   : (uint8_t)(frame->bytes[at] ^ 1 << prng_below(prng, 8));
	}
	return prng_below(prng, 2) ? frame->length
				   : 14 + (uint32_t)prng_below(prng, frame->length - 13);
}

/* The kernel's copy of the rules, as clang and the verifier left them, and ours say the same. */
static void test_random_frames(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	struct steer_frame frame;
	uint32_t runs = test_number("DEMI_STEER_FRAMES", RUNS_RANDOM);
	struct prng prng;
	prng_seed(&prng, test_seed(1));
	all.count = 0;
	steer_frames_each(collect);
	fill_model();
	kernel_open();
	for (uint32_t i = 0; i < runs; i++) {
		uint32_t queue = (uint32_t)prng_below(&prng, QUEUES);
		uint32_t length = make_random(&prng, &frame);
		int32_t slot = model_slot(frame.bytes, length, queue);
		set_slot((uint16_t)prng_below(&prng, SLOTS_USED), prng_below(&prng, 2));
		bool ours = slot >= 0 && kernel.filled[slot];
		if (kernel_run(frame.bytes, length, queue) != (ours ? XDP_REDIRECT : XDP_PASS))
			fail_msg("frame %u: slot %d", i, slot);
	}
	kernel_close();
}

/* ---- spreading ---- */

static void expect_same(const struct steer_frame *a, const struct steer_frame *b)
{
	assert_int_equal(model_slot(a->bytes, a->length, 0), model_slot(b->bytes, b->length, 1));
}

/* Both ways of a flow, an error about it, in one slot; all fragments between two in one. */
static void follow_flow(const char *ours, const char *theirs, uint16_t port, uint32_t seen[4])
{
	struct steer_frame in;
	struct steer_frame out;
	struct steer_frame error;

	steer_frame_ports(&in, theirs, ours, IPPROTO_TCP, port, 80);
	steer_frame_ports(&out, ours, theirs, IPPROTO_TCP, 80, port);
	steer_frame_error(&error, theirs, ours, &out);
	expect_same(&in, &error);
	seen[model_slot(in.bytes, in.length, 0) - SLOT_HASH]++;
	struct steer_frame first = in;
	steer_frame_ports(&out, theirs, ours, IPPROTO_UDP, 7, port);
	steer_frame_fragment(&first, 0x2000);
	steer_frame_fragment(&out, 0x0010);
	expect_same(&first, &out);
}

static void test_flows_stay_together_and_spread(void **state)
{
	(void)state;

	enum { FLOWS = 4000 };

	static const struct {
		const char *ours, *theirs;
	} pairs[] = {{"10.0.0.3", "10.0.0.9"}, {"fd00::3", "fd00::9"}};

	fill_model();
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t seen[HASH_COUNT] = {0};
		for (uint32_t port = 0; port < FLOWS; port++)
			follow_flow(pairs[i].ours, pairs[i].theirs, (uint16_t)(port + 32768), seen);
		for (uint32_t slot = 0; slot < HASH_COUNT; slot++) {
			assert_true(seen[slot] > FLOWS / HASH_COUNT * 9 / 10);
			assert_true(seen[slot] < FLOWS / HASH_COUNT * 11 / 10);
		}
	}
}

/* The other way: what we send hashes as what we receive, if both ends are ours. */
static void test_both_ways_are_the_same(void **state)
{
	(void)state;
	struct steer_frame one;
	struct steer_frame other;
	const struct ip_address address = address_of("10.0.0.9");
	fill_model();
	steer_model_address(&address, steer_entry(SLOT_HASH, HASH_COUNT) | STEER_BY_HASH);
	for (uint16_t port = 1; port < 1000; port++) {
		steer_frame_ports(&one, "10.0.0.9", "10.0.0.3", IPPROTO_UDP, port, 80);
		steer_frame_ports(&other, "10.0.0.3", "10.0.0.9", IPPROTO_UDP, 80, port);
		expect_same(&one, &other);
	}
}

/* ---- the tables in the kernel ---- */

static uint32_t verdict(const char *to, uint16_t port)
{
	struct steer_frame frame;

	steer_frame_ports(&frame, "10.0.0.9", to, IPPROTO_TCP, 1000, port);
	return kernel_run(frame.bytes, frame.length, 0);
}

static void test_what_is_taken_away_is_the_kernels(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	struct ip_address ours = address_of("10.0.0.2");
	struct ip_address shared = address_of("10.0.0.1");
	struct ip_address any = address_of("0.0.0.0");
	kernel_open();
	set_slot(10, true);
	set_slot(41, true);
	assert_int_equal(verdict("10.0.0.2", 9), XDP_REDIRECT);
	assert_int_equal(steer_address(kernel.steer, &ours, NULL), 0);
	assert_int_equal(steer_address(kernel.steer, &ours, NULL), 0);
	assert_int_equal(verdict("10.0.0.2", 9), XDP_PASS);
	assert_int_equal(verdict("10.0.0.1", 80), XDP_REDIRECT);
	assert_int_equal(steer_share(kernel.steer, &shared, false), 0);
	assert_int_equal(verdict("10.0.0.1", 80), XDP_PASS);
	assert_int_equal(steer_share(kernel.steer, &shared, true), 0);
	assert_int_equal(steer_port(kernel.steer, IPPROTO_TCP, 80, NULL), 0);
	assert_int_equal(verdict("10.0.0.1", 80), XDP_PASS);
	assert_int_equal(verdict("0.0.0.0", 80), XDP_REDIRECT);
	assert_int_equal(steer_port(kernel.steer, IPPROTO_UDP, 53, NULL), 0);
	assert_int_equal(steer_port(kernel.steer, IPPROTO_UDP, 53, NULL), 0);
	assert_int_equal(verdict("0.0.0.0", 80), XDP_PASS);
	assert_int_equal(steer_address(kernel.steer, &any, NULL), 0);
	kernel_close();
}

/* Closing the socket empties its slot, as the end of its process does. */
static void test_a_closed_socket_leaves_its_slot(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	kernel_open();
	set_slot(10, true);
	assert_int_equal(verdict("10.0.0.2", 9), XDP_REDIRECT);
	assert_int_equal(close(kernel.socket), 0);
	kernel.socket = -1;
	/* The kernel takes it out in its own time. */
	for (uint32_t i = 0; i < 500 && verdict("10.0.0.2", 9) == XDP_REDIRECT; i++)
		(void)usleep(10000);
	assert_int_equal(verdict("10.0.0.2", 9), XDP_PASS);
	kernel_close();
}

static void test_bounds(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	const struct steer_target none = {.first = 1};
	const struct steer_target last = {.first = STEER_SLOTS - 1, .count = 1};
	const struct steer_target behind = {.first = STEER_SLOTS - 1, .count = 2};
	const struct steer_target one = {.count = 1};
	struct ip_address address = address_of("fd01::");
	uint32_t room = STEER_ADDRESSES - 11; /* those of the table, 0.0.0.0 with them */
	kernel_open();
	assert_int_equal(steer_socket(kernel.steer, STEER_SLOTS, kernel.socket), -EINVAL);
	assert_int_equal(steer_socket(kernel.steer, STEER_SLOTS - 1, kernel.socket), 0);
	assert_int_equal(steer_socket(kernel.steer, 0, -1), 0);
	assert_int_equal(steer_socket(kernel.steer, 0, kernel.program), -ENOTSOCK);
	assert_int_equal(steer_address(kernel.steer, &address, &none), -EINVAL);
	assert_int_equal(steer_address(kernel.steer, &address, &behind), -EINVAL);
	assert_int_equal(steer_port(kernel.steer, IPPROTO_TCP, 1, &none), -EINVAL);
	assert_int_equal(steer_port(kernel.steer, IPPROTO_SCTP, 1, &one), -EINVAL);
	assert_int_equal(steer_port(kernel.steer, IPPROTO_UDP, 65535, &last), 0);
	assert_int_equal(steer_port(kernel.steer, IPPROTO_UDP, 0, &last), 0);
	for (uint32_t i = 0; i < room; i++) {
		address.words[3] = i;
		assert_int_equal(steer_address(kernel.steer, &address, &one), 0);
	}
	address.words[3] = room;
	assert_int_equal(steer_address(kernel.steer, &address, &one), -ENOSPC);
	kernel_close();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_rules_are_as_written),
		cmocka_unit_test(test_the_program_follows_the_rules),
		cmocka_unit_test(test_queues_have_their_slots),
		cmocka_unit_test(test_random_frames),
		cmocka_unit_test(test_flows_stay_together_and_spread),
		cmocka_unit_test(test_both_ways_are_the_same),
		cmocka_unit_test(test_what_is_taken_away_is_the_kernels),
		cmocka_unit_test(test_a_closed_socket_leaves_its_slot),
		cmocka_unit_test(test_bounds),
	};

	kernel.privileged = netns_enter();
	if (kernel.privileged)
		netns_run("ip link add sA numrxqueues 4 numtxqueues 4 type veth peer name sB");
	return test_run("steer", tests);
}
