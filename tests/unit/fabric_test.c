/* tests/unit/fabric_test.c: support/fabric.h does what manual pages and the InfiniBand architecture
 * (IBA, release 1) say of devices: queue pairs, their work and its completions. */
#include "support/fabric_pair.h"
#include "support/test.h"

#include "base/bits.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define SIGNALLED IBV_SEND_SIGNALED

/* Both ways of time, both kinds of receive queues. */
static const struct pair_options kinds[] = {
	{.seed = 1},
	{.seed = 2, .shared = true},
	{.seed = 3, .immediate = true},
	{.seed = 4, .immediate = true, .shared = true},
};

static int post(enum ibv_wr_opcode opcode, uint64_t wr_id, unsigned int flags, uint32_t bytes)
{
	struct ibv_send_wr wr = {.wr_id = wr_id, .opcode = opcode, .send_flags = flags};

	return fabric_peer_post(&pair.a, &wr, 0, bytes);
}

/* Of a's queue pair. */
static void to_error(struct fabric_peer *peer)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

	assert_int_equal(peer->verbs->modify_qp(peer->id->qp, &attr, IBV_QP_STATE), 0);
}

static void pass_message(const struct pair_options *options)
{
	pair_join(options);
	memcpy(pair.a.memory, "hello", 5);
	assert_int_equal(fabric_peer_receive(&pair.b, 20, 100, 64), 0);
	assert_int_equal(fabric_peer_send(&pair.a, 10, 0, 5), 0);
	struct ibv_wc wc = pair_expect(&pair.b, 20, IBV_WC_SUCCESS);
	assert_int_equal(wc.opcode, IBV_WC_RECV);
	assert_int_equal(wc.byte_len, 5);
	assert_int_equal(wc.wc_flags, 0);
	assert_int_equal(wc.src_qp, pair.a.id->qp->qp_num);
	assert_memory_equal(&pair.b.memory[100], "hello", 5);
	wc = pair_expect(&pair.a, 10, IBV_WC_SUCCESS);
	assert_int_equal(wc.opcode, IBV_WC_SEND);
	pair_close();
}

static void test_message(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++)
		pass_message(&kinds[i]);
}

/* IBA 9.6: messages arrive, and complete, in the order of their posts. */
static void test_order(void **state)
{
	(void)state;
	pair_join(&(struct pair_options){.seed = 5});
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(fabric_peer_receive(&pair.b, i, i * 8, 8), 0);
	for (uint32_t i = 0; i < 50; i++) {
		pair.a.memory[i] = (uint8_t)i;
		assert_int_equal(fabric_peer_send(&pair.a, i, i, 1), 0);
	}
	for (uint32_t i = 0; i < 50; i++)
		(void)pair_expect(&pair.b, i, IBV_WC_SUCCESS);
	for (uint32_t i = 0; i < 50; i++) {
		(void)pair_expect(&pair.a, i, IBV_WC_SUCCESS);
		assert_int_equal(pair.b.memory[i * 8], i);
	}
	pair_close();
}

/* IBA 10.8.5.1: a request that is not signalled keeps its place until a later completion is
 * polled. */
static void test_unsignalled(void **state)
{
	(void)state;
	pair_join(&(struct pair_options){.seed = 6, .shared = true});
	for (uint32_t i = 0; i < FABRIC_PEER_SENDS; i++)
		assert_int_equal(post(IBV_WR_RDMA_WRITE, i, 0, 0), 0);
	pair_expect_none(&pair.a);
	assert_int_equal(fabric_sends_outstanding(pair.a.id->qp), 0);
	assert_int_equal(fabric_sends_free(pair.a.id->qp), 0);
	assert_int_equal(post(IBV_WR_RDMA_WRITE, 99, SIGNALLED, 0), ENOMEM);
	fabric_peer_drop(&pair.a);
	fabric_peer_drop(&pair.b);
	fabric_peer_join(&pair.a, &pair.b, "10.0.0.2", PAIR_PORT);
	for (uint32_t i = 0; i < FABRIC_PEER_SENDS - 1; i++)
		assert_int_equal(post(IBV_WR_RDMA_WRITE, i, 0, 0), 0);
	assert_int_equal(post(IBV_WR_RDMA_WRITE, 77, SIGNALLED, 0), 0);
	assert_int_equal(post(IBV_WR_RDMA_WRITE, 78, SIGNALLED, 0), ENOMEM);
	while (fabric_sends_outstanding(pair.a.id->qp) > 0)
		assert_true(fabric_step(pair.fabric));
	assert_int_equal(fabric_sends_free(pair.a.id->qp), 0);
	(void)pair_expect(&pair.a, 77, IBV_WC_SUCCESS);
	assert_int_equal(fabric_sends_free(pair.a.id->qp), FABRIC_PEER_SENDS);
	assert_int_equal(fabric_counts(pair.devices[0])->signalled, 1);
	pair_close();
}

