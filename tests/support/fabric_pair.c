/* tests/support/fabric_pair.c: see fabric_pair.h. */
#include "support/fabric_pair.h"

#include "support/test.h"

struct fabric_pair pair;

void pair_open(const struct pair_options *options)
{
	pair.fabric = fabric_open(&(struct fabric_options){
		.seed = options->seed,
		.immediate = options->immediate,
		.jitter_ns = FABRIC_US,
	});
	if (options->forgive)
		fabric_forgive(pair.fabric);
	pair.devices[0] = fabric_add(pair.fabric, "10.0.0.1", "fd00::1");
	pair.devices[1] = fabric_add(pair.fabric, "10.0.0.2", "fd00::2");
	fabric_peer_open(&pair.a, pair.fabric, pair.devices[0], options->shared);
	fabric_peer_open(&pair.b, pair.fabric, pair.devices[1], options->shared);
}

void pair_join(const struct pair_options *options)
{
	pair_open(options);
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_join(&pair.a, &pair.b, "10.0.0.2", PAIR_PORT);
}

void pair_close(void)
{
	fabric_peer_close(&pair.a);
	fabric_peer_close(&pair.b);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fabric_counts(pair.devices[i])->objects, 0);
		assert_int_equal(fabric_counts(pair.devices[i])->registered_bytes, 0);
	}
	fabric_close(pair.fabric);
}

struct ibv_wc pair_expect(struct fabric_peer *peer, uint64_t wr_id, enum ibv_wc_status status)
{
	struct ibv_wc wc = fabric_peer_completion(peer);

	assert_int_equal(wc.status, status);
	assert_int_equal(wc.wr_id, wr_id);
	if (peer->id)
		assert_int_equal(wc.qp_num, peer->id->qp->qp_num);
	return wc;
}

void pair_expect_none(struct fabric_peer *peer)
{
	struct ibv_wc wc;

	do
		assert_false(fabric_peer_poll(peer, &wc));
	while (fabric_step(pair.fabric));
	assert_false(fabric_peer_poll(peer, &wc));
}

void pair_expect_async(struct fabric_peer *peer, enum ibv_event_type type)
{
	struct ibv_async_event event;

	while (peer->verbs->get_async_event(peer->context, &event))
		assert_true(fabric_step(pair.fabric));
	assert_int_equal(event.event_type, type);
	peer->verbs->ack_async_event(&event);
}

enum ibv_qp_state pair_state(const struct fabric_peer *peer)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	assert_int_equal(peer->verbs->query_qp(peer->id->qp, &attr, IBV_QP_STATE, &init), 0);
	return attr.qp_state;
}
