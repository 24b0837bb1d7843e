/* tests/lab/nvme_test.c: QEMU's NVMe controller driven from here, by way of qtest: reset, identify,
 * a pair of I/O queues, a 4 KiB block written, flushed and read; errors that it is told to make;
 * and its surprise removal. NVM Express 1.4: registers 3.1, commands 5 and 6.
 */
#include "support/test.h"

#include "support/child.h"
#include "support/qtest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOT         4
#define MEMORY_BYTES ((size_t)16 << 20)
#define REGISTERS    0xe0000000ULL
#define DRIVE_BYTES  (8 << 20)
#define BLOCK        4096
#define ENTRIES      16
#define POLLS        2000 /* of 1 ms */

/* Where things are in the machine's memory: the queues of the administration, then those of I/O. */
#define QUEUES 0x100000
#define DATA   0x110000

enum { CAP = 0x00, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30, DOORBELLS = 0x1000 };

enum { CREATE_SQ = 0x01, CREATE_CQ = 0x05, IDENTIFY = 0x06 };

enum { FLUSH = 0x00, WRITE = 0x01, READ = 0x02 };

struct command {
	uint8_t opcode, flags;
	uint16_t id;
	uint32_t nsid, cdw2, cdw3;
	uint64_t metadata, prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

struct completion {
	uint32_t result, reserved;
	uint16_t sq_head, sq_id, id, status; /* status: bit 0 is the phase */
};

static struct {
	struct qtest qtest;
	char drive[32];
	unsigned tails[2], heads[2];
} bench;

/* Has a command done by queue pair 0 or 1; its status, without the phase; -1: no answer. */
static int run(unsigned queue, struct command command)
{
	uint8_t *base = bench.qtest.memory + QUEUES + (size_t)queue * 2 * BLOCK;
	unsigned tail = bench.tails[queue], head = bench.heads[queue];
	unsigned phase =
		head / ENTRIES % 2 == 0; /* it begins with 1 and changes each time around */
	volatile const struct completion *done =
		(const struct completion *)(base + BLOCK) + head % ENTRIES;

	((struct command *)base)[tail % ENTRIES] = command;
	bench.tails[queue] = ++tail;
	qtest_write32(&bench.qtest, REGISTERS + DOORBELLS + queue * 8, tail % ENTRIES);
	for (int i = 0; (done->status & 1) != phase; i++) {
		if (i == POLLS)
			return -1;
		(void)usleep(1000);
	}
	bench.heads[queue] = ++head;
	qtest_write32(&bench.qtest, REGISTERS + DOORBELLS + queue * 8 + 4, head % ENTRIES);
	return done->status >> 1;
}

static bool becomes_ready(uint32_t ready)
{
	for (int i = 0; i < POLLS; i++) {
		if ((qtest_read32(&bench.qtest, REGISTERS + CSTS) & 1) == ready)
			return true;
		(void)usleep(1000);
	}
	return false;
}

/* From power-on to a pair of I/O queues. */
static void bring_up(void)
{
	qtest_pci_enable(&bench.qtest, SLOT, REGISTERS);
	assert_int_equal(qtest_read64(&bench.qtest, REGISTERS + CAP) >> 32 & 15,
			 0); /* stride of doorbells */
	qtest_write32(&bench.qtest, REGISTERS + CC, 0);
	assert_true(becomes_ready(0));
	memset(bench.qtest.memory + QUEUES, 0, (size_t)4 * BLOCK);
	memset(bench.tails, 0, sizeof(bench.tails));
	memset(bench.heads, 0, sizeof(bench.heads));
	qtest_write32(&bench.qtest, REGISTERS + AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	qtest_write64(&bench.qtest, REGISTERS + ASQ, QUEUES);
	qtest_write64(&bench.qtest, REGISTERS + ACQ, QUEUES + BLOCK);
	qtest_write32(&bench.qtest, REGISTERS + CC,
		      4 << 20 | 6 << 16 | 1); /* entries of 16 and 64 bytes */
	assert_true(becomes_ready(1));
	assert_int_equal(run(0, (struct command){.opcode = CREATE_CQ,
						 .prp1 = QUEUES + 3 * BLOCK,
						 .cdw10 = (ENTRIES - 1) << 16 | 1,
						 .cdw11 = 1}),
			 0);
	assert_int_equal(run(0, (struct command){.opcode = CREATE_SQ,
						 .prp1 = QUEUES + 2 * BLOCK,
						 .cdw10 = (ENTRIES - 1) << 16 | 1,
						 .cdw11 = 1 << 16 | 1}),
			 0);
}

/* A machine with a drive, on which reads of its sector 4096 and writes of sector 8192 fail. */
static int set_up(void **state)
{
	char node[128];

	(void)state;
	bench.qtest.fd = bench.qtest.memory_fd = -1;
	(void)snprintf(bench.drive, sizeof(bench.drive), "/tmp/demi-nvme-XXXXXX");
	int fd = mkstemp(bench.drive);
	if (fd < 0 || ftruncate(fd, DRIVE_BYTES))
		return -1;
	(void)close(fd);
	if (qtest_missing())
		return 0;
	(void)snprintf(node, sizeof(node), "driver=file,node-name=file,filename=%s", bench.drive);
	static const char faults[] =
		"driver=blkdebug,node-name=drive,image=file,"
		"inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5,"
		"inject-error.0.sector=4096,inject-error.0.once=off,"
		"inject-error.1.event=none,inject-error.1.iotype=write,inject-error.1.errno=5,"
		"inject-error.1.sector=8192,inject-error.1.once=off";
	const char *const arguments[] = {"-blockdev", node,
					 "-blockdev", faults,
					 "-device",   "nvme,serial=TEST,drive=drive,addr=04.0",
					 NULL};
	return qtest_start(&bench.qtest, MEMORY_BYTES, arguments);
}

static int tear_down(void **state)
{
	(void)state;
	qtest_stop(&bench.qtest);
	return unlink(bench.drive);
}

#define NEED_QEMU                                      \
	do {                                           \
		if (qtest_missing())                   \
			skip_because(qtest_missing()); \
	} while (0)

static struct command io(uint8_t opcode, uint64_t sector)
{
	return (struct command){.opcode = opcode,
				.nsid = 1,
				.prp1 = DATA,
				.cdw10 = (uint32_t)sector,
				.cdw12 = BLOCK / 512 - 1};
}

static void test_identify(void **state)
{
	(void)state;
	NEED_QEMU;
	const uint8_t *data = bench.qtest.memory + DATA;
	bring_up();
	assert_int_equal(run(0, (struct command){.opcode = IDENTIFY, .prp1 = DATA, .cdw10 = 1}), 0);
	assert_memory_equal(data + 4, "TEST                ", 20); /* serial number */
	assert_memory_equal(data + 24, "QEMU NVMe Ctrl ", 15);     /* model */
	assert_int_equal(run(0, (struct command){.opcode = IDENTIFY, .nsid = 1, .prp1 = DATA}), 0);
	uint64_t blocks;
	memcpy(&blocks, data, sizeof(blocks));
	assert_int_equal(blocks, DRIVE_BYTES / 512);
	assert_int_equal(data[128 + (size_t)4 * (data[26] & 15) + 2], 9); /* blocks of 2^9 bytes */
}

static void test_write_flush_read(void **state)
{
	(void)state;
	NEED_QEMU;
	uint8_t *data = bench.qtest.memory + DATA;
	uint8_t wanted[BLOCK];
	bring_up();
	for (int round = 0; round < 3 * ENTRIES; round++) { /* the queues go round */
		for (int i = 0; i < BLOCK; i++)
			wanted[i] = (uint8_t)(i * 7 + (i >> 8) + round);
		memcpy(data, wanted, BLOCK);
		assert_int_equal(run(1, io(WRITE, (uint64_t)round * 8)), 0);
		assert_int_equal(run(1, (struct command){.opcode = FLUSH, .nsid = 1}), 0);
		memset(data, 0, BLOCK);
		assert_int_equal(run(1, io(READ, (uint64_t)round * 8)), 0);
		assert_memory_equal(data, wanted, BLOCK);
	}
	int fd = open(bench.drive, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, data, BLOCK, (off_t)(3 * ENTRIES - 1) * BLOCK), BLOCK);
	(void)close(fd);
	assert_memory_equal(data, wanted, BLOCK);
}

static void test_errors(void **state)
{
	(void)state;
	NEED_QEMU;
	bring_up();
	assert_int_equal(run(1, io(READ, 4096)) & 0x7ff, 0x281);  /* unrecovered read error */
	assert_int_equal(run(1, io(WRITE, 8192)) & 0x7ff, 0x280); /* write fault */
	assert_int_equal(run(1, io(READ, DRIVE_BYTES / 512)) & 0x7ff, 0x80); /* beyond the end */
	assert_int_equal(run(1, io(READ, 0)), 0);
}

static void test_removed(void **state)
{
	(void)state;
	NEED_QEMU;
	bring_up();
	test_kill(bench.qtest.pid);
	bench.qtest.pid = 0;
	assert_int_equal(qtest_read32(&bench.qtest, REGISTERS + CSTS), UINT32_MAX);
	qtest_write32(&bench.qtest, REGISTERS + CC, 0);
	assert_int_equal(qtest_pci_read(&bench.qtest, SLOT, 0), UINT32_MAX);
}

static void test_that_does_not_start(void **state)
{
	static const char *const arguments[] = {"-device", "nvme,drive=nothing", NULL};
	struct qtest qtest;

	(void)state;
	NEED_QEMU;
	assert_int_equal(qtest_start(&qtest, MEMORY_BYTES, arguments), -EPIPE);
	qtest_stop(&qtest);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identify, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_write_flush_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_removed, set_up, tear_down),
		cmocka_unit_test(test_that_does_not_start),
	};

	return test_run("nvme", tests);
}
