/* tests/sim/transfer.c: see transfer.h. */
#include "sim/transfer.h"

#include "net/tcp/tcp.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define PORT        80
#define PIECE_BYTES 16384U
#define PUSHES_MAX  4 /* that a flow has outstanding */

struct run;

struct flow {
	struct run *run;
	uint32_t index;
	struct host *sender;
	uint64_t pushed;
	uint64_t received;
	uint64_t counted; /* of received, behind from_ns */
	uint64_t begin_ns;
	uint64_t end_ns;
	int error;
	int accepted_qd;
	uint32_t parts; /* coroutines that run */
};

struct run {
	struct world world;
	const struct transfer *transfer;
	struct transfer_result *result;
	struct host *receiver;
	struct flow flows[TRANSFER_FLOWS];
	bool stop; /* flows without an end: it is over */
	bool refused;
};

static int domain_of(const struct run *run)
{
	return run->transfer->v6 ? AF_INET6 : AF_INET;
}

/* ---- sending ---- */

static bool has_more(const struct flow *flow)
{
	const struct transfer *transfer = flow->run->transfer;

	return !flow->error &&
	       (transfer->bytes ? flow->pushed < transfer->bytes : !flow->run->stop);
}

static void push_piece(struct flow *flow, int qd, demi_qtoken_t *token)
{
	struct world *world = &flow->run->world;
	uint64_t left = flow->run->transfer->bytes ? flow->run->transfer->bytes - flow->pushed
						   : PIECE_BYTES;
	demi_sgarray_t sga = demi_sgaalloc(left < PIECE_BYTES ? left : PIECE_BYTES);

	WORLD_EXPECT(world, sga.sga_numsegs == 1);
	inet_fill(flow->index, flow->pushed, sga.sga_segs[0].sgaseg_buf,
		  sga.sga_segs[0].sgaseg_len);
	flow->pushed += sga.sga_segs[0].sgaseg_len;
	int err = demi_push(token, qd, &sga);
	if (err)
		flow->error = err;
	WORLD_EXPECT(world, demi_sgafree(&sga) == 0);
}

static void await_push(struct flow *flow, demi_qtoken_t token)
{
	demi_qresult_t qr;

	WORLD_EXPECT(&flow->run->world, demi_wait(&qr, token, NULL) == 0);
	if (qr.qr_opcode == DEMI_OPC_FAILED && !flow->error)
		flow->error = (int)qr.qr_ret;
}

static void send_all(struct flow *flow, int qd)
{
	demi_qtoken_t tokens[PUSHES_MAX];
	uint32_t first = 0;
	uint32_t count = 0;

	while (has_more(flow)) {
		if (count == PUSHES_MAX) {
			await_push(flow, tokens[first++ % PUSHES_MAX]);
			count--;
			continue;
		}
		push_piece(flow, qd, &tokens[(first + count) % PUSHES_MAX]);
		count += !flow->error;
	}
	for (; count > 0; count--)
		await_push(flow, tokens[first++ % PUSHES_MAX]);
}

/* To the end of the peer's stream. */
static void pop_end(struct flow *flow, int qd)
{
	demi_qresult_t qr;
	demi_qtoken_t token;
	int err = demi_pop(&token, qd);

	if (!err) {
		WORLD_EXPECT(&flow->run->world, demi_wait(&qr, token, NULL) == 0);
		err = qr.qr_opcode == DEMI_OPC_FAILED ? (int)qr.qr_ret : 0;
		if (!err)
			WORLD_EXPECT(&flow->run->world, demi_sgafree(&qr.qr_value.sga) == 0);
	}
	if (err && !flow->error)
		flow->error = err;
}

static int connect_out(struct flow *flow, int qd)
{
	const struct inet_name to = inet_name(0, domain_of(flow->run), PORT);
	demi_qtoken_t token;
	demi_qresult_t qr;
	int err = demi_connect(&token, qd, &to.any, to.length);

	if (err)
		return err;
	WORLD_EXPECT(&flow->run->world, demi_wait(&qr, token, NULL) == 0);
	return qr.qr_opcode == DEMI_OPC_FAILED ? (int)qr.qr_ret : 0;
}

static void note_sent(struct flow *flow, int qd)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	WORLD_EXPECT(&flow->run->world,
		     demi_getsockopt(qd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0);
	flow->run->result->segments += info.tcpi_segs_out;
}

static void note_path(struct flow *flow, int qd)
{
	int mtu = 0;
	socklen_t length = sizeof(mtu);
	bool v6 = flow->run->transfer->v6;

	if (demi_getsockopt(qd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu,
			    &length) == 0)
		flow->run->result->pmtu = (uint32_t)mtu;
}

