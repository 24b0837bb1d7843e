/* SPDX-License-Identifier: MIT
 * tests/packet/run_options.c - the first lines of a script: what they say to the runner, and what
 * to the adapter.
 */
#include "packet/run.h"

#include "base/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE_US 4000

static const char *const ignored_options[] = {
	"send_omit_free", "non_fatal",   "init_scripts", "code", "verbose",
	"debug",          "wire_client", "so_flags",     "mss",  "tcp_ts_tick_usecs"};

static bool read_address(struct run *run, const struct option_line *o)
{
	if (strcmp(o->value, "192.168.0.1") == 0 || strcmp(o->value, "192.0.2.1") == 0 ||
	    strcmp(o->value, "fd3d:a0b:17d6::1") == 0 || strcmp(o->value, "fd3d:fa7b:d17d::1") == 0)
		return true; /* as they are */
	return run_failed(run, o->line, "--%s: only the addresses of the README are supported",
			  o->name);
}

static bool read_option(struct run *run, const struct option_line *o)
{
	char *end;
	long value = strtol(o->value, &end, 10);
	bool is_number = *o->value && !*end;

	if (strcmp(o->name, "ip_version") == 0) {
		run->v6 = strcmp(o->value, "ipv6") == 0;
		return run->v6 || strcmp(o->value, "ipv4") == 0 ||
		       run_failed(run, o->line, "--ip_version=%s is not supported", o->value);
	}
	if (strcmp(o->name, "tolerance_usecs") == 0 && is_number && value >= 0) {
		run->tolerance_us = (uint64_t)value;
		return true;
	}
	if (strcmp(o->name, "mtu") == 0 && is_number && value >= 576 && value <= 9216) {
		run->mtu = (uint32_t)value;
		return true;
	}
	if (strcmp(o->name, "local_ip") == 0 || strcmp(o->name, "remote_ip") == 0)
		return read_address(run, o);
	if (strcmp(o->name, "strict") == 0) {
		run->strict = true;
		return true;
	}
	if (strcmp(o->name, "config") == 0)
		return true; /* for the adapter */
	for (size_t i = 0; i < sizeof(ignored_options) / sizeof(ignored_options[0]); i++) {
		if (strcmp(o->name, ignored_options[i]) == 0)
			return true;
	}
	return run_failed(run, o->line, "--%s=%s is not supported", o->name, o->value);
}

bool run_options(struct run *run)
{
	static const uint8_t local6[16] = {0xfd, 0x3d, 0x0a, 0x0b, 0x17, 0xd6, [15] = 1};
	static const uint8_t remote6[16] = {0xfd, 0x3d, 0xfa, 0x7b, 0xd1, 0x7d, [15] = 1};
	struct ip_address local = ip_from_bytes(local6);
	struct ip_address remote = ip_from_bytes(remote6);

	run->tolerance_us = TOLERANCE_US;
	run->mtu = 1500;
	for (const struct option_line *o = run->script->options; o; o = o->next) {
		if (!read_option(run, o))
			return false;
	}
	if (!run->v6) {
		local = ip_from_v4(__builtin_bswap32(0xc0a80001U));
		remote = ip_from_v4(__builtin_bswap32(0xc0000201U));
	}
	flows_init(&run->flows, &local, &remote);
	run->flows.ts_tolerance_ms = (uint32_t)(run->tolerance_us / 1000) + 1;
	return true;
}

struct complaint {
	char text[256];
};

static void keep_complaint(void *arg, int level, const char *message)
{
	struct complaint *complaint = arg;

	(void)level;
	snprintf(complaint->text, sizeof(complaint->text), "%s", message);
}

/* A bad setting is the script's fault: the adapter would end the process. */
static bool check_setting(struct run *run, const struct option_line *o)
{
	struct complaint complaint = {0};
	const struct log log = {.fn = keep_complaint, .arg = &complaint};
	struct config_override *overrides = NULL;
	const char *equals = strchr(o->value, '=');
	char key[64];

	if (!equals || (size_t)(equals - o->value) >= sizeof(key))
		return run_failed(run, o->line, "--config=key=value");
	memcpy(key, o->value, (size_t)(equals - o->value));
	key[equals - o->value] = '\0';
	int err = config_override_set(&overrides, key, equals + 1, &log);
	config_override_free(&overrides);
	return !err || run_failed(run, o->line, "%s", complaint.text);
}

bool run_flags(struct run *run, const char *given, char **flags)
{
	FILE *out;
	size_t bytes;
	bool ok = true;

	*flags = NULL;
	out = open_memstream(flags, &bytes);
	if (!out)
		abort();
	fprintf(out, "%s,mtu=%u", given ? given : "nojumbo", run->mtu);
	for (const struct option_line *o = run->script->options; ok && o; o = o->next) {
		if (strcmp(o->name, "so_flags") == 0)
			fprintf(out, ",%s", o->value);
		if (strcmp(o->name, "config") != 0)
			continue;
		ok = check_setting(run, o);
		fprintf(out, ",%s", o->value);
	}
	fclose(out);
	return ok;
}
