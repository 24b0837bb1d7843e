/* SPDX-License-Identifier: MIT
 * tests/net/storage_test.c - logs by the public API on a real file: alone, beside sockets in one
 * instance, with several readers, several logs on a device, sleeping waits, coroutines, closing and
 * opening again; by io_uring and by a thread.
 */
#include "support/net.h"

#include "api/instance.h"
#include "support/child.h"

#include <demi/storage.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/demi-storage-XXXXXX";
static char path[64];

static const struct demi_args args;

static int setup(void **state)
{
	const char *driver = *state;

	(void)snprintf(path, sizeof(path), "%s/a.log", directory);
	(void)unlink(path);
	assert_int_equal(demi_set_config("storage_driver", driver), 0);
	assert_int_equal(demi_set_config("storage_segment_bytes", "1048576"), 0);
	return net_init(state);
}

static int teardown(void **state)
{
	int err = net_fini(state);

	assert_int_equal(demi_set_config("storage_device", NULL), 0);
	assert_int_equal(demi_set_config("idle", NULL), 0);
	return err;
}

static int open_log(const char *name, int flags)
{
	int qd = -1;

	assert_int_equal(demi_open(&qd, name, flags, 0600), 0);
	return qd;
}

static demi_qresult_t wait_for(demi_qtoken_t qt)
{
	static const struct timespec bound = {.tv_sec = NET_WAIT_S};
	demi_qresult_t qr;

	assert_int_equal(demi_wait(&qr, qt, &bound), 0);
	return qr;
}

/* ---- records: a number, and bytes made of it ---- */

