/* tests/support/blkdev_body.h: what every block device must do, as one list of tests that the test
 * of each device runs over it.
 *
 *	static struct blkdev_fixture file = {.name = "file", .open = file_open, ...};
 *	struct CMUnitTest tests[BLKDEV_BODY_TESTS + 1] = {
 *		[BLKDEV_BODY_TESTS] = cmocka_unit_test(test_own)};
 *
 *	blkdev_body_add(&file, tests);
 *	return test_run("blkdev_file", tests);
 */
#pragma once

#include "blkdev/blkdev.h"
#include "support/test.h"

#include <stdbool.h>
#include <stdint.h>

#define BLKDEV_BODY_TESTS 19

struct blkdev_fixture {
	const char *name;
	/* A device of at least 8 MiB, all zero; its file, daemon, controller ... is made anew. 0 or
	 * -errno. */
	int (*open)(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out);
	/* Gives up the device (with what is under way) and opens the same place again: what was
	 * written must be there. 0 or -errno. */
	int (*reopen)(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out);
	/* Ends what open made besides the device, which was closed. NULL: nothing. */
	void (*end)(struct blkdev_fixture *fixture);
	/* Has reads (writes) of the block at offset fail from now on, by the device. NULL: this
	 * kind of device has no way to. 0 or -errno; -ENOTSUP: not those. */
	int (*fail)(struct blkdev_fixture *fixture, struct blkdev *dev, bool reads,
		    uint64_t offset);
	/* The device is gone: pulled out, its daemon killed. What is under way must end with an
	 * error, and what is submitted then too. NULL: cannot be. */
	void (*pull)(struct blkdev_fixture *fixture, struct blkdev *dev);
	void *arg;
	bool busy;        /* the instance never sleeps */
	const char *skip; /* why it cannot be tested here; NULL: it can */
	char names[BLKDEV_BODY_TESTS][64];
};

/* blkdev_body_add: puts all tests over that device into a table, for cmocka. */
void blkdev_body_add(struct blkdev_fixture *fixture, struct CMUnitTest *tests);

/* blkdev_body: runs all tests over it in this process; 0, or how many failed. Prints TAP. */
int blkdev_body(struct blkdev_fixture *fixture);

/* For a test's own requests: done is NULL then. */
void blkdev_body_done(struct blk_request *request);

/* One durable request of one piece, waited for.  Its error. */
int blkdev_body_run(struct blkdev *dev, enum blk_what what, uint64_t offset,
		    const struct iovec *iov);
