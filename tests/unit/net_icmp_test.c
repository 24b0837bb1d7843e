/* SPDX-License-Identifier: MIT
 * tests/unit/net_icmp_test.c - ICMP and ICMPv6: echoes, errors that come in, errors that go out.
 */
#include "support/link.h"

#include "net/wire/checksum.h"
#include "net/wire/ether.h"
#include "net/wire/udp.h"

#include <errno.h>
#include <string.h>

/* ---- echoes ---- */

static void echo(struct link *link, const char *from, const char *to, uint32_t length)
{
	bool v4 = strchr(from, '.') != NULL;
	const struct icmp_header request = {.type = v4 ? ICMP_ECHO : ICMPV6_ECHO,
					    .rest = 0x12345678};
	const struct ip_address a = link_address(from);
	const struct ip_address b = link_address(to);
	uint8_t data[1500];
	struct link_packet packet;

	for (uint32_t i = 0; i < length; i++)
		data[i] = (uint8_t)(i * 7);
	link_know(link, from);
	struct link_made made = link_make_icmp(from, to, &request, data, length);
	link_arrive_made(link, &made);
	struct icmp_header reply =
		link_next_icmp(link, v4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY, 0, &packet);
	assert_int_equal(reply.rest, request.rest);
	assert_int_equal(cursor_left(&packet.c), length);
	if (length > 0)
		assert_memory_equal(packet.c.at, data, length);
	assert_true(ip_equal(&packet.ip.from, &b));
	assert_true(ip_equal(&packet.ip.to, &a));
	link_quiet(link);
}

/* RFC 1122 3.2.2.6 MUST, RFC 4443 4.2 MUST */
static void test_echo(void **state)
{
	static const uint32_t lengths[] = {0, 1, 56, 57, 1400};
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
		echo(link, "10.0.0.1", "10.0.0.2", lengths[i]);
		echo(link, "fd00::1", "fd00::2", lengths[i]);
		echo(link, "fe80::1", "fe80::ff:fe00:2", lengths[i]);
	}
	link_close(link);
}

/* attack row 9: no answer to a group, not the largest packet beyond the MTU, and a rate */
static void test_echo_attacks(void **state)
{
	const struct icmp_header v4 = {.type = ICMP_ECHO};
	const struct icmp_header v6 = {.type = ICMPV6_ECHO};
	struct link *link = link_open(NULL);
	struct link_made made = link_make_icmp("10.0.0.1", "10.0.0.255", &v4, NULL, 0);

	(void)state;
	memset(made.bytes, 0xff, 6);
	link_arrive_made(link, &made);
	made = link_make_icmp("10.0.0.1", "224.0.0.1", &v4, NULL, 0);
	link_arrive_made(link, &made);
	made = link_make_icmp("fd00::1", "ff02::1", &v6, NULL, 0);
	link_arrive_made(link, &made);
	assert_int_equal(link_drops(link, DROP_IP_BROADCAST), 3);
	made = link_make_icmp("::", "fd00::2", &v6, NULL, 0);
	link_arrive_made(link, &made);
	assert_int_equal(link_drops(link, DROP_IP_SOURCE), 1);
	link_quiet(link);
	link_know(link, "10.0.0.1");
	made = link_make_icmp("10.0.0.1", "10.0.0.2", &v4, NULL, 0);
	for (int i = 0; i < 3000; i++) {
		link_arrive_made(link, &made);
		if (link->num_sent > 900)
			link_forget(link);
	}
	assert_int_equal(link_drops(link, DROP_ICMP_RATE), 1000);
	link_wait(link, LINK_SECOND / 10); /* the bucket is full again */
	link_forget(link);
	link_arrive_made(link, &made);
	assert_non_null(link_next(link));
	link_close(link);
}

static void small_mtu(struct link *link)
{
	link->rig.sched.config.mtu = 1280;
}

