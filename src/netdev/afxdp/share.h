/* SPDX-License-Identifier: MIT
 * netdev/afxdp/share.h - the instances of one process that share an interface: a place each, which
 * is a queue, or one of the sockets of a queue, and one steering target for all.
 *
 * In the process of who has the privilege.  Shares are made and found by their key and live as long
 * as a place of them is taken.  The lock is the caller's, as for all of the registry.
 */
#pragma once

#include "base/list.h"
#include "netdev/afxdp/steer.h"

#include <stdbool.h>
#include <stdint.h>

struct share_key {
	int index;        /* of the interface */
	uint32_t process; /* whose instances they are */
	uint32_t first;   /* queue */
	uint32_t count;   /* of queues: places */
	uint32_t pool;    /* grant_request.pool */
};

struct share {
	struct list in_all;
	struct share_key key;
	uint32_t taken;
	uint32_t steering;          /* of those, which the program steers to */
	struct steer_target target; /* if steering > 0 */
	bool used[STEER_SLOTS];     /* by place */
};

#define SHARE_ANY UINT32_MAX

/* Takes a place, the lowest free one for SHARE_ANY.  0, -ENOMEM, or -EBUSY: it is taken, or all
 * are.  A share of one place is its taker's alone: whether the queue is free the kernel says. */
int share_take(struct list *all, const struct share_key *key, uint32_t place,
	       struct share **share_out, uint32_t *place_out);
/* The last one ends the share. */
void share_leave(struct share *share, uint32_t place);
