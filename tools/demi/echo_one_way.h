/* SPDX-License-Identifier: MIT
 * tools/demi/echo_one_way.h - messages that are not answered: how many a second one process gives
 * another.
 *
 * Each carries its number in its first 8 bytes.  The server counts what came in the mapping that
 * both ends share; the client's time ends when all that it sent is counted there.
 */
#pragma once

#include "echo.h"

#include <string.h>

/* How a client sends the message of a number, and what it does while it waits until all are
 * received: whatever its library has to do for that.  0 or -errno. */
struct echo_sender {
	int (*send)(void *arg, uint64_t number);
	int (*poll)(void *arg); /* NULL: nothing */
	void *arg;
};

/* Client: sends messages for the warm-up and for the timed part.  0 or the first error. */
int echo_source_run(struct echo_end *end, const struct echo_sender *sender);

/* Server: checks that a message is the next one. */
static inline void echo_sink_check(struct echo_end *end, uint64_t expected, const void *message)
{
	uint64_t number;

	memcpy(&number, message, sizeof(number));
	if (number != expected)
		atomic_fetch_add_explicit(&end->shared->received.damaged, 1, memory_order_relaxed);
}

/* Server: so many have come since the run's begin.  Release: pairs with the acquire of the client's
 * await_all. */
static inline void echo_sink_count(struct echo_end *end, uint64_t messages)
{
	atomic_store_explicit(&end->shared->received.messages, messages, memory_order_release);
}

/* Server, messages in a stream: bytes came, of which *total were there before. */
void echo_sink_bytes(struct echo_end *end, uint64_t *total, const uint8_t *bytes, size_t length);
