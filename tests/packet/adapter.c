/* SPDX-License-Identifier: MIT
 * tests/packet/adapter.c - packetdrill_interface_init: the adapter's flags, its life, and the
 * members that are packets and time; see adapter.h.
 *
 * The flags are words with commas between them:
 *	linux		what Linux's own scripts expect, as settings
 *	nojumbo		packets that are longer than the MTU do not arrive; they do else, as from a
 *			device that puts segments together
 *	local=ADDRESS	the stack's address of that family
 *	KEY=VALUE	any key of demi.yaml(5)
 *
 * What is said later wins over what is said before, and over `linux` wherever that stands.  What
 * packetdrill and its script say of that by themselves (adapter_script.c) comes before the words.
 */
#include "packet/adapter.h"

#include "api/instance.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JUMBO_BYTES 65535

struct setting {
	const char *key;
	const char *value;
};

/* clang-format off: one a line */

/* What a script may count on without a flag. */
static const struct setting plain[] = {
	{"dad_probes", "0"}, /* it would ask for no neighbour before */
	{"libos", "catpowder"},   {"stat_socket", "off"},
	{"tcp_quick_ack", "off"}, /* scripts that want it say so */
	{"huge_pages", "never"},  {"heap_max_bytes", "268435456"},
	{"frames_max", "2048"},   {"mtu", "1500"},
};

static const struct setting linux_profile[] = {
	{"nodelay", "false"},
	{"tcp_nagle", "small"},
	{"tcp_quick_ack", "full"},
	{"tcp_initial_window", "10"},
	{"tcp_rto_initial_ms", "1000"},
	{"tcp_rto_min_ms", "200"},
	{"tcp_rto_floor", "variation"},
	{"tcp_delayed_ack_ms", "40"},
	{"tcp_fin_ack", "delayed"},
	{"tcp_push", "burst"},
	{"tcp_reduce", "window"},
	{"tcp_mtu_resend", "window"},
	{"tcp_loss_probe", "first"},
	{"tcp_idle_restart", "off"},
	{"tcp_slow_start_exit", "delay"},
	{"tcp_cubic_look", "interval"},
	{"tcp_window_edge", "whole"},
	{"tcp_window_probe", "ack"},
	{"tcp_read_shut", "keep"},
	{"tcp_timeout_reset", "off"},
	{"tcp_time_wait_ms", "60000"},
	{"tcp_receive_buffer_max_bytes", "15728640"},
};

/* clang-format on */

struct setup {
	struct config_override *overrides;
	char v4[INET6_ADDRSTRLEN];
	char v6[INET6_ADDRSTRLEN];
	bool nojumbo;
	char refusal[512]; /* why not; empty: nothing is wrong */
};

static void keep_refusal(void *arg, int level, const char *message)
{
	struct setup *setup = arg;

	(void)level;
	if (!setup->refusal[0])
		snprintf(setup->refusal, sizeof(setup->refusal), "%s", message);
}

static void refuse(struct setup *setup, const char *what, const char *word)
{
	if (!setup->refusal[0])
		snprintf(setup->refusal, sizeof(setup->refusal), "%s: `%s`", what, word);
}

static void set(struct setup *setup, const char *key, const char *value)
{
	const struct log log = {.fn = keep_refusal, .arg = setup};

	if (config_override_set(&setup->overrides, key, value, &log))
		refuse(setup, "no setting", key);
}

static void set_all(struct setup *setup, const struct setting *settings, size_t count)
{
	for (size_t i = 0; i < count; i++)
		set(setup, settings[i].key, settings[i].value);
}

static void set_local(struct setup *setup, const char *address)
{
	struct in6_addr bytes;

	if (inet_pton(AF_INET, address, &bytes) == 1)
		snprintf(setup->v4, sizeof(setup->v4), "%s", address);
	else if (inet_pton(AF_INET6, address, &bytes) == 1)
		snprintf(setup->v6, sizeof(setup->v6), "%s", address);
	else
		refuse(setup, "no address", address);
}

static void take_setting(void *arg, const char *key, const char *value)
{
	if (strcmp(key, "local") == 0)
		set_local(arg, value);
	else
		set(arg, key, value);
}

