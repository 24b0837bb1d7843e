/* SPDX-License-Identifier: MIT
 * tests/net/life_test.c - how instances begin and end: fork, exits of threads and of the process,
 * configuration and its errors, the socket of `demi stat`, idling; and that nothing is left behind.
 */
#include "support/net.h"

#include "support/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct demi_args args;
static const struct timespec no_time;

/* ---- helpers ---- */

static bool is_child;

/* Asked by the leak sanitizer: in a child what it inherited is nobody's, and rightly not freed. */
int __lsan_is_turned_off(void); /* NOLINT(bugprone-reserved-identifier) */

int __lsan_is_turned_off(void) /* NOLINT(bugprone-reserved-identifier) */
{
	return is_child;
}

/* Runs fn in a child and returns its exit status; what it leaves to the exit handlers is part of
 * it. */
static int in_child(int (*fn)(void *), void *arg)
{
	int status = -1;

	(void)fflush(stdout);
	pid_t child = fork();
	assert_return_code(child, errno);
	if (child == 0) {
		is_child = true;
		(void)alarm(NET_WAIT_S);
		int failed = fn(arg);
		(void)fclose(stdout); /* cmocka's lines are the parent's */
		exit(failed);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A round over every kind of queue, of a whole instance's life; everything is freed at its end. */
static void live(void)
{
	static const struct timespec bound = {.tv_sec = NET_WAIT_S};
	struct net_pair pair = net_tcp_pair(AF_INET);
	int udp = net_bound(AF_INET, SOCK_DGRAM);
	struct net_address address = net_local(udp);
	demi_sgarray_t sga = demi_sgaalloc(3000);
	demi_qresult_t qr;
	demi_qtoken_t qt;
	int memory;
	int event;

	memset(sga.sga_segs[0].sgaseg_buf, 7, 3000);
	assert_int_equal(demi_queue(&memory), 0);
	(void)net_wait(net_push(memory, &sga));
	(void)net_wait(net_push(memory, &sga)); /* stays in the queue */
	(void)net_wait(net_push(pair.client, &sga));
	assert_int_equal(demi_pushto(&qt, udp, &sga, &address.any, address.length), 0);
	(void)net_wait(qt);
	(void)net_pop(pair.client); /* never comes */
	(void)net_pop(udp);         /* comes, and nobody waits for it */
	assert_int_equal(demi_wait(&qr, net_pop(pair.server), &bound), 0);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	qr = net_wait(net_pop(memory));
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(demi_event_fd(&event), 0);
	(void)demi_event_arm();
	assert_int_equal(demi_yield(), 0);
	assert_int_equal(demi_close(pair.server), 0);
}

/* ---- fork ---- */

struct fork_case {
	int plain;
	int qd;
	demi_qtoken_t popping;
};

static int child_of_live_queues(void *arg)
{
	struct fork_case *c = arg;
	demi_qresult_t qr;
	demi_qtoken_t qt;
	char byte = 'x';
	demi_sgarray_t sga = net_array(&byte, 1);
	int wrong = 0;

	wrong |= demi_push(&qt, c->qd, &sga) != ENOSYS;
	wrong |= demi_wait(&qr, c->popping, &no_time) != ENOSYS;
	wrong |= demi_close(c->qd) != ENOSYS;
	wrong |= demi_fini() != ENOSYS;
	wrong |= demi_sgaalloc(10).sga_numsegs != 0;
	/* A life of its own. */
	wrong |= demi_init(&args) != 0;
	wrong |= demi_close(c->qd) != EBADF;
	wrong |= demi_wait(&qr, c->popping, &no_time) != EINVAL;
	if (wrong)
		return 1;
	live();
	return demi_fini() ? 2 : 0;
}

static int child_that_only_exits(void *arg)
{
	(void)arg;
	return 0;
}

/* The parent has a push under way, a pop pending and elements queued, and loses nothing. */
static void fork_with_live_queues(int (*child)(void *))
{
	enum { BYTES = 8 << 20 };

	static uint8_t bytes[65536];
	struct fork_case c;
	int memory;

	(void)net_init(NULL);
	c.qd = net_connected(AF_INET, &c.plain);
	assert_int_equal(demi_queue(&memory), 0);
	(void)net_wait(net_push_bytes(memory, "element", 7));
	c.popping = net_pop(c.qd);
	demi_sgarray_t sga = demi_sgaalloc(BYTES);
	net_stream_fill(1, 0, sga.sga_segs[0].sgaseg_buf, BYTES);
	demi_qtoken_t pushing = net_push(c.qd, &sga);
	assert_int_equal(demi_sgafree(&sga), 0);
	net_assert_pending(pushing);
	assert_int_equal(in_child(child, &c), 0);
	for (uint64_t got = 0; got < BYTES;) {
		ssize_t n = recv(c.plain, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n > 0) {
			net_stream_check(1, got, bytes, (uint64_t)n);
			got += (uint64_t)n;
		} else {
			assert_int_equal(n, -1);
			assert_int_equal(errno, EAGAIN);
		}
		assert_int_equal(demi_yield(), 0);
	}
	assert_int_equal(net_wait(pushing).qr_opcode, DEMI_OPC_PUSH);
	plain_write(c.plain, "answer", 6);
	demi_qresult_t qr = net_wait(c.popping);
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 6);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	net_pop_bytes(memory, "element", 7);
	live();
	(void)close(c.plain);
	(void)net_fini(NULL);
}

static void test_fork_with_live_queues(void **state)
{
	(void)state;
	fork_with_live_queues(child_of_live_queues);
}

static void test_fork_and_exit(void **state)
{
	(void)state;
	fork_with_live_queues(child_that_only_exits);
}

static int grandchild(void *arg)
{
	(void)arg;
	if (demi_yield() != ENOSYS || demi_init(&args))
		return 1;
	live();
	return 0; /* its instance ends with it */
}

static int child_with_a_child(void *arg)
{
	(void)arg;
	if (demi_init(&args))
		return 1;
	live();
	return in_child(grandchild, NULL);
}

static void test_children_of_children(void **state)
{
	(void)state;
	(void)net_init(state);
	assert_int_equal(in_child(child_with_a_child, NULL), 0);
	live();
	(void)net_fini(state);
}

/* ---- exits ---- */

struct exiting {
	int plain;
	int qd;
	void *kept;
};

static void *thread_without_fini(void *arg)
{
	struct exiting *e = arg;

	if (demi_init(&args))
		return e;
	live();
	e->qd = net_connected(AF_INET, &e->plain);
	(void)net_wait(net_push_bytes(e->qd, "last words", 10));
	e->kept = demi_malloc(100);
	return NULL;
}

static void test_thread_exits_without_fini(void **state)
{
	struct exiting e;
	pthread_t thread;
	void *failed;
	char bytes[16];
	int fds = net_count_fds();

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, thread_without_fini, &e), 0);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(plain_read(e.plain, bytes, sizeof(bytes)), 10); /* and the end */
	(void)close(e.plain);
	assert_int_equal(net_count_fds(), fds);
	memset(e.kept, 1, 100);
	assert_int_equal(demi_free(e.kept), 0);
}

