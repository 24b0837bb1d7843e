/* SPDX-License-Identifier: MIT
 * tests/unit/rdma_peer_test.c - transport/rdma against a peer that lies, in its private data, in
 * its messages, in what it announces and what it writes: it ends its own connection, and no other.
 */
#include "support/fabric_peer.h"
#include "support/mint.h"

#include "support/seed.h"

#include "base/prng.h"

#include <errno.h>
#include <string.h>

#define PORT 7000

struct rig {
	struct mint mint;
	struct mint_host *server;
	struct mint_host *friend;
	int listener;
	int friend_qd;           /* of the friend's */
	int friendly_qd;         /* of the server's, with the friend */
	int victim_qd;           /* of the server's, with the peer */
	struct rdma_hello hello; /* the server's */
	struct fabric_peer peer;
};

static struct rdma_hello good_hello(const struct rig *rig)
{
	return (struct rdma_hello){
		.magic = htole32(RDMA_MAGIC),
		.version = htole16(RDMA_VERSION),
		.credits = htole32(16),
		.buffer_bytes = htole32(1024),
		.message_max = htole32(1 << 20),
		.word_rkey = htole32(rig->peer.mr->rkey),
		.word_address = htole64((uintptr_t)rig->peer.memory),
	};
}

static void open_rig(struct rig *rig)
{
	static const struct fabric_options options = {.seed = 1};

	memset(rig, 0, sizeof(*rig));
	mint_open(&rig->mint, &options);
	rig->server = mint_add(&rig->mint, NULL);
	rig->friend = mint_add(&rig->mint, NULL);
	struct mint_host *bare = mint_add_device(&rig->mint);
	fabric_peer_open(&rig->peer, rig->mint.fabric, bare->device, true);
	for (uint32_t i = 0; i < 32; i++)
		assert_int_equal(fabric_peer_receive(&rig->peer, i, 32768 + i * 1024, 1024), 0);
	mint_pair(rig->friend, rig->server, 6999, &rig->friend_qd, &rig->friendly_qd);
	rig->listener = mint_listener(rig->server, PORT, 8);
	rig->victim_qd = -1;
}

/* The friend's connection works as before. */
static void expect_friend(struct rig *rig)
{
	demi_qresult_t result;

	for (uint32_t bytes = 10; bytes < 20000; bytes *= 10) {
		demi_sgarray_t sga = mint_array(rig->friend, bytes, 3);
		demi_qtoken_t pop = mint_pop(rig->server, rig->friendly_qd);
		demi_qtoken_t push = mint_push(rig->friend, rig->friend_qd, &sga);
		mint_free(rig->friend, &sga);
		assert_int_equal(mint_wait(rig->friend, push, &result), 0);
		assert_int_equal(mint_wait(rig->server, pop, &result), 0);
		assert_true(mint_holds(&result.qr_value.sga, bytes, 3));
		mint_free(rig->server, &result.qr_value.sga);
	}
}

static void close_rig(struct rig *rig)
{
	expect_friend(rig);
	if (rig->victim_qd >= 0)
		mint_close_qd(rig->server, rig->victim_qd);
	mint_close_qd(rig->server, rig->friendly_qd);
	mint_close_qd(rig->friend, rig->friend_qd);
	mint_pass(&rig->mint, 5 * FABRIC_S);
	fabric_peer_close(&rig->peer);
	mint_pass(&rig->mint, 5 * FABRIC_S);
	assert_int_equal(rig->server->engine->num_lingering, 0);
	assert_int_equal(fabric_counts(rig->server->device)->rnr, 0);
	mint_close(&rig->mint);
}

/* Connects with this private data; the event that the peer gets. */
static enum rdma_cm_event_type knock(struct rig *rig, const void *data, uint8_t bytes)
{
	const struct rdma_cm_event *event;

	rig->peer.param.private_data = data;
	rig->peer.param.private_data_len = bytes;
	fabric_peer_connect(&rig->peer, RDMA_PS_TCP, "10.0.0.1", PORT);
	(void)fabric_peer_event(&rig->peer);
	do {
		(void)mint_step(&rig->mint);
		event = fabric_peer_event(&rig->peer);
	} while (!event);
	enum rdma_cm_event_type type = event->event;
	if (type == RDMA_CM_EVENT_ESTABLISHED)
		memcpy(&rig->hello, event->param.conn.private_data, sizeof(rig->hello));
	(void)fabric_peer_event(&rig->peer);
	return type;
}

