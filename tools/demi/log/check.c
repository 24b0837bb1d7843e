/* SPDX-License-Identifier: MIT
 * tools/demi/log/check.c - `demi log check`: every record of every log is read, from the head on;
 * recovery looks at the last two segments only.
 */
#include "../tool.h"
#include "commands.h"

#include <stdio.h>
#include <string.h>

#define PROGRESS_NS (NS_PER_S / 5)

struct sum {
	uint64_t records;
	uint64_t bytes; /* of data */
	uint64_t damages;
	uint64_t lost; /* records */
	uint64_t ns;
};

static const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

static void print_sum(const struct sum *sum)
{
	double seconds = (double)sum->ns / NS_PER_S;

	printf("%llu record%s, %llu byte%s, %.1f MB/s, %llu damage%s",
	       (unsigned long long)sum->records, plural(sum->records),
	       (unsigned long long)sum->bytes, plural(sum->bytes),
	       seconds > 0 ? (double)sum->bytes / 1e6 / seconds : 0,
	       (unsigned long long)sum->damages, plural(sum->damages));
	if (sum->damages > 0)
		printf(", %llu record%s lost", (unsigned long long)sum->lost, plural(sum->lost));
	putchar('\n');
}

/* Damage, before which the record of that sequence number was to come. */
static void note_damage(struct sum *sum, const struct logfile *log, uint64_t sequence,
			const struct scan_result *result)
{
	uint64_t lost = result->next.sequence - sequence;

	sum->damages++;
	sum->lost += lost;
	progress_clear();
	printf("log \"%s\": damage at offset %llu up to %llu: ", session_name(log).text,
	       (unsigned long long)result->offset, (unsigned long long)result->next.offset);
	if (lost == 1)
		printf("the record of sequence number %llu is lost\n",
		       (unsigned long long)sequence);
	else
		printf("%llu records are lost, sequence numbers %llu to %llu\n",
		       (unsigned long long)lost, (unsigned long long)sequence,
		       (unsigned long long)result->next.sequence - 1);
}

static void show_progress(const struct logfile *log, const struct scan *scan, uint64_t *shown_ns)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns - *shown_ns < PROGRESS_NS)
		return;
	*shown_ns = now_ns;
	progress_show("log \"%s\": %llu of %llu MB", session_name(log).text,
		      (unsigned long long)(scan->at.offset - log->head) / 1000000,
		      (unsigned long long)(log->durable.offset - log->head) / 1000000);
}

/* Reads what is left of a scan. 0 or -errno. */
static int read_all(struct scan *scan, struct sum *sum)
{
	struct scan_result result;
	uint64_t shown_ns = clock_now_ns();

	for (;;) {
		uint64_t sequence = scan->at.sequence;
		scan_next(scan, &result);
		if (result.what == SCAN_END)
			return 0;
		if (result.what == SCAN_FAILURE)
			return result.err;
		if (result.what == SCAN_DAMAGE) {
			note_damage(sum, scan->log, sequence, &result);
			continue;
		}
		sum->records++;
		sum->bytes += result.header.data_bytes;
		show_progress(scan->log, scan, &shown_ns);
	}
}

static int check_log(struct logfile *log, struct sum *sum)
{
	const struct logfile_mark head = session_head(log);
	uint64_t begun_ns = clock_now_ns();
	struct scan scan;
	int err = session_scan(&scan, log, &head);

	if (err)
		return err;
	err = read_all(&scan, sum);
	progress_clear();
	if (err)
		tool_complain("log \"%s\": offset %llu: %s", session_name(log).text,
			      (unsigned long long)scan.at.offset, strerror(-err));
	scan_close(&scan);
	sum->ns = clock_now_ns() - begun_ns;
	return err;
}

static void add(struct sum *total, const struct sum *sum)
{
	total->records += sum->records;
	total->bytes += sum->bytes;
	total->damages += sum->damages;
	total->lost += sum->lost;
	total->ns += sum->ns;
}

int log_check(const struct session *session)
{
	struct sum total = {0};
	int err = 0;

	for (uint32_t i = 0; i < session->num_logs; i++) {
		struct sum sum = {0};
		int one = check_log(session->logs[i], &sum);
		err = err ? err : one;
		add(&total, &sum);
		if (session->num_logs == 1)
			continue;
		printf("log \"%s\": ", session_name(session->logs[i]).text);
		print_sum(&sum);
	}
	print_sum(&total);
	if (err)
		return LOG_UNREADABLE;
	return total.damages > 0 ? LOG_DAMAGED : LOG_GOOD;
}
