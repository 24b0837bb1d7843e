/* tests/unit/fabric_datagram_test.c: support/fabric.h: datagrams (UD queue pairs, look-ups by
 * rdma_cm), limits, and what it does because a test or chance says so. */
#include "support/fabric_pair.h"
#include "support/test.h"

#include "base/bits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define BUFFER 2048U

static struct ibv_ah *ah;
static uint32_t there; /* b's queue pair */
static uint32_t qkey;

/* b listens, and answers a look-up of a's with the queue pair of its listener. */
static void begin(uint64_t seed, const char *address)
{
	pair_open(&(struct pair_options){.seed = seed});
	fabric_peer_listen(&pair.b, RDMA_PS_UDP, "::", PAIR_PORT);
	fabric_peer_connect(&pair.a, RDMA_PS_UDP, address, PAIR_PORT);
	fabric_peer_accept(&pair.b);
	const struct rdma_cm_event *event = fabric_peer_await(&pair.a, RDMA_CM_EVENT_ESTABLISHED);
	there = event->param.ud.qp_num;
	qkey = event->param.ud.qkey;
	struct ibv_ah_attr attr = event->param.ud.ah_attr;
	ah = pair.a.verbs->create_ah(pair.a.pd, &attr);
	assert_non_null(ah);
}

static void finish(void)
{
	assert_int_equal(pair.a.verbs->destroy_ah(ah), 0);
	pair_close();
}

static int send_to(uint32_t qp_num, uint32_t key, uint64_t wr_id, uint32_t bytes)
{
	struct ibv_send_wr wr = {
		.wr_id = wr_id,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.ud = {.ah = ah, .remote_qpn = qp_num, .remote_qkey = key},
	};

	return fabric_peer_post(&pair.a, &wr, 0, bytes);
}

/* ---- look-ups ---- */

static void test_look_up(void **state)
{
	uint8_t data[FABRIC_UD_CONNECT_BYTES];
	const struct rdma_cm_event *event;

	(void)state;
	memset(data, 'u', sizeof(data));
	pair_open(&(struct pair_options){.seed = 1});
	fabric_peer_listen(&pair.b, RDMA_PS_UDP, "0.0.0.0", PAIR_PORT);
	pair.a.param.private_data = data;
	pair.a.param.private_data_len = sizeof(data);
	fabric_peer_connect(&pair.a, RDMA_PS_UDP, "10.0.0.2", PAIR_PORT);
	assert_int_equal(pair_state(&pair.a), IBV_QPS_RTS); /* from its making */
	event = fabric_peer_await(&pair.b, RDMA_CM_EVENT_CONNECT_REQUEST);
	assert_int_equal(event->param.ud.private_data_len, FABRIC_UD_CONNECT_BYTES);
	assert_memory_equal(event->param.ud.private_data, data, sizeof(data));
	struct rdma_cm_id *id = event->id;
	/* with a queue pair of its own, which is on no id */
	struct rdma_conn_param param = {
		.private_data = data, .private_data_len = 100, .qp_num = 1234};
	assert_int_equal(pair.b.verbs->accept(id, &param), 0);
	event = fabric_peer_await(&pair.a, RDMA_CM_EVENT_ESTABLISHED);
	assert_int_equal(event->param.ud.qp_num, 1234);
	assert_int_equal(event->param.ud.qkey, RDMA_UDP_QKEY);
	assert_int_equal(event->param.ud.private_data_len, FABRIC_UD_ACCEPT_BYTES);
	assert_memory_equal(event->param.ud.private_data, data, 100);
	assert_true(event->param.ud.ah_attr.is_global);
	assert_null(fabric_peer_event(&pair.b));
	assert_int_equal(pair.b.verbs->destroy_id(id), 0);
	pair_close();
}

