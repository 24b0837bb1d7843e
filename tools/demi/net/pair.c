/* SPDX-License-Identifier: MIT
 * tools/demi/net/pair.c - two instances of the library in this thread, each on one end of a ring.
 */
#include "pair.h"

#include "../tool.h"
#include "base/process.h"
#include "contender.h"
#include "netdev/ring/ring.h"

#include <arpa/inet.h>
#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#define BACKLOG     1024
#define ROUNDS_MAX  1000 /* turns of each end in which a handshake must be done */
#define CATPOWDER   1    /* the choices of keys libos and idle */
#define BUSY        1
#define SERVER_NAME "10.0.0.1"

static const struct timespec at_once;

static bool failed(const char *what, int error)
{
	if (error)
		tool_complain("demitasse: %s: %s", what, strerror(error));
	return error != 0;
}

void pair_enter(const struct pair *pair, int end)
{
	(void)demi_enter(pair->ends[end]);
}

/* ---- making ---- */

static void configure(struct config *config, int end)
{
	config->libos = CATPOWDER;
	config->idle = BUSY;
	config->stat_socket = 0;
	config->neighbour_reachable_s = 86400; /* a question now and then: runs would differ */
	config->linger_ms = 0;
	snprintf(config->addresses, sizeof(config->addresses), "10.0.0.%d/24", end + 1);
}

static int open_end(struct pair *pair, int end, uint64_t (*now_ns)(void *arg), void *arg)
{
	static const struct log log;
	struct sched_world world = {
		.now_ns = now_ns,
		.arg = arg,
		.seed = (uint64_t)end + 1,
		.secret = {(uint64_t)end + 7, 9},
		.netdev = pair->devices[end],
	};
	struct config config;
	/* Keys can be set by the environment, as for every program. */
	int err = config_load(&config, NULL, NULL, &log);

	if (err) {
		pair->devices[end]->ops->close(pair->devices[end]);
		return err;
	}
	configure(&config, end);
	return instance_create(&config, &world, &pair->ends[end]);
}

static bool listen_on(struct pair *pair)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(NET_PORT)};

	pair_enter(pair, SERVER);
	return !failed("demi_socket", demi_socket(&pair->listening, AF_INET, SOCK_STREAM, 0)) &&
	       !failed("demi_bind", demi_bind(pair->listening, (const struct sockaddr *)&address,
					      sizeof(address))) &&
	       !failed("demi_listen", demi_listen(pair->listening, BACKLOG));
}

bool pair_open(struct pair *pair, uint32_t mtu, uint64_t (*now_ns)(void *arg), void *arg)
{
	bool anew;

	memset(pair, 0, sizeof(*pair));
	if (failed("start", -process_begin(&anew)) ||
	    failed("ring", -ring_pair(mtu, NET_RING_SLOTS, pair->devices)))
		return false;
	for (int end = 0; end < 2; end++) {
		if (!failed("instance", -open_end(pair, end, now_ns, arg)))
			continue;
		if (end == SERVER) /* the other device is nobody's yet */
			pair->devices[CLIENT]->ops->close(pair->devices[CLIENT]);
		pair_close(pair);
		return false;
	}
	if (listen_on(pair))
		return true;
	pair_close(pair);
	return false;
}

