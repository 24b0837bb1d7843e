/* SPDX-License-Identifier: MIT
 * tests/unit/expression_test.c - field expressions: what they say of elements, what is refused and
 * where; and which programs are taken.
 */
#include "support/test.h"

#include "base/address.h"
#include "base/expression.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

static struct ip_address address_of(const char *text)
{
	struct ip_address address;
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_from_v4(v4);
	assert_int_equal(inet_pton(AF_INET6, text, address.bytes), 1);
	return address;
}

/* A datagram of 10 bytes, 0x80 to 0x89, from port 1000 to port 53. */
struct element {
	uint8_t data[10];
	struct iovec segments[8];
	struct cbpf_record record;
};

static void make(struct element *e, const char *from, const char *to, uint32_t len)
{
	const struct ip_address source = address_of(from);
	const struct ip_address local = address_of(to);

	memset(e, 0, sizeof(*e));
	for (uint32_t i = 0; i < sizeof(e->data); i++)
		e->data[i] = (uint8_t)(0x80 + i);
	e->segments[0] = (struct iovec){.iov_base = e->data, .iov_len = len};
	e->record = (struct cbpf_record){
		.head = {.len = htonl(len),
			 .port = htons(1000),
			 .local_port = htons(53),
			 .version = ip_is_v4(&source) ? 4 : 6},
		.is_datagram = true,
		.count = 1,
		.segments = e->segments,
	};
	memcpy(e->record.head.address, source.bytes, 16);
	memcpy(e->record.head.local_address, local.bytes, 16);
}

static struct expression compiled(const char *text)
{
	struct expression expression;
	struct expression_error error;

	if (expression_compile(text, &expression, &error))
		fail_msg("%s: character %u: %s", text, error.at, error.text);
	assert_int_equal(cbpf_check(expression.program, expression.count), 0);
	return expression;
}

static bool passes(const char *text, const struct element *e)
{
	struct expression expression = compiled(text);

	return cbpf_run(expression.program, &e->record);
}

struct row {
	const char *text;
	bool passes;
};

static void check_rows(const struct row *rows, uint32_t count, const struct element *e)
{
	for (uint32_t i = 0; i < count; i++) {
		if (passes(rows[i].text, e) != rows[i].passes)
			fail_msg("%s: not %d", rows[i].text, rows[i].passes);
	}
}

#define CHECK_ROWS(rows, e) check_rows(rows, sizeof(rows) / sizeof(*(rows)), e)

/* ---- what they say ---- */

static void test_numbers(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{"udp.dst == 53", true},
		{"udp.dst == 0x35", true},
		{"udp.dst == 54", false},
		{"udp.dst != 53", false},
		{"udp.src == 1000", true},
		{"udp.src != 999", true},
		{"len == 10", true},
		{"len < 10", false},
		{"len < 11", true},
		{"len <= 10", true},
		{"len <= 9", false},
		{"len > 9", true},
		{"len > 10", false},
		{"len >= 10", true},
		{"len >= 11", false},
		{"len < 0", false},
		{"len >= 0", true},
		{"len <= 4294967295", true},
		{"len > 4294967294", false},
		{"ip.version == 4", true},
		{"ip.version == 6", false},
		{"len", true},
		{"data[0] == 0x80", true},
		{"data[9] == 0x89", true},
		{"data[0]", true},
		{"data[0]&1", false},
		{"data[1]&1", true},
		{"data[1] & 0x7f == 1", true},
		{"data[1] & 0x7f != 1", false},
		{"data[0:2] == 0x8081", true},
		{"data[3:2] == 0x8384", true},
		{"data[0:4] == 0x80818283", true},
		{"data[5:4] == 0x85868788", true},
		{"data[6:4] & 0xff == 0x89", true},
		{" \tlen\n==10 ", true},
		{"data [ 0 : 2 ] & 0xff == 0x81", true},
	};
	struct element e;
	make(&e, "10.1.2.3", "10.0.0.1", 10);
	CHECK_ROWS(rows, &e);
}

static void test_they_are_joined(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{"udp.dst == 53 && len < 512", true},
		{"udp.dst == 53 && len > 512", false},
		{"udp.dst == 54 || len < 512", true},
		{"udp.dst == 54 || len > 512", false},
		/* && binds more tightly than || */
		{"len == 10 || len == 1 && len == 2", true},
		{"len == 1 && len == 2 || len == 10", true},
		{"(len == 10 || len == 1) && len == 2", false},
		{"len == 10 && (len == 1 || udp.src == 1000)", true},
		{"!len == 10", false},
		{"!len == 9", true},
		{"!!len == 10", true},
		{"!(len == 10 && udp.src == 1)", true},
		{"!(len == 10 || udp.src == 1)", false},
		{"!len == 9 && !udp.src == 9", true},
		{"!(!(len == 10) || !(udp.src == 1000))", true},
		{"((((len == 10))))", true},
		{"!(((!(len == 10))))", true},
		{"len == 1 || len == 2 || len == 3 || len == 10", true},
		{"len != 1 && len != 2 && len != 3 && len != 10", false},
	};
	struct element e;
	make(&e, "10.1.2.3", "10.0.0.1", 10);
	CHECK_ROWS(rows, &e);
}

