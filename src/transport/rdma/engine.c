/* SPDX-License-Identifier: MIT
 * transport/rdma/engine.c - the engine and its poll: completions, credit words, rdma_cm's events.
 *
 * Completions are looked for in every turn, without a system call.  rdma_cm's events cost one, so
 * they are looked for now and then, and whenever the instance sleeps.
 */
#include "transport/rdma/rdma.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define BATCHES 4 /* of completions in a turn: others have theirs, too */

static struct rdma_engine *engine_of(struct poller *poller)
{
	return container_of(poller, struct rdma_engine, engine.poller);
}

/* ---- the turn ---- */

/* What is behind a whole batch. */
static __attribute__((noinline)) uint32_t take_more(struct rdma_engine *re)
{
	uint32_t total = 0;

	for (uint32_t batch = 1; total == (batch - 1) * RDMA_BATCH && batch < BATCHES; batch++)
		total += rdma_take_batch(re);
	return total;
}

static inline uint32_t take_completions(struct rdma_engine *re)
{
	uint32_t n = rdma_take_batch(re);

	return unlikely(n == RDMA_BATCH) ? n + take_more(re) : n;
}

static bool waits_still(const struct rdma_conn *conn)
{
	return conn->announced != conn->released || !op_list_empty(&conn->pushes) ||
	       (conn->end_wanted && !conn->end_sent) || conn->closing;
}

static __attribute__((noinline)) uint32_t look_at_words(struct rdma_engine *re)
{
	uint32_t happened = 0;

	list_for_each_safe (node, after, &re->waiting) {
		struct rdma_conn *conn = container_of(node, struct rdma_conn, waits);
		uint32_t granted = conn->granted;
		uint32_t done = conn->done;
		rdma_look_at_word(conn);
		bool news = conn->granted != granted || conn->done != done;
		happened += news;
		/* An end is tried again: the device may have refused it. */
		if (news || conn->end_wanted)
			rdma_conn_more(conn);
		if (!waits_still(conn))
			list_remove(&conn->waits);
	}
	return happened;
}

static bool owes_still(const struct rdma_conn *conn)
{
	return conn->untold || conn->told_done != conn->in_done ||
	       rdma_due(conn) >= conn->due_enough;
}

/* What no message of the last turn has told. */
static __attribute__((noinline)) uint32_t pay(struct rdma_engine *re)
{
	uint32_t happened = 0;

	list_for_each_safe (node, after, &re->owing) {
		struct rdma_conn *conn = container_of(node, struct rdma_conn, owes);
		bool can = conn->untold || conn->told_done != conn->in_done || re->ungranted > 0;
		if (owes_still(conn) && can)
			happened += rdma_write_word(conn, false);
		if (!owes_still(conn) || conn->state != RDMA_OPEN)
			list_remove(&conn->owes);
	}
	return happened;
}

/* Queue pairs end: all is there of them when the completion queue is seen empty. */
static uint32_t drain(struct rdma_engine *re)
{
	uint32_t n = rdma_take_batch(re);

	if (n < RDMA_BATCH)
		rdma_conns_drain(re);
	return n;
}

/* Something is set up or torn down. */
static __attribute__((noinline)) uint32_t look_at_changing(struct rdma_engine *re)
{
	uint32_t happened = 0;

	if (re->device.context && !list_empty(&re->draining))
		happened += drain(re);
	if (rdma_sched(re)->now_ns - re->looked_ns >= RDMA_EAGER_NS)
		happened += rdma_cm_poll(re);
	return happened;
}

static uint32_t rdma_poll(struct poller *poller)
{
	struct rdma_engine *re = engine_of(poller);
	uint32_t happened = 0;

	if (likely(re->device.context)) {
		/* first: nobody waits for that, but for what has come */
		if (unlikely(re->post_wanted >= RDMA_SLACK))
			(void)rdma_post_receives(re, RDMA_SLACK);
		if (unlikely(!list_empty(&re->owing)))
			happened += pay(re);
		happened += take_completions(re);
		if (unlikely(!list_empty(&re->waiting)))
			happened += look_at_words(re);
	}
	if (unlikely(re->num_changing > 0))
		happened += look_at_changing(re);
	else if (unlikely(rdma_sched(re)->now_ns - re->looked_ns >= RDMA_EVENTS_NS))
		happened += rdma_cm_poll(re);
	return happened;
}

static void rdma_flush(struct poller *poller, uint32_t more)
{
	(void)poller; /* pushes were posted as they were made */
	(void)more;
}

/* ---- sleeping ---- */

static int rdma_arm(struct poller *poller)
{
	struct rdma_engine *re = engine_of(poller);
	uint32_t happened = 0;

	if (!re->device.context)
		return 0;
	happened += pay(re);
	int err = ibv_req_notify_cq(re->device.cq, 0);
	if (err)
		return err > 0 ? -err : -EIO;
	/* What came before that wakes nobody. */
	happened += take_completions(re);
	happened += look_at_words(re);
	return happened > 0 ? -EAGAIN : 0;
}

