/* SPDX-License-Identifier: MIT
 * tests/crash/numbered.c - see numbered.h.
 */
#include "crash/numbered.h"

#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/storage.h>
#include <demi/wait.h>
#include <errno.h>
#include <string.h>
#include <sys/types.h>

static uint32_t bytes_of(uint64_t number)
{
	return 16 + (uint32_t)(number * 2654435761U >> 8) % 3000;
}

demi_qtoken_t numbered_push(int qd, uint64_t number)
{
	demi_sgarray_t sga = demi_sgaalloc(bytes_of(number));
	demi_qtoken_t qt;

	EXPECT(sga.sga_numsegs == 1);
	memset(sga.sga_segs[0].sgaseg_buf, (int)(number & 255), bytes_of(number));
	memcpy(sga.sga_segs[0].sgaseg_buf, &number, sizeof(number));
	EXPECT(demi_push(&qt, qd, &sga) == 0);
	EXPECT(demi_sgafree(&sga) == 0);
	return qt;
}

static uint64_t number_of(const demi_sgarray_t *sga)
{
	const unsigned char *data = sga->sga_segs[0].sgaseg_buf;
	uint64_t number;

	EXPECT(sga->sga_numsegs == 1 && sga->sga_segs[0].sgaseg_len >= sizeof(number));
	memcpy(&number, data, sizeof(number));
	EXPECT(sga->sga_segs[0].sgaseg_len == bytes_of(number));
	for (uint32_t i = sizeof(number); i < sga->sga_segs[0].sgaseg_len; i++)
		EXPECT(data[i] == (number & 255));
	return number;
}

uint64_t numbered_read(int qd, const struct timespec *patience, uint64_t *first_out)
{
	static const struct timespec bound = {.tv_sec = NUMBERED_WAIT_S};
	uint64_t last = 0;
	off_t end;
	off_t at;

	*first_out = 0;
	EXPECT(demi_lseek(qd, 0, SEEK_END, &end) == 0);
	EXPECT(demi_lseek(qd, 0, SEEK_SET, &at) == 0);
	while (at < end) {
		demi_qtoken_t qt;
		demi_qresult_t qr;
		EXPECT(demi_pop(&qt, qd) == 0);
		int err = demi_wait(&qr, qt, end - at < 4096 ? patience : &bound);
		if (err == ETIMEDOUT && end - at < 4096)
			break;
		EXPECT(err == 0 && qr.qr_opcode == DEMI_OPC_POP);
		uint64_t number = number_of(&qr.qr_value.sga);
		EXPECT(last == 0 || number == last + 1);
		*first_out = *first_out ? *first_out : number;
		last = number;
		EXPECT(demi_sgafree(&qr.qr_value.sga) == 0);
		EXPECT(demi_lseek(qd, 0, SEEK_CUR, &at) == 0);
	}
	return last;
}
