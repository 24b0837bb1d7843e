/* SPDX-License-Identifier: MIT
 * storage/cursor.h - a cursor inside: what read.c and chunk.c share.
 */
#pragma once

#include "storage/logfile.h"

/* A piece of the log in memory. */
struct chunk {
	struct store_io io;
	struct logfile_cursor *cursor; /* lives until its reads are done */
	struct list node;              /* of the cursor's */
	bool dropped;                  /* it is not wanted any more */
	char *memory;                  /* heap memory, held by a library reference */
	uint64_t start;                /* in the log */
	uint64_t bytes;
	bool read;
	int err;
};

struct logfile_cursor {
	struct logfile *log;
	struct list node;
	struct op_list pops;
	struct logfile_mark at;
	uint32_t epoch;
	uint64_t damaged;   /* where a record was, while what may have taken its place is read */
	uint64_t met_at;    /* where a pop came upon damage last; 0: nowhere */
	struct list chunks; /* in order */
	struct list spare;  /* chunks without memory */
	uint32_t num_chunks;
	uint32_t ahead;     /* chunks that are read ahead */
	uint32_t under_way; /* reads, of dropped chunks too */
	bool closed;

	/* A record that is being put together; data NULL: none. */
	char *data;
	uint64_t filled;
	uint64_t record; /* its offset */
	uint32_t crc;
	struct record_header header;
};

static inline struct heap *cursor_heap(const struct logfile_cursor *cursor)
{
	return cursor->log->store->sched->heap;
}

/* ---- read.c ---- */

/* A read has ended. */
void cursor_chunk_read(struct logfile_cursor *cursor);

/* ---- chunk.c ---- */

/* The chunk that has the byte at an offset, which is before the end of its segment.  NULL and *err:
 * -EAGAIN: it is being read; -EIO, -ENOMEM; -EBADMSG: the segment is lost. */
struct chunk *chunk_at(struct logfile_cursor *cursor, uint64_t offset, int *err);

/* Copies bytes.  0 or as chunk_at. */
int chunk_copy(struct logfile_cursor *cursor, uint64_t offset, void *to, uint64_t bytes);

/* What lies before an offset is not needed any more, and more behind. */
void chunk_release_before(struct logfile_cursor *cursor, uint64_t offset);

/* Forgets all chunks; the next one is read alone. */
void chunk_drop_all(struct logfile_cursor *cursor);

/* Frees what is left of chunks; none is being read. */
void chunk_free_spare(struct logfile_cursor *cursor);