/* The flags but `linux`, word by word; text is cut up. */
static void read_words(struct setup *setup, char *text)
{
	char *rest;

	for (char *word = strtok_r(text, ", ", &rest); word; word = strtok_r(NULL, ", ", &rest)) {
		char *equals = strchr(word, '=');
		if (strcmp(word, "linux") == 0)
			continue;
		if (strcmp(word, "nojumbo") == 0) {
			setup->nojumbo = true;
			continue;
		}
		if (!equals) {
			refuse(setup, "unknown flag", word);
			return;
		}
		*equals = '\0';
		take_setting(setup, word, equals + 1);
	}
}

static bool has_word(const char *text, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at += length) {
		bool begins = at == text || strchr(", ", at[-1]);
		if (begins && strchr(", ", at[length])) /* the terminating 0 too */
			return true;
	}
	return false;
}

/* A neighbour of ours that is everybody's router. */
static void gateway_of(const char *address, char *out, size_t bytes)
{
	struct in6_addr raw = {0};
	bool v4 = inet_pton(AF_INET, address, &raw) == 1;
	uint8_t *last = (uint8_t *)&raw + (v4 ? 3 : 15);

	if (!v4)
		(void)inet_pton(AF_INET6, address, &raw);
	*last = *last == 2 ? 3 : 2;
	(void)inet_ntop(v4 ? AF_INET : AF_INET6, &raw, out, (socklen_t)bytes);
}

static void set_addresses(struct setup *setup)
{
	char text[256];
	char v4[INET6_ADDRSTRLEN];
	char v6[INET6_ADDRSTRLEN];

	snprintf(text, sizeof(text), "%s/24,%s/64", setup->v4, setup->v6);
	set(setup, "addresses", text);
	gateway_of(setup->v4, v4, sizeof(v4));
	gateway_of(setup->v6, v6, sizeof(v6));
	snprintf(text, sizeof(text), "%s,%s", v4, v6);
	set(setup, "gateways", text);
}

static bool configure(struct setup *setup, const char *flags, struct config *config)
{
	const struct log log = {.fn = keep_refusal, .arg = setup};
	char *copy = strdup(flags);

	if (!copy)
		abort();
	*setup = (struct setup){.v4 = "192.168.0.1", .v6 = "fd3d:a0b:17d6::1"};
	set_all(setup, plain, sizeof(plain) / sizeof(plain[0]));
	if (has_word(flags, "linux"))
		set_all(setup, linux_profile, sizeof(linux_profile) / sizeof(linux_profile[0]));
	adapter_read_script(take_setting, setup);
	read_words(setup, copy);
	free(copy);
	set_addresses(setup);
	if (!setup->refusal[0] && config_load(config, NULL, setup->overrides, &log))
		refuse(setup, "bad flags", flags);
	config_override_free(&setup->overrides);
	return !setup->refusal[0];
}

/* ---- packets and time ---- */

static int so_netdev_send(void *adapter, const void *packet, size_t bytes)
{
	adapter_enter(adapter);
	bool taken = adapter_arrive(adapter, packet, (uint32_t)bytes);
	adapter_settle(adapter);
	adapter_leave(adapter);
	return taken ? 0 : -1;
}

static bool has_sent(const void *arg)
{
	const struct adapter *adapter = arg;

	return adapter->sent != NULL;
}

static int so_netdev_receive(void *adapter, void *packet, size_t *bytes, long long *time_usecs)
{
	struct adapter *a = adapter;

	adapter_enter(a);
	adapter_pass(a, a->now_ns + ADAPTER_QUIET_NS, has_sent, a);
	struct adapter_packet *next = a->sent;
	if (next) {
		a->sent = next->next;
		*bytes = next->length < *bytes ? next->length : *bytes;
		memcpy(packet, next->bytes, *bytes);
		*time_usecs = (long long)(next->at_ns / 1000);
		free(next);
	} else {
		*bytes = 0;
	}
	adapter_leave(a);
	return 0;
}