static demi_qtoken_t push(int qd, uint32_t number, uint32_t bytes)
{
	demi_sgarray_t sga = demi_sgaalloc(bytes);
	demi_qtoken_t qt = 0;

	assert_int_equal(sga.sga_numsegs, 1);
	memset(sga.sga_segs[0].sgaseg_buf, (int)number & 255, bytes);
	memcpy(sga.sga_segs[0].sgaseg_buf, &number, sizeof(number));
	assert_int_equal(demi_push(&qt, qd, &sga), 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	return qt;
}

static off_t append(int qd, uint32_t number, uint32_t bytes)
{
	demi_qresult_t qr = wait_for(push(qd, number, bytes));

	assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
	assert_true(qr.qr_ret > 0);
	return qr.qr_ret;
}

static uint32_t take(demi_qresult_t *qr)
{
	demi_sgarray_t sga = qr->qr_value.sga;
	uint32_t number;

	assert_int_equal(qr->qr_opcode, DEMI_OPC_POP);
	assert_int_equal(sga.sga_numsegs, 1);
	assert_true(sga.sga_segs[0].sgaseg_len >= sizeof(number));
	const unsigned char *data = sga.sga_segs[0].sgaseg_buf;
	memcpy(&number, data, sizeof(number));
	for (uint32_t i = 4; i < sga.sga_segs[0].sgaseg_len; i++)
		assert_int_equal(data[i], number & 255);
	assert_int_equal(demi_sgafree(&sga), 0);
	return number;
}

static void expect(int qd, uint32_t number)
{
	demi_qtoken_t qt;

	assert_int_equal(demi_pop(&qt, qd), 0);
	demi_qresult_t qr = wait_for(qt);
	assert_int_equal(take(&qr), number);
}

static void expect_end(int qd)
{
	static const struct timespec soon = {.tv_nsec = 20000000};
	demi_qtoken_t qt;
	demi_qresult_t qr;

	assert_int_equal(demi_pop(&qt, qd), 0);
	assert_int_equal(demi_wait(&qr, qt, &soon), ETIMEDOUT);
	assert_int_equal(demi_cancel(qt), 0);
	assert_int_equal(wait_for(qt).qr_ret, ECANCELED);
}

/* ---- the tests ---- */

static void test_alone(void **state)
{
	demi_qtoken_t qts[64];
	off_t at;
	struct stat file;

	(void)state;
	int qd;
	assert_int_equal(demi_open(&qd, path, O_RDWR, 0), ENOENT);
	qd = open_log(path, O_RDWR | O_CREAT | O_EXCL);
	assert_int_equal(stat(path, &file), 0);
	assert_int_equal(file.st_mode & 0777, 0600);
	for (uint32_t i = 0; i < 10; i++)
		(void)append(qd, i, 4 + i * 5000);
	for (uint32_t i = 0; i < 64; i++)
		qts[i] = push(qd, 10 + i, 64 + i * 900);
	for (uint32_t i = 0; i < 64; i++)
		assert_true(wait_for(qts[i]).qr_ret > 0);
	for (uint32_t i = 0; i < 74; i++)
		expect(qd, i);
	expect_end(qd);
	assert_int_equal(demi_lseek(qd, 0, SEEK_SET, &at), 0);
	expect(qd, 0);
	assert_int_equal(demi_close(qd), 0);
	qd = open_log(path, O_RDONLY);
	for (uint32_t i = 0; i < 74; i++)
		expect(qd, i);
	expect_end(qd);
	assert_int_equal(demi_close(qd), 0);
}

static void test_created_anew(void **state)
{
	int qd;

	(void)state;
	assert_int_equal(demi_creat(&qd, path, 0600), 0);
	(void)append(qd, 1, 100);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_open(&qd, path, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	assert_int_equal(demi_creat(&qd, path, 0600), 0);
	demi_qtoken_t qt;
	assert_int_equal(demi_pop(&qt, qd), EBADF);
	(void)append(qd, 2, 100);
	int reader = open_log(path, O_RDONLY);
	expect(reader, 2);
	expect_end(reader);
	assert_int_equal(demi_close(reader), 0);
	assert_int_equal(demi_close(qd), 0);
}

/* Who only read stand in a writer's way while they do, and no longer. */
static void test_reader_first(void **state)
{
	int qd = open_log(path, O_RDWR | O_CREAT);
	int other;

	for (uint32_t i = 0; i < 40; i++)
		(void)append(qd, i, 20000);
	(void)net_fini(state);
	assert_int_equal(net_init(state), 0);
	qd = open_log(path, O_RDONLY);
	assert_int_equal(demi_open(&other, path, O_RDWR, 0), EBUSY);
	for (uint32_t i = 0; i < 20; i++)
		expect(qd, i);
	assert_int_equal(demi_close(qd), 0); /* it was reading ahead */
	qd = open_log(path, O_RDWR);
	(void)append(qd, 40, 20000);
	for (uint32_t i = 0; i < 41; i++)
		expect(qd, i);
	assert_int_equal(demi_close(qd), 0);
}

/* Three readers, each where it is, while the writer goes on and truncates. */
static void test_readers(void **state)
{
	int writer = open_log(path, O_RDWR | O_CREAT);
	int readers[3];
	off_t at[300];

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		readers[i] = open_log(path, O_RDONLY);
	for (uint32_t i = 0; i < 300; i++) {
		at[i] = append(writer, i, 20000);
		expect(readers[0], i);
		if (i % 2)
			expect(readers[1], i / 2);
	}
	demi_qtoken_t qt;
	assert_int_equal(demi_truncate(&qt, readers[0], at[200]), EBADF);
	assert_int_equal(demi_truncate(&qt, writer, at[200]), 0);
	demi_qresult_t qr = wait_for(qt);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_TRUNCATE);
	assert_int_equal(qr.qr_ret, 0);
	expect_end(readers[0]);
	for (uint32_t i = 1; i < 3; i++) { /* its records are gone */
		off_t head;
		assert_int_equal(demi_pop(&qt, readers[i]), 0);
		assert_int_equal(wait_for(qt).qr_ret, ESTALE);
		assert_int_equal(demi_lseek(readers[i], 0, SEEK_SET, &head), 0);
		assert_int_equal(head, at[200]);
		expect(readers[i], 200);
	}
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(demi_close(readers[i]), 0);
	assert_int_equal(demi_close(writer), 0);
}

static void test_names(void **state)
{
	static const char *const names[] = {"orders", "payments", "audit"};
	int qds[3];
	int other;
	char long_name[80];

	(void)net_fini(state);
	assert_int_equal(demi_set_config("storage_device", path), 0);
	assert_int_equal(net_init(state), 0);
	for (uint32_t i = 0; i < 3; i++)
		qds[i] = open_log(names[i], O_RDWR | O_CREAT);
	for (uint32_t n = 0; n < 200; n++) {
		for (uint32_t i = 0; i < 3; i++)
			(void)append(qds[i], 1000 * i + n, 4000);
	}
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(demi_close(qds[i]), 0);
	(void)net_fini(state);
	assert_int_equal(net_init(state), 0);
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[79] = 0;
	assert_int_equal(demi_open(&other, long_name, O_RDWR | O_CREAT, 0), ENAMETOOLONG);
	assert_int_equal(demi_open(&other, "none", O_RDWR, 0), ENOENT);
	assert_int_equal(demi_open(&other, "audit", O_RDWR | O_CREAT | O_EXCL, 0), EEXIST);
	for (uint32_t i = 0; i < 3; i++) {
		qds[i] = open_log(names[i], O_RDWR);
		for (uint32_t n = 0; n < 200; n++)
			expect(qds[i], 1000 * i + n);
		expect_end(qds[i]);
	}
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(demi_close(qds[i]), 0);
}

static void test_another_instance(void **state)
{
	struct demi *second;
	int qd = open_log(path, O_RDWR | O_CREAT);
	int other;

	(void)append(qd, 1, 100);
	(void)net_fini(state); /* only instances of demi_create can be left */
	struct demi *first;
	assert_int_equal(demi_create(&first, &args), 0);
	assert_int_equal(demi_create(&second, &args), 0);
	assert_int_equal(demi_enter(first), 0);
	qd = open_log(path, O_RDWR);
	assert_int_equal(demi_enter(second), 0);
	assert_int_equal(demi_open(&other, path, O_RDWR, 0), EBUSY);
	assert_int_equal(demi_open(&other, path, O_RDONLY, 0), EBUSY);
	assert_int_equal(demi_enter(first), 0);
	(void)append(qd, 2, 100);
	assert_int_equal(demi_destroy(first), 0);
	assert_int_equal(demi_enter(second), 0);
	other = open_log(path, O_RDWR);
	expect(other, 1);
	expect(other, 2);
	assert_int_equal(demi_destroy(second), 0);
	assert_int_equal(net_init(state), 0);
}

/* ---- what `demi stat` is told ---- */

static char *document(struct demi *demi)
{
	size_t bytes;
	char *text = stat_document(demi, 0, &bytes);

	assert_non_null(text);
	return text;
}

/* The row of a table ("logs", "drives", "queues") that has this text; it ends with its brace. */
static void find_row(const char *text, const char *table, const char *with, char *row, size_t room)
{
	const char *at = strstr(text, table);

	assert_non_null(at);
	const char *end = strstr(at, "]");
	for (at = strchr(at, '{'); at && at < end; at = strchr(at + 1, '{')) {
		(void)snprintf(row, room, "%.*s", (int)(strchr(at, '}') - at), at);
		if (strstr(row, with))
			return;
	}
	fail_msg("no %s with %s in %s", table, with, text);
}

static unsigned long long number(const char *row, const char *key)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "\"%s\":", key);
	const char *at = strstr(row, name);
	if (!at)
		fail_msg("no %s in %s", key, row);
	return strtoull(at + strlen(name), NULL, 10);
}