/* An instance that a thread has entered is free for others when the thread is gone. */
static void *enter_and_exit(void *arg)
{
	return demi_enter(arg) ? arg : NULL;
}

static void *try_to_enter(void *arg)
{
	return demi_enter(arg) == EBUSY ? NULL : arg;
}

static void test_thread_exits_inside_an_instance(void **state)
{
	struct demi *instance;
	pthread_t thread;
	void *failed;

	(void)state;
	assert_int_equal(demi_create(&instance, &args), 0);
	assert_int_equal(pthread_create(&thread, NULL, enter_and_exit, instance), 0);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(demi_enter(instance), 0);
	assert_int_equal(pthread_create(&thread, NULL, try_to_enter, instance), 0);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	live();
	assert_int_equal(demi_destroy(instance), 0);
}

/* There is no handle to come back by to the instance that demi_init made. */
static void test_the_instance_of_demi_init_is_not_left(void **state)
{
	struct demi *other;

	(void)state;
	assert_int_equal(demi_init(&args), 0);
	assert_int_equal(demi_create(&other, &args), 0);
	assert_int_equal(demi_enter(other), EBUSY);
	assert_int_equal(demi_enter(NULL), EBUSY);
	assert_int_equal(demi_destroy(other), 0); /* does not leave it for good */
	live();
	assert_int_equal(demi_fini(), 0);
}

