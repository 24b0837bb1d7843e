/* SPDX-License-Identifier: MIT
 * tests/net/filter_test.c - the filter of a port in the XDP program: the same expressions over the
 * same frames there, by test runs that send nothing, and on the CPU, over what the stack's parsers
 * make of them.
 *
 * What is asked of each frame: the application gets it, or not, just as without the program; and
 * of what the stack could hand over the program drops all that the filter refuses, unless it is
 * one of the kinds that record.h leaves to the CPU.
 */
#include "support/test.h"

#include "base/expression.h"
#include "base/prng.h"
#include "net/wire/ether.h"
#include "net/wire/ip.h"
#include "net/wire/udp.h"
#include "netdev/afxdp/record.h"
#include "netdev/afxdp/steer.h"
#include "support/netns.h"
#include "support/seed.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SLOT = 7, PORT = 53, FRAME_MAX = 256 };

#define EXPRESSIONS 150
#define FRAMES      200 /* for each */

static const char *const ours[] = {"10.0.0.2", "fd00::2"};
static const char *const theirs[2][3] = {{"10.0.0.9", "10.1.2.3", "192.0.2.1"},
					 {"fd00::9", "fd00::1:2", "2001:db8::1"}};

/* The program in the kernel. */
static struct {
	bool privileged;
	struct steer *steer;
	int index;
	int program;
	int socket;
} kernel;

#define NEED_PRIVILEGE                                                                       \
	do {                                                                                 \
		if (!kernel.privileged)                                                      \
			skip_because("privilege: XDP programs need CAP_NET_ADMIN, CAP_BPF"); \
	} while (0)

static struct ip_address address_of(const char *text)
{
	struct ip_address address;
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_from_v4(v4);
	assert_int_equal(inet_pton(AF_INET6, text, address.bytes), 1);
	return address;
}

static void kernel_open(void)
{
	const struct log silent = {0};
	const struct steer_target target = {.first = SLOT, .count = 1};
	const struct steer_options options = {
		.interface = "fA", .index = (int)if_nametoindex("fA"), .alone = true};
	LIBBPF_OPTS(bpf_xdp_query_opts, found);

	assert_int_equal(steer_open(&silent, &options, &kernel.steer), 0);
	kernel.index = options.index;
	assert_int_equal(bpf_xdp_query(options.index, 0, &found), 0);
	kernel.program = bpf_prog_get_fd_by_id(found.prog_id);
	kernel.socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	assert_true(kernel.program >= 0 && kernel.socket >= 0);
	assert_int_equal(steer_socket(kernel.steer, SLOT, kernel.socket), 0);
	for (uint32_t i = 0; i < 2; i++) {
		const struct ip_address address = address_of(ours[i]);
		assert_int_equal(steer_address(kernel.steer, &address, &target), 0);
	}
}

static void kernel_close(void)
{
	(void)close(kernel.socket);
	(void)close(kernel.program);
	steer_close(kernel.steer);
}

/* repeat: so many times.  *ns: what one took. */
static uint32_t kernel_run_timed(const uint8_t *bytes, uint32_t length, int repeat, uint32_t *ns)
{
	struct xdp_md frame = {.data_end = length, .ingress_ifindex = (uint32_t)kernel.index};
	uint8_t out[4096];
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = bytes, .data_size_in = length,
		    .data_out = out, .data_size_out = sizeof(out), .ctx_in = &frame,
		    .ctx_size_in = sizeof(frame), .repeat = repeat);

	assert_int_equal(bpf_prog_test_run_opts(kernel.program, &run), 0);
	*ns = run.duration;
	return run.retval;
}

static uint32_t kernel_run(const uint8_t *bytes, uint32_t length)
{
	uint32_t ns;

	return kernel_run_timed(bytes, length, 1, &ns);
}

static void set_filter(const char *text)
{
	struct expression expression;
	struct expression_error error;

	if (expression_compile(text, &expression, &error))
		fail_msg("%s: character %u: %s", text, error.at, error.text);
	int err = steer_filter(kernel.steer, SLOT, PORT, expression.program, expression.count);
	if (err)
		fail_msg("%s: %s", text, strerror(-err));
}