/* ibv_post_send(3): inline data may change when the call returns, other data may not. */
static void test_inline(void **state)
{
	static const struct {
		unsigned int flags;
		uint32_t bytes;
		int err;
		char arrives;
	} cases[] = {
		{SIGNALLED, 8, 0, 'b'},
		{SIGNALLED | IBV_SEND_INLINE, 8, 0, 'a'},
		{SIGNALLED | IBV_SEND_INLINE, FABRIC_PEER_INLINE, 0, 'a'},
		{SIGNALLED | IBV_SEND_INLINE, FABRIC_PEER_INLINE + 1, EINVAL, 0},
	};

	(void)state;
	pair_join(&(struct pair_options){.seed = 7, .shared = true});
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(fabric_peer_receive(&pair.b, i, 0, 256), 0);
		memset(pair.a.memory, 'a', 256);
		assert_int_equal(post(IBV_WR_SEND, i, cases[i].flags, cases[i].bytes),
				 cases[i].err);
		memset(pair.a.memory, 'b', 256);
		if (cases[i].err)
			continue;
		(void)pair_expect(&pair.a, i, IBV_WC_SUCCESS);
		(void)pair_expect(&pair.b, i, IBV_WC_SUCCESS);
		assert_int_equal(pair.b.memory[cases[i].bytes - 1], cases[i].arrives);
	}
	assert_int_equal(fabric_counts(pair.devices[0])->inlined, 2);
	pair_close();
}

/* Lists of segments on either side, cut in different places. */
static void test_segments(void **state)
{
	struct ibv_sge from[4];
	struct ibv_sge to[3];
	struct ibv_send_wr *bad_send;
	struct ibv_recv_wr *bad_recv;

	(void)state;
	pair_join(&kinds[1]);
	for (uint32_t i = 0; i < 256; i++)
		pair.a.memory[i] = (uint8_t)i;
	for (uint32_t i = 0; i < 4; i++)
		from[i] =
			(struct ibv_sge){(uintptr_t)&pair.a.memory[i * 30], i * 9, pair.a.mr->lkey};
	for (uint32_t i = 0; i < 3; i++)
		to[i] = (struct ibv_sge){(uintptr_t)&pair.b.memory[i * 100], 20 + i,
					 pair.b.mr->lkey};
	struct ibv_recv_wr receive = {.wr_id = 1, .sg_list = to, .num_sge = 3};
	struct ibv_send_wr send = {.wr_id = 2,
				   .sg_list = from,
				   .num_sge = 4,
				   .opcode = IBV_WR_SEND,
				   .send_flags = SIGNALLED};
	assert_int_equal(ibv_post_srq_recv(pair.b.srq, &receive, &bad_recv), 0);
	assert_int_equal(ibv_post_send(pair.a.id->qp, &send, &bad_send), 0);
	assert_int_equal(pair_expect(&pair.b, 1, IBV_WC_SUCCESS).byte_len, 54);
	assert_memory_equal(pair.b.memory, &pair.a.memory[30], 9);
	assert_memory_equal(&pair.b.memory[9], &pair.a.memory[60], 11);
	assert_memory_equal(&pair.b.memory[100], &pair.a.memory[71], 7);
	assert_memory_equal(&pair.b.memory[107], &pair.a.memory[90], 14);
	assert_memory_equal(&pair.b.memory[200], &pair.a.memory[104], 13);
	(void)pair_expect(&pair.a, 2, IBV_WC_SUCCESS);
	send.num_sge = 5;
	assert_int_equal(ibv_post_send(pair.a.id->qp, &send, &bad_send), EINVAL);
	assert_ptr_equal(bad_send, &send);
	receive.num_sge = 5;
	assert_int_equal(ibv_post_srq_recv(pair.b.srq, &receive, &bad_recv), EINVAL);
	pair_close();
}

