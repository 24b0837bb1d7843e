/* tests/unit/fabric_memory_test.c: support/fabric.h: what keys, bounds, access flags and memory
 * windows allow, and one-sided requests. */
#include "support/fabric_pair.h"
#include "support/test.h"

#include "base/bits.h"

#include <errno.h>
#include <string.h>

#define SIGNALLED IBV_SEND_SIGNALED
#define WRITE     IBV_ACCESS_REMOTE_WRITE
#define READ      IBV_ACCESS_REMOTE_READ
#define LOCAL     IBV_ACCESS_LOCAL_WRITE
#define BIND      IBV_ACCESS_MW_BIND

static const struct pair_options options = {.seed = 1};

/* A one-sided request of a's: to a place in b's memory. */
static int one_sided(enum ibv_wr_opcode opcode, uint32_t rkey, uint32_t at, uint32_t bytes)
{
	struct ibv_send_wr wr = {
		.wr_id = 1,
		.opcode = opcode,
		.send_flags = SIGNALLED,
		.imm_data = htobe32(0xabcd),
		.wr.rdma = {.remote_addr = (uintptr_t)&pair.b.memory[at], .rkey = rkey},
	};

	return fabric_peer_post(&pair.a, &wr, 0, bytes);
}

static void test_write(void **state)
{
	(void)state;
	pair_join(&options);
	memcpy(pair.a.memory, "there", 5);
	assert_int_equal(one_sided(IBV_WR_RDMA_WRITE, pair.b.mr->rkey, 50, 5), 0);
	assert_int_equal(pair_expect(&pair.a, 1, IBV_WC_SUCCESS).opcode, IBV_WC_RDMA_WRITE);
	assert_memory_equal(&pair.b.memory[50], "there", 5);
	pair_expect_none(&pair.b); /* it is not told */
	pair_close();
}