static int exit_with_data_to_send(void *arg)
{
	const struct net_address *to = arg;

	enum { BYTES = 6 << 20 };

	if (demi_init(&args))
		return 1;
	int qd = net_socket(AF_INET, SOCK_STREAM);
	(void)net_wait(net_connect(qd, to));
	demi_sgarray_t sga = demi_sgaalloc(BYTES);
	net_stream_fill(2, 0, sga.sga_segs[0].sgaseg_buf, BYTES);
	(void)net_push(qd, &sga);
	return 0;
}

static void *read_all(void *arg)
{
	static uint8_t bytes[65536];
	int listener = *(int *)arg;
	uint64_t got = 0;
	ssize_t n;

	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	net_sleep_ms(50);
	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			got += bytes[i] == net_stream_byte(2, got);
	}
	(void)close(fd);
	return (void *)(uintptr_t)got; /* NOLINT(performance-no-int-to-ptr) */
}

/* exit lingers like demi_fini. */
static void test_exit_without_fini(void **state)
{
	struct net_address address;
	int listener = plain_listen(AF_INET, &address);
	pthread_t thread;
	void *got;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, read_all, &listener), 0);
	assert_int_equal(in_child(exit_with_data_to_send, &address), 0);
	assert_int_equal(pthread_join(thread, &got), 0);
	assert_int_equal((uintptr_t)got, 6 << 20);
	(void)close(listener);
}

/* ---- nothing is left behind ---- */

static void coroutine_that_lives(void *arg)
{
	demi_qresult_t qr;
	const int *qd = arg;

	(void)demi_blocking_pop(&qr, *qd); /* until the end of the instance */
}

static void test_fini_frees_everything(void **state)
{
	int qd = -1;

	for (int i = 0; i < 5; i++) {
		struct fault_live before = fault_live();
		int fds = net_count_fds();
		(void)net_init(state);
		live();
		assert_int_equal(demi_queue(&qd), 0);
		for (int j = 0; j < 100; j++)
			assert_int_equal(demi_go(coroutine_that_lives, &qd), 0);
		assert_int_equal(demi_yield(), 0);
		(void)net_fini(state);
		struct fault_live after = fault_live();
		assert_int_equal(net_count_fds(), fds);
		if (i == 0)
			continue; /* what the process keeps: its range, a heap to use again */
		assert_int_equal(after.blocks, before.blocks);
		assert_int_equal(after.mapped_bytes, before.mapped_bytes);
	}
}

static void test_two_hundred_lives(void **state)
{
	int fds = net_count_fds();
	struct fault_live before = fault_live();

	for (int i = 0; i < 200; i++) {
		(void)net_init(state);
		if (i % 4 == 0)
			live();
		(void)net_fini(state);
	}
	struct fault_live after = fault_live();
	assert_int_equal(net_count_fds(), fds);
	assert_int_equal(after.blocks, before.blocks);
	assert_int_equal(after.mapped_bytes, before.mapped_bytes);
}