static void sender(void *arg)
{
	struct flow *flow = arg;
	struct world *world = &flow->run->world;
	const char *congestion = flow->run->transfer->congestion[flow->index];
	const struct inet_name own = inet_any(domain_of(flow->run), (uint16_t)(1000 + flow->index));
	int qd;

	inet_sleep(flow->index * flow->run->transfer->start_gap_ns);
	WORLD_EXPECT(world, demi_socket(&qd, domain_of(flow->run), SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(world, demi_bind(qd, &own.any, own.length) == 0);
	if (congestion && demi_setsockopt(qd, IPPROTO_TCP, TCP_CONGESTION, congestion,
					  (socklen_t)strlen(congestion)) != 0)
		flow->run->refused = true;
	flow->error = connect_out(flow, qd);
	if (!flow->error) {
		flow->begin_ns = world->now_ns;
		send_all(flow, qd);
		note_path(flow, qd);
		if (!flow->error)
			flow->error = demi_shutdown(qd, SHUT_WR);
		pop_end(flow, qd);
		note_sent(flow, qd);
	}
	WORLD_EXPECT(world, demi_close(qd) == 0);
	flow->parts--;
}

/* ---- receiving ---- */

/* False: that was the end. */
static bool take(struct flow *flow, demi_qresult_t *qr)
{
	struct world *world = &flow->run->world;
	demi_sgarray_t sga;
	uint64_t bytes = 0;

	memcpy(&sga, &qr->qr_value.sga, sizeof(sga));
	for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
		uint32_t length = sga.sga_segs[i].sgaseg_len;
		WORLD_EXPECT(world, inet_matches(flow->index, flow->received + bytes,
						 sga.sga_segs[i].sgaseg_buf, length));
		bytes += length;
	}
	WORLD_EXPECT(world, demi_sgafree(&sga) == 0);
	flow->received += bytes;
	WORLD_EXPECT(world, flow->received <= flow->pushed);
	if (!flow->run->stop && world->now_ns >= WORLD_START_NS + flow->run->transfer->from_ns)
		flow->counted += bytes;
	if (bytes > 0)
		flow->end_ns = world->now_ns;
	return bytes > 0;
}

static void receiver(void *arg)
{
	struct flow *flow = arg;
	struct world *world = &flow->run->world;
	bool more = true;

	while (more) {
		demi_qresult_t qr;
		demi_qtoken_t token;
		if (demi_pop(&token, flow->accepted_qd) != 0)
			break;
		WORLD_EXPECT(world, demi_wait(&qr, token, NULL) == 0);
		if (qr.qr_opcode == DEMI_OPC_FAILED)
			break;
		more = take(flow, &qr);
	}
	WORLD_EXPECT(world, demi_close(flow->accepted_qd) == 0);
	flow->parts--;
}

static void acceptor(void *arg)
{
	struct run *run = arg;
	const struct inet_name any = inet_any(domain_of(run), PORT);
	int listener;

	WORLD_EXPECT(&run->world, demi_socket(&listener, domain_of(run), SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(&run->world, demi_bind(listener, &any.any, any.length) == 0);
	WORLD_EXPECT(&run->world, demi_listen(listener, TRANSFER_FLOWS) == 0);
	for (uint32_t i = 0; i < run->transfer->flows; i++) {
		demi_qtoken_t token;
		demi_qresult_t qr;
		WORLD_EXPECT(&run->world, demi_accept(&token, listener) == 0);
		WORLD_EXPECT(&run->world, demi_wait(&qr, token, NULL) == 0);
		WORLD_EXPECT(&run->world, qr.qr_opcode == DEMI_OPC_ACCEPT);
		const struct inet_name peer = inet_peer(&run->world, qr.qr_value.ares.qd);
		struct flow *flow = &run->flows[inet_port(&peer) - 1000];
		flow->accepted_qd = qr.qr_value.ares.qd;
		flow->parts++;
		WORLD_EXPECT(&run->world, demi_go(receiver, flow) == 0);
	}
	WORLD_EXPECT(&run->world, demi_close(listener) == 0);
}

/* ---- a run ---- */

static struct host *add_host(struct run *run)
{
	const struct sim_options device = {
		.mtu = run->transfer->link_mtu ? run->transfer->link_mtu : 1500,
		.rx_slots = 1024,
		.max_segments = 2,
	};
	struct config config;

	inet_config(&config, run->world.num_hosts);
	config.frames_max = 16384;
	config.neighbour_retries = 20;
	config.tcp_syn_retries = 20;
	config.tcp_retries = 30; /* at 30 % one segment in 50000 is lost 16 times */
	if (run->transfer->probing)
		config.tcp_mtu_probing = run->transfer->probing - 1;
	if (run->transfer->buffer) {
		config.tcp_receive_buffer_bytes = run->transfer->buffer;
		config.tcp_receive_buffer_max_bytes = run->transfer->buffer;
		config.tcp_send_buffer_bytes = run->transfer->buffer;
		config.tcp_send_buffer_max_bytes = run->transfer->buffer;
	}
	return world_add_instance(&run->world, &config, &device);
}

static void set_path(struct run *run, uint32_t from, uint32_t to, struct world_path *line)
{
	const struct transfer *transfer = run->transfer;
	uint64_t product = transfer->bits_per_s / 8 * (transfer->rtt_ns / WORLD_US) / 1000000;
	uint64_t queue = product > TRANSFER_QUEUE_MIN ? product : TRANSFER_QUEUE_MIN;
	struct world_path *path = &run->world.paths[from][to];

	*path = (struct world_path){
		.delay_ns = transfer->rtt_ns / 2,
		.jitter_ns = transfer->rtt_ns / 50, /* so that seeds differ without loss too */
		.bits_per_s = transfer->bits_per_s,
		.queue_bytes = transfer->queue_bytes ? transfer->queue_bytes : queue,
		.mark_bytes = transfer->mark_bytes,
		.loss = transfer->loss,
		.burst = transfer->burst,
		.line = line == path ? NULL : line,
	};
}

static void begin(struct run *run)
{
	struct world *world = &run->world;

	run->receiver = add_host(run);
	for (uint32_t i = 0; i < run->transfer->senders; i++)
		add_host(run);
	for (uint32_t i = 1; i < world->num_hosts; i++) {
		set_path(run, i, 0, &world->paths[1][0]);
		world->paths[i][0].mtu = run->transfer->mtu;
		world->paths[i][0].icmp = run->transfer->icmp;
		set_path(run, 0, i, &world->paths[0][1]);
	}
	world_enter(run->receiver);
	WORLD_EXPECT(world, demi_go(acceptor, run) == 0);
	for (uint32_t i = 0; i < run->transfer->flows; i++) {
		struct flow *flow = &run->flows[i];
		flow->run = run;
		flow->index = i;
		flow->parts = 1;
		flow->sender = world->hosts[1 + i % run->transfer->senders];
		world_enter(flow->sender);
		WORLD_EXPECT(world, demi_go(sender, flow) == 0);
	}
	for (uint32_t i = 0; i < world->num_hosts; i++)
		world_wake(world->hosts[i]);
}

static bool all_ended(const struct run *run)
{
	for (uint32_t i = 0; i < run->transfer->flows; i++)
		if (run->flows[i].parts > 0)
			return false;
	return true;
}

static void fill_result(struct run *run, struct transfer_result *result)
{
	const struct transfer *transfer = run->transfer;

	for (uint32_t i = 0; i < transfer->flows; i++) {
		const struct flow *flow = &run->flows[i];
		result->flows[i] = (struct transfer_flow){
			.complete = transfer->bytes ? flow->received == transfer->bytes
						    : flow->received > 0,
			.error = flow->error,
			.bytes = flow->counted,
			.taken_ns = flow->end_ns - flow->begin_ns,
		};
	}
	for (uint32_t i = 1; i < run->world.num_hosts; i++) {
		const struct counters *counters = &run->world.hosts[i]->sched->counters;
		result->retransmitted += counters->count[COUNTER_TCP_RETRANSMITTED];
		result->timeouts += counters->count[COUNTER_TCP_TIMEOUTS];
	}
	result->too_big = run->world.stats.too_big;
	result->hash = run->world.hash;
}

bool transfer_run(const struct transfer *transfer, uint64_t seed, struct transfer_result *result)
{
	struct run *run = calloc(1, sizeof(*run));

	assert_non_null(run);
	memset(result, 0, sizeof(*result));
	run->transfer = transfer;
	run->result = result;
	world_open(&run->world, seed);
	begin(run);
	uint64_t end = WORLD_START_NS + transfer->limit_ns;
	while (!all_ended(run) && world_step(&run->world, end))
		;
	run->stop = true;
	if (!transfer->bytes) {
		world_calm(&run->world);
		while (!all_ended(run) && world_step(&run->world, end + 1000 * WORLD_S))
			;
	}
	fill_result(run, result);
	world_close(&run->world);
	bool good = !run->refused;
	free(run);
	return good;
}

double transfer_fairness(const struct transfer *transfer, const struct transfer_result *result)
{
	double sum = 0;
	double squares = 0;

	for (uint32_t i = 0; i < transfer->flows; i++) {
		double bytes = (double)result->flows[i].bytes;
		sum += bytes;
		squares += bytes * bytes;
	}
	return squares > 0 ? sum * sum / (transfer->flows * squares) : 0;
}