static void join(struct rig *rig)
{
	struct rdma_hello hello = good_hello(rig);
	demi_qtoken_t accepting = mint_accept(rig->server, rig->listener);
	demi_qresult_t result;

	assert_int_equal(knock(rig, &hello, sizeof(hello)), RDMA_CM_EVENT_ESTABLISHED);
	assert_int_equal(mint_wait(rig->server, accepting, &result), 0);
	rig->victim_qd = result.qr_value.ares.qd;
}

/* -- private data */

static void test_hello(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig);
	struct rdma_hello bad[8];
	for (uint32_t i = 0; i < 8; i++)
		bad[i] = good_hello(&rig);
	bad[0].magic = 0;
	bad[1].version = htole16(RDMA_VERSION + 1);
	bad[2].credits = 0;
	bad[3].credits = htole32(RDMA_CREDITS_MAX + 1);
	bad[4].buffer_bytes = htole32(16);
	bad[5].buffer_bytes = htole32(UINT32_MAX);
	bad[6].message_max = 0;
	memset(&bad[7], 0xff, sizeof(bad[7]));
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(knock(&rig, &bad[i], sizeof(bad[i])), RDMA_CM_EVENT_REJECTED);
		fabric_peer_drop(&rig.peer);
	}
	assert_int_equal(knock(&rig, NULL, 0), RDMA_CM_EVENT_REJECTED);
	fabric_peer_drop(&rig.peer);
	close_rig(&rig);
}

/* A server that answers with nonsense. */
static void test_bad_answer(void **state)
{
	struct rig rig;
	demi_qresult_t result;
	uint8_t nonsense[32] = {1, 2, 3};

	(void)state;
	open_rig(&rig);
	fabric_peer_listen(&rig.peer, RDMA_PS_TCP, "10.0.0.3", 7001);
	int qd = mint_socket(rig.friend);
	demi_qtoken_t qt = mint_connect(rig.friend, qd, &rig.mint.hosts[2], 7001);
	rig.peer.param.private_data = nonsense;
	rig.peer.param.private_data_len = sizeof(nonsense);
	const struct rdma_cm_event *event = NULL;
	while (!event) {
		(void)mint_step(&rig.mint);
		event = fabric_peer_event(&rig.peer);
	}
	assert_int_equal(event->event, RDMA_CM_EVENT_CONNECT_REQUEST);
	rig.peer.id = event->id;
	fabric_peer_make_qp(&rig.peer, rig.peer.id);
	assert_int_equal(rig.peer.verbs->accept(rig.peer.id, &rig.peer.param), 0);
	assert_int_equal(mint_wait(rig.friend, qt, &result), EPROTO);
	mint_close_qd(rig.friend, qd);
	close_rig(&rig);
}

/* -- messages */

struct message {
	struct rdma_header header;
	struct rdma_piece pieces[12];
};

static void send_message(struct rig *rig, const struct message *message, uint32_t bytes)
{
	memcpy(rig->peer.memory + 1024, message, sizeof(*message));
	assert_int_equal(fabric_peer_send(&rig->peer, 1000, 1024, bytes), 0);
	mint_pass(&rig->mint, FABRIC_MS);
}

static struct message announcement(const struct rig *rig, uint32_t count)
{
	struct message message = {.header = {.kind = RDMA_ANNOUNCE, .granted = htole32(16)}};

	message.header.length = htole32(count * (uint32_t)sizeof(struct rdma_piece));
	for (uint32_t i = 0; i < 12; i++)
		message.pieces[i] =
			(struct rdma_piece){.address = htole64((uintptr_t)rig->peer.memory),
					    .rkey = htole32(rig->peer.mr->rkey),
					    .length = htole32(2000)};
	return message;
}

static struct message data(uint32_t bytes)
{
	return (struct message){
		.header = {.kind = RDMA_DATA, .length = htole32(bytes), .granted = htole32(16)}};
}