static void look_up_without_result(bool nobody, int status)
{
	pair_open(&(struct pair_options){.seed = 1});
	fabric_peer_listen(&pair.b, nobody ? RDMA_PS_TCP : RDMA_PS_UDP, "0.0.0.0", PAIR_PORT);
	fabric_peer_connect(&pair.a, RDMA_PS_UDP, "10.0.0.2", PAIR_PORT);
	if (!nobody) {
		struct rdma_cm_id *id =
			fabric_peer_await(&pair.b, RDMA_CM_EVENT_CONNECT_REQUEST)->id;
		assert_int_equal(pair.b.verbs->reject(id, NULL, 0), 0);
		assert_int_equal(pair.b.verbs->destroy_id(id), 0);
	}
	assert_int_equal(fabric_peer_await(&pair.a, RDMA_CM_EVENT_UNREACHABLE)->status, status);
	pair_close();
}

static void test_look_up_errors(void **state)
{
	(void)state;
	look_up_without_result(true, FABRIC_SIDR_UNSUPPORTED);
	look_up_without_result(false, FABRIC_SIDR_REJECT);
}

/* ---- datagrams ---- */

/* A header of 40 bytes is before what was sent: over IPv4 its last 20 are that of IPv4. */
static void pass(const char *address, bool v6)
{
	begin(1, address);
	memcpy(pair.a.memory, "datagram", 8);
	assert_int_equal(fabric_peer_receive(&pair.b, 5, 100, BUFFER), 0);
	assert_int_equal(send_to(there, qkey, 6, 8), 0);
	(void)pair_expect(&pair.a, 6, IBV_WC_SUCCESS);
	struct ibv_wc wc = pair_expect(&pair.b, 5, IBV_WC_SUCCESS);
	assert_int_equal(wc.opcode, IBV_WC_RECV);
	assert_int_equal(wc.byte_len, 48);
	assert_int_equal(wc.wc_flags, IBV_WC_GRH);
	assert_int_equal(wc.src_qp, pair.a.id->qp->qp_num);
	const uint8_t *grh = &pair.b.memory[100];
	assert_memory_equal(grh + FABRIC_GRH, "datagram", 8);
	struct in_addr v4 = {.s_addr = htonl(0x0a000001)};
	struct in6_addr six;
	assert_int_equal(inet_pton(AF_INET6, "fd00::1", &six), 1);
	assert_int_equal(grh[v6 ? 0 : 20] >> 4, v6 ? 6 : 4);
	assert_memory_equal(grh + (v6 ? 8 : 32), v6 ? (const void *)&six : (const void *)&v4,
			    v6 ? 16 : 4);
	finish();
}

static void test_pass(void **state)
{
	(void)state;
	pass("10.0.0.2", false);
	pass("fd00::2", true);
}

/* IBA 9.8.3: what is dropped, and counted; its sender is told nothing. */
static void test_drops(void **state)
{
	enum { GOOD, QKEY, NUMBER, NO_RECEIVE, SHORT, CUT, OWN_QKEY };

	static const struct {
		int what;
		size_t counter;
	} cases[] = {
		{GOOD, offsetof(struct fabric_counts, datagrams)},
		{QKEY, offsetof(struct fabric_counts, bad_qkey)},
		{NUMBER, offsetof(struct fabric_counts, lost)},
		{NO_RECEIVE, offsetof(struct fabric_counts, no_receive)},
		{SHORT, offsetof(struct fabric_counts, too_long)},
		{CUT, offsetof(struct fabric_counts, lost)},
		{OWN_QKEY, offsetof(struct fabric_counts, datagrams)}, /* highest bit */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		int what = cases[i].what;
		begin(1, "10.0.0.2");
		if (what != NO_RECEIVE)
			assert_int_equal(
				fabric_peer_receive(&pair.b, 5, 0, what == SHORT ? 47 : 48), 0);
		fabric_cut(pair.devices[0], pair.devices[1], what == CUT);
		uint32_t key = what == QKEY ? qkey + 1 : what == OWN_QKEY ? 0x80000000 : qkey;
		assert_int_equal(send_to(what == NUMBER ? there + 100 : there, key, 6, 8), 0);
		(void)pair_expect(&pair.a, 6, IBV_WC_SUCCESS);
		while (fabric_step(pair.fabric))
			;
		const char *counts = (const char *)fabric_counts(pair.devices[1]);
		uint64_t counted;
		memcpy(&counted, counts + cases[i].counter, sizeof(counted));
		assert_int_equal(counted, 1);
		struct ibv_wc wc;
		assert_int_equal(fabric_peer_poll(&pair.b, &wc), what == GOOD || what == OWN_QKEY);
		finish();
	}
}

