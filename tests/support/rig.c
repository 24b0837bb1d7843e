/* tests/support/rig.c: see rig.h. */
#include "support/rig.h"

#include "base/bits.h"

#define START_NS 1000000000

static uint64_t now_ns(void *arg)
{
	struct rig *rig = arg;

	rig->now_ns += rig->step_ns;
	return rig->now_ns;
}

static void poller_flush(struct poller *poller, uint32_t more)
{
	struct rig *rig = container_of(poller, struct rig, poller);

	rig->flushes++;
	rig->doorbells += more < 2;
}

static uint32_t poller_poll(struct poller *poller)
{
	struct rig *rig = container_of(poller, struct rig, poller);

	rig->polls++;
	return rig->input ? rig->input(rig, rig->arg) : 0;
}

static int poller_arm(struct poller *poller)
{
	(void)poller;
	return 0;
}

static void poller_disarm(struct poller *poller)
{
	(void)poller;
}

static uint64_t poller_next_deadline(struct poller *poller)
{
	const struct rig *rig = container_of(poller, struct rig, poller);

	return rig->input ? rig->now_ns : TIMER_NEVER;
}

static const struct poller_ops poller_ops = {
	.flush = poller_flush,
	.poll = poller_poll,
	.arm = poller_arm,
	.disarm = poller_disarm,
	.next_deadline = poller_next_deadline,
};

static int64_t or_default(uint64_t value, int64_t instead)
{
	return value ? (int64_t)value : instead;
}

int rig_open(struct rig *rig, const struct rig_options *options)
{
	static const struct log log;
	const struct sched_world world = {.now_ns = now_ns, .arg = rig};
	const struct config config = {
		.idle = !options->adaptive,
		.operations_max = or_default(options->operations_max, 4096),
		.coroutines_max = or_default(options->coroutines_max, 64),
		.coroutine_stack_bytes = or_default(options->stack_bytes, 65536),
		.heap_max_bytes = or_default(options->heap_bytes, (int64_t)1 << 30),
		.send_limit_bytes = or_default(options->send_limit_bytes, 1048576),
		.huge_pages = PAGES_HUGE_NEVER,
	};

	*rig = (struct rig){
		.now_ns = START_NS,
		.step_ns = (uint64_t)or_default(options->step_ns, 1000),
		.poller = {.ops = &poller_ops},
	};
	int err = sched_open(&rig->sched, &config, &log, &world);
	if (!err)
		sched_add_poller(&rig->sched, &rig->poller);
	return err;
}

void rig_close(struct rig *rig)
{
	sched_remove_poller(&rig->sched, &rig->poller);
	sched_close(&rig->sched);
}

void rig_check(struct rig *rig)
{
	const struct coroutine_table *table = &rig->sched.coroutines;

	for (uint32_t i = 0; i < table->slots_end; i++)
		waitset_check(&rig->sched, &table->slots[i]->waits);
	heap_check(rig->sched.heap);
}