static void test_write_with_immediate(void **state)
{
	(void)state;
	pair_join(&options);
	pair.a.memory[0] = 'x';
	assert_int_equal(fabric_peer_receive(&pair.b, 7, 1000, 0), 0);
	assert_int_equal(one_sided(IBV_WR_RDMA_WRITE_WITH_IMM, pair.b.mr->rkey, 50, 9), 0);
	struct ibv_wc wc = pair_expect(&pair.b, 7, IBV_WC_SUCCESS);
	assert_int_equal(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
	assert_int_equal(wc.wc_flags, IBV_WC_WITH_IMM);
	assert_int_equal(wc.imm_data, htobe32(0xabcd));
	assert_int_equal(wc.byte_len, 9);
	assert_int_equal(pair.b.memory[50], 'x');
	(void)pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
	pair_close();
}

static void test_read(void **state)
{
	(void)state;
	pair_join(&options);
	memcpy(&pair.b.memory[50], "from there", 10);
	assert_int_equal(one_sided(IBV_WR_RDMA_READ, pair.b.mr->rkey, 50, 10), 0);
	struct ibv_wc wc = pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
	assert_int_equal(wc.opcode, IBV_WC_RDMA_READ);
	assert_int_equal(wc.byte_len, 10);
	assert_memory_equal(pair.a.memory, "from there", 10);
	assert_int_equal(fabric_counts(pair.devices[1])->reads, 1);
	pair_expect_none(&pair.b);
	pair_close();
}

/* What is read is what was there when the request arrived. */
static void test_read_is_of_one_moment(void **state)
{
	(void)state;
	pair_join(&options);
	fabric_chance(pair.fabric)->delay_ns = FABRIC_MS;
	pair.b.memory[0] = 1;
	assert_int_equal(one_sided(IBV_WR_RDMA_READ, pair.b.mr->rkey, 0, 1), 0);
	while (fabric_counts(pair.devices[1])->reads == 0)
		assert_true(fabric_step(pair.fabric));
	pair.b.memory[0] = 2;
	(void)pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
	assert_int_equal(pair.a.memory[0], 1);
	pair_close();
}

/* rdma_connect(3): so many at a time; the rest waits.  None at all is an error. */
static void reads_at_a_time(uint8_t depth, uint8_t resources)
{
	pair_open(&options);
	pair.a.param.initiator_depth = depth;
	pair.b.param.responder_resources = resources;
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_join(&pair.a, &pair.b, "10.0.0.2", PAIR_PORT);
	fabric_chance(pair.fabric)->delay_ns = FABRIC_MS;
	uint64_t start = fabric_now(pair.fabric);
	for (int i = 0; i < 6; i++)
		assert_int_equal(one_sided(IBV_WR_RDMA_READ, pair.b.mr->rkey, 0, 8), 0);
	(void)pair_expect(&pair.a, 1, resources == 0 ? IBV_WC_LOC_QP_OP_ERR : IBV_WC_SUCCESS);
	for (int i = 1; i < 6; i++)
		(void)pair_expect(&pair.a, 1, resources ? IBV_WC_SUCCESS : IBV_WC_WR_FLUSH_ERR);
	if (resources) {
		uint64_t rounds = (fabric_now(pair.fabric) - start) / (2 * FABRIC_MS);
		assert_int_equal(rounds, 6 / resources);
	}
	pair_close();
}

static void test_reads_at_a_time(void **state)
{
	(void)state;
	reads_at_a_time(16, 6);
	reads_at_a_time(6, 2);
	reads_at_a_time(2, 1);
	reads_at_a_time(1, 0);
}

/* IBA 9.9.3: what a responder refuses, and what each side is told. */
static void test_refusals(void **state)
{
	static const struct {
		enum ibv_wr_opcode opcode;
		int access; /* of the region */
		uint32_t offset;
		uint32_t bytes;
		int32_t key; /* what is wrong with it */
		enum ibv_wc_status status;
	} cases[] = {
		{IBV_WR_RDMA_WRITE, LOCAL | WRITE, 0, 100, 0, IBV_WC_SUCCESS},
		{IBV_WR_RDMA_WRITE, LOCAL | WRITE, 99, 1, 0, IBV_WC_SUCCESS},
		{IBV_WR_RDMA_WRITE, LOCAL | WRITE, 0, 101, 0, IBV_WC_REM_ACCESS_ERR},
		{IBV_WR_RDMA_WRITE, LOCAL | WRITE, 100, 1, 0, IBV_WC_REM_ACCESS_ERR},
		{IBV_WR_RDMA_WRITE, LOCAL | WRITE, 0, 1, 1, IBV_WC_REM_ACCESS_ERR},
		{IBV_WR_RDMA_WRITE, LOCAL | WRITE, 0, 1, 0x100, IBV_WC_REM_ACCESS_ERR},
		{IBV_WR_RDMA_WRITE, LOCAL | WRITE, 0, 0, 0x100, IBV_WC_SUCCESS}, /* no byte */
		{IBV_WR_RDMA_WRITE, LOCAL | READ, 0, 1, 0, IBV_WC_REM_ACCESS_ERR},
		{IBV_WR_RDMA_WRITE, LOCAL, 0, 1, 0, IBV_WC_REM_ACCESS_ERR},
		{IBV_WR_RDMA_READ, READ, 0, 100, 0, IBV_WC_SUCCESS},
		{IBV_WR_RDMA_READ, READ, 1, 100, 0, IBV_WC_REM_ACCESS_ERR},
		{IBV_WR_RDMA_READ, LOCAL | WRITE, 0, 1, 0, IBV_WC_REM_ACCESS_ERR},
		{IBV_WR_RDMA_READ, 0, 0, 1, 0, IBV_WC_REM_ACCESS_ERR},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		pair_join(&options);
		struct ibv_mr *mr =
			pair.b.verbs->reg_mr(pair.b.pd, &pair.b.memory[1000], 100, cases[i].access);
		assert_non_null(mr);
		assert_int_equal(one_sided(cases[i].opcode, mr->rkey + (uint32_t)cases[i].key,
					   1000 + cases[i].offset, cases[i].bytes),
				 0);
		(void)pair_expect(&pair.a, 1, cases[i].status);
		bool failed = cases[i].status != IBV_WC_SUCCESS;
		assert_int_equal(pair_state(&pair.a), failed ? IBV_QPS_ERR : IBV_QPS_RTS);
		assert_int_equal(pair_state(&pair.b), failed ? IBV_QPS_ERR : IBV_QPS_RTS);
		assert_int_equal(fabric_counts(pair.devices[1])->refused, failed);
		if (failed)
			pair_expect_async(&pair.b, IBV_EVENT_QP_ACCESS_ERR);
		assert_int_equal(pair.b.verbs->dereg_mr(mr), 0);
		pair_close();
	}
}

/* A connection that said that it has no resources for reads does not allow them. */
static void test_reads_not_enabled(void **state)
{
	struct ibv_qp_attr attr = {.qp_access_flags = IBV_ACCESS_REMOTE_WRITE};

	(void)state;
	pair_join(&options);
	assert_int_equal(pair.b.verbs->modify_qp(pair.b.id->qp, &attr, IBV_QP_ACCESS_FLAGS), 0);
	assert_int_equal(one_sided(IBV_WR_RDMA_READ, pair.b.mr->rkey, 0, 8), 0);
	(void)pair_expect(&pair.a, 1, IBV_WC_REM_INV_REQ_ERR);
	pair_expect_async(&pair.b, IBV_EVENT_QP_REQ_ERR);
	pair_close();
}

/* Local keys: of another domain, out of bounds, not writable. */
static void test_local_keys(void **state)
{
	static const struct {
		bool other_pd;
		int access;
		uint32_t bytes;
		enum ibv_wc_status status;
	} cases[] = {
		{false, LOCAL, 100, IBV_WC_SUCCESS},
		{false, LOCAL, 101, IBV_WC_LOC_PROT_ERR},
		{true, LOCAL, 100, IBV_WC_LOC_PROT_ERR},
		{false, 0, 100, IBV_WC_LOC_PROT_ERR},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		pair_join(&options);
		struct ibv_pd *other = pair.a.verbs->alloc_pd(pair.a.context);
		struct ibv_mr *mr = pair.a.verbs->reg_mr(cases[i].other_pd ? other : pair.a.pd,
							 pair.a.memory, 100, cases[i].access);
		struct ibv_mr *own = pair.a.mr;
		pair.a.mr = mr;
		assert_int_equal(one_sided(IBV_WR_RDMA_READ, pair.b.mr->rkey, 0, cases[i].bytes),
				 0);
		pair.a.mr = own;
		(void)pair_expect(&pair.a, 1, cases[i].status);
		assert_int_equal(pair.a.verbs->dereg_mr(mr), 0);
		assert_int_equal(pair.a.verbs->dealloc_pd(other), 0);
		pair_close();
	}
}

static void test_registration(void **state)
{
	const struct rdma_verbs *verbs;

	(void)state;
	pair_open(&options);
	verbs = pair.a.verbs;
	assert_null(verbs->reg_mr(pair.a.pd, pair.a.memory, 10, WRITE)); /* not LOCAL */
	assert_int_equal(errno, EINVAL);
	fabric_limits(pair.devices[0])->memlock_bytes = FABRIC_PEER_BYTES + 100;
	assert_null(verbs->reg_mr(pair.a.pd, pair.a.memory, 101, LOCAL));
	assert_int_equal(errno, ENOMEM);
	struct ibv_mr *mr = verbs->reg_mr(pair.a.pd, pair.a.memory, 100, LOCAL);
	assert_non_null(mr);
	assert_true(fabric_is_open(pair.devices[0], pair.a.mr->rkey, (uintptr_t)pair.a.memory, 100,
				   WRITE));
	assert_false(fabric_is_open(pair.devices[0], mr->rkey, (uintptr_t)pair.a.memory, 1, WRITE));
	assert_int_equal(fabric_open_bytes(pair.devices[0], WRITE), FABRIC_PEER_BYTES);
	assert_int_equal(verbs->dereg_mr(mr), 0);
	pair_close();
}

/* ---- windows ---- */

static struct ibv_mw *window;

/* b binds a window to 100 bytes of its memory from 1000 on. */
static int bind_window(uint32_t key, unsigned int access, struct ibv_mr *mr, uint64_t bytes)
{
	struct ibv_send_wr wr = {
		.wr_id = 2,
		.opcode = IBV_WR_BIND_MW,
		.send_flags = SIGNALLED,
		.bind_mw = {.mw = window,
			    .rkey = key,
			    .bind_info = {.mr = mr,
					  .addr = (uintptr_t)&pair.b.memory[1000],
					  .length = bytes,
					  .mw_access_flags = access}},
	};
	struct ibv_send_wr *bad;

	return ibv_post_send(pair.b.id->qp, &wr, &bad);
}

static int invalidate(uint32_t key)
{
	struct ibv_send_wr wr = {
		.wr_id = 3,
		.opcode = IBV_WR_LOCAL_INV,
		.send_flags = SIGNALLED,
		.invalidate_rkey = key,
	};
	struct ibv_send_wr *bad;

	return ibv_post_send(pair.b.id->qp, &wr, &bad);
}

static void begin_window(enum ibv_mw_type type)
{
	pair_join(&options);
	window = ibv_alloc_mw(pair.b.pd, type);
	assert_non_null(window);
}

static void end_window(void)
{
	assert_int_equal(ibv_dealloc_mw(window), 0);
	pair_close();
}

/* IBA 10.6.7.2: a window of type 2 lets its peer in where it is bound, until it is invalidated. */
static void test_window(void **state)
{
	(void)state;
	begin_window(IBV_MW_TYPE_2);
	uint32_t key = ibv_inc_rkey(window->rkey);
	assert_int_equal(bind_window(key, READ, pair.b.mr, 100), 0);
	assert_int_equal(pair_expect(&pair.b, 2, IBV_WC_SUCCESS).opcode, IBV_WC_BIND_MW);
	pair.b.memory[1099] = 'w';
	assert_int_equal(one_sided(IBV_WR_RDMA_READ, key, 1099, 1), 0);
	(void)pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
	assert_int_equal(pair.a.memory[0], 'w');
	assert_int_equal(invalidate(key), 0);
	assert_int_equal(pair_expect(&pair.b, 3, IBV_WC_SUCCESS).opcode, IBV_WC_LOCAL_INV);
	assert_int_equal(fabric_counts(pair.devices[1])->invalidations, 1);
	/* again, with another key */
	assert_int_equal(bind_window(ibv_inc_rkey(key), READ, pair.b.mr, 100), 0);
	(void)pair_expect(&pair.b, 2, IBV_WC_SUCCESS);
	assert_int_equal(one_sided(IBV_WR_RDMA_READ, key, 1000, 1), 0); /* the old one */
	(void)pair_expect(&pair.a, 1, IBV_WC_REM_ACCESS_ERR);
	end_window();
}

static void test_window_errors(void **state)
{
	enum what { NONE, BEYOND, WRITES, UNBOUND, INVALIDATED };

	static const struct {
		enum what what;
		enum ibv_wc_status status;
	} cases[] = {
		{NONE, IBV_WC_SUCCESS},
		{BEYOND, IBV_WC_REM_ACCESS_ERR},
		{WRITES, IBV_WC_REM_ACCESS_ERR},
		{UNBOUND, IBV_WC_REM_ACCESS_ERR},
		{INVALIDATED, IBV_WC_REM_ACCESS_ERR},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		begin_window(IBV_MW_TYPE_2);
		uint32_t key = ibv_inc_rkey(window->rkey);
		if (cases[i].what != UNBOUND) {
			assert_int_equal(bind_window(key, READ, pair.b.mr, 100), 0);
			(void)pair_expect(&pair.b, 2, IBV_WC_SUCCESS);
		}
		if (cases[i].what == INVALIDATED) {
			assert_int_equal(invalidate(key), 0);
			(void)pair_expect(&pair.b, 3, IBV_WC_SUCCESS);
		}
		assert_int_equal(
			one_sided(cases[i].what == WRITES ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
				  key, 1000, cases[i].what == BEYOND ? 101 : 100),
			0);
		(void)pair_expect(&pair.a, 1, cases[i].status);
		end_window();
	}
}

/* IBA 10.6.7.2.2: what can't be bound. */
static void test_bind_errors(void **state)
{
	static const struct {
		int access; /* of the region */
		unsigned int window_access;
		uint64_t bytes;
		bool same_key;
		bool bound;
		enum ibv_wc_status status;
	} cases[] = {
		{LOCAL | BIND, WRITE, 100, false, false, IBV_WC_SUCCESS},
		{BIND, READ, 100, false, false, IBV_WC_SUCCESS},
		{BIND, WRITE, 100, false, false, IBV_WC_MW_BIND_ERR},
		{LOCAL | READ, READ, 100, false, false, IBV_WC_MW_BIND_ERR},
		{LOCAL | BIND, READ, 101, false, false, IBV_WC_MW_BIND_ERR},
		{LOCAL | BIND, READ, 0, false, false, IBV_WC_MW_BIND_ERR},
		{LOCAL | BIND, READ, 100, true, false, IBV_WC_MW_BIND_ERR},
		{LOCAL | BIND, READ, 100, false, true, IBV_WC_MW_BIND_ERR},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		begin_window(IBV_MW_TYPE_2);
		struct ibv_mr *mr =
			pair.b.verbs->reg_mr(pair.b.pd, &pair.b.memory[1000], 100, cases[i].access);
		uint32_t key = ibv_inc_rkey(window->rkey);
		if (cases[i].bound) {
			assert_int_equal(bind_window(key, READ, pair.b.mr, 50), 0);
			(void)pair_expect(&pair.b, 2, IBV_WC_SUCCESS);
			key = ibv_inc_rkey(key);
		}
		assert_int_equal(bind_window(cases[i].same_key ? window->rkey : key,
					     cases[i].window_access, mr, cases[i].bytes),
				 0);
		(void)pair_expect(&pair.b, 2, cases[i].status);
		assert_int_equal(pair_state(&pair.b),
				 cases[i].status == IBV_WC_SUCCESS ? IBV_QPS_RTS : IBV_QPS_ERR);
		assert_int_equal(ibv_dealloc_mw(window), 0);
		assert_int_equal(pair.b.verbs->dereg_mr(mr), 0);
		pair_close();
	}
}

/* A window of type 2 is of one queue pair: another one's peer is not let in. */
static void test_window_is_of_one_queue_pair(void **state)
{
	static struct fabric_peer c;

	(void)state;
	begin_window(IBV_MW_TYPE_2);
	uint32_t key = ibv_inc_rkey(window->rkey);
	assert_int_equal(bind_window(key, READ, pair.b.mr, 100), 0);
	(void)pair_expect(&pair.b, 2, IBV_WC_SUCCESS);
	struct rdma_cm_id *first = pair.b.id;
	pair.b.id = NULL;
	struct fabric_device *device = fabric_add(pair.fabric, "10.0.0.3", NULL);
	fabric_peer_open(&c, pair.fabric, device, false);
	fabric_peer_join(&c, &pair.b, "10.0.0.2", PAIR_PORT);
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_RDMA_READ,
		.wr.rdma = {.remote_addr = (uintptr_t)&pair.b.memory[1000], .rkey = key},
	};
	assert_int_equal(fabric_peer_post(&c, &wr, 0, 8), 0);
	(void)pair_expect(&c, 0, IBV_WC_REM_ACCESS_ERR);
	fabric_peer_close(&c);
	fabric_peer_drop(&pair.b);
	pair.b.id = first;
	end_window();
}