/* A datagram of more than the MTU: the queue pair stops sending until it is told to go on. */
static void test_mtu(void **state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS};

	(void)state;
	begin(1, "10.0.0.2");
	assert_int_equal(fabric_peer_receive(&pair.b, 1, 0, BUFFER), 0);
	assert_int_equal(send_to(there, qkey, 2, 1024), 0);
	(void)pair_expect(&pair.a, 2, IBV_WC_SUCCESS);
	assert_int_equal(pair_expect(&pair.b, 1, IBV_WC_SUCCESS).byte_len, 1064);
	assert_int_equal(send_to(there, qkey, 3, 1025), 0);
	assert_int_equal(send_to(there, qkey, 4, 8), 0);
	(void)pair_expect(&pair.a, 3, IBV_WC_LOC_LEN_ERR);
	(void)pair_expect(&pair.a, 4, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(pair_state(&pair.a), IBV_QPS_SQE);
	assert_int_equal(pair.a.verbs->modify_qp(pair.a.id->qp, &attr, IBV_QP_STATE), 0);
	assert_int_equal(send_to(there, qkey, 5, 8), 0);
	(void)pair_expect(&pair.a, 5, IBV_WC_SUCCESS);
	finish();
}

/* The data of a datagram is away when its send completes. */
static void test_data_is_away(void **state)
{
	(void)state;
	begin(1, "10.0.0.2");
	fabric_chance(pair.fabric)->delay_ns = FABRIC_MS;
	assert_int_equal(fabric_peer_receive(&pair.b, 1, 0, BUFFER), 0);
	pair.a.memory[0] = 1;
	assert_int_equal(send_to(there, qkey, 2, 1), 0);
	(void)pair_expect(&pair.a, 2, IBV_WC_SUCCESS);
	assert_int_equal(fabric_counts(pair.devices[1])->datagrams, 0);
	pair.a.memory[0] = 2;
	(void)pair_expect(&pair.b, 1, IBV_WC_SUCCESS);
	assert_int_equal(pair.b.memory[FABRIC_GRH], 1);
	finish();
}

static void test_immediate(void **state)
{
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_SEND_WITH_IMM,
		.imm_data = htobe32(77),
	};

	(void)state;
	begin(1, "10.0.0.2");
	wr.wr.ud.ah = ah;
	wr.wr.ud.remote_qpn = there;
	wr.wr.ud.remote_qkey = qkey;
	assert_int_equal(fabric_peer_receive(&pair.b, 1, 0, BUFFER), 0);
	assert_int_equal(fabric_peer_post(&pair.a, &wr, 0, 1), 0);
	struct ibv_wc wc = pair_expect(&pair.b, 1, IBV_WC_SUCCESS);
	assert_int_equal(wc.wc_flags, IBV_WC_GRH | IBV_WC_WITH_IMM);
	assert_int_equal(wc.imm_data, htobe32(77));
	wr.opcode = IBV_WR_RDMA_WRITE; /* not of datagrams */
	assert_int_equal(fabric_peer_post(&pair.a, &wr, 0, 1), EINVAL);
	finish();
}

