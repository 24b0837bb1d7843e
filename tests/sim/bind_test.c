/* SPDX-License-Identifier: MIT
 * tests/sim/bind_test.c - which two sockets of our own stack may have the same port, TCP and UDP.
 */
#include "sim/inet.h"

#include <demi/libos.h>
#include <errno.h>
#include <netinet/in.h>

#define PORT 80

/* Where a socket is bound. */
enum place {
	ANY4,
	ANY6,  /* both families */
	ONLY6, /* :: with IPV6_V6ONLY */
	HOST4,
	HOST6,
	PLACES,
};

static int bind_at(int type, enum place place)
{
	int domain = place == ANY4 || place == HOST4 ? AF_INET : AF_INET6;
	struct inet_name name = place == HOST4 || place == HOST6 ? inet_name(0, domain, PORT)
								 : inet_any(domain, PORT);
	int only = place == ONLY6;
	int qd;

	assert_int_equal(demi_socket(&qd, domain, type, 0), 0);
	if (domain == AF_INET6)
		assert_int_equal(
			demi_setsockopt(qd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)), 0);
	int err = demi_bind(qd, &name.any, name.length);
	if (!err)
		return qd;
	assert_int_equal(err, EADDRINUSE);
	assert_int_equal(demi_close(qd), 0);
	return -1;
}

/* As Linux has it: sockets clash if a packet could be for both. */
static void test_pairs(void **state)
{
	(void)state;
	static const bool clash[PLACES][PLACES] = {
		[ANY4] = {[ANY4] = true, [ANY6] = true, [HOST4] = true},
		[ANY6] = {true, true, true, true, true},
		[ONLY6] = {[ANY6] = true, [ONLY6] = true, [HOST6] = true},
		[HOST4] = {[ANY4] = true, [ANY6] = true, [HOST4] = true},
		[HOST6] = {[ANY6] = true, [ONLY6] = true, [HOST6] = true},
	};
	static const struct sim_options device = {.mtu = 1500, .rx_slots = 64};
	struct world world;
	struct config config;

	world_open(&world, 1);
	inet_config(&config, 0);
	world_enter(world_add_instance(&world, &config, &device));
	for (uint32_t i = 0; i < 2 * PLACES * PLACES; i++) {
		int type = i & 1 ? SOCK_STREAM : SOCK_DGRAM;
		uint32_t first_place = i / 2 / PLACES;
		uint32_t second_place = i / 2 % PLACES;
		int first = bind_at(type, first_place);
		int second = bind_at(type, second_place);

		assert_true(first >= 0);
		if ((second < 0) != clash[first_place][second_place])
			fail_msg("type %d: place %u, then %u: %s", type, first_place, second_place,
				 second < 0 ? "clash" : "no clash");
		assert_int_equal(demi_close(first), 0);
		if (second >= 0)
			assert_int_equal(demi_close(second), 0);
	}
	world_close(&world);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs)};

	return test_run("bind", tests);
}
