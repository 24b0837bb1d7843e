/* SPDX-License-Identifier: MIT
 * tests/unit/net_config_test.c - net/config.c: which addresses, gateways and sizes are taken, and
 * how each bad one is refused: by its key, its value and a reason.
 */
#include "support/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the next stack is configured with. */
static struct {
	const char *addresses;
	const char *local_v4;
	const char *gateways;
	const char *mac;
	const char *arp_table;
	uint32_t mtu;
	uint32_t device_mtu;
} asked;

static char last_log[1024];

static void keep_last(void *arg, int level, const char *message)
{
	(void)arg;
	assert_int_equal(level, LOG_LEVEL_ERROR);
	(void)snprintf(last_log, sizeof(last_log), "%s", message);
}

static void set(char *field, size_t size, const char *value)
{
	if (value)
		(void)snprintf(field, size, "%s", value);
}

static void configure(struct link *link)
{
	struct config *config = &link->rig.sched.config;

	link->rig.sched.log = (struct log){.fn = keep_last};
	set(config->addresses, sizeof(config->addresses), asked.addresses);
	set(config->local_ipv4_addr, sizeof(config->local_ipv4_addr), asked.local_v4);
	set(config->gateways, sizeof(config->gateways), asked.gateways);
	set(config->mac, sizeof(config->mac), asked.mac);
	set(config->arp_table, sizeof(config->arp_table), asked.arp_table);
	config->mtu = asked.mtu;
	if (asked.device_mtu)
		link->dev.mtu = asked.device_mtu;
}

/* Refused, by a line with these two words in it. */
static void refused(const char *key, const char *value)
{
	struct link *link;

	*last_log = '\0';
	assert_int_equal(link_try_open(&link, configure), -EINVAL);
	if (!strstr(last_log, key) || !strstr(last_log, value))
		fail_msg("\"%s\" does not name %s and %s", last_log, key, value);
}

static struct link *taken(void)
{
	*last_log = '\0';
	struct link *link = link_open(configure);

	assert_string_equal(last_log, "");
	return link;
}

static void address_refused(const char *addresses, const char *value)
{
	memset(&asked, 0, sizeof(asked));
	asked.addresses = addresses;
	refused("demitasse.addresses", value);
}

static void test_addresses_refused(void **state)
{
	(void)state;
	address_refused("", "");
	address_refused(" , ,", "");
	address_refused("10.0.0.2", "10.0.0.2");
	address_refused("10.0.0.2/", "10.0.0.2/");
	address_refused("10.0.0.2/33", "10.0.0.2/33");
	address_refused("10.0.0.2/-1", "10.0.0.2/-1");
	address_refused("10.0.0.2/ 8", "10.0.0.2/ 8");
	address_refused("10.0.0.2/8x", "10.0.0.2/8x");
	address_refused("10.0.0/8", "10.0.0/8");
	address_refused("fd00::2/129", "fd00::2/129");
	address_refused("fd00:::2/64", "fd00:::2/64");
	address_refused("::ffff:10.0.0.2/120", "::ffff:10.0.0.2/120");
	address_refused("10.0.0.2/24,fd00::2", "fd00::2");
	address_refused("10.0.0.2/24,10.0.0.2/24", "twice");
	address_refused("0.0.0.0/8", "0.0.0.0/8");
	address_refused("0.1.2.3/8", "loopback");
	address_refused("127.0.0.1/8", "loopback");
	address_refused("::1/128", "loopback");
	address_refused("::/64", "no host");
	address_refused("224.0.0.5/24", "multicast");
	address_refused("ff02::5/64", "multicast");
	address_refused("240.0.0.5/24", "reserved");
	address_refused("255.255.255.255/24", "255.255.255.255");
	address_refused("10.0.0.0/24", "network");
	address_refused("10.0.0.255/24", "broadcast");
	address_refused("1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd/64",
			"1111:2222");
}

