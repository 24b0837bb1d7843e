/* SPDX-License-Identifier: MIT
 * base/list.h - intrusive, circular, doubly linked list.
 *
 * Invariant: node->next->prev == node && node->prev->next == node for every linked node and every
 * head; a node that is in no list points to itself.
 */
#pragma once

#include <stdbool.h>

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *node)
{
	node->next = node;
	node->prev = node;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

/* Links node in front of position; in front of a head is the tail. */
static inline void list_insert(struct list *position, struct list *node)
{
	node->next = position;
	node->prev = position->prev;
	position->prev->next = node;
	position->prev = node;
}

static inline void list_append(struct list *head, struct list *node)
{
	list_insert(head, node);
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* Everything in from moves to the tail of to. */
static inline void list_move_all(struct list *to, struct list *from)
{
	while (!list_empty(from)) {
		struct list *node = from->next;
		list_remove(node);
		list_append(to, node);
	}
}

#define list_for_each(node, head) \
	for (struct list *node = (head)->next; node != (head); node = node->next)

/* As list_for_each; the body may remove node. */
#define list_for_each_safe(node, after, head)                                       \
	for (struct list *node = (head)->next, *after = node->next; node != (head); \
	     node = after, after = node->next)