static void expect_row(const char *text, const char *table, const char *with, const char *member)
{
	char row[2048];

	find_row(text, table, with, row, sizeof(row));
	if (!strstr(row, member))
		fail_msg("no %s in %s", member, row);
}

/* Three logs on one device, one with two queues; each record is a batch of its own. */
static void test_stat(void **state)
{
	char row[2048];
	char drive[96];

	char *text = document(thread_state.current);
	assert_non_null(strstr(text, "\"logs\":[],\"drives\":[],"));
	free(text);
	(void)net_fini(state);
	assert_int_equal(demi_set_config("storage_device", path), 0);
	assert_int_equal(net_init(state), 0);
	int orders = open_log("orders", O_RDWR | O_CREAT);
	int audit = open_log("audit \"1\"", O_WRONLY | O_CREAT);
	int reader = open_log("orders", O_RDONLY);
	for (uint32_t i = 0; i < 7; i++)
		(void)append(orders, i, 100);
	(void)append(audit, 1, 40);
	expect(reader, 0);
	expect(reader, 1);
	text = document(thread_state.current);
	find_row(text, "\"logs\":", "\"name\":\"orders\"", row, sizeof(row));
	assert_int_equal(number(row, "queues"), 2);
	assert_int_equal(number(row, "records"), 7);
	assert_int_equal(number(row, "appended"), 7);
	assert_int_equal(number(row, "appended_bytes"), 700);
	assert_int_equal(number(row, "batches"), 7);
	assert_non_null(strstr(row, "\"records_per_batch\":1.00"));
	assert_int_equal(number(row, "popped"), 2);
	assert_int_equal(number(row, "popped_bytes"), 200);
	assert_int_equal(number(row, "pushes_failed"), 0);
	assert_int_equal(number(row, "lost_at_opening"), 0);
	find_row(text, "\"logs\":", "\"name\":\"audit \\\"1\\\"\"", row, sizeof(row));
	assert_int_equal(number(row, "appended"), 1);
	assert_int_equal(number(row, "appended_bytes"), 40);
	(void)snprintf(drive, sizeof(drive), "\"path\":\"%s\",\"driver\":\"%s\"", path,
		       (const char *)*state);
	find_row(text, "\"drives\":", drive, row, sizeof(row));
	assert_true(number(row, "durable_writes") >= 8);
	assert_true(number(row, "writes") >= number(row, "durable_writes"));
	assert_true(number(row, "written_bytes") >= number(row, "writes") * 512);
	assert_int_equal(number(row, "used_bytes"), 2 << 20);
	assert_int_equal(number(row, "errors"), 0);
	(void)snprintf(drive, sizeof(drive), "\"qd\":%d,", reader);
	expect_row(text, "\"queues\":", drive, "\"name\":\"orders\"");
	expect_row(text, "\"queues\":", drive, "\"elements\":5,");
	(void)snprintf(drive, sizeof(drive), "\"qd\":%d,", audit);
	expect_row(text, "\"queues\":", drive, "\"elements\":0,"); /* it cannot pop */
	free(text);
	assert_int_equal(demi_close(orders), 0);
	assert_int_equal(demi_close(audit), 0);
	assert_int_equal(demi_close(reader), 0);
}