/* ---- frames ---- */

/* What goes into one. */
struct shape {
	bool v6;
	uint8_t from; /* of theirs */
	bool tagged;
	uint8_t options;   /* words of IPv4 */
	bool extension;    /* IPv6: a header of destination options */
	uint16_t fragment; /* field of a fragment header; 0: none */
	uint8_t protocol;
	uint16_t source;
	uint16_t destination;
	uint16_t bytes;
	int16_t lie;      /* what the UDP length says beyond the truth */
	uint16_t padding; /* behind the packet */
};

struct built {
	uint32_t length;
	uint32_t ip; /* where the IP header is */
	uint8_t bytes[FRAME_MAX];
};

static uint8_t *put(struct built *frame, uint32_t length)
{
	uint8_t *at = frame->bytes + frame->length;

	frame->length += length;
	assert_true(frame->length <= FRAME_MAX);
	memset(at, 0, length);
	return at;
}

static void put_ether(struct built *frame, const struct shape *shape)
{
	static const uint8_t station[6] = {2, 0, 0, 0, 0, 1};
	uint8_t *at = put(frame, 12);

	memcpy(at, station, 6);
	if (shape->tagged) {
		store16(put(frame, 2), ETHER_VLAN);
		store16(put(frame, 2), 7);
	}
	store16(put(frame, 2), shape->v6 ? ETHER_IPV6 : ETHER_IPV4);
	frame->ip = frame->length;
}

static void put_v4(struct built *frame, const struct shape *shape, uint32_t behind)
{
	const struct ip_address from = address_of(theirs[0][shape->from]);
	const struct ip_address to = address_of(ours[0]);
	uint32_t header = 20 + 4U * shape->options;
	uint8_t *at = put(frame, header);

	at[0] = (uint8_t)(0x45 + shape->options);
	store16(at + 2, (uint16_t)(header + behind));
	store16(at + 6, shape->fragment);
	at[8] = 64;
	at[9] = shape->protocol;
	memcpy(at + 12, &from.words[3], 4);
	memcpy(at + 16, &to.words[3], 4);
	memset(at + 20, 1, header - 20); /* no operation */
}

static void put_v6(struct built *frame, const struct shape *shape, uint32_t behind)
{
	const struct ip_address from = address_of(theirs[1][shape->from]);
	const struct ip_address to = address_of(ours[1]);
	uint32_t extra = shape->extension * 8U + (shape->fragment != 0) * 8U;
	uint8_t *at = put(frame, 40);
	uint8_t *next = at + 6;

	at[0] = 0x60;
	store16(at + 4, (uint16_t)(extra + behind));
	at[7] = 64;
	memcpy(at + 8, from.bytes, 16);
	memcpy(at + 24, to.bytes, 16);
	if (shape->extension) {
		*next = IPPROTO_DSTOPTS;
		next = put(frame, 8);
		next[2] = 1; /* padding of 4 bytes */
		next[3] = 4;
	}
	if (shape->fragment) {
		*next = IPPROTO_FRAGMENT;
		next = put(frame, 8);
		store16(next + 2, shape->fragment);
	}
	*next = shape->protocol;
}

static void build(struct built *frame, const struct shape *shape)
{
	uint32_t behind = UDP_HEADER_BYTES + shape->bytes;

	frame->length = 0;
	put_ether(frame, shape);
	if (shape->v6)
		put_v6(frame, shape, behind);
	else
		put_v4(frame, shape, behind);
	uint8_t *at = put(frame, behind);
	store16(at, shape->source);
	store16(at + 2, shape->destination);
	store16(at + 4, (uint16_t)((int32_t)behind + shape->lie));
	for (uint32_t i = 0; i < shape->bytes; i++)
		at[UDP_HEADER_BYTES + i] = (uint8_t)(i * 3);
	put(frame, shape->padding);
}

