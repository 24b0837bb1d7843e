/* SPDX-License-Identifier: MIT
 * tests/net/dpdk_queues_test.c - instances of one process that share a device of catnip without
 * receive side scaling, a thread each: DPDK's packet socket at one end of a veth pair, the kernel
 * at the other.
 */
#include "support/test.h"

#include "support/netns.h"
#include "support/several.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool has_plugin(void)
{
	const char *directory = getenv("DEMI_PLUGIN_DIR");
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/libdemitasse-dpdk.so", directory ? directory : ".");
	return access(path, R_OK) == 0;
}

static void prepare(void)
{
	static const char *const settings[][2] = {
		{"LIBOS", "catnip"},
		{"DEMI_DPDK_DEVICE",
		 "net_af_packet0,iface=vQ,qdisc_bypass=1,framesz=8192,blocksz=65536"},
		{"DEMI_DPDK_QUEUES", "4"},
		{"DEMI_DPDK_MEMORY_BYTES", "33554432"},
		{"DEMI_ADDRESSES", "10.9.0.2/24"},
	};

	netns_run("ip link add vQ type veth peer name vP");
	netns_run("ethtool -K vP tx off tso off gso off >/dev/null");
	netns_run("ip link set vQ up && ip link set vP up && ip addr add 10.9.0.1/24 dev vP");
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		assert_int_equal(setenv(settings[i][0], settings[i][1], 1), 0);
}

static void test_instances_serve(void **state)
{
	static const struct several several = {
		.said = ", place ",
		.key = "demitasse.dpdk.queues",
		.calling = true,
		.least = SEVERAL,
	};

	(void)state;
	if (!netns_enter())
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	if (!has_plugin())
		skip_because("build: libdemitasse-dpdk.so is not there");
	prepare();
	several_serve_kernel(&several);
	netns_run("ip link del vQ");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instances_serve),
	};

	return test_run("dpdk_queues", tests);
}
