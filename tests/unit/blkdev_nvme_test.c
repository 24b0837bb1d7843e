/* tests/unit/blkdev_nvme_test.c: the NVMe driver, over QEMU's model of a controller: all that every
 * block device must do, and what goes wrong with controllers.
 */
#include "support/test.h"

#include "blkdev/nvme/data.h"
#include "blkdev/nvme/nvme.h"
#include "blkdev/nvme_status.h"
#include "blkdev/nvme_uring/nvme_uring.h"
#include "support/blkdev_body.h"
#include "support/child.h"
#include "support/nvme_qtest.h"
#include "support/qtest.h"
#include "support/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SLOT        4
#define DRIVE_BYTES (16 << 20)
#define BLOCK       4096
#define SECOND_NS   1000000000ULL

/* A machine with one controller on a file. */
struct machine {
	struct qtest qtest;
	const char *controller; /* properties, with a comma before each */
	const char *device;     /* the same, of the namespace */
	bool prp;               /* as a controller without scatter gather lists */
	const char *filter;     /* node "drive" on node "file"; NULL: it is a raw one */
	char path[32];
};

static int machine_start(struct machine *machine)
{
	char node[128], drive[96], controller[96];

	(void)snprintf(machine->path, sizeof(machine->path), "/tmp/demi-nvme-XXXXXX");
	int fd = mkstemp(machine->path);
	if (fd < 0)
		return -errno;
	int err = ftruncate(fd, DRIVE_BYTES) ? -errno : 0;
	(void)close(fd);
	(void)snprintf(node, sizeof(node), "driver=file,node-name=file,discard=unmap,filename=%s",
		       machine->path);
	(void)snprintf(controller, sizeof(controller), "nvme,id=c,serial=TEST,addr=04.0%s",
		       machine->controller);
	(void)snprintf(drive, sizeof(drive), "nvme-ns,drive=drive,bus=c%s", machine->device);
	const char *const arguments[] = {
		"-blockdev",
		node,
		"-blockdev",
		machine->filter ? machine->filter
				: "driver=raw,node-name=drive,file=file,discard=unmap",
		"-device",
		controller,
		"-device",
		drive,
		NULL};
	return err ? err : qtest_start(&machine->qtest, NVME_QTEST_MEMORY, arguments);
}

static void machine_stop(struct machine *machine)
{
	qtest_stop(&machine->qtest);
	(void)unlink(machine->path);
}

static void machine_kill(struct machine *machine)
{
	test_kill(machine->qtest.pid);
	machine->qtest.pid = 0;
}

static int attach(struct machine *machine, struct sched *sched, struct blkdev **dev_out)
{
	struct nvme_bus *bus;
	int err = nvme_qtest_open(&machine->qtest, sched->heap, SLOT, &bus);

	if (!err)
		err = nvme_attach(sched, bus, 1, dev_out);
	if (!err && machine->prp) {
		nvme_of(*dev_out)->has_sgl = false;
		(*dev_out)->memory_align = (*dev_out)->block_bytes;
	}
	return err;
}

/* ---- what every block device must do ---- */

static int body_open(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	int err = machine_start(fixture->arg);

	return err ? err : attach(fixture->arg, sched, dev_out);
}

static int body_reopen(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	(*dev_out)->ops->close(*dev_out);
	return attach(fixture->arg, sched, dev_out);
}

static void body_end(struct blkdev_fixture *fixture)
{
	machine_stop(fixture->arg);
}

static void body_pull(struct blkdev_fixture *fixture, struct blkdev *dev)
{
	(void)dev;
	machine_kill(fixture->arg);
}

/* ---- one device, for the tests below ---- */

static struct {
	struct machine machine;
	struct rig rig;
	struct blkdev *dev;
	uint32_t under_way;
} bench;

struct errand {
	struct blk_request request;
	struct iovec iov;
	uint32_t done;
};

static void task_done(struct blk_request *request)
{
	container_of(request, struct errand, request)->done++;
	bench.under_way--;
}

