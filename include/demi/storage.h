/* SPDX-License-Identifier: MIT
 * demi/storage.h - logs: queues whose elements are records on stable media (libOS cattree, in every
 * instance beside its network transport).
 *
 * demi_push appends an array as one record, of 1 byte to 16 MiB (and at most half a segment, see
 * demitasse.storage.segment_bytes in demi.yaml(5)).  It completes when the record would survive a
 * power cut, never before, with the record's offset in qr_ret; after it failed the record may be
 * there or not.  EMSGSIZE: too long.  ENOSPC: the device is full; the log can be read and truncated
 * as before.  EIO: the device failed; what was acknowledged is not touched.
 *
 * demi_pop gives the record at the queue's cursor, as one segment, and moves the cursor behind it;
 * at the end it waits for the next record.  EBADMSG: the record is damaged, or none begins at the
 * cursor (demi_lseek with SEEK_DATA finds the next good one).  ESTALE: it was truncated.  The
 * cursor stays where it is then.
 *
 * Several queues on one log, of one instance, have each its own cursor.  Another instance or
 * process is refused with EBUSY, and the log of the library names who has it.
 *
 * All return 0 or a positive errno; ENOSYS, EBUSY, EINVAL, EBADF and ENOMEM as in demi/libos.h.
 */
#ifndef DEMI_STORAGE_H
#define DEMI_STORAGE_H

#include <demi/cc.h>
#include <demi/types.h>
#include <sys/types.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* Opens the log path and stores a queue on it, its cursor at the oldest record.  path is a file or
 * block device, or a name (at most 63 bytes) on the device that the configuration names
 * (demitasse.storage.device).  flags: O_RDONLY, O_WRONLY or O_RDWR, with O_CREAT, O_EXCL, O_TRUNC
 * (collects all records); mode is that of a new file.  Blocks: it recovers the log, and makes a
 * file.  ENOENT, EEXIST, EACCES ... as open(2).  EBUSY: another instance or process has it, or this
 * one for reading only.  EFBIG: it is to be written, and longer than the process may write.
 * EMEDIUMTYPE: it holds something that is no log.  EUCLEAN: it was a log, and is damaged beyond
 * recovery.  ENOSPC. */
ATTR_NONNULL(1, 2)
extern int demi_open(_Out_ int *qd_out, _In_z_ const char *path, _In_ int flags, _In_ mode_t mode);

/* demi_open with O_CREAT | O_WRONLY | O_TRUNC. */
ATTR_NONNULL(1, 2)
extern int demi_creat(_Out_ int *qd_out, _In_z_ const char *path, _In_ mode_t mode);

/* Moves the cursor of a queue and stores where it is, in record offsets: those that pushes return.
 * whence SEEK_SET: to the record at offset; 0: to the oldest.  SEEK_CUR, offset 0: stays; behind
 * the record popped last.  SEEK_END, offset 0: behind the last.  SEEK_DATA: to the first good
 * record at or behind offset; blocks.  EINVAL: outside of the log.  EBUSY: pops are outstanding.
 * ENXIO (SEEK_DATA): there is none.  ESPIPE: not a log.  offset_out may be NULL. */
extern int demi_lseek(_In_ int qd, _In_ off_t offset, _In_ int whence, _Out_opt_ off_t *offset_out);

/* Collects all records before the one at offset, for all queues; an offset behind the last record
 * (SEEK_END): all.  Completes as DEMI_OPC_TRUNCATE when that is on stable media; the space of whole
 * segments is free then.  Fails with EINVAL: no record begins there; EIO.  Never blocks. */
ATTR_NONNULL(1)
extern int demi_truncate(_Out_ demi_qtoken_t *qt_out, _In_ int qd, _In_ off_t offset);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