/* A list of requests: those before the bad one are posted. */
static void test_bad_wr(void **state)
{
	struct ibv_send_wr wr[3] = {
		{.wr_id = 1, .next = &wr[1], .opcode = IBV_WR_RDMA_WRITE, .send_flags = SIGNALLED},
		{.wr_id = 2, .next = &wr[2], .opcode = IBV_WR_TSO},
		{.wr_id = 3, .opcode = IBV_WR_RDMA_WRITE, .send_flags = SIGNALLED},
	};
	struct ibv_send_wr *bad;

	(void)state;
	pair_join(&kinds[0]);
	assert_int_equal(ibv_post_send(pair.a.id->qp, wr, &bad), EINVAL);
	assert_ptr_equal(bad, &wr[1]);
	(void)pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
	pair_expect_none(&pair.a);
	assert_int_equal(fabric_counts(pair.devices[0])->posts, 1);
	assert_int_equal(fabric_counts(pair.devices[0])->doorbells, 1);
	pair_close();
}

/* IBA 10.3.1, 10.8.2: what may be posted in which state. */
static void test_states(void **state)
{
	static const struct {
		enum ibv_qp_state state;
		bool receive;
		bool send;
	} cases[] = {
		{IBV_QPS_INIT, true, false},
		{IBV_QPS_RTS, true, true},
		{IBV_QPS_ERR, true, true}, /* and are flushed */
		{IBV_QPS_RESET, false, false},
	};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS};

	(void)state;
	pair_open(&kinds[0]);
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		attr.qp_state = cases[i].state;
		if (cases[i].state == IBV_QPS_RTS) {
			fabric_peer_accept(&pair.b);
			(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_ESTABLISHED);
		} else if (cases[i].state != IBV_QPS_INIT) {
			assert_int_equal(
				pair.a.verbs->modify_qp(pair.a.id->qp, &attr, IBV_QP_STATE), 0);
		}
		assert_int_equal(pair_state(&pair.a), cases[i].state);
		assert_int_equal(fabric_peer_receive(&pair.a, 1, 0, 8),
				 cases[i].receive ? 0 : EINVAL);
		assert_int_equal(post(IBV_WR_RDMA_WRITE, 2, SIGNALLED, 0),
				 cases[i].send ? 0 : EINVAL);
	}
	pair_close();
}

/* ibv_modify_qp(3): the table of transitions, and what must be said with them. */
static void test_transitions(void **state)
{
	static const struct {
		enum ibv_qp_state to;
		int mask;
		int err;
	} cases[] = {
		/* from INIT, where rdma_create_qp leaves it */
		{IBV_QPS_RTS, IBV_QP_SQ_PSN, EINVAL},
		{IBV_QPS_RTR, IBV_QP_AV, EINVAL}, /* more is needed */
		{IBV_QPS_SQD, 0, EINVAL},
		{IBV_QPS_INIT, IBV_QP_ACCESS_FLAGS, 0},
		{IBV_QPS_INIT, IBV_QP_QKEY, EINVAL}, /* of datagrams */
		{IBV_QPS_ERR, IBV_QP_ACCESS_FLAGS, EINVAL},
		{IBV_QPS_ERR, 0, 0},
		{IBV_QPS_RTR, IBV_QP_AV, EINVAL},
		{IBV_QPS_RESET, 0, 0},
		{IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT, EINVAL},
		{IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS, 0},
	};
	struct ibv_qp_attr attr = {.port_num = FABRIC_PORT};

	(void)state;
	pair_open(&kinds[0]);
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		attr.qp_state = cases[i].to;
		assert_int_equal(
			pair.a.verbs->modify_qp(pair.a.id->qp, &attr, cases[i].mask | IBV_QP_STATE),
			cases[i].err);
	}
	pair_close();
}

/* IBA 10.3.1.5: what was begun ends, and nothing new begins until it may send again. */
static void test_drain(void **state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_SQD, .en_sqd_async_notify = 1};

	(void)state;
	pair_join(&kinds[0]);
	assert_int_equal(post(IBV_WR_RDMA_WRITE, 1, SIGNALLED, 0), 0);
	assert_int_equal(pair.a.verbs->modify_qp(pair.a.id->qp, &attr,
						 IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY),
			 0);
	assert_int_equal(post(IBV_WR_RDMA_WRITE, 2, SIGNALLED, 0), 0);
	(void)pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
	pair_expect_async(&pair.a, IBV_EVENT_SQ_DRAINED);
	pair_expect_none(&pair.a);
	attr.qp_state = IBV_QPS_RTS;
	assert_int_equal(pair.a.verbs->modify_qp(pair.a.id->qp, &attr, IBV_QP_STATE), 0);
	(void)pair_expect(&pair.a, 2, IBV_WC_SUCCESS);
	pair_close();
}

