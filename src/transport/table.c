/* SPDX-License-Identifier: MIT
 * transport/table.c - the transports of this build, by libOS name and engine.
 */
#include "transport/plugin.h"

#include "base/assert.h"

#include <errno.h>

#define CATMINT 5 /* the choice of the key libos: a plug-in */

/* In the order of the choices of the keys libos and engine (base/config.def). */
static const struct engine_ops *const engines[6][1] = {
	{&kernel_direct_engine}, /* catnap: direct */
	{&inet_engine},          /* catpowder */
	{&inet_engine},          /* catnip */
	{&catmem_engine},        /* catmem */
	{&catloop_engine},       /* catloop */
	{NULL},                  /* catmint */
};

static void check(const struct engine_ops *ops)
{
	const struct socket_ops *s = ops->socket;

	ASSERT(ops->name && ops->open && ops->close && ops->lingering && s);
	ASSERT(s->socket && s->bind && s->listen && s->accept && s->connect);
	ASSERT(s->shutdown && s->set_option && s->get_option && s->local_name && s->peer_name &&
	       s->filter);
}

static int open_plugin(struct sched *sched, const char *name, struct engine **engine_out)
{
	const struct plugin *plugin;
	int err = plugin_load(sched, name, &plugin);

	if (err)
		return err;
	const struct transport_plugin *ops = plugin->ops;
	err = ops->open(sched, engine_out);
	if (!err)
		check((*engine_out)->ops);
	return err;
}

int transport_open(struct sched *sched, struct engine **engine_out)
{
	const struct config *config = &sched->config;
	const struct engine_ops *ops =
		sched->world.engine ? sched->world.engine : engines[config->libos][config->engine];

	if (!ops && config->libos == CATMINT)
		return open_plugin(sched, "rdma", engine_out);
	if (!ops) {
		log_write(&sched->log, LOG_LEVEL_ERROR, "libos: \"%s\" is not in this build",
			  config_choice_name(config, "libos"));
		return -ENOTSUP;
	}
	check(ops);
	return ops->open(sched, engine_out);
}
