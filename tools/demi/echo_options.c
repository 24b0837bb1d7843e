/* SPDX-License-Identifier: MIT
 * tools/demi/echo_options.c - the options of the echo benchmarks.
 */
#include "echo_options.h"

#include "echo_dpdk.h"
#include "rdma.h"
#include "tool.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rounds of the references after the first: they are for the table, not for the ratio. */
#define FURTHER_ROUNDS 3

/* Pairs of a comparison, and the timed seconds of one of its runs; a run alone takes longer. */
#define SIZE_DEFAULT       64
#define PAIRS_DEFAULT      11
#define SIZE_PAIRS_DEFAULT 3
#define PAIR_SECONDS       0.15
#define ALONE_SECONDS      1.0

#define OPTIONS_COUNT 18

static void describe_load(struct echo_options *options, struct option_spec *specs)
{
	const struct option_spec table[] = {
		{"libos", OPTION_TEXT, &options->libos, 0, 0, NULL, "NAME",
		 "library OS or baseline (default $LIBOS or catnap)"},
		{"device", OPTION_TEXT, &options->device, 0, 0, NULL, "D[,KEY=VALUE...]",
		 "veth: both ends on a link made for this (root), catpowder by AF_XDP; afpacket, "
		 "tap: it by these; of one end: as the library's key"},
		{"proto", OPTION_CHOICE, &options->proto, 0, 0, "tcp|udp", "tcp|udp",
		 "transport (tcp)"},
		{"size", OPTION_WHOLE, &options->size, 1, ECHO_SIZE_MAX, NULL, "B",
		 "bytes of a message (64)"},
		{"connections", OPTION_WHOLE, &options->connections, 1, 16384, NULL, "N",
		 "connections of the client (1)"},
		{"depth", OPTION_WHOLE, &options->depth, 1, 1024, NULL, "N",
		 "requests in flight on each connection (1)"},
		{"rate", OPTION_TEXT, &options->rates, 0, 0, NULL, "R[,R...]",
		 "open loop: requests a second, due at random; several: a curve"},
		{"idle", OPTION_CHOICE, &options->idle, 0, 0, "adaptive|busy", "adaptive|busy",
		 "how the library OS waits (adaptive)"},
		{"client", OPTION_TEXT, &options->client, 0, 0, NULL, "NAME",
		 "back end of the client (one connection: the server's; more, or a rate: "
		 "generator)"},
		{"one-way", OPTION_FLAG, &options->one_way, 0, 0, NULL, NULL,
		 "messages are not answered, their number a second counts"},
	};

	memcpy(specs, table, sizeof(table));
}

static void describe_run(struct echo_options *options, struct option_spec *specs)
{
	const struct option_spec table[] = {
		{"rounds", OPTION_WHOLE, &options->rounds, 1, 1e12, NULL, "N",
		 "requests of a run, or"},
		{"seconds", OPTION_NUMBER, &options->seconds, 0.001, 86400, NULL, "S",
		 "its time (0.15 in pairs, 1 alone)"},
		{"pairs", OPTION_WHOLE, &options->pairs, 1, CONTEST_PAIRS_MAX, NULL, "N",
		 "interleaved runs beside the reference (11; size: 3)"},
		{"reference", OPTION_TEXT, &options->reference, 0, 0, NULL, "NAME[,NAME...]",
		 "what to compare with; none: nothing"},
		{"core", OPTION_WHOLE, &options->core, 0, 4095, NULL, "N",
		 "core of the server, the client has the next (0)"},
		{"json", OPTION_TEXT, &options->json, 0, 0, NULL, "FILE",
		 "write the rows as JSON (-: standard output)"},
		{"plot", OPTION_TEXT, &options->plot, 0, 0, NULL, "FILE", "draw an SVG"},
		{"role", OPTION_CHOICE, &options->role, 0, 0, "both|server|client",
		 "both|server|client", "both ends here, or one; a client needs --port"},
	};

	memcpy(specs, table, sizeof(table));
}

static void print_names(void)
{
	fputs("\nnames:", stdout);
	for (size_t i = 0; i < echo_backend_count(); i++)
		printf(" %s", echo_backend_at(i)->name);
	fputs("\n(generator, stackless: clients only; raw, lwip, stackless: over memif or vhost, "
	      "the first bare "
	      "frames)\n",
	      stdout);
}