/* ibv_bind_mw(3): of type 1; its key is every queue pair's, and is no more to be invalidated. */
static void test_window_of_type_1(void **state)
{
	struct ibv_mw_bind bind;

	(void)state;
	begin_window(IBV_MW_TYPE_1);
	bind = (struct ibv_mw_bind){
		.wr_id = 2,
		.send_flags = SIGNALLED,
		.bind_info = {.mr = pair.b.mr,
			      .addr = (uintptr_t)&pair.b.memory[1000],
			      .length = 100,
			      .mw_access_flags = WRITE},
	};
	uint32_t before = window->rkey;
	assert_int_equal(ibv_bind_mw(pair.b.id->qp, window, &bind), 0);
	assert_int_not_equal(window->rkey, before);
	(void)pair_expect(&pair.b, 2, IBV_WC_SUCCESS);
	pair.a.memory[0] = 'q';
	assert_int_equal(one_sided(IBV_WR_RDMA_WRITE, window->rkey, 1000, 1), 0);
	(void)pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
	assert_int_equal(pair.b.memory[1000], 'q');
	assert_int_equal(invalidate(window->rkey), 0);
	(void)pair_expect(&pair.b, 3, IBV_WC_LOC_QP_OP_ERR);
	end_window();
}

/* A peer may invalidate the window that it was let in by, and no other key. */
static void send_with_invalidate(bool right)
{
	begin_window(IBV_MW_TYPE_2);
	uint32_t key = ibv_inc_rkey(window->rkey);
	assert_int_equal(bind_window(key, READ, pair.b.mr, 100), 0);
	(void)pair_expect(&pair.b, 2, IBV_WC_SUCCESS);
	assert_int_equal(fabric_peer_receive(&pair.b, 4, 0, 8), 0);
	struct ibv_send_wr wr = {
		.wr_id = 1,
		.opcode = IBV_WR_SEND_WITH_INV,
		.send_flags = SIGNALLED,
		.invalidate_rkey = right ? key : pair.b.mr->rkey,
	};
	assert_int_equal(fabric_peer_post(&pair.a, &wr, 0, 8), 0);
	if (right) {
		struct ibv_wc wc = pair_expect(&pair.b, 4, IBV_WC_SUCCESS);
		assert_int_equal(wc.wc_flags, IBV_WC_WITH_INV);
		assert_int_equal(wc.invalidated_rkey, key);
		(void)pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
		assert_false(fabric_is_open(pair.devices[1], key, (uintptr_t)&pair.b.memory[1000],
					    1, READ));
	} else {
		(void)pair_expect(&pair.b, 4, IBV_WC_REM_INV_REQ_ERR);
		(void)pair_expect(&pair.a, 1, IBV_WC_RETRY_EXC_ERR);
	}
	end_window();
}