static void test_popped_memory_outlives_the_instance(void **state)
{
	static uint8_t bytes[50000];
	demi_sgarray_t kept[20];
	struct fault_live before = fault_live();

	(void)net_init(state);
	struct net_pair pair = net_tcp_pair(AF_INET);
	for (uint32_t i = 0; i < 20; i++) {
		net_stream_fill(i, 0, bytes, 2500 * i + 1);
		(void)net_wait(
			net_push_bytes(pair.client, bytes, 2500 * i + 1)); /* may come in parts */
		demi_qresult_t qr = net_wait(net_pop(pair.server));
		kept[i] = qr.qr_value.sga;
	}
	(void)net_fini(state);
	uint64_t sum = 0;
	for (int i = 0; i < 20; i++) {
		const uint8_t *at = kept[i].sga_segs[0].sgaseg_buf;
		for (uint32_t j = 0; j < kept[i].sga_segs[0].sgaseg_len; j++)
			sum += at[j];
		memset(kept[i].sga_segs[0].sgaseg_buf, 0, kept[i].sga_segs[0].sgaseg_len);
		assert_int_equal(demi_sgafree(&kept[i]), 0);
	}
	assert_int_not_equal(sum, 0);
	struct fault_live after = fault_live();
	assert_int_equal(after.mapped_bytes, before.mapped_bytes);
}

/* ---- configuration ---- */

struct lines {
	int errors;
	int warnings;
	char text[2048];
};

static void keep(void *arg, enum demi_log_level level, const char *message)
{
	struct lines *lines = arg;
	size_t used = strlen(lines->text);

	lines->errors += level == DEMI_LOG_ERROR;
	lines->warnings += level == DEMI_LOG_WARNING;
	if (level != DEMI_LOG_INFO)
		(void)snprintf(lines->text + used, sizeof(lines->text) - used, "%s\n", message);
}

struct configuration {
	const char *name; /* of the environment variable; "file": the text of CONFIG_PATH's file */
	const char *value;
	int err;
	const char *said[4]; /* what the one error line names */
};

static const struct configuration configurations[] = {
	{"LIBOS", "catnap", 0, {0}},
	{"LIBOS", "CatNap", 0, {0}},
	{"LIBOS", "", 0, {0}},
	{"LIBOS", "catfish", EINVAL, {"libos", "catfish", "LIBOS", "catnap"}},
	{"LIBOS", "cattree", ENOTSUP, {"libos", "cattree", "catnap"}},
	{"LIBOS", "catpowder", EINVAL, {"interface"}},
	{"CONFIG_PATH", "/nonexistent/file.yaml", ENOENT, {"/nonexistent/file.yaml"}},
	{"CONFIG_PATH", "/", EISDIR, {"/"}},
	{"DEMI_SPIN_US", "0", 0, {0}},
	{"DEMI_SPIN_US", "1000000", 0, {0}},
	{"DEMI_SPIN_US", "1000001", EINVAL, {"spin_us", "1000001", "DEMI_SPIN_US", "1000000"}},
	{"DEMI_SPIN_US", "-1", EINVAL, {"spin_us", "-1", "0"}},
	{"DEMI_SPIN_US", "soon", EINVAL, {"spin_us", "soon", "DEMI_SPIN_US"}},
	{"DEMI_IDLE", "busy", 0, {0}},
	{"DEMI_IDLE", "lazy", EINVAL, {"idle", "lazy", "adaptive", "busy"}},
	{"DEMI_QUEUES_MAX", "3", EINVAL, {"queues_max", "3", "4"}},
	{"file", "demitasse:\n  idle: busy\n", 0, {0}},
	{"file", "demitasse:\n  idle: never\n", EINVAL, {"idle", "never", "adaptive", "busy"}},
	{"file", "\tidle: [busy", EINVAL, {"YAML"}},
	{"file", "demitasse:\n  linger_ms: 600001\n", EINVAL, {"linger_ms", "600001", "600000"}},
	{"file",
	 "demikernel:\n  local_ipv4_addr: 127.0.0.1\ntcp_socket_options:\n  nodelay: true\n"
	 "  keepalive:\n    enabled: false\n    time_millis: 0\n    interval: 0\n"
	 "  linger:\n    enabled: false\n    time_seconds: 0\n",
	 0,
	 {0}},
};

