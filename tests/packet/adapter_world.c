/* SPDX-License-Identifier: MIT
 * tests/packet/adapter_world.c - the time and the wire of the adapter; see adapter.h.
 */
#include "packet/adapter.h"

#include "api/instance.h"
#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 10000000 /* turns and timers of one wait: more means no rest */

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t router_mac[6] = {2, 0, 0, 0, 0, 2};

/* ---- the lock ---- */

static void keep_line(void *arg, enum demi_log_level level, const char *message)
{
	struct adapter *adapter = arg;
	size_t length = strlen(message);

	if (level != DEMI_LOG_ERROR && adapter->log[0])
		return;
	length = length < sizeof(adapter->log) ? length : sizeof(adapter->log) - 1;
	memcpy(adapter->log, message, length);
	adapter->log[length] = '\0';
}

void adapter_enter(struct adapter *adapter)
{
	pthread_mutex_lock(&adapter->lock);
	(void)demi_set_log(keep_line, adapter);
	if (adapter->demi)
		(void)demi_enter(adapter->demi);
}

void adapter_leave(struct adapter *adapter)
{
	(void)demi_enter(NULL);
	(void)demi_set_log(NULL, NULL);
	pthread_mutex_unlock(&adapter->lock);
}

/* ---- the wire ---- */

uint64_t adapter_now(void *adapter)
{
	const struct adapter *a = adapter;

	return a->now_ns;
}

static uint32_t wire_room(struct sim_wire *wire, uint32_t count, uint64_t *retry_ns)
{
	(void)wire;
	(void)retry_ns;
	return count;
}

/* A frame to the instance. */
static bool deliver(struct adapter *adapter, const uint8_t *bytes, uint32_t length, uint16_t type)
{
	uint8_t *frame = adapter->frame;

	if (length > LIVE_BYTES_MAX)
		return false;
	memcpy(frame, our_mac, 6);
	memcpy(frame + 6, router_mac, 6);
	put16(frame + 12, type);
	memcpy(frame + 14, bytes, length);
	return sim_arrive(adapter->dev, frame, 14 + length);
}

bool adapter_arrive(struct adapter *adapter, const uint8_t *packet, uint32_t length)
{
	return length > 0 &&
	       deliver(adapter, packet, length, packet[0] >> 4 == 6 ? 0x86dd : 0x0800);
}

/* Whoever is asked for has the router's address. */
static void answer_arp(struct adapter *adapter, const uint8_t *question)
{
	uint8_t answer[28];

	if (get16(question + 6) != 1 || memcmp(question + 14, question + 24, 4) == 0)
		return;
	memcpy(answer, question, 8);
	answer[7] = 2;
	memcpy(answer + 8, router_mac, 6);
	memcpy(answer + 14, question + 24, 4);
	memcpy(answer + 18, question + 8, 10);
	(void)deliver(adapter, answer, sizeof(answer), 0x0806);
}

static void answer_solicitation(struct adapter *adapter, const uint8_t *ip, uint32_t length)
{
	static const uint8_t unspecified[16];
	struct frame_spec *spec;
	uint8_t out[128];

	if (length < 64 || memcmp(ip + 8, unspecified, 16) == 0)
		return; /* of the stack's own address: nobody has it */
	spec = calloc(1, sizeof(*spec));
	if (!spec)
		abort();
	memcpy(spec->from.bytes, ip + 48, 16);
	memcpy(spec->to.bytes, ip + 8, 16);
	spec->ttl = 255;
	spec->protocol = 58;
	spec->length = 32;
	spec->bytes[0] = 136;
	spec->bytes[4] = 0x60; /* solicited, override */
	memcpy(spec->bytes + 8, ip + 48, 16);
	spec->bytes[24] = 2;
	spec->bytes[25] = 1;
	memcpy(spec->bytes + 26, router_mac, 6);
	(void)deliver(adapter, out, frame_build(spec, out), 0x86dd);
	free(spec);
}

/* Multicast listeners and neighbours (ICMPv6 130 to 143), and IGMP: nothing that scripts tell of.
 */
static bool is_of_the_link(const uint8_t *packet, uint32_t length)
{
	if (packet[0] >> 4 != 6)
		return length >= 20 && packet[9] == 2;
	return length >= 48 &&
	       (packet[6] == 0 || (packet[6] == 58 && packet[40] >= 130 && packet[40] <= 143));
}

static void keep(struct adapter *adapter, const uint8_t *bytes, uint32_t length)
{
	struct adapter_packet *packet = calloc(1, sizeof(*packet) + length);

	if (!packet)
		abort();
	packet->at_ns = adapter->now_ns;
	packet->length = length;
	memcpy(packet->bytes, bytes, length);
	if (adapter->sent)
		adapter->sent_tail->next = packet;
	else
		adapter->sent = packet;
	adapter->sent_tail = packet;
}

static void wire_send(struct sim_wire *wire, const uint8_t *bytes, uint32_t length)
{
	struct adapter *adapter = container_of(wire, struct adapter, wire);
	uint16_t type = get16(bytes + 12);
	const uint8_t *packet = bytes + 14;
	uint32_t rest = length - 14;

	if (type == 0x0806 && rest >= 28)
		answer_arp(adapter, packet);
	else if (type == 0x86dd && rest >= 48 && packet[6] == 58 && packet[40] == 135)
		answer_solicitation(adapter, packet, rest);
	else if ((type == 0x0800 || type == 0x86dd) && !is_of_the_link(packet, rest))
		keep(adapter, packet, rest);
}

static void wire_closed(struct sim_wire *wire)
{
	(void)wire;
}

int adapter_open_wire(struct adapter *adapter, uint32_t mtu)
{
	struct sim_options options = {.mtu = mtu, .max_segments = FRAME_SEGMENTS, .rx_slots = 4096};

	adapter->now_ns = ADAPTER_START_NS;
	adapter->wire =
		(struct sim_wire){.room = wire_room, .send = wire_send, .closed = wire_closed};
	memcpy(options.mac, our_mac, 6);
	return sim_open(&options, &adapter->wire, &adapter->dev);
}

void adapter_free_packets(struct adapter *adapter)
{
	while (adapter->sent) {
		struct adapter_packet *next = adapter->sent->next;
		free(adapter->sent);
		adapter->sent = next;
	}
}

/* ---- time passes ---- */

void adapter_settle(struct adapter *adapter)
{
	uint32_t idle = 0;

	for (uint32_t i = 0; idle < 3; i++) {
		ASSERT(i < STEPS_MAX); /* the stack never comes to rest */
		idle = sched_turn(&adapter->demi->sched) || sim_waiting(adapter->dev) ? 0
										      : idle + 1;
	}
}

void adapter_pass(struct adapter *adapter, uint64_t until_ns, bool (*what)(const void *arg),
		  const void *arg)
{
	bool due = true;

	adapter_settle(adapter);
	for (uint32_t i = 0; due && !(what && what(arg)); i++) {
		uint64_t next = sched_next_deadline(&adapter->demi->sched);
		ASSERT(i < STEPS_MAX); /* timers fire without end */
		due = next <= until_ns;
		if (next > until_ns)
			next = until_ns;
		if (next > adapter->now_ns)
			adapter->now_ns = next;
		else if (due && adapter->now_ns < until_ns)
			adapter->now_ns++; /* a deadline within the tick that has passed */
		else
			due = false;
		adapter_settle(adapter);
	}
}