/* That connections are cut off is meant. */
static void say_nothing(void *arg, enum demi_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

void pair_close(struct pair *pair)
{
	demi_set_log(say_nothing, NULL);
	for (int end = 0; end < 2; end++) {
		if (!pair->ends[end])
			continue;
		pair_enter(pair, end);
		(void)demi_destroy(pair->ends[end]);
		pair->ends[end] = NULL;
	}
	demi_set_log(NULL, NULL);
}

/* ---- operations ---- */

int pair_results(demi_qresult_t *results, int count)
{
	int n = 0;
	int error = demi_wait_next_n(results, count, &n, &at_once);

	if (error && error != ETIMEDOUT && failed("demi_wait_next_n", error))
		return -1;
	for (int i = 0; i < n; i++) {
		if (results[i].qr_opcode == DEMI_OPC_FAILED &&
		    failed("operation", (int)results[i].qr_ret))
			return -1;
	}
	return n;
}

bool pair_push(int qd, const void *bytes, uint32_t num_bytes)
{
	demi_sgarray_t sga = demi_sgaalloc(num_bytes);
	demi_qtoken_t token;

	if (sga.sga_numsegs == 0)
		return !failed("demi_sgaalloc", ENOMEM);
	memcpy(sga.sga_segs[0].sgaseg_buf, bytes, num_bytes);
	int error = demi_push(&token, qd, &sga);
	demi_sgafree(&sga);
	return !failed("demi_push", error);
}

/* ---- connections ---- */

static bool begin_connect(int *qd)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(NET_PORT)};
	demi_qtoken_t token;

	(void)inet_pton(AF_INET, SERVER_NAME, &address.sin_addr);
	return !failed("demi_socket", demi_socket(qd, AF_INET, SOCK_STREAM, 0)) &&
	       !failed("demi_connect", demi_connect(&token, *qd, (const struct sockaddr *)&address,
						    sizeof(address)));
}

static bool begin(const struct pair *pair, int *client_qds, unsigned count)
{
	demi_qtoken_t token;

	for (unsigned i = 0; i < count; i++) {
		pair_enter(pair, SERVER);
		if (failed("demi_accept", demi_accept(&token, pair->listening)))
			return false;
		pair_enter(pair, CLIENT);
		if (!begin_connect(&client_qds[i]))
			return false;
	}
	return true;
}

/* What one turn of an end brings; of the server, the descriptors accepted. */
static int turn(const struct pair *pair, int end, unsigned wanted, int *qds)
{
	demi_qresult_t results[NET_BURST];
	demi_qtoken_t token;

	pair_enter(pair, end);
	int n = wanted > 0 ? pair_results(results, (int)wanted) : 0;
	demi_flush();
	for (int i = 0; end == SERVER && i < n; i++) {
		qds[i] = results[i].qr_value.ares.qd;
		if (failed("demi_pop", demi_pop(&token, qds[i])))
			return -1;
	}
	return n;
}

static bool connect_burst(struct pair *pair, unsigned count, int *qds[2])
{
	unsigned done[2] = {0};

	if (!begin(pair, qds[CLIENT], count))
		return false;
	for (unsigned i = 0; i < ROUNDS_MAX && (done[0] < count || done[1] < count); i++) {
		for (int end = CLIENT; end >= SERVER; end--) {
			int n = turn(pair, end, count - done[end], qds[end] + done[end]);
			if (n < 0)
				return false;
			done[end] += (unsigned)n;
		}
	}
	return (done[0] == count && done[1] == count) || !failed("connecting", ETIMEDOUT);
}

bool pair_connect(struct pair *pair, unsigned count, int *qds[2])
{
	int unused[2][NET_BURST] = {{0}};

	for (unsigned made = 0; made < count;) {
		unsigned burst = count - made < NET_BURST ? count - made : NET_BURST;
		int *to[2];

		if (!pair->connected) /* alone: few frames may wait for a neighbour's address */
			burst = 1;
		for (int end = 0; end < 2; end++)
			to[end] = qds[end] ? qds[end] + made : unused[end];
		if (!connect_burst(pair, burst, to))
			return false;
		pair->connected = true;
		made += burst;
	}
	return true;
}

uint64_t pair_memory(const struct pair *pair)
{
	struct mallinfo2 info = mallinfo2();
	uint64_t bytes = info.uordblks + info.hblkhd;

	for (int end = 0; end < 2; end++) {
		struct heap_usage usage;

		heap_usage(pair->ends[end]->sched.heap, &usage);
		bytes += usage.live_bytes;
	}
	return bytes;
}
