/* tests/unit/fabric_cm_test.c: support/fabric.h: rdma_cm's events, their order, data and errors, as
 * manual pages and Linux have them. */
#include "support/fabric_pair.h"
#include "support/test.h"

#include "base/bits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

static const struct pair_options options = {.seed = 1};

static struct sockaddr_in6 name_storage;

static struct sockaddr *name(const char *address, uint16_t port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&name_storage;

	memset(&name_storage, 0, sizeof(name_storage));
	if (strchr(address, ':')) {
		name_storage.sin6_family = AF_INET6;
		name_storage.sin6_port = htons(port);
		assert_int_equal(inet_pton(AF_INET6, address, &name_storage.sin6_addr), 1);
	} else {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		assert_int_equal(inet_pton(AF_INET, address, &in->sin_addr), 1);
	}
	return (struct sockaddr *)(void *)&name_storage;
}

static bool is_readable(int fd)
{
	struct pollfd one = {.fd = fd, .events = POLLIN};

	return poll(&one, 1, 0) == 1;
}

static void begin(void)
{
	pair_open(&options);
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
}

static void expect_no_event(struct fabric_peer *peer)
{
	do
		assert_null(fabric_peer_event(peer));
	while (fabric_step(pair.fabric));
}

/* ---- names ---- */

static void test_bind(void **state)
{
	static const struct {
		const char *address;
		uint16_t port;
		int err;
		bool attached;
	} cases[] = {
		{"10.0.0.1", 100, 0, true},
		{"0.0.0.0", 101, 0, false},
		{"fd00::1", 102, 0, true},
		{"::", 103, 0, false},
		{"10.0.0.1", 0, 0, true},
		{"10.0.0.2", 104, EADDRNOTAVAIL, false}, /* of another */
		{"10.0.0.1", 50, EADDRINUSE, false},
		{"10.0.0.1", 51, EADDRINUSE, false}, /* any address has it */
		{"0.0.0.0", 50, EADDRINUSE, false},
		{"127.0.0.1", 105, ENODEV, false}, /* no RDMA device's */
	};
	struct rdma_cm_id *ids[2];
	const struct rdma_verbs *verbs;

	(void)state;
	pair_open(&options);
	verbs = pair.a.verbs;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(verbs->create_id(pair.a.channel, &ids[i], NULL, RDMA_PS_TCP), 0);
		assert_int_equal(verbs->bind_addr(ids[i], name(i ? "0.0.0.0" : "10.0.0.1",
							       (uint16_t)(50 + i))),
				 0);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct rdma_cm_id *id;
		assert_int_equal(verbs->create_id(pair.a.channel, &id, NULL, RDMA_PS_TCP), 0);
		int result = verbs->bind_addr(id, name(cases[i].address, cases[i].port));
		assert_int_equal(result, cases[i].err ? -1 : 0);
		if (cases[i].err)
			assert_int_equal(errno, cases[i].err);
		else if (cases[i].port)
			assert_int_equal(ntohs(verbs->get_src_port(id)), cases[i].port);
		else
			assert_true(ntohs(verbs->get_src_port(id)) >= 32768);
		assert_int_equal(id->verbs == pair.a.context, cases[i].attached);
		assert_int_equal(verbs->destroy_id(id), 0);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(verbs->destroy_id(ids[i]), 0);
	pair_close();
}

static void test_reuse(void **state)
{
	int on = 1;

	(void)state;
	pair_open(&options);
	struct rdma_cm_id *ids[2];
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			pair.a.verbs->create_id(pair.a.channel, &ids[i], NULL, RDMA_PS_TCP), 0);
		assert_int_equal(pair.a.verbs->set_option(ids[i], RDMA_OPTION_ID,
							  RDMA_OPTION_ID_REUSEADDR, &on,
							  sizeof(on)),
				 0);
		assert_int_equal(pair.a.verbs->bind_addr(ids[i], name("10.0.0.1", 50)), 0);
	}
	assert_int_equal(pair.a.verbs->set_option(ids[0], RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR,
						  &on, sizeof(on)),
			 -1); /* it is bound */
	for (int i = 0; i < 2; i++)
		assert_int_equal(pair.a.verbs->destroy_id(ids[i]), 0);
	pair_close();
}

