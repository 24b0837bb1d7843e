/* tests/support/shmrig.c: see shmrig.h. */
#include "support/shmrig.h"

#include "api/result.h"
#include "base/assert.h"

#include <stdlib.h>
#include <sys/socket.h>

#define QD 500

static struct shmrig *end_of(struct channel *channel)
{
	return channel_arg(channel);
}

static void close_if_told(struct shmrig *end)
{
	if (!end->closes)
		return;
	end->closes = false;
	channel_close(end->channel);
	end->channel = NULL;
}

static void joined(struct channel *channel, const void *hello, uint32_t bytes)
{
	struct shmrig *end = end_of(channel);

	end->joined++;
	end->hello_bytes = bytes;
	memcpy(end->hello, hello, bytes);
	close_if_told(end);
}

static void arrived(struct channel *channel, const struct channel_message *message)
{
	struct shmrig *end = end_of(channel);

	end->arrived++;
	if (end->leaves)
		return;
	free(end->taken);
	end->taken = malloc(message->bytes + 1);
	ASSERT(end->taken);
	end->message = *message;
	channel_take(channel, end->taken);
	close_if_told(end);
}

static void roomy(struct channel *channel)
{
	struct shmrig *end = end_of(channel);

	end->roomy++;
	close_if_told(end);
}

static void ended(struct channel *channel, int err)
{
	struct shmrig *end = end_of(channel);

	end->ended++;
	end->err = err;
	close_if_told(end);
}

static const struct channel_owner owner = {
	.joined = joined,
	.arrived = arrived,
	.roomy = roomy,
	.ended = ended,
};

int shmrig_channel(struct shmrig *end, const struct shmrig_options *options,
		   struct channel **channel_out)
{
	const struct channel_setup setup = {
		.owner = &owner,
		.arg = end,
		.qd = QD,
		.stream = options->stream,
		.private = options->private,
	};

	return channel_new(end->shm, &setup, channel_out);
}

int shmrig_open(struct shmrig *end, const struct shmrig_options *options)
{
	const struct rig_options rig = {.adaptive = options->adaptive,
					.heap_bytes = (uint64_t)1 << 31,
					.operations_max = 16384};

	memset(end, 0, sizeof(*end));
	int err = rig_open(&end->rig, &rig);
	if (err)
		return err;
	end->rig.sched.config.shm_lend_bytes = (int64_t)options->lend_bytes;
	err = shm_open_instance(&end->rig.sched, &end->shm);
	if (err) {
		rig_close(&end->rig);
		return err;
	}
	err = shmrig_channel(end, options, &end->channel);
	if (err) {
		shm_close_instance(end->shm);
		rig_close(&end->rig);
	}
	return err;
}

void shmrig_close(struct shmrig *end)
{
	if (end->channel)
		channel_close(end->channel);
	end->channel = NULL;
	shm_close_instance(end->shm);
	ASSERT(end->rig.sched.ops.used == 0);
	ASSERT(shmrig_objects(end) == 0);
	rig_check(&end->rig);
	rig_close(&end->rig);
	free(end->taken);
	end->taken = NULL;
}

void shmrig_turn(struct shmrig *end)
{
	if (end->channel)
		channel_check(end->channel);
	(void)sched_turn(&end->rig.sched);
	(void)fdset_wait(&end->rig.sched.fds, 0);
}

void shmrig_turns(struct shmrig *one, struct shmrig *other, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		shmrig_turn(one);
		shmrig_turn(other);
	}
}

void shmrig_join(struct shmrig *one, struct shmrig *other)
{
	int fds[2];

	ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	ASSERT(channel_connect(one->channel, fds[0], "one", 3) == 0);
	ASSERT(channel_connect(other->channel, fds[1], "other", 5) == 0);
	shmrig_turns(one, other, 4);
	ASSERT(one->joined == 1 && other->joined == 1);
}

struct op *shmrig_push(struct shmrig *end, const struct iovec *parts, uint32_t count)
{
	struct op *op = op_issue(&end->rig.sched, OP_PUSH, QD);
	demi_sgarray_t sga = {.sga_numsegs = count};

	ASSERT(op);
	for (uint32_t i = 0; i < count; i++) {
		sga.sga_segs[i].sgaseg_buf = parts[i].iov_base;
		sga.sga_segs[i].sgaseg_len = (uint32_t)parts[i].iov_len;
	}
	ASSERT(result_from_array(&end->rig.sched, op, &sga) == 0);
	ASSERT(channel_push(end->channel, op) == 0);
	return op;
}

struct op *shmrig_pop(struct shmrig *end)
{
	struct op *op = op_issue(&end->rig.sched, OP_POP, QD);

	ASSERT(op);
	ASSERT(channel_pop(end->channel, op) == 0);
	return op;
}

int64_t shmrig_ret(struct shmrig *end, struct op *op)
{
	struct sched *sched = &end->rig.sched;

	ASSERT(op_done(op));
	ASSERT(wait_take(sched, op->token) == op);
	int64_t ret = op->ret;
	op_free(&sched->ops, op);
	return ret;
}

uint64_t shmrig_take(struct shmrig *end, struct op *op, struct op *op_out,
		     struct iovec parts[OP_SEGMENTS_MAX])
{
	uint64_t bytes = 0;

	*op_out = *op;
	for (uint32_t i = 0; i < op->numsegs; i++) {
		parts[i] = op_segment(op, i);
		bytes += parts[i].iov_len;
	}
	ASSERT(shmrig_ret(end, op) == 0);
	return bytes;
}

void shmrig_free(struct shmrig *end, const struct iovec *parts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (parts[i].iov_base)
			ASSERT(heap_free_inside(end->rig.sched.heap, parts[i].iov_base) == 0);
	}
}

uint64_t shmrig_objects(const struct shmrig *end)
{
	struct heap_usage usage;

	heap_usage(end->rig.sched.heap, &usage);
	return usage.live_objects;
}