static void test_number_of_addresses(void **state)
{
	static char list[512];
	size_t at = 0;

	(void)state;
	memset(&asked, 0, sizeof(asked));
	for (int i = 1; i <= 17; i++) {
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s10.0.0.%d/24",
				       i > 1 ? "," : "", i);
		asked.addresses = list;
		if (i < 16)
			continue;
		if (i == 17) {
			refused("demitasse.addresses", "10.0.0.17/24");
			break;
		}
		struct link *link = taken();
		assert_int_equal(link->net.num_addresses, 16);
		assert_int_equal(link->net.num_v4, 16);
		link_close(link);
	}
	/* The link-local address has its own place. */
	at = 0;
	for (int i = 1; i <= 16; i++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, "fd00::%d/64,", i);
	struct link *link = taken();
	assert_int_equal(link->net.num_addresses, 17);
	link_close(link);
}

static void test_addresses_taken(void **state)
{
	struct ip_address a;

	(void)state;
	memset(&asked, 0, sizeof(asked));
	asked.addresses = "10.0.0.0/31, 10.1.0.255/32 ,10.2.0.255/16,fd00::/128";
	asked.gateways = "10.0.0.1,fe80::1";
	struct link *link = taken();
	a = link_address("10.0.0.0");
	assert_true(net_is_local(&link->net, &a));
	a = link_address("10.1.0.255");
	assert_true(net_is_local(&link->net, &a));
	assert_false(ip_is_broadcast(&link->net, &a));
	a = link_address("10.2.255.255");
	assert_true(ip_is_broadcast(&link->net, &a));
	a = link_address("10.0.0.1");
	assert_false(ip_is_broadcast(&link->net, &a));
	assert_true(ip_equal(&link->net.gateway[0], &a));
	/* RFC 4291 appendix A: made from 02:00:00:00:00:02 */
	a = link_address("fe80::ff:fe00:2");
	assert_true(net_is_local(&link->net, &a));
	link_close(link);
}

/* Demikernel's key: one address, everything on the link. */
static void test_local_ipv4_addr(void **state)
{
	struct ip_address a;

	(void)state;
	memset(&asked, 0, sizeof(asked));
	asked.addresses = "";
	asked.local_v4 = "12.34.56.78";
	struct link *link = taken();
	assert_int_equal(link->net.num_addresses, 1); /* no IPv6, so no link-local one */
	a = link_address("200.1.2.3");
	assert_true(ip_has_route(&link->net, &a));
	a = link_address("127.0.0.1");
	assert_false(ip_has_route(&link->net, &a));
	link_close(link);
	asked.addresses = "12.34.56.78/24"; /* the same by both keys */
	link = taken();
	assert_int_equal(link->net.num_addresses, 1);
	link_close(link);
	asked.local_v4 = "12.34.56";
	refused("demikernel.local_ipv4_addr", "12.34.56");
	asked.local_v4 = "fd00::2";
	refused("demikernel.local_ipv4_addr", "fd00::2");
	asked.local_v4 = "127.0.0.1";
	refused("demikernel.local_ipv4_addr", "127.0.0.1");
}

static void gateway_refused(const char *addresses, const char *gateways, const char *value)
{
	memset(&asked, 0, sizeof(asked));
	asked.addresses = addresses;
	asked.gateways = gateways;
	refused("demitasse.gateways", value);
}

static void test_gateways_refused(void **state)
{
	(void)state;
	gateway_refused("10.0.0.2/24", "10.0.0", "10.0.0");
	gateway_refused("10.0.0.2/24", "10.0.0.1/24", "10.0.0.1/24");
	gateway_refused("10.0.0.2/24", "fd00::1", "family");
	gateway_refused("fd00::2/64", "10.0.0.1", "family");
	gateway_refused("10.0.0.2/24", "10.0.1.1", "prefix");
	gateway_refused("10.0.0.2/24", "10.0.0.2", "no other host");
	gateway_refused("10.0.0.2/24", "10.0.0.255", "no other host");
	gateway_refused("10.0.0.2/24", "224.0.0.1", "multicast");
	gateway_refused("10.0.0.2/24", "0.0.0.0", "0.0.0.0");
	gateway_refused("10.0.0.2/24", "10.0.0.1,10.0.0.3", "second");
	gateway_refused("fd00::2/64", "fd00::1,fd00::3", "second");
}

