/* SPDX-License-Identifier: MIT
 * tests/net/dpdk_queues_test.c - instances of one process that share a device of catnip without
 * receive side scaling, a thread each: DPDK's packet socket at one end of a veth pair, the kernel
 * at the other.
 */
#include "support/test.h"

#include "support/several.h"

static void test_instances_serve(void **state)
{
	(void)state;
	(void)several_over_dpdk("net_af_packet0,iface=vQ,qdisc_bypass=1,framesz=8192,blocksz=65536",
				SEVERAL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instances_serve),
	};

	return test_run("dpdk_queues", tests);
}