/* The device takes more than we send: the answer goes out in fragments. */
static void test_echo_size(void **state)
{
	static const uint8_t data[1300];
	const struct icmp_header request = {.type = ICMP_ECHO};
	struct link *link = link_open(small_mtu);

	(void)state;
	echo(link, "10.0.0.1", "10.0.0.2", 1280 - 28);
	echo(link, "fd00::1", "fd00::2", 1280 - 48);
	struct link_made made = link_make_icmp("10.0.0.1", "10.0.0.2", &request, data, 1280 - 27);
	link_arrive_made(link, &made);
	const struct link_frame *first = link_next(link);
	assert_int_equal(first->length, ETHER_HEADER_BYTES + IPV4_HEADER_BYTES + 1256);
	assert_int_equal(link_next(link)->length, ETHER_HEADER_BYTES + IPV4_HEADER_BYTES + 5);
	link_quiet(link);
	link_close(link);
}

static void test_malformed(void **state)
{
	const struct icmp_header v4 = {.type = ICMP_ECHO};
	const struct icmp_header v6 = {.type = ICMPV6_ECHO};
	struct link *link = link_open(NULL);
	struct link_made made = link_make_icmp("10.0.0.1", "10.0.0.2", &v4, "abcd", 4);

	(void)state;
	made.bytes[made.length - 1] ^= 4;
	link_arrive_made(link, &made);
	made = link_make_icmp("fd00::1", "fd00::2", &v6, "abcd", 4);
	made.bytes[made.length - 1] ^= 4;
	link_arrive_made(link, &made);
	for (uint32_t length = 0; length < ICMP_HEADER_BYTES; length++) {
		made = link_make_ip("10.0.0.1", "10.0.0.2", IP_ICMP, "\0\0\0\0\0\0\0", length);
		link_arrive_made(link, &made);
	}
	assert_int_equal(link_drops(link, DROP_ICMP_BAD), 2 + ICMP_HEADER_BYTES);
	link_quiet(link);
	link_close(link);
}

/* ---- errors in ---- */

/* What an error quotes: a TCP segment of ours to the peer. */
static uint32_t quote(uint8_t *out, bool v4, uint8_t protocol, const char *source)
{
	const struct ip_address from = link_address(source);
	const struct ip_address to = link_address(v4 ? "10.9.9.9" : "fd09::9");
	uint32_t header = v4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;

	if (v4)
		ipv4_write(out, &from, &to, protocol, 64, 0, 40);
	else
		ipv6_write(out, &from, &to, protocol, 64, 0, 40, 0);
	store16(out + header, 1111);
	store16(out + header + 2, 2222);
	store32(out + header + 4, 0xfedcba98);
	return header + 8;
}

static void error_in(struct link *link, bool v4, const struct icmp_header *header, uint8_t protocol)
{
	uint8_t bytes[60];
	uint32_t length = quote(bytes, v4, protocol, v4 ? "10.0.0.2" : "fd00::2");
	struct link_made made = v4 ? link_make_icmp("10.0.0.1", "10.0.0.2", header, bytes, length)
				   : link_make_icmp("fd00::1", "fd00::2", header, bytes, length);

	link_arrive_made(link, &made);
}

