/* tests/support/mint.c */
#include "support/mint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURNS_MAX 100000
#define WAIT_NS   (60 * FABRIC_S)

/* ---- hosts ---- */

void mint_config(struct config *config)
{
	static const struct log log;

	if (config_load(config, NULL, NULL, &log))
		abort();
	config->stat_socket = 0;
	config->linger_ms = 0;
	config->operations_max = 8192;
	config->queues_max = 1024;
	config->coroutines_max = 64;
	config->heap_max_bytes = (int64_t)1 << 30;
	config->huge_pages = PAGES_HUGE_NEVER;
	config->rdma_receive_buffers = 512;
	config->rdma_buffer_bytes = 4096;
	config->rdma_connections_max = 16;
	config->rdma_send_depth = 32;
	config->rdma_credits = 16;
}

void mint_open(struct mint *mint, const struct fabric_options *options)
{
	bool anew;

	memset(mint, 0, sizeof(*mint));
	assert_int_equal(process_begin(&anew), 0);
	mint->fabric = fabric_open(options);
	assert_non_null(mint->fabric);
}

struct mint_host *mint_add_device(struct mint *mint)
{
	struct mint_host *host = &mint->hosts[mint->num_hosts];
	char v4[INET_ADDRSTRLEN];
	char v6[INET6_ADDRSTRLEN];

	assert_true(mint->num_hosts < MINT_HOSTS);
	host->mint = mint;
	host->index = mint->num_hosts++;
	(void)snprintf(v4, sizeof(v4), "10.0.0.%u", host->index + 1);
	(void)snprintf(v6, sizeof(v6), "fd00::%u", host->index + 1);
	host->device = fabric_add(mint->fabric, v4, v6);
	return host;
}

struct mint_host *mint_add(struct mint *mint, const struct config *config)
{
	struct mint_host *host = mint_add_device(mint);
	struct config own;
	struct sched_world world = {
		.now_ns = fabric_clock_now,
		.arg = mint->fabric,
		.seed = 7 + host->index,
		.engine = &rdma_engine_ops,
		.engine_arg = (void *)(uintptr_t)fabric_verbs(host->device),
		.every_turn = true,
	};

	mint_config(&own);
	assert_int_equal(instance_create(config ? config : &own, &world, &host->demi), 0);
	host->engine = container_of(host->demi->engine, struct rdma_engine, engine);
	return host;
}

/* Nothing was alive in it when its instance ended, so it can be used again. */
static bool is_unused(const struct heap *heap)
{
	for (const struct heap *one = pages_process.heaps.unused; one; one = one->pool_next) {
		if (one == heap)
			return true;
	}
	return false;
}

void mint_end(struct mint_host *host)
{
	if (!host->demi)
		return;
	const struct heap *heap = host->demi->sched.heap;
	mint_enter(host);
	assert_int_equal(demi_destroy(host->demi), 0);
	assert_true(is_unused(heap));
	assert_int_equal(fabric_counts(host->device)->objects, 0);
	assert_int_equal(fabric_counts(host->device)->windows_left, 0);
	host->demi = NULL;
	host->engine = NULL;
}

void mint_close(struct mint *mint)
{
	for (uint32_t i = 0; i < mint->num_hosts; i++)
		mint_end(&mint->hosts[i]);
	fabric_close(mint->fabric);
}

void mint_enter(const struct mint_host *host)
{
	if (thread_state.current != host->demi)
		assert_int_equal(demi_enter(host->demi), 0);
}

/* ---- time ---- */

static bool turn(struct mint_host *host)
{
	struct sched *sched = &host->demi->sched;

	mint_enter(host);
	bool happened = sched_turn(sched);
	happened |= fdset_wait(&sched->fds, 0) > 0;
	if (happened)
		rdma_check(host->engine);
	return happened;
}

void mint_run(struct mint *mint)
{
	bool happened = true;

	for (uint32_t turns = 0; happened; turns++) {
		assert_true(turns < TURNS_MAX);
		happened = false;
		for (uint32_t i = 0; i < mint->num_hosts; i++) {
			if (mint->hosts[i].demi)
				happened |= turn(&mint->hosts[i]);
		}
	}
}

static uint64_t next_deadline(const struct mint *mint)
{
	uint64_t now = fabric_now(mint->fabric);
	uint64_t next = TIMER_NEVER;

	for (uint32_t i = 0; i < mint->num_hosts; i++) {
		if (!mint->hosts[i].demi)
			continue;
		uint64_t deadline = sched_next_deadline(&mint->hosts[i].demi->sched);
		if (deadline <= now)
			deadline = now + FABRIC_US;
		if (deadline < next)
			next = deadline;
	}
	return next;
}

bool mint_step(struct mint *mint)
{
	mint_run(mint);
	uint64_t own = next_deadline(mint);
	uint64_t theirs = fabric_next(mint->fabric);
	uint64_t next = own < theirs ? own : theirs;
	if (next == TIMER_NEVER)
		return false;
	fabric_run_until(mint->fabric, next);
	mint_run(mint);
	return true;
}