static int so_usleep(void *adapter, useconds_t usecs)
{
	struct adapter *a = adapter;

	adapter_enter(a);
	adapter_pass(a, a->now_ns + (uint64_t)usecs * 1000, NULL, NULL);
	adapter_leave(a);
	return 0;
}

/* The clock moves by being read: packetdrill waits the last moments by reading it.  A thread whose
 * call has ended is told when that was, however far the others have come meanwhile. */
static int so_gettimeofday(void *adapter, struct timeval *time, struct timezone *zone)
{
	struct adapter *a = adapter;

	(void)zone;
	adapter_enter(a);
	uint64_t now = a->ended_ns;
	if (a->has_ended && pthread_equal(a->ended_thread, pthread_self())) {
		a->has_ended = false;
	} else {
		adapter_pass(a, a->now_ns + 1000, NULL, NULL);
		now = a->now_ns;
	}
	adapter_leave(a);
	time->tv_sec = (time_t)(now / 1000000000);
	time->tv_usec = (suseconds_t)(now % 1000000000 / 1000);
	return 0;
}

/* ---- life ---- */

static void close_instance(struct adapter *adapter)
{
	if (!adapter->demi)
		return;
	adapter->demi->sched.config.linger_ms = 0; /* the clock stands still */
	adapter_close_all(adapter);
	while (adapter->callers > 0) {
		(void)demi_enter(NULL);
		pthread_cond_wait(&adapter->left, &adapter->lock);
		(void)demi_enter(adapter->demi);
	}
	posix_fini(&adapter->posix);
	(void)demi_destroy(adapter->demi);
	adapter->demi = NULL;
}

static void so_free(void *adapter)
{
	struct adapter *a = adapter;

	if (!a)
		return;
	adapter_enter(a);
	close_instance(a);
	adapter_leave(a);
	adapter_free_packets(a);
	pthread_cond_destroy(&a->left);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

/* The instance.  False: a->log says why. */
static bool open_instance(struct adapter *a, const struct config *config, bool jumbo)
{
	bool anew;
	int err = process_begin(&anew);

	if (!err)
		err = adapter_open_wire(a, jumbo ? JUMBO_BYTES : (uint32_t)config->mtu);
	const struct sched_world world = {
		.now_ns = adapter_now,
		.arg = a,
		.seed = 1,
		.secret = {0x0123456789abcdef, 0xfedcba9876543210},
		.netdev = a->dev,
		.every_turn = true,
	};
	if (!err)
		err = instance_create(config, &world, &a->demi);
	if (!err)
		err = demi_enter(a->demi);
	return !err && posix_init(&a->posix, 0, ADAPTER_FILES, adapter_now, a) == 0;
}

static struct adapter *adapter_new(const struct config *config, const struct setup *setup)
{
	struct adapter *a = calloc(1, sizeof(*a));

	if (!a)
		abort();
	a->owner = pthread_self();
	for (int fd = 0; fd < ADAPTER_FDS; fd++)
		a->files[fd] = -1;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->left, NULL);
	adapter_enter(a);
	bool ok = open_instance(a, config, !setup->nojumbo);
	if (ok)
		adapter_settle(a);
	adapter_leave(a);
	if (ok)
		return a;
	fprintf(stderr, "packetdrill-adapter: no instance: %s\n", a->log);
	so_free(a);
	return NULL;
}

void packetdrill_interface_init(const char *flags, struct packetdrill_interface *ifc)
{
	struct config config;
	struct setup setup;
	struct adapter *adapter = NULL;

	if (configure(&setup, flags ? flags : "", &config))
		adapter = adapter_new(&config, &setup);
	else
		fprintf(stderr, "packetdrill-adapter: %s\n", setup.refusal);
	if (!adapter)
		exit(EXIT_FAILURE); /* the interface has no way to say so */
	*ifc = (struct packetdrill_interface){
		.userdata = adapter,
		.free = so_free,
		.netdev_send = so_netdev_send,
		.netdev_receive = so_netdev_receive,
		.usleep = so_usleep,
		.gettimeofday = so_gettimeofday,
	};
	adapter_fill_calls(ifc);
}