static void test_addresses(void **state)
{
	(void)state;
	static const struct row v4[] = {
		{"ip.src == 10.1.2.3", true},
		{"ip.src != 10.1.2.3", false},
		{"ip.src == 10.1.2.4", false},
		{"ip.src == 10.0.0.0/8", true},
		{"ip.src == 10.255.255.255/8", true},
		{"ip.src == 10.1.2.0/31", false},
		{"ip.src == 10.1.2.2/31", true},
		{"ip.src == 11.0.0.0/8", false},
		{"ip.src == 0.0.0.0/0", true},
		{"ip.src == ::/0", false},
		{"ip.src != ::/0", true},
		{"ip.dst == 10.0.0.1", true},
		{"ip.dst == 10.1.2.3", false},
		{"!ip.src == 10.0.0.0/8", false},
		{"ip.src == fd00::1", false},
		{"(ip.src == 10.0.0.0/8)", true},
	};
	static const struct row v6[] = {
		{"ip.src == fd00::1:2", true},
		{"ip.src == fd00::/8", true},
		{"ip.src == fd00::/128", false},
		{"ip.src == fd00::1:3/127", true},
		{"ip.src == fd00::1:0/112", true},
		{"ip.src == fd00::2:0/112", false},
		{"ip.src == ::/0", true},
		{"ip.src == 0.0.0.0/0", false},
		{"ip.src != 10.0.0.0/8", true},
		{"ip.dst == fd00::9", true},
		{"ip.dst == fd00::8", false},
		{"ip.version == 6", true},
		{"ip.src == fe00::/7||ip.src==fd00::/16", true},
	};
	struct element e;
	make(&e, "10.1.2.3", "10.0.0.1", 10);
	CHECK_ROWS(v4, &e);
	make(&e, "fd00::1:2", "fd00::9", 10);
	CHECK_ROWS(v6, &e);
}

/* What is not there makes the whole false, unless it is not asked for. */
static void test_what_is_not_there(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{"data[3] == 0x83", false},         {"data[3] != 0x83", false},
		{"!(data[3] == 0)", false},         {"data[3] == 0 || len == 3", false},
		{"len == 3 || data[3] == 0", true}, {"len < 4 && data[0]", true},
		{"data[2] == 0x82", true},          {"data[2:2] == 0x8283", false},
		{"data[1:2] == 0x8182", true},      {"data[0:4]", false},
		{"data[65531:4]", false},
	};
	static const struct row memory[] = {
		{"len == 3", true},
		{"data[0] == 0x80", true},
		{"udp.dst == 53", false},
		{"!udp.dst == 53", false},
		{"ip.version == 4", false},
		{"ip.src != 1.2.3.4", false},
		{"len == 3 || udp.dst == 53", true},
	};
	struct element e;
	make(&e, "10.1.2.3", "10.0.0.1", 3);
	CHECK_ROWS(rows, &e);
	e.record.is_datagram = false;
	CHECK_ROWS(memory, &e);
}

/* Any cut into segments is the same element; empty ones among them. */
static void test_segments(void **state)
{
	(void)state;
	struct element e;
	for (uint32_t a = 0; a <= 10; a++) {
		for (uint32_t b = a; b <= 10; b++) {
			make(&e, "10.1.2.3", "10.0.0.1", 10);
			e.segments[0] = (struct iovec){e.data, a};
			e.segments[1] = (struct iovec){e.data + a, 0};
			e.segments[2] = (struct iovec){e.data + a, b - a};
			e.segments[3] = (struct iovec){e.data + b, 10 - b};
			e.record.count = 4;
			assert_true(passes("data[0:4] == 0x80818283 && data[3:4] == 0x83848586 && "
					   "data[6:4] == 0x86878889 && data[9] == 0x89",
					   &e));
			assert_false(passes("data[7:4]", &e));
		}
	}
}