void mint_pass(struct mint *mint, uint64_t ns)
{
	uint64_t until = fabric_now(mint->fabric) + ns;

	for (;;) {
		mint_run(mint);
		uint64_t own = next_deadline(mint);
		uint64_t theirs = fabric_next(mint->fabric);
		uint64_t next = own < theirs ? own : theirs;
		if (next > until)
			break;
		fabric_run_until(mint->fabric, next);
	}
	fabric_run_until(mint->fabric, until);
	mint_run(mint);
}

bool mint_try(const struct mint_host *host, demi_qtoken_t qt, demi_qresult_t *result)
{
	const struct timespec at_once = {0};

	mint_enter(host);
	int err = demi_wait(result, qt, &at_once);
	assert_true(err == 0 || err == ETIMEDOUT);
	return err == 0;
}

int mint_wait(struct mint_host *host, demi_qtoken_t qt, demi_qresult_t *result)
{
	uint64_t until = fabric_now(host->mint->fabric) + WAIT_NS;

	while (!mint_try(host, qt, result)) {
		assert_true(fabric_now(host->mint->fabric) < until);
		bool more = mint_step(host->mint);
		if (mint_try(host, qt, result))
			break;
		assert_true(more);
	}
	return (int)result->qr_ret;
}

/* ---- sockets ---- */

int mint_socket(const struct mint_host *host)
{
	int qd;

	mint_enter(host);
	assert_int_equal(demi_socket(&qd, AF_INET, SOCK_STREAM, 0), 0);
	return qd;
}

static struct sockaddr_in address_of(const struct mint_host *host, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	address.sin_addr.s_addr = htonl(0x0a000001 + host->index);
	return address;
}

int mint_listener(const struct mint_host *host, uint16_t port, int backlog)
{
	struct sockaddr_in address = address_of(host, port);
	int qd = mint_socket(host);

	assert_int_equal(demi_bind(qd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(demi_listen(qd, backlog), 0);
	return qd;
}

demi_qtoken_t mint_accept(const struct mint_host *host, int qd)
{
	demi_qtoken_t qt;

	mint_enter(host);
	assert_int_equal(demi_accept(&qt, qd), 0);
	return qt;
}

demi_qtoken_t mint_connect(const struct mint_host *host, int qd, const struct mint_host *to,
			   uint16_t port)
{
	struct sockaddr_in address = address_of(to, port);
	demi_qtoken_t qt;

	mint_enter(host);
	assert_int_equal(demi_connect(&qt, qd, (struct sockaddr *)&address, sizeof(address)), 0);
	return qt;
}

void mint_pair(struct mint_host *client, struct mint_host *server, uint16_t port, int *client_qd,
	       int *server_qd)
{
	int listener = mint_listener(server, port, 8);
	demi_qtoken_t accepting = mint_accept(server, listener);
	demi_qresult_t result;

	*client_qd = mint_socket(client);
	demi_qtoken_t connecting = mint_connect(client, *client_qd, server, port);
	assert_int_equal(mint_wait(client, connecting, &result), 0);
	assert_int_equal(mint_wait(server, accepting, &result), 0);
	*server_qd = result.qr_value.ares.qd;
	mint_close_qd(server, listener);
}

demi_qtoken_t mint_push(const struct mint_host *host, int qd, const demi_sgarray_t *sga)
{
	demi_qtoken_t qt;

	mint_enter(host);
	assert_int_equal(demi_push(&qt, qd, sga), 0);
	return qt;
}

demi_qtoken_t mint_pop(const struct mint_host *host, int qd)
{
	demi_qtoken_t qt;

	mint_enter(host);
	assert_int_equal(demi_pop(&qt, qd), 0);
	return qt;
}

void mint_close_qd(const struct mint_host *host, int qd)
{
	mint_enter(host);
	assert_int_equal(demi_close(qd), 0);
}

/* ---- payload ---- */

uint8_t mint_byte(uint8_t seed, uint32_t at)
{
	return (uint8_t)(seed + at * 7 + (at >> 8));
}

demi_sgarray_t mint_array(const struct mint_host *host, uint32_t bytes, uint8_t seed)
{
	mint_enter(host);
	demi_sgarray_t sga = demi_sgaalloc(bytes ? bytes : 1);
	assert_int_equal(sga.sga_numsegs, 1);
	sga.sga_segs[0].sgaseg_len = bytes;
	uint8_t *to = sga.sga_segs[0].sgaseg_buf;
	for (uint32_t i = 0; i < bytes; i++)
		to[i] = mint_byte(seed, i);
	return sga;
}

void mint_free(const struct mint_host *host, demi_sgarray_t *sga)
{
	mint_enter(host);
	assert_int_equal(demi_sgafree(sga), 0);
}

bool mint_holds(const demi_sgarray_t *sga, uint32_t bytes, uint8_t seed)
{
	uint32_t at = 0;

	for (uint32_t s = 0; s < sga->sga_numsegs; s++) {
		const uint8_t *from = sga->sga_segs[s].sgaseg_buf;
		for (uint32_t i = 0; i < sga->sga_segs[s].sgaseg_len; i++) {
			if (from[i] != mint_byte(seed, at++))
				return false;
		}
	}
	return at == bytes;
}
