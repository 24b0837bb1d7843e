/* SPDX-License-Identifier: MIT
 * tests/compat/common.h - what the programs here share.
 *
 * They are written as C programs for Demikernel 1.5 are, against its five headers only, in strict
 * C99: everything the library promises to such programs is used as they use it.
 */
#ifndef COMPAT_COMMON_H
#define COMPAT_COMMON_H

#include <arpa/inet.h>
#include <assert.h>
#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/types.h>
#include <demi/wait.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifdef NDEBUG
#error "the checks are assertions"
#endif

static inline void start(int argc, char *const argv[])
{
	const struct demi_args args = {
		.argc = argc,
		.argv = argv,
		.callback = NULL,
	};

	assert(demi_init(&args) == 0);
}

static inline struct sockaddr_in address_of(const char *host, const char *port)
{
	struct sockaddr_in address;

	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_port = htons((uint16_t)strtol(port, NULL, 10));
	assert(inet_pton(AF_INET, host, &address.sin_addr) == 1);
	return address;
}

static inline size_t argument(int argc, char *const argv[], int i, size_t otherwise)
{
	return argc > i ? (size_t)strtoul(argv[i], NULL, 10) : otherwise;
}

static inline void wait_for(demi_qresult_t *qr, demi_qtoken_t qt, enum demi_opcode opcode)
{
	assert(demi_wait(qr, qt, NULL) == 0);
	assert(qr->qr_opcode == opcode);
	assert(qr->qr_qt == qt);
	assert(qr->qr_ret == 0);
}

static inline int connect_to(const struct sockaddr_in *remote)
{
	demi_qresult_t qr;
	demi_qtoken_t qt = 0;
	int qd = -1;

	assert(demi_socket(&qd, AF_INET, SOCK_STREAM, 0) == 0);
	assert(demi_connect(&qt, qd, (const struct sockaddr *)remote, sizeof(*remote)) == 0);
	wait_for(&qr, qt, DEMI_OPC_CONNECT);
	return qd;
}

/* Accepts one connection at an address. */
static inline int accept_at(const struct sockaddr_in *local)
{
	demi_qresult_t qr;
	demi_qtoken_t qt = 0;
	int qd = -1;

	assert(demi_socket(&qd, AF_INET, SOCK_STREAM, 0) == 0);
	assert(demi_bind(qd, (const struct sockaddr *)local, sizeof(*local)) == 0);
	assert(demi_listen(qd, 16) == 0);
	assert(demi_accept(&qt, qd) == 0);
	wait_for(&qr, qt, DEMI_OPC_ACCEPT);
	return qr.qr_value.ares.qd;
}

static inline void push_and_wait(int qd, demi_sgarray_t *sga, demi_qresult_t *qr)
{
	demi_qtoken_t qt = 0;

	assert(demi_push(&qt, qd, sga) == 0);
	wait_for(qr, qt, DEMI_OPC_PUSH);
}

static inline void pushto_and_wait(int qd, demi_sgarray_t *sga, demi_qresult_t *qr,
				   const struct sockaddr_in *to)
{
	demi_qtoken_t qt = 0;

	assert(demi_pushto(&qt, qd, sga, (const struct sockaddr *)to, sizeof(*to)) == 0);
	wait_for(qr, qt, DEMI_OPC_PUSH);
}

static inline void pop_and_wait(int qd, demi_qresult_t *qr)
{
	demi_qtoken_t qt = 0;

	assert(demi_pop(&qt, qd) == 0);
	wait_for(qr, qt, DEMI_OPC_POP);
	assert(qr->qr_value.sga.sga_segs[0].sgaseg_len != 0);
}

static inline int bound_udp(const struct sockaddr_in *local)
{
	int qd = -1;

	assert(demi_socket(&qd, AF_INET, SOCK_DGRAM, 0) == 0);
	assert(demi_bind(qd, (const struct sockaddr *)local, sizeof(*local)) == 0);
	return qd;
}

static inline void usage(const char *program, const char *arguments)
{
	fprintf(stderr, "usage: %s %s\n", program, arguments);
	exit(2);
}

#endif
