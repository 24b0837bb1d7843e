/* SPDX-License-Identifier: MIT
 * tests/unit/net_ip_test.c - Ethernet and IP: which packets come in, which way those of ours go,
 * packets to ourselves, and the bursts of the device.
 */
#include "support/link.h"

#include "net/wire/ether.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t segment[20] = {0, 1, 0, 2};

static struct link_made tcp_packet(const char *from, const char *to)
{
	return link_make_ip(from, to, IP_TCP, segment, sizeof(segment));
}

/* The packet is dropped for this reason, with no answer. */
static void dropped(struct link *link, const struct link_made *made, enum drop reason)
{
	uint64_t before = link_drops(link, reason);
	uint32_t packets = link->tcp.packets;

	link->dropped = DROP_NONE;
	link_arrive_made(link, made);
	assert_int_equal(link->dropped, reason);
	assert_int_equal(link_drops(link, reason), before + 1);
	assert_int_equal(link->tcp.packets, packets);
	link_quiet(link);
}

static void accepted(struct link *link, const struct link_made *made)
{
	uint32_t packets = link->tcp.packets;

	link_arrive_made(link, made);
	assert_int_equal(link->tcp.packets, packets + 1);
	assert_int_equal(link->tcp.length, sizeof(segment));
}

/* ---- input ---- */

/* attack row 1: runts, other protocols, 802.3 lengths, VLAN tags, padding, other stations */
static void test_ethernet(void **state)
{
	struct link *link = link_open(NULL);
	struct link_made good = tcp_packet("10.0.0.1", "10.0.0.2");
	struct link_made made = good;

	(void)state;
	for (made.length = 1; made.length < ETHER_HEADER_BYTES; made.length++)
		dropped(link, &made, DROP_ETHER_SHORT);
	made = good;
	store16(made.bytes + 12, 46);
	dropped(link, &made, DROP_ETHER_TYPE);
	store16(made.bytes + 12, 0x8100);
	dropped(link, &made, DROP_VLAN);
	store16(made.bytes + 12, 0x88cc);
	dropped(link, &made, DROP_ETHER_TYPE);
	made = good;
	made.bytes[5] ^= 1;
	dropped(link, &made, DROP_ETHER_ADDRESS);
	made = good;
	memset(made.bytes + made.length, 0xee, 40);
	made.length += 40;
	accepted(link, &made); /* its length is what IP says */
	link_close(link);
}

/* attack row 2, 3: version, header length, total length, checksum; time to live of 0 and 1 */
static void test_ipv4_header(void **state)
{
	struct link *link = link_open(NULL);
	struct link_made good = tcp_packet("10.0.0.1", "10.0.0.2");
	uint8_t *at;
	struct link_made made = good;

	(void)state;
	at = made.bytes + ETHER_HEADER_BYTES;
	at[0] = 0x65;
	link_checksum_v4(&made);
	dropped(link, &made, DROP_IP_VERSION);
	at[0] = 0x44;
	dropped(link, &made, DROP_IP_HEADER);
	at[0] = 0x4f;
	dropped(link, &made, DROP_IP_HEADER);
	made = good;
	store16(at + 2, 41);
	link_checksum_v4(&made);
	dropped(link, &made, DROP_IP_SHORT);
	made = good;
	at[10] ^= 0x10;
	dropped(link, &made, DROP_IP_CHECKSUM);
	for (uint8_t ttl = 0; ttl < 2; ttl++) {
		made = good;
		at[8] = ttl;
		link_checksum_v4(&made);
		accepted(link, &made); /* RFC 1122 3.2.1.7: it has arrived */
	}
	for (uint32_t length = ETHER_HEADER_BYTES; length < good.length; length++) {
		made = good;
		made.length = length;
		dropped(link, &made, DROP_IP_SHORT);
	}
	link_close(link);
}

