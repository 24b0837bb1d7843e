/* SPDX-License-Identifier: MIT
 * tests/compat/udp-push-pop.c - datagrams one way; none may be lost.
 */
#include "common.h"

static void serve(int qd, size_t size, size_t rounds)
{
	for (size_t i = 0; i < rounds; i++) {
		demi_qresult_t qr;
		pop_and_wait(qd, &qr);
		assert(qr.qr_value.sga.sga_segs[0].sgaseg_len == size);
		assert(*(unsigned char *)qr.qr_value.sga.sga_segs[0].sgaseg_buf == i % 256);
		assert(demi_sgafree(&qr.qr_value.sga) == 0);
	}
}

static void send_all(int qd, const struct sockaddr_in *remote, size_t size, size_t rounds)
{
	for (size_t i = 0; i < rounds; i++) {
		demi_qresult_t qr;
		demi_sgarray_t sga = demi_sgaalloc(size);
		assert(sga.sga_numsegs == 1);
		memset(sga.sga_segs[0].sgaseg_buf, (int)(i % 256), size);
		pushto_and_wait(qd, &sga, &qr, remote);
		assert(demi_sgafree(&sga) == 0);
	}
}

int main(int argc, char *const argv[])
{
	int server = argc > 1 && strcmp(argv[1], "--server") == 0;
	int rest = server ? 4 : 6;

	if (argc < rest)
		usage(argv[0], "--server HOST PORT | --client HOST PORT REMOTE-HOST REMOTE-PORT, "
			       "[SIZE [ROUNDS]]");
	struct sockaddr_in local = address_of(argv[2], argv[3]);
	size_t size = argument(argc, argv, rest, 64);
	size_t rounds = argument(argc, argv, rest + 1, 100);

	start(argc, argv);
	int qd = bound_udp(&local);
	printf("bound\n");
	fflush(stdout);
	if (server) {
		serve(qd, size, rounds);
	} else {
		struct sockaddr_in remote = address_of(argv[4], argv[5]);
		send_all(qd, &remote, size, rounds);
	}
	return 0;
}