static void test_resolve(void **state)
{
	static const struct {
		const char *address;
		int err; /* of the call */
		enum rdma_cm_event_type event;
		int status;
	} cases[] = {
		{"10.0.0.2", 0, RDMA_CM_EVENT_ADDR_RESOLVED, 0},
		{"fd00::2", 0, RDMA_CM_EVENT_ADDR_RESOLVED, 0},
		{"10.0.0.1", 0, RDMA_CM_EVENT_ADDR_RESOLVED, 0}, /* itself */
		{"10.0.0.77", 0, RDMA_CM_EVENT_ADDR_ERROR, -ETIMEDOUT},
		{"127.0.0.1", 0, RDMA_CM_EVENT_ADDR_ERROR, -ENODEV},
	};

	(void)state;
	pair_open(&options);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(
			pair.a.verbs->create_id(pair.a.channel, &pair.a.id, NULL, RDMA_PS_TCP), 0);
		uint64_t start = fabric_now(pair.fabric);
		assert_int_equal(pair.a.verbs->resolve_route(pair.a.id, 100), -1); /* too early */
		assert_int_equal(
			pair.a.verbs->resolve_addr(pair.a.id, NULL, name(cases[i].address, 9), 100),
			cases[i].err);
		const struct rdma_cm_event *event = fabric_peer_await(&pair.a, cases[i].event);
		assert_int_equal(event->status, cases[i].status);
		assert_ptr_equal(event->id, pair.a.id);
		if (cases[i].status == -ETIMEDOUT)
			assert_int_equal(fabric_now(pair.fabric) - start, 100 * FABRIC_MS);
		assert_true(pair.a.id->verbs == pair.a.context);
		fabric_peer_drop(&pair.a);
	}
	pair_close();
}

/* ---- a connection's life ---- */