/* The header checksum of IPv4, so that what was changed is no reason to drop it. */
static void seal(struct built *frame)
{
	uint8_t *at = frame->bytes + frame->ip;
	uint32_t length = 4 * (at[0] & 15U);
	uint32_t sum = 0;

	if (at[0] >> 4 != 4 || length < 20 || frame->ip + length > frame->length)
		return;
	store16(at + 10, 0);
	for (uint32_t i = 0; i < length; i += 2)
		sum += load16(at + i);
	sum = (sum & 0xffff) + (sum >> 16);
	store16(at + 10, (uint16_t) ~((sum & 0xffff) + (sum >> 16)));
}

static bool chance(struct prng *prng, uint32_t one_in)
{
	return prng_below(prng, one_in) == 0;
}

static struct shape random_shape(struct prng *prng)
{
	struct shape shape = {
		.v6 = chance(prng, 2),
		.from = (uint8_t)prng_below(prng, 3),
		.tagged = chance(prng, 4),
		.options = (uint8_t)(chance(prng, 4) ? prng_below(prng, 11) : 0),
		.extension = chance(prng, 8),
		.fragment = chance(prng, 8) ? (uint16_t)prng_below(prng, 65536) : 0,
		.protocol = chance(prng, 12) ? IPPROTO_TCP : IPPROTO_UDP,
		.source = (uint16_t)(1000 + prng_below(prng, 4)),
		.destination = chance(prng, 8) ? 54 : PORT,
		.bytes = (uint16_t)prng_below(prng, 40),
		.lie = (int16_t)(chance(prng, 8) ? (int)prng_below(prng, 60) - 50 : 0),
		.padding = (uint16_t)(chance(prng, 4) ? prng_below(prng, 20) : 0),
	};

	return shape;
}

static void random_frame(struct prng *prng, struct built *frame)
{
	const struct shape shape = random_shape(prng);

	build(frame, &shape);
	for (uint64_t n = chance(prng, 3) ? prng_below(prng, 3) : 0; n > 0; n--) {
		uint64_t at = prng_below(prng, frame->length);
		frame->bytes[at] = chance(prng, 2)
					   ? (uint8_t)prng_next(prng)
					   : (uint8_t)(frame->bytes[at] ^ 1 << prng_below(prng, 8));
	}
	if (!chance(prng, 10))
		seal(frame);
	if (chance(prng, 8))
		frame->length = 14 + (uint32_t)prng_below(prng, frame->length - 13);
}

/* ---- the stack's view ---- */

struct seen {
	bool datagram; /* the stack would give it to a socket of the port */
	bool plain;    /* not one of the kinds that are left to the CPU */
	struct iovec segment;
	struct cbpf_record record;
};

/* The cursor stands behind the Ethernet header. */
static bool parse_packet(struct cursor *c, uint16_t type, struct ip_packet *packet)
{
	struct ip_problem problem;
	enum drop drop =
		type == ETHER_IPV4 ? ipv4_parse(c, packet) : ipv6_parse(c, packet, &problem);
	const struct ip_address to = address_of(ours[type == ETHER_IPV6]);

	return drop == DROP_NONE && packet->protocol == IP_UDP && ip_equal(&packet->to, &to);
}

static void see(const uint8_t *bytes, uint32_t length, struct seen *seen)
{
	struct cursor c = cursor_over(bytes, length);
	struct ether_header ether;
	struct ip_packet packet = {.checked = true};
	struct udp_header udp;

	*seen = (struct seen){.datagram = false};
	if (ether_parse(&c, &ether) != DROP_NONE)
		return;
	if (ether.type == ETHER_VLAN && cursor_left(&c) >= 4) {
		ether.type = load16(c.at + 2);
		c.at += 4;
	}
	if ((ether.type != ETHER_IPV4 && ether.type != ETHER_IPV6) ||
	    !parse_packet(&c, ether.type, &packet))
		return;
	/* in IPv6 a zero checksum is bad: what the frame says is not looked at here */
	uint8_t header[UDP_HEADER_BYTES];
	if (packet.length < sizeof(header))
		return;
	memcpy(header, packet.payload, sizeof(header));
	store16(header + UDP_CHECKSUM_OFFSET, 1);
	struct cursor h = {.at = header, .end = header + packet.length};
	if (udp_parse(&h, &packet, &udp) != DROP_NONE || udp.destination != PORT)
		return;
	uint32_t bytes_behind = udp.length - UDP_HEADER_BYTES;
	seen->datagram = true;
	seen->plain = !(ether.to[0] & 1) &&
		      (ether.type == ETHER_IPV4 || packet.header_bytes == IPV6_HEADER_BYTES);
	seen->segment = (struct iovec){(void *)(uintptr_t)(packet.payload + UDP_HEADER_BYTES),
				       bytes_behind};
	seen->record = (struct cbpf_record){
		.head = {.len = htonl(bytes_behind),
			 .port = htons(udp.source),
			 .local_port = htons(udp.destination),
			 .version = ip_is_v4(&packet.from) ? 4 : 6},
		.is_datagram = true,
		.count = 1,
		.segments = &seen->segment,
	};
	memcpy(seen->record.head.address, packet.from.bytes, 16);
	memcpy(seen->record.head.local_address, packet.to.bytes, 16);
}

