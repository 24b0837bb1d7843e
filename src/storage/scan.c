/* SPDX-License-Identifier: MIT */
#include "storage/scan.h"

#include "base/assert.h"
#include "storage/crc32c.h"

#include <errno.h>
#include <string.h>

#define WINDOW_BYTES (1U << 20)

/* ---- the window ---- */

static uint64_t segment_limit(const struct scan *scan, uint64_t offset)
{
	const struct store *store = scan->log->store;

	return logfile_serial(scan->log, offset) * store->super.segment_bytes + segment_room(store);
}

/* Reads what is at an offset, and as much behind it as fits.  0, -EIO ...; -ENOENT: there is no
 * segment. */
static int load(struct scan *scan, uint64_t offset)
{
	const struct store *store = scan->log->store;
	const struct logfile_segment *segment = logfile_segment_of(scan->log, offset);
	uint64_t from = offset - offset % store->super.block_bytes;
	uint64_t bytes = segment_limit(scan, offset) - from;

	if (!segment || segment->physical == LOGFILE_SEGMENT_NONE)
		return -ENOENT;
	if (bytes > WINDOW_BYTES)
		bytes = WINDOW_BYTES;
	scan->window_bytes = 0;
	int err = store_transfer(scan->log->store, BLK_READ, logfile_device_offset(scan->log, from),
				 scan->window, bytes);
	if (!err) {
		scan->window_at = from;
		scan->window_bytes = bytes;
	}
	return err;
}

/* Where the bytes at an offset are, and how many of at most *bytes without a further read: at least
 * 1.  0 or -errno. */
static int bytes_at(struct scan *scan, uint64_t offset, const char **at, uint64_t *bytes)
{
	if (offset - scan->window_at >= scan->window_bytes) {
		int err = load(scan, offset);
		if (err)
			return err;
	}
	uint64_t there = scan->window_at + scan->window_bytes - offset;
	*at = scan->window + (offset - scan->window_at);
	if (*bytes > there)
		*bytes = there;
	return 0;
}

/* 0 or -errno. */
static int copy(struct scan *scan, uint64_t offset, char *to, uint64_t bytes)
{
	for (uint64_t n; bytes > 0; offset += n, to += n, bytes -= n) {
		const char *from;
		n = bytes;
		int err = bytes_at(scan, offset, &from, &n);
		if (err)
			return err;
		memcpy(to, from, n);
	}
	return 0;
}

/* The checksum of bytes.  0 or -errno. */
static int sum(struct scan *scan, uint64_t offset, uint64_t bytes, uint32_t *crc)
{
	*crc = 0;
	for (uint64_t n; bytes > 0; offset += n, bytes -= n) {
		const char *from;
		n = bytes;
		int err = bytes_at(scan, offset, &from, &n);
		if (err)
			return err;
		*crc = crc32c_add(*crc, from, n);
	}
	return 0;
}

/* ---- one place ---- */

/* Is there the header of a record, one that fits where it is?  0, -ENOENT, -EIO ... */
static int header_at(struct scan *scan, uint64_t offset, struct record_header *header)
{
	uint64_t limit = segment_limit(scan, offset);

	if (offset % RECORD_ALIGN || offset + sizeof(*header) > limit)
		return -ENOENT;
	int err = copy(scan, offset, (char *)header, sizeof(*header));
	if (err)
		return err;
	if (!logfile_record_at(scan->log, offset, header) ||
	    header->epoch > logfile_entry(scan->log)->epoch)
		return -ENOENT;
	return 0;
}

/* Is it the one that is to come? */
static bool follows(const struct scan *scan, const struct record_header *header)
{
	if (scan->at.sequence == 0)
		return true;
	return header->sequence == scan->at.sequence && header->epoch >= scan->epoch &&
	       (scan->at.crc == 0 || header->previous_crc == scan->at.crc);
}

/* The record at the mark, or behind padding at the next block.  0, -ENOENT, -EIO ... */
static int find_here(struct scan *scan, uint64_t *offset, struct record_header *header)
{
	uint32_t block = scan->log->store->super.block_bytes;
	uint64_t at = scan->at.offset;

	if (at % scan->log->store->super.segment_bytes < block)
		at = logfile_first_record(scan->log, logfile_serial(scan->log, at));
	for (uint32_t i = 0; i < 2; i++) {
		int err = header_at(scan, at, header);
		if (err != -ENOENT && (err || follows(scan, header))) {
			*offset = at;
			return err;
		}
		if (at % block == 0)
			break;
		at = round_up(at, block);
	}
	return -ENOENT;
}

