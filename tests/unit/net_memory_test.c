/* SPDX-License-Identifier: MIT
 * tests/unit/net_memory_test.c - the stack below TCP without memory (attack row 39): every
 * allocation of its opening fails in turn; then the heap is used up while packets come and go.
 */
#include "support/link.h"

#include "net/wire/ether.h"
#include "support/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

static uint64_t failing;

static void arm(struct link *link)
{
	(void)link;
	fault_fail(failing);
}

static void test_open(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	link_close(link); /* what the process keeps once it had an instance */
	struct fault_live before = fault_live();
	for (failing = 1;; failing++) {
		int err = link_try_open(&link, arm);
		bool failed = fault_off();
		if (!err) {
			link_close(link);
			/* The last ones only cost an announcement. */
			if (!failed)
				break;
			continue;
		}
		assert_true(failed);
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(fault_live().blocks, before.blocks);
	}
	assert_true(failing > 4); /* neighbours twice, ICMP, UDP */
}

/* ---- use ---- */

/* A heap that has nothing left. */
struct used_up {
	struct link *link;
	struct frame *frame; /* keeps memory for frames: the device has those that it needs */
	void *objects;       /* each begins with a pointer to the next */
};

static const uint32_t sizes[] = {96,  112, 128, 160, 192,  224,  256,  320,  384,  448,
				 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560};

static void keep(struct used_up *u, void *object)
{
	memcpy(object, &u->objects, sizeof(object));
	u->objects = object;
}

static void use_up(struct used_up *u, struct link *link)
{
	void *object;

	*u = (struct used_up){.link = link, .frame = frame_alloc(link->net.heap)};
	assert_non_null(u->frame);
	fault_fail_from(1);
	for (uint32_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		while ((object = heap_alloc(link->net.heap, sizes[i])))
			keep(u, object);
	}
	while ((object = heap_alloc_frame(link->net.heap)))
		keep(u, object);
}

/* One frame is free, for what arrives next. */
static void leave_frame(struct used_up *u)
{
	frame_free(u->link->net.heap, u->frame);
	u->frame = NULL;
}

static void give_back(struct used_up *u)
{
	(void)fault_off();
	if (u->frame)
		leave_frame(u);
	while (u->objects) {
		void *next;
		memcpy(&next, u->objects, sizeof(next));
		assert_int_equal(heap_free(u->link->net.heap, u->objects), 0);
		u->objects = next;
	}
}

/* Questions to us stay without an answer, and are answered when there is memory. */
static void test_answers(void **state)
{
	const struct icmp_header echo = {.type = ICMP_ECHO};
	struct link_made ping = link_make_icmp("10.0.0.1", "10.0.0.2", &echo, "ping", 4);
	struct link_made closed = link_make_udp("10.0.0.1", 5, "10.0.0.2", 6, "x", 1);
	struct nd_message message = {.target = link_address("fd00::2"), .has_mac = true};
	struct link *link = link_open(NULL);
	struct used_up u;

	(void)state;
	memcpy(message.mac, link_peer_mac, 6);
	struct link_made solicitation =
		link_make_nd("fd00::1", "fd00::2", ICMPV6_NEIGHBOR_SOLICITATION, &message);
	link_know(link, "10.0.0.1");
	use_up(&u, link);
	leave_frame(&u);
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.0.0.2");
	link_arrive_made(link, &ping);
	link_arrive_made(link, &closed);
	link_arrive_made(link, &solicitation);
	assert_int_equal(link_drops(link, DROP_TX_MEMORY), 4);
	link_quiet(link);
	give_back(&u);
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.0.0.2");
	link_arrive_made(link, &ping);
	link_arrive_made(link, &closed);
	link_arrive_made(link, &solicitation);
	net_flush(&link->net);
	assert_int_equal(link->num_sent, 4);
	link_forget(link);
	link_close(link);
}