static void test_mtu(void **state)
{
	static const struct {
		const char *addresses;
		uint32_t asked;
		uint32_t device;
		uint32_t mtu; /* 0: refused */
	} rows[] = {
		{"10.0.0.2/24", 0, 1500, 1500},    {"10.0.0.2/24", 1400, 1500, 1400},
		{"10.0.0.2/24", 9000, 1500, 1500}, {"10.0.0.2/24", 576, 1500, 576},
		{"10.0.0.2/24", 575, 1500, 0},     {"10.0.0.2/24", 0, 575, 0},
		{"fd00::2/64", 1280, 1500, 1280},  {"fd00::2/64", 1279, 1500, 0},
		{"fd00::2/64", 0, 1279, 0},        {"10.0.0.2/24,fd00::2/64", 1279, 1500, 0},
		{"10.0.0.2/24", 0, 9000, 9000},
	};

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		memset(&asked, 0, sizeof(asked));
		asked.addresses = rows[i].addresses;
		asked.mtu = rows[i].asked;
		asked.device_mtu = rows[i].device;
		if (rows[i].mtu == 0) {
			refused("inetstack_config.mtu", "at least");
			continue;
		}
		struct link *link = taken();
		assert_int_equal(link->net.mtu, rows[i].mtu);
		link_close(link);
	}
}

static void test_mac(void **state)
{
	static const char *const bad[] = {
		"02:00:00:00:00",    "02:00:00:00:00:0g", "02-00-00-00-00-05",
		"01:00:5e:00:00:01", "00:00:00:00:00:00", "2:0:0:0:0:5",
	};
	static const uint8_t want[6] = {0x0a, 0xbc, 0xde, 0xf0, 0x12, 0x34};

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		memset(&asked, 0, sizeof(asked));
		asked.mac = bad[i];
		refused("demikernel.local_link_addr", bad[i]);
	}
	asked.mac = "0A:bc:DE:f0:12:34";
	struct link *link = taken();
	assert_memory_equal(link->net.mac, want, 6);
	link_close(link);
}

/* attack row 10: static neighbours are there from the start, and stay what they are */
static void test_static_neighbours(void **state)
{
	static const char *const bad[] = {
		"02:00:00:00:00:09",
		"02:00:00:00:00:09=",
		"=10.0.0.9",
		"10.0.0.9=02:00:00:00:00:09",
		"01:00:00:00:00:09=10.0.0.9",
		"00:00:00:00:00:00=10.0.0.9",
		"02:00:00:00:00:09=10.0.0.2",
		"02:00:00:00:00:09=224.0.0.9",
		"02:00:00:00:00:09=10.0.0.9=1",
	};
	char many[512];
	size_t at = 0;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		memset(&asked, 0, sizeof(asked));
		asked.arp_table = bad[i];
		refused("inetstack_config.arp_table", bad[i]);
	}
	asked.arp_table = "02:00:00:00:00:09=10.0.0.9, 02:00:00:00:00:0A=fd00::a";
	struct link *link = taken();
	const struct ip_address nine = link_address("10.0.0.9");
	const struct ip_address ten = link_address("fd00::a");
	assert_int_equal(neighbour_find(&link->net, &nine)->state, NEIGHBOUR_PERMANENT);
	assert_int_equal(neighbour_find(&link->net, &nine)->mac[5], 9);
	assert_int_equal(neighbour_find(&link->net, &ten)->mac[5], 10);
	link_arrive_arp(link, 2, link_peer_mac, "10.0.0.9", "10.0.0.2");
	assert_int_equal(neighbour_find(&link->net, &nine)->mac[5], 9);
	assert_int_equal(link->net.neighbours.used, 2);
	link_close(link);
	/* more than the table takes */
	for (int i = 0; i < 17; i++)
		at += (size_t)snprintf(many + at, sizeof(many) - at, "02:00:00:00:00:09=10.0.0.%d,",
				       100 + i);
	asked.arp_table = many;
	refused("inetstack_config.arp_table", "10.0.0.116");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_refused),
		cmocka_unit_test(test_number_of_addresses),
		cmocka_unit_test(test_addresses_taken),
		cmocka_unit_test(test_local_ipv4_addr),
		cmocka_unit_test(test_gateways_refused),
		cmocka_unit_test(test_mtu),
		cmocka_unit_test(test_mac),
		cmocka_unit_test(test_static_neighbours),
	};

	return test_run("net_config", tests);
}
