/* SPDX-License-Identifier: MIT
 * demi/queue.h - what the queue API has beyond Demikernel's: memory queues, cancelling, waiting for
 * all, blocking calls, and operators: queues made of queues.
 *
 * All return 0 or a positive errno; ENOSYS, EBUSY, EINVAL, EBADF and ENOMEM as in demi/libos.h.
 */
#ifndef DEMI_QUEUE_H
#define DEMI_QUEUE_H

#include <demi/cc.h>
#include <demi/types.h>
#include <time.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* Makes a memory queue: what is pushed as one array pops as one array, in order, without a copy of
 * heap memory.  Other memory is copied when the push completes: at once, or when the copies that
 * the queue holds are within its send limit again.  Never blocks. */
ATTR_NONNULL(1)
extern int demi_queue(_Out_ int *qd_out);

/* Makes a pipe: a message queue between two processes, or two instances of one, through shared
 * memory.  It has a name, which is the user's own, and two ends: demi_create_pipe makes the name,
 * demi_open_pipe the other end, and the name is in use until the first is closed or its process
 * dies.  The name is 1 to 63 letters, digits and ._-:[]%, and does not begin with a dot.
 *
 * Either end pushes and pops.  What is pushed as one array pops as one element, in order: of one
 * segment if it was copied, of as many as were pushed if it was long and lent in place
 * (demitasse.shm.lend_bytes).  At most 64 MiB, else EMSGSIZE.  A push is complete when it is in the
 * pipe; it waits while the pipe is full.  What an end pushes before it has a peer is kept for it.
 * When the other end was closed, pops get what was pushed before, then an empty element (one
 * segment without an address) for ever, and pushes are EPIPE.  When its process dies, or breaks the
 * rules, pops get what was there, then ECONNRESET, and pushes are ECONNRESET.
 *
 * The other end reads what was pushed where it lies, and all of the memory that is lent from; it
 * may change what it has lent even after that popped, unless demitasse.shm.private is on.
 *
 * Neither blocks.  EINVAL: also a bad name; EEXIST: the name is in use; EACCES: no directory for it
 * that is safe; EMFILE. */
ATTR_NONNULL(1, 2)
extern int demi_create_pipe(_Out_ int *qd_out, _In_ const char *name);

/* Opens the other end of a pipe.  As above, and ENOENT: nobody has made it; EBUSY: it has another
 * end already; EACCES: who made it is neither the same user, nor root, nor of demitasse.shm.group.
 * An end that turns out later not to be wanted (EBUSY, EACCES), or that nobody answers within ten
 * seconds (ETIMEDOUT), fails its operations with that. */
ATTR_NONNULL(1, 2)
extern int demi_open_pipe(_Out_ int *qd_out, _In_ const char *name);

/* Asks that an operation end now.  It completes as failed with ECANCELED, or with its own result if
 * it was too late; either way it is still to be waited for.  A push of which bytes were taken is
 * never cut.  EINVAL: unknown or spent token. */
extern int demi_cancel(_In_ demi_qtoken_t qt);

/* Ends one direction of a connected socket: how is SHUT_RD, SHUT_WR or SHUT_RDWR.  What was pushed
 * before is sent first; later pushes are EPIPE, later pops find the end of the stream.  ENOTCONN.
 * ENOTSUP: not a socket. */
extern int demi_shutdown(_In_ int qd, _In_ int how);

/* Puts out at once what was pushed; otherwise the next wait does. */
extern int demi_flush(void);

/* Waits for all of num_qts (0 or more) operations; qrs_out[i] is the result of qts[i].  ETIMEDOUT:
 * none is redeemed, all tokens stay good.  EINVAL: also if a token stands there twice. */
ATTR_NONNULL(1, 2)
extern int demi_wait_all(_Out_writes_(num_qts) demi_qresult_t qrs_out[],
			 _In_reads_(num_qts) const demi_qtoken_t qts[], _In_ int num_qts,
			 _In_opt_ const struct timespec *timeout);

/* demi_push followed by demi_wait without a timeout: blocks the thread, or the coroutine. */
ATTR_NONNULL(1, 3)
extern int demi_blocking_push(_Out_ demi_qresult_t *qr_out, _In_ int qd,
			      _In_ const demi_sgarray_t *sga);