/* Both ends see addresses, parameters and private data of the other, in full length. */
static void connect_and_disconnect(const char *address)
{
	static const uint8_t zeros[FABRIC_ACCEPT_BYTES];
	const struct rdma_cm_event *event;
	struct sockaddr_storage peer;
	uint8_t data[FABRIC_ACCEPT_BYTES];

	pair_open(&options);
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, address, PAIR_PORT);
	memset(data, 'd', sizeof(data));
	pair.a.param.private_data = data;
	pair.a.param.private_data_len = 50;
	pair.a.param.responder_resources = 3;
	pair.a.param.initiator_depth = 5;
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, address, PAIR_PORT);
	event = fabric_peer_await(&pair.b, RDMA_CM_EVENT_CONNECT_REQUEST);
	assert_ptr_equal(event->listen_id, pair.b.listener);
	assert_ptr_not_equal(event->id, pair.b.listener);
	assert_ptr_equal(event->id->context, &pair.b);
	assert_ptr_equal(event->id->verbs, pair.b.context);
	assert_int_equal(event->param.conn.private_data_len, FABRIC_CONNECT_BYTES);
	assert_memory_equal(event->param.conn.private_data, data, 50);
	assert_memory_equal((const char *)event->param.conn.private_data + 50, zeros, 6);
	assert_int_equal(event->param.conn.responder_resources, 5);
	assert_int_equal(event->param.conn.initiator_depth, 3);
	assert_int_equal(event->param.conn.qp_num, pair.a.id->qp->qp_num);
	assert_int_equal(event->param.conn.srq, 0);
	peer = event->id->route.addr.dst_storage;
	assert_int_equal(((struct sockaddr_in *)(void *)&peer)->sin_port,
			 pair.a.verbs->get_src_port(pair.a.id));
	pair.b.id = event->id;
	fabric_peer_make_qp(&pair.b, pair.b.id);
	assert_int_equal(pair_state(&pair.b), IBV_QPS_INIT);
	pair.b.param.private_data = data;
	pair.b.param.private_data_len = 196;
	pair.b.param.responder_resources = 5;
	pair.b.param.initiator_depth = 3;
	assert_int_equal(pair.b.verbs->accept(pair.b.id, &pair.b.param), 0);
	assert_int_equal(pair_state(&pair.b), IBV_QPS_RTS);
	assert_int_equal(pair_state(&pair.a), IBV_QPS_INIT);
	event = fabric_peer_await(&pair.a, RDMA_CM_EVENT_ESTABLISHED);
	assert_int_equal(pair_state(&pair.a), IBV_QPS_RTS);
	assert_int_equal(event->param.conn.private_data_len, FABRIC_ACCEPT_BYTES);
	assert_memory_equal(event->param.conn.private_data, data, 196);
	assert_int_equal(event->param.conn.qp_num, pair.b.id->qp->qp_num);
	event = fabric_peer_await(&pair.b, RDMA_CM_EVENT_ESTABLISHED);
	assert_ptr_equal(event->id, pair.b.id);
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	assert_int_equal(pair.a.verbs->query_qp(pair.a.id->qp, &attr, 0, &init), 0);
	assert_int_equal(attr.max_rd_atomic, 5);
	assert_int_equal(attr.max_dest_rd_atomic, 3);
	/* the end */
	assert_int_equal(pair.a.verbs->disconnect(pair.a.id), 0);
	assert_int_equal(pair_state(&pair.a), IBV_QPS_ERR);
	(void)fabric_peer_await(&pair.b, RDMA_CM_EVENT_DISCONNECTED);
	assert_int_equal(pair_state(&pair.b), IBV_QPS_RTS); /* until it says so, too */
	assert_int_equal(pair.b.verbs->disconnect(pair.b.id), 0);
	assert_int_equal(pair_state(&pair.b), IBV_QPS_ERR);
	event = fabric_peer_await(&pair.a, RDMA_CM_EVENT_DISCONNECTED);
	assert_int_equal(event->status, 0);
	(void)fabric_peer_await(&pair.b, RDMA_CM_EVENT_TIMEWAIT_EXIT);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_TIMEWAIT_EXIT);
	expect_no_event(&pair.a);
	expect_no_event(&pair.b);
	pair_close();
}

static void test_connect(void **state)
{
	(void)state;
	connect_and_disconnect("10.0.0.2");
	connect_and_disconnect("fd00::2");
}

/* rdma_connect(3), rdma_accept(3), rdma_reject(3): how much private data there may be. */
static void test_private_data(void **state)
{
	static const uint8_t data[255];

	(void)state;
	begin();
	pair.a.param.private_data = data;
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	struct rdma_cm_id *id = fabric_peer_await(&pair.b, RDMA_CM_EVENT_CONNECT_REQUEST)->id;
	fabric_peer_make_qp(&pair.b, id);
	pair.b.id = id;
	pair.b.param.private_data = data;
	pair.b.param.private_data_len = FABRIC_ACCEPT_BYTES + 1;
	assert_int_equal(pair.b.verbs->accept(id, &pair.b.param), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(pair.b.verbs->reject(id, data, FABRIC_REJECT_BYTES + 1), -1);
	assert_int_equal(pair.b.verbs->reject(id, data, FABRIC_REJECT_BYTES), 0);
	const struct rdma_cm_event *event = fabric_peer_await(&pair.a, RDMA_CM_EVENT_REJECTED);
	assert_int_equal(event->status, FABRIC_REJECT_CONSUMER);
	assert_int_equal(event->param.conn.private_data_len, FABRIC_REJECT_BYTES);
	fabric_peer_drop(&pair.a);
	/* too much to connect with */
	assert_int_equal(pair.a.verbs->create_id(pair.a.channel, &pair.a.id, NULL, RDMA_PS_TCP), 0);
	assert_int_equal(
		pair.a.verbs->resolve_addr(pair.a.id, NULL, name("10.0.0.2", PAIR_PORT), 9), 0);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_ADDR_RESOLVED);
	assert_int_equal(pair.a.verbs->resolve_route(pair.a.id, 9), 0);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_ROUTE_RESOLVED);
	fabric_peer_make_qp(&pair.a, pair.a.id);
	pair.a.param.private_data_len = FABRIC_CONNECT_BYTES + 1;
	assert_int_equal(pair.a.verbs->connect(pair.a.id, &pair.a.param), -1);
	assert_int_equal(errno, EINVAL);
	pair_close();
}