/* ---- segments ---- */

/* Goes on to the next segment, if the records of this one end at the mark.  Whether it did. */
static bool next_segment(struct scan *scan)
{
	uint64_t serial = logfile_serial(scan->log, scan->at.offset) + 1;
	const struct segment_header *header = logfile_segment_header(scan->log, serial);

	return header && header->epoch >= scan->epoch &&
	       logfile_goes_on(scan->log, &scan->at, &scan->at);
}

/* ---- what is behind damage ---- */

/* A record, or the beginning of a segment, behind the mark. */
struct further {
	struct logfile_mark first; /* sequence 0: none */
	uint64_t proven;           /* records below were on stable media */
};

/* A header behind, good by itself. */
static void consider(const struct scan *scan, struct further *further, uint64_t offset,
		     const struct record_header *header)
{
	if (header->sequence <= scan->at.sequence || header->epoch < scan->epoch)
		return;
	if (further->first.sequence == 0)
		further->first =
			(struct logfile_mark){.offset = offset, .sequence = header->sequence};
	if (header->acknowledged > further->proven)
		further->proven = header->acknowledged;
}

static bool enough(const struct scan *scan, const struct further *further)
{
	return further->first.sequence && further->proven > scan->at.sequence;
}

/* Looks at every place of a segment from an offset on.  0 or -errno. */
static int search_segment(struct scan *scan, struct further *further, uint64_t offset)
{
	uint64_t limit = segment_limit(scan, offset);
	static const uint32_t magic = RECORD_MAGIC;
	struct record_header header;

	while (offset + sizeof(header) <= limit && !enough(scan, further)) {
		const char *at;
		uint64_t bytes = limit - offset;
		int err = bytes_at(scan, offset, &at, &bytes);
		if (err)
			return err == -ENOENT ? 0 : err;
		uint64_t i = 0;
		while (i + RECORD_ALIGN <= bytes && memcmp(at + i, &magic, sizeof(magic)) != 0)
			i += RECORD_ALIGN;
		offset += i;
		if (i + RECORD_ALIGN > bytes)
			continue;
		err = header_at(scan, offset, &header);
		if (!err)
			consider(scan, further, offset, &header);
		else if (err != -ENOENT)
			return err;
		offset += RECORD_ALIGN;
	}
	return 0;
}

static int search(struct scan *scan, struct further *further, uint64_t offset)
{
	uint64_t last = scan->log->first_serial + scan->log->num_segments;
	int err = search_segment(scan, further, offset);

	for (uint64_t serial = logfile_serial(scan->log, offset) + 1;
	     serial < last && !err && !enough(scan, further); serial++) {
		const struct segment_header *header = logfile_segment_header(scan->log, serial);
		uint64_t first = logfile_first_record(scan->log, serial);
		if (header && header->epoch >= scan->epoch &&
		    header->acknowledged > further->proven)
			further->proven = header->acknowledged;
		if (header && header->first_sequence > scan->at.sequence &&
		    header->epoch >= scan->epoch && further->first.sequence == 0 &&
		    further->proven > scan->at.sequence)
			further->first = (struct logfile_mark){.offset = first,
							       .sequence = header->first_sequence,
							       .crc = header->previous_crc};
		err = search_segment(scan, further, first);
	}
	return err;
}

/* ---- one step ---- */

static void fail(struct scan_result *result, int err)
{
	result->what = SCAN_FAILURE;
	result->err = err;
}

/* There is no good record at the mark: it is the end, or damage. */
static void end_or_damage(struct scan *scan, struct scan_result *result, uint64_t from)
{
	struct further further = {.proven = scan->proven.sequence};

	result->offset = scan->at.offset;
	int err = search(scan, &further, from);
	if (err) {
		fail(result, err);
		return;
	}
	result->what = SCAN_END;
	if (further.proven > scan->at.sequence) {
		uint64_t least = scan->at.offset;
		result->what = SCAN_DAMAGE;
		scan->at = further.first.sequence ? further.first : scan->proven;
		if (scan->at.offset < least) /* never back to what was read */
			scan->at.offset = least;
	}
	result->next = scan->at;
}