static void submit(struct errand *errand, enum blk_what what, uint64_t offset, void *at,
		   uint64_t bytes)
{
	struct blk_request *request = &errand->request;

	errand->iov = (struct iovec){.iov_base = at, .iov_len = bytes};
	errand->done = 0;
	*request = (struct blk_request){.what = (uint8_t)what,
					.num_iov = at != NULL,
					.iov = &errand->iov,
					.offset = offset,
					.bytes = bytes,
					.done = task_done,
					.err = 1};
	bench.under_way++;
	assert_int_equal(bench.dev->ops->submit(bench.dev, &request, 1), 1);
}

static uint64_t real_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static void finish(void)
{
	uint64_t late = real_ns() + 30 * SECOND_NS;

	while (bench.under_way > 0) {
		(void)sched_now(&bench.rig.sched);
		(void)bench.dev->ops->poll(bench.dev);
		assert_true(real_ns() < late);
	}
}

static int run(enum blk_what what, uint64_t offset, void *at, uint64_t bytes)
{
	struct errand errand;

	submit(&errand, what, offset, at, bytes);
	finish();
	assert_int_equal(errand.done, 1);
	return errand.request.err;
}

static struct nvme *begin(const char *filter)
{
	bench.machine = (struct machine){.controller = "", .device = "", .filter = filter};
	assert_int_equal(machine_start(&bench.machine), 0);
	assert_int_equal(rig_open(&bench.rig, &(struct rig_options){.step_ns = 100}), 0);
	assert_int_equal(attach(&bench.machine, &bench.rig.sched, &bench.dev), 0);
	return nvme_of(bench.dev);
}

static void end(void)
{
	assert_int_equal(bench.under_way, 0);
	bench.dev->ops->close(bench.dev);
	rig_check(&bench.rig);
	rig_close(&bench.rig);
	machine_stop(&bench.machine);
}

static char *memory(uint64_t bytes, int value)
{
	char *at = heap_alloc_aligned(bench.rig.sched.heap, BLOCK, bytes);

	assert_non_null(at);
	memset(at, value, bytes);
	return at;
}

static void give_back(void *at)
{
	assert_int_equal(heap_free(bench.rig.sched.heap, at), 0);
}

#define NEED_QEMU                                      \
	do {                                           \
		if (qtest_missing())                   \
			skip_because(qtest_missing()); \
	} while (0)

static bool all(const char *at, uint64_t bytes, int value)
{
	for (uint64_t i = 0; i < bytes; i++) {
		if (at[i] != (char)value)
			return false;
	}
	return true;
}

/* ---- the tests ---- */

static const char faults[] =
	"driver=blkdebug,node-name=drive,image=file,"
	"inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5,"
	"inject-error.0.sector=4096,inject-error.0.once=off,"
	"inject-error.1.event=none,inject-error.1.iotype=write,inject-error.1.errno=5,"
	"inject-error.1.sector=8192,inject-error.1.once=off,"
	"inject-error.2.event=none,inject-error.2.iotype=write,inject-error.2.errno=28,"
	"inject-error.2.sector=12288,inject-error.2.once=off,"
	"inject-error.3.event=none,inject-error.3.iotype=flush,inject-error.3.errno=5,"
	"inject-error.3.once=on";

