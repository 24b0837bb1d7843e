/* SPDX-License-Identifier: MIT
 * tests/compat/syscalls.c - one call with nothing but bad arguments to each function: it fails.
 *
 * The arguments come through volatile variables, as the compiler would warn of them.
 */
#include "common.h"

static void *volatile nothing;

int main(int argc, char *const argv[])
{
	demi_qtoken_t *const qt = nothing;
	demi_qresult_t *const qr = nothing;
	const struct sockaddr *const address = nothing;
	demi_sgarray_t sga;

	start(argc, argv);
	assert(demi_socket(nothing, -1, -1, -1) != 0);
	assert(demi_accept(qt, -1) != 0);
	assert(demi_bind(-1, address, 0) != 0);
	assert(demi_close(-1) != 0);
	assert(demi_connect(qt, -1, address, 0) != 0);
	assert(demi_listen(-1, -1) != 0);
	assert(demi_pop(qt, -1) != 0);
	assert(demi_push(qt, -1, nothing) != 0);
	assert(demi_pushto(qt, -1, nothing, address, 0) != 0);
	assert(demi_getpeername(-1, nothing, nothing) != 0);
	assert(demi_getsockname(-1, nothing, nothing) != 0);
	assert(demi_setsockopt(-1, -1, -1, nothing, 0) != 0);
	assert(demi_getsockopt(-1, -1, -1, nothing, nothing) != 0);
	sga = demi_sgaalloc(0);
	assert(sga.sga_numsegs == 0);
	assert(demi_sgafree(nothing) != 0);
	assert(demi_wait(qr, (demi_qtoken_t)-1, nothing) != 0);
	assert(demi_wait_any(qr, nothing, nothing, -1, nothing) != 0);
	assert(demi_wait_next_n(qr, -1, nothing, nothing) != 0);
	return 0;
}
