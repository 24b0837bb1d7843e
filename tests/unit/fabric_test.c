/* tests/unit/fabric_test.c: support/fabric.h does what manual pages and the InfiniBand architecture
 * say of RDMA devices: connections and messages of reliable queue pairs. */
#include "support/fabric_peer.h"
#include "support/test.h"

#include <string.h>

static struct fabric *fabric;
static struct fabric_device *devices[2];
static struct fabric_peer a; /* active */
static struct fabric_peer b; /* passive */

static void begin(bool immediate, bool shared)
{
	fabric = fabric_open(&(struct fabric_options){
		.seed = 1, .immediate = immediate, .jitter_ns = FABRIC_US});
	devices[0] = fabric_add(fabric, "10.0.0.1", "fd00::1");
	devices[1] = fabric_add(fabric, "10.0.0.2", "fd00::2");
	fabric_peer_open(&a, fabric, devices[0], shared);
	fabric_peer_open(&b, fabric, devices[1], shared);
}

static void finish(void)
{
	fabric_peer_close(&a);
	fabric_peer_close(&b);
	assert_int_equal(fabric_counts(devices[0])->objects, 0);
	assert_int_equal(fabric_counts(devices[1])->objects, 0);
	fabric_close(fabric);
}

static void expect(struct fabric_peer *peer, uint64_t wr_id, enum ibv_wc_status status)
{
	struct ibv_wc wc = fabric_peer_completion(peer);

	assert_int_equal(wc.status, status);
	assert_int_equal(wc.wr_id, wr_id);
	assert_int_equal(wc.qp_num, peer->id->qp->qp_num);
}

static void pass_messages(bool immediate, bool shared)
{
	begin(immediate, shared);
	fabric_peer_listen(&b, RDMA_PS_TCP, "0.0.0.0", 7);
	fabric_peer_join(&a, &b, "10.0.0.2", 7);
	memcpy(a.memory, "hello", 5);
	assert_int_equal(fabric_peer_receive(&b, 20, 100, 64), 0);
	assert_int_equal(fabric_peer_send(&a, 10, 0, 5), 0);
	struct ibv_wc wc = fabric_peer_completion(&b);
	assert_int_equal(wc.status, IBV_WC_SUCCESS);
	assert_int_equal(wc.opcode, IBV_WC_RECV);
	assert_int_equal(wc.wr_id, 20);
	assert_int_equal(wc.byte_len, 5);
	assert_int_equal(wc.src_qp, a.id->qp->qp_num);
	assert_memory_equal(&b.memory[100], "hello", 5);
	expect(&a, 10, IBV_WC_SUCCESS);
	assert_int_equal(b.verbs->disconnect(b.id), 0);
	(void)fabric_peer_await(&a, RDMA_CM_EVENT_DISCONNECTED);
	assert_int_equal(a.verbs->disconnect(a.id), 0);
	(void)fabric_peer_await(&b, RDMA_CM_EVENT_DISCONNECTED);
	finish();
}

static void test_messages(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		pass_messages(i & 1, i & 2);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
	};

	return test_run("fabric", tests);
}
