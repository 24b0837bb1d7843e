/* SPDX-License-Identifier: MIT
 * tools/demi/log/dump.c - `demi log dump`: the records, a line each, or their data as it is.
 */
#include "../tool.h"
#include "commands.h"

#include <stdio.h>
#include <string.h>

#define SHOWN_BYTES 24

struct dump {
	const struct dump_options *options;
	uint64_t count;
	bool damaged;
};

static bool is_text(const unsigned char *data, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++) {
		if (data[i] < ' ' || data[i] > '~')
			return false;
	}
	return true;
}

static void print_record(const struct scan *scan, const struct scan_result *result)
{
	const struct record_header *header = &result->header;
	const unsigned char *data = (const unsigned char *)scan->data;
	uint32_t shown = header->data_bytes < SHOWN_BYTES ? header->data_bytes : SHOWN_BYTES;

	printf("%14llu %12llu %6u %9u  ", (unsigned long long)result->offset,
	       (unsigned long long)header->sequence, header->epoch, header->data_bytes);
	if (is_text(data, shown)) {
		printf("\"%.*s\"", (int)shown, scan->data);
	} else {
		for (uint32_t i = 0; i < shown; i++)
			printf("%02x", data[i]);
	}
	puts(shown < header->data_bytes ? " ..." : "");
}

/* Records that lack: among the lines, or where they do not mix with the data. */
static void tell_damage(struct dump *dump, uint64_t sequence, const struct scan_result *result)
{
	FILE *to = dump->options->raw ? stderr : stdout;

	dump->damaged = true;
	fprintf(to, "%14llu %12llu damaged: %llu lost\n", (unsigned long long)result->offset,
		(unsigned long long)sequence,
		(unsigned long long)(result->next.sequence - sequence));
}

static void put_out(struct dump *dump, const struct scan *scan, const struct scan_result *result)
{
	dump->count++;
	if (dump->options->raw)
		fwrite(scan->data, 1, result->header.data_bytes, stdout);
	else
		print_record(scan, result);
}

/* As far as is asked for. 0 or -errno. */
static int dump_all(struct dump *dump, struct scan *scan)
{
	const uint64_t most = dump->options->count;
	struct scan_result result;

	while ((most == 0 || dump->count < most) && !ferror(stdout)) {
		uint64_t sequence = scan->at.sequence;
		scan_next(scan, &result);
		if (result.what == SCAN_END)
			return 0;
		if (result.what == SCAN_FAILURE)
			return result.err;
		if (result.what == SCAN_RECORD)
			put_out(dump, scan, &result);
		else if (sequence > 0) /* else it was the way to the first record */
			tell_damage(dump, sequence, &result);
	}
	return 0;
}

static int dump_log(struct dump *dump, struct logfile *log)
{
	struct logfile_mark from = session_head(log);
	struct scan scan;

	if (dump->options->from > log->head)
		from = (struct logfile_mark){.offset = dump->options->from};
	if (from.offset >= log->durable.offset)
		return 0;
	dump->count = 0;
	int err = session_scan(&scan, log, &from);
	if (err)
		return err;
	scan.want_data = true;
	err = dump_all(dump, &scan);
	if (err)
		tool_complain("log \"%s\": offset %llu: %s", session_name(log).text,
			      (unsigned long long)scan.at.offset, strerror(-err));
	scan_close(&scan);
	return err;
}

int log_dump(const struct session *session, const struct dump_options *options)
{
	struct dump dump = {.options = options};
	struct logfile *only = options->log ? session_find(session, options->log) : NULL;
	int err = 0;

	if (options->log && !only)
		return LOG_UNREADABLE;
	if (!only && session->num_logs > 1 && (options->raw || options->from)) {
		tool_complain("log: there are %u logs: which one? (--log)", session->num_logs);
		return LOG_UNREADABLE;
	}
	for (uint32_t i = 0; i < session->num_logs && !err; i++) {
		struct logfile *log = session->logs[i];
		if (only && only != log)
			continue;
		if (!options->raw)
			printf("log \"%s\"\n%14s %12s %6s %9s  %s\n", session_name(log).text,
			       "offset", "sequence", "epoch", "bytes", "data");
		err = dump_log(&dump, log);
	}
	if (err)
		return LOG_UNREADABLE;
	return dump.damaged ? LOG_DAMAGED : LOG_GOOD;
}