static void test_send_with_invalidate(void **state)
{
	(void)state;
	send_with_invalidate(true);
	send_with_invalidate(false);
}

/* ---- misuse is seen ---- */

static uint64_t misuses(void)
{
	return fabric_counts(pair.devices[1])->misuses;
}

static void test_misuse(void **state)
{
	const struct pair_options forgiving = {.seed = 1, .forgive = true};
	const struct rdma_verbs *verbs;

	(void)state;
	pair_join(&forgiving);
	verbs = pair.b.verbs;
	assert_int_equal(verbs->dealloc_pd(pair.b.pd), EBUSY);
	assert_int_equal(verbs->destroy_cq(pair.b.cq), EBUSY);
	assert_int_equal(verbs->destroy_comp_channel(pair.b.comp_channel), EBUSY);
	verbs->destroy_event_channel(pair.b.channel);
	assert_int_equal(misuses(), 4);
	struct ibv_mr *mr = verbs->reg_mr(pair.b.pd, pair.b.memory, 100, LOCAL);
	struct ibv_mr *own = pair.b.mr;
	pair.b.mr = mr;
	assert_int_equal(fabric_peer_receive(&pair.b, 4, 0, 8), 0);
	pair.b.mr = own;
	assert_int_equal(verbs->dereg_mr(mr), 0); /* under work */
	assert_int_equal(misuses(), 5);
	assert_int_equal(verbs->dereg_mr(mr), EINVAL); /* twice */
	assert_int_equal(misuses(), 6);
	struct ibv_qp *qp = pair.b.id->qp;
	struct ibv_recv_wr receive = {.num_sge = 0};
	struct ibv_recv_wr *bad;
	verbs->destroy_qp(pair.b.id);
	assert_int_equal(ibv_post_recv(qp, &receive, &bad), EINVAL); /* destroyed */
	verbs->destroy_qp(pair.b.id);
	assert_int_equal(misuses(), 8);
	pair_close();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_write_with_immediate),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_read_is_of_one_moment),
		cmocka_unit_test(test_reads_at_a_time),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_reads_not_enabled),
		cmocka_unit_test(test_local_keys),
		cmocka_unit_test(test_registration),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_window_errors),
		cmocka_unit_test(test_bind_errors),
		cmocka_unit_test(test_window_is_of_one_queue_pair),
		cmocka_unit_test(test_window_of_type_1),
		cmocka_unit_test(test_send_with_invalidate),
		cmocka_unit_test(test_misuse),
	};

	return test_run("fabric_memory", tests);
}