static void test_faults(void **state)
{
	(void)state;
	NEED_QEMU;
	(void)begin(faults);
	char *at = memory(2 * BLOCK, 1);
	assert_int_equal(run(BLK_WRITE, 4096 * 512, at, BLOCK), 0);
	assert_int_equal(run(BLK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(run(BLK_WRITE, 4096 * 512, at, BLOCK), 0);
	assert_int_equal(run(BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(run(BLK_READ, 4096 * 512, at, BLOCK), -EIO);
	assert_int_equal(run(BLK_READ, 4095 * 512, at, BLOCK), -EIO);
	assert_int_equal(run(BLK_WRITE, 8192 * 512, at, BLOCK), -EIO);
	assert_int_equal(run(BLK_READ, 8192 * 512, at, BLOCK), 0);
	assert_int_equal(run(BLK_WRITE, 12288 * 512, at, BLOCK), -EIO);
	give_back(at);
	end();
}

/* Segments that pages do not allow go without a copy where there are scatter gather lists. */
static void test_no_copies(void **state)
{
	(void)state;
	NEED_QEMU;
	struct nvme *nvme = begin(NULL);
	assert_true(nvme->has_sgl);
	char *at = memory(16 * (size_t)BLOCK, 0);
	struct nvme_slot slot = {.list = memory(BLOCK, 0), .list_address = BLOCK};
	struct iovec iov[2] = {{at + 1, 700}, {at + 5000, 324}};
	struct blk_request request = {.what = BLK_WRITE, .num_iov = 2, .iov = iov, .bytes = 1024};
	slot.request = &request;
	assert_true(nvme_data_direct(nvme, &slot));
	assert_int_equal(slot.command.flags, NVME_FLAG_SGL);
	nvme->has_sgl = false;
	assert_false(nvme_data_direct(nvme, &slot));
	iov[0] = (struct iovec){at + BLOCK - 512, 512};
	iov[1] = (struct iovec){at + 2 * BLOCK, 2 * BLOCK + 512};
	slot.command.flags = 0;
	assert_true(nvme_data_direct(nvme, &slot));
	assert_int_equal(slot.command.flags, 0);
	const uint64_t *list = slot.list;
	assert_int_equal(slot.command.prp[1], BLOCK);
	assert_int_equal(list[0] + BLOCK, list[1]);
	assert_int_equal(list[1] + BLOCK, list[2]);
	assert_int_equal(slot.command.prp[0] + 512 + BLOCK, list[0]);
	give_back(slot.list);
	give_back(at);
	end();
}

static void test_shadow_doorbells(void **state)
{
	(void)state;
	NEED_QEMU;
	const struct nvme *nvme = begin(NULL);
	char *at = memory(BLOCK, 7);
	assert_true(nvme->has_shadow);
	assert_non_null(nvme->io.submitted.shadow);
	for (uint64_t i = 0; i < 600; i++) /* the rings go round */
		assert_int_equal(run(i % 2 ? BLK_READ : BLK_WRITE, i / 2 * BLOCK, at, BLOCK), 0);
	assert_int_equal(*nvme->io.submitted.shadow, nvme->io.tail);
	give_back(at);
	end();
}

static void test_reset(void **state)
{
	(void)state;
	NEED_QEMU;
	struct nvme *nvme = begin(NULL);
	struct errand errands[32];
	char *at = memory(32 * (size_t)BLOCK, 3);
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < 32; i++) {
			if (i == 16)
				nvme_reset(nvme, "the test wants it");
			submit(&errands[i], round % 2 ? BLK_READ : BLK_WRITE, i * BLOCK,
			       at + i * (size_t)BLOCK, BLOCK);
		}
		finish();
		for (uint32_t i = 0; i < 32; i++)
			assert_int_equal(errands[i].request.err, 0);
		assert_true(all(at, 32 * (size_t)BLOCK, 3));
		assert_int_equal(nvme->state, NVME_RUNNING);
	}
	assert_true(nvme->has_shadow);
	give_back(at);
	end();
}

/* Twice reset, a request ends with an error. */
static void test_reset_twice(void **state)
{
	(void)state;
	NEED_QEMU;
	struct nvme *nvme = begin(NULL);
	struct errand errand;
	char *at = memory(BLOCK, 3);
	submit(&errand, BLK_WRITE, 0, at, BLOCK);
	for (uint32_t i = 0; i < 2; i++) {
		struct nvme_slot *slot = &nvme->slots[nvme->free[nvme->num_free]];
		slot->state = SLOT_SENT;
		nvme_reset(nvme, "the test wants it");
		while (nvme->state != NVME_RUNNING) { /* as poll does, but puts nothing out */
			(void)sched_now(&bench.rig.sched);
			nvme_turn(nvme);
		}
		assert_int_equal(slot->state, i == 0 ? SLOT_HELD : SLOT_OVER);
	}
	finish();
	assert_int_equal(errand.request.err, -EIO);
	assert_int_equal(run(BLK_WRITE, 0, at, BLOCK), 0);
	give_back(at);
	end();
}

/* What the controller is not asked for: a reset, and what was under way is done all the same. */
static void test_bad_completion(void **state)
{
	(void)state;
	NEED_QEMU;
	struct nvme *nvme = begin(NULL);
	char *at = memory(BLOCK, 5);
	for (uint32_t i = 0; i < 4; i++) {
		struct nvme_queue *io = &nvme->io;
		struct errand errand;
		io->submitted.rung = io->tail + 1; /* the controller does not see it */
		submit(&errand, BLK_WRITE, 0, at, BLOCK);
		uint16_t id = nvme->slots[nvme->free[nvme->num_free]].id;
		volatile struct nvme_completion *entry = &io->completions[io->head];
		/* No such slot; one that is free; an older use; no such place in the ring. */
		const uint16_t ids[] = {0xffff, id ^ 1, id ^ 0x100, id};
		entry->sq_head = i == 3 ? 9999 : 0;
		entry->id = ids[i];
		entry->status = io->phase;
		(void)bench.dev->ops->poll(bench.dev);
		assert_int_not_equal(nvme->state, NVME_RUNNING);
		assert_int_equal(errand.done, 0);
		finish();
		assert_int_equal(errand.request.err, 0);
		assert_int_equal(nvme->state, NVME_RUNNING);
	}
	give_back(at);
	end();
}

/* Has the driver see a completion of what the controller does not know of. */
static void forge(struct nvme *nvme, struct errand *errand, uint16_t status)
{
	struct nvme_queue *io = &nvme->io;
	struct nvme_queue before;
	struct nvme_slot *slot;

	before = *io;
	if (errand) {
		io->submitted.rung = io->tail + 1;
		submit(errand, BLK_WRITE, 0, errand->iov.iov_base, BLOCK);
	} else { /* once more */
		io->submitted.rung = io->tail + 1;
		bench.rig.now_ns += SECOND_NS;
		(void)sched_now(&bench.rig.sched);
		(void)bench.dev->ops->poll(bench.dev);
	}
	slot = &nvme->slots[nvme->free[nvme->num_free]];
	assert_int_equal(slot->state, SLOT_SENT);
	volatile struct nvme_completion *entry = &io->completions[io->head];
	entry->id = slot->id;
	entry->sq_head = 0;
	entry->status = (uint16_t)(status << 1 | io->phase);
	io->taken.rung = io->head + 1;
	(void)bench.dev->ops->poll(bench.dev);
	entry->status = (uint16_t)!before.phase;
	*io = before;
}

/* A namespace that is not ready is asked again, some times. */
static void test_not_ready(void **state)
{
	(void)state;
	NEED_QEMU;
	struct nvme *nvme = begin(NULL);
	struct errand errand = {.iov.iov_base = memory(BLOCK, 5)};
	forge(nvme, &errand, 0x82);
	assert_int_equal(errand.done, 0);
	forge(nvme, NULL, 0x82);
	assert_int_equal(errand.done, 0);
	finish();
	assert_int_equal(errand.request.err, 0);
	forge(nvme, &errand, 0x82);
	for (uint32_t i = 1; i <= 5; i++) {
		assert_int_equal(errand.done, 0);
		forge(nvme, NULL, 0x82);
	}
	assert_int_equal(errand.request.err, -EIO);
	forge(nvme, &errand, 0x4082); /* do not retry */
	assert_int_equal(errand.request.err, -EIO);
	forge(nvme, &errand, 0x81);
	assert_int_equal(errand.request.err, -ENOSPC);
	assert_int_equal(run(BLK_WRITE, 0, errand.iov.iov_base, BLOCK), 0);
	assert_int_equal(nvme->state, NVME_RUNNING);
	give_back(errand.iov.iov_base);
	end();
}

/* A completion that does not come. */
static void test_late(void **state)
{
	(void)state;
	NEED_QEMU;
	struct nvme *nvme = begin(NULL);
	struct errand errand;
	char *at = memory(BLOCK, 5);
	/* A command that the controller never sees: its doorbell is not rung. */
	nvme->io.submitted.rung = nvme->io.tail + 1;
	submit(&errand, BLK_WRITE, 0, at, BLOCK);
	assert_int_equal(nvme->num_sent, 1);
	bench.rig.now_ns += 29 * SECOND_NS;
	(void)sched_now(&bench.rig.sched);
	(void)bench.dev->ops->poll(bench.dev);
	assert_int_equal(nvme->state, NVME_RUNNING);
	assert_int_equal(errand.done, 0);
	bench.rig.now_ns += 2 * SECOND_NS;
	assert_true(bench.dev->ops->next_deadline(bench.dev) <= bench.rig.now_ns);
	(void)sched_now(&bench.rig.sched);
	(void)bench.dev->ops->poll(bench.dev);
	assert_int_equal(nvme->state, NVME_STOPPING);
	finish();
	assert_int_equal(errand.request.err, 0);
	memset(at, 0, BLOCK);
	assert_int_equal(run(BLK_READ, 0, at, BLOCK), 0);
	assert_true(all(at, BLOCK, 5));
	give_back(at);
	end();
}

/* Nothing is under way when it goes; and it goes during a reset. */
static void test_removed(void **state)
{
	(void)state;
	NEED_QEMU;
	for (uint32_t during_reset = 0; during_reset < 2; during_reset++) {
		struct nvme *nvme = begin(NULL);
		char *at = memory(BLOCK, 5);
		if (during_reset)
			nvme_reset(nvme, "the test wants it");
		machine_kill(&bench.machine);
		assert_int_equal(run(BLK_WRITE, 0, at, BLOCK), -ENODEV);
		assert_int_equal(run(BLK_FLUSH, 0, NULL, 0), -ENODEV);
		assert_int_equal(run(BLK_READ, 0, at, BLOCK), -ENODEV);
		assert_int_equal(bench.dev->ops->next_deadline(bench.dev), TIMER_NEVER);
		give_back(at);
		end();
	}
}

static void test_no_namespace(void **state)
{
	(void)state;
	NEED_QEMU;
	struct nvme_bus *bus;
	bench.machine = (struct machine){.controller = "", .device = ""};
	assert_int_equal(machine_start(&bench.machine), 0);
	assert_int_equal(rig_open(&bench.rig, &(struct rig_options){0}), 0);
	struct heap *heap = bench.rig.sched.heap;
	assert_int_equal(nvme_qtest_open(&bench.machine.qtest, heap, SLOT, &bus), 0);
	assert_int_equal(nvme_attach(&bench.rig.sched, bus, 2, &bench.dev), -ENODEV);
	assert_int_equal(nvme_qtest_open(&bench.machine.qtest, heap, SLOT, &bus), 0);
	machine_kill(&bench.machine);
	assert_int_equal(nvme_attach(&bench.rig.sched, bus, 1, &bench.dev), -ENODEV);
	rig_close(&bench.rig);
	machine_stop(&bench.machine);
}

static int compare(const void *a, const void *b)
{
	const uint64_t *first = a, *second = b;

	return *first < *second ? -1 : *first > *second;
}

/* How long a read takes, for people. */
static void test_latency(void **state)
{
	static uint64_t times[2000];

	(void)state;
	NEED_QEMU;
	(void)begin(NULL);
	char *at = memory(BLOCK, 5);
	for (uint32_t i = 0; i < ARRAY_LENGTH(times); i++) {
		uint64_t before = real_ns();
		assert_int_equal(run(BLK_READ, 0, at, BLOCK), 0);
		times[i] = real_ns() - before;
	}
	qsort(times, ARRAY_LENGTH(times), sizeof(times[0]), compare);
	printf("# a read of 4 KiB: p50 %lu ns\n", (unsigned long)times[ARRAY_LENGTH(times) / 2]);
	give_back(at);
	end();
}

static void test_status(void **state)
{
	bool again;

	(void)state;
	assert_int_equal(nvme_status_error(0, &again), 0);
	assert_int_equal(nvme_status_error(0x281, &again), -EIO);
	assert_false(again);
	assert_int_equal(nvme_status_error(0x81, &again), -ENOSPC);
	assert_int_equal(nvme_status_error(0x2, &again), -EINVAL);
	assert_int_equal(nvme_status_error(0x82, &again), -EIO);
	assert_true(again);
	assert_int_equal(nvme_status_error(0x4082, &again), -EIO); /* do not retry */
	assert_false(again);
	assert_int_equal(nvme_status_error(0x7ff, &again), -EIO);
}

/* Not one of these opens anything. */
static void test_paths(void **state)
{
	static const char *const bad[] = {"",
					  "/1",
					  "nonsense",
					  "0000:01:00.0/0",
					  "0000:01:00.0/x",
					  "0000:01:00.0/4294967295",
					  "../../../../../../tmp/0000:01:00.0",
					  "0000:ff:1f.7",
					  "0000:ff:1f.7/2"};

	(void)state;
	assert_int_equal(rig_open(&bench.rig, &(struct rig_options){0}), 0);
	for (uint32_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		const struct blkdev_place place = {.path = bad[i], .flags = O_RDWR};
		int err = nvme_open_configured(&bench.rig.sched, &place, &bench.dev);
		assert_true(err == -EINVAL || err == -ENODEV);
	}
	rig_close(&bench.rig);
}

/* What is no character device of a namespace. */
static void test_not_generic(void **state)
{
	static const char *const bad[] = {"", "/dev/null", "/dev/ng99n99", "/",
					  "/proc/self/status"};

	(void)state;
	assert_int_equal(rig_open(&bench.rig, &(struct rig_options){0}), 0);
	for (uint32_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		const struct blkdev_place place = {.path = bad[i], .flags = O_RDONLY};
		assert_true(nvme_uring_open(&bench.rig.sched, &place, &bench.dev) < 0);
	}
	rig_close(&bench.rig);
}

static struct machine machines[] = {
	{.controller = "", .device = ",logical_block_size=512"},
	{.controller = "", .device = ",logical_block_size=4096,physical_block_size=4096"},
	{.controller = ",mdts=4", .device = ",logical_block_size=512", .prp = true},
};

static struct blkdev_fixture fixtures[] = {
	{.name = "512",
	 .open = body_open,
	 .reopen = body_reopen,
	 .end = body_end,
	 .pull = body_pull,
	 .arg = &machines[0]},
	{.name = "4096",
	 .open = body_open,
	 .reopen = body_reopen,
	 .end = body_end,
	 .pull = body_pull,
	 .arg = &machines[1]},
	{.name = "PRP",
	 .open = body_open,
	 .reopen = body_reopen,
	 .end = body_end,
	 .pull = body_pull,
	 .arg = &machines[2]},
};

#define OWN    14
#define BODIES (ARRAY_LENGTH(fixtures) * BLKDEV_BODY_TESTS)

int main(void)
{
	struct CMUnitTest tests[BODIES + OWN] = {
		[BODIES] = cmocka_unit_test(test_status),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_not_generic),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_no_copies),
		cmocka_unit_test(test_shadow_doorbells),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_reset_twice),
		cmocka_unit_test(test_bad_completion),
		cmocka_unit_test(test_not_ready),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_removed),
		cmocka_unit_test(test_no_namespace),
		cmocka_unit_test(test_latency),
	};

	for (uint32_t i = 0; i < ARRAY_LENGTH(fixtures); i++) {
		fixtures[i].skip = qtest_missing();
		blkdev_body_add(&fixtures[i], &tests[i * BLKDEV_BODY_TESTS]);
	}
	return test_run("blkdev_nvme", tests);
}
