/* tests/unit/blkdev_sim_test.c: the block device in memory does what every block device must. */
#include "support/blkdev_body.h"

#include "blkdev/sim/sim.h"

struct medium {
	struct blksim_options options;
	struct blksim_disk *disk;
};

static int sim_open(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	struct medium *medium = fixture->arg;

	medium->disk = blksim_disk_new(&medium->options);
	return medium->disk ? blksim_attach(medium->disk, sched, dev_out) : -ENOMEM;
}

static int sim_reopen(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	struct medium *medium = fixture->arg;

	(*dev_out)->ops->close(*dev_out);
	return blksim_attach(medium->disk, sched, dev_out);
}

static void sim_end(struct blkdev_fixture *fixture)
{
	struct medium *medium = fixture->arg;

	blksim_disk_free(medium->disk);
}

static int sim_fail(struct blkdev_fixture *fixture, struct blkdev *dev, bool reads, uint64_t offset)
{
	struct medium *medium = fixture->arg;
	const struct blksim_fault fault = {.offset = offset,
					   .bytes = dev->block_bytes,
					   .what = reads ? BLK_READ : BLK_WRITE,
					   .for_ever = true,
					   .err = -EIO};

	blksim_fail(medium->disk, &fault);
	return 0;
}

int main(void)
{
	static struct medium plain = {.options = {.capacity_bytes = 16 << 20, .seed = 1}};
	static struct medium slow = {.options = {.capacity_bytes = 16 << 20,
						 .capacity_max_bytes = 32 << 20,
						 .latency_ns = 20000,
						 .seed = 2,
						 .block_bytes = 512,
						 .depth = 7,
						 .volatile_cache = true}};
	static struct blkdev_fixture fixtures[] = {
		{.name = "plain", .arg = &plain},
		{.name = "slow", .arg = &slow},
	};
	struct CMUnitTest tests[2 * BLKDEV_BODY_TESTS];

	for (size_t i = 0; i < 2; i++) {
		fixtures[i].open = sim_open;
		fixtures[i].reopen = sim_reopen;
		fixtures[i].end = sim_end;
		fixtures[i].fail = sim_fail;
		blkdev_body_add(&fixtures[i], tests + i * BLKDEV_BODY_TESTS);
	}
	return test_run("blkdev_sim", tests);
}
