/* SPDX-License-Identifier: MIT
 * transport/none.c - what transports have in their tables for what they have not: part of the
 * library and of each plug-in that is a transport.
 */
#include "transport/transport.h"

#include <errno.h>

struct op *queue_take_none(struct queue *queue)
{
	(void)queue;
	return NULL;
}

int socket_filter_none(struct queue *queue, const struct sock_filter *program, uint32_t count)
{
	(void)queue;
	(void)program;
	(void)count;
	return -ENOTSUP;
}