/* The victim's pop tells it, and its push. */
static void expect_broken(struct rig *rig)
{
	demi_qresult_t result;
	int err = mint_wait(rig->server, mint_pop(rig->server, rig->victim_qd), &result);

	assert_int_equal(err, ECONNRESET);
	mint_close_qd(rig->server, rig->victim_qd);
	rig->victim_qd = -1;
	expect_friend(rig);
	fabric_peer_drop(&rig->peer);
	mint_pass(&rig->mint, 2 * FABRIC_S);
	struct ibv_wc wc;
	while (fabric_peer_poll(&rig->peer, &wc))
		;
}

static void try_message(struct rig *rig, const struct message *message, uint32_t bytes)
{
	join(rig);
	send_message(rig, message, bytes);
	expect_broken(rig);
}

static void test_messages(void **state)
{
	struct rig rig;
	struct message m;

	(void)state;
	open_rig(&rig);
	m = data(0);
	try_message(&rig, &m, 0);  /* no header */
	try_message(&rig, &m, 15); /* half of one */
	m = data(5);
	try_message(&rig, &m, 16); /* less than it says */
	m = data(UINT32_MAX);
	try_message(&rig, &m, 16);
	m = data(3);
	try_message(&rig, &m, 30); /* more than it says */
	static const uint8_t kinds[] = {0, 4, 77, 255};
	for (uint32_t i = 0; i < sizeof(kinds); i++) {
		m = data(4);
		m.header.kind = kinds[i];
		try_message(&rig, &m, 20);
	}
	m = data(4);
	m.header.kind = RDMA_END;
	try_message(&rig, &m, 20); /* an end with payload */
	m = data(0);
	m.header.done = htole32(1);
	try_message(&rig, &m, 16); /* read what was never announced */
	m.header.done = htole32(0x7fffffff);
	try_message(&rig, &m, 16);
	m = data(0);
	m.header.granted = htole32(RDMA_CREDITS_MAX + 1);
	try_message(&rig, &m, 16);
	m.header.granted = htole32(0x7fffffff);
	try_message(&rig, &m, 16);
	close_rig(&rig);
}

static void test_announcements(void **state)
{
	struct rig rig;
	struct message m;

	(void)state;
	open_rig(&rig);
	m = announcement(&rig, 0);
	try_message(&rig, &m, 16); /* nothing */
	m = announcement(&rig, 9);
	try_message(&rig, &m, 16 + 9 * 16); /* too many pieces */
	m = announcement(&rig, 1);
	m.header.length = htole32(15);
	try_message(&rig, &m, 16 + 15); /* part of one */
	m = announcement(&rig, 2);
	m.pieces[1].length = 0;
	try_message(&rig, &m, 16 + 32);
	m = announcement(&rig, 1);
	m.pieces[0].length = htole32(UINT32_MAX);
	try_message(&rig, &m, 16 + 16); /* too long */
	m = announcement(&rig, 8);
	for (uint32_t i = 0; i < 8; i++)
		m.pieces[i].length = htole32(UINT32_MAX);
	try_message(&rig, &m, 16 + 8 * 16); /* too long in sum */
	m = announcement(&rig, 1);
	m.pieces[0].rkey = htole32(12345);
	try_message(&rig, &m, 32); /* a key that is none */
	m = announcement(&rig, 1);
	m.pieces[0].address = 0;
	try_message(&rig, &m, 32);
	close_rig(&rig);
}

/* A message after the end of the stream. */
static void test_after_end(void **state)
{
	struct rig rig;
	struct message end = data(0);
	struct message m = data(4);
	demi_qresult_t result;

	(void)state;
	open_rig(&rig);
	join(&rig);
	end.header.kind = RDMA_END;
	send_message(&rig, &end, 16);
	send_message(&rig, &m, 20);
	assert_int_equal(mint_wait(rig.server, mint_pop(rig.server, rig.victim_qd), &result), 0);
	assert_int_equal(result.qr_value.sga.sga_segs[0].sgaseg_len, 0);
	demi_sgarray_t sga = mint_array(rig.server, 4, 1);
	demi_qtoken_t qt;
	assert_int_equal(demi_push(&qt, rig.victim_qd, &sga), ECONNRESET);
	mint_free(rig.server, &sga);
	close_rig(&rig);
}