/* ---- expressions ---- */

static const char *const comparisons[] = {
	"udp.dst == 53",
	"udp.src == 1001",
	"udp.src > 1001",
	"udp.src & 1",
	"len < 20",
	"len >= 8",
	"len == 16",
	"len",
	"ip.version == 4",
	"ip.version != 4",
	"ip.src == 10.0.0.0/8",
	"ip.src != 10.1.0.0/16",
	"ip.src == 10.0.0.9",
	"ip.src == fd00::/16",
	"ip.src == fd00::1:2",
	"ip.src == fd00::/111",
	"ip.src != 2001:db8::/32",
	"ip.dst == 10.0.0.2",
	"ip.dst == fd00::2",
	"ip.src == ::/0",
	"data[0] == 0",
	"data[7] & 4",
	"data[3] <= 9",
	"data[1:2] == 0x0306",
	"data[2:4] == 0x06090c0f",
	"data[5:4] & 0xff00 == 0x1500",
	"data[30] > 1",
	"data[36:4]",
	"data[0:2] < 4",
	"data[9:4] > 0x80000000",
};

static void random_expression(struct prng *prng, char *text, size_t room)
{
	uint32_t terms = 1 + (uint32_t)prng_below(prng, 5);
	uint32_t open = 0;
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < terms; i++) {
		const char *comparison =
			comparisons[prng_below(prng, sizeof(comparisons) / sizeof(*comparisons))];
		const char *join = i == 0 ? "" : chance(prng, 2) ? " && " : " || ";
		bool opens = chance(prng, 3);
		bool closes = open > 0 && chance(prng, 2);
		used += (size_t)snprintf(text + used, room - used, "%s%s%s%s%s", join,
					 chance(prng, 4) ? "!" : "", opens ? "(" : "", comparison,
					 closes ? ")" : "");
		open += opens;
		open -= closes;
	}
	for (; open > 0; open--)
		used += (size_t)snprintf(text + used, room - used, ")");
	assert_true(used < room);
}

/* ---- the comparison ---- */

struct tally {
	uint32_t datagrams;
	uint32_t passed;
	uint32_t dropped; /* by the program */
	uint32_t left;    /* refused on the CPU alone */
};

static void compare(const char *text, const struct expression *expression,
		    const struct built *frame, struct tally *tally)
{
	struct seen seen;

	see(frame->bytes, frame->length, &seen);
	uint32_t verdict = kernel_run(frame->bytes, frame->length);
	bool passes = seen.datagram && cbpf_run(expression->program, &seen.record);
	bool bad = verdict == XDP_DROP ? passes : seen.plain && seen.datagram && !passes;
	bool odd = passes && verdict != XDP_REDIRECT;
	tally->datagrams += seen.datagram;
	tally->passed += passes;
	tally->dropped += seen.datagram && verdict == XDP_DROP;
	tally->left += seen.datagram && !passes && verdict != XDP_DROP;
	if (!bad && !odd)
		return;
	for (uint32_t i = 0; i < frame->length; i++)
		printf("%s%02x", i % 32 ? "" : "\n# ", frame->bytes[i]);
	printf("\n");
	fail_msg("%s: the program says %u; a datagram: %d, it passes: %d", text, verdict,
		 seen.datagram, passes);
}

