/* SPDX-License-Identifier: MIT
 * tools/demi/log/info.c - `demi log info`: what is on a device, as its superblock and recovery
 * have it.
 */
#include "../report.h"
#include "commands.h"

#include <stdio.h>

static unsigned long long records_of(const struct logfile *log)
{
	return log->durable.sequence - log->head_sequence;
}

/* ---- text ---- */

static void print_log(const struct logfile *log)
{
	printf("\nlog \"%s\"\n", session_name(log).text);
	printf("  head      offset %llu, sequence %llu\n", (unsigned long long)log->head,
	       (unsigned long long)log->head_sequence);
	printf("  end       offset %llu, sequence %llu\n", (unsigned long long)log->durable.offset,
	       (unsigned long long)log->durable.sequence);
	printf("  epoch     %u\n", log->epoch);
	printf("  records   %llu\n", records_of(log));
	if (log->damages > 0)
		printf("  state     damaged, first at offset %llu\n",
		       (unsigned long long)log->damage_offset);
	else
		puts("  state     good");
}

static void print_text(const struct session *session)
{
	const struct store *store = session->store;
	const struct blkdev *dev = store->dev;

	printf("device      %s (%s%s%s)\n", store->path, dev->ops->name, *dev->mode ? ", " : "",
	       dev->mode);
	printf("identity    %016llx\n", (unsigned long long)store->super.identity);
	printf("capacity    %llu bytes%s\n", (unsigned long long)dev->capacity_bytes,
	       dev->growable ? ", which grows" : "");
	printf("block       %u bytes\n", store->super.block_bytes);
	printf("segment     %llu bytes\n", (unsigned long long)store->super.segment_bytes);
	printf("segments    %u: %u used, %u free", store->num_segments,
	       segment_count(store, SEGMENT_USED), segment_count(store, SEGMENT_FREE));
	if (segment_count(store, SEGMENT_DOUBTFUL) > 0)
		printf(", %u with a damaged header", segment_count(store, SEGMENT_DOUBTFUL));
	printf("\nlogs        %u of %d\n", session->num_logs, LOGS_MAX);
	for (uint32_t i = 0; i < session->num_logs; i++)
		print_log(session->logs[i]);
}

/* ---- JSON ---- */

static void print_number(const char *key, uint64_t value)
{
	printf("\"%s\": %llu, ", key, (unsigned long long)value);
}

static void print_log_json(const struct logfile *log)
{
	fputs("\n\t\t{\"name\": ", stdout);
	json_write_text(stdout, logfile_entry(log)->name);
	fputs(", ", stdout);
	print_number("head", log->head);
	print_number("head_sequence", log->head_sequence);
	print_number("end", log->durable.offset);
	print_number("end_sequence", log->durable.sequence);
	print_number("epoch", log->epoch);
	print_number("records", records_of(log));
	if (log->damages > 0)
		print_number("damage_offset", log->damage_offset);
	printf("\"damaged\": %s}", log->damages > 0 ? "true" : "false");
}

static void print_json(const struct session *session)
{
	const struct store *store = session->store;

	fputs("{\n\t\"device\": ", stdout);
	json_write_text(stdout, store->path);
	printf(", \"driver\": \"%s\", \"identity\": \"%016llx\",\n\t", store->dev->ops->name,
	       (unsigned long long)store->super.identity);
	print_number("capacity_bytes", store->dev->capacity_bytes);
	print_number("block_bytes", store->super.block_bytes);
	print_number("segment_bytes", store->super.segment_bytes);
	print_number("segments", store->num_segments);
	print_number("segments_used", segment_count(store, SEGMENT_USED));
	print_number("segments_free", segment_count(store, SEGMENT_FREE));
	fputs("\n\t\"logs\": [", stdout);
	for (uint32_t i = 0; i < session->num_logs; i++) {
		fputs(i ? "," : "", stdout);
		print_log_json(session->logs[i]);
	}
	puts("\n\t]\n}");
}

int log_info(const struct session *session, bool json)
{
	if (json)
		print_json(session);
	else
		print_text(session);
	return LOG_GOOD;
}
