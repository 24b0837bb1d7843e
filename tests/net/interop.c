/* SPDX-License-Identifier: MIT
 * tests/net/interop.c: see interop.h.
 */
#include "net/interop.h"

#include <demi/instance.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Prime, so that a piece in a wrong place shows whatever its length is.  interop_test.py has the
 * same. */
#define PATTERN_BYTES 65521

static uint8_t pattern[PATTERN_BYTES];

/* ---- life ---- */

void interop_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	_exit(1);
}

void interop_must(int error, const char *what)
{
	if (error)
		interop_fail("%s: %s", what, strerror(error));
}

void interop_begin(void)
{
	static const struct demi_args args;
	uint32_t x = 1;

	(void)alarm(INTEROP_SECONDS);
	for (size_t i = 0; i < PATTERN_BYTES; i++) {
		x = x * 1664525 + 1013904223;
		pattern[i] = (uint8_t)(x >> 24);
	}
	interop_must(demi_init(&args), "demi_init");
}

void interop_end(void)
{
	interop_must(demi_fini(), "demi_fini");
}

/* ---- sockets ---- */

static struct addrinfo *resolve(const char *address, const char *port, int type)
{
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				       .ai_socktype = type};
	struct addrinfo *at;

	if (getaddrinfo(address, port, &hints, &at))
		interop_fail("%s %s: no address", address, port);
	return at;
}

static int bound(const char *address, const char *port, int type)
{
	struct addrinfo *at = resolve(address, port, type);
	int qd = -1;

	interop_must(demi_socket(&qd, at->ai_family, type, 0), "demi_socket");
	interop_must(demi_bind(qd, at->ai_addr, at->ai_addrlen), "demi_bind");
	freeaddrinfo(at);
	return qd;
}

int interop_listen(const char *address, const char *port, int backlog)
{
	int qd = bound(address, port, SOCK_STREAM);

	interop_must(demi_listen(qd, backlog), "demi_listen");
	return qd;
}

int interop_bind_udp(const char *address, const char *port)
{
	return bound(address, port, SOCK_DGRAM);
}

int interop_accept(int listener)
{
	demi_qtoken_t qt;

	interop_must(demi_accept(&qt, listener), "demi_accept");
	demi_qresult_t qr = interop_wait(qt);
	interop_must((int)qr.qr_ret, "accept");
	return qr.qr_value.ares.qd;
}

static int connecting(const char *address, const char *port, int type, int *qd_out)
{
	struct addrinfo *at = resolve(address, port, type);
	demi_qtoken_t qt;

	interop_must(demi_socket(qd_out, at->ai_family, type, 0), "demi_socket");
	interop_must(demi_connect(&qt, *qd_out, at->ai_addr, at->ai_addrlen), "demi_connect");
	freeaddrinfo(at);
	return (int)interop_wait(qt).qr_ret;
}

int interop_connect(const char *address, const char *port, int type)
{
	int qd = -1;

	interop_must(connecting(address, port, type, &qd), "connect");
	return qd;
}

int interop_connect_error(const char *address, const char *port)
{
	int qd = -1;
	int error = connecting(address, port, SOCK_STREAM, &qd);

	interop_close(qd);
	return error;
}

void interop_shut(int qd)
{
	interop_must(demi_shutdown(qd, SHUT_WR), "demi_shutdown");
}

void interop_close(int qd)
{
	interop_must(demi_close(qd), "demi_close");
}

/* ---- operations ---- */

demi_qresult_t interop_wait(demi_qtoken_t qt)
{
	demi_qresult_t qr;

	interop_must(demi_wait(&qr, qt, NULL), "demi_wait");
	return qr;
}

void interop_push(int qd, const void *bytes, size_t length)
{
	demi_sgarray_t sga = demi_sgaalloc(length);
	demi_qtoken_t qt;

	if (sga.sga_numsegs != 1)
		interop_fail("demi_sgaalloc of %zu bytes", length);
	memcpy(sga.sga_segs[0].sgaseg_buf, bytes, length);
	interop_must(demi_push(&qt, qd, &sga), "demi_push");
	interop_free(&sga);
	interop_must((int)interop_wait(qt).qr_ret, "push");
}

demi_sgarray_t interop_pop(int qd)
{
	demi_qtoken_t qt;

	interop_must(demi_pop(&qt, qd), "demi_pop");
	demi_qresult_t qr = interop_wait(qt);
	interop_must((int)qr.qr_ret, "pop");
	return qr.qr_value.sga;
}

void interop_free(demi_sgarray_t *sga)
{
	interop_must(demi_sgafree(sga), "demi_sgafree");
}

size_t interop_length(const demi_sgarray_t *sga)
{
	size_t length = 0;

	for (uint32_t i = 0; i < sga->sga_numsegs; i++)
		length += sga->sga_segs[i].sgaseg_len;
	return length;
}

void interop_read(int qd, void *out, size_t length)
{
	for (size_t done = 0; done < length;) {
		demi_sgarray_t sga = interop_pop(qd);
		size_t n = interop_length(&sga);
		if (n == 0 || n > length - done)
			interop_fail("%zu bytes, then %zu more; %zu are right", done, n, length);
		for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
			memcpy((char *)out + done, sga.sga_segs[i].sgaseg_buf,
			       sga.sga_segs[i].sgaseg_len);
			done += sga.sga_segs[i].sgaseg_len;
		}
		interop_free(&sga);
	}
}

/* ---- bytes ---- */

void interop_fill(uint64_t offset, void *out, size_t length)
{
	uint8_t *at = out;

	while (length > 0) {
		size_t from = (size_t)(offset % PATTERN_BYTES);
		size_t n = PATTERN_BYTES - from < length ? PATTERN_BYTES - from : length;
		memcpy(at, pattern + from, n);
		at += n;
		offset += n;
		length -= n;
	}
}

void interop_check(uint64_t offset, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	while (length > 0) {
		size_t from = (size_t)(offset % PATTERN_BYTES);
		size_t n = PATTERN_BYTES - from < length ? PATTERN_BYTES - from : length;
		if (memcmp(at, pattern + from, n) != 0)
			interop_fail("wrong bytes at %llu or behind", (unsigned long long)offset);
		at += n;
		offset += n;
		length -= n;
	}
}
