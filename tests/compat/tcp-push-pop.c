/* SPDX-License-Identifier: MIT
 * tests/compat/tcp-push-pop.c - messages one way; the server counts bytes.
 */
#include "common.h"

static void serve(const struct sockaddr_in *local, size_t size, size_t messages)
{
	int qd = accept_at(local);
	size_t bytes = 0;

	while (bytes < size * messages) {
		demi_qresult_t qr;
		pop_and_wait(qd, &qr);
		bytes += qr.qr_value.sga.sga_segs[0].sgaseg_len;
		assert(demi_sgafree(&qr.qr_value.sga) == 0);
	}
	assert(demi_close(qd) == 0);
}

static void send_all(const struct sockaddr_in *remote, size_t size, size_t messages)
{
	int qd = connect_to(remote);

	for (size_t i = 0; i < messages; i++) {
		demi_qresult_t qr;
		demi_sgarray_t sga = demi_sgaalloc(size);
		assert(sga.sga_segs[0].sgaseg_buf != NULL);
		memset(sga.sga_segs[0].sgaseg_buf, 1, sga.sga_segs[0].sgaseg_len);
		push_and_wait(qd, &sga, &qr);
		assert(demi_sgafree(&sga) == 0);
	}
	assert(demi_close(qd) == 0);
}

int main(int argc, char *const argv[])
{
	if (argc < 4)
		usage(argv[0], "--server|--client HOST PORT [SIZE [MESSAGES]]");
	struct sockaddr_in address = address_of(argv[2], argv[3]);
	size_t size = argument(argc, argv, 4, 64);
	size_t messages = argument(argc, argv, 5, 1024);

	start(argc, argv);
	if (strcmp(argv[1], "--server") == 0)
		serve(&address, size, messages);
	else
		send_all(&address, size, messages);
	return 0;
}