/* Who is answered for many pushes and makes another for each has them in one batch, not the first
 * of them in one of its own. */
static void test_one_batch(void **state)
{
	demi_qtoken_t qt[16];
	char row[2048];

	(void)state;
	int qd = open_log(path, O_RDWR | O_CREAT);
	for (uint32_t i = 0; i < 16; i++)
		qt[i] = push(qd, i, 100);
	for (uint32_t i = 0; i < 16; i++) {
		(void)wait_for(qt[i]);
		qt[i] = push(qd, 16 + i, 100);
	}
	for (uint32_t i = 0; i < 16; i++)
		(void)wait_for(qt[i]);
	char *text = document(thread_state.current);
	find_row(text, "\"logs\":", "\"appended\":32", row, sizeof(row));
	assert_int_equal(number(row, "batches"), 2);
	free(text);
	assert_int_equal(demi_close(qd), 0);
}

/* Each instance tells of its own. */
static void test_stat_of_several(void **state)
{
	struct demi *instances[2];
	char paths[2][80];

	(void)net_fini(state); /* only instances of demi_create can be left */
	for (uint32_t i = 0; i < 2; i++) {
		(void)snprintf(paths[i], sizeof(paths[i]), "%s.%u", path, i);
		assert_int_equal(demi_create(&instances[i], &args), 0);
		assert_int_equal(demi_enter(instances[i]), 0);
		int qd = open_log(paths[i], O_RDWR | O_CREAT);
		for (uint32_t n = 0; n <= i; n++)
			(void)append(qd, n, 100);
	}
	for (uint32_t i = 0; i < 2; i++) {
		char row[2048];
		char *text = document(instances[i]);
		find_row(text, "\"logs\":", paths[i], row, sizeof(row));
		assert_int_equal(number(row, "appended"), i + 1);
		assert_null(strstr(text, paths[1 - i]));
		free(text);
		assert_int_equal(demi_enter(instances[i]), 0);
		assert_int_equal(demi_destroy(instances[i]), 0);
		assert_int_equal(unlink(paths[i]), 0);
	}
	assert_int_equal(net_init(state), 0);
}

/* The paper's echo with a log: what was popped is logged as it is, and sent when that is durable.
 */
