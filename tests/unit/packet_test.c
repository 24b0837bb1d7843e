/* SPDX-License-Identifier: MIT
 * tests/unit/packet_test.c - the tools of packet scripts: what the parser takes and refuses, that
 * the matcher sees each field that differs, the assertions.
 */
#include "support/test.h"

#include "packet/expr.h"
#include "packet/match.h"
#include "packet/run.h"
#include "packet/script.h"

#include <stdlib.h>
#include <string.h>

/* ---- parsing ---- */

static struct script parsed(const char *text)
{
	struct script script;

	if (script_parse(&script, "t", text, strlen(text)))
		fail_msg("%s", script.error);
	return script;
}

static void refused(const char *text, const char *message)
{
	struct script script;

	assert_int_equal(script_parse(&script, "t", text, strlen(text)), -1);
	if (!strstr(script.error, message))
		fail_msg("`%s` is not about `%s`", script.error, message);
	script_free(&script);
}

static void test_times(void **state)
{
	struct script s =
		parsed("0 close(3)\n0.5 close(3) = 0 +1.25 close(3) /* x */\n"
		       "* close(3) // y\n1~2 close(3) +0~+.5 close(3)\n+.1...0.2 close(3)");
	const struct event *e = s.events;

	(void)state;
	assert_int_equal(e->time, TIME_ABSOLUTE);
	e = e->next;
	assert_int_equal(e->at_ns, 500000000);
	assert_int_equal(e->line, 2);
	e = e->next;
	assert_int_equal(e->time, TIME_RELATIVE);
	assert_int_equal(e->at_ns, 1250000000);
	e = e->next;
	assert_int_equal(e->time, TIME_ANY);
	e = e->next;
	assert_true(e->has_range && e->until_ns == 2000000000);
	e = e->next;
	assert_true(e->has_range && e->time == TIME_RELATIVE && e->until_ns == 500000000);
	e = e->next;
	assert_true(e->call.blocking && e->at_ns == 100000000 && e->call.end_ns == 200000000);
	assert_null(e->next);
	script_free(&s);
}

static void test_packets(void **state)
{
	struct script s = parsed("--mtu=1400\n--ip_version=ipv6\n"
				 "0 > [ect0, ttl 3] (80>90) SEW. 1:11(10) ack 5 win 7 urg 2 "
				 "<mss 9,sackOK,TS val 1 ecr 2,nop,wscale 3,sack 1:2 3:4,eol>\n"
				 "0 < icmp unreachable frag_needed mtu 1300 [1:11(10)]\n"
				 "0 < udp (5)\n0 > - 0:0(0) <...>");
	const struct packet_spec *p = &s.events->packet;

	(void)state;
	assert_string_equal(s.options->name, "mtu");
	assert_string_equal(s.options->next->value, "ipv6");
	assert_true(p->outbound && p->has_ports && p->from_port == 80 && p->to_port == 90);
	assert_int_equal(p->flags, LIVE_SYN | LIVE_ACK | 0x40 | 0x80);
	assert_true(p->ecn == ECN_ECT0 && p->ttl == 3 && p->tos == -1);
	assert_true(p->seq == 1 && p->length == 10 && p->ack == 5 && p->window == 7 &&
		    p->urgent == 2);
	assert_int_equal(p->num_options, 7);
	assert_int_equal(p->options[5].blocks[1].end, 4);
	p = &s.events->next->packet;
	assert_true(p->kind == PACKET_ICMP && p->icmp_type == 3 && p->icmp_code == 4 &&
		    p->icmp6_type == 2 && p->icmp_rest == 1300 && p->quote_seq == 1);
	p = &s.events->next->next->packet;
	assert_true(p->kind == PACKET_UDP && p->length == 5);
	p = &s.events->next->next->next->packet;
	assert_true(p->any_options && p->flags == 0);
	script_free(&s);
}

