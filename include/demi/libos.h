/* SPDX-License-Identifier: MIT
 * demi/libos.h - queues for network I/O: the interface of Demikernel 1.5.
 *
 * Every call returns 0 or a positive errno and none touches errno.  None blocks: what takes time is
 * an operation, whose token is handed out and redeemed by demi_wait and its kin.  All calls return
 * ENOSYS on a thread without an instance (before demi_init, after demi_fini, in a forked child),
 * EBUSY inside a callback of the library, EINVAL for a NULL pointer where one is needed, EBADF for
 * a descriptor that is not an open queue of this instance, and ENOMEM.
 */
#ifndef DEMI_LIBOS_H
#define DEMI_LIBOS_H

#include <demi/cc.h>
#include <demi/types.h>
#include <stddef.h>
#include <sys/socket.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* Gives the calling thread its instance of the datapath OS.  Which libOS: environment variable
 * LIBOS, else the file that CONFIG_PATH names, else catnap.  Neither is needed.  Ended by
 * demi_fini, by the thread's exit or by exit. EEXIST: the thread has one.  EINVAL: args is NULL, or
 * a bad configuration value (a log line names key, value and range). ENOENT and the like:
 * CONFIG_PATH cannot be read.  ENOTSUP: a libOS that this build or machine does not have. EMFILE,
 * ENOMEM. */
ATTR_NONNULL(1)
extern int demi_init(_In_ const struct demi_args *args);

/* Makes a socket queue.  domain AF_INET or AF_INET6, type SOCK_STREAM (TCP) or SOCK_DGRAM (UDP),
 * protocol 0 or the type's own. The descriptor is closed by demi_close.  ENOTSUP: another domain,
 * type or protocol.  EMFILE: no descriptor left. */
ATTR_NONNULL(1)
extern int demi_socket(_Out_ int *sockqd_out, _In_ int domain, _In_ int type, _In_ int protocol);

/* Makes a bound TCP socket accept connections; at most backlog (1 or more) wait to be accepted.
 * EDESTADDRREQ: not bound.  EADDRINUSE: listens already, or connects.  EINVAL: backlog below 1.
 * ENOTSUP: not TCP. */
extern int demi_listen(_In_ int sockqd, _In_ int backlog);

/* Binds a socket to a local address; the wildcard address and port 0 (one is chosen:
 * demi_getsockname) are fine. EINVAL: bound already, or size too small.  EADDRINUSE, EADDRNOTAVAIL,
 * EACCES.  EAFNOSUPPORT: not the socket's family. */
ATTR_NONNULL(2)
extern int demi_bind(_In_ int sockqd, _In_reads_bytes_(size) const struct sockaddr *addr,
		     _In_ socklen_t size);

/* Starts to accept one connection from a listening socket.  Result: DEMI_OPC_ACCEPT with the new
 * descriptor and address. EINVAL: the socket does not listen. */
ATTR_NONNULL(1)
extern int demi_accept(_Out_ demi_qtoken_t *qt_out, _In_ int sockqd);

/* Starts to connect a socket.  On UDP this sets the peer and completes at once.  Fails as an
 * operation with ECONNREFUSED, ETIMEDOUT, ENETUNREACH and the like.  EISCONN, EINPROGRESS,
 * EOPNOTSUPP (a listening socket), EINVAL (size). */
ATTR_NONNULL(1, 3)
extern int demi_connect(_Out_ demi_qtoken_t *qt_out, _In_ int sockqd,
			_In_reads_bytes_(size) const struct sockaddr *addr, _In_ socklen_t size);

/* Closes a queue; the descriptor is free for reuse at once.  Outstanding operations complete as
 * failed with ECANCELED, but a push of which some bytes were taken goes on in the background, as
 * does all that completed pushes left unsent (at most for the linger time of the configuration once
 * demi_fini runs). */
extern int demi_close(_In_ int qd);

/* Starts to push an array as one unit.  Memory of the heap is not copied and may be freed (not
 * changed) at once; other memory must stay as it is until the push completes.  Completes when the
 * transport has taken all of it.  An array is 1 to DEMI_SGARRAY_MAXSIZE segments; they must lie
 * inside their heap objects.  Result: DEMI_OPC_PUSH with a copy of the array that carries no
 * reference.  EINVAL: bad array, or 0 bytes on a stream.  ENOTCONN: TCP not connected.
 * EDESTADDRREQ: UDP without a peer.  EPIPE: after demi_shutdown for writing.  Fails as an operation
 * with ECONNRESET, EMSGSIZE (larger than a datagram), EAFNOSUPPORT and the like. */
ATTR_NONNULL(1, 3)
extern int demi_push(_Out_ demi_qtoken_t *qt_out, _In_ int qd, _In_ const demi_sgarray_t *sga);

/* Starts to push one datagram to an address: demi_push with a destination.  An unbound socket is
 * bound to a free port. ENOTSUP: not a UDP socket. */
ATTR_NONNULL(1, 3, 4)
extern int demi_pushto(_Out_ demi_qtoken_t *qt_out, _In_ int sockqd, _In_ const demi_sgarray_t *sga,
		       _In_reads_bytes_(size) const struct sockaddr *dest_addr,
		       _In_ socklen_t size);

/* Starts to pop the next unit: what a stream has received, one datagram, or one element of a
 * message queue.  Result: DEMI_OPC_POP with the array; the application owns a reference to each
 * segment and frees the array by demi_sgafree. The end of a stream is an array of length 0 (one
 * segment; freeing it is legal and does nothing).  Waits for ever by itself. ENOTCONN: TCP not
 * connected.  EBUSY: an operator owns the queue's pops (demi/queue.h). */
ATTR_NONNULL(1)
extern int demi_pop(_Out_ demi_qtoken_t *qt_out, _In_ int qd);

/* Sets an option of a socket: level, name and value as for setsockopt(2).  ENOPROTOOPT, EINVAL.
 * ENOTSUP: not a socket. */
ATTR_NONNULL(4)
extern int demi_setsockopt(_In_ int qd, _In_ int level, _In_ int optname,
			   _In_reads_bytes_(optlen) const void *optval, _In_ socklen_t optlen);

/* Reads an option of a socket: as getsockopt(2); *optlen is the room in optval, and the bytes used
 * afterwards. */
ATTR_NONNULL(4, 5)
extern int demi_getsockopt(_In_ int qd, _In_ int level, _In_ int optname,
			   _Out_writes_to_(*optlen, *optlen) void *optval,
			   _Inout_ socklen_t *optlen);

/* Address of the connected peer.  *addrlen is the room in addr, and the length of the address
 * afterwards (what does not fit is cut off).  ENOTCONN. */
ATTR_NONNULL(2, 3)
extern int demi_getpeername(_In_ int qd, _Out_writes_to_(*addrlen, *addrlen) struct sockaddr *addr,
			    _Inout_ socklen_t *addrlen);

/* Local address of a socket; parameters as for demi_getpeername. */
ATTR_NONNULL(2, 3)
extern int demi_getsockname(_In_ int qd, _Out_writes_to_(*addrlen, *addrlen) struct sockaddr *addr,
			    _Inout_ socklen_t *addrlen);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
