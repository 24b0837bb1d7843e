/* SPDX-License-Identifier: MIT
 * storage/format.h - what is on the medium.
 *
 *     superblock 0 | superblock 1 | segment | segment | ...
 *
 * The superblock is written in turn at two places, the higher generation of the valid ones counts.
 * It names the logs of the device.  A log is a sequence of segments with ascending serial numbers,
 * wherever on the device they are.  A segment is a block with its header, and then batches, each
 * beginning at a block: records one behind the other at multiples of RECORD_ALIGN, zeros to the end
 * of the block.
 *
 * The offset of a record in its log is serial * segment_bytes + its place in the segment.  It is in
 * the header's checksum, as are the log and the device's identity: a record that was copied, that
 * went to the wrong place, or that a segment, a device or a file holds from an earlier life is
 * none.  `acknowledged` tells that all records of a lower sequence number were on stable media when
 * this one was written: who finds it and not one of those has found damage, not the torn end of a
 * crash.
 *
 * Numbers are little-endian.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structures are written as they are");

#define SUPER_MAGIC   0x3165657274746163ULL /* "cattree1" */
#define SUPER_VERSION 1
#define SUPER_BYTES   4096
#define SUPER_STRIDE  65536 /* between the two, so that they do not share a page of flash */
#define SEGMENTS_AT   131072

#define LOGS_MAX     31
#define LOG_NAME_MAX 63 /* bytes */

struct super_log {
	uint32_t id;    /* from 1; 0: no log */
	uint32_t epoch; /* of the last opening */
	uint64_t head;  /* offset and sequence number from which on records are kept */
	uint64_t head_sequence;
	uint64_t stable; /* the end of the log as it was known when this was written: what is
			    before it is on stable media */
	uint64_t stable_sequence;
	uint32_t stable_crc;
	uint32_t reserved[3];
	char name[LOG_NAME_MAX + 1];
	uint64_t reserved_too;
};

static_assert(sizeof(struct super_log) == 128, "thirty-one of them");

struct super {
	uint64_t magic;
	uint32_t version;
	uint32_t crc; /* of the whole, itself as zero */
	uint64_t identity;
	uint64_t generation;
	uint64_t segment_bytes; /* from one to the next */
	uint32_t block_bytes;
	uint32_t num_logs;
	uint64_t reserved[10];
	struct super_log logs[LOGS_MAX];
};

static_assert(sizeof(struct super) == SUPER_BYTES, "one write");

#define SEGMENT_MAGIC 0x31676573 /* "seg1" */

struct segment_header {
	uint32_t magic;
	uint32_t crc; /* of the device's identity, where the segment is, and the rest */
	uint32_t log;
	uint32_t epoch;
	uint64_t serial;
	uint64_t first_sequence; /* of its first record */
	uint64_t previous_end;   /* where the records of the segment before end */
	uint64_t acknowledged;
	uint32_t previous_crc; /* the header checksum of the record before the first; 0: none */
	uint32_t reserved[3];
};

static_assert(sizeof(struct segment_header) == 64, "no holes");

#define RECORD_MAGIC     0x31636572 /* "rec1" */
#define RECORD_ALIGN     8
#define RECORD_BYTES_MAX (16U << 20) /* of data */

struct record_header {
	uint32_t magic;
	uint32_t crc; /* of the device's identity, the log, the offset, and the rest */
	uint64_t sequence;
	uint64_t acknowledged;
	uint32_t epoch;
	uint32_t data_bytes;
	uint32_t data_crc;
	uint32_t previous_crc; /* the crc of the record before; 0: there is none, or it is damaged
				*/
	uint32_t data_at;      /* from the header's start */
	uint32_t reserved;
};

static_assert(sizeof(struct record_header) == 48, "no holes");

/* No log comes to these; a sum of two does not overflow. */
#define OFFSET_MAX   ((uint64_t)1 << 62)
#define SEQUENCE_MAX ((uint64_t)1 << 62)
#define EPOCH_MAX    ((uint32_t)1 << 31)

/* Each seal fills in the magic and the checksum, each check tells whether both are right; those of
 * segments and records whether the sequence numbers can be, too. */
void super_seal(struct super *super);
bool super_check(const struct super *super);

void segment_seal(struct segment_header *header, uint64_t identity, uint64_t at);
bool segment_check(const struct segment_header *header, uint64_t identity, uint64_t at);

/* What a record's checksum begins with. */
struct record_place {
	uint64_t identity;
	uint64_t log;
	uint64_t offset;
};

void record_seal(struct record_header *header, const struct record_place *place);
bool record_check(const struct record_header *header, const struct record_place *place);

/* From the start of a record to that of the next in its batch. */
static inline uint64_t record_span(const struct record_header *header)
{
	uint64_t bytes = (uint64_t)header->data_at + header->data_bytes;

	return (bytes + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1);
}

/* Only zeros?  Where a record could begin, they are what fills a batch's last block. */
static inline bool all_zero(const void *memory, uint64_t bytes)
{
	const char *at = memory;

	return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}