static void test_calls(void **state)
{
	struct script s =
		parsed("0 fcntl(3, F_SETFL, O_RDWR | O_NONBLOCK) = -1 EAGAIN (words)\n"
		       "0 x({a=1, b=[{..., 2}]}, htons(80), \"s\", 10*3+0x10) = 0x02 (y)\n"
		       "+0 close(3) = ...");
	const struct call_spec *c = &s.events->call;

	(void)state;
	assert_int_equal(c->args->next->next->number, 02 | 04000);
	assert_int_equal(c->result->number, -1);
	assert_string_equal(c->error, "EAGAIN");
	c = &s.events->next->call;
	assert_string_equal(c->args->items->next->field, "b");
	assert_int_equal(c->args->next->kind, EXPR_CALL);
	assert_int_equal(c->args->next->next->next->number, 46);
	assert_int_equal(c->result->number, 2);
	assert_int_equal(s.events->next->next->time, TIME_RELATIVE);
	assert_int_equal(s.events->next->next->call.result->kind, EXPR_ELLIPSIS);
	script_free(&s);
}

static void test_refusals(void **state)
{
	(void)state;
	refused("0 > Q 0:0(0)", "t:1: flags");
	refused("\n\n0 > S 0:5(4)", "t:3: 0:5(4)");
	refused("0 < S 0:0(0)", "needs a window");
	refused("0 > S 0:0(0) <mss 70000>", "mss 70000");
	refused("0 > S 0:0(0) <BOGUS 1234>", "TCP option `BOGUS` is not supported");
	refused("0 > S 0:0(0) <sack 1:2 3:4 5:6 7:8,sack 1:2>", "more than 40");
	refused("0 < S 0:0(0) win 1 <...>", "says nothing");
	refused("0 > [gre] S 0:0(0)", "[gre] is not supported");
	refused("0 < icmp unreachable bogus", "icmp unreachable bogus is not supported");
	refused("0 close(3", "expected `)`");
	refused("0 close(3) = -1 EWHAT", "EWHAT");
	refused("0 close(3) = \"x\"", "is a number");
	refused("0 x(FOO|1)", "`FOO` is no constant");
	refused("0 `sleep", "` is missing");
	refused("0 %{ print(1) }%", "only assert is supported");
	refused("0 %{ assert tcpi_bogus == 1 }%", "not known in an assertion");
	refused("x close(3)", "expected a time");
	refused("2~1 close(3)", "ends before it begins");
	refused("0 x([[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]])", "nested too deeply");
	refused("0 x(\"abc", "does not end");
	refused("0", "expected a packet");
}

/* ---- assertions ---- */

static void holds(const char *text, bool expected)
{
	struct tcp_info info = {.tcpi_state = 1, .tcpi_snd_cwnd = 10, .tcpi_rtt = 5000};
	char why[200] = "";

	info.tcpi_snd_wscale = 7;
	assert_true(expr_check(text, why, sizeof(why)));
	if (expr_hold(text, &info, why, sizeof(why)) != expected)
		fail_msg("%s: %s", text, why);
}

static void test_assertions(void **state)
{
	char why[200];
	struct tcp_info info = {.tcpi_snd_cwnd = 10};

	(void)state;
	holds("assert tcpi_state == TCP_ESTABLISHED", true);
	holds("assert tcpi_state == 2", false);
	holds("assert 1 + 2 * 3 == 7 and (1 + 2) * 3 == 9; assert 7 % 4 == 3, 7", true);
	holds("assert not tcpi_unacked and tcpi_snd_wscale == 7\nassert -3 < 2", true);
	holds("assert 1 == 2 or tcpi_rtt >= 5000", true);
	holds("assert 1 != 1", false);
	holds("assert 10 / 0 == 0 and 8 // 3 == 2", true);
	holds("assert tcpi_snd_cwnd <= 9 or tcpi_snd_cwnd > 10", false);
	assert_false(expr_hold("assert tcpi_snd_cwnd == 9", &info, why, sizeof(why)));
	assert_non_null(strstr(why, "tcpi_snd_cwnd is 10"));
	assert_false(expr_check("assert (1", why, sizeof(why)));
	assert_false(expr_check("assert", why, sizeof(why)));
}

/* ---- matching ---- */

static struct ip_address local;
static struct ip_address remote;

/* A packet of ours as the wire has it: built like one of the remote's, its ends swapped. */
static struct live_packet *live_of(const char *text, uint32_t isn)
{
	static uint8_t bytes[LIVE_BYTES_MAX + 64];
	struct flows other;
	struct script s = parsed(text);
	char why[128] = "";