static void test_with_sockets(void **state)
{
	struct net_pair pair = net_tcp_pair(AF_INET);
	int qd = open_log(path, O_RDWR | O_CREAT);

	(void)state;
	for (uint32_t i = 0; i < 200; i++) {
		demi_qtoken_t qts[2];
		demi_qresult_t qr;
		int ready;
		(void)wait_for(push(pair.client, i, 1 + 4 + i * 7));
		assert_int_equal(demi_pop(&qts[0], pair.server), 0);
		assert_int_equal(demi_pop(&qts[1], pair.client), 0);
		assert_int_equal(demi_wait_any(&qr, &ready, qts, 2, NULL), 0);
		assert_int_equal(ready, 0);
		demi_sgarray_t sga = qr.qr_value.sga;
		assert_int_equal(demi_push(&qts[0], qd, &sga), 0);
		assert_int_equal(demi_wait_any(&qr, &ready, qts, 2, NULL), 0);
		assert_int_equal(ready, 0);
		assert_true(qr.qr_ret > 0);
		assert_int_equal(demi_push(&qts[0], pair.server, &sga), 0);
		assert_int_equal(demi_sgafree(&sga), 0);
		qr = wait_for(qts[1]);
		assert_int_equal(take(&qr), i);
		(void)wait_for(qts[0]);
	}
	for (uint32_t i = 0; i < 200; i++)
		expect(qd, i);
	assert_int_equal(demi_close(qd), 0);
	net_close_pair(&pair);
}

/* An instance that sleeps wakes for its drive. */
static void test_sleeping(void **state)
{
	(void)net_fini(state);
	assert_int_equal(demi_set_config("spin_us", "0"), 0);
	assert_int_equal(net_init(state), 0);
	int qd = open_log(path, O_RDWR | O_CREAT);
	for (uint32_t i = 0; i < 100; i++)
		(void)append(qd, i, 100);
	for (uint32_t i = 0; i < 100; i++)
		expect(qd, i);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_set_config("spin_us", NULL), 0);
}

/* What was pushed and not waited for is written when the instance ends. */
static void test_ends(void **state)
{
	int qd = open_log(path, O_RDWR | O_CREAT);

	for (uint32_t i = 0; i < 50; i++)
		(void)push(qd, i, 3000);
	demi_flush();
	(void)net_fini(state);
	assert_int_equal(net_init(state), 0);
	qd = open_log(path, O_RDWR);
	for (uint32_t i = 0; i < 50; i++)
		expect(qd, i);
	expect_end(qd);
	/* Closed and opened again at once: the log was still ending. */
	for (uint32_t i = 50; i < 80; i++) {
		(void)push(qd, i, 3000);
		demi_flush();
		assert_int_equal(demi_close(qd), 0);
		qd = open_log(path, O_RDWR);
	}
	for (uint32_t i = 0; i < 80; i++)
		expect(qd, i);
	expect_end(qd);
	assert_int_equal(demi_close(qd), 0);
}

/* A path names what is there now: not the file that was removed, nor that of another directory. */
static void test_replaced(void **state)
{
	char other[80];
	char *here = getcwd(NULL, 0);
	int qd = open_log(path, O_RDWR | O_CREAT);

	(void)state;
	(void)append(qd, 1, 100);
	assert_int_equal(unlink(path), 0);
	int second;
	assert_int_equal(demi_open(&second, path, O_RDWR, 0), ENOENT);
	second = open_log(path, O_RDWR | O_CREAT | O_EXCL);
	(void)append(second, 2, 100);
	(void)append(qd, 3, 100); /* the removed one goes on */
	expect(second, 2);
	expect_end(second);
	expect(qd, 1);
	expect(qd, 3);
	assert_int_equal(demi_close(second), 0);
	assert_int_equal(unlink(path), 0);
	second = open_log(path, O_RDWR | O_CREAT); /* that one was still ending */
	expect_end(second);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(demi_close(second), 0);
	assert_int_equal(demi_close(qd), 0);

	(void)snprintf(other, sizeof(other), "%s/other", directory);
	assert_int_equal(mkdir(other, 0700), 0);
	assert_int_equal(chdir(directory), 0);
	qd = open_log("a.log", O_RDWR | O_CREAT);
	(void)append(qd, 4, 100);
	second = open_log(path, O_RDONLY); /* by another name */
	expect(second, 4);
	assert_int_equal(demi_close(second), 0);
	assert_int_equal(chdir(other), 0);
	second = open_log("a.log", O_RDWR | O_CREAT);
	expect_end(second);
	assert_int_equal(demi_close(second), 0);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(unlink("a.log"), 0);
	assert_non_null(here);
	assert_int_equal(chdir(here), 0);
	free(here);
	assert_int_equal(rmdir(other), 0);
}

