/* SPDX-License-Identifier: MIT
 * api/stat_document.c - an instance described as JSON.
 */
#include "api/instance.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct writer {
	FILE *file;
	const char *comma; /* what stands before the next member */
};

static void __attribute__((format(printf, 3, 4)))
member(struct writer *w, const char *name, const char *format, ...)
{
	va_list arguments;

	(void)fprintf(w->file, name ? "%s\"%s\":" : "%s", w->comma, name);
	va_start(arguments, format);
	(void)vfprintf(w->file, format, arguments);
	va_end(arguments);
	w->comma = ",";
}

static void number_member(struct writer *w, const char *name, uint64_t value)
{
	member(w, name, "%llu", (unsigned long long)value);
}

/* Names, paths, addresses and configuration values hold no characters that JSON would have escaped
 * but quotes and backslashes. */
static void text_member(struct writer *w, const char *name, const char *text)
{
	(void)fprintf(w->file, "%s\"%s\":\"", w->comma, name);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			(void)fputc('\\', w->file);
		(void)fputc((unsigned char)*text < ' ' ? '?' : *text, w->file);
	}
	(void)fputc('"', w->file);
	w->comma = ",";
}

static void open_group(struct writer *w, const char *name, char bracket)
{
	member(w, name, "%c", bracket);
	w->comma = "";
}

static void close_group(struct writer *w, char bracket)
{
	(void)fputc(bracket, w->file);
	w->comma = ",";
}

/* "1.2.3.4:80", "[::1]:80" or "". */
static void address_text(const struct sockaddr_storage *address, char *out, size_t room)
{
	char host[INET6_ADDRSTRLEN] = "";

	*out = '\0';
	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;
		(void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		(void)snprintf(out, room, "%s:%u", host, ntohs(in->sin_port));
	} else if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		(void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		(void)snprintf(out, room, "[%s]:%u", host, ntohs(in6->sin6_port));
	}
}

static void write_queue(void *arg, struct queue *queue)
{
	struct writer *w = arg;
	struct queue_info info;
	char address[INET6_ADDRSTRLEN + 16];

	queue->ops->describe(queue, &info);
	open_group(w, NULL, '{');
	member(w, "qd", "%d", queue->qd);
	text_member(w, "kind", info.kind);
	text_member(w, "state", info.state);
	address_text(&info.local, address, sizeof(address));
	text_member(w, "local", address);
	address_text(&info.peer, address, sizeof(address));
	text_member(w, "peer", address);
	member(w, "pops_pending", "%u", info.pops_pending);
	member(w, "pushes_pending", "%u", info.pushes_pending);
	member(w, "elements", "%u", info.elements);
	number_member(w, "held_bytes", info.held_bytes);
	if (info.name)
		text_member(w, "name", info.name);
	if (info.filter)
		text_member(w, "filter", info.filter);
	if (info.expression)
		text_member(w, "expression", info.expression);
	close_group(w, '}');
}

static void write_key(void *arg, const char *field, const char *value)
{
	text_member(arg, field, value);
}

static void write_log(void *arg, const struct log_info *info)
{
	struct writer *w = arg;

	open_group(w, NULL, '{');
	text_member(w, "name", info->name);
	text_member(w, "drive", info->drive);
	text_member(w, "state", info->state);
	number_member(w, "queues", info->queues);
	number_member(w, "head", info->head);
	number_member(w, "end", info->end);
	number_member(w, "records", info->records);
	number_member(w, "appended", info->appended);
	number_member(w, "appended_bytes", info->appended_bytes);
	number_member(w, "batches", info->batches);
	member(w, "records_per_batch", "%.2f",
	       info->batches ? (double)info->appended / (double)info->batches : 0.0);
	number_member(w, "batches_in_flight", info->in_flight);
	number_member(w, "pushes_waiting", info->waiting);
	number_member(w, "pushes_failed", info->failed);
	number_member(w, "popped", info->popped);
	number_member(w, "popped_bytes", info->popped_bytes);
	number_member(w, "lost_at_opening", info->lost);
	number_member(w, "damage_popped", info->met);
	number_member(w, "passed_over", info->passed);
	close_group(w, '}');
}

static void write_drive(void *arg, const struct drive_info *info)
{
	struct writer *w = arg;

	open_group(w, NULL, '{');
	text_member(w, "path", info->path);
	text_member(w, "driver", info->driver);
	if (*info->mode)
		text_member(w, "mode", info->mode);
	number_member(w, "block_bytes", info->block_bytes);
	number_member(w, "capacity_bytes", info->capacity_bytes);
	number_member(w, "used_bytes", info->used_bytes);
	number_member(w, "free_bytes", info->free_bytes);
	member(w, "grows", info->grows ? "true" : "false");
	number_member(w, "reads", info->reads);
	number_member(w, "read_bytes", info->read_bytes);
	number_member(w, "writes", info->writes);
	number_member(w, "written_bytes", info->written_bytes);
	number_member(w, "durable_writes", info->durable_writes);
	number_member(w, "flushes", info->flushes);
	number_member(w, "discards", info->discards);
	number_member(w, "requests_in_flight", info->in_flight);
	number_member(w, "requests_waiting", info->waiting);
	number_member(w, "errors", info->errors);
	close_group(w, '}');
}

/* Both lists are there without a log, too. */
static void write_storage(struct writer *w, const struct log_engine *logs)
{
	open_group(w, "logs", '[');
	if (logs)
		log_engine_each_log(logs, write_log, w);
	close_group(w, ']');
	open_group(w, "drives", '[');
	if (logs)
		log_engine_each_drive(logs, write_drive, w);
	close_group(w, ']');
}