/* A question of ours that could not be asked is asked again. */
static void test_question(void **state)
{
	static const char *const peers[] = {"10.0.0.7", "fd00::7"};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct link *link = link_open(NULL);
		const struct ip_address a = link_address(peers[i]);
		struct used_up u;

		use_up(&u, link);
		struct neighbour *n = neighbour_get(&link->net, &a);
		assert_non_null(n);
		assert_int_equal(n->state, NEIGHBOUR_INCOMPLETE);
		assert_int_equal(link_drops(link, DROP_TX_MEMORY), 1);
		link_quiet(link);
		give_back(&u);
		link_wait(link, 11 * LINK_SECOND / 10);
		assert_non_null(link_next(link));
		link_quiet(link);
		link_close(link);
	}
}

static struct op *push_op(struct link *link, const void *bytes, uint32_t length)
{
	struct op *op = op_issue(&link->rig.sched, OP_PUSH, 1);

	op_set_segment(op, (void *)(uintptr_t)bytes, length);
	return op;
}

static void discard(struct link *link, struct op *op)
{
	struct op *done;

	if (op->state == OP_READY)
		assert_int_equal(wait_one(&link->rig.sched, op->token, WAIT_POLL, &done), 0);
	else
		op->owner->issued--;
	op_free(&link->rig.sched.ops, op);
}

static void test_udp(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address any = ip_from_v4(0);
	const struct ip_address peer = link_address("10.0.0.1");
	static uint8_t data[1000];
	struct link_made small = link_make_udp("10.0.0.1", 5, "10.0.0.2", 7, data, 9);
	struct link_made large = link_make_udp("10.0.0.1", 5, "10.0.0.2", 7, data, sizeof(data));
	struct udp_socket *socket;
	struct used_up u;

	(void)state;
	fault_fail(1);
	assert_int_equal(udp_socket_new(&link->net, AF_INET, &socket), -ENOMEM);
	assert_true(fault_off());
	assert_int_equal(udp_socket_new(&link->net, AF_INET, &socket), 0);
	assert_int_equal(udp_socket_bind(socket, &any, 7), 0);
	link_know(link, "10.0.0.1");
	struct op *op = push_op(link, data, sizeof(data));
	use_up(&u, link);
	assert_int_equal(udp_socket_push(socket, op, &peer, 5), -ENOMEM);
	leave_frame(&u);
	link_arrive_made(link, &small); /* there is no object to copy it to */
	link_arrive_made(link, &large); /* it stays in its frame, but the queue can't grow */
	assert_int_equal(link_drops(link, DROP_DATAGRAM_MEMORY), 2);
	assert_int_equal(udp_socket_queued(socket), 0);
	link_quiet(link);
	give_back(&u);
	assert_int_equal(udp_socket_push(socket, op, &peer, 5), 0);
	assert_int_equal(op->state, OP_READY);
	discard(link, op);
	link_next_udp(link, 7, 5, data, sizeof(data));
	link_arrive_made(link, &small);
	link_arrive_made(link, &large);
	assert_int_equal(udp_socket_queued(socket), 2);
	udp_socket_close(socket);
	link_close(link);
}

/* A packet to ourselves that would have to be copied. */
static void test_loop(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address us = link_address("10.0.0.2");
	void *object = heap_alloc(link->net.heap, 100);
	struct frame *frame = frame_alloc_tx(link->net.heap, 20);
	struct used_up u;

	(void)state;
	memset(frame->data, 0, 20);
	frame->length = 20;
	frame_append(frame, object, 100);
	use_up(&u, link);
	assert_int_equal(ip_output(&link->net, frame, &us, &us, IP_TCP, 64, 0, NULL), 0);
	assert_int_equal(link_drops(link, DROP_TX_MEMORY), 1);
	assert_int_equal(heap_library_refs(link->net.heap, object), 0);
	assert_false(net_pending(&link->net));
	give_back(&u);
	assert_int_equal(heap_free(link->net.heap, object), 0);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),     cmocka_unit_test(test_answers),
		cmocka_unit_test(test_question), cmocka_unit_test(test_udp),
		cmocka_unit_test(test_loop),
	};

	return test_run("net_memory", tests);
}