	flows_init(&other, &remote, &local);
	struct flow *flow = flows_connect(&other, s.events->packet.kind, 8080);
	flow->local_port = 40000;
	struct packet_spec spec = s.events->packet;
	spec.seq += isn;
	uint32_t length = match_build(&other, &spec, bytes, why, sizeof(why));
	assert_true(length > 0);
	struct live_packet *live = live_parse(bytes, length);
	assert_non_null(live);
	script_free(&s);
	return live;
}

static void compare_with(struct flows *flows, const char *expected, const char *sent, uint32_t isn,
			 const char *difference)
{
	struct script s = parsed(expected);
	struct live_packet *live = live_of(sent, isn);
	char why[512];
	bool same = match_packet(flows, &s.events->packet, live, why, sizeof(why));

	if (difference ? same || !strstr(why, difference) : !same)
		fail_msg("`%s` against `%s`: %s", expected, sent, why);
	free(live);
	script_free(&s);
}

static void prepare(struct flows *flows)
{
	local = ip_from_v4(__builtin_bswap32(0xc0a80001U));
	remote = ip_from_v4(__builtin_bswap32(0xc0000201U));
	flows_init(flows, &local, &remote);
}

static void test_match(void **state)
{
	struct flows flows;
	static const char first[] =
		"0 > S 0:0(0) win 9 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>";
	static const char sent[] =
		"0 < S 0:0(0) win 9 <mss 1460,sackOK,TS val 777 ecr 0,nop,wscale 7>";

	(void)state;
	prepare(&flows);
	compare_with(&flows, first, sent, 0xfffffff0, NULL); /* fixes both bases */
	compare_with(&flows, "0 > . 1:1(0) ack 5 win 9", "0 < . 1:1(0) ack 5 win 9", 0xfffffff0,
		     NULL);
	compare_with(&flows, "0 > . 1:1(0) ack 5", "0 < . 2:2(0) ack 5 win 9", 0xfffffff0,
		     "seq: expected 1, got 2");
	compare_with(&flows, "0 > . 1:1(0) ack 6", "0 < . 1:1(0) ack 5 win 9", 0xfffffff0,
		     "ack: expected 6, got 5");
	compare_with(&flows, "0 > . 1:1(0) ack 5 win 8", "0 < . 1:1(0) ack 5 win 9", 0xfffffff0,
		     "win: expected 8, got 9");
	compare_with(&flows, "0 > P. 1:1(0) ack 5", "0 < . 1:1(0) ack 5 win 9", 0xfffffff0,
		     "flags: expected P., got .");
	compare_with(&flows, "0 > . 1:2(1) ack 5", "0 < . 1:1(0) ack 5 win 9", 0xfffffff0,
		     "payload bytes: expected 1, got 0");
	compare_with(&flows, "0 > . 1:1(0) ack 5", "0 < . 1:1(0) ack 5 win 9 urg 3", 0xfffffff0,
		     "urg: expected 0, got 3");
	compare_with(&flows, "0 > . 1:1(0) ack 5", "0 < . 1:1(0) ack 5 win 9 <sackOK,nop,nop>",
		     0xfffffff0, "options: expected <>, got <sackOK,nop,nop>");
	compare_with(&flows, "0 > . 1:1(0) ack 5 <nop,nop,sackOK>",
		     "0 < . 1:1(0) ack 5 win 9 <sackOK,nop,nop>", 0xfffffff0, "options");
	compare_with(&flows, "0 > . 1:1(0) ack 5 <...>",
		     "0 < . 1:1(0) ack 5 win 9 <sackOK,nop,nop>", 0xfffffff0, NULL);
	compare_with(&flows, "0 > [noecn] . 1:1(0) ack 5", "0 < [ect0] . 1:1(0) ack 5 win 9",
		     0xfffffff0, "ECN bits: expected 0, got 2");
	compare_with(&flows, "0 > . 1:1(0) ack 5", "0 < . 1:1(0) ack 5 win 9 badsum", 0xfffffff0,
		     "transport checksum");
	compare_with(&flows, "0 > (9>8) . 1:1(0) ack 5", "0 < . 1:1(0) ack 5 win 9", 0,
		     "source port: expected 9");
	compare_with(&flows, "0 > udp (0)", "0 < . 1:1(0) ack 5 win 9", 0, "another protocol");
}