static void test_the_same_as_on_the_cpu(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	struct tally tally = {0};
	struct prng prng;
	struct built frame;
	struct expression expression;
	struct expression_error error;
	char text[512];
	uint32_t runs = test_number("DEMI_FILTER_EXPRESSIONS", EXPRESSIONS);
	prng_seed(&prng, test_seed(1));
	kernel_open();
	for (uint32_t i = 0; i < runs; i++) {
		random_expression(&prng, text, sizeof(text));
		assert_int_equal(expression_compile(text, &expression, &error), 0);
		set_filter(text);
		for (uint32_t n = 0; n < FRAMES; n++) {
			random_frame(&prng, &frame);
			compare(text, &expression, &frame, &tally);
		}
	}
	printf("# %u frames: %u datagrams for the port, %u pass, %u dropped by the program, %u "
	       "left to the CPU\n",
	       runs * FRAMES, tally.datagrams, tally.passed, tally.dropped, tally.left);
	/* it judges most of what it can drop */
	assert_true(tally.passed > tally.datagrams / 10);
	assert_true(tally.dropped > tally.left);
	kernel_close();
}

/* ---- single cases ---- */

static uint32_t verdict_of(const struct shape *shape)
{
	struct built frame;

	build(&frame, shape);
	seal(&frame);
	return kernel_run(frame.bytes, frame.length);
}

static const struct shape plain = {
	.protocol = IPPROTO_UDP, .source = 1000, .destination = PORT, .bytes = 16};

static void test_what_is_not_judged_goes_up(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	struct shape shape = plain;
	kernel_open();
	assert_int_equal(verdict_of(&shape), XDP_REDIRECT);
	set_filter("len == 99");
	assert_int_equal(verdict_of(&shape), XDP_DROP);
	shape.tagged = true;
	assert_int_equal(verdict_of(&shape), XDP_DROP);
	shape.options = 10;
	assert_int_equal(verdict_of(&shape), XDP_DROP);
	shape.v6 = true;
	assert_int_equal(verdict_of(&shape), XDP_DROP);
	shape.extension = true;
	assert_int_equal(verdict_of(&shape), XDP_REDIRECT);
	shape = plain;
	shape.fragment = 0x2000;
	assert_int_equal(verdict_of(&shape), XDP_REDIRECT);
	shape.v6 = true;
	assert_int_equal(verdict_of(&shape), XDP_REDIRECT);
	shape = plain;
	shape.protocol = IPPROTO_TCP;
	assert_int_equal(verdict_of(&shape), XDP_REDIRECT);
	shape = plain;
	shape.destination = PORT + 1;
	assert_int_equal(verdict_of(&shape), XDP_REDIRECT);
	shape = plain;
	shape.lie = 1;
	assert_int_equal(verdict_of(&shape), XDP_REDIRECT);
	shape.lie = -17;
	assert_int_equal(verdict_of(&shape), XDP_REDIRECT);
	kernel_close();
}

