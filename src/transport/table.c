/* SPDX-License-Identifier: MIT
 * transport/table.c - the transports of this build, by libOS name and engine.
 */
#include "transport/transport.h"

#include "base/assert.h"

/* In the order of the choices of the keys libos and engine (base/config.def). */
static const struct engine_ops *const engines[4][1] = {
	{&kernel_direct_engine}, /* catnap: direct */
	{&inet_engine},          /* catpowder */
	{&inet_engine},          /* catnip */
	{&catmem_engine},        /* catmem */
};

static void check(const struct engine_ops *ops)
{
	const struct socket_ops *s = ops->socket;

	ASSERT(ops->name && ops->open && ops->close && ops->lingering && s);
	ASSERT(s->socket && s->bind && s->listen && s->accept && s->connect);
	ASSERT(s->shutdown && s->set_option && s->get_option && s->local_name && s->peer_name);
}

const struct engine_ops *transport_engine(const struct config *config)
{
	const struct engine_ops *ops = engines[config->libos][config->engine];

	if (ops)
		check(ops);
	return ops;
}

struct op *queue_take_none(struct queue *queue)
{
	(void)queue;
	return NULL;
}
