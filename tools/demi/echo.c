/* SPDX-License-Identifier: MIT
 * tools/demi/echo.c - one run of a server and a client process of the echo benchmark.
 */
#include "echo.h"

#include "echo_dpdk.h"
#include "echo_proxy.h"
#include "process.h"
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The warm-up ends after so many rounds of each request in flight, or this time. */
#define WARMUP_ROUNDS  1000
#define WARMUP_ONE_WAY 100000 /* of messages that are not answered */
#define WARMUP_NS      (50 * NS_PER_MS)
#define READY_MS       10000
#define STALL_MS       10000 /* a client without any answer for so long is given up */
#define SERVER_END_MS  3000  /* above the library's linger time */
#define DPDK_SOCKET    "/tmp/demi-bench.sock" /* of an end alone that is not told another */

int echo_fail(struct echo_end *end, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(end->message, ECHO_MESSAGE_MAX, format, args);
	va_end(args);
	return error;
}

void echo_server_ready(struct echo_end *end, uint16_t port)
{
	end->shared->port = port;
	if (end->stays) {
		printf("%s server listens on port %u, Ctrl-C ends it\n", end->spec->server->name,
		       port);
		fflush(stdout);
	} else {
		process_ready(end->control);
	}
}

/* Set by a signal handler: nothing else could tell a server that waits. */
static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

bool echo_interrupted(void)
{
	return interrupted;
}