/* attack row 4: options that end nowhere, source routes; harmless ones are passed over */
static void test_ipv4_options(void **state)
{
	static const struct {
		uint8_t options[8];
		enum drop drop;
	} rows[] = {
		{{1, 1, 1, 1, 0, 0, 0, 0}, DROP_NONE},
		{{148, 4, 0, 0, 0, 0, 0, 0}, DROP_NONE}, /* router alert */
		{{7, 0, 0, 0, 0, 0, 0, 0}, DROP_IP_HEADER},
		{{7, 1, 0, 0, 0, 0, 0, 0}, DROP_IP_HEADER},
		{{7, 9, 0, 0, 0, 0, 0, 0}, DROP_IP_HEADER},
		{{1, 1, 1, 1, 1, 1, 1, 7}, DROP_IP_HEADER},
		{{131, 7, 4, 10, 0, 0, 1, 0}, DROP_IP_SOURCE_ROUTE},
		{{137, 7, 4, 10, 0, 0, 1, 0}, DROP_IP_SOURCE_ROUTE},
	};
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		uint8_t data[8 + sizeof(segment)];
		memcpy(data, rows[i].options, 8);
		memcpy(data + 8, segment, sizeof(segment));
		struct link_made made =
			link_make_ip("10.0.0.1", "10.0.0.2", IP_TCP, data, sizeof(data));
		made.bytes[ETHER_HEADER_BYTES] = 0x47;
		link_checksum_v4(&made);
		if (rows[i].drop)
			dropped(link, &made, rows[i].drop);
		else
			accepted(link, &made);
	}
	link_close(link);
}

/* attack row 5: sources that can be nobody's, LAND among them; RFC 9293 3.9.2.3 MUST-63 */
static void test_sources(void **state)
{
	static const char *const v4[] = {
		"10.0.0.2",  "10.0.0.255",  "255.255.255.255", "224.0.0.1", "239.1.2.3",
		"127.0.0.1", "127.255.0.1", "0.0.0.0",         "0.1.2.3",   "240.0.0.1",
	};
	static const char *const v6[] = {"fd00::2", "fe80::ff:fe00:2", "::1",
					 "::",      "ff02::1",         "::ffff:10.0.0.1"};
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(v4); i++) {
		struct link_made made = tcp_packet(v4[i], "10.0.0.2");
		dropped(link, &made, DROP_IP_SOURCE);
	}
	for (uint32_t i = 0; i < ARRAY_LENGTH(v6); i++) {
		struct link_made made = tcp_packet(v6[i], "fd00::2");
		dropped(link, &made, DROP_IP_SOURCE);
	}
	struct link_made made = tcp_packet("10.0.0.1", "10.0.0.2");
	accepted(link, &made);
	made = tcp_packet("200.0.0.1", "10.0.0.2");
	accepted(link, &made);
	made = tcp_packet("fd00::1", "fd00::2");
	accepted(link, &made);
	made = tcp_packet("fe80::1", "fe80::ff:fe00:2");
	accepted(link, &made);
	link_close(link);
}

/* attack row 5: TCP to a group gets no answer (RFC 9293 3.9.2.3 MUST-57), nor what is for others */
static void test_destinations(void **state)
{
	static const struct {
		const char *to;
		enum drop drop;
	} rows[] = {
		{"10.0.0.255", DROP_IP_BROADCAST}, {"255.255.255.255", DROP_IP_BROADCAST},
		{"224.0.0.1", DROP_IP_BROADCAST},  {"224.0.0.2", DROP_IP_DESTINATION},
		{"10.0.0.3", DROP_IP_DESTINATION}, {"127.0.0.1", DROP_IP_DESTINATION},
		{"0.0.0.0", DROP_IP_DESTINATION},
	};

	static const struct {
		const char *to;
		enum drop drop;
	} rows6[] = {
		{"ff02::1", DROP_IP_BROADCAST},
		{"ff02::1:ff00:2", DROP_IP_BROADCAST},
		{"ff02::2", DROP_IP_DESTINATION},
		{"ff05::1", DROP_IP_DESTINATION},
		{"ff02::1:ff00:3", DROP_IP_DESTINATION},
		{"fd00::3", DROP_IP_DESTINATION},
		{"::1", DROP_IP_DESTINATION},
		{"::", DROP_IP_DESTINATION},
		{"::ffff:10.0.0.2", DROP_IP_DESTINATION},
	};
	struct link *link = link_open(NULL);
	struct link_made made;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		made = tcp_packet("10.0.0.1", rows[i].to);
		dropped(link, &made, rows[i].drop);
	}
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows6); i++) {
		made = tcp_packet("fd00::1", rows6[i].to);
		if (strncmp(rows6[i].to, "::ffff", 6) == 0) {
			made = tcp_packet("fd00::1", "fd00::3");
			const struct ip_address mapped = link_address("10.0.0.2");
			memcpy(made.bytes + ETHER_HEADER_BYTES + 24, mapped.bytes, 16);
		}
		dropped(link, &made, rows6[i].drop);
	}
	/* RFC 1122 3.3.6: our address in a link-layer broadcast */
	made = tcp_packet("10.0.0.1", "10.0.0.2");
	memset(made.bytes, 0xff, 6);
	dropped(link, &made, DROP_IP_DESTINATION);
	link_close(link);
}

