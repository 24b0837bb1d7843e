/* SPDX-License-Identifier: MIT
 * netdev/afxdp/mail.c - see mail.h.
 */
#include "netdev/afxdp/mail.h"

#include "base/bits.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
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

/* ---- which ---- */

enum { /* RFC 792, 4443, 4861, 2710: types */
       V4_UNREACHABLE = 3,
       V4_TIME_EXCEEDED = 11,
       V4_PARAMETER_PROBLEM = 12,
       V6_ERRORS = 4, /* 1 to 4 */
       V6_GROUP_QUERY = 130,
       V6_ROUTER_ADVERTISEMENT = 134,
       V6_NEIGHBOR_ADVERTISEMENT = 136,
       V6_REDIRECT = 137,
};

enum { V4_GROUPS = 224, V6_GROUPS = 0xff }; /* first byte of an address: at least, exactly */

#define ARP_REPLY 2

static bool is_v4_for_all(const uint8_t *ip, uint32_t length)
{
	uint32_t header = length > 0 ? 4 * (ip[0] & 15U) : 0;

	if (length < 20 || length <= header)
		return false;
	if (ip[16] >= V4_GROUPS && ip[9] == IPPROTO_UDP)
		return true;
	if ((ip[6] & 0x1f) || ip[7])
		return false; /* a later fragment */
	if (ip[9] == IPPROTO_IGMP)
		return true;
	uint8_t type = ip[header];
	return ip[9] == IPPROTO_ICMP &&
	       (type == V4_UNREACHABLE || type == V4_TIME_EXCEEDED || type == V4_PARAMETER_PROBLEM);
}

/* Group queries have hop-by-hop options in front: those of 8 bytes. */
static bool is_v6_for_all(const uint8_t *ip, uint32_t length)
{
	uint32_t at = 40;

	if (length <= at + 8)
		return false;
	uint8_t next = ip[6];
	if (next == IPPROTO_HOPOPTS && ip[at + 1] == 0) {
		next = ip[at];
		at += 8;
	}
	if (ip[24] == V6_GROUPS && (next == IPPROTO_UDP || next == IPPROTO_FRAGMENT))
		return true;
	uint8_t type = ip[at];
	return next == IPPROTO_ICMPV6 &&
	       ((type >= 1 && type <= V6_ERRORS) || type == V6_GROUP_QUERY ||
		type == V6_ROUTER_ADVERTISEMENT || type == V6_NEIGHBOR_ADVERTISEMENT ||
		type == V6_REDIRECT);
}

static uint16_t type_at(const uint8_t *frame, uint32_t at)
{
	return (uint16_t)(frame[at] << 8 | frame[at + 1]);
}

bool mail_is_for_all(const uint8_t *frame, uint32_t length)
{
	uint32_t at = 12;

	if (length >= 18 && type_at(frame, at) == ETH_P_8021Q)
		at += 4;
	if (length < at + 2 || length > MAIL_BYTES)
		return false;
	uint16_t type = type_at(frame, at);
	frame += at + 2;
	length -= at + 2;
	if (likely(type == ETH_P_IP))
		return is_v4_for_all(frame, length);
	if (type == ETH_P_IPV6)
		return is_v6_for_all(frame, length);
	return type == ETH_P_ARP && length >= 8 && type_at(frame, 6) == ARP_REPLY;
}

/* ---- mailboxes ---- */

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