static void write_counters(struct writer *w, const struct sched *sched)
{
	open_group(w, "counters", '{');
	for (enum counter i = 0; i < COUNTER_COUNT; i++)
		number_member(w, counter_name(i), sched->counters.count[i]);
	number_member(w, "poll_turns", sched->turns);
	number_member(w, "coroutine_runs", sched->coroutines.runs);
	close_group(w, '}');
	open_group(w, "drops", '{');
	for (enum drop i = DROP_NONE + 1; i < DROP_COUNT; i++)
		number_member(w, drop_name(i), sched->counters.drops[i]);
	close_group(w, '}');
}

static void write_memory(struct writer *w, const struct sched *sched)
{
	struct heap_usage usage;

	heap_usage(sched->heap, &usage);
	open_group(w, "heap", '{');
	number_member(w, "committed_bytes", usage.committed_bytes);
	number_member(w, "live_objects", usage.live_objects);
	number_member(w, "live_bytes", usage.live_bytes);
	number_member(w, "remote_free_errors", usage.remote_errors);
	close_group(w, '}');
	open_group(w, "scheduler", '{');
	member(w, "operations", "%u", sched->ops.used);
	member(w, "coroutines", "%u", sched->coroutines.live);
	number_member(w, "timers", sched->timers.armed);
	close_group(w, '}');
}

static void write_device(struct writer *w, const struct engine_info *info)
{
	const uint8_t *mac = info->mac;

	open_group(w, "device", '{');
	text_member(w, "name", info->device);
	if (*info->mode)
		text_member(w, "mode", info->mode);
	member(w, "mac", "\"%02x:%02x:%02x:%02x:%02x:%02x\"", mac[0], mac[1], mac[2], mac[3],
	       mac[4], mac[5]);
	member(w, "mtu", "%u", info->mtu);
	member(w, "tx_checksum_offload", info->tx_checksum ? "true" : "false");
	member(w, "rx_checksum_offload", info->rx_checksum ? "true" : "false");
	member(w, "tx_cut_bytes", "%u", info->tx_cut_bytes);
	member(w, "tx_segments", "%u", info->tx_segments);
	member(w, "lro", info->lro ? "true" : "false");
	member(w, "rss", info->rss ? "true" : "false");
	number_member(w, "rx_frames", info->rx_frames);
	number_member(w, "rx_bytes", info->rx_bytes);
	number_member(w, "tx_frames", info->tx_frames);
	number_member(w, "tx_bytes", info->tx_bytes);
	number_member(w, "tx_busy", info->tx_busy);
	close_group(w, '}');
}

static void seconds_member(struct writer *w, const char *name, int64_t seconds)
{
	if (seconds < 0)
		text_member(w, name, "forever");
	else
		member(w, name, "%lld", (long long)seconds);
}

static void write_addresses(struct writer *w, const struct engine_info *info)
{
	open_group(w, "addresses", '[');
	for (uint32_t i = 0; i < info->num_addresses; i++) {
		open_group(w, NULL, '{');
		text_member(w, "address", info->addresses[i].text);
		text_member(w, "state", info->addresses[i].state);
		text_member(w, "origin", info->addresses[i].origin);
		seconds_member(w, "preferred_s", info->addresses[i].preferred_s);
		seconds_member(w, "valid_s", info->addresses[i].valid_s);
		close_group(w, '}');
	}
	close_group(w, ']');
	open_group(w, "gateways", '{');
	text_member(w, "ipv4", info->routers[0]);
	text_member(w, "ipv6", info->routers[1]);
	close_group(w, '}');
}

/* A network stack of our own: its device, its neighbours, its connections by their states. */
static void write_engine(struct writer *w, struct engine *engine)
{
	struct engine_info info;

	member(w, "lingering", "%u", engine->ops->lingering(engine));
	if (!engine->ops->describe)
		return;
	engine->ops->describe(engine, &info);
	write_device(w, &info);
	write_addresses(w, &info);
	open_group(w, "neighbours", '{');
	member(w, "entries", "%u", info.neighbours);
	member(w, "max", "%u", info.neighbours_max);
	close_group(w, '}');
	open_group(w, "connections", '{');
	for (uint32_t i = 0; i < info.num_states; i++)
		member(w, info.states[i].name, "%u", info.states[i].count);
	close_group(w, '}');
}

char *stat_document(struct demi *demi, unsigned index, size_t *bytes_out)
{
	char *text = NULL;
	struct writer w = {.file = open_memstream(&text, bytes_out), .comma = ""};

	if (!w.file)
		return NULL;
	open_group(&w, NULL, '{');
	member(&w, "pid", "%d", (int)getpid());
	member(&w, "instance", "%u", index);
	text_member(&w, "version", DEMI_VERSION_TEXT);
	text_member(&w, "libos", config_choice_name(&demi->sched.config, "libos"));
	text_member(&w, "engine", demi->engine->ops->name);
	member(&w, "uptime_s", "%.3f",
	       (double)(sched_now(&demi->sched) - demi->sched.opened_ns) / 1e9);
	write_engine(&w, demi->engine);
	open_group(&w, "queues", '[');
	queue_each(&demi->queues, write_queue, &w);
	close_group(&w, ']');
	write_storage(&w, demi->logs);
	write_memory(&w, &demi->sched);
	write_counters(&w, &demi->sched);
	open_group(&w, "config", '{');
	config_each(&demi->sched.config, write_key, &w);
	close_group(&w, '}');
	close_group(&w, '}');
	if (fclose(w.file)) {
		free(text);
		return NULL;
	}
	return text;
}
