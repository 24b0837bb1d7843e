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

/* A value of TCP_CORK: on, and what is pushed until it is set anew does not end a message (as
 * MSG_MORE says of a write), so that its last segment does not say PSH.  To the kernel it is on. */
#define DEMI_CORK_MORE 2

#endif