/* demi_pop followed by demi_wait without a timeout: blocks the thread, or the coroutine. */
ATTR_NONNULL(1)
extern int demi_blocking_pop(_Out_ demi_qresult_t *qr_out, _In_ int qd);

/* ---- operators ----
 *
 * demi_filter, demi_map, demi_sort, demi_merge and demi_frame make a queue of one or two others of
 * any kind, operators included, up to 128 on each other; demi_qconnect joins two.  Elements pass
 * without a copy.
 *
 * The new queue owns its source's pops: while it lives, a pop on the source is EBUSY, as is another
 * operator on it.  It pops from the source only while a pop of its own waits.  Pushes, and all
 * else, can still be asked of the source.  Closing the new queue leaves the source; what the
 * operator still held is dropped, its memory freed, and counted.  Closing the source ends what
 * stands on it: whatever waits there fails with ECANCELED, and so does every later call, until it
 * is closed itself.
 *
 * Functions of the application run in calls of demi_pop and demi_push on the new queue, and in
 * waits (and whatever else polls).  In them only calls for memory (demi/memory.h, demi/sga.h) are
 * legal, all others return EBUSY.  The array that they are shown is good until they return.  The
 * end of a stream passes without asking them.
 *
 * Errors beside those above: EBADF, EINVAL (a NULL pointer, a bad number), EBUSY (somebody owns the
 * source's pops), ELOOP (too many on each other), EMFILE, ENOMEM.  None of these calls blocks. */

/* Says whether an element passes: 0, it does not.  It reads the array, and neither keeps nor frees
 * it. */
typedef int (*demi_predicate_t)(void *arg, const demi_sgarray_t *sga);

/* Makes a queue of those elements of qd for which predicate(arg, element) holds: others are
 * dropped, their memory freed.  A push that does not pass completes as DEMI_OPC_FAILED with EPERM.
 */
ATTR_NONNULL(1, 3)
extern int demi_filter(_Out_ int *qd_out, _In_ int qd, _In_ demi_predicate_t predicate,
		       _In_opt_ void *arg);

/* Makes a queue of those elements of qd for which a field expression holds, a string that is
 * copied, as "udp.src == 53 && len < 512": demi_filter_expression(3) has the language.  On a UDP
 * socket that is bound and not connected, under catpowder over AF_XDP, the program of the interface
 * drops what does not pass, before the instance sees it; elsewhere, and for what that cannot judge
 * (fragments, extension headers of IPv6, groups), the condition runs in pops, with the same
 * results. `demi stat` tells which.
 *
 * Where it names len and data alone, a push that does not pass fails as that of demi_filter does;
 * where it names a field of ip or udp, pushes go to qd as they are.
 *
 * EINVAL: also an expression that is none, and one that names ip.dst or udp.dst though qd does not
 * come from one socket that is bound to an address, or a port: the log tells what is wrong, and at
 * which character. */
ATTR_NONNULL(1, 3)
extern int demi_filter_expression(_Out_ int *qd_out, _In_ int qd, _In_z_ const char *expression);

/* Changes an element.  It has one reference to each segment in the heap, and gives back as many: it
 * may change lengths and their number, write into what was popped, and put other memory of the heap
 * in a segment's place, having freed what stood there (demi_free of its start, or demi_sgafree of
 * an array of it).  On a push the bytes are still those of whoever pushes: it puts copies in their
 * place rather than write into them.  Returns 0, or the errno that the pop or push fails with; then
 * the element, as it has left it, is freed. */
typedef int (*demi_transform_t)(void *arg, demi_sgarray_t *sga);

/* Makes a queue whose elements, popped or pushed, are those of qd after transform(arg, element).
 * Elements that were pushed from memory outside of the heap are copied first.  The result of a push
 * shows the array as it was given. */
ATTR_NONNULL(1, 3)
extern int demi_map(_Out_ int *qd_out, _In_ int qd, _In_ demi_transform_t transform,
		    _In_opt_ void *arg);

/* Orders two elements: below 0 if a is to be popped before b, above 0 if behind it, 0: whichever
 * came first. */
typedef int (*demi_compare_t)(void *arg, const demi_sgarray_t *a, const demi_sgarray_t *b);