static void test_address_handles(void **state)
{
	static const struct {
		uint8_t is_global;
		uint8_t port;
		uint8_t index;
		bool good;
	} cases[] = {
		{1, 1, 0, true},  {1, 1, 1, true},  {0, 1, 0, false},
		{1, 2, 0, false}, {1, 1, 2, false},
	};

	(void)state;
	pair_open(&(struct pair_options){.seed = 1});
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct ibv_ah_attr attr = {
			.is_global = cases[i].is_global,
			.port_num = cases[i].port,
			.grh.sgid_index = cases[i].index,
		};
		struct ibv_ah *made = pair.a.verbs->create_ah(pair.a.pd, &attr);
		assert_int_equal(made != NULL, cases[i].good);
		if (made)
			assert_int_equal(pair.a.verbs->destroy_ah(made), 0);
	}
	pair_close();
}

/* ---- what tests ask for ---- */

static void test_failing_posts(void **state)
{
	static const int results[] = {0, EIO, 0, 0, ENOMEM, 0};

	(void)state;
	pair_join(&(struct pair_options){.seed = 1});
	for (size_t i = 0; i < ARRAY_LENGTH(results); i++) {
		if (i == 0)
			fabric_fail_post(pair.devices[1], 2, EIO);
		if (i == 3)
			fabric_fail_post(pair.devices[1], 2, ENOMEM);
		assert_int_equal(fabric_peer_receive(&pair.b, i, 0, 8), results[i]);
	}
	assert_int_equal(fabric_counts(pair.devices[1])->receive_posts, 4);
	pair_close();
}

static void test_failing_work(void **state)
{
	(void)state;
	pair_join(&(struct pair_options){.seed = 1});
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(fabric_peer_receive(&pair.b, i, 0, 8), 0);
	fabric_fail_work(pair.devices[0], 2, IBV_WC_FATAL_ERR);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(fabric_peer_send(&pair.a, i, 0, 8), 0);
	(void)pair_expect(&pair.a, 0, IBV_WC_SUCCESS);
	(void)pair_expect(&pair.a, 1, IBV_WC_FATAL_ERR);
	(void)pair_expect(&pair.a, 2, IBV_WC_WR_FLUSH_ERR);
	(void)pair_expect(&pair.b, 0, IBV_WC_SUCCESS);
	pair_expect_none(&pair.b);
	assert_int_equal(pair_state(&pair.a), IBV_QPS_ERR);
	pair_close();
}

/* A flushed request may have arrived, or not. */
static void flushed_on_its_way(uint32_t chance)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

	pair_join(&(struct pair_options){.seed = 1});
	fabric_chance(pair.fabric)->delivered = chance;
	assert_int_equal(fabric_peer_receive(&pair.b, 1, 0, 8), 0);
	assert_int_equal(fabric_peer_send(&pair.a, 2, 0, 8), 0);
	assert_int_equal(pair.a.verbs->modify_qp(pair.a.id->qp, &attr, IBV_QP_STATE), 0);
	(void)pair_expect(&pair.a, 2, IBV_WC_WR_FLUSH_ERR);
	if (chance)
		(void)pair_expect(&pair.b, 1, IBV_WC_SUCCESS);
	pair_expect_none(&pair.b);
	pair_close();
}

static void test_flushed_on_its_way(void **state)
{
	(void)state;
	flushed_on_its_way(0);
	flushed_on_its_way(FABRIC_MILLION);
}