static char directory[] = "/tmp/demi-life-XXXXXX";

static const char *write_file(const char *text)
{
	static char path[64];

	(void)snprintf(path, sizeof(path), "%s/config.yaml", directory);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_return_code(fd, errno);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
	return path;
}

static void try_configuration(const struct configuration *c)
{
	struct lines lines = {0};
	bool file = strcmp(c->name, "file") == 0;
	const char *name = file ? "CONFIG_PATH" : c->name;

	assert_return_code(setenv(name, file ? write_file(c->value) : c->value, 1), errno);
	assert_int_equal(demi_set_log(keep, &lines), 0);
	int fds = net_count_fds();
	int err = demi_init(&args);
	if (err != c->err)
		print_error("%s=%s\n", c->name, c->value);
	assert_int_equal(err, c->err);
	assert_int_equal(lines.errors, c->err ? 1 : 0);
	assert_int_equal(lines.warnings, 0);
	for (int i = 0; i < 4 && c->said[i]; i++) {
		if (!strstr(lines.text, c->said[i]))
			fail_msg("%s=%s: \"%s\" names no %s", c->name, c->value, lines.text,
				 c->said[i]);
	}
	if (!err)
		assert_int_equal(demi_fini(), 0);
	assert_int_equal(net_count_fds(), fds);
	assert_return_code(unsetenv(name), errno);
	assert_int_equal(demi_set_log(NULL, NULL), 0);
}

static void test_configuration(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(configurations) / sizeof(configurations[0]); i++)
		try_configuration(&configurations[i]);
}

/* Without a function of the application's, errors are one line on stderr. */
static void test_default_log(void **state)
{
	char text[1024];
	int ends[2];
	int saved = dup(STDERR_FILENO);

	(void)state;
	assert_return_code(pipe2(ends, O_CLOEXEC | O_NONBLOCK), errno);
	assert_return_code(setenv("DEMI_IDLE", "lazy", 1), errno);
	assert_return_code(dup2(ends[1], STDERR_FILENO), errno);
	int err = demi_init(&args);
	assert_return_code(dup2(saved, STDERR_FILENO), errno);
	assert_return_code(unsetenv("DEMI_IDLE"), errno);
	assert_int_equal(err, EINVAL);
	ssize_t n = read(ends[0], text, sizeof(text) - 1);
	assert_in_range(n, 20, sizeof(text) - 1);
	text[n] = '\0';
	assert_ptr_equal(strchr(text, '\n'), text + n - 1);
	assert_non_null(strstr(text, "error"));
	assert_non_null(strstr(text, "lazy"));
	(void)close(ends[0]);
	(void)close(ends[1]);
	(void)close(saved);
}

/* The log function is the thread's: another thread that has none uses the instance without harm. */
static void *destroy_elsewhere(void *arg)
{
	return demi_destroy(arg) ? arg : NULL;
}

static void test_log_function_is_the_threads(void **state)
{
	struct lines lines = {0};
	struct demi *instance;
	pthread_t thread;
	void *failed;
	int plain;

	(void)state;
	assert_int_equal(demi_set_config("linger_ms", "1"), 0);
	assert_int_equal(demi_set_config("stat_socket", "off"), 0);
	assert_int_equal(demi_set_log(keep, &lines), 0);
	assert_int_equal(demi_create(&instance, &args), 0);
	assert_int_equal(demi_enter(instance), 0);
	int qd = net_connected(AF_INET, &plain);
	demi_sgarray_t sga = demi_sgaalloc(16 << 20);
	memset(sga.sga_segs[0].sgaseg_buf, 0, 16 << 20);
	net_assert_pending(net_push(qd, &sga)); /* never read: a warning at the end */
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(demi_enter(NULL), 0);
	int saved = dup(STDERR_FILENO);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_return_code(dup2(null, STDERR_FILENO), errno);
	assert_int_equal(pthread_create(&thread, NULL, destroy_elsewhere, instance), 0);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_return_code(dup2(saved, STDERR_FILENO), errno);
	(void)close(saved);
	(void)close(null);
	assert_null(failed);
	assert_int_equal(lines.warnings, 0); /* it was the other thread's line */
	(void)close(plain);
	assert_int_equal(demi_set_log(NULL, NULL), 0);
	assert_int_equal(demi_set_config("linger_ms", NULL), 0);
}

