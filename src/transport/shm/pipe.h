/* SPDX-License-Identifier: MIT
 * transport/shm/pipe.h - pipes: a channel as a queue, and its name.
 */
#pragma once

#include "transport/transport.h"

struct shm;

/* 0, or -errno as demi_create_pipe and demi_open_pipe have it. */
int pipe_create(struct shm *shm, const char *name, struct queue **queue_out);
int pipe_open(struct shm *shm, const char *name, struct queue **queue_out);