static void rdma_disarm(struct poller *poller)
{
	(void)poller; /* one completion more wakes us, once */
}

/* A peer's write into a credit word wakes nobody. */
static uint64_t rdma_next_deadline(struct poller *poller)
{
	const struct rdma_engine *re = engine_of(poller);

	if (list_empty(&re->waiting) && list_empty(&re->owing) && list_empty(&re->draining))
		return TIMER_NEVER;
	return rdma_sched(re)->now_ns + RDMA_WAIT_NS;
}

static const struct poller_ops rdma_poller = {
	.flush = rdma_flush,
	.poll = rdma_poll,
	.arm = rdma_arm,
	.disarm = rdma_disarm,
	.next_deadline = rdma_next_deadline,
};

/* ---- life ---- */

static int watch_events(struct rdma_engine *re)
{
	int fd = re->channel->fd;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	re->events = (struct fd_watch){.fd = fd, .lazy = true, .fn = rdma_cm_readable};
	return fdset_add(&rdma_sched(re)->fds, &re->events, EPOLLIN);
}

static void init_engine(struct rdma_engine *re, struct sched *sched, const struct rdma_verbs *verbs)
{
	re->engine.ops = &rdma_engine_ops;
	re->engine.poller = (struct poller){.ops = &rdma_poller, .looks = true};
	re->engine.sched = sched;
	re->verbs = verbs;
	list_init(&re->conns);
	list_init(&re->over);
	list_init(&re->listeners);
	list_init(&re->waiting);
	list_init(&re->owing);
	list_init(&re->draining);
}

int rdma_open(struct sched *sched, const struct rdma_verbs *verbs, struct engine **engine_out)
{
	struct rdma_engine *re = calloc(1, sizeof(*re));

	if (!re)
		return -ENOMEM;
	init_engine(re, sched, verbs);
	re->channel = verbs->create_event_channel();
	int err = re->channel ? watch_events(re) : rdma_errno();
	if (err) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "rdma: rdma_cm cannot be used (is the module rdma_ucm there?)");
		if (re->channel)
			verbs->destroy_event_channel(re->channel);
		free(re);
		return err;
	}
	*engine_out = &re->engine;
	return 0;
}

static void rdma_close(struct engine *engine)
{
	struct rdma_engine *re = rdma_engine_of(engine);
	struct sched *sched = engine->sched;

	if (re->num_lingering > 0) {
		sched->counters.drops[DROP_LINGER] += re->num_lingering;
		log_write(&sched->log, LOG_LEVEL_WARNING,
			  "%u closed connections had unsent data when the time to linger was over "
			  "(linger_ms: %lld)",
			  re->num_lingering, (long long)sched->config.linger_ms);
	}
	rdma_datagrams_end(re, -ECANCELED);
	while (!list_empty(&re->conns))
		rdma_conn_destroy(container_of(re->conns.next, struct rdma_conn, in_engine));
	if (re->device.context)
		rdma_device_close(re);
	fdset_remove(&sched->fds, &re->events);
	re->verbs->destroy_event_channel(re->channel);
	free(re);
}

static uint32_t rdma_lingering(struct engine *engine)
{
	return rdma_engine_of(engine)->num_lingering;
}

static void count_states(const struct rdma_engine *re, struct engine_info *info)
{
	static const char *const names[] = {
		[RDMA_RESOLVING] = "resolving", [RDMA_CONNECTING] = "connecting",
		[RDMA_ACCEPTING] = "accepting", [RDMA_OPEN] = "connected",
		[RDMA_DRAINING] = "draining",   [RDMA_OVER] = "over",
	};

	static_assert(RDMA_OVER < ENGINE_STATES_MAX, "a place for each state");
	info->num_states = RDMA_OVER + 1;
	for (uint32_t i = 0; i <= RDMA_OVER; i++)
		info->states[i].name = names[i];
	list_for_each (node, &re->conns)
		info->states[container_of(node, struct rdma_conn, in_engine)->state].count++;
}

static void rdma_describe(struct engine *engine, struct engine_info *info)
{
	const struct rdma_engine *re = rdma_engine_of(engine);
	const struct rdma_device *device = &re->device;

	*info = (struct engine_info){
		.device = device->context ? device->context->device->name : "none yet",
		.mode = device->windows ? "windows" : "regions",
		.tx_segments = device->sge_max > 0 ? device->sge_max - 1 : 0,
	};
	count_states(re, info);
}

/* The engine of a world that brings verbs of its own. */
static int open_in_world(struct sched *sched, struct engine **engine_out)
{
	return rdma_open(sched, sched->world.engine_arg, engine_out);
}

const struct engine_ops rdma_engine_ops = {
	.name = "catmint",
	.open = open_in_world,
	.close = rdma_close,
	.lingering = rdma_lingering,
	.describe = rdma_describe,
	.socket = &rdma_socket_ops,
};