/* ---- the socket of demi stat ---- */

/* One JSON value at text; where it ends, or NULL. */
static const char *json_string(const char *text)
{
	if (*text++ != '"')
		return NULL;
	for (; *text != '"'; text++) {
		if ((unsigned char)*text < ' ')
			return NULL;
		if (*text == '\\' && !strchr("\"\\/bfnrtu", *++text))
			return NULL;
	}
	return text + 1;
}

/* Walks tokens with a stack of brackets; what is expected next is one of: a value, a name, or an
 * end. */
static bool json_valid(const char *text)
{
	char stack[64];
	int depth = 0;
	bool value = true;
	char *end;

	do {
		bool object = depth > 0 && stack[depth - 1] == '{';
		if (value && (*text == '{' || *text == '[')) {
			if (depth == 64)
				return false;
			stack[depth++] = *text++;
			if (*text != (stack[depth - 1] == '{' ? '}' : ']')) {
				value = stack[depth - 1] == '[';
				if (!value) {
					text = json_string(text);
					if (!text || *text++ != ':')
						return false;
					value = true;
				}
				continue;
			}
			text++;
			depth--;
		} else if (value && *text == '"') {
			text = json_string(text);
			if (!text)
				return false;
		} else if (value) {
			(void)strtod(text, &end);
			if (end == text)
				return false;
			text = end;
		} else {
			return false;
		}
		/* Behind a value: close what ends, or go on behind a comma. */
		while (depth > 0 && *text == (stack[depth - 1] == '{' ? '}' : ']')) {
			text++;
			depth--;
		}
		object = depth > 0 && stack[depth - 1] == '{';
		value = true;
		if (depth > 0) {
			if (*text++ != ',')
				return false;
			if (object) {
				text = json_string(text);
				if (!text || *text++ != ':')
					return false;
			}
		}
	} while (depth > 0);
	return *text == '\0' || (*text == '\n' && text[1] == '\0');
}

static void socket_path(char *out, size_t room, unsigned index)
{
	(void)snprintf(out, room, "%s/demitasse/%d-%u.sock", directory, (int)getpid(), index);
}

static int connect_stat(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(fd, errno);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_return_code(connect(fd, (struct sockaddr *)&address, sizeof(address)), errno);
	return fd;
}

/* Reads the document while the instance runs. */
static void read_stat(int fd, char *out, size_t room)
{
	static const struct timespec moment = {.tv_nsec = 1000000};
	uint64_t deadline = net_now_ns() + (uint64_t)NET_WAIT_S * 1000000000;
	size_t got = 0;

	for (;;) {
		ssize_t n = recv(fd, out + got, room - 1 - got, MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n > 0)
			got += (size_t)n;
		else
			assert_int_equal(errno, EAGAIN);
		assert_int_equal(demi_sleep(&moment), 0);
		assert_true(net_now_ns() < deadline);
	}
	out[got] = '\0';
	(void)close(fd);
}

/* Long enough for descriptors that are looked at now and then only. */
static void look(int ms)
{
	const struct timespec time = {.tv_nsec = (long)ms * 1000000};

	assert_int_equal(demi_sleep(&time), 0);
}

static void make_instance(void)
{
	assert_int_equal(demi_set_config("stat_socket", NULL), 0);
	assert_int_equal(demi_init(&args), 0);
}