/* ---- refusals ---- */

static void test_nobody(void **state)
{
	(void)state;
	begin();
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT + 1);
	assert_int_equal(fabric_peer_await(&pair.a, RDMA_CM_EVENT_REJECTED)->status,
			 FABRIC_REJECT_NOBODY);
	assert_int_equal(pair_state(&pair.a), IBV_QPS_ERR);
	pair_close();
}

/* An id that is destroyed without an answer, and a listener with what it had not told. */
static void test_destroyed_requests(void **state)
{
	(void)state;
	begin();
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	pair.b.id = fabric_peer_await(&pair.b, RDMA_CM_EVENT_CONNECT_REQUEST)->id;
	fabric_peer_drop(&pair.b);
	assert_int_equal(fabric_peer_await(&pair.a, RDMA_CM_EVENT_REJECTED)->status,
			 FABRIC_REJECT_CONSUMER);
	fabric_peer_drop(&pair.a);
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	while (!is_readable(pair.b.channel->fd))
		assert_true(fabric_step(pair.fabric));
	assert_int_equal(pair.b.verbs->destroy_id(pair.b.listener), 0);
	pair.b.listener = NULL;
	assert_false(is_readable(pair.b.channel->fd));
	assert_int_equal(fabric_peer_await(&pair.a, RDMA_CM_EVENT_REJECTED)->status,
			 FABRIC_REJECT_CONSUMER);
	pair_close();
}

static void test_backlog(void **state)
{
	struct rdma_cm_id *ids[5];

	(void)state;
	pair_open(&options);
	assert_int_equal(
		pair.b.verbs->create_id(pair.b.channel, &pair.b.listener, NULL, RDMA_PS_TCP), 0);
	assert_int_equal(pair.b.verbs->bind_addr(pair.b.listener, name("0.0.0.0", PAIR_PORT)), 0);
	assert_int_equal(pair.b.verbs->listen(pair.b.listener, 2), 0);
	for (int i = 0; i < 4; i++) {
		fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
		ids[i] = pair.a.id;
		pair.a.id = NULL;
		fabric_run_until(pair.fabric, fabric_now(pair.fabric) + FABRIC_MS);
		if (i >= 2)
			assert_int_equal(fabric_peer_await(&pair.a, RDMA_CM_EVENT_REJECTED)->status,
					 FABRIC_REJECT_CONSUMER);
	}
	(void)fabric_peer_event(&pair.a);
	/* one that was taken makes room */
	struct rdma_cm_id *taken[3];
	taken[0] = fabric_peer_await(&pair.b, RDMA_CM_EVENT_CONNECT_REQUEST)->id;
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	ids[4] = pair.a.id;
	pair.a.id = NULL;
	for (int i = 1; i < 3; i++)
		taken[i] = fabric_peer_await(&pair.b, RDMA_CM_EVENT_CONNECT_REQUEST)->id;
	(void)fabric_peer_event(&pair.b);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pair.b.verbs->destroy_id(taken[i]), 0);
	for (int i = 0; i < 5; i++) {
		pair.a.id = ids[i];
		fabric_peer_drop(&pair.a);
	}
	pair.a.id = NULL;
	pair_close();
}

/* ---- silence ---- */

