/* SPDX-License-Identifier: MIT
 * netdev/afxdp/pass.h - a message over a Unix socket with at most one descriptor beside it
 * (SCM_RIGHTS).  Neither call blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* fd: -1 if none goes with it; it stays the caller's.  0 or -errno. */
int pass_send(int socket, const void *bytes, size_t length, int fd);

/* *fd_out: the descriptor beside the message, the caller's, or -1; of several the kernel gives none
 * beyond the first.  *truncated_out: there was more of either.  Bytes of the message, 0: the end,
 * or -errno. */
int pass_receive(int socket, void *bytes, size_t room, int *fd_out, bool *truncated_out);