/* Fragments that cannot be; atomic ones of IPv6 are whole (RFC 6946). */
static void test_fragments(void **state)
{
	struct link *link = link_open(NULL);
	struct link_made made = tcp_packet("10.0.0.1", "10.0.0.2");
	uint8_t data[8 + sizeof(segment)] = {IP_TCP};

	(void)state;
	store16(made.bytes + ETHER_HEADER_BYTES + 6, 0x2000); /* first, more to come */
	link_checksum_v4(&made);
	dropped(link, &made, DROP_IP_FRAGMENT_BAD);
	store16(made.bytes + ETHER_HEADER_BYTES + 6, 0x0001); /* inside of TCP's header */
	link_checksum_v4(&made);
	dropped(link, &made, DROP_IP_FRAGMENT_BAD);
	memcpy(data + 8, segment, sizeof(segment));
	made = link_make_ip("fd00::1", "fd00::2", 44, data, sizeof(data));
	accepted(link, &made);
	made.bytes[ETHER_HEADER_BYTES + IPV6_HEADER_BYTES + 3] = 1;
	uint32_t packets = link->tcp.packets;
	link_arrive_made(link, &made); /* 20 bytes, and more to come */
	assert_int_equal(link->dropped, DROP_IP_FRAGMENT_BAD);
	assert_int_equal(link->tcp.packets, packets);
	link_forget(link);
	link_close(link);
}

/* ---- routes ---- */

static int send_from(struct link *link, const char *to, struct ip_path *path)
{
	static const struct ip_address none = {.pair = {0, 0}};
	const struct ip_address address = link_address(to);
	const struct ip_address *from = net_source_for(&link->net, &address);
	struct frame *frame = frame_alloc_tx(link->net.heap, sizeof(segment));

	memcpy(frame->data, segment, sizeof(segment));
	frame->length = sizeof(segment);
	return ip_output(&link->net, frame, from ? from : &none, &address, IP_TCP, 64, 0, path);
}

static void routed(struct link *link)
{
	link_set(link->rig.sched.config.addresses, "10.0.0.2/24,10.1.0.2/16,fd00::2/64,fd01::2/64");
	link_set(link->rig.sched.config.gateways, "10.1.0.1,fe80::1");
}

/* The packet went from an address of ours to this MAC's last byte. */
static void expect_way(struct link *link, const char *from, uint8_t mac)
{
	const struct ip_address a = link_address(from);
	struct link_packet packet = link_next_ip(link, IP_TCP);

	assert_true(ip_equal(&packet.ip.from, &a));
	assert_int_equal(packet.to_mac[5], mac);
}

static void know(struct link *link, const char *address, uint8_t last)
{
	const uint8_t mac[6] = {2, 0, 0, 0, 0, last};
	const struct ip_address a = link_address(address);

	assert_int_equal(neighbour_set(&link->net, &a, mac), 0);
}