/* Of one slot and port alone; the next one takes its place; it can be taken away. */
static void test_filters_come_and_go(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	static const struct sock_filter none = {.code = BPF_RET | BPF_K, .k = 0};
	static const struct sock_filter bad = {.code = BPF_RET | BPF_A, .k = 0};
	struct steer_stat before;
	struct steer_stat after;
	kernel_open();
	assert_int_equal(steer_filter(kernel.steer, SLOT + 1, PORT, &none, 1), 0);
	assert_int_equal(steer_filter(kernel.steer, SLOT, PORT + 1, &none, 1), 0);
	assert_int_equal(verdict_of(&plain), XDP_REDIRECT);
	assert_int_equal(steer_filter(kernel.steer, SLOT, PORT, &bad, 1), -EINVAL);
	assert_int_equal(steer_filter(kernel.steer, STEER_SLOTS, PORT, &none, 1), -EINVAL);
	assert_int_equal(verdict_of(&plain), XDP_REDIRECT);
	assert_int_equal(steer_stat(kernel.steer, &before), 0);
	assert_int_equal(steer_filter(kernel.steer, SLOT, PORT, &none, 1), 0);
	assert_int_equal(verdict_of(&plain), XDP_DROP);
	set_filter("len == 16");
	assert_int_equal(verdict_of(&plain), XDP_REDIRECT);
	set_filter("len == 17");
	assert_int_equal(verdict_of(&plain), XDP_DROP);
	assert_int_equal(steer_stat(kernel.steer, &after), 0);
	assert_int_equal(after.filtered, before.filtered + 2);
	assert_int_equal(after.steered, before.steered + 1);
	assert_int_equal(steer_socket(kernel.steer, SLOT, -1), 0);
	set_filter("len == 16");
	assert_int_equal(verdict_of(&plain), XDP_PASS);
	assert_int_equal(steer_stat(kernel.steer, &before), 0);
	assert_int_equal(before.no_socket, after.no_socket + 1);
	assert_int_equal(steer_socket(kernel.steer, SLOT, kernel.socket), 0);
	set_filter("len == 17");
	assert_int_equal(steer_filter(kernel.steer, SLOT, PORT, NULL, 0), 0);
	assert_int_equal(steer_filter(kernel.steer, SLOT, PORT, NULL, 0), 0);
	assert_int_equal(verdict_of(&plain), XDP_REDIRECT);
	kernel_close();
}

static void test_bounds(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	static const struct sock_filter none = {.code = BPF_RET | BPF_K, .k = 0};
	static struct sock_filter longest[CBPF_MAX];
	kernel_open();
	for (uint32_t i = 0; i + 1 < CBPF_MAX; i++)
		longest[i] = (struct sock_filter){.code = BPF_LD | BPF_W | BPF_ABS, .k = CBPF_DATA};
	longest[CBPF_MAX - 1] = (struct sock_filter){.code = BPF_RET | BPF_K, .k = 0};
	assert_int_equal(steer_filter(kernel.steer, SLOT, PORT, longest, CBPF_MAX), 0);
	assert_int_equal(verdict_of(&plain), XDP_DROP);
	longest[CBPF_MAX - 1].k = 1;
	assert_int_equal(steer_filter(kernel.steer, SLOT, PORT, longest, CBPF_MAX), 0);
	assert_int_equal(verdict_of(&plain), XDP_REDIRECT);
	for (uint16_t i = 1; i < FILTERS_MAX; i++)
		assert_int_equal(steer_filter(kernel.steer, SLOT, PORT + i, &none, 1), 0);
	assert_int_equal(steer_filter(kernel.steer, SLOT, 1, &none, 1), -ENOSPC);
	assert_int_equal(steer_filter(kernel.steer, SLOT, PORT + 1, NULL, 0), 0);
	assert_int_equal(steer_filter(kernel.steer, SLOT, 1, &none, 1), 0);
	kernel_close();
}

/* What it costs, told only. */
static void test_cost(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	struct built frame;
	uint32_t without;
	uint32_t other;
	uint32_t headers;
	uint32_t data;
	build(&frame, &plain);
	seal(&frame);
	kernel_open();
	(void)kernel_run_timed(frame.bytes, frame.length, 100000, &without);
	assert_int_equal(steer_filter(kernel.steer, SLOT, PORT + 1,
				      &(struct sock_filter){.code = BPF_RET | BPF_K}, 1),
			 0);
	(void)kernel_run_timed(frame.bytes, frame.length, 100000, &other);
	set_filter("udp.src == 1000 && len < 512");
	(void)kernel_run_timed(frame.bytes, frame.length, 100000, &headers);
	set_filter("data[0:4] == 0x00030609 && data[4:2] == 0x0c0f");
	(void)kernel_run_timed(frame.bytes, frame.length, 100000, &data);
	printf("# ns a frame: %u without a filter, %u beside one of another port, %u by two "
	       "fields of headers, %u by two of data\n",
	       without, other, headers, data);
	kernel_close();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_as_on_the_cpu),
		cmocka_unit_test(test_what_is_not_judged_goes_up),
		cmocka_unit_test(test_filters_come_and_go),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_cost),
	};

	kernel.privileged = netns_enter();
	if (kernel.privileged)
		netns_run("ip link add fA type veth peer name fB");
	return test_run("filter", tests);
}