static void test_stat_socket(void **state)
{
	static char text[1 << 18];
	static const char *const members[] = {"\"pid\":",
					      "\"instance\":0",
					      "\"version\":",
					      "\"libos\":\"catnap\"",
					      "\"engine\":\"direct\"",
					      "\"queues\":[",
					      "\"heap\":{",
					      "\"counters\":{",
					      "\"drops\":{",
					      "\"config\":{",
					      "\"kind\":\"memory\"",
					      "\"kind\":\"tcp\"",
					      "\"kind\":\"udp\"",
					      "\"state\":\"listening\"",
					      "\"state\":\"connected\"",
					      "\"pops_pending\":1",
					      "\"elements\":1",
					      "\"uptime_s\":"};
	char path[100];
	struct stat status;

	(void)state;
	make_instance();
	socket_path(path, sizeof(path), 0);
	assert_return_code(stat(path, &status), errno);
	assert_true(S_ISSOCK(status.st_mode));
	assert_int_equal(status.st_mode & 0777, 0600);
	*strrchr(path, '/') = '\0';
	assert_return_code(stat(path, &status), errno);
	assert_int_equal(status.st_mode & 0777, 0700);
	live();
	int memory;
	assert_int_equal(demi_queue(&memory), 0);
	(void)net_pop(memory);
	socket_path(path, sizeof(path), 0);
	for (int i = 0; i < 5; i++) {
		read_stat(connect_stat(path), text, sizeof(text));
		assert_true(json_valid(text));
		for (size_t j = 0; j < sizeof(members) / sizeof(members[0]); j++) {
			if (!strstr(text, members[j]))
				fail_msg("no %s in %s", members[j], text);
		}
	}
	/* Clients that leave, and one that never reads. */
	for (int i = 0; i < 20; i++) {
		(void)close(connect_stat(path));
		if (i % 5 == 4) /* its backlog is short */
			look(20);
	}
	int silent = connect_stat(path);
	look(20);
	live();
	(void)close(silent);
	read_stat(connect_stat(path), text, sizeof(text));
	assert_true(json_valid(text));
	assert_int_equal(demi_fini(), 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_stat_sockets_of_several(void **state)
{
	static char text[1 << 18];
	char path[100];
	struct demi *first;
	struct demi *other;
	int fd;

	(void)state;
	/* A file that an earlier process of this number left. */
	make_instance();
	assert_int_equal(demi_fini(), 0);
	socket_path(path, sizeof(path), 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof(address)), errno);
	(void)close(fd);
	assert_int_equal(access(path, F_OK), 0);

	assert_int_equal(demi_create(&first, &args), 0);
	assert_int_equal(demi_create(&other, &args), 0);
	assert_int_equal(demi_enter(first), 0);
	read_stat(connect_stat(path), text, sizeof(text));
	assert_non_null(strstr(text, "\"instance\":0"));
	socket_path(path, sizeof(path), 1);
	fd = connect_stat(path);
	assert_int_equal(demi_enter(other), 0);
	read_stat(fd, text, sizeof(text));
	assert_non_null(strstr(text, "\"instance\":1"));
	assert_int_equal(demi_destroy(other), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(demi_destroy(first), 0);
	socket_path(path, sizeof(path), 0);
	assert_int_equal(access(path, F_OK), -1);
}

/* The request comes while the application computes, for longer than the instance waits for one: the
 * connection is not reset, as it would be with words unread. */
static void test_stat_of_a_busy_instance(void **state)
{
	static char text[1 << 18];
	char path[128];

	(void)state;
	make_instance();
	socket_path(path, sizeof(path), 0);
	int fd = connect_stat(path);
	look(20);
	assert_int_equal(send(fd, "stat\n", 5, MSG_NOSIGNAL), 5);
	(void)usleep(200000);
	read_stat(fd, text, sizeof(text));
	assert_non_null(strstr(text, "\"pid\":"));
	assert_int_equal(demi_fini(), 0);
}

static void test_stat_socket_off(void **state)
{
	char path[100];

	(void)net_init(state); /* sets stat_socket: off */
	socket_path(path, sizeof(path), 0);
	int err = access(path, F_OK);
	(void)net_fini(state);
	assert_int_equal(err, -1);
}

/* Nowhere to put it: a line of information, and a working instance. */
static void test_stat_socket_without_a_place(void **state)
{
	struct lines lines = {0};

	(void)state;
	assert_return_code(setenv("XDG_RUNTIME_DIR", "/nonexistent", 1), errno);
	assert_int_equal(demi_set_log(keep, &lines), 0);
	make_instance();
	live();
	assert_int_equal(demi_fini(), 0);
	assert_int_equal(lines.errors + lines.warnings, 0);
	assert_int_equal(demi_set_log(NULL, NULL), 0);
	assert_return_code(setenv("XDG_RUNTIME_DIR", directory, 1), errno);
}

/* ---- idling ---- */

static uint64_t cpu_us(void)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void test_an_idle_server_sleeps(void **state)
{
	enum { CONNECTIONS = 20 };
	static const struct timespec second = {.tv_sec = 1};
	demi_qtoken_t qts[CONNECTIONS + 1];
	int plain[CONNECTIONS];
	demi_qresult_t qr;
	int i;

	(void)state;
	make_instance(); /* as a server is: with its socket for demi stat */
	int listener = net_listener(AF_INET, 8);
	qts[CONNECTIONS] = net_accept(listener);
	for (i = 0; i < CONNECTIONS; i++) {
		int qd = net_connected(AF_INET, &plain[i]);
		for (int j = 0; j < 20; j++) { /* active, the last one hot */
			plain_write(plain[i], "x", 1);
			net_pop_bytes(qd, "x", 1);
		}
		qts[i] = net_pop(qd);
	}
	uint64_t before = cpu_us();
	assert_int_equal(demi_wait_any(&qr, &i, qts, CONNECTIONS + 1, &second), ETIMEDOUT);
	assert_in_range(cpu_us() - before, 0, 50000);
	plain_write(plain[3], "y", 1); /* and wakes */
	assert_int_equal(demi_wait_any(&qr, &i, qts, CONNECTIONS + 1, NULL), 0);
	assert_int_equal(i, 3);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	for (i = 0; i < CONNECTIONS; i++)
		(void)close(plain[i]);
	assert_int_equal(demi_fini(), 0);
}

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_return_code(setenv("XDG_RUNTIME_DIR", directory, 1), errno);
	return 0;
}

static int teardown(void **state)
{
	char path[64];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/config.yaml", directory);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/demitasse", directory);
	/* The instance that test_stat_sockets_of_several left has a file there; it ends with the
	 * process. */
	(void)rmdir(path);
	(void)rmdir(directory);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fork_with_live_queues),
		cmocka_unit_test(test_fork_and_exit),
		cmocka_unit_test(test_children_of_children),
		cmocka_unit_test(test_thread_exits_without_fini),
		cmocka_unit_test(test_thread_exits_inside_an_instance),
		cmocka_unit_test(test_the_instance_of_demi_init_is_not_left),
		cmocka_unit_test(test_exit_without_fini),
		cmocka_unit_test(test_fini_frees_everything),
		cmocka_unit_test(test_two_hundred_lives),
		cmocka_unit_test(test_popped_memory_outlives_the_instance),
		cmocka_unit_test(test_configuration),
		cmocka_unit_test(test_default_log),
		cmocka_unit_test(test_log_function_is_the_threads),
		cmocka_unit_test(test_stat_socket),
		cmocka_unit_test(test_stat_of_a_busy_instance),
		cmocka_unit_test(test_stat_socket_off),
		cmocka_unit_test(test_stat_socket_without_a_place),
		cmocka_unit_test(test_an_idle_server_sleeps),
		cmocka_unit_test(test_stat_sockets_of_several),
	};

	return test_run_group("life", tests, sizeof(tests) / sizeof(tests[0]), setup, teardown);
}