static void test_routes(void **state)
{
	struct link *link = link_open(routed);

	(void)state;
	know(link, "10.0.0.7", 7);
	know(link, "10.1.200.8", 8);
	know(link, "10.1.0.1", 1);
	know(link, "fd00::7", 17);
	know(link, "fd01::8", 18);
	know(link, "fe80::1", 11);
	assert_int_equal(send_from(link, "10.0.0.7", NULL), 0);
	expect_way(link, "10.0.0.2", 7);
	assert_int_equal(send_from(link, "10.1.200.8", NULL), 0);
	expect_way(link, "10.1.0.2", 8);
	assert_int_equal(send_from(link, "192.168.1.1", NULL), 0);
	expect_way(link, "10.0.0.2", 1);
	assert_int_equal(send_from(link, "fd00::7", NULL), 0);
	expect_way(link, "fd00::2", 17);
	assert_int_equal(send_from(link, "fd01::8", NULL), 0);
	expect_way(link, "fd01::2", 18);
	assert_int_equal(send_from(link, "2001:db8::1", NULL), 0);
	expect_way(link, "fd00::2", 11);
	assert_int_equal(send_from(link, "fe80::1", NULL), 0);
	expect_way(link, "fe80::ff:fe00:2", 11);
	/* RFC 1122 3.2.1.3(g): loopback leaves no host, not by the gateway either */
	assert_int_equal(send_from(link, "127.0.0.1", NULL), -ENETUNREACH);
	assert_int_equal(send_from(link, "::1", NULL), -ENETUNREACH);
	assert_int_equal(send_from(link, "0.0.0.0", NULL), -ENETUNREACH);
	link_quiet(link);
	link_close(link);
}

static void test_no_route(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	assert_int_equal(send_from(link, "10.0.1.1", NULL), -ENETUNREACH);
	assert_int_equal(send_from(link, "fd01::1", NULL), -ENETUNREACH);
	assert_int_equal(link_drops(link, DROP_NO_ROUTE), 2);
	link_quiet(link);
	link_close(link);
}

/* RFC 1112 6.4, RFC 2464 7: groups have link-layer addresses of their own. */
static void test_groups(void **state)
{
	static const struct {
		const char *to;
		uint8_t mac[6];
	} rows[] = {
		{"10.0.0.255", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"255.255.255.255", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"239.129.2.3", {1, 0, 0x5e, 1, 2, 3}},
		{"ff05::1:2:3", {0x33, 0x33, 0, 2, 0, 3}},
	};
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		assert_int_equal(send_from(link, rows[i].to, NULL), 0);
		struct link_packet packet = link_next_ip(link, IP_TCP);
		assert_memory_equal(packet.to_mac, rows[i].mac, 6);
	}
	link_close(link);
}

/* ---- to ourselves ---- */

static void test_loop(void **state)
{
	static const char *const ours[] = {"10.0.0.2", "fd00::2", "fe80::ff:fe00:2"};
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(ours); i++) {
		const struct ip_address a = link_address(ours[i]);
		struct ip_path path = {0};
		for (int j = 0; j < 2; j++) {
			assert_int_equal(send_from(link, ours[i], &path), 0);
			assert_int_equal(link->tcp.packets, 2 * i + j); /* not at once */
			assert_true(net_pending(&link->net));
			assert_int_equal(net_poll(&link->net), 1);
			assert_int_equal(link->tcp.packets, 2 * i + j + 1);
			assert_true(ip_equal(&link->tcp.from, &a));
			assert_true(ip_equal(&link->tcp.to, &a));
			assert_false(net_pending(&link->net));
		}
	}
	link_quiet(link);
	/* bounded */
	for (int i = 0; i < NET_LOOP_MAX + 7; i++)
		assert_int_equal(send_from(link, "10.0.0.2", NULL), 0);
	assert_int_equal(link_drops(link, DROP_TX_FULL), 7);
	assert_int_equal(net_poll(&link->net), NET_LOOP_MAX);
	assert_int_equal(send_from(link, "10.0.0.2", NULL), 0); /* left at the end: freed */
	link_close(link);
}

/* A checksum that was left to the device is good, and memory of the sender is copied. */
static void test_loop_whole(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address us = link_address("10.0.0.2");
	char *object = heap_alloc(link->net.heap, 100);
	struct frame *frame = frame_alloc_tx(link->net.heap, 20);

	(void)state;
	memset(object, 7, 100);
	memset(frame->data, 1, 20);
	frame->length = 20;
	frame->flags = FRAME_CHECKSUM;
	frame->transport_offset = 0;
	frame->checksum_offset = 16;
	frame_append(frame, object, 100);
	assert_int_equal(heap_library_refs(link->net.heap, object), 1);
	assert_int_equal(ip_output(&link->net, frame, &us, &us, IP_TCP, 64, 0, NULL), 0);
	assert_int_equal(heap_library_refs(link->net.heap, object), 0);
	assert_int_equal(heap_free(link->net.heap, object), 0);
	(void)net_poll(&link->net);
	assert_int_equal(link->tcp.packets, 1);
	assert_int_equal(link->tcp.length, 120);
	assert_true(link->tcp.checked);
	assert_int_equal(send_from(link, "10.0.0.2", NULL), 0);
	(void)net_poll(&link->net);
	assert_false(link->tcp.checked);
	link_close(link);
}