/* More messages than were granted. */
static void test_no_credit(void **state)
{
	struct rig rig;
	struct message m = data(4);

	(void)state;
	open_rig(&rig);
	join(&rig);
	uint32_t credits = le32toh(rig.hello.credits);
	memcpy(rig.peer.memory + 1024, &m, sizeof(m));
	for (uint32_t i = 0; i <= credits; i++)
		assert_int_equal(fabric_peer_send(&rig.peer, i, 1024, 20), 0);
	mint_pass(&rig.mint, 10 * FABRIC_MS);
	demi_qresult_t result;
	int err = 0;
	uint32_t popped = 0;
	while (err == 0) { /* those that were allowed may be there */
		err = mint_wait(rig.server, mint_pop(rig.server, rig.victim_qd), &result);
		popped += err == 0;
		if (err == 0)
			mint_free(rig.server, &result.qr_value.sga);
	}
	assert_int_equal(err, ECONNRESET);
	assert_true(popped <= credits);
	close_rig(&rig);
}

/* -- the end */

/* It grants nothing, or does not read what is announced: a connection that was closed is given up
 * all the same, and its window is others'. */
static void test_never_ends(void **state)
{
	struct rig rig;

	(void)state;
	open_rig(&rig);
	for (uint32_t bytes = 100; bytes <= 100000; bytes *= 1000) {
		join(&rig);
		uint32_t windows = rig.server->engine->windows;
		demi_sgarray_t sga = mint_array(rig.server, bytes, 1);
		demi_qresult_t result;
		for (uint32_t i = 0; i < (bytes < 1000 ? 16 : 1); i++)
			assert_int_equal(mint_wait(rig.server,
						   mint_push(rig.server, rig.victim_qd, &sga),
						   &result),
					 0);
		mint_free(rig.server, &sga);
		mint_close_qd(rig.server, rig.victim_qd);
		rig.victim_qd = -1;
		mint_pass(&rig.mint, 60 * FABRIC_S);
		assert_int_equal(rig.server->engine->num_lingering, 1);
		mint_pass(&rig.mint, 60 * FABRIC_S);
		assert_int_equal(rig.server->engine->num_lingering, 0);
		assert_true(rig.server->engine->windows < windows);
		fabric_peer_drop(&rig.peer);
		mint_pass(&rig.mint, 2 * FABRIC_S);
		struct ibv_wc wc;
		while (fabric_peer_poll(&rig.peer, &wc)) {
			if (wc.opcode & IBV_WC_RECV)
				(void)fabric_peer_receive(&rig.peer, wc.wr_id,
							  32768 + (uint32_t)wc.wr_id * 1024, 1024);
		}
	}
	close_rig(&rig);
}

/* -- memory */

/* Whatever it tries by the key that it has, only the 8 bytes can be written, and nothing read. */
static void test_memory(void **state)
{
	static const struct {
		int32_t offset;
		uint32_t bytes;
		enum ibv_wr_opcode opcode;
		uint32_t other_key;
	} cases[] = {
		{8, 8, IBV_WR_RDMA_WRITE, 0},    {-8, 8, IBV_WR_RDMA_WRITE, 0},
		{0, 9, IBV_WR_RDMA_WRITE, 0},    {4, 8, IBV_WR_RDMA_WRITE, 0},
		{64, 8, IBV_WR_RDMA_WRITE, 0},   {0, 8, IBV_WR_RDMA_READ, 0},
		{0, 8, IBV_WR_RDMA_WRITE, 1},    {0, 8, IBV_WR_RDMA_WRITE, 256},
		{4096, 64, IBV_WR_RDMA_READ, 0},
	};
	struct rig rig;

	(void)state;
	open_rig(&rig);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		join(&rig);
		assert_int_equal(fabric_open_bytes(rig.server->device, IBV_ACCESS_REMOTE_READ), 0);
		struct ibv_send_wr wr = {.opcode = cases[i].opcode,
					 .send_flags = IBV_SEND_SIGNALED};
		wr.wr.rdma.remote_addr =
			le64toh(rig.hello.word_address) + (uint64_t)(int64_t)cases[i].offset;
		wr.wr.rdma.rkey = le32toh(rig.hello.word_rkey) + cases[i].other_key;
		assert_int_equal(fabric_peer_post(&rig.peer, &wr, 0, cases[i].bytes), 0);
		mint_pass(&rig.mint, 10 * FABRIC_MS);
		struct ibv_wc wc;
		assert_true(fabric_peer_poll(&rig.peer, &wc));
		assert_int_equal(wc.status, IBV_WC_REM_ACCESS_ERR);
		expect_broken(&rig);
	}
	close_rig(&rig);
}