static void test_errors_in(void **state)
{
	static const struct {
		bool v4;
		uint8_t type;
		uint8_t code;
		uint32_t rest;
		int err;
		bool hard;
		uint32_t mtu;
	} rows[] = {
		/* RFC 1122 4.2.3.9: soft are 0, 1, 5, time exceeded, parameter problem; hard 2, 3
		 */
		{true, 3, 0, 0, ENETUNREACH, false, 0},
		{true, 3, 1, 0, EHOSTUNREACH, false, 0},
		{true, 3, 2, 0, ENOPROTOOPT, true, 0},
		{true, 3, 3, 0, ECONNREFUSED, true, 0},
		{true, 3, 5, 0, EOPNOTSUPP, false, 0},
		{true, 3, 6, 0, ENETUNREACH, false, 0},
		{true, 3, 7, 0, EHOSTUNREACH, false, 0},
		{true, 3, 9, 0, ENETUNREACH, false, 0},
		{true, 3, 12, 0, EHOSTUNREACH, false, 0},
		{true, 3, 13, 0, EHOSTUNREACH, false, 0},
		{true, 3, 255, 0, EHOSTUNREACH, false, 0},
		{true, 11, 0, 0, EHOSTUNREACH, false, 0},
		{true, 12, 0, 0, EPROTO, false, 0},
		/* what of it is believed is pmtu.c's */
		{true, 3, 4, 1400, EMSGSIZE, false, 1400},
		{true, 3, 4, 0, EMSGSIZE, false, 0},
		{true, 3, 4, 68, EMSGSIZE, false, 68},
		{true, 3, 4, 0xffff0000 + 576, EMSGSIZE, false, 576},
		/* RFC 4443 3 */
		{false, 1, 0, 0, ENETUNREACH, false, 0},
		{false, 1, 1, 0, EACCES, false, 0},
		{false, 1, 2, 0, EHOSTUNREACH, false, 0},
		{false, 1, 3, 0, EHOSTUNREACH, false, 0},
		{false, 1, 4, 0, ECONNREFUSED, true, 0},
		{false, 1, 6, 0, EACCES, false, 0},
		{false, 2, 0, 1400, EMSGSIZE, false, 1400},
		{false, 2, 0, 0, EMSGSIZE, false, 0},
		{false, 2, 0, 1279, EMSGSIZE, false, 1279},
		{false, 3, 0, 0, EHOSTUNREACH, false, 0},
		{false, 4, 0, 0, EPROTO, false, 0},
		{false, 4, 1, 0, ENOPROTOOPT, true, 0},
	};
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		const struct icmp_header header = {
			.type = rows[i].type,
			.code = rows[i].code,
			.rest = rows[i].rest,
		};
		const struct ip_address to = link_address(rows[i].v4 ? "10.9.9.9" : "fd09::9");
		error_in(link, rows[i].v4, &header, IP_TCP);
		assert_int_equal(link->tcp.errors, i + 1);
		assert_int_equal(link->tcp.error.err, rows[i].err);
		assert_int_equal(link->tcp.error.hard, rows[i].hard);
		assert_int_equal(link->tcp.error.mtu, rows[i].mtu);
		assert_false(link->tcp.error.local);
		assert_int_equal(link->tcp.quote.source_port, 1111);
		assert_int_equal(link->tcp.quote.destination_port, 2222);
		assert_int_equal(link->tcp.quote.seq, 0xfedcba98);
		assert_true(ip_equal(&link->tcp.quote.to, &to));
	}
	link_quiet(link);
	link_close(link);
}

/* attack row 8: source quench, redirects and unknown types are ignored */
static void test_ignored(void **state)
{
	static const uint8_t v4[] = {
		ICMP_ECHO_REPLY, ICMP_SOURCE_QUENCH, ICMP_REDIRECT, 9, 10, 13, 15, 17, 40, 255};
	static const uint8_t v6[] = {0, 5, 100, 127, 129, 133, 137, 138, 200, 255};
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t i = 0; i < sizeof(v4); i++) {
		error_in(link, true, &(struct icmp_header){.type = v4[i]}, IP_TCP);
		error_in(link, false, &(struct icmp_header){.type = v6[i]}, IP_TCP);
	}
	assert_int_equal(link->tcp.errors, 0);
	assert_int_equal(link_drops(link, DROP_ICMP_TYPE), 2 * sizeof(v4));
	link_quiet(link);
	link_close(link);
}

/* attack row 8: quotes that we did not send, or that are too short */
static void test_forged(void **state)
{
	const struct icmp_header port4 = {.type = 3, .code = 3};
	const struct icmp_header port6 = {.type = 1, .code = 4};
	struct link *link = link_open(NULL);
	uint8_t bytes[60];
	uint32_t length = quote(bytes, true, IP_TCP, "10.0.0.3");
	struct link_made made = link_make_icmp("10.0.0.1", "10.0.0.2", &port4, bytes, length);

	(void)state;
	link_arrive_made(link, &made);
	length = quote(bytes, false, IP_TCP, "fd00::3");
	made = link_make_icmp("fd00::1", "fd00::2", &port6, bytes, length);
	link_arrive_made(link, &made);
	error_in(link, true, &port4, IP_ICMP); /* an error about an echo of ours: there are none */
	error_in(link, true, &port4, 132);
	error_in(link, true, &port4, IP_UDP); /* no such socket */
	assert_int_equal(link_drops(link, DROP_ICMP_UNMATCHED), 5);
	length = quote(bytes, true, IP_TCP, "10.0.0.2");
	for (uint32_t cut = 0; cut < length; cut++) {
		made = link_make_icmp("10.0.0.1", "10.0.0.2", &port4, bytes, cut);
		link_arrive_made(link, &made);
	}
	assert_int_equal(link_drops(link, DROP_ICMP_BAD), length);
	length = quote(bytes, false, IP_TCP, "fd00::2");
	for (uint32_t cut = 0; cut < length; cut++) {
		made = link_make_icmp("fd00::1", "fd00::2", &port6, bytes, cut);
		link_arrive_made(link, &made);
	}
	assert_int_equal(link->tcp.errors, 0);
	link_quiet(link);
	link_close(link);
}