static void test_match_timestamps(void **state)
{
	struct flows flows;

	(void)state;
	prepare(&flows);
	compare_with(&flows, "0 > S 0:0(0) <TS val 100 ecr 0,nop,nop>",
		     "0 < S 0:0(0) win 9 <TS val 50 ecr 0,nop,nop>", 7, NULL);
	compare_with(&flows, "0 > . 1:1(0) ack 5 <nop,nop,TS val 200 ecr 3>",
		     "0 < . 1:1(0) ack 5 win 9 <nop,nop,TS val 152 ecr 3>", 7, NULL);
	compare_with(&flows, "0 > . 1:1(0) ack 5 <nop,nop,TS val 200 ecr 3>",
		     "0 < . 1:1(0) ack 5 win 9 <nop,nop,TS val 170 ecr 3>", 7,
		     "TS val: expected 200, got 220");
	compare_with(&flows, "0 > . 1:1(0) ack 5 <nop,nop,TS val 200 ecr 3>",
		     "0 < . 1:1(0) ack 5 win 9 <nop,nop,TS val 150 ecr 4>", 7, "options");
	compare_with(&flows, "0 > . 1:1(0) ack 5 <nop,nop,TS val ... ecr 3>",
		     "0 < . 1:1(0) ack 5 win 9 <nop,nop,TS val 9999 ecr 3>", 7, NULL);
}

/* Nothing that is malformed is taken for a packet, nor read beyond its end. */
static void test_live_lengths(void **state)
{
	struct flows flows;

	(void)state;
	prepare(&flows);
	struct live_packet *live = live_of("0 < P. 1:11(10) ack 5 win 9 <mss 3>", 0);
	for (uint32_t length = 0; length < live->length; length++) {
		uint8_t *copy = malloc(length ? length : 1);
		memcpy(copy, live->bytes, length);
		struct live_packet *cut = live_parse(copy, length);
		assert_null(cut);
		free(copy);
	}
	free(live);
}

/* ---- running ---- */

static void run_text(const char *text, enum run_result expected, const char *message)
{
	struct script s = parsed(text);
	struct run_adapter adapter = {0};
	char why[RUN_MESSAGE_MAX];

	assert_true(run_load(&adapter, NULL, why));
	if (run_script(&adapter, &s, why) != expected || (message && !strstr(why, message)))
		fail_msg("%s: %s", text, why);
	script_free(&s);
}

/* What the runner must not let pass. */
static void test_runner(void **state)
{
	(void)state;
	run_text("0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n0 close(3) = 0", RUN_OK, NULL);
	run_text("0 close(3) = 0", RUN_FAILED, "t:1: close: expected 0, got -1 EBADF");
	run_text("0 close(3) = -1 EINVAL", RUN_FAILED, "expected EINVAL, got EBADF");
	run_text("\n0 bogus(3) = 0", RUN_FAILED, "t:2: bogus: the call bogus is not supported");
	run_text("--bogus=1\n0 close(3) = -1", RUN_FAILED, "--bogus=1 is not supported");
	run_text("--config=bogus=1\n0 close(3) = -1", RUN_FAILED, "t:1: ");
	run_text("0 > S 0:0(0)", RUN_FAILED, "got nothing until");
	run_text("0 < udp (5)\n+1 > icmp unreachable port_unreachable [udp (5)]", RUN_FAILED,
		 "expected at 1.00000");
	run_text("--strict\n0 < udp (5)\n+1 close(3) = -1 EBADF", RUN_FAILED, "not expected");
	run_text("0 socket(..., SOCK_DGRAM, 0) = 3\n0 bind(3, ..., ...) = 0\n"
		 "0...1 recv(3, ..., 9, 0) = 5\n2 < udp (5)",
		 RUN_FAILED, "not at 1.000000 s");
	run_text("0 socket(..., SOCK_DGRAM, 0) = 3\n0 bind(3, ..., ...) = 0\n"
		 "0 recv(3, ..., 9, 0) = 5",
		 RUN_FAILED, "recv has not returned");
	run_text("0 socket(..., SOCK_STREAM, 0) = 3\n0 %{ assert tcpi_state == 1 }%", RUN_FAILED,
		 "does not hold: assert tcpi_state == 1 : tcpi_state is 7");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_packets),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_assertions),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_match_timestamps),
		cmocka_unit_test(test_live_lengths),
		cmocka_unit_test(test_runner),
	};

	return test_run("packet", tests);
}
