/* SPDX-License-Identifier: MIT
 * tests/unit/wire_tcp_test.c - net/wire/tcp.h: headers, options in their layouts and out of them,
 * checksums.
 */
#include "support/test.h"

#include "base/prng.h"
#include "net/wire/tcp.h"
#include "support/bytes.h"
#include "support/seed.h"

#define SEGMENT_MAX 1500U

struct segment {
	struct ip_packet packet;
	uint8_t bytes[SEGMENT_MAX];
};

static void make_addresses(struct segment *s, bool v6)
{
	memset(&s->packet, 0, sizeof(s->packet));
	s->packet.from =
		v6 ? (struct ip_address){.bytes = {0x20, 1, 0xd, 0xb8, 9}} : ip_from_v4(0x0100000a);
	s->packet.to =
		v6 ? (struct ip_address){.bytes = {0x20, 1, 0xd, 0xb8, 8}} : ip_from_v4(0x0200000a);
	s->packet.protocol = IP_TCP;
}

/* The header of header, and data bytes behind it, with the checksum. */
static uint32_t make(struct segment *s, bool v6, const struct tcp_header *header, uint32_t data)
{
	make_addresses(s, v6);
	uint32_t bytes = tcp_write(s->bytes, header);
	assert_int_equal(bytes, tcp_header_bytes(&header->options));
	for (uint32_t i = 0; i < data; i++)
		s->bytes[bytes + i] = (uint8_t)(i * 31 + 5);
	s->packet.length = bytes + data;
	bytes_transport(&s->packet, s->bytes, TCP_CHECKSUM_OFFSET);
	return bytes;
}

/* From an allocation of just its size. */
static enum drop parse(const struct segment *s, struct tcp_header *header)
{
	uint8_t *copy = bytes_copy(s->bytes, s->packet.length);
	struct cursor c = cursor_over(copy, s->packet.length);

	memset(header, 0xee, sizeof(*header));
	enum drop drop = tcp_parse(&c, &s->packet, header);
	if (!drop) {
		assert_ptr_equal(c.end, copy + s->packet.length);
		assert_ptr_equal(c.at, copy + (uint32_t)(copy[12] >> 4) * 4);
		assert_true(header->options.num_sack <= TCP_SACK_BLOCKS_MAX);
		assert_int_equal(!!(header->options.has & TCP_HAS_SACK),
				 header->options.num_sack > 0);
	}
	free(copy);
	return drop;
}

static void assert_options(const struct tcp_options *a, const struct tcp_options *b)
{
	assert_int_equal(a->has, b->has);
	if (a->has & TCP_HAS_MSS)
		assert_int_equal(a->mss, b->mss);
	if (a->has & TCP_HAS_WSCALE)
		assert_int_equal(a->wscale, b->wscale);
	if (a->has & TCP_HAS_TIMESTAMP) {
		assert_int_equal(a->ts_value, b->ts_value);
		assert_int_equal(a->ts_echo, b->ts_echo);
	}
	if (a->has & TCP_HAS_SACK) {
		assert_int_equal(a->num_sack, b->num_sack);
		assert_memory_equal(a->sack, b->sack, a->num_sack * sizeof(a->sack[0]));
	}
}

static void assert_headers(const struct tcp_header *a, const struct tcp_header *b)
{
	assert_int_equal(a->source, b->source);
	assert_int_equal(a->destination, b->destination);
	assert_int_equal(a->seq, b->seq);
	assert_int_equal(a->ack, b->ack);
	assert_int_equal(a->window, b->window);
	assert_int_equal(a->flags, b->flags);
	assert_options(&a->options, &b->options);
}

/* ---- writing ---- */

/* RFC 9293 3.1: the header as it stands on the wire */
static void test_write_header(void **state)
{
	(void)state;
	static const uint8_t expected[TCP_HEADER_BYTES] = {
		0x12, 0x34, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x18, 0xab, 0xcd};
	static const struct tcp_header header = {.source = 0x1234,
						 .destination = 80,
						 .seq = 0x01020304,
						 .ack = 0x05060708,
						 .window = 0xabcd,
						 .flags = TCP_ACK | TCP_PSH};
	uint8_t bytes[TCP_HEADER_BYTES];

	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(tcp_write(bytes, &header), TCP_HEADER_BYTES);
	assert_memory_equal(bytes, expected, sizeof(bytes));
}