/* ibv_create_qp(3), rdma_create_qp(3): no more than the device has. */
static void test_queue_pair_limits(void **state)
{
	static const struct {
		struct ibv_qp_cap cap;
		bool good;
	} cases[] = {
		{{.max_send_wr = 4, .max_send_sge = 1, .max_inline_data = 256}, true},
		{{.max_send_wr = 4, .max_send_sge = 1, .max_inline_data = 257}, false},
		{{.max_send_wr = 16384, .max_send_sge = 1}, true},
		{{.max_send_wr = 16385, .max_send_sge = 1}, false},
		{{.max_recv_wr = 16385}, false},
		{{.max_send_wr = 1, .max_send_sge = 33}, false},
		{{.max_recv_wr = 1, .max_recv_sge = 33}, false},
	};

	(void)state;
	begin(1, "10.0.0.2");
	struct rdma_cm_id *id;
	assert_int_equal(pair.a.verbs->create_id(pair.a.channel, &id, NULL, RDMA_PS_TCP), 0);
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000001)};
	struct ibv_qp_init_attr attr = {
		.send_cq = pair.a.cq, .recv_cq = pair.a.cq, .qp_type = IBV_QPT_RC};
	assert_int_equal(pair.a.verbs->create_qp(id, pair.a.pd, &attr), -1); /* no device yet */
	assert_int_equal(errno, EINVAL);
	assert_int_equal(pair.a.verbs->bind_addr(id, (struct sockaddr *)(void *)&own), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		attr.cap = cases[i].cap;
		assert_int_equal(pair.a.verbs->create_qp(id, pair.a.pd, &attr),
				 cases[i].good ? 0 : -1);
		if (cases[i].good)
			pair.a.verbs->destroy_qp(id);
	}
	attr.qp_type = IBV_QPT_UD; /* not of this kind of id */
	attr.cap = cases[0].cap;
	assert_int_equal(pair.a.verbs->create_qp(id, pair.a.pd, &attr), -1);
	assert_int_equal(pair.a.verbs->destroy_id(id), 0);
	finish();
}

/* ---- chance ---- */

/* So many datagrams: which arrive, in which order? */
static uint64_t swarm(uint64_t seed, uint32_t *arrived, uint32_t *overtaken)
{
	struct ibv_wc wc;
	uint32_t last = 0;

	begin(seed, "10.0.0.2");
	fabric_chance(pair.fabric)->lose = 200000;
	fabric_chance(pair.fabric)->overtake = 200000;
	for (uint32_t i = 1; i <= 50; i++) {
		assert_int_equal(fabric_peer_receive(&pair.b, i, 64 * i, 64), 0);
		memcpy(pair.a.memory, &i, sizeof(i));
		assert_int_equal(send_to(there, qkey, i, sizeof(i)), 0);
	}
	while (fabric_step(pair.fabric))
		;
	while (fabric_peer_poll(&pair.b, &wc)) {
		uint32_t number;
		memcpy(&number, &pair.b.memory[64 * wc.wr_id + FABRIC_GRH], sizeof(number));
		(*arrived)++;
		*overtaken += number < last;
		last = number;
	}
	uint64_t hash = fabric_hash(pair.fabric);
	finish();
	return hash;
}

/* A run is a function of its seed. */
static void test_chance(void **state)
{
	uint32_t arrived = 0;
	uint32_t overtaken = 0;

	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++)
		assert_true(swarm(seed, &arrived, &overtaken) == swarm(seed, &arrived, &overtaken));
	assert_true(swarm(1, &arrived, &overtaken) != swarm(2, &arrived, &overtaken));
	assert_in_range(arrived, 40 * 50 * 7 / 10, 40 * 50 * 9 / 10);
	assert_true(overtaken > 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_look_up),
		cmocka_unit_test(test_look_up_errors),
		cmocka_unit_test(test_pass),
		cmocka_unit_test(test_drops),
		cmocka_unit_test(test_mtu),
		cmocka_unit_test(test_data_is_away),
		cmocka_unit_test(test_immediate),
		cmocka_unit_test(test_address_handles),
		cmocka_unit_test(test_failing_posts),
		cmocka_unit_test(test_failing_work),
		cmocka_unit_test(test_flushed_on_its_way),
		cmocka_unit_test(test_queue_pair_limits),
		cmocka_unit_test(test_chance),
	};

	return test_run("fabric_datagram", tests);
}
