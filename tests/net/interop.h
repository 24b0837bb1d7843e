/* SPDX-License-Identifier: MIT
 * tests/net/interop.h - what the programs share that stand for our side in interop_test.py: an
 * instance, connections, and the bytes that both sides know.
 *
 * A function that returns has worked; otherwise the program says what failed and ends with
 * status 1. It ends by itself after INTEROP_SECONDS.
 */
#pragma once

#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define INTEROP_SECONDS 90

/* error: 0 or a positive errno. */
void interop_must(int error, const char *what);
/* Ends the program. */
__attribute__((noreturn, format(printf, 1, 2))) void interop_fail(const char *format, ...);

void interop_begin(void);
/* Ends the instance. */
void interop_end(void);

/* Sockets at numeric addresses. */
int interop_listen(const char *address, const char *port, int backlog);
int interop_bind_udp(const char *address, const char *port);
int interop_accept(int listener);
int interop_connect(const char *address, const char *port, int type);
/* Tries to connect, and returns how it failed, a positive errno; 0: it did not. */
int interop_connect_error(const char *address, const char *port);

/* The result of an operation. */
demi_qresult_t interop_wait(demi_qtoken_t qt);

void interop_push(int qd, const void *bytes, size_t length);
/* One pop.  The end of the stream is an array of 0 bytes. */
demi_sgarray_t interop_pop(int qd);
void interop_free(demi_sgarray_t *sga);
size_t interop_length(const demi_sgarray_t *sga);
/* Pops so many bytes of a stream, no more. */
void interop_read(int qd, void *out, size_t length);

/* No more is sent. */
void interop_shut(int qd);
void interop_close(int qd);

/* Byte i of the stream that is sent in every direction. */
void interop_fill(uint64_t offset, void *out, size_t length);
void interop_check(uint64_t offset, const void *bytes, size_t length);