struct layout_case {
	const char *name;
	uint8_t flags;
	struct tcp_options options;
	uint8_t bytes[40];
	uint8_t num_bytes;
};

#define TIMESTAMP_VALUES .ts_value = 0x01020304, .ts_echo = 0x05060708
#define TIMESTAMP_BYTES  8, 10, 1, 2, 3, 4, 5, 6, 7, 8

static const struct layout_case layout_cases[] = {
	{"mss", TCP_SYN, {.has = TCP_HAS_MSS, .mss = 1460}, {2, 4, 5, 0xb4}, 4},
	{"mss, sackOK, timestamp, wscale",
	 TCP_SYN,
	 {.has = TCP_HAS_MSS | TCP_HAS_SACK_PERMITTED | TCP_HAS_TIMESTAMP | TCP_HAS_WSCALE,
	  .mss = 1460,
	  .wscale = 7,
	  TIMESTAMP_VALUES},
	 {2, 4, 5, 0xb4, 4, 2, TIMESTAMP_BYTES, 1, 3, 3, 7},
	 20},
	{"mss, sackOK, wscale",
	 TCP_SYN | TCP_ACK,
	 {.has = TCP_HAS_MSS | TCP_HAS_SACK_PERMITTED | TCP_HAS_WSCALE, .mss = 8960, .wscale = 14},
	 {2, 4, 0x23, 0, 1, 1, 4, 2, 1, 3, 3, 14},
	 12},
	{"mss, timestamp, wscale",
	 TCP_SYN,
	 {.has = TCP_HAS_MSS | TCP_HAS_TIMESTAMP | TCP_HAS_WSCALE, .mss = 536, TIMESTAMP_VALUES},
	 {2, 4, 2, 24, 1, 1, TIMESTAMP_BYTES, 1, 3, 3, 0},
	 20},
	{"timestamp",
	 TCP_ACK,
	 {.has = TCP_HAS_TIMESTAMP, TIMESTAMP_VALUES},
	 {1, 1, TIMESTAMP_BYTES},
	 12},
	{"sack",
	 TCP_ACK,
	 {.has = TCP_HAS_SACK, .num_sack = 1, .sack = {{0x01000000, 0x02000000}}},
	 {1, 1, 5, 10, 1, 0, 0, 0, 2, 0, 0, 0},
	 12},
	{"timestamp, sack",
	 TCP_ACK,
	 {.has = TCP_HAS_TIMESTAMP | TCP_HAS_SACK,
	  .num_sack = 2,
	  .sack = {{1, 2}, {3, 4}},
	  TIMESTAMP_VALUES},
	 {1, 1, TIMESTAMP_BYTES, 1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4},
	 32},
	{"four blocks",
	 TCP_ACK,
	 {.has = TCP_HAS_SACK, .num_sack = 4, .sack = {{1, 2}, {3, 4}, {5, 6}, {7, 8}}},
	 {1, 1, 5, 34, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0,
	  0, 4, 0, 0,  0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 8},
	 36},
	/* Three fit beside a timestamp. */
	{"timestamp, four blocks",
	 TCP_ACK,
	 {.has = TCP_HAS_TIMESTAMP | TCP_HAS_SACK,
	  .num_sack = 4,
	  .sack = {{1, 2}, {3, 4}, {5, 6}, {7, 8}},
	  TIMESTAMP_VALUES},
	 {1,  1, TIMESTAMP_BYTES,
	  1,  1, 5,
	  26, 0, 0,
	  0,  1, 0,
	  0,  0, 2,
	  0,  0, 0,
	  3,  0, 0,
	  0,  4, 0,
	  0,  0, 5,
	  0,  0, 0,
	  6},
	 40},
	{"no block", TCP_ACK, {.has = TCP_HAS_SACK}, {0}, 0},
};

static void test_layouts(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(layout_cases); i++) {
		const struct layout_case *test = &layout_cases[i];
		struct tcp_header header = {.flags = test->flags, .options = test->options};
		struct tcp_header parsed;
		struct segment s;
		uint32_t bytes = make(&s, false, &header, 3);

		if (bytes != TCP_HEADER_BYTES + (uint32_t)test->num_bytes ||
		    memcmp(s.bytes + TCP_HEADER_BYTES, test->bytes, test->num_bytes) != 0)
			fail_msg("%s: other bytes", test->name);
		/* And back. */
		assert_int_equal(parse(&s, &parsed), DROP_NONE);
		if (header.options.has & TCP_HAS_SACK && header.options.num_sack == 0)
			header.options.has = 0;
		if (test->num_bytes == 40)
			header.options.num_sack = 3;
		assert_headers(&parsed, &header);
	}
}

