/* SPDX-License-Identifier: MIT
 * transport/shm/shm.h - what an instance has of shared memory: its channels, and the poller that
 * runs them.
 *
 * Made at the first use by who needs it: pipes (src/api/pipe.c) in any instance, or an engine of
 * which all queues are channels.  Channels belong to it until they end.
 *
 * Hot and cold: hot channels are looked at in every turn.  While more than SHM_HOT_MAX are, one in
 * which nothing happened for a while becomes cold: it tells its peer that it sleeps, so that the
 * next message comes with a wake-up by the socket, which is in the descriptor set.
 */
#pragma once

#include "base/list.h"
#include "sched/sched.h"

#include <stdbool.h>
#include <stdint.h>

struct shm;

#define SHM_HOT_MAX 32 /* a look at a channel costs a nanosecond or two */

/* With its poller registered.  0 or -errno. */
int shm_open_instance(struct sched *sched, struct shm **shm_out);

/* All channels were closed by their owners; what they have not sent is given up. */
void shm_close_instance(struct shm *shm);

/* Channels that were closed and still send, or have lent memory. */
uint32_t shm_lingering(const struct shm *shm);

struct sched *shm_sched(const struct shm *shm);