/* What a device says of checksums is believed only if it can and may verify them. */
static void rx_offload(struct link *link)
{
	link->dev.offloads = NETDEV_RX_CHECKSUM;
}

static void rx_offload_refused(struct link *link)
{
	link->dev.offloads = NETDEV_RX_CHECKSUM;
	link->rig.sched.config.tcp_checksum_offload = 0;
}

static void expect_checked(void (*configure)(struct link *link), bool checked)
{
	struct link *link = link_open(configure);
	struct link_made made = tcp_packet("10.0.0.1", "10.0.0.2");
	struct frame *frame = frame_alloc(link->net.heap);

	memcpy(frame->data, made.bytes, made.length);
	frame->length = made.length;
	frame->flags = FRAME_CHECKED;
	net_input(&link->net, frame);
	assert_int_equal(link->tcp.packets, 1);
	assert_int_equal(link->tcp.checked, checked);
	link_close(link);
}

static void test_checked(void **state)
{
	(void)state;
	expect_checked(rx_offload, true);
	expect_checked(rx_offload_refused, false);
	expect_checked(NULL, false); /* attack row 38: a device that claims what it cannot do */
}

/* ---- bursts ---- */

static void test_bursts(void **state)
{
	struct link *link = link_open(NULL);
	struct sched *sched = &link->rig.sched;

	(void)state;
	know(link, "10.0.0.7", 7);
	link->num_sent = 0;
	link->num_taken = 0;
	for (int i = 0; i < NET_TX_DOORBELL - 1; i++)
		(void)send_from(link, "10.0.0.7", NULL);
	assert_int_equal(link->num_sent, 0);
	assert_true(sched->output_pending > 0);
	(void)send_from(link, "10.0.0.7", NULL);
	assert_int_equal(link->num_sent, NET_TX_DOORBELL); /* at once */
	(void)send_from(link, "10.0.0.7", NULL);
	sched->output_pending = 0;
	uint32_t flushes = link->tcp.flushes;
	net_flush(&link->net);
	assert_int_equal(link->tcp.flushes, flushes + 1);
	assert_int_equal(link->num_sent, NET_TX_DOORBELL + 1);
	assert_int_equal(sched->output_pending, 0);
	link_close(link);
}

/* Several frames in a burst, more than one takes. */
static void test_input_burst(void **state)
{
	struct link *link = link_open(NULL);
	struct link_made made = tcp_packet("10.0.0.1", "10.0.0.2");

	(void)state;
	for (uint32_t i = 0; i < NETDEV_BURST + 3; i++) {
		struct frame *frame = frame_alloc(link->net.heap);
		memcpy(frame->data, made.bytes, made.length);
		frame->length = made.length;
		link->arriving[link->num_arriving++] = frame;
	}
	assert_int_equal(net_poll(&link->net), NETDEV_BURST);
	assert_int_equal(net_poll(&link->net), 3);
	assert_int_equal(net_poll(&link->net), 0);
	assert_int_equal(link->tcp.packets, NETDEV_BURST + 3);
	link_close(link);
}

static void v6_only(struct link *link)
{
	link_set(link->rig.sched.config.addresses, "fd00::2/64");
	link->rig.sched.config.neighbours_max = 100;
}

/* Without IPv4 addresses no IPv4 packet is for us, not even one to everybody's or nobody's. */
static void test_no_ipv4(void **state)
{
	static const char *const to[] = {"10.0.0.2", "0.0.0.0", "127.0.0.1"};
	struct link *link = link_open(v6_only);

	(void)state;
	assert_int_equal(link->net.neighbours.max, 128);
	for (uint32_t i = 0; i < ARRAY_LENGTH(to); i++) {
		struct link_made made = tcp_packet("10.0.0.1", to[i]);
		dropped(link, &made, DROP_IP_DESTINATION);
	}
	struct link_made made = tcp_packet("10.0.0.1", "255.255.255.255");
	dropped(link, &made, DROP_IP_BROADCAST);
	assert_int_equal(send_from(link, "10.0.0.1", NULL), -ENETUNREACH);
	link_close(link);
}