static void random_options(struct prng *prng, bool syn, struct tcp_options *options)
{
	uint8_t may =
		syn ? TCP_HAS_MSS | TCP_HAS_WSCALE | TCP_HAS_SACK_PERMITTED | TCP_HAS_TIMESTAMP
		    : TCP_HAS_SACK | TCP_HAS_TIMESTAMP;

	memset(options, 0, sizeof(*options));
	options->has = (uint8_t)prng_next(prng) & may;
	options->mss = (uint16_t)prng_next(prng);
	options->wscale = (uint8_t)prng_below(prng, TCP_WINDOW_SCALE_MAX + 1);
	options->ts_value = (uint32_t)prng_next(prng);
	options->ts_echo = (uint32_t)prng_next(prng);
	if (options->has & TCP_HAS_SACK)
		options->num_sack =
			1 + (uint8_t)prng_below(prng, options->has & TCP_HAS_TIMESTAMP ? 3 : 4);
	for (uint32_t i = 0; i < options->num_sack; i++) {
		options->sack[i].start = (uint32_t)prng_next(prng);
		options->sack[i].end =
			options->sack[i].start + 1 + (uint32_t)prng_below(prng, INT32_MAX);
	}
}

static void test_round_trip(void **state)
{
	(void)state;
	struct prng prng;
	prng_seed(&prng, test_seed(9293));
	for (uint32_t round = 0; round < 50000; round++) {
		struct tcp_header header = {
			.source = (uint16_t)prng_next(&prng),
			.destination = (uint16_t)prng_next(&prng),
			.seq = (uint32_t)prng_next(&prng),
			.ack = (uint32_t)prng_next(&prng),
			.window = (uint16_t)prng_next(&prng),
			.flags = (uint8_t)prng_next(&prng),
		};
		struct tcp_header parsed;
		struct segment s;

		random_options(&prng, header.flags & TCP_SYN, &header.options);
		make(&s, round % 2, &header, (uint32_t)prng_below(&prng, 700));
		assert_int_equal(parse(&s, &parsed), DROP_NONE);
		assert_headers(&parsed, &header);
	}
}

/* ---- options as they come ---- */

struct option_case {
	const char *name;
	uint8_t flags;
	uint8_t bytes[40];
	uint8_t num_bytes; /* a multiple of 4 */
	struct tcp_options options;
};