/* IBA 10.3.1.6: a queue pair in error flushes both of its queues, signalled or not, in order. */
static void flush(const struct pair_options *options)
{
	pair_join(options);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(fabric_peer_receive(&pair.a, 10 + i, 0, 8), 0);
		assert_int_equal(post(IBV_WR_RDMA_READ, i, i == 1 ? SIGNALLED : 0, 8), 0);
	}
	to_error(&pair.a);
	assert_int_equal(post(IBV_WR_SEND, 3, 0, 8), 0);
	for (uint32_t i = 0; i < 4; i++)
		(void)pair_expect(&pair.a, i, IBV_WC_WR_FLUSH_ERR);
	for (uint32_t i = 0; i < 3 && !options->shared; i++)
		(void)pair_expect(&pair.a, 10 + i, IBV_WC_WR_FLUSH_ERR);
	if (options->shared) {
		pair_expect_async(&pair.a, IBV_EVENT_QP_LAST_WQE_REACHED);
		assert_int_equal(fabric_srq_posted(pair.a.srq), 3);
	}
	pair_expect_none(&pair.a);
	assert_int_equal(fabric_sends_free(pair.a.id->qp), FABRIC_PEER_SENDS);
	pair_close();
}

static void test_flush(void **state)
{
	(void)state;
	/* without time the reads are through before the error */
	for (size_t i = 0; i < 2; i++)
		flush(&kinds[i]);
}

/* A completion in error says who and why, nothing else. */
static void test_error_completion(void **state)
{
	(void)state;
	pair_join(&kinds[0]);
	assert_int_equal(post(IBV_WR_SEND, 5, 0, 8), 0);
	to_error(&pair.a);
	struct ibv_wc wc = pair_expect(&pair.a, 5, IBV_WC_WR_FLUSH_ERR);
	assert_int_not_equal(wc.opcode, IBV_WC_SEND);
	assert_int_not_equal(wc.byte_len, 8);
	pair_close();
}

/* IBA 9.7.5.2.8: a message without a receive is tried again; how often, the connection says. */
static void receiver_not_ready(uint8_t retries, bool posted_later)
{
	pair_open(&kinds[1]);
	pair.b.param.rnr_retry_count = retries; /* the receiver says it to the sender */
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_join(&pair.a, &pair.b, "10.0.0.2", PAIR_PORT);
	assert_int_equal(fabric_peer_send(&pair.a, 1, 0, 8), 0);
	assert_int_equal(fabric_peer_send(&pair.a, 2, 0, 8), 0);
	uint64_t until = fabric_now(pair.fabric) + 5 * FABRIC_S;
	fabric_run_until(pair.fabric, until);
	if (posted_later) {
		assert_int_equal(fabric_peer_receive(&pair.b, 3, 0, 8), 0);
		assert_int_equal(fabric_peer_receive(&pair.b, 4, 0, 8), 0);
		(void)pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
		(void)pair_expect(&pair.a, 2, IBV_WC_SUCCESS);
		/* 655 ms each, and those behind wait */
		assert_int_equal(fabric_counts(pair.devices[1])->rnr, 8);
	} else {
		(void)pair_expect(&pair.a, 1, IBV_WC_RNR_RETRY_EXC_ERR);
		(void)pair_expect(&pair.a, 2, IBV_WC_WR_FLUSH_ERR);
		assert_int_equal(fabric_counts(pair.devices[1])->rnr, retries + 1);
		assert_int_equal(pair_state(&pair.a), IBV_QPS_ERR);
		assert_int_equal(pair_state(&pair.b), IBV_QPS_RTS);
	}
	pair_close();
}

static void test_receiver_not_ready(void **state)
{
	(void)state;
	receiver_not_ready(0, false);
	receiver_not_ready(3, false);
	receiver_not_ready(7, true);
}

