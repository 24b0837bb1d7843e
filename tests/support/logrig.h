/* tests/support/logrig.h: the log of an instance without the instance, on a simulated drive, and
 * records that can be told by their number.
 */
#pragma once

#include "blkdev/sim/sim.h"
#include "support/rig.h"
#include "transport/log/log.h"

#include <stdbool.h>
#include <stdint.h>

struct logrig {
	struct rig rig;
	struct log_engine *engine;
	struct queue *queue; /* NULL: not open */
	struct logfile *log;
};

/* logrig_init: segment_bytes of what is made from now on, commit_bytes of batches; 0: the least. */
void logrig_init(struct logrig *rig, uint64_t segment_bytes, uint64_t commit_bytes);
void logrig_end(struct logrig *rig);

/* logrig_open: the log on a drive, opened with flags of open(2). 0 or -errno. */
int logrig_open(struct logrig *rig, struct blksim_disk *disk, int flags);

/* logrig_close: ends it, everything on the medium. */
void logrig_close(struct logrig *rig);

/* logrig_push: record number i, of so many bytes, in up to 3 segments. Its token; 0: refused, with
 * *err. */
uint64_t logrig_push(struct logrig *rig, uint64_t i, uint32_t bytes, int *err);
uint64_t logrig_pop(struct logrig *rig);
uint64_t logrig_truncate(struct logrig *rig, uint64_t offset, int *err);

/* logrig_turns: lets so many poll turns pass, each 10 us. */
void logrig_turns(struct logrig *rig, uint32_t turns);

/* logrig_done: is that operation complete? Then its result: the offset of a push, or a negative
 * errno. What it popped is the caller's. */
bool logrig_done(struct logrig *rig, uint64_t token, int64_t *result, struct op *op_out);

/* logrig_wait: turns until it is; fails the test if that takes too long. */
int64_t logrig_wait(struct logrig *rig, uint64_t token, struct op *op_out);

/* logrig_number: which record was popped, its data freed; 0: none of ours. */
uint64_t logrig_number(struct logrig *rig, struct op *op);

/* logrig_read: pops the record at the cursor. 1 with its number, 0: the end, -errno. */
int logrig_read(struct logrig *rig, uint64_t *i);
