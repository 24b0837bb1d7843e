/* SPDX-License-Identifier: MIT
 * tests/compat/udp-ping-pong.c - datagrams there and back between two bound sockets.
 */
#include "common.h"

static void serve(int qd, const struct sockaddr_in *remote, size_t size, size_t rounds)
{
	for (size_t i = 0; i < rounds; i++) {
		demi_qresult_t qr;
		demi_sgarray_t sga;
		pop_and_wait(qd, &qr);
		sga = qr.qr_value.sga;
		assert(sga.sga_segs[0].sgaseg_len == size);
		pushto_and_wait(qd, &sga, &qr, remote);
		assert(demi_sgafree(&sga) == 0);
	}
}

static void ask(int qd, const struct sockaddr_in *remote, size_t size, size_t rounds)
{
	unsigned char *expected = malloc(size);

	assert(expected != NULL);
	for (size_t i = 0; i < rounds; i++) {
		demi_qresult_t qr;
		demi_sgarray_t sga = demi_sgaalloc(size);
		assert(sga.sga_numsegs == 1);
		memset(expected, (int)(i % 256), size);
		memcpy(sga.sga_segs[0].sgaseg_buf, expected, size);
		pushto_and_wait(qd, &sga, &qr, remote);
		assert(demi_sgafree(&sga) == 0);
		pop_and_wait(qd, &qr);
		assert(qr.qr_value.sga.sga_segs[0].sgaseg_len == size);
		assert(memcmp(qr.qr_value.sga.sga_segs[0].sgaseg_buf, expected, size) == 0);
		assert(qr.qr_value.sga.sga_addr.sin_port == remote->sin_port);
		assert(demi_sgafree(&qr.qr_value.sga) == 0);
	}
	free(expected);
}

int main(int argc, char *const argv[])
{
	if (argc < 6)
		usage(argv[0],
		      "--server|--client HOST PORT REMOTE-HOST REMOTE-PORT [SIZE [ROUNDS]]");
	struct sockaddr_in local = address_of(argv[2], argv[3]);
	struct sockaddr_in remote = address_of(argv[4], argv[5]);
	size_t size = argument(argc, argv, 6, 64);
	size_t rounds = argument(argc, argv, 7, 1000);

	start(argc, argv);
	int qd = bound_udp(&local);
	printf("bound\n");
	fflush(stdout);
	if (strcmp(argv[1], "--server") == 0)
		serve(qd, &remote, size, rounds);
	else
		ask(qd, &remote, size, rounds);
	return 0;
}