static const struct echo_backend *backend_or_complain(const char *option, const char *name)
{
	const struct echo_backend *backend = echo_backend_find(name);

	if (backend)
		return backend;
	tool_complain("--%s: '%s' is not a library OS or baseline (--help lists them)", option,
		      name);
	return NULL;
}

/* Behind it may be a prefix, which the library looks at. */
static bool address_is_good(const char *given)
{
	struct in6_addr address;
	char text[INET6_ADDRSTRLEN];

	tool_copy_text(text, sizeof(text), given);
	text[strcspn(text, "/")] = '\0';
	return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

static int read_rates(struct echo_options *options)
{
	char copy[512];
	char *rest = copy;

	if (!options->rates)
		return 0;
	if (strlen(options->rates) >= sizeof(copy)) {
		tool_complain("--rate: the list is too long");
		return -1;
	}
	tool_copy_text(copy, sizeof(copy), options->rates);
	while (rest) {
		if (options->rate_count == ECHO_RATES_MAX) {
			tool_complain("--rate: more than %d rates", ECHO_RATES_MAX);
			return -1;
		}
		if (option_number("rate", strsep(&rest, ","), 1, 1e9, 0,
				  &options->rates_per_s[options->rate_count++]) < 0)
			return -1;
	}
	return 0;
}

static int check_one_way(const struct echo_options *options, enum echo_command command)
{
	const char *wrong = command == ECHO_COMMAND_SIZE         ? "one-way"
			    : options->rates                     ? "rate"
			    : options->connections > 1           ? "connections"
			    : options->depth > 1                 ? "depth"
			    : options->log || options->log_file  ? "log"
			    : options->plot                      ? "plot"
			    : strcmp(options->role, "both") != 0 ? "role"
			    : options->client                    ? "client"
			    : strcmp(options->proto, "tcp") != 0 ? "proto"
			    : options->size < ECHO_ONE_WAY_MIN   ? "size"
								 : NULL;

	if (!wrong)
		return 0;
	tool_complain("--%s: messages one way have %d bytes or more, on one connection of TCP or "
		      "the like, of demi bench echo with both ends here, and no more than that",
		      wrong, ECHO_ONE_WAY_MIN);
	return -1;
}

/* What no single option's range can say. */
static int check(const struct echo_options *options, enum echo_command command)
{
	bool udp = strcmp(options->proto, "udp") == 0;

	if (udp && (options->size < ECHO_DATAGRAM_MIN || options->size > ECHO_DATAGRAM_MAX)) {
		tool_complain("--size: a datagram here has %d to %d bytes", ECHO_DATAGRAM_MIN,
			      ECHO_DATAGRAM_MAX);
		return -1;
	}
	if (options->address && !address_is_good(options->address)) {
		tool_complain("--address: '%s' is not a numeric IPv4 or IPv6 address",
			      options->address);
		return -1;
	}
	if (command == ECHO_COMMAND_SIZE &&
	    (options->size != SIZE_DEFAULT || strcmp(options->role, "both") != 0)) {
		tool_complain("--%s: demi bench size has its own sizes, and both ends here",
			      options->size != SIZE_DEFAULT ? "size" : "role");
		return -1;
	}
	if (options->one_way && check_one_way(options, command) < 0)
		return -1;
	if (strcmp(options->role, "client") == 0 && options->port == 0) {
		tool_complain("--port: a client must be told the server's port");
		return -1;
	}
	return 0;
}

/* Where requests are logged, if they are. */
static int name_log(struct echo_options *options)
{
	if (!options->log && !options->log_file)
		return 0;
	if (strcmp(options->proto, "tcp") != 0) {
		tool_complain("--log: only with --proto tcp");
		return -1;
	}
	log_file_path(options->log_path, sizeof(options->log_path), "echo");
	if (options->log_file)
		tool_copy_text(options->log_path, sizeof(options->log_path), options->log_file);
	return 0;
}

/* Over RDMA a device is found by its address, and the loopback device is none: both ends here, or
 * a server, are at the first that there is, and so are the baselines.  If there is none, it is the
 * library's to say. */
static void find_rdma(struct echo_options *options)
{
	const struct echo_backend *backend = echo_backend_find(options->libos);

	if (backend && backend->rdma && !options->address && strcmp(options->role, "client") != 0 &&
	    rdma_address(options->rdma_address))
		options->address = options->rdma_address;
}

/* Both ends here and a device that a link can be made for. */
static int open_link(struct echo_options *options)
{
	if (!echo_link_is(options->device))
		return TOOL_GOOD;
	if (strcmp(options->role, "both") != 0) {
		if (strncmp(options->device, "veth", 4) != 0)
			return TOOL_GOOD;
		tool_complain("--device: veth makes both ends: --role both, or a device with "
			      "interface=NAME for this one");
		return TOOL_USAGE;
	}
	if (echo_link_open(&options->own_link, options->device))
		return TOOL_FAILED;
	options->link = &options->own_link;
	return TOOL_GOOD;
}

static void set_defaults(struct echo_options *options, enum echo_command command)
{
	const char *libos = getenv("LIBOS");

	*options = (struct echo_options){
		.libos = libos && *libos ? libos : "catnap",
		.proto = "tcp",
		.idle = "adaptive",
		.role = "both",
		.size = SIZE_DEFAULT,
		.connections = 1,
		.depth = 1,
		.pairs = command == ECHO_COMMAND_SIZE ? SIZE_PAIRS_DEFAULT : PAIRS_DEFAULT,
	};
}

int echo_options_read(struct echo_options *options, enum echo_command command, int argc,
		      char **argv)
{
	struct option_spec specs[OPTIONS_COUNT + 5] = {0};
	struct operands none;
	size_t count = OPTIONS_COUNT;

	set_defaults(options, command);
	describe_load(options, specs);
	describe_run(options, specs + 10);
	specs[count++] = (struct option_spec){"address",
					      OPTION_TEXT,
					      &options->address,
					      0,
					      0,
					      NULL,
					      "A",
					      "where the server is or listens (127.0.0.1)"};
	specs[count++] = (struct option_spec){"local",
					      OPTION_TEXT,
					      &options->local,
					      0,
					      0,
					      NULL,
					      "A/PREFIX",
					      "over memif or vhost: the address of a client alone"};
	specs[count++] = (struct option_spec){"port", OPTION_WHOLE, &options->port, 1, 65535,
					      NULL,   "P",          "its port"};
	specs[count++] =
		(struct option_spec){"log",
				     OPTION_FLAG,
				     &options->log,
				     0,
				     0,
				     NULL,
				     NULL,
				     "the server logs each request durably before it answers"};
	specs[count++] = (struct option_spec){
		"log-file",
		OPTION_TEXT,
		&options->log_file,
		0,
		0,
		NULL,
		"PATH",
		"the same, in this file, made and removed (in $TMPDIR, or here)"};
	switch (options_parse(specs, count, argc, argv, 0, &none)) {
	case OPTIONS_HELP:
		printf("usage: demi bench %s [OPTION...]\n", argv[0]);
		options_help(specs, count);
		print_names();
		return -1;
	case OPTIONS_BAD:
		return TOOL_USAGE;
	case OPTIONS_GOOD:
		break;
	}
	if (read_rates(options) < 0 || check(options, command) < 0 || name_log(options) < 0)
		return TOOL_USAGE;
	find_rdma(options);
	return open_link(options);
}

/* Over a bare port of DPDK. */
static bool is_bare(const struct echo_backend *backend)
{
	static const char *const names[] = {"raw", "lwip", "stackless"};

	for (size_t i = 0; i < TOOL_COUNT(names); i++) {
		if (strcmp(backend->name, names[i]) == 0)
			return true;
	}
	return false;
}

/* Whether a back end can do what is asked. */
static bool suits(const struct echo_spec *spec)
{
	bool alone = spec->connections == 1 && spec->depth == 1 && spec->rate_per_s <= 0;

	if (!alone && (echo_is_shm(spec) || (spec->server->memory && spec->server->local)))
		return false;
	if (spec->one_way && (!spec->server->sink || (!echo_is_shm(spec) && is_bare(spec->server))))
		return false;
	if (!(spec->server->protos & spec->proto) || !(spec->client->protos & spec->proto) ||
	    (spec->link && spec->server->local) || (spec->log && !spec->server->logs))
		return false;
	if (spec->client->rdma != spec->server->rdma)
		return false;
	return spec->client->client_connections == 0 ||
	       spec->connections <= spec->client->client_connections;
}

static bool serves(const struct echo_spec *spec)
{
	return spec->one_way ? spec->server->sink : spec->server->server;
}

static bool is_raw(const struct echo_backend *backend)
{
	return strcmp(backend->name, "raw") == 0;
}

/* The client of a server: itself; beside many connections or at a rate the same generator for all,
 * unless it is this client that drives the device, or both are on a link. */
static const struct echo_backend *default_client(const struct echo_options *options,
						 const struct echo_backend *server,
						 double rate_per_s)
{
	bool alone = strcmp(options->role, "client") == 0;

	if (options->one_way || server->memory || server->rdma)
		return server;
	if (!server->client)
		return echo_backend_find(server->device ? "stackless" : "generator");
	if ((options->connections == 1 && rate_per_s <= 0) ||
	    (server->device && (alone || options->link)))
		return server;
	return echo_backend_find("generator");
}

/* The floor of what passes by memory of two processes is memory, too. */
static const char *device_of(const struct echo_options *options, const struct echo_backend *server)
{
	const struct echo_backend *first = echo_backend_find(options->libos);

	return !options->device && first->memory && is_raw(server) ? ECHO_SHM : options->device;
}

static struct echo_spec spec_of(const struct echo_options *options,
				const struct echo_backend *server, size_t size, double rate_per_s)
{
	struct echo_spec spec = {
		.server = server,
		.client = default_client(options, server, rate_per_s),
		.device = server->device ? device_of(options, server) : NULL,
		.link = options->link,
		.idle = server->library ? options->idle : NULL,
		.log = options->log_path[0] ? options->log_path : NULL,
		.proto = strcmp(options->proto, "udp") == 0 ? ECHO_UDP : ECHO_TCP,
		.size = size,
		.one_way = options->one_way,
		.connections = (unsigned)options->connections,
		.depth = (unsigned)options->depth,
		.rate_per_s = rate_per_s,
		.rounds = options->rounds,
		.seconds = options->seconds,
		.core = (int)options->core,
		.address = options->address,
		.local = options->local,
		.port = (uint16_t)options->port,
	};

	if (options->client && !is_raw(server)) /* nobody else speaks its frames */
		spec.client = echo_backend_find(options->client);
	if (echo_is_shm(&spec) && spec.size > ECHO_SHM_SIZE_MAX)
		spec.size = ECHO_SHM_SIZE_MAX;
	return spec;
}

static bool is_shm(const struct echo_options *options)
{
	return options->device && strcmp(options->device, ECHO_SHM) == 0;
}

static const char *one_way_references(const struct echo_options *options,
				      const struct echo_backend *backend)
{
	if (backend->memory)
		return "pipe,unix-block,posix-block,raw";
	return backend->library || is_shm(options) ? "pipe,unix-block,posix-block" : "";
}

/* The references that a library OS has if none are asked for. */
static const char *default_references(const struct echo_options *options,
				      const struct echo_backend *backend, double rate_per_s)
{
	bool busy = strcmp(options->idle, "busy") == 0;

	if (options->reference)
		return strcmp(options->reference, "none") == 0 ? "" : options->reference;
	if (strcmp(options->role, "both") != 0)
		return "";
	if (options->one_way)
		return one_way_references(options, backend);
	if ((backend->memory && options->connections == 1 && rate_per_s <= 0) || is_shm(options))
		return backend->memory ? "raw,unix-block,posix-block" : "unix-block,posix-block";
	if (!backend->library)
		return "";
	if (options->connections > 1 || rate_per_s > 0)
		return "posix-epoll,io_uring";
	return busy ? "posix-spin,posix-epoll,posix-block,io_uring,unix-block"
		    : "posix-epoll,posix-spin,posix-block,io_uring,unix-block";
}

static int add_references(const struct echo_options *options, const char *names,
			  const struct echo_spec *first, struct contest *contest)
{
	char copy[512];
	char *rest = copy;
	bool asked = options->reference != NULL;

	tool_copy_text(copy, sizeof(copy), names);
	while (rest && *rest) {
		const struct echo_backend *backend =
			backend_or_complain("reference", strsep(&rest, ","));
		struct echo_spec spec;
		unsigned rounds = (unsigned)options->pairs;

		if (!backend)
			return TOOL_USAGE;
		spec = spec_of(options, backend, first->size, first->rate_per_s);
		if (!suits(&spec) || !serves(&spec)) {
			if (!asked)
				continue; /* a default that is not for this protocol */
			tool_complain("--reference: %s cannot do that", backend->name);
			return TOOL_USAGE;
		}
		if (!asked && contest->count > 1 && !contest->contestants[0].spec.server->memory &&
		    rounds > FURTHER_ROUNDS)
			rounds = FURTHER_ROUNDS;
		if (!contest_add(contest, &spec, rounds)) {
			tool_complain("--reference: more than %d back ends", CONTESTANTS_MAX - 1);
			return TOOL_USAGE;
		}
		if (contest->count == 2)
			contest->contestants[0].reference = &contest->contestants[1];
	}
	return TOOL_GOOD;
}

/* The runs' length, when neither rounds nor seconds are given. */
static void set_length(const struct echo_options *options, struct contest *contest)
{
	double seconds = contest->count > 1 ? PAIR_SECONDS : ALONE_SECONDS;

	for (size_t i = 0; i < contest->count && options->rounds == 0 && options->seconds <= 0; i++)
		contest->contestants[i].spec.seconds = seconds;
}

/* A back end with a device of its own, or one without. */
static int check_device(const struct echo_options *options, const struct echo_backend *backend)
{
	if (options->device && backend->rdma) {
		tool_complain("--device: %s finds its device by --address", backend->name);
		return -1;
	}
	if (is_shm(options)) {
		if ((is_raw(backend) || backend->memory) && strcmp(options->role, "both") == 0)
			return 0;
		tool_complain("--device: shm is the floor below catmem and catloop, --libos raw, "
			      "with both ends here");
		return -1;
	}
	if (options->device && !backend->device && !options->link) {
		tool_complain("--device: %s uses the kernel's sockets, it drives no device",
			      backend->name);
		return -1;
	}
	bool bare = is_bare(backend);
	bool dpdk = bare || strcmp(backend->name, "catnip") == 0;

	if (bare && !echo_dpdk_is(options->device)) {
		tool_complain("--device: %s is over memif or vhost", backend->name);
		return -1;
	}
	if (echo_dpdk_is(options->device) && backend->device && !dpdk) {
		tool_complain("--device: %s does not drive devices of DPDK", backend->name);
		return -1;
	}
	if (options->link && options->link->tap && strcmp(backend->name, "catnip") == 0) {
		tool_complain("--device: catnip is over memif, vhost or veth");
		return -1;
	}
	if (options->link && options->address) {
		tool_complain("--address: the link of --device has its own");
		return -1;
	}
	if (!backend->device || options->link)
		return 0;
	if (strcmp(options->role, "both") == 0) {
		tool_complain(
			"--role: %s needs a device for each end: --device veth makes both, or "
			"run --role server and --role client, each with its own --device",
			backend->name);
		return -1;
	}
	if (echo_dpdk_is(options->device) &&
	    (!options->address || (strcmp(options->role, "client") == 0 && !options->local))) {
		tool_complain("--address: memif and vhost want the server's address with its "
			      "prefix, and a client its own: --local");
		return -1;
	}
	if (strcmp(options->role, "client") == 0 && !options->address) {
		tool_complain("--address: a client over a device must be told where the server is");
		return -1;
	}
	return 0;
}

int echo_options_contest(const struct echo_options *options, size_t size, double rate_per_s,
			 struct contest *contest)
{
	const struct echo_backend *backend = backend_or_complain("libos", options->libos);
	const char *references;
	struct echo_spec spec;

	contest->count = 0;
	if (!backend || (options->client && !backend_or_complain("client", options->client)))
		return TOOL_USAGE;
	spec = spec_of(options, backend, size, rate_per_s);
	if (check_device(options, backend) < 0)
		return TOOL_USAGE;
	if (backend->local && strcmp(options->role, "both") != 0) {
		tool_complain("--role: %s has both ends here only", backend->name);
		return TOOL_USAGE;
	}
	if (!suits(&spec) || (!serves(&spec) && strcmp(options->role, "client") != 0)) {
		tool_complain("--libos: %s cannot serve or drive %s with %u connections%s here",
			      backend->name, options->proto, spec.connections,
			      spec.one_way ? ", one way," : "");
		return TOOL_USAGE;
	}
	references = default_references(options, backend, rate_per_s);
	contest_add(contest, &spec, *references ? (unsigned)options->pairs : 1);
	if (add_references(options, references, &spec, contest) != TOOL_GOOD)
		return TOOL_USAGE;
	set_length(options, contest);
	return TOOL_GOOD;
}