/* What is announced can be read, as long as it is: by nobody before, nor once it was read. */
static void test_window(void **state)
{
	struct rig rig;
	struct message announced;
	demi_qresult_t result;
	struct ibv_wc wc;

	(void)state;
	open_rig(&rig);
	for (uint32_t i = 0; i < 4; i++) {
		join(&rig);
		demi_sgarray_t sga = mint_array(rig.server, 5000, 1);
		assert_int_equal(
			mint_wait(rig.server, mint_push(rig.server, rig.victim_qd, &sga), &result),
			0);
		mint_free(rig.server, &sga);
		mint_pass(&rig.mint, FABRIC_MS);
		assert_true(fabric_peer_poll(&rig.peer, &wc));
		memcpy(&announced, rig.peer.memory + 32768 + wc.wr_id * 1024, sizeof(announced));
		(void)fabric_peer_receive(&rig.peer, wc.wr_id, 32768 + (uint32_t)wc.wr_id * 1024,
					  1024);
		assert_int_equal(announced.header.kind, RDMA_ANNOUNCE);
		assert_int_equal(le32toh(announced.pieces[0].length), 5000);
		assert_int_equal(fabric_open_bytes(rig.server->device, IBV_ACCESS_REMOTE_READ),
				 5000);
		struct message m = data(0);
		m.header.done = htole32(1);
		if (i == 0) /* a lie: it has read nothing */
			send_message(&rig, &m, 16);
		while (fabric_peer_poll(&rig.peer, &wc))
			;
		struct ibv_send_wr wr = {.opcode = i == 1 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
					 .send_flags = IBV_SEND_SIGNALED};
		wr.wr.rdma.remote_addr = le64toh(announced.pieces[0].address) + (i == 2);
		wr.wr.rdma.rkey = le32toh(announced.pieces[0].rkey);
		assert_int_equal(fabric_peer_post(&rig.peer, &wr, 4096, 5000), 0);
		mint_pass(&rig.mint, FABRIC_MS);
		assert_true(fabric_peer_poll(&rig.peer, &wc));
		assert_int_equal(wc.status, i == 3 ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR);
		if (i == 3) {
			assert_int_equal(rig.peer.memory[4096 + 4999], mint_byte(1, 4999));
			send_message(&rig, &m, 16);
			assert_int_equal(
				fabric_open_bytes(rig.server->device, IBV_ACCESS_REMOTE_READ), 0);
			fabric_peer_drop(&rig.peer);
			mint_pass(&rig.mint, 2 * FABRIC_S);
			break;
		}
		int err = mint_wait(rig.server, mint_pop(rig.server, rig.victim_qd), &result);
		if (i == 0 && err == 0) { /* the lie came with an element */
			mint_free(rig.server, &result.qr_value.sga);
			expect_broken(&rig);
			continue;
		}
		assert_int_equal(err, ECONNRESET);
		mint_close_qd(rig.server, rig.victim_qd);
		rig.victim_qd = -1;
		fabric_peer_drop(&rig.peer);
		mint_pass(&rig.mint, 2 * FABRIC_S);
		while (fabric_peer_poll(&rig.peer, &wc))
			;
	}
	close_rig(&rig);
}

