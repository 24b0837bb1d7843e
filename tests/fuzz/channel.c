/* SPDX-License-Identifier: MIT
 * tests/fuzz/channel.c - a channel whose peer does what the input says: no crash, no hang, no leak,
 * and no read or write outside of what the peer gave.
 *
 * The input is a list of steps, a byte each and what follows it: messages of the peer, good or not;
 * words of its memory overwritten, in the middle of things; turns, pushes and pops of ours.  If its
 * first byte is odd, it begins with the greeting, as it is.
 */
#include "support/shmpeer.h"

#include "base/assert.h"

#include <stdlib.h>
#include <sys/socket.h>

#define OPS_MAX   64
#define STEPS_MAX 400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at;
	size_t left;
};

struct play {
	struct shmrig end;
	struct shmpeer peer;
	struct op *ops[OPS_MAX];
	uint32_t num_ops;
};

/* ---- input ---- */

static uint64_t take(struct input *input, uint32_t bytes)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < bytes && input->left > 0; i++, input->left--)
		value |= (uint64_t)*input->at++ << (8 * i);
	return value;
}

static void take_bytes(struct input *input, void *to, size_t bytes)
{
	size_t some = bytes < input->left ? bytes : input->left;

	memset(to, 0, bytes);
	memcpy(to, input->at, some);
	input->at += some;
	input->left -= some;
}

/* ---- the peer ---- */

static void send_message(struct play *play, struct input *input)
{
	char lines[RING_INLINE_MAX];
	uint8_t kind = (uint8_t)take(input, 1);
	uint8_t form = (uint8_t)take(input, 1);
	uint32_t bytes = (uint32_t)take(input, 2);

	memset(lines, 0, sizeof(lines));
	take_bytes(input, lines, take(input, 1) % 130);
	shmpeer_send(&play->peer, kind, form, bytes, lines);
}

static void overwrite(struct play *play, struct input *input)
{
	uint64_t word = take(input, 2) % (sizeof(struct ring_shared) / 8);
	uint64_t value = take(input, 8);

	memcpy((char *)play->peer.own + word * 8, &value, sizeof(value));
}

/* ---- our end ---- */

static void push(struct play *play, uint32_t bytes)
{
	struct heap *heap = play->end.rig.sched.heap;
	struct iovec part = {.iov_len = bytes};

	if (play->num_ops == OPS_MAX || bytes == 0)
		return;
	part.iov_base = heap_alloc(heap, bytes);
	if (!part.iov_base)
		return;
	memset(part.iov_base, 1, bytes);
	play->ops[play->num_ops++] = shmrig_push(&play->end, &part, 1);
	shmrig_free(&play->end, &part, 1);
}

static void pop(struct play *play)
{
	if (play->num_ops < OPS_MAX)
		play->ops[play->num_ops++] = shmrig_pop(&play->end);
}

static void cancel(struct play *play, uint32_t which)
{
	if (play->num_ops > 0 && !op_done(play->ops[which % play->num_ops]))
		channel_cancel(play->end.channel, play->ops[which % play->num_ops]);
}

/* Reads all of what a pop got, and frees it. */
static void spend(struct shmrig *end, struct op *op)
{
	struct iovec parts[OP_SEGMENTS_MAX];
	uint32_t count = op->numsegs;
	bool popped = op->opcode == OP_POP && op->ret == 0;
	volatile uint8_t sum = 0;

	for (uint32_t i = 0; i < count && popped; i++) {
		parts[i] = op_segment(op, i);
		for (uint64_t n = 0; n < parts[i].iov_len; n++)
			sum = (uint8_t)(sum + ((const uint8_t *)parts[i].iov_base)[n]);
	}
	(void)shmrig_ret(end, op);
	if (popped)
		shmrig_free(end, parts, count);
}

static void spend_done(struct play *play)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < play->num_ops; i++) {
		if (op_done(play->ops[i]))
			spend(&play->end, play->ops[i]);
		else
			play->ops[kept++] = play->ops[i];
	}
	play->num_ops = kept;
}

static void sleep_once(struct play *play)
{
	struct poller *poller = &play->end.shm->poller;

	if (poller->ops->arm(poller) == 0)
		poller->ops->disarm(poller);
}

/* ---- steps ---- */

static void step(struct play *play, struct input *input)
{
	struct channel *channel = play->end.channel;

	switch (take(input, 1) % 16) {
	case 0:
		pop(play);
		break;
	case 1:
		push(play, (uint32_t)take(input, 2));
		break;
	case 2:
		push(play, (uint32_t)take(input, 3) % 300000);
		break;
	case 3:
	case 4:
		send_message(play, input);
		break;
	case 5:
		overwrite(play, input);
		break;
	case 6:
		shmpeer_return(&play->peer, (uint32_t)take(input, 1));
		break;
	case 7:
		shmpeer_wake(&play->peer);
		break;
	case 8:
		play->peer.own->borrows = 1;
		break;
	case 9:
		cancel(play, (uint32_t)take(input, 1));
		break;
	case 10:
		play->end.leaves = take(input, 1) % 2;
		break;
	case 11:
		sleep_once(play);
		break;
	case 12: {
		struct channel_message message;
		if (channel_next(channel, &message))
			channel_take(channel, NULL);
		break;
	}
	case 13:
		switch (take(input, 1) % 8) {
		case 0:
			channel_shut(channel);
			break;
		case 1:
			channel_deafen(channel);
			break;
		case 2:
			shmpeer_leave(&play->peer);
			break;
		default:
			spend_done(play);
		}
		break;
	default:
		shmrig_turn(&play->end);
	}
}

/* The peer greets as the input says; false: it did not become one. */
static bool greet(struct play *play, struct input *input)
{
	struct greeting greeting = shmpeer_greeting();
	int fds[2];

	if (take(input, 1) % 2 == 0) {
		shmpeer_join(&play->peer, &play->end);
		return true;
	}
	take_bytes(input, &greeting, sizeof(greeting));
	ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	play->peer.fd = fds[1];
	ASSERT(channel_connect(play->end.channel, fds[0], "", 0) == 0);
	ASSERT(greeting_send(fds[1], &greeting, play->peer.memory_fd,
			     take(input, 1) % 2 ? play->peer.heap_fd : -1) == 0);
	for (uint32_t i = 0; i < 3; i++)
		shmrig_turn(&play->end);
	return play->end.joined > 0;
}

static void end_play(struct play *play)
{
	channel_close(play->end.channel);
	play->end.channel = NULL;
	shmpeer_leave(&play->peer);
	for (uint32_t i = 0; i < 4; i++)
		shmrig_turn(&play->end);
	for (uint32_t i = 0; i < play->num_ops; i++) {
		ASSERT(op_done(play->ops[i]));
		spend(&play->end, play->ops[i]);
	}
	ASSERT(list_empty(&play->end.shm->hot) && list_empty(&play->end.shm->cold));
	shmrig_close(&play->end);
	shmpeer_close(&play->peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct play play;
	struct input input = {.at = data, .left = size};
	const struct shmrig_options options = {.lend_bytes = (uint64_t)4 << 20,
					       .private = take(&input, 1) % 2,
					       .stream = take(&input, 1) % 2};

	play.num_ops = 0;
	ASSERT(shmrig_open(&play.end, &options) == 0);
	shmpeer_open(&play.peer);
	if (greet(&play, &input)) {
		for (uint32_t i = 0; i < STEPS_MAX && input.left > 0; i++)
			step(&play, &input);
	}
	end_play(&play);
	return 0;
}