/* Makes a queue whose pop returns the first, by compare, of what has arrived at qd: it holds up to
 * depth elements (1 to 65536).  Pushes go to qd as they are. */
ATTR_NONNULL(1, 3)
extern int demi_sort(_Out_ int *qd_out, _In_ int qd, _In_ demi_compare_t compare,
		     _In_opt_ void *arg, _In_ unsigned depth);

/* Makes a queue whose pop takes from whichever of two queues has an element, in turns where both
 * have.  A push goes to both; it completes when both do, and fails with the errno of one that
 * failed: the other stays delivered.  That a pop of one failed is told once, then the other goes on
 * alone; the end of a stream is told when both have ended. */
ATTR_NONNULL(1)
extern int demi_merge(_Out_ int *qd_out, _In_ int qd1, _In_ int qd2);

/* Passes whatever pops from qd_in to qd_out, without anybody's doing, until one of them ends; owns
 * qd_in's pops until then.  A proxy is one call a direction.  No more is popped than qd_out takes.
 * The end of qd_in's stream is passed on when all before it was taken: as demi_shutdown of qd_out's
 * sending side, or, if it has none, as an empty element (a log has no end); then both are the
 * application's again.  Closing either ends it.  An error of either closes both: their descriptors
 * stay the application's to close, and pushes and pops on them return the error until then. */
extern int demi_qconnect(_In_ int qd_in, _In_ int qd_out);

/* Waits for the end of demi_qconnect from qd_in: completes as DEMI_OPC_CLOSE at the end of the
 * stream, else as DEMI_OPC_FAILED with what ended it (ECANCELED: one of the two was closed).
 * ENOTCONN: it is not connected, or not any more. */
ATTR_NONNULL(1)
extern int demi_qended(_Out_ demi_qtoken_t *qt_out, _In_ int qd_in);

/* How messages stand in a stream of bytes. */
typedef enum demi_framing_kind {
	DEMI_FRAME_LENGTH = 0,    /* behind their length in bytes, an unsigned number */
	DEMI_FRAME_DELIMITER = 1, /* each before a delimiter, which is in none of them */
	DEMI_FRAME_FIXED = 2,     /* all of one size */
	DEMI_FRAME_FIND = 3,      /* as a function of the application's says */
} demi_framing_kind_t;

/* Says how long the message is that starts with these bytes (1 or more, all that there are of it,
 * or of it and of what follows): in bytes, 0 if more are needed to tell, or a negative errno, which
 * all pops fail with from now on.  Runs as other functions of operators do. */
typedef int64_t (*demi_find_t)(void *arg, const void *bytes, size_t length);

struct demi_framing {
	demi_framing_kind_t kind;
	uint32_t max_bytes;       /* of a message, without length or delimiter; at least 1 */
	uint32_t length_bytes;    /* DEMI_FRAME_LENGTH: of the number, 1 to 8 */
	int little_endian;        /* DEMI_FRAME_LENGTH: 0, the most significant byte comes first */
	const void *delimiter;    /* DEMI_FRAME_DELIMITER: delimiter_bytes of it, copied */
	uint32_t delimiter_bytes; /* 1 to 16 */
	uint32_t fixed_bytes;     /* DEMI_FRAME_FIXED: 1 to max_bytes */
	demi_find_t find;         /* DEMI_FRAME_FIND */
	void *arg;                /* find's */
};

/* Makes a queue of messages of a stream of bytes: one push pops as one element, without its length
 * or delimiter (DEMI_FRAME_FIND: as it stands).  It holds what has arrived of one message, and what
 * the last pop of qd brought beyond.  A message is where it has arrived, but for one that lies in
 * more than 8 pieces: it is put together by a copy; so is, in a push of 8 segments, the one beside
 * the length or delimiter.  An empty message pops as a segment of no bytes in memory of its own.
 *
 * A message above max_bytes, and a push that qd's peer could not take for one message, is EMSGSIZE
 * (EINVAL: the delimiter is in it); after such a message, or an end of the stream within one
 * (EPROTO), every pop fails so.  qd has no addresses: demi_pushto is ENOTSUP. */
ATTR_NONNULL(1, 3)
extern int demi_frame(_Out_ int *qd_out, _In_ int qd, _In_ const struct demi_framing *framing);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