static void test_what_it_wants(void **state)
{
	(void)state;
	struct expression expression = compiled("len < 5 && data[0] == 1");
	assert_false(expression.wants_datagram);
	assert_false(expression.wants_local_address);
	expression = compiled("len < 5 && udp.src == 1");
	assert_true(expression.wants_datagram);
	assert_false(expression.wants_local_address);
	assert_false(expression.wants_local_port);
	expression = compiled("len < 5 || udp.dst == 1");
	assert_true(expression.wants_datagram);
	assert_true(expression.wants_local_port);
	assert_false(expression.wants_local_address);
	expression = compiled("len < 5 || ip.dst == 10.0.0.1");
	assert_true(expression.wants_datagram);
	assert_true(expression.wants_local_address);
}

/* ---- what is refused ---- */

static void test_errors_say_where(void **state)
{
	(void)state;

	static const struct {
		const char *text;
		uint32_t at;
		const char *error; /* how it begins */
	} rows[] = {
		{"", 1, "a field must stand here"},
		{"  ", 3, "a field must stand here"},
		{"udp.dst == ", 12, "a number must stand here"},
		{"udp.dst == x", 12, "a number must stand here"},
		{"udp.dst == 0x", 12, "a number must stand here"},
		{"udp.dst == 65536", 12, "udp.dst is at most 65535"},
		{"len == 4294967296", 8, "len is at most 4294967295"},
		{"len == 99999999999999999999999", 8, "len is at most 4294967295"},
		{"len == -1", 8, "a number must stand here"},
		{"data[0] == 256", 12, "data is at most 255"},
		{"data[0:2] == 65536", 14, "data is at most 65535"},
		{"data[0] & 256", 11, "data is at most 255"},
		{"data == 1", 6, "[ must stand behind data"},
		{"data[0:3] == 1", 8, "as many bytes as 1, 2 or 4"},
		{"data[0:] == 1", 8, "a number must stand here"},
		{"data[0", 7, "] must stand here"},
		{"data[65532] == 1", 6, "an index of data is at most 65531"},
		{"tcp.dst == 80", 1, "no such field: ip.version"},
		{"lens == 80", 1, "no such field"},
		{"len == 1 && foo == 1", 13, "no such field"},
		{"5 == len", 1, "a field must stand here"},
		{"len = 5", 5, "&&, || or the end must stand here"},
		{"len == 5 len == 6", 10, "&&, || or the end must stand here"},
		{"len == 5 |", 10, "&&, || or the end must stand here"},
		{"len == 5 &&", 12, "a field must stand here"},
		{"len == 5 && && len == 5", 13, "a field must stand here"},
		{"len == 010z", 11, "&&, || or the end must stand here"},
		{"(len == 5", 1, "( without )"},
		{"len == 1 && (len == 5", 13, "( without )"},
		{"len == 5)", 9, ") without ("},
		{"(len == 5))", 11, ") without ("},
		{"()", 2, "a field must stand here"},
		{"!", 2, "a field must stand here"},
		{"ip.src < 10.0.0.1", 8, "== or != must stand behind ip.src"},
		{"ip.src == 10.0.0", 11, "an address must stand here"},
		{"ip.src == 10.0.0.0/33", 20, "a prefix of this address is at most 32"},
		{"ip.src == fd00::/129", 18, "a prefix of this address is at most 128"},
		{"ip.src == fd00:::", 11, "an address must stand here"},
		{"ip.src == 1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111", 11,
		 "an address must stand here"},
		{"ip.version == 4 & 1", 17, "&&, || or the end must stand here"},
	};
	struct expression expression;
	struct expression_error error;

	for (uint32_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (expression_compile(rows[i].text, &expression, &error) != -EINVAL)
			fail_msg("%s: taken", rows[i].text);
		if (error.at != rows[i].at ||
		    strncmp(error.text, rows[i].error, strlen(rows[i].error)) != 0)
			fail_msg("%s: %u: %s", rows[i].text, error.at, error.text);
	}
}

static void repeat(char *text, const char *part, uint32_t count, const char *last)
{
	size_t length = strlen(part);

	for (uint32_t i = 0; i < count; i++)
		(void)snprintf(text + i * length, length + 1, "%s", part);
	(void)snprintf(text + count * length, strlen(last) + 1, "%s", last);
}