static const struct option_case option_cases[] = {
	/* RFC 9293 MUST-7: an illegal length is survived; what stood in front of it counts */
	{"length 0", TCP_SYN, {2, 4, 5, 0xb4, 3, 0, 7, 1}, 8, {.has = TCP_HAS_MSS, .mss = 1460}},
	{"length 1", TCP_SYN, {2, 4, 5, 0xb4, 3, 1, 7, 1}, 8, {.has = TCP_HAS_MSS, .mss = 1460}},
	{"one over the end",
	 TCP_SYN,
	 {2, 4, 5, 0xb4, 1, 3, 4, 7},
	 8,
	 {.has = TCP_HAS_MSS, .mss = 1460}},
	{"length 255", TCP_SYN, {2, 255, 5, 0xb4}, 4, {0}},
	{"no length", TCP_SYN, {1, 1, 1, 2}, 4, {0}},
	{"length 0 first", TCP_ACK, {5, 0, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0}, 12, {0}},
	/* RFC 9293 MUST-6: unknown options are ignored */
	{"unknown", TCP_SYN, {253, 4, 1, 2, 2, 4, 5, 0xb4}, 8, {.has = TCP_HAS_MSS, .mss = 1460}},
	{"unknown, length 2",
	 TCP_SYN,
	 {30, 2, 30, 2, 2, 4, 5, 0xb4},
	 8,
	 {.has = TCP_HAS_MSS, .mss = 1460}},
	/* RFC 9293 MUST-64: nothing counts behind the end */
	{"behind the end", TCP_SYN, {0, 2, 4, 5, 2, 4, 5, 0xb4}, 8, {0}},
	{"40 times no operation",
	 TCP_ACK,
	 {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
	  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
	 40,
	 {0}},
	{"40 times the end", TCP_ACK, {0}, 40, {0}},
	/* The value is TCP's to judge. */
	{"mss 0", TCP_SYN, {2, 4, 0, 0}, 4, {.has = TCP_HAS_MSS, .mss = 0}},
	{"mss 1", TCP_SYN, {2, 4, 0, 1}, 4, {.has = TCP_HAS_MSS, .mss = 1}},
	{"mss 65535", TCP_SYN, {2, 4, 0xff, 0xff}, 4, {.has = TCP_HAS_MSS, .mss = 65535}},
	{"two mss", TCP_SYN, {2, 4, 5, 0xb4, 2, 4, 2, 24}, 8, {.has = TCP_HAS_MSS, .mss = 536}},
	{"mss of 3", TCP_SYN, {2, 3, 5, 1, 1, 3, 3, 7}, 8, {.has = TCP_HAS_WSCALE, .wscale = 7}},
	/* RFC 7323 2.3 MUST: 14 at most */
	{"wscale 14", TCP_SYN, {3, 3, 14, 0}, 4, {.has = TCP_HAS_WSCALE, .wscale = 14}},
	{"wscale 15", TCP_SYN, {3, 3, 15, 0}, 4, {.has = TCP_HAS_WSCALE, .wscale = 14}},
	{"wscale 255", TCP_SYN, {3, 3, 255, 0}, 4, {.has = TCP_HAS_WSCALE, .wscale = 14}},
	{"wscale of 4", TCP_SYN, {3, 4, 7, 7}, 4, {0}},
	{"sackOK of 3", TCP_SYN, {4, 3, 7, 0}, 4, {0}},
	/* RFC 9293 3.2, RFC 7323 2.2, RFC 2018 2: these only with SYN, or only without */
	{"mss without SYN", TCP_ACK, {2, 4, 5, 0xb4}, 4, {0}},
	{"wscale without SYN", TCP_ACK, {1, 3, 3, 7}, 4, {0}},
	{"sackOK without SYN", TCP_ACK, {1, 1, 4, 2}, 4, {0}},
	{"sack with SYN", TCP_SYN, {1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2}, 12, {0}},
	/* RFC 9293 MUST-5: others in any segment */
	{"timestamp alone",
	 TCP_ACK,
	 {TIMESTAMP_BYTES, 0, 0},
	 12,
	 {.has = TCP_HAS_TIMESTAMP, TIMESTAMP_VALUES}},
	{"timestamp at the end",
	 TCP_RST,
	 {1, 1, 1, 1, 1, 1, TIMESTAMP_BYTES},
	 16,
	 {.has = TCP_HAS_TIMESTAMP, TIMESTAMP_VALUES}},
	{"timestamp, then what looks like none",
	 TCP_ACK,
	 {1, 1, TIMESTAMP_BYTES, 8, 0, 1, 1},
	 16,
	 {.has = TCP_HAS_TIMESTAMP, TIMESTAMP_VALUES}},
	{"two timestamps",
	 TCP_ACK,
	 {8, 10, 0, 0, 0, 0, 0, 0, 0, 0, TIMESTAMP_BYTES},
	 20,
	 {.has = TCP_HAS_TIMESTAMP, TIMESTAMP_VALUES}},
	{"timestamp of 9", TCP_ACK, {8, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1}, 12, {0}},
	{"timestamp of 12", TCP_ACK, {8, 12, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1}, 12, {0}},
	{"timestamp cut off", TCP_ACK, {1, 1, 8, 10, 1, 2, 3, 4}, 8, {0}},
	/* RFC 2018 3: a multiple of 8, and 2 */
	{"sack of 2", TCP_ACK, {1, 1, 5, 2}, 4, {0}},
	{"sack of 9", TCP_ACK, {5, 9, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1}, 12, {0}},
	{"sack of 11", TCP_ACK, {5, 11, 0, 0, 0, 1, 0, 0, 0, 2, 9, 1}, 12, {0}},
	{"sack over the end", TCP_ACK, {5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 9, 1}, 12, {0}},
	{"sack, empty block", TCP_ACK, {1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 1}, 12, {0}},
	{"sack, end before start", TCP_ACK, {1, 1, 5, 10, 0, 0, 0, 2, 0, 0, 0, 1}, 12, {0}},
	{"sack, half the space", TCP_ACK, {1, 1, 5, 10, 0, 0, 0, 0, 0x80, 0, 0, 0}, 12, {0}},
	{"sack around zero",
	 TCP_ACK,
	 {1, 1, 5, 10, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1},
	 12,
	 {.has = TCP_HAS_SACK, .num_sack = 1, .sack = {{0xffffffff, 1}}}},
	{"sack, one of two",
	 TCP_ACK,
	 {1, 1, 5, 18, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9},
	 20,
	 {.has = TCP_HAS_SACK, .num_sack = 1, .sack = {{5, 9}}}},
	{"two sacks",
	 TCP_ACK,
	 {5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 5, 10, 0, 0, 0, 3, 0, 0, 0, 4},
	 20,
	 {.has = TCP_HAS_SACK, .num_sack = 1, .sack = {{3, 4}}}},
	{"two sacks, one of nothing",
	 TCP_ACK,
	 {5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 5, 2, 1, 1},
	 16,
	 {0}},
};

static void test_options(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(option_cases); i++) {
		const struct option_case *test = &option_cases[i];
		struct segment s;
		struct tcp_header header = {.flags = test->flags};
		struct tcp_header parsed;

		make_addresses(&s, false);
		(void)tcp_write(s.bytes, &header);
		s.bytes[12] = (uint8_t)((TCP_HEADER_BYTES + test->num_bytes) / 4 << 4);
		memcpy(s.bytes + TCP_HEADER_BYTES, test->bytes, test->num_bytes);
		s.packet.length = TCP_HEADER_BYTES + test->num_bytes;
		bytes_transport(&s.packet, s.bytes, TCP_CHECKSUM_OFFSET);
		assert_int_equal(parse(&s, &parsed), DROP_NONE);
		if (parsed.options.has != test->options.has)
			fail_msg("%s: has %x, not %x", test->name, parsed.options.has,
				 test->options.has);
		assert_options(&parsed.options, &test->options);
	}
}