/* Linux tries 16 times, 4.3 s each. */
static void test_unreachable(void **state)
{
	(void)state;
	begin();
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	fabric_cut(pair.devices[0], pair.devices[1], true);
	uint64_t start = fabric_now(pair.fabric);
	assert_int_equal(fabric_peer_await(&pair.a, RDMA_CM_EVENT_UNREACHABLE)->status, -ETIMEDOUT);
	assert_true(fabric_now(pair.fabric) - start >= 68 * FABRIC_S);
	pair_close();
}

/* One that heals in time is noticed by nobody. */
static void test_late_request(void **state)
{
	(void)state;
	begin();
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	fabric_cut(pair.devices[0], pair.devices[1], true);
	fabric_run_until(pair.fabric, fabric_now(pair.fabric) + 20 * FABRIC_S);
	assert_null(fabric_peer_event(&pair.a));
	fabric_cut(pair.devices[0], pair.devices[1], false);
	fabric_peer_accept(&pair.b);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_ESTABLISHED);
	(void)fabric_peer_await(&pair.b, RDMA_CM_EVENT_ESTABLISHED);
	pair_close();
}

/* A request that nobody decides about, and one whose asker went. */
static void test_undecided(void **state)
{
	(void)state;
	begin();
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	pair.b.id = fabric_peer_await(&pair.b, RDMA_CM_EVENT_CONNECT_REQUEST)->id;
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_UNREACHABLE);
	const struct rdma_cm_event *event = fabric_peer_await(&pair.b, RDMA_CM_EVENT_REJECTED);
	assert_int_equal(event->status, FABRIC_REJECT_TIMEOUT);
	fabric_peer_make_qp(&pair.b, pair.b.id);
	assert_int_equal(pair.b.verbs->accept(pair.b.id, &pair.b.param), -1);
	assert_int_equal(errno, EINVAL);
	fabric_peer_drop(&pair.a);
	fabric_peer_drop(&pair.b);
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	pair.b.id = fabric_peer_await(&pair.b, RDMA_CM_EVENT_CONNECT_REQUEST)->id;
	fabric_peer_drop(&pair.a);
	(void)fabric_peer_await(&pair.b, RDMA_CM_EVENT_REJECTED);
	pair_close();
}

static void test_disconnect_timeout(void **state)
{
	(void)state;
	pair_join(&options);
	fabric_vanish(pair.devices[1]);
	assert_int_equal(pair.a.verbs->disconnect(pair.a.id), 0);
	assert_int_equal(fabric_peer_await(&pair.a, RDMA_CM_EVENT_DISCONNECTED)->status,
			 -ETIMEDOUT);
	pair_close();
}

/* Both at once. */
static void test_crossing_disconnects(void **state)
{
	(void)state;
	pair_join(&options);
	assert_int_equal(pair.a.verbs->disconnect(pair.a.id), 0);
	assert_int_equal(pair.b.verbs->disconnect(pair.b.id), 0);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_DISCONNECTED);
	(void)fabric_peer_await(&pair.b, RDMA_CM_EVENT_DISCONNECTED);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_TIMEWAIT_EXIT);
	(void)fabric_peer_await(&pair.b, RDMA_CM_EVENT_TIMEWAIT_EXIT);
	expect_no_event(&pair.a);
	expect_no_event(&pair.b);
	pair_close();
}

/* Data may overtake the passive side's last event. */
static void test_data_before_established(void **state)
{
	(void)state;
	pair_open(&(struct pair_options){.seed = 1, .shared = true});
	fabric_chance(pair.fabric)->late_rtu = FABRIC_MILLION;
	fabric_chance(pair.fabric)->delay_ns = FABRIC_MS;
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	fabric_peer_accept(&pair.b);
	assert_int_equal(fabric_peer_receive(&pair.b, 1, 0, 8), 0);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_ESTABLISHED);
	assert_int_equal(fabric_peer_send(&pair.a, 2, 0, 8), 0);
	(void)pair_expect(&pair.b, 1, IBV_WC_SUCCESS);
	assert_null(fabric_peer_event(&pair.b));
	(void)fabric_peer_await(&pair.b, RDMA_CM_EVENT_ESTABLISHED);
	pair_close();
}