/* ---- errors out ---- */

static void know_both(struct link *link)
{
	link_know(link, "10.0.0.1");
	link_know(link, "fd00::1");
}

/* RFC 1122 4.1.3.1 SHOULD, RFC 4443 3.1 SHOULD: a port that nobody has */
static void port_out(struct link *link, const char *from, const char *to, uint8_t type,
		     uint8_t code, uint32_t max)
{
	static uint8_t data[1400];
	struct link_packet packet;

	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	for (uint32_t length = 0; length <= sizeof(data); length += 175) {
		struct link_made made = link_make_udp(from, 5, to, 6, data, length);
		link_arrive_made(link, &made);
		(void)link_next_icmp(link, type, code, &packet);
		uint32_t quoted = made.length - ETHER_HEADER_BYTES;
		assert_int_equal(cursor_left(&packet.c), quoted < max ? quoted : max);
		assert_memory_equal(packet.c.at, made.bytes + ETHER_HEADER_BYTES,
				    cursor_left(&packet.c));
	}
	link_quiet(link);
}

static void test_port_out(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	know_both(link);
	port_out(link, "10.0.0.1", "10.0.0.2", ICMP_UNREACHABLE, 3, 576 - 28);
	port_out(link, "fd00::1", "fd00::2", ICMPV6_UNREACHABLE, 4, 1280 - 48);
	assert_int_equal(link_drops(link, DROP_UDP_PORT), 18);
	link_close(link);
}

/* RFC 1122 3.2.2.1 SHOULD: a protocol that is not spoken; RFC 8200 4: next headers and options */
static void test_problems_out(void **state)
{
	struct link *link = link_open(NULL);
	struct link_packet packet;

	(void)state;
	know_both(link);
	struct link_made made = link_make_ip("10.0.0.1", "10.0.0.2", 132, "abcdefgh", 8);
	link_arrive_made(link, &made);
	(void)link_next_icmp(link, ICMP_UNREACHABLE, 2, &packet);
	made = link_make_ip("10.0.0.1", "10.0.0.2", IP_ICMPV6, "abcdefgh", 8);
	link_arrive_made(link, &made);
	(void)link_next_icmp(link, ICMP_UNREACHABLE, 2, &packet);
	made = link_make_ip("fd00::1", "fd00::2", 132, "abcdefgh", 8);
	link_arrive_made(link, &made);
	struct icmp_header header =
		link_next_icmp(link, ICMPV6_PARAMETER_PROBLEM, IP_PROBLEM_NEXT_HEADER, &packet);
	assert_int_equal(header.rest, 6);
	/* attack row 7: an option that wants to be reported, by its two high bits, to a group too
	 */
	static const uint8_t option[8] = {IP_TCP, 0, 0x80, 4, 0, 0, 0, 0};
	made = link_make_ip("fd00::1", "ff02::1", 60, option, sizeof(option));
	link_arrive_made(link, &made);
	header = link_next_icmp(link, ICMPV6_PARAMETER_PROBLEM, IP_PROBLEM_OPTION, &packet);
	assert_int_equal(header.rest, 42);
	const struct ip_address from = link_address("fd00::2");
	assert_true(ip_equal(&packet.ip.from, &from));
	/* routing type 0 */
	static const uint8_t routing[8] = {IP_TCP, 0, 0, 1};
	made = link_make_ip("fd00::1", "fd00::2", 43, routing, sizeof(routing));
	link_arrive_made(link, &made);
	header = link_next_icmp(link, ICMPV6_PARAMETER_PROBLEM, IP_PROBLEM_FIELD, &packet);
	assert_int_equal(header.rest, 42);
	link_quiet(link);
	link_close(link);
}