/* Attack row 14: any options with a good checksum: no loop, no read outside, values in their
 * ranges. */
static void test_junk_options(void **state)
{
	(void)state;
	struct prng prng;
	prng_seed(&prng, test_seed(7));
	for (uint32_t round = 0; round < 100000; round++) {
		uint32_t num = 4 * (uint32_t)prng_below(&prng, 11);
		struct tcp_header header = {.flags = (uint8_t)prng_next(&prng)};
		struct tcp_header parsed;
		struct segment s;

		make_addresses(&s, round % 2);
		(void)tcp_write(s.bytes, &header);
		s.bytes[12] = (uint8_t)((TCP_HEADER_BYTES + num) / 4 << 4);
		for (uint32_t i = 0; i < num; i++)
			s.bytes[TCP_HEADER_BYTES + i] =
				(uint8_t)prng_below(&prng, prng_below(&prng, 3) ? 12 : 256);
		s.packet.length = TCP_HEADER_BYTES + num;
		s.packet.checked = true;
		assert_int_equal(parse(&s, &parsed), DROP_NONE);
		if (parsed.options.has & TCP_HAS_WSCALE)
			assert_true(parsed.options.wscale <= TCP_WINDOW_SCALE_MAX);
		for (uint32_t i = 0; i < parsed.options.num_sack; i++)
			assert_true((int32_t)(parsed.options.sack[i].end -
					      parsed.options.sack[i].start) > 0);
	}
}

/* ---- what is wrong ---- */

static const struct tcp_header usual = {
	.source = 4321,
	.destination = 80,
	.seq = 0xfffffff0,
	.ack = 77,
	.window = 500,
	.flags = TCP_ACK,
	.options = {.has = TCP_HAS_TIMESTAMP, TIMESTAMP_VALUES},
};