/* IBA 9.7.6.1.3: without an answer a request is tried again, then given up. */
static void transport_retries(uint8_t retries, bool heals)
{
	pair_open(&kinds[1]);
	pair.a.param.retry_count = retries;
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_join(&pair.a, &pair.b, "10.0.0.2", PAIR_PORT);
	assert_int_equal(fabric_peer_receive(&pair.b, 3, 0, 8), 0);
	fabric_cut(pair.devices[0], pair.devices[1], true);
	uint64_t start = fabric_now(pair.fabric);
	assert_int_equal(fabric_peer_send(&pair.a, 1, 0, 8), 0);
	fabric_run_until(pair.fabric, start + 100 * FABRIC_MS);
	if (heals) {
		fabric_cut(pair.devices[0], pair.devices[1], false);
		(void)pair_expect(&pair.a, 1, IBV_WC_SUCCESS);
		(void)pair_expect(&pair.b, 3, IBV_WC_SUCCESS);
	} else {
		(void)pair_expect(&pair.a, 1, IBV_WC_RETRY_EXC_ERR);
		uint64_t took = fabric_now(pair.fabric) - start;
		uint64_t least = (retries + 1U) * fabric_limits(pair.devices[0])->ack_timeout_ns;
		assert_true(took >= (retries < 2 ? 100 * FABRIC_MS : least));
		assert_true(took < least + 200 * FABRIC_MS);
		assert_int_equal(fabric_counts(pair.devices[0])->retries, retries + 1);
		fabric_cut(pair.devices[0], pair.devices[1], false);
	}
	pair_close();
}

static void test_transport_retries(void **state)
{
	(void)state;
	transport_retries(0, false);
	transport_retries(5, false);
	transport_retries(7, true);
}

/* IBA 9.9.3: messages that do not fit, and what each side is told. */
static void test_message_errors(void **state)
{
	static const struct {
		uint32_t receive; /* bytes */
		uint32_t send;
		bool bad_receive; /* its key */
		bool bad_send;
		enum ibv_wc_status there;
		enum ibv_wc_status here;
	} cases[] = {
		{8, 8, false, false, IBV_WC_SUCCESS, IBV_WC_SUCCESS},
		{8, 9, false, false, IBV_WC_LOC_LEN_ERR, IBV_WC_REM_INV_REQ_ERR},
		{8, 8, true, false, IBV_WC_LOC_PROT_ERR, IBV_WC_REM_OP_ERR},
		{8, 8, false, true, IBV_WC_WR_FLUSH_ERR, IBV_WC_LOC_PROT_ERR},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		pair_join(&kinds[0]);
		struct ibv_mr *keys[2] = {pair.a.mr, pair.b.mr};
		struct ibv_mr none = {.lkey = 0x12345678};
		pair.b.mr = cases[i].bad_receive ? &none : keys[1];
		assert_int_equal(fabric_peer_receive(&pair.b, 1, 0, cases[i].receive), 0);
		pair.a.mr = cases[i].bad_send ? &none : keys[0];
		assert_int_equal(fabric_peer_send(&pair.a, 2, 0, cases[i].send), 0);
		pair.a.mr = keys[0];
		pair.b.mr = keys[1];
		(void)pair_expect(&pair.a, 2, cases[i].here);
		if (cases[i].bad_send)
			to_error(&pair.b);
		(void)pair_expect(&pair.b, 1, cases[i].there);
		if (cases[i].here != IBV_WC_SUCCESS) {
			assert_int_equal(pair_state(&pair.a), IBV_QPS_ERR);
			assert_int_equal(pair_state(&pair.b), IBV_QPS_ERR);
		}
		pair_close();
	}
}

/* ibv_create_srq(3), ibv_modify_srq(3) */
static void test_shared_queue(void **state)
{
	(void)state;
	pair_join(&kinds[1]);
	for (uint32_t i = 0; i < FABRIC_PEER_RECEIVES; i++)
		assert_int_equal(fabric_peer_receive(&pair.b, i, 0, 8), 0);
	assert_int_equal(fabric_peer_receive(&pair.b, 0, 0, 8), ENOMEM);
	assert_int_equal(fabric_srq_posted(pair.b.srq), FABRIC_PEER_RECEIVES);
	assert_int_equal(fabric_limit_srq(pair.b.srq, FABRIC_PEER_RECEIVES + 1), EINVAL);
	assert_int_equal(fabric_limit_srq(pair.b.srq, FABRIC_PEER_RECEIVES), 0);
	assert_int_equal(fabric_peer_send(&pair.a, 1, 0, 1), 0);
	(void)pair_expect(&pair.b, 0, IBV_WC_SUCCESS);
	pair_expect_async(&pair.b, IBV_EVENT_SRQ_LIMIT_REACHED);
	assert_int_equal(fabric_peer_send(&pair.a, 2, 0, 1), 0);
	(void)pair_expect(&pair.b, 1, IBV_WC_SUCCESS);
	struct ibv_async_event event; /* once */
	assert_int_equal(pair.b.verbs->get_async_event(pair.b.context, &event), -1);
	assert_int_equal(errno, EAGAIN);
	pair_close();
}