/* The active side's queue pair is made ready by whoever takes the event: that may fail. */
static void test_reply_without_means(void **state)
{
	(void)state;
	begin();
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	fabric_peer_accept(&pair.b);
	fabric_fail_call(pair.devices[0], 1, ENOMEM);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_CONNECT_ERROR);
	assert_int_equal(fabric_peer_await(&pair.b, RDMA_CM_EVENT_REJECTED)->status,
			 FABRIC_REJECT_CONSUMER);
	pair_close();
}

/* ---- ends of hosts and devices ---- */

/* kill -9: the kernel disconnects; what is sent to its queue pairs finds nobody. */
static void test_kill(void **state)
{
	(void)state;
	pair_join(&options);
	fabric_kill(pair.devices[1]);
	assert_int_equal(fabric_peer_send(&pair.a, 2, 0, 8), 0);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_DISCONNECTED);
	(void)pair_expect(&pair.a, 2, IBV_WC_RETRY_EXC_ERR);
	fabric_peer_drop(&pair.a);
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT);
	assert_int_equal(fabric_peer_await(&pair.a, RDMA_CM_EVENT_REJECTED)->status,
			 FABRIC_REJECT_NOBODY);
	pair_close();
}

/* A host that came again is not the one that went. */
static void test_rebirth(void **state)
{
	static struct fabric_peer again;

	(void)state;
	pair_join(&options);
	fabric_kill(pair.devices[1]);
	fabric_peer_drop(&pair.a);
	struct fabric_device *device = fabric_add(pair.fabric, "10.0.0.2", "fd00::2");
	fabric_peer_open(&again, pair.fabric, device, false);
	fabric_peer_listen(&again, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_join(&pair.a, &again, "10.0.0.2", PAIR_PORT);
	fabric_peer_close(&again);
	pair_close();
}

static void removed(bool no_flush)
{
	struct ibv_device_attr attr;
	struct ibv_wc wc;

	pair_join(&options);
	fabric_limits(pair.devices[0])->no_flush_when_removed = no_flush;
	assert_int_equal(fabric_peer_receive(&pair.a, 1, 0, 8), 0);
	fabric_remove(pair.devices[0]);
	pair_expect_async(&pair.a, IBV_EVENT_DEVICE_FATAL);
	(void)fabric_peer_await(&pair.a, RDMA_CM_EVENT_DEVICE_REMOVAL);
	if (no_flush)
		assert_false(fabric_peer_poll(&pair.a, &wc));
	else
		(void)pair_expect(&pair.a, 1, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(fabric_peer_send(&pair.a, 2, 0, 8), EIO);
	assert_int_equal(pair.a.verbs->query_device(pair.a.context, &attr), EIO);
	assert_int_equal(fabric_peer_send(&pair.b, 3, 0, 8), 0);
	(void)pair_expect(&pair.b, 3, IBV_WC_RETRY_EXC_ERR);
	pair_close();
}

static void test_removal(void **state)
{
	(void)state;
	removed(false);
	removed(true);
}

static void test_cable(void **state)
{
	struct ibv_port_attr attr;

	(void)state;
	pair_join(&options);
	fabric_plug(pair.devices[0], false);
	pair_expect_async(&pair.a, IBV_EVENT_PORT_ERR);
	assert_int_equal(pair.a.verbs->query_port(pair.a.context, FABRIC_PORT, &attr), 0);
	assert_int_equal(attr.state, IBV_PORT_DOWN);
	fabric_plug(pair.devices[0], true);
	pair_expect_async(&pair.a, IBV_EVENT_PORT_ACTIVE);
	assert_int_equal(pair.a.verbs->query_port(pair.a.context, FABRIC_PORT, &attr), 0);
	assert_int_equal(attr.state, IBV_PORT_ACTIVE);
	assert_int_equal(attr.active_mtu, IBV_MTU_1024);
	assert_int_equal(pair.a.verbs->query_port(pair.a.context, FABRIC_PORT + 1, &attr), EINVAL);
	pair_close();
}

static void test_broken_queue_pair(void **state)
{
	(void)state;
	pair_join(&options);
	assert_int_equal(fabric_peer_receive(&pair.a, 1, 0, 8), 0);
	fabric_break_qp(pair.a.id->qp);
	pair_expect_async(&pair.a, IBV_EVENT_QP_FATAL);
	(void)pair_expect(&pair.a, 1, IBV_WC_WR_FLUSH_ERR);
	pair_close();
}

/* ---- misuse ---- */

static void test_acknowledgements(void **state)
{
	struct rdma_cm_event *event;

	(void)state;
	pair_open(&(struct pair_options){.seed = 1, .forgive = true});
	fabric_peer_listen(&pair.b, RDMA_PS_TCP, "0.0.0.0", PAIR_PORT);
	fabric_peer_connect(&pair.a, RDMA_PS_TCP, "10.0.0.2", PAIR_PORT + 1);
	while (pair.a.verbs->get_cm_event(pair.a.channel, &event))
		assert_true(fabric_step(pair.fabric));
	(void)fabric_peer_event(&pair.a); /* acknowledges the route's */
	assert_int_equal(fabric_counts(pair.devices[0])->misuses, 0);
	pair.a.verbs->destroy_qp(pair.a.id);
	assert_int_equal(pair.a.verbs->destroy_id(pair.a.id), 0);
	assert_int_equal(fabric_counts(pair.devices[0])->misuses, 1);
	pair.a.id = NULL;
	assert_int_equal(pair.a.verbs->ack_cm_event(event), 0); /* too late */
	assert_int_equal(fabric_counts(pair.devices[0])->misuses, 2);
	pair_close();
}

/* ---- failures at each step ---- */

/* Each call of the control path fails in turn; nothing is left over. */
static uint64_t try_with_failure(uint64_t nth)
{
	const struct rdma_verbs *verbs;
	struct rdma_cm_id *id = NULL;
	struct ibv_pd *pd;
	int calls = 0;

	pair_open(&options);
	verbs = pair.a.verbs;
	uint64_t before = fabric_counts(pair.devices[0])->calls;
	fabric_fail_call(pair.devices[0], nth, ENOMEM);
	pd = verbs->alloc_pd(pair.a.context);
	calls += pd != NULL;
	if (pd && verbs->create_id(pair.a.channel, &id, NULL, RDMA_PS_TCP) == 0) {
		calls += verbs->bind_addr(id, name("10.0.0.1", 9)) == 0;
		calls += verbs->listen(id, 1) == 0;
		assert_int_equal(verbs->destroy_id(id), 0);
	}
	if (pd)
		assert_int_equal(verbs->dealloc_pd(pd), 0);
	uint64_t made = fabric_counts(pair.devices[0])->calls - before;
	assert_true(nth <= made || calls == 3);
	pair_close();
	return made;
}

static void test_failing_calls(void **state)
{
	uint64_t nth = 1;

	(void)state;
	while (nth <= try_with_failure(nth))
		nth++;
	assert_int_equal(nth, 5);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bind),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_private_data),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_destroyed_requests),
		cmocka_unit_test(test_backlog),
		cmocka_unit_test(test_unreachable),
		cmocka_unit_test(test_late_request),
		cmocka_unit_test(test_undecided),
		cmocka_unit_test(test_disconnect_timeout),
		cmocka_unit_test(test_crossing_disconnects),
		cmocka_unit_test(test_data_before_established),
		cmocka_unit_test(test_reply_without_means),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_rebirth),
		cmocka_unit_test(test_removal),
		cmocka_unit_test(test_cable),
		cmocka_unit_test(test_broken_queue_pair),
		cmocka_unit_test(test_acknowledgements),
		cmocka_unit_test(test_failing_calls),
	};

	return test_run("fabric_cm", tests);
}