/* attack row 13: below 5, and beyond the segment */
static void test_data_offset(void **state)
{
	(void)state;
	for (uint32_t words = 0; words < 16; words++) {
		for (uint32_t data = 0; data < 60; data += 13) {
			struct segment s;
			struct tcp_header parsed;
			struct tcp_header plain = usual;

			plain.options.has = 0;
			(void)make(&s, false, &plain, data);
			s.bytes[12] = (uint8_t)(words << 4);
			bytes_transport(&s.packet, s.bytes, TCP_CHECKSUM_OFFSET);
			bool fits = words >= 5 && words * 4 <= s.packet.length;
			assert_int_equal(parse(&s, &parsed), fits ? DROP_NONE : DROP_TCP_BAD);
		}
	}
}

/* RFC 9293 3.1: the reserved bits are ignored */
static void test_reserved(void **state)
{
	(void)state;
	for (uint32_t reserved = 0; reserved < 16; reserved++) {
		struct segment s;
		struct tcp_header parsed;

		(void)make(&s, false, &usual, 10);
		s.bytes[12] = (uint8_t)((s.bytes[12] & 0xf0) | reserved);
		bytes_transport(&s.packet, s.bytes, TCP_CHECKSUM_OFFSET);
		assert_int_equal(parse(&s, &parsed), DROP_NONE);
		assert_headers(&parsed, &usual);
	}
}

/* Attack row 34: urgent pointers of any value, on any segment: no more than the flag is seen
 * (URGENT/11). */
static void test_urgent(void **state)
{
	(void)state;
	static const uint16_t pointers[] = {0, 1, 10, 11, 0xffff};
	static const uint8_t flags[] = {TCP_URG, TCP_URG | TCP_SYN, TCP_URG | TCP_FIN | TCP_ACK};

	for (uint32_t i = 0; i < ARRAY_LENGTH(pointers) * ARRAY_LENGTH(flags); i++) {
		struct tcp_header header = usual;
		struct tcp_header parsed;
		struct segment s;

		header.flags = flags[i % ARRAY_LENGTH(flags)];
		(void)make(&s, false, &header, 10);
		store16(s.bytes + 18, pointers[i / ARRAY_LENGTH(flags)]);
		bytes_transport(&s.packet, s.bytes, TCP_CHECKSUM_OFFSET);
		assert_int_equal(parse(&s, &parsed), DROP_NONE);
		assert_headers(&parsed, &header);
	}
}

static void test_truncated(void **state)
{
	(void)state;
	struct segment s;
	struct tcp_header parsed;
	uint32_t header = make(&s, true, &usual, 30);
	uint32_t whole = s.packet.length;

	for (uint32_t length = 0; length < whole; length++) {
		s.packet.length = length;
		enum drop drop = parse(&s, &parsed);
		assert_int_equal(drop, length < header ? DROP_TCP_BAD : DROP_TCP_CHECKSUM);
	}
}

/* Attack rows 13, 38, RFC 9293 MUST-3: every segment's checksum is checked: no bit of it can turn
 * unnoticed, nor one of the pseudo header; short, long and odd segments */
static void test_every_bit(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {0, 1, 64, 223, 224, 225, 1001, 1448};

	for (uint32_t i = 0; i < 2 * ARRAY_LENGTH(sizes); i++) {
		struct segment s;
		struct tcp_header parsed;

		(void)make(&s, i % 2, &usual, sizes[i / 2]);
		assert_int_equal(parse(&s, &parsed), DROP_NONE);
		for (uint32_t bit = 0; bit < s.packet.length * 8; bit++) {
			s.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
			struct cursor c = cursor_over(s.bytes, s.packet.length);
			enum drop drop = tcp_parse(&c, &s.packet, &parsed);
			assert_true(drop == DROP_TCP_CHECKSUM || drop == DROP_TCP_BAD);
			s.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		for (uint32_t bit = i % 2 ? 0 : 96; bit < 128; bit++) {
			s.packet.to.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
			assert_int_equal(parse(&s, &parsed), DROP_TCP_CHECKSUM);
			s.packet.to.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		s.bytes[TCP_CHECKSUM_OFFSET] ^= 1;
		s.packet.checked = true;
		assert_int_equal(parse(&s, &parsed), DROP_NONE);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_header), cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_options),
		cmocka_unit_test(test_junk_options), cmocka_unit_test(test_data_offset),
		cmocka_unit_test(test_reserved),     cmocka_unit_test(test_urgent),
		cmocka_unit_test(test_truncated),    cmocka_unit_test(test_every_bit),
	};

	return test_run("wire_tcp", tests);
}