/* A device without room: frames wait, in order, and the bound holds. */
static void test_device_full(void **state)
{
	struct link *link = link_open(NULL);
	struct sched *sched = &link->rig.sched;

	(void)state;
	know(link, "10.0.0.7", 7);
	link_forget(link);
	link->room = 10;
	for (uint32_t i = 0; i < NET_TX_MAX + 10 + 5; i++) {
		const struct ip_address to = link_address("10.0.0.7");
		const struct ip_address from = link_address("10.0.0.2");
		struct frame *frame = frame_alloc_tx(link->net.heap, 8);
		store32(frame->data, i);
		store32(frame->data + 4, 0);
		frame->length = 8;
		assert_int_equal(ip_output(&link->net, frame, &from, &to, IP_TCP, 64, 0, NULL), 0);
	}
	assert_int_equal(link->num_sent, 10);
	assert_int_equal(link->net.tx_count, NET_TX_MAX);
	assert_int_equal(link_drops(link, DROP_TX_FULL), 5);
	sched->output_pending = 0;
	net_flush(&link->net);
	assert_true(sched->output_pending > 0);
	link->room = 40;
	(void)net_poll(&link->net); /* tries again */
	assert_int_equal(link->num_sent, 50);
	link->room = UINT32_MAX;
	sched->output_pending = 0;
	net_flush(&link->net);
	assert_int_equal(sched->output_pending, 0);
	for (uint32_t i = 0; i < NET_TX_MAX + 10; i++) {
		struct link_packet packet = link_next_ip(link, IP_TCP);
		assert_int_equal(load32(packet.c.at), i);
	}
	/* Frames left at the end are freed. */
	link->room = 0;
	(void)send_from(link, "10.0.0.7", NULL);
	link_close(link);
}

/* Many frames in the hands of others: payload is to be copied; when they come back it is not. */
static void test_frames_short(void **state)
{
	struct link *link = link_open(NULL);
	struct link_made made = tcp_packet("10.0.0.1", "10.0.0.2");
	struct frame **held = calloc(4096, sizeof(*held));
	uint32_t count = 0;

	(void)state;
	assert_false(link->net.frames_short);
	while (count < 4096 && (held[count] = frame_alloc(link->net.heap)))
		count++;
	assert_true(count >= 1024 && count < 4096);
	frame_free(link->net.heap, held[--count]);
	for (int i = 0; i < 64; i++)
		link_arrive_made(link, &made);
	assert_true(link->net.frames_short);
	while (count > 0)
		frame_free(link->net.heap, held[--count]);
	for (int i = 0; i < 64; i++)
		link_arrive_made(link, &made);
	assert_false(link->net.frames_short);
	free(held);
	link_close(link);
}

static void test_random(void **state)
{
	struct link *link = link_open(NULL);
	uint64_t last = net_random(&link->net);
	uint64_t ones = 0;

	(void)state;
	for (int i = 0; i < 64; i++) {
		uint64_t next = net_random(&link->net);
		assert_int_not_equal(next, last);
		ones |= next ^ last;
		last = next;
	}
	assert_int_equal(ones, UINT64_MAX);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ethernet),     cmocka_unit_test(test_ipv4_header),
		cmocka_unit_test(test_ipv4_options), cmocka_unit_test(test_sources),
		cmocka_unit_test(test_destinations), cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_routes),       cmocka_unit_test(test_no_route),
		cmocka_unit_test(test_groups),       cmocka_unit_test(test_loop),
		cmocka_unit_test(test_loop_whole),   cmocka_unit_test(test_checked),
		cmocka_unit_test(test_bursts),       cmocka_unit_test(test_input_burst),
		cmocka_unit_test(test_no_ipv4),      cmocka_unit_test(test_device_full),
		cmocka_unit_test(test_frames_short), cmocka_unit_test(test_random),
	};

	return test_run("net_ip", tests);
}
