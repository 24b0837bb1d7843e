/* SPDX-License-Identifier: MIT
 * netdev/afxdp/mail.h - frames that reach one of several instances and are for all
 * (spread/for_all.h).  Who receives one passes copies on.
 *
 * Only where instances share an interface, and mostly for the control path.  A mailbox belongs to
 * its instance; others write into it under the lock of all, which is held for copies of one frame.
 * Invariant: what is in it is begin to begin + count - 1, masked.
 */
#pragma once

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

#define MAIL_SLOTS 32   /* a power of two */
#define MAIL_BYTES 1518 /* of the longest frame */

struct mail_slot {
	uint16_t length;
	uint8_t bytes[MAIL_BYTES];
};

struct mailbox {
	struct list in_all;
	int index; /* of the interface that is shared */
	int fd;    /* eventfd: there is mail */
	uint32_t begin;
	uint32_t count;
	struct mail_slot slots[MAIL_SLOTS];
};

/* 0 or -errno. */
int mail_open(int index, struct mailbox **box_out);
void mail_close(struct mailbox *box);

/* Into the mailboxes of all others of the interface.  Returns how many had no room; a frame too
 * long for them counts once. */
uint32_t mail_pass_on(const struct mailbox *from, const uint8_t *frame, uint32_t length);

static inline bool mail_is_there(const struct mailbox *box)
{
	return __atomic_load_n(&box->count, __ATOMIC_RELAXED) > 0;
}

/* Takes the oldest frame into room bytes; its length, 0: there is none. */
uint32_t mail_take(struct mailbox *box, uint8_t *to, uint32_t room);
/* fd woke the instance: it does not again for the same mail. */
void mail_woken(struct mailbox *box);