/* 127 comparisons of a number are 254 instructions, and the two that end the program. */
static void test_bounds(void **state)
{
	(void)state;
	struct expression expression;
	struct expression_error error;
	struct element e;
	char text[4096];
	make(&e, "10.1.2.3", "10.0.0.1", 10);
	repeat(text, "len==1||", 126, "len==10");
	assert_true(passes(text, &e));
	expression = compiled(text);
	assert_int_equal(expression.count, CBPF_MAX);
	repeat(text, "len==1||", 127, "len==10");
	assert_int_equal(expression_compile(text, &expression, &error), -EINVAL);
	assert_int_equal(error.at, 127 * 8 + 4);
	assert_string_equal(error.text, "too long: more than 256 instructions");
	repeat(text, "len>9&&", 126, "len==10");
	assert_true(passes(text, &e));
	repeat(text, "(", EXPRESSION_DEPTH_MAX, "len");
	repeat(text + strlen(text), ")", EXPRESSION_DEPTH_MAX, "");
	assert_true(passes(text, &e));
	repeat(text, "!", EXPRESSION_DEPTH_MAX + 1, "len");
	assert_int_equal(expression_compile(text, &expression, &error), -EINVAL);
	assert_string_equal(error.text, "more than 32 deep");
}

/* ---- programs ---- */

#define RETURN                           \
	{                                \
		BPF_RET | BPF_K, 0, 0, 1 \
	}

static void test_which_programs_are_taken(void **state)
{
	(void)state;

	static const struct {
		bool good;
		uint32_t count;
		struct sock_filter program[3];
	} rows[] = {
		{true, 1, {RETURN}},
		{false, 0, {RETURN}},
		{true, 2, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0}, RETURN}},
		{true, 2, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 44}, RETURN}},
		{false, 2, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 46}, RETURN}},
		{false, 2, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 2}, RETURN}},
		{true, 2, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 49}, RETURN}},
		{true, 2, {{BPF_LD | BPF_B | BPF_ABS, 0, 0, CBPF_DATA + 65534}, RETURN}},
		{false, 2, {{BPF_LD | BPF_B | BPF_ABS, 0, 0, CBPF_DATA + 65535}, RETURN}},
		{false, 2, {{BPF_LD | BPF_H | BPF_ABS, 0, 0, CBPF_DATA + 65534}, RETURN}},
		{false, 2, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, UINT32_MAX}, RETURN}},
		{false, 2, {{BPF_LD | BPF_W | BPF_IND, 0, 0, 0}, RETURN}},
		{false, 2, {{BPF_LD | BPF_W | BPF_LEN, 0, 0, 0}, RETURN}},
		{false, 2, {{BPF_LDX | BPF_MEM, 0, 0, 0}, RETURN}},
		{false, 2, {{BPF_ST, 0, 0, 0}, RETURN}},
		{true, 2, {{BPF_ALU | BPF_AND | BPF_K, 0, 0, 7}, RETURN}},
		{false, 2, {{BPF_ALU | BPF_AND | BPF_X, 0, 0, 7}, RETURN}},
		{false, 2, {{BPF_ALU | BPF_DIV | BPF_K, 0, 0, 0}, RETURN}},
		{true, 2, {{BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 7}, RETURN}},
		{false, 2, {{BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 7}, RETURN}},
		{false, 2, {{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 7}, RETURN}},
		{true, 3, {{BPF_JMP | BPF_JGT | BPF_K, 1, 0, 7}, RETURN, RETURN}},
		{false, 2, {{BPF_JMP | BPF_JEQ | BPF_X, 0, 0, 7}, RETURN}},
		{true, 3, {{BPF_JMP | BPF_JA, 0, 0, 1}, RETURN, RETURN}},
		{false, 3, {{BPF_JMP | BPF_JA, 0, 0, 2}, RETURN, RETURN}},
		{false, 3, {{BPF_JMP | BPF_JA, 0, 0, UINT32_MAX}, RETURN, RETURN}},
		{false, 1, {{BPF_JMP | BPF_JA, 0, 0, 0}}},
		{false, 1, {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0}}},
		{false, 1, {{BPF_ALU | BPF_AND | BPF_K, 0, 0, 7}}},
		{false, 1, {{BPF_RET | BPF_A, 0, 0, 0}}},
		{false, 2, {{BPF_MISC | BPF_TAX, 0, 0, 0}, RETURN}},
	};
	static struct sock_filter long_one[CBPF_MAX + 1];

	for (uint32_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if ((cbpf_check(rows[i].program, rows[i].count) == 0) != rows[i].good)
			fail_msg("row %u: not %d", i, rows[i].good);
	}
	for (uint32_t i = 0; i <= CBPF_MAX; i++)
		long_one[i] = (struct sock_filter)RETURN;
	assert_int_equal(cbpf_check(long_one, CBPF_MAX), 0);
	assert_int_equal(cbpf_check(long_one, CBPF_MAX + 1), -EINVAL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_they_are_joined),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_what_is_not_there),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_what_it_wants),
		cmocka_unit_test(test_errors_say_where),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_which_programs_are_taken),
	};

	return test_run("expression", tests);
}