/* attack row 9: no error about an error, a group, a fragment, nobody's address or another's packet
 */
static void test_not_out(void **state)
{
	struct link *link = link_open(NULL);
	struct link_made made;

	(void)state;
	know_both(link);
	const struct icmp_header error = {.type = ICMP_UNREACHABLE, .code = 3};
	made = link_make_icmp("10.0.0.1", "10.0.0.2", &error, "short", 5);
	link_arrive_made(link, &made);
	made = link_make_ip("10.0.0.1", "10.0.0.255", 132, "abcdefgh", 8);
	link_arrive_made(link, &made);
	made = link_make_ip("fd00::1", "ff02::1", 132, "abcdefgh", 8);
	link_arrive_made(link, &made);
	made = link_make_udp("10.0.0.1", 5, "10.0.0.255", 6, "x", 1);
	link_arrive_made(link, &made);
	made = link_make_udp("fd00::1", 5, "ff02::1", 6, "x", 1);
	link_arrive_made(link, &made);
	made = link_make_udp("10.0.0.1", 5, "10.0.0.2", 6, "x", 1);
	memset(made.bytes, 0xff, 6); /* a link-layer broadcast */
	link_arrive_made(link, &made);
	made = link_make_udp("10.0.0.1", 5, "10.0.0.2", 6, "x", 1);
	store16(made.bytes + ETHER_HEADER_BYTES + 6, 0x2000);
	link_checksum_v4(&made);
	link_arrive_made(link, &made);
	made = link_make_udp("10.0.0.255", 5, "10.0.0.2", 6, "x", 1);
	link_arrive_made(link, &made);
	made = link_make_udp("::", 5, "fd00::2", 6, "x", 1);
	link_arrive_made(link, &made);
	made = link_make_ip("fd00::1", "fd00::2", 59, "abcdefgh", 8); /* RFC 8200 4.7 */
	link_arrive_made(link, &made);
	link_quiet(link);
	link_close(link);
}

/* attack row 9, 12: a flood to a closed port is answered at a bounded rate, whose state nobody can
 * count */
static void test_rate(void **state)
{
	struct link *link = link_open(NULL);
	struct link_made made = link_make_udp("10.0.0.1", 5, "10.0.0.2", 6, "x", 1);

	(void)state;
	know_both(link);
	for (int i = 0; i < 1000; i++)
		link_arrive_made(link, &made);
	net_flush(&link->net);
	assert_true(link->num_sent >= 50 / 3 && link->num_sent <= 50);
	assert_int_equal(link_drops(link, DROP_ICMP_RATE), 1000 - link->num_sent);
	uint32_t burst = link->num_sent;
	link_wait(link, LINK_SECOND);
	for (int i = 0; i < 1000; i++)
		link_arrive_made(link, &made);
	net_flush(&link->net);
	assert_true(link->num_sent - burst <= 50 && link->num_sent > burst);
	/* In a second: at most what it allows. */
	uint32_t before = link->num_sent;
	for (int i = 0; i < 200; i++) {
		for (int j = 0; j < 50; j++)
			link_arrive_made(link, &made);
		link_wait(link, LINK_SECOND / 200);
	}
	assert_true(link->num_sent - before <= 1000);
	assert_true(link->num_sent - before >= 300);
	link_forget(link);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo),         cmocka_unit_test(test_echo_attacks),
		cmocka_unit_test(test_malformed),    cmocka_unit_test(test_echo_size),
		cmocka_unit_test(test_errors_in),    cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_forged),       cmocka_unit_test(test_port_out),
		cmocka_unit_test(test_problems_out), cmocka_unit_test(test_not_out),
		cmocka_unit_test(test_rate),
	};

	return test_run("net_icmp", tests);
}
