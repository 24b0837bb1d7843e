/* SPDX-License-Identifier: MIT
 * demi/socket.h - options of demi_setsockopt and demi_getsockopt that only Demitasse has.
 */
#ifndef DEMI_SOCKET_H_IS_INCLUDED
#define DEMI_SOCKET_H_IS_INCLUDED

/* Level of the options below. */
#define SOL_DEMI 0x64656d69

/* int, 0 or 1, default 0; accepted connections inherit it.  1: a push completes when the peer has
 * acknowledged its last byte, instead of when it is queued, so that completion permits the
 * application to change the memory that it pushed.  Streams of our own network stack (catpowder)
 * only; ENOPROTOOPT elsewhere. */
#define DEMI_PUSH_ACKED 1

#endif
