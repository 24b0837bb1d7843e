/* SPDX-License-Identifier: MIT
 * tests/net/afxdp_queues_test.c - instances of one process that share an interface over AF_XDP, a
 * thread each, over a veth pair: with four queues, one each; with one queue, which the XDP program
 * shares out by hash.  They serve a kernel's connections, and of one queue they open some too.
 */
#include "support/test.h"

#include "support/netns.h"
#include "support/several.h"

#include <demi/instance.h>
#include <demi/libos.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool privileged;
static char lines[2048]; /* of the log */

static void keep_lines(void *arg, enum demi_log_level level, const char *message)
{
	size_t used = strlen(lines);

	(void)arg;
	(void)level;
	(void)snprintf(lines + used, sizeof(lines) - used, "%s\n", message);
}

static void prepare(const char *mode, const char *spread)
{
	(void)netns_try("ip link del vQ 2>/dev/null");
	netns_run(strcmp(spread, "device") == 0
			  ? "ip link add vQ numtxqueues 4 numrxqueues 4 type veth "
			    "peer name vP numtxqueues 4 numrxqueues 4"
			  : "ip link add vQ numtxqueues 1 numrxqueues 1 type veth "
			    "peer name vP numtxqueues 1 numrxqueues 1");
	netns_run("ethtool -K vP tx off tso off gso off >/dev/null");
	netns_run("ip link set vQ up && ip link set vP up && ip addr add 10.9.0.1/24 dev vP");
	const char *const settings[][2] = {
		{"LIBOS", "catpowder"},   {"DEMI_DEVICE", "afxdp"},
		{"DEMI_INTERFACE", "vQ"}, {"DEMI_ADDRESSES", "10.9.0.2/24"},
		{"DEMI_XDP_QUEUES", "4"}, {"DEMI_XDP_SPREAD", spread},
		{"DEMI_XDP_MODE", mode},  {"DEMI_XDP_MEMORY_BYTES", "8388608"},
		{"DEMI_XDP_RING", "256"},
	};
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		assert_int_equal(setenv(settings[i][0], settings[i][1], 1), 0);
}

/* least: instances that have connections in the end. */
static void serve_kernel(const char *mode, const char *spread, uint32_t least)
{
	const struct several several = {
		.said = "vQ, queue ",
		.key = "demitasse.xdp.queues",
		.calling = strcmp(spread, "device") != 0,
		.least = least,
	};

	prepare(mode, spread);
	several_serve_kernel(&several);
	netns_run("ip link del vQ");
}

static void test_queues_native(void **state)
{
	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	serve_kernel("native", "device", SEVERAL);
}

static void test_queues_generic(void **state)
{
	/* veth does not write the receive queue down for a program in the kernel's input: what was
	 * sent on queue n > 0 arrives on n - 1. */
	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	serve_kernel("generic", "device", SEVERAL - 1);
}

static void test_program_native(void **state)
{
	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	serve_kernel("native", "program", SEVERAL);
}

static void test_program_generic(void **state)
{
	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	serve_kernel("generic", "auto", SEVERAL);
}

/* What arrives on another queue would be lost. */
static void test_program_wants_one_queue(void **state)
{
	char *argv[] = {(char[]){"test"}, NULL};

	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	prepare("native", "device");
	assert_int_equal(setenv("DEMI_XDP_SPREAD", "program", 1), 0);
	lines[0] = '\0';
	(void)demi_set_log(keep_lines, NULL);
	assert_int_equal(demi_init(&(struct demi_args){.argc = 1, .argv = argv}), EOPNOTSUPP);
	assert_non_null(strstr(lines, "demitasse.xdp.spread"));
	netns_run("ip link del vQ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queues_native),
		cmocka_unit_test(test_queues_generic),
		cmocka_unit_test(test_program_native),
		cmocka_unit_test(test_program_generic),
		cmocka_unit_test(test_program_wants_one_queue),
	};

	privileged = netns_enter();
	return test_run("afxdp_queues", tests);
}
