/* SPDX-License-Identifier: MIT
 * netdev/afxdp/mail.c - see mail.h.
 */
#include "netdev/afxdp/mail.h"

#include "base/bits.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Stated exception to "no mutable globals": the instances of this process that share interfaces. */
static struct {
	pthread_mutex_t lock;
	struct list all;
} boxes = {.lock = PTHREAD_MUTEX_INITIALIZER, .all = {.next = &boxes.all, .prev = &boxes.all}};

int mail_open(int index, struct mailbox **box_out)
{
	struct mailbox *box = calloc(1, sizeof(*box));

	if (!box)
		return -ENOMEM;
	box->index = index;
	box->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (box->fd < 0) {
		int err = -errno;
		free(box);
		return err;
	}
	pthread_mutex_lock(&boxes.lock);
	list_append(&boxes.all, &box->in_all);
	pthread_mutex_unlock(&boxes.lock);
	*box_out = box;
	return 0;
}

void mail_close(struct mailbox *box)
{
	pthread_mutex_lock(&boxes.lock);
	list_remove(&box->in_all);
	pthread_mutex_unlock(&boxes.lock);
	close(box->fd);
	free(box);
}

/* Under the lock.  Returns whether there was room. */
static bool put(struct mailbox *box, const uint8_t *frame, uint32_t length)
{
	if (box->count == MAIL_SLOTS)
		return false;
	struct mail_slot *slot = &box->slots[(box->begin + box->count) & (MAIL_SLOTS - 1)];
	memcpy(slot->bytes, frame, length);
	slot->length = (uint16_t)length;
	__atomic_store_n(&box->count, box->count + 1, __ATOMIC_RELAXED);
	(void)eventfd_write(box->fd, 1);
	return true;
}

uint32_t mail_pass_on(const struct mailbox *from, const uint8_t *frame, uint32_t length)
{
	uint32_t full = 0;

	if (length > MAIL_BYTES)
		return 1;
	pthread_mutex_lock(&boxes.lock);
	list_for_each (node, &boxes.all) {
		struct mailbox *box = container_of(node, struct mailbox, in_all);
		if (box != from && box->index == from->index)
			full += !put(box, frame, length);
	}
	pthread_mutex_unlock(&boxes.lock);
	return full;
}

uint32_t mail_take(struct mailbox *box, uint8_t *to, uint32_t room)
{
	uint32_t length = 0;

	pthread_mutex_lock(&boxes.lock);
	if (box->count > 0) {
		const struct mail_slot *slot = &box->slots[box->begin++ & (MAIL_SLOTS - 1)];
		length = slot->length < room ? slot->length : room;
		memcpy(to, slot->bytes, length);
		__atomic_store_n(&box->count, box->count - 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&boxes.lock);
	return length;
}

void mail_woken(struct mailbox *box)
{
	eventfd_t count;

	(void)eventfd_read(box->fd, &count);
}
