/* tests/support/mint.h - whole instances of catmint on the devices of a fabric, one thread, virtual
 * time.
 *
 * Hosts run in turn until nothing happens in any of them; then the fabric's clock goes to what is
 * next: an event of the network, a deadline of a host.  The invariants of every engine are checked
 * after each turn.  No wall-clock time anywhere. */
#pragma once

#include "support/fabric.h"
#include "support/test.h"

#include "api/instance.h"
#include "transport/rdma/rdma.h"

#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <stdbool.h>
#include <stdint.h>

#define MINT_HOSTS 4

struct mint_host {
	struct mint *mint;
	struct demi *demi; /* NULL: ended, or none */
	struct fabric_device *device;
	struct rdma_engine *engine;
	uint32_t index;
};

struct mint {
	struct fabric *fabric;
	uint32_t num_hosts;
	struct mint_host hosts[MINT_HOSTS];
};

/* mint_config: the defaults of the key table, fit for a test: small tables, no linger. */
void mint_config(struct config *config);
void mint_open(struct mint *mint, const struct fabric_options *options);
/* mint_add: host i has the addresses 10.0.0.(i + 1) and fd00::(i + 1); config NULL: mint_config's.
 */
struct mint_host *mint_add(struct mint *mint, const struct config *config);
/* mint_add_device: one without an instance, for a raw peer. */
struct mint_host *mint_add_device(struct mint *mint);
/* mint_end: ends an instance; nothing of it may be left in the heap or on the device. */
void mint_end(struct mint_host *host);
/* mint_kill: as by kill -9. */
void mint_close(struct mint *mint);

void mint_enter(const struct mint_host *host);
/* mint_run: all hosts, until nothing happens. */
void mint_run(struct mint *mint);
/* mint_step: runs, then the next event; false: there is none. */
bool mint_step(struct mint *mint);
/* mint_pass: lets so much time pass. */
void mint_pass(struct mint *mint, uint64_t ns);
/* mint_try: takes the result of a token if it is there, without time passing. */
bool mint_try(const struct mint_host *host, demi_qtoken_t qt, demi_qresult_t *result);
/* mint_wait: until the token's operation is complete; fails the test after a minute. Returns
 * qr_ret. */
int mint_wait(struct mint_host *host, demi_qtoken_t qt, demi_qresult_t *result);

/* ---- sockets ---- */

int mint_socket(const struct mint_host *host);
int mint_listener(const struct mint_host *host, uint16_t port, int backlog);
demi_qtoken_t mint_accept(const struct mint_host *host, int qd);
/* mint_connect: to a port of another host. */
demi_qtoken_t mint_connect(const struct mint_host *host, int qd, const struct mint_host *to,
			   uint16_t port);
/* mint_pair: a connection: the client's and the server's descriptor. */
void mint_pair(struct mint_host *client, struct mint_host *server, uint16_t port, int *client_qd,
	       int *server_qd);
demi_qtoken_t mint_push(const struct mint_host *host, int qd, const demi_sgarray_t *sga);
demi_qtoken_t mint_pop(const struct mint_host *host, int qd);
void mint_close_qd(const struct mint_host *host, int qd);

/* ---- payload ---- */

/* mint_array: of one segment of the heap, filled by a pattern that begins at seed. */
demi_sgarray_t mint_array(const struct mint_host *host, uint32_t bytes, uint8_t seed);
void mint_free(const struct mint_host *host, demi_sgarray_t *sga);
/* mint_holds: is what was popped this pattern, bytes of it? */
bool mint_holds(const demi_sgarray_t *sga, uint32_t bytes, uint8_t seed);
uint8_t mint_byte(uint8_t seed, uint32_t at);