/* A library OS is taken down in good order; plain sockets need none. */
static void catch_signals(const struct echo_backend *backend)
{
	struct sigaction action = {.sa_handler = interrupt};

	if (!backend->library)
		return;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static int run_warmup(struct echo_end *end, int (*fn)(void *arg), void *arg)
{
	const struct echo_spec *spec = end->spec;
	uint64_t in_flight = (uint64_t)spec->connections * spec->depth;
	uint64_t rounds = spec->one_way ? WARMUP_ONE_WAY : WARMUP_ROUNDS;
	int error;

	load_begin(&end->load, in_flight * 2 > rounds ? in_flight * 2 : rounds, WARMUP_NS, NULL);
	error = fn(arg);
	if (!error && end->load.damaged)
		return echo_fail(end, -EBADMSG, "the echo differs from what was sent");
	return error;
}

/* CPU time of the server, or of the proxy. */
static uint64_t read_cpu(struct echo_end *end)
{
	if (end->spec->proxy)
		return end->server_pid ? server_cpu_of(end->server_pid) : 0;
	return server_cpu_read(&end->shared->server_cpu, end->server_pid);
}

int echo_client_run(struct echo_end *end, int (*fn)(void *arg), void *arg)
{
	struct echo_result *result = &end->shared->result;
	struct load *load = &end->load;
	uint64_t cpu_before_ns;
	uint64_t cpu_after_ns;
	int error = run_warmup(end, fn, arg);

	if (error)
		return error;
	cpu_before_ns = read_cpu(end);
	load_begin(load, end->spec->rounds, (uint64_t)(end->spec->seconds * 1e9), &result->rtt);
	error = fn(arg);
	cpu_after_ns = read_cpu(end);
	if (cpu_before_ns && cpu_after_ns)
		result->server_cpu_ns = cpu_after_ns - cpu_before_ns;
	result->requests = load->requests;
	result->errors = load->lost + load->damaged +
			 atomic_load_explicit(&end->shared->received.damaged, memory_order_relaxed);
	result->elapsed_ns = load->last_ns - load->begin_ns;
	return error;
}

/* Unix sockets: an abstract name (its first byte is 0), which both children know by their parent's
 * number. */
static void address_set_local(struct echo_end *end)
{
	struct sockaddr_un *name = &end->address.un;
	int length;

	name->sun_family = AF_UNIX;
	length = snprintf(name->sun_path + 1, sizeof(name->sun_path) - 1, "demi-bench-%d",
			  (int)getppid());
	end->address_size =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* Where the server is, for a proxy or for the client past it. */
static const char *address_behind(const struct echo_spec *spec)
{
	return spec->link ? echo_link_behind(spec->proxy->device) : "127.0.0.1";
}

/* Where the client goes, and the server or proxy listens, if nothing is said: a device has no
 * loopback address. */
static const char *address_default(const struct echo_spec *spec)
{
	if (spec->address)
		return spec->address;
	if (spec->proxy && !spec->proxy->run)
		return address_behind(spec);
	if (spec->proxy)
		return spec->link ? echo_link_address(spec->link, spec->proxy->device)
				  : "127.0.0.1";
	if (spec->link)
		return echo_link_address(spec->link, spec->server->device);
	return spec->server->device ? "0.0.0.0" : "127.0.0.1";
}

static void address_set(struct echo_end *end, const char *given, uint16_t port)
{
	char text[INET6_ADDRSTRLEN];

	tool_copy_text(text, sizeof(text), given);
	text[strcspn(text, "/")] = '\0'; /* the prefix is the device's affair */
	memset(&end->address, 0, sizeof(end->address));
	if (end->spec->server->local) {
		address_set_local(end);
		return;
	}
	if (strchr(text, ':')) {
		end->address.in6.sin6_family = AF_INET6;
		end->address.in6.sin6_port = htons(port);
		inet_pton(AF_INET6, text, &end->address.in6.sin6_addr);
		end->address_size = sizeof(end->address.in6);
		return;
	}
	end->address.in.sin_family = AF_INET;
	end->address.in.sin_port = htons(port);
	inet_pton(AF_INET, text, &end->address.in.sin_addr);
	end->address_size = sizeof(end->address.in);
}

const char *echo_spec_name(const struct echo_spec *spec)
{
	return spec->proxy ? spec->proxy->name : spec->server->name;
}

bool echo_is_shm(const struct echo_spec *spec)
{
	return spec->device && strcmp(spec->device, ECHO_SHM) == 0;
}

bool echo_is_lone(const struct echo_spec *spec)
{
	return spec->server->memory && spec->proto == ECHO_TCP && spec->connections == 1 &&
	       spec->depth == 1 && spec->rate_per_s <= 0 && !spec->log;
}

static bool is_catnip(const struct echo_spec *spec, enum echo_side side)
{
	const struct echo_backend *backend = side == ECHO_SERVER ? spec->server : spec->client;

	return strcmp(backend->name, "catnip") == 0;
}

/* Moves this end to its side of the link, and says what its device is.  0 or -errno. */
static int take_side(struct echo_end *end, enum echo_side side)
{
	const struct echo_spec *spec = end->spec;
	bool fits = true;
	int error = spec->link ? echo_link_enter(spec->link, side) : 0;

	if (error)
		return echo_fail(end, error, "its network namespace: %s", strerror(-error));
	if (spec->device && spec->link && is_catnip(spec, side) && !echo_dpdk_is(spec->device))
		fits = echo_link_packet(side, spec->device, end->device, sizeof(end->device));
	else if (spec->device && spec->link)
		fits = echo_link_device(spec->link, side, spec->device, end->device,
					sizeof(end->device));
	else if (echo_dpdk_is(spec->device))
		fits = echo_dpdk_device(side, spec->device, DPDK_SOCKET,
					side == ECHO_SERVER ? spec->address : spec->local,
					end->device, sizeof(end->device));
	else if (spec->device)
		fits = strlen(spec->device) < sizeof(end->device);
	if (!fits)
		return echo_fail(end, -EINVAL, "device: longer than %d bytes", ECHO_DEVICE_MAX - 1);
	if (spec->device && !spec->link && !echo_dpdk_is(spec->device))
		tool_copy_text(end->device, sizeof(end->device), spec->device);
	return 0;
}

static int server_body(struct echo_end *end)
{
	end->message = end->shared->server_message;
	int error = take_side(end, end->spec->proxy ? ECHO_CLIENT : ECHO_SERVER);
	if (error)
		return error;
	address_set(end, end->spec->proxy ? "0.0.0.0" : address_default(end->spec),
		    end->spec->port);
	return end->spec->one_way ? end->spec->server->sink(end) : end->spec->server->server(end);
}

static int proxy_body(struct echo_end *end)
{
	const struct echo_spec *spec = end->spec;
	int error;

	end->message = end->shared->proxy_message;
	error = take_side(end, ECHO_SERVER);
	if (error)
		return error;
	address_set(end, address_behind(spec), end->shared->port);
	end->target = end->address;
	address_set(end, address_default(spec), 0);
	return spec->proxy->run(end);
}

static int client_body(struct echo_end *end)
{
	const struct echo_spec *spec = end->spec;
	int error;

	end->message = end->shared->client_message;
	error = take_side(end, ECHO_CLIENT);
	if (error)
		return error;
	address_set(end, address_default(spec),
		    spec->proxy && spec->proxy->run ? end->shared->proxy_port : end->shared->port);
	load_init(&end->load, spec->size, spec->depth, spec->proto == ECHO_UDP, spec->rate_per_s);
	error = spec->one_way ? spec->client->source(end) : spec->client->client(end);
	load_fini(&end->load);
	return error;
}

/* An error number as an exit status: below 128, where signals begin. */
static int as_status(int error)
{
	return error == 0 ? 0 : -error < 127 ? -error : EIO;
}

static int server_main(void *arg, int control)
{
	struct echo_end *end = arg;

	end->control = control;
	server_cpu_serve(&end->shared->server_cpu);
	return as_status(server_body(end));
}

static int proxy_main(void *arg, int control)
{
	struct echo_end *end = arg;

	end->control = control;
	return as_status(proxy_body(end));
}

static int client_main(void *arg, int control)
{
	(void)control;
	return as_status(client_body(arg));
}

static void describe_status(const char *who, int status, const char *left, char *message)
{
	if (left[0])
		snprintf(message, ECHO_MESSAGE_MAX, "%s: %.200s", who, left);
	else if (status >= 128)
		snprintf(message, ECHO_MESSAGE_MAX, "%s: killed by signal %d", who, status - 128);
	else
		snprintf(message, ECHO_MESSAGE_MAX, "%s: %s", who, strerror(status));
}

/* Waits for the client's end as long as answers keep coming. */
static int await_client(struct process *client, const struct echo_shared *shared, char *message)
{
	uint64_t seen = 0;
	int status;
	int error;

	for (;;) {
		const volatile uint64_t *count = &shared->result.rtt.count;
		uint64_t before = seen;

		error = process_await_end(client, STALL_MS, &status);
		seen = *count +
		       atomic_load_explicit(&shared->received.messages, memory_order_relaxed);
		if (error != -ETIMEDOUT || seen == before)
			break;
	}
	if (error) {
		snprintf(message, ECHO_MESSAGE_MAX, "client: no answer for %d s", STALL_MS / 1000);
		return -ETIMEDOUT;
	}
	if (status)
		describe_status("client", status, shared->client_message, message);
	return -status;
}

/* The server or the proxy: who it is, what runs, and where it leaves a message. */
struct role {
	const char *name;
	process_main_t run;
	const char *left;
	int core;
};

static int start_role(const struct role *role, struct echo_end *end, struct process *process,
		      char *message)
{
	int status = ETIMEDOUT;
	int error = process_start(process, role->core, role->run, end);

	if (error) {
		snprintf(message, ECHO_MESSAGE_MAX, "cannot start the %s: %s", role->name,
			 strerror(-error));
		return error;
	}
	error = process_await_ready(process, READY_MS);
	if (error == -EPIPE && process_await_end(process, READY_MS, &status) == 0)
		error = status ? -status : -EPIPE;
	if (error)
		describe_status(role->name, -error, role->left, message);
	return error;
}

/* Beside a proxy the server has the client's core. */
static int start_server(struct echo_end *end, struct process *server, char *message)
{
	const struct role role = {"server", server_main, end->shared->server_message,
				  end->spec->core + !!end->spec->proxy};

	return start_role(&role, end, server, message);
}

static int start_proxy(struct echo_end *end, struct process *proxy, char *message)
{
	const struct role role = {"proxy", proxy_main, end->shared->proxy_message, end->spec->core};

	return end->spec->proxy && end->spec->proxy->run ? start_role(&role, end, proxy, message)
							 : 0;
}

/* What both ends have from their parent, and do not find by a name. */
static int make_common(struct echo_end *end)
{
	end->memory = end->pipe[0] = end->pipe[1] = -1;
	if (end->spec->server->source == echo_pipe_source)
		return pipe2(end->pipe, O_CLOEXEC) < 0 ? -errno : 0;
	if (!echo_is_shm(end->spec))
		return 0;
	end->memory = memfd_create("demi-bench", MFD_CLOEXEC);
	if (end->memory < 0 || ftruncate(end->memory, ECHO_SHM_BYTES) < 0)
		return -errno;
	return 0;
}

static void close_common(struct echo_end *end)
{
	int *const all[] = {&end->memory, &end->pipe[0], &end->pipe[1]};

	for (size_t i = 0; i < TOOL_COUNT(all); i++) {
		if (*all[i] >= 0)
			close(*all[i]);
		*all[i] = -1;
	}
}

/* end: what the client has from us; we let go of it once the client runs. */
static int run_client(struct echo_end *end, pid_t server_pid, char *message)
{
	const struct echo_spec *spec = end->spec;
	struct process client = {0};
	int error;

	end->server_pid = server_pid;
	error = process_start(&client, spec->core + 1, client_main, end);
	close_common(end);

	if (error) {
		snprintf(message, ECHO_MESSAGE_MAX, "cannot start the client: %s",
			 strerror(-error));
		return error;
	}
	error = await_client(&client, end->shared, message);
	process_kill(&client);
	return error;
}

/* After its clients have gone the server ends by itself; what went wrong in it counts only if the
 * client was content. */
static int await_server(struct process *server, const struct echo_shared *shared, char *message)
{
	int status;

	if (process_await_end(server, SERVER_END_MS, &status) != 0)
		return 0; /* it lost the word of the end (UDP): the caller kills it */
	if (status == 0)
		return 0;
	describe_status("server", status, shared->server_message, message);
	return -status;
}

static int run_both(const struct echo_spec *spec, struct echo_shared *shared, char *message)
{
	struct echo_end end = {.spec = spec, .shared = shared};
	struct process server = {0};
	struct process proxy = {0};
	int error = make_common(&end);

	if (error)
		snprintf(message, ECHO_MESSAGE_MAX, "%s", strerror(-error));
	else
		error = start_server(&end, &server, message);
	if (!error)
		error = start_proxy(&end, &proxy, message);
	if (!error) {
		error = run_client(&end, spec->proxy ? proxy.pid : server.pid, message);
		if (error && shared->server_message[0])
			describe_status("server", -error, shared->server_message, message);
	}
	if (!error)
		error = await_server(&server, shared, message);
	close_common(&end);
	process_kill(&proxy);
	process_kill(&server);
	return error;
}

static struct echo_shared *shared_map(char *message)
{
	struct echo_shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared != MAP_FAILED)
		return shared;
	snprintf(message, ECHO_MESSAGE_MAX, "%s", strerror(errno));
	return NULL;
}

int echo_run(const struct echo_spec *spec, struct echo_result *result, char *message)
{
	struct echo_shared *shared = shared_map(message);
	int error;

	memset(result, 0, sizeof(*result));
	if (!shared)
		return -ENOMEM;
	error = run_both(spec, shared, message);
	*result = shared->result;
	munmap(shared, sizeof(*shared));
	return error;
}

int echo_run_client(const struct echo_spec *spec, struct echo_result *result, char *message)
{
	struct echo_shared *shared = shared_map(message);
	struct echo_end end = {.spec = spec, .shared = shared, .memory = -1, .pipe = {-1, -1}};
	int error;

	memset(result, 0, sizeof(*result));
	if (!shared)
		return -ENOMEM;
	shared->port = spec->port;
	error = run_client(&end, 0, message);
	*result = shared->result;
	munmap(shared, sizeof(*shared));
	return error;
}

int echo_run_server(const struct echo_spec *spec, char *message)
{
	struct echo_shared *shared = shared_map(message);
	struct echo_end end = {
		.spec = spec, .shared = shared, .stays = true, .memory = -1, .pipe = {-1, -1}};
	int error;

	if (!shared)
		return -ENOMEM;
	core_pin(spec->core);
	catch_signals(spec->server);
	error = server_body(&end);
	if (error)
		describe_status("server", -error, shared->server_message, message);
	munmap(shared, sizeof(*shared));
	return error;
}

void echo_result_merge(struct echo_result *into, const struct echo_result *from)
{
	histogram_merge(&into->rtt, &from->rtt);
	into->requests += from->requests;
	into->errors += from->errors;
	into->elapsed_ns += from->elapsed_ns;
	into->server_cpu_ns += from->server_cpu_ns;
}