/* ibv_create_cq(3), ibv_poll_cq(3): an overrun queue is broken. */
static void test_overrun(void **state)
{
	(void)state;
	pair_open(&kinds[1]);
	struct ibv_cq *big = pair.a.cq;
	pair.a.cq = pair.a.verbs->create_cq(pair.a.context, 4, NULL, NULL, 0);
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_join(&pair.a, &pair.b, "10.0.0.2", PAIR_PORT);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(post(IBV_WR_RDMA_WRITE, i, SIGNALLED, 0), 0);
	while (fabric_sends_outstanding(pair.a.id->qp) > 0)
		assert_true(fabric_step(pair.fabric));
	for (uint32_t i = 0; i < 4; i++)
		(void)pair_expect(&pair.a, i, IBV_WC_SUCCESS);
	struct ibv_wc wc;
	assert_true(ibv_poll_cq(pair.a.cq, 1, &wc) < 0);
	pair_expect_async(&pair.a, IBV_EVENT_CQ_ERR);
	pair_expect_async(&pair.a, IBV_EVENT_QP_FATAL);
	assert_int_equal(pair_state(&pair.a), IBV_QPS_ERR);
	fabric_peer_drop(&pair.a);
	assert_int_equal(pair.a.verbs->destroy_cq(pair.a.cq), 0);
	pair.a.cq = big;
	pair_close();
}

static bool is_readable(int fd)
{
	struct pollfd one = {.fd = fd, .events = POLLIN};

	return poll(&one, 1, 0) == 1;
}

/* ibv_req_notify_cq(3): one event for the next completion, not for those that are there. */
static void test_notification(void **state)
{
	struct ibv_cq *cq;
	void *context;

	(void)state;
	pair_join(&kinds[3]);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(fabric_peer_receive(&pair.b, i, 0, 8), 0);
	assert_int_equal(fabric_peer_send(&pair.a, 0, 0, 1), 0);
	assert_int_equal(ibv_req_notify_cq(pair.b.cq, 0), 0);
	assert_false(is_readable(pair.b.comp_channel->fd));
	assert_int_equal(fabric_peer_send(&pair.a, 1, 0, 1), 0);
	assert_int_equal(fabric_peer_send(&pair.a, 2, 0, 1), 0);
	assert_true(is_readable(pair.b.comp_channel->fd));
	assert_int_equal(pair.b.verbs->get_cq_event(pair.b.comp_channel, &cq, &context), 0);
	assert_ptr_equal(cq, pair.b.cq);
	assert_ptr_equal(context, &pair.b);
	assert_int_equal(pair.b.verbs->get_cq_event(pair.b.comp_channel, &cq, &context), -1);
	assert_int_equal(errno, EAGAIN);
	assert_false(is_readable(pair.b.comp_channel->fd));
	pair.b.verbs->ack_cq_events(pair.b.cq, 1);
	/* solicited: by its sender, or in error */
	assert_int_equal(ibv_req_notify_cq(pair.b.cq, 1), 0);
	assert_int_equal(post(IBV_WR_SEND, 3, IBV_SEND_SOLICITED, 1), 0);
	assert_true(is_readable(pair.b.comp_channel->fd));
	pair_close();
}

/* With its queue pair go the completions that were not polled; of rxe they stay. */
static void forgotten(bool keeps)
{
	struct ibv_wc wc;

	pair_join(&kinds[3]);
	fabric_limits(pair.devices[0])->keeps_completions = keeps;
	assert_int_equal(post(IBV_WR_RDMA_WRITE, 1, SIGNALLED, 0), 0);
	fabric_peer_drop(&pair.a);
	assert_int_equal(ibv_poll_cq(pair.a.cq, 1, &wc), keeps);
	pair_close();
}

static void test_forgotten_completions(void **state)
{
	(void)state;
	forgotten(false);
	forgotten(true);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_unsignalled),
		cmocka_unit_test(test_inline),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_bad_wr),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_transitions),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_error_completion),
		cmocka_unit_test(test_receiver_not_ready),
		cmocka_unit_test(test_transport_retries),
		cmocka_unit_test(test_message_errors),
		cmocka_unit_test(test_shared_queue),
		cmocka_unit_test(test_overrun),
		cmocka_unit_test(test_notification),
		cmocka_unit_test(test_forgotten_completions),
	};

	return test_run("fabric", tests);
}
