/* SPDX-License-Identifier: MIT
 * storage/scan.h - records of a log one after the other, straight from the medium: for recovery,
 * for tools, and for who looks for the next good record behind damage.  Blocks.
 */
#pragma once

#include "storage/logfile.h"

enum scan_what {
	SCAN_RECORD,  /* a good record */
	SCAN_END,     /* there is no further one, nor a sign that there was one */
	SCAN_DAMAGE,  /* from offset up to next.offset there were records that are damaged */
	SCAN_FAILURE, /* err: the device cannot read */
};

struct scan_result {
	enum scan_what what;
	uint64_t offset;
	struct record_header header; /* SCAN_RECORD */
	struct logfile_mark next;    /* where it goes on; SCAN_END: the end */
	int err;
};

struct scan {
	struct logfile *log;
	struct logfile_mark at; /* sequence 0: not known */
	uint32_t epoch;         /* of the last record */
	struct logfile_mark
		proven; /* what is before it was on stable media, whatever is there now */
	char *window;   /* heap memory: [window_at, window_at + window_bytes) of the log */
	uint64_t window_at;
	uint64_t window_bytes;
	bool want_data;
	char *data; /* of the last record, if it is wanted; heap memory */
	uint64_t data_bytes;
};

/* A scan of what is at a mark and behind it, up to the end of the last segment.  0 or -ENOMEM. */
int scan_open(struct scan *scan, struct logfile *log, const struct logfile_mark *from);
void scan_close(struct scan *scan);

void scan_next(struct scan *scan, struct scan_result *result);
