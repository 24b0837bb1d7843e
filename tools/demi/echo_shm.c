/* SPDX-License-Identifier: MIT
 * tools/demi/echo_shm.c - `--libos raw --device shm`: two processes that pass cache lines, with
 * nothing between: the floor of what messages by shared memory can cost.
 *
 * Echo: one line each way. A line is a payload and the number of its message, which the sender
 * stores last (release) and the receiver waits for (acquire): each pairs with the other's. One way:
 * a ring of such lines; a line is free for message n again when its number is n - RING, which the
 * receiver stores (release) after it has taken the payload, and the sender waits for (acquire).
 *
 * The memory is a memfd of the parent, zero at first; each end maps it.
 */
#include "echo_one_way.h"
#include "echo_rounds.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#define LINE_BYTES 64
#define APART      4 /* lines: the prefetcher takes two at a time */
#define ASK        0 /* index of the line to the server */
#define ANSWER     APART
#define RING_AT    64           /* index of its first line */
#define RING       512ULL       /* lines, a power of two; 32 KiB: the first-level cache */
#define OVER       (1ULL << 63) /* the number that ends the server: no message has it */

struct line {
	_Alignas(LINE_BYTES) _Atomic uint64_t number;
	uint8_t payload[ECHO_SHM_SIZE_MAX];
};

static_assert(sizeof(struct line) == LINE_BYTES, "one cache line");
static_assert((RING_AT + RING) * LINE_BYTES <= ECHO_SHM_BYTES, "the mapping");

static int map_lines(struct echo_end *end, struct line **lines)
{
	*lines = mmap(NULL, ECHO_SHM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, end->memory, 0);
	if (*lines == MAP_FAILED)
		return echo_fail(end, -errno, "memory: %s", strerror(errno));
	return 0;
}

/* Waits until the line has this number, or one that ends all; which. */
static inline uint64_t await(const struct line *line, uint64_t number)
{
	uint64_t found;

	do
		found = atomic_load_explicit(&line->number, memory_order_acquire);
	while (found != number && found != OVER);
	return found;
}

static inline void publish(struct line *line, uint64_t number)
{
	atomic_store_explicit(&line->number, number, memory_order_release);
}

/* ---- echo ---- */

int echo_shm_server(struct echo_end *end)
{
	uint8_t payload[ECHO_SHM_SIZE_MAX];
	struct line *lines;
	int error = map_lines(end, &lines);

	if (error)
		return error;
	echo_server_ready(end, 0);
	for (uint64_t number = 1; await(&lines[ASK], number) != OVER; number++) {
		memcpy(payload, lines[ASK].payload, sizeof(payload));
		memcpy(lines[ANSWER].payload, payload, sizeof(payload));
		publish(&lines[ANSWER], number);
	}
	return 0;
}

struct shm_client {
	struct line *lines;
	const uint8_t *pattern;
	size_t size;
};

static int exchange(void *arg, uint64_t number, bool checked)
{
	struct shm_client *client = arg;
	uint8_t answer[ECHO_SHM_SIZE_MAX];

	memcpy(client->lines[ASK].payload, client->pattern, sizeof(answer));
	publish(&client->lines[ASK], number + 1);
	await(&client->lines[ANSWER], number + 1);
	memcpy(answer, client->lines[ANSWER].payload, sizeof(answer));
	return checked && memcmp(answer, client->pattern, client->size) != 0 ? -EBADMSG : 0;
}

int echo_shm_client(struct echo_end *end)
{
	struct shm_client client = {.pattern = end->load.pattern, .size = end->spec->size};
	int error = map_lines(end, &client.lines);

	if (error)
		return error;
	error = echo_rounds_run(end, exchange, &client);
	publish(&client.lines[ASK], OVER);
	return error;
}

/* ---- one way ---- */

int echo_shm_sink(struct echo_end *end)
{
	uint8_t payload[ECHO_SHM_SIZE_MAX];
	struct line *lines;
	int error = map_lines(end, &lines);

	if (error)
		return error;
	for (uint64_t i = 0; i < RING; i++) /* free for the first time around */
		publish(&lines[RING_AT + i], i - RING);
	echo_server_ready(end, 0);
	for (uint64_t number = 0;; number++) {
		struct line *line = &lines[RING_AT + number % RING];

		if (await(line, number + 1) == OVER)
			break;
		memcpy(payload, line->payload, sizeof(payload));
		publish(line, number);
		echo_sink_check(end, number, payload);
		echo_sink_count(end, number + 1);
	}
	return 0;
}

static int put(void *arg, uint64_t number)
{
	struct shm_client *client = arg;
	struct line *line = &client->lines[RING_AT + number % RING];

	await(line, number - RING);
	memcpy(line->payload, client->pattern, sizeof(line->payload));
	memcpy(line->payload, &number, sizeof(number));
	publish(line, number + 1);
	return 0;
}

int echo_shm_source(struct echo_end *end)
{
	struct shm_client client = {.pattern = end->load.pattern};
	const struct echo_sender sender = {.send = put, .arg = &client};
	int error = map_lines(end, &client.lines);

	if (error)
		return error;
	error = echo_source_run(end, &sender);
	for (unsigned i = 0; i < RING; i++)
		publish(&client.lines[RING_AT + i], OVER);
	return error;
}