/* The process has a limit of the size of files: it is told, not ended. */
static void test_file_limit(void **state)
{
	struct rlimit before;
	off_t at = 0;
	off_t next = 0;
	demi_qresult_t qr;
	int qd;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	struct rlimit limit = {.rlim_cur = 3 << 20, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	qd = open_log(path, O_RDWR | O_CREAT);
	for (uint32_t i = 0; next >= 0 && i < 200; i++) {
		at = next;
		demi_sgarray_t sga = demi_sgaalloc(30000);
		demi_qtoken_t qt;
		memset(sga.sga_segs[0].sgaseg_buf, 1, 30000);
		int err = demi_push(&qt, qd, &sga);
		assert_int_equal(demi_sgafree(&sga), 0);
		if (!err)
			qr = wait_for(qt);
		next = err ? -err : qr.qr_opcode == DEMI_OPC_PUSH ? qr.qr_ret : -qr.qr_ret;
	}
	assert_int_equal(next, -ENOSPC);
	demi_qtoken_t qt;
	assert_int_equal(demi_truncate(&qt, qd, at), 0);
	assert_int_equal(wait_for(qt).qr_opcode, DEMI_OPC_TRUNCATE);
	(void)append(qd, 1, 30000);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	(void)net_fini(state);
	assert_int_equal(net_init(state), 0);
	limit.rlim_cur = 1 << 20; /* the file is longer */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(demi_open(&qd, path, O_RDWR, 0), EFBIG);
	qd = open_log(path, O_RDONLY);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

static void reader(void *arg)
{
	int qd = open_log(path, O_RDONLY);

	for (uint32_t i = 0; i < 200; i++) {
		demi_qresult_t qr;
		assert_int_equal(demi_blocking_pop(&qr, qd), 0);
		assert_int_equal(take(&qr), i);
	}
	assert_int_equal(demi_close(qd), 0);
	++*(int *)arg;
}

static void test_coroutines(void **state)
{
	int qd = open_log(path, O_RDWR | O_CREAT);
	int ended = 0;

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(demi_go(reader, &ended), 0);
	for (uint32_t i = 0; i < 200; i++)
		(void)append(qd, i, 500);
	for (uint32_t i = 0; i < 1000 && ended < 4; i++)
		demi_sleep(&(struct timespec){.tv_nsec = 1000000});
	assert_int_equal(ended, 4);
	assert_int_equal(demi_close(qd), 0);
}

static void test_not_a_log(void **state)
{
	int qd;
	int memory;
	off_t at;
	demi_qtoken_t qt;

	(void)state;
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	for (int i = 0; i < 300000; i++)
		(void)fputc('a' + i % 26, file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(demi_open(&qd, path, O_RDWR | O_CREAT, 0600), EMEDIUMTYPE);
	assert_int_equal(truncate(path, 1000), 0);
	assert_int_equal(demi_open(&qd, path, O_RDWR | O_CREAT, 0600), EMEDIUMTYPE);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(demi_open(&qd, path, O_RDWR, 0600), ENOENT);
	assert_int_equal(demi_open(&qd, directory, O_RDWR, 0), EISDIR);
	assert_int_equal(demi_queue(&memory), 0);
	assert_int_equal(demi_lseek(memory, 0, SEEK_SET, &at), ESPIPE);
	assert_int_equal(demi_truncate(&qt, memory, 0), ESPIPE);
	assert_int_equal(demi_close(memory), 0);
}

static int remove_directory(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(directory);
}

#define TEST(function, driver)                                                                    \
	{                                                                                         \
#function " (" driver ")", function, setup, teardown, (void *)(uintptr_t)(driver) \
	}
#define TESTS(driver)                                                                            \
	TEST(test_alone, driver), TEST(test_created_anew, driver), TEST(test_readers, driver),   \
		TEST(test_names, driver), TEST(test_one_batch, driver), TEST(test_stat, driver), \
		TEST(test_stat_of_several, driver), TEST(test_with_sockets, driver),             \
		TEST(test_another_instance, driver), TEST(test_sleeping, driver),                \
		TEST(test_ends, driver), TEST(test_coroutines, driver),                          \
		TEST(test_replaced, driver), TEST(test_file_limit, driver),                      \
		TEST(test_reader_first, driver), TEST(test_not_a_log, driver)

int main(void)
{
	static const struct CMUnitTest tests[] = {TESTS("uring"), TESTS("thread")};

	if (!mkdtemp(directory))
		return 1;
	return test_run_group("storage", tests, sizeof(tests) / sizeof(tests[0]), NULL,
			      remove_directory);
}
