/* SPDX-License-Identifier: MIT
 * net/tcp/scoreboard.h - what became of the bytes that were sent: when they left, which of them the
 * peer has (RFC 2018, RFC 6675 4), which are lost, which were sent again.
 *
 * [SND.UNA, SND.NXT) is cut into runs: bytes that left at one moment and fared alike.  A burst is
 * one run; SACKed neighbours are one run.  Everything here is a mark: nothing is decided.
 *
 * Memory.  Two runs have their place in the scoreboard, more outside of it, until
 * all is acknowledged.  At most SCOREBOARD_RUNS_MAX runs: a SACK block that would need more is
 * not heeded, so a peer that acknowledges every other byte gets nothing for it.  Work per block: a
 * binary search, and at worst half of the runs moved by two places.
 *
 * Invariants: ends ascend; the last one is SND.NXT; sacked and lost are the sums of what is marked
 * so (without SACK the caller counts sacked by itself: RFC 6582's duplicates); no run is SACKed and
 * lost.
 */
#pragma once

#include "base/bits.h"
#include "net/wire/tcp.h"

#include <stdbool.h>
#include <stdint.h>

#define SCOREBOARD_RUNS_MAX 2048
#define SCOREBOARD_RUNS_OWN 2

enum run_flags {
	RUN_SACKED = 1,
	RUN_LOST = 2,          /* and not sent again */
	RUN_RETRANSMITTED = 4, /* sent more than once */
	RUN_REPAIRED = 8,      /* the last time because it was lost */
};

/* It begins where the run before it ends, the first one at SND.UNA. */
struct tcp_run {
	uint32_t end;
	uint32_t flags;
	uint64_t sent_ns; /* last, of its last byte */
};

struct tcp_scoreboard {
	struct tcp_run *runs; /* a ring */
	uint16_t head;
	uint16_t count;
	uint16_t capacity; /* a power of two */
	uint32_t sacked;   /* bytes */
	uint32_t lost;     /* bytes */
	struct tcp_run own[SCOREBOARD_RUNS_OWN];
};

/* What an ACK delivered, gathered over its cumulative part and its blocks. */
struct tcp_delivered {
	uint32_t bytes;     /* that were not marked before */
	uint32_t sacked;    /* of them, by blocks */
	uint64_t first_ns;  /* the oldest sending time of what was sent once; 0: none */
	uint64_t last_ns;   /* the newest sending time of all */
	uint32_t last_end;  /* end of what was sent then */
	uint32_t high_end;  /* highest end; valid if bytes is not 0 */
	bool last_again;    /* what was sent last was a retransmission */
	bool retransmitted; /* something in the cumulative part was sent more than once */
	bool once_low_set;
	uint32_t once_low; /* lowest end of what was sent once */
};

void tcp_scoreboard_init(struct tcp_scoreboard *sb);
void tcp_scoreboard_free(struct tcp_scoreboard *sb);

static inline struct tcp_run *tcp_scoreboard_at(const struct tcp_scoreboard *sb, uint32_t i)
{
	return &sb->runs[(sb->head + i) & (sb->capacity - 1U)];
}

static inline uint32_t tcp_scoreboard_start(const struct tcp_scoreboard *sb, uint32_t una,
					    uint32_t i)
{
	return i == 0 ? una : tcp_scoreboard_at(sb, i - 1)->end;
}

/* Room for more runs, at most for max.  False: no memory, or too many. */
bool tcp_scoreboard_grow(struct tcp_scoreboard *sb, uint32_t max);

/* Room for what is sent at now_ns: a run of its own, or the last one, which then counts as sent
 * later than it was.  Half of all runs are left to what becomes of them. */

static inline bool tcp_scoreboard_reserve(struct tcp_scoreboard *sb, uint64_t now_ns)
{
	if (likely(sb->count == 0) || sb->count < sb->capacity)
		return true;
	const struct tcp_run *last = tcp_scoreboard_at(sb, sb->count - 1U);
	if (last->flags == 0 && last->sent_ns == now_ns)
		return true;
	return tcp_scoreboard_grow(sb, SCOREBOARD_RUNS_MAX >> (last->flags == 0)) ||
	       last->flags == 0;
}

/* New bytes up to end left; there is room. */
static inline void tcp_scoreboard_sent(struct tcp_scoreboard *sb, uint32_t end, uint64_t now_ns)
{
	if (likely(sb->count == 0)) {
		sb->head = 0;
		sb->count = 1;
		sb->runs[0] = (struct tcp_run){.end = end, .sent_ns = now_ns};
		return;
	}
	struct tcp_run *last = tcp_scoreboard_at(sb, sb->count - 1U);
	if (last->flags == 0 && (last->sent_ns == now_ns || sb->count == sb->capacity)) {
		last->end = end;
		last->sent_ns = now_ns;
		return;
	}
	*tcp_scoreboard_at(sb, sb->count++) = (struct tcp_run){.end = end, .sent_ns = now_ns};
}

/* The cumulative acknowledgement moves from una to ack, not beyond the last run. */
void tcp_scoreboard_acked(struct tcp_scoreboard *sb, uint32_t una, uint32_t ack,
			  struct tcp_delivered *d);

/* The common case: the ACK is of all that there is, which left at one moment and once.  Returns
 * that moment; 0: it is not that case. */
static inline uint64_t tcp_scoreboard_acked_all(struct tcp_scoreboard *sb, uint32_t ack)
{
	const struct tcp_run *run = &sb->runs[sb->head];

	if (unlikely(sb->count != 1 || run->end != ack || run->flags != 0 || sb->runs != sb->own))
		return 0;
	sb->count = 0;
	return run->sent_ns;
}

/* The peer has the block, which lies in [una, the last run's end]. */
void tcp_scoreboard_sack(struct tcp_scoreboard *sb, uint32_t una, struct tcp_block block,
			 struct tcp_delivered *d);

/* Marks [from, to) lost, what of it is not SACKed.  Returns the bytes that were not lost before. */
uint32_t tcp_scoreboard_lose(struct tcp_scoreboard *sb, uint32_t una, struct tcp_block block);
/* Nothing was lost after all. */
void tcp_scoreboard_unlose(struct tcp_scoreboard *sb);
/* The peer may have thrown away what it SACKed (RFC 2018 8). */
void tcp_scoreboard_forget_sacks(struct tcp_scoreboard *sb);

/* The first lost bytes; false: there are none. */
bool tcp_scoreboard_first_lost(const struct tcp_scoreboard *sb, uint32_t una,
			       struct tcp_block *block);
/* Bytes, all of one run, leave again.  Where there is no room for a cut behind them the rest of the
 * run counts as sent again, too: time will tell.  False: none for one before them, nothing is
 * marked.
 */
bool tcp_scoreboard_resent(struct tcp_scoreboard *sb, uint32_t una, struct tcp_block block,
			   uint64_t now_ns);

/* counted: sacked is the sum of marks. */
void tcp_scoreboard_check(const struct tcp_scoreboard *sb, uint32_t una, uint32_t nxt,
			  bool counted);
