/* SPDX-License-Identifier: MIT
 * tests/unit/rdma_libibverbs_test.c - the table of the real libraries, and what is said where a
 * machine has no RDMA.
 */
#include "transport/rdma/libibverbs.h"

#include "support/test.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RDMA_CM "/dev/infiniband/rdma_cm"

/* ---- the machine: what the libraries find ---- */

static struct {
	int devices; /* -1: no verbs for programs */
	int cm;      /* error of RDMA_CM */
	int fd;      /* of channels; -1: there is none */
} machine;

static struct ibv_device *nothing[1];

struct ibv_device **__wrap_ibv_get_device_list(int *count);
void __wrap_ibv_free_device_list(struct ibv_device **list);
int __wrap_access(const char *path, int mode);
int __real_access(const char *path, int mode);
struct rdma_event_channel *__wrap_rdma_create_event_channel(void);
void __wrap_rdma_destroy_event_channel(struct rdma_event_channel *channel);
struct ibv_comp_channel *__wrap_ibv_create_comp_channel(struct ibv_context *context);
int __wrap_ibv_destroy_comp_channel(struct ibv_comp_channel *channel);
struct ibv_pd *__wrap_ibv_alloc_pd(struct ibv_context *context);

struct ibv_device **__wrap_ibv_get_device_list(int *count)
{
	if (machine.devices < 0) {
		errno = ENOSYS;
		return NULL;
	}
	*count = machine.devices;
	return nothing;
}

void __wrap_ibv_free_device_list(struct ibv_device **list)
{
	assert_ptr_equal(list, nothing);
}

int __wrap_access(const char *path, int mode)
{
	if (strcmp(path, RDMA_CM) != 0)
		return __real_access(path, mode);
	errno = machine.cm;
	return machine.cm ? -1 : 0;
}

static struct rdma_event_channel cm_channel;
static struct ibv_comp_channel comp_channel;
static struct ibv_pd pd;

struct rdma_event_channel *__wrap_rdma_create_event_channel(void)
{
	cm_channel.fd = machine.fd;
	return &cm_channel;
}

void __wrap_rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	assert_ptr_equal(channel, &cm_channel);
	channel->fd = -2;
	errno = 0;
}

struct ibv_comp_channel *__wrap_ibv_create_comp_channel(struct ibv_context *context)
{
	(void)context;
	comp_channel.fd = machine.fd;
	return &comp_channel;
}

int __wrap_ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	assert_ptr_equal(channel, &comp_channel);
	channel->fd = -2;
	errno = 0;
	return 0;
}

struct ibv_pd *__wrap_ibv_alloc_pd(struct ibv_context *context)
{
	(void)context;
	return &pd;
}

/* ---- the table ---- */

/* Nothing but functions, and each is there. */
static void test_complete(void **state)
{
	void (*members[sizeof(rdma_libibverbs) / sizeof(void (*)(void))])(void);

	(void)state;
	static_assert(sizeof(members) == sizeof(rdma_libibverbs), "functions only");
	memcpy(members, &rdma_libibverbs, sizeof(members));
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		assert_true(members[i] != NULL);
}

static bool blocks(int fd)
{
	return (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

/* Descriptors that events are taken from do not block. */
static void test_descriptors(void **state)
{
	struct ibv_context context = {0};

	(void)state;
	for (int which = 0; which < 3; which++) {
		int ends[2];
		assert_int_equal(pipe(ends), 0);
		machine.fd = context.async_fd = ends[0];
		assert_true(blocks(ends[0]));
		if (which == 0)
			assert_ptr_equal(rdma_libibverbs.create_event_channel(), &cm_channel);
		else if (which == 1)
			assert_ptr_equal(rdma_libibverbs.create_comp_channel(&context),
					 &comp_channel);
		else
			assert_ptr_equal(rdma_libibverbs.alloc_pd(&context), &pd);
		assert_false(blocks(ends[0]));
		(void)close(ends[0]);
		(void)close(ends[1]);
	}
}

/* One that can't be changed is given back, and why is kept. */
static void test_descriptors_refused(void **state)
{
	struct ibv_context context = {.async_fd = -1};

	(void)state;
	machine.fd = -1;
	assert_null(rdma_libibverbs.create_event_channel());
	assert_int_equal(errno, EBADF);
	assert_int_equal(cm_channel.fd, -2);
	assert_null(rdma_libibverbs.create_comp_channel(&context));
	assert_int_equal(errno, EBADF);
	assert_int_equal(comp_channel.fd, -2);
	assert_null(rdma_libibverbs.alloc_pd(&context));
}

/* ---- what is said ---- */

static char logged[LOG_MESSAGE_MAX];

static void keep_line(void *arg, int level, const char *message)
{
	(void)arg;
	assert_int_equal(level, LOG_LEVEL_ERROR);
	assert_string_equal(logged, ""); /* one line */
	(void)snprintf(logged, sizeof(logged), "%s", message);
}

static void test_check(void **state)
{
	static const struct {
		int devices;
		int cm;
		int rc;
		const char *words[2];
	} cases[] = {
		{2, 0, 0, {NULL, NULL}},
		{-1, ENOENT, -ENODEV, {"ib_uverbs", "modprobe -a rdma_rxe rdma_ucm && rdma link"}},
		{0, 0, -ENODEV, {"no RDMA device", "rdma link add rxe0 type rxe netdev"}},
		{1, ENOENT, -ENODEV, {RDMA_CM ": No such file", "modprobe rdma_ucm"}},
		{1, EACCES, -EACCES, {RDMA_CM ": Permission denied", "chmod 666 " RDMA_CM}},
	};
	const struct log log = {.fn = keep_line};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		machine.devices = cases[i].devices;
		machine.cm = cases[i].cm;
		*logged = '\0';
		assert_int_equal(rdma_libibverbs_check(&log), cases[i].rc);
		if (cases[i].rc == 0)
			assert_string_equal(logged, "");
		for (size_t word = 0; word < 2 && cases[i].words[word]; word++) {
			if (!strstr(logged, cases[i].words[word]))
				fail_msg("\"%s\" is not in: %s", cases[i].words[word], logged);
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_complete),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_descriptors_refused),
		cmocka_unit_test(test_check),
	};

	return test_run("rdma_libibverbs", tests);
}