/* Anything may be in the word. */
static void test_word(void **state)
{
	static const uint64_t words[] = {
		UINT64_MAX, 0x00000000ffffffff, 0xffffffff00000000, 0x7fffffff7fffffff,
		0x80000000, 0x0000000100000000, 0x00000000000fffff,
	};
	struct rig rig;

	(void)state;
	open_rig(&rig);
	for (uint32_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		demi_qtoken_t pushes[40];
		demi_qresult_t result;
		join(&rig);
		struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_WRITE,
					 .send_flags = IBV_SEND_SIGNALED};
		wr.wr.rdma.remote_addr = le64toh(rig.hello.word_address);
		wr.wr.rdma.rkey = le32toh(rig.hello.word_rkey);
		memcpy(rig.peer.memory, &words[i], 8);
		assert_int_equal(fabric_peer_post(&rig.peer, &wr, 0, 8), 0);
		mint_pass(&rig.mint, 10 * FABRIC_MS);
		demi_sgarray_t sga = mint_array(rig.server, 100, 1);
		uint32_t pushed = 0;
		while (pushed < 40 && demi_push(&pushes[pushed], rig.victim_qd, &sga) == 0)
			pushed++;
		mint_free(rig.server, &sga);
		mint_pass(&rig.mint, FABRIC_MS);
		/* Whatever became of them, they end with their queue. */
		mint_close_qd(rig.server, rig.victim_qd);
		rig.victim_qd = -1;
		for (uint32_t n = 0; n < pushed; n++) {
			int err = mint_wait(rig.server, pushes[n], &result);
			assert_true(err == 0 || err == ECANCELED || err == ECONNRESET);
		}
		fabric_peer_drop(&rig.peer);
		mint_pass(&rig.mint, 3 * FABRIC_S);
		expect_friend(&rig);
		struct ibv_wc wc;
		while (fabric_peer_poll(&rig.peer, &wc)) {
			if (wc.opcode == IBV_WC_RECV && wc.status == IBV_WC_SUCCESS)
				(void)fabric_peer_receive(&rig.peer, wc.wr_id,
							  32768 + (uint32_t)wc.wr_id * 1024, 1024);
		}
	}
	close_rig(&rig);
}

/* -- chance */

/* Messages of anything. */
static void test_random(void **state)
{
	struct rig rig;
	struct prng prng;

	(void)state;
	prng_seed(&prng, test_seed(20261127));
	open_rig(&rig);
	for (uint32_t round = 0; round < 100; round++) {
		join(&rig);
		demi_qtoken_t pop = mint_pop(rig.server, rig.victim_qd);
		for (uint32_t n = 0; n < 8; n++) {
			struct message m = announcement(&rig, (uint32_t)prng_below(&prng, 9));
			m.header.kind = (uint8_t)prng_below(&prng, 5);
			uint32_t bytes = (uint32_t)prng_below(&prng, sizeof(m));
			if (prng_below(&prng, 2) == 0 && bytes >= 16)
				m.header.length = htole32(bytes - 16);
			if (prng_below(&prng, 4) == 0)
				m.header.granted = htole32((uint32_t)prng_next(&prng));
			if (prng_below(&prng, 8) == 0)
				m.header.done = htole32((uint32_t)prng_next(&prng));
			memcpy(rig.peer.memory + 1024, &m, sizeof(m));
			if (fabric_peer_send(&rig.peer, n, 1024, bytes))
				break;
			mint_pass(&rig.mint, prng_below(&prng, 20) * FABRIC_US);
			demi_qresult_t result;
			if (!mint_try(rig.server, pop, &result))
				continue;
			if (result.qr_ret == 0 &&
			    result.qr_value.sga.sga_segs[0].sgaseg_buf != NULL)
				mint_free(rig.server, &result.qr_value.sga);
			pop = mint_pop(rig.server, rig.victim_qd);
		}
		mint_close_qd(rig.server, rig.victim_qd);
		rig.victim_qd = -1;
		fabric_peer_drop(&rig.peer);
		mint_pass(&rig.mint, 3 * FABRIC_S);
		struct ibv_wc wc;
		while (fabric_peer_poll(&rig.peer, &wc)) {
			if (wc.opcode & IBV_WC_RECV)
				(void)fabric_peer_receive(&rig.peer, wc.wr_id,
							  32768 + (uint32_t)wc.wr_id * 1024, 1024);
		}
		if (round % 10 == 0)
			expect_friend(&rig);
	}
	close_rig(&rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello),      cmocka_unit_test(test_bad_answer),
		cmocka_unit_test(test_messages),   cmocka_unit_test(test_announcements),
		cmocka_unit_test(test_after_end),  cmocka_unit_test(test_no_credit),
		cmocka_unit_test(test_memory),     cmocka_unit_test(test_window),
		cmocka_unit_test(test_word),       cmocka_unit_test(test_random),
		cmocka_unit_test(test_never_ends),
	};

	return test_run("rdma_peer", tests);
}