/* Its data is not what was written. */
static void damaged_data(struct scan *scan, struct scan_result *result)
{
	const struct record_header header = result->header;
	const uint64_t offset = result->offset;
	uint64_t behind = offset + record_span(&header);

	scan->at.sequence = header.sequence;
	end_or_damage(scan, result, behind);
	if (result->what != SCAN_DAMAGE)
		return;
	scan->at = (struct logfile_mark){
		.offset = behind, .sequence = header.sequence + 1, .crc = header.crc};
	result->offset = offset; /* not that of the padding before it */
	result->next = scan->at;
}

static bool make_room(struct scan *scan, uint64_t bytes)
{
	struct heap *heap = scan->log->store->sched->heap;

	if (!scan->want_data || bytes <= scan->data_bytes)
		return true;
	if (scan->data)
		(void)heap_free(heap, scan->data);
	scan->data = heap_alloc(heap, bytes);
	scan->data_bytes = scan->data ? bytes : 0;
	return scan->data != NULL;
}

/* A record that was torn stays there if others are in its block, or if what took its place is in
 * the next segment.  Goes to where that is, at the next block or there; false: there is none. */
static bool try_elsewhere(struct scan *scan, uint64_t offset)
{
	uint64_t next = round_up(offset, scan->log->store->super.block_bytes);
	struct record_header header;

	if (scan->at.sequence == 0)
		return false;
	if (next != offset && header_at(scan, next, &header) == 0 && follows(scan, &header)) {
		scan->at.offset = next;
		return true;
	}
	return next_segment(scan);
}

/* 0; -EBADMSG: it is not what was written; -EIO, -ENOMEM ... */
static int check_data(struct scan *scan, const struct scan_result *result)
{
	const struct record_header *header = &result->header;
	uint64_t at = result->offset + header->data_at;
	uint32_t crc;
	int err;

	if (!make_room(scan, header->data_bytes))
		return -ENOMEM;
	if (scan->want_data) {
		err = copy(scan, at, scan->data, header->data_bytes);
		crc = crc32c_add(0, scan->data, err ? 0 : header->data_bytes);
	} else {
		err = sum(scan, at, header->data_bytes, &crc);
	}
	if (err)
		return err;
	return crc == header->data_crc ? 0 : -EBADMSG;
}

/* Finds a record at the mark, or in the next segment if this one's end there. */
static int find_record(struct scan *scan, struct scan_result *result)
{
	int err;

	do {
		err = find_here(scan, &result->offset, &result->header);
	} while (err == -ENOENT && next_segment(scan));
	return err;
}

static void found(struct scan *scan, struct scan_result *result)
{
	const struct record_header *header = &result->header;

	result->what = SCAN_RECORD;
	scan->epoch = header->epoch;
	scan->at = (struct logfile_mark){.offset = result->offset + record_span(header),
					 .sequence = header->sequence + 1,
					 .crc = header->crc};
	result->next = scan->at;
}

void scan_next(struct scan *scan, struct scan_result *result)
{
	int err;

	do {
		err = find_record(scan, result);
		if (err == 0)
			err = check_data(scan, result);
	} while (err == -EBADMSG && try_elsewhere(scan, result->offset));
	if (err == 0)
		found(scan, result);
	else if (err == -ENOENT)
		end_or_damage(scan, result, round_up(scan->at.offset + 1, RECORD_ALIGN));
	else if (err == -EBADMSG)
		damaged_data(scan, result);
	else
		fail(result, err);
}

/* ---- life ---- */

int scan_open(struct scan *scan, struct logfile *log, const struct logfile_mark *from)
{
	*scan = (struct scan){.log = log, .at = *from};
	scan->window = store_alloc(log->store, WINDOW_BYTES);
	return scan->window ? 0 : -ENOMEM;
}

void scan_close(struct scan *scan)
{
	struct heap *heap = scan->log->store->sched->heap;

	(void)heap_free(heap, scan->window);
	if (scan->data)
		(void)heap_free(heap, scan->data);
}
