/* SPDX-License-Identifier: MIT
 * netdev/spread/port.c - see port.h.
 */
#include "netdev/spread/port.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Stated exception to "no mutable globals": the instances of this process that share devices. */
static struct {
	pthread_mutex_t lock; /* for coming and going */
	struct list all;
} ports = {.lock = PTHREAD_MUTEX_INITIALIZER, .all = {.next = &ports.all, .prev = &ports.all}};

void port_lock(void)
{
	(void)pthread_mutex_lock(&ports.lock);
}

void port_unlock(void)
{
	(void)pthread_mutex_unlock(&ports.lock);
}

static struct port *find_port(const char *name)
{
	list_for_each (node, &ports.all) {
		struct port *port = container_of(node, struct port, in_all);
		if (strcmp(port->name, name) == 0)
			return port;
	}
	return NULL;
}

static void free_port(struct port *port)
{
	for (uint32_t place = 0; place < port->places; place++) {
		if (port->sides[place].bell >= 0)
			(void)close(port->sides[place].bell);
	}
	free(port);
}

static int make_port(const struct shared_wish *wish, struct port **port_out)
{
	uint64_t bytes = sizeof(struct port) + wish->places * sizeof(struct side);
	struct port *port = aligned_alloc(CACHE_LINE, round_up(bytes, CACHE_LINE));

	if (!port)
		return -ENOMEM;
	memset(port, 0, bytes);
	(void)snprintf(port->name, sizeof(port->name), "%s", wish->name);
	port->places = wish->places;
	int err = 0;
	for (uint32_t place = 0; place < port->places; place++) {
		port->sides[place].bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (port->sides[place].bell < 0)
			err = -errno;
	}
	if (err) {
		free_port(port);
		return err;
	}
	list_append(&ports.all, &port->in_all);
	*port_out = port;
	return 0;
}

int port_find(const struct sched *sched, const struct shared_wish *wish, struct port **port_out,
	      uint32_t *place_out)
{
	ASSERT(strlen(wish->name) < PORT_NAME_BYTES);
	struct port *port = find_port(wish->name);
	uint32_t place = 0;
	int err = port ? 0 : make_port(wish, &port);

	if (err)
		return err;
	*port_out = port;
	if (port->places != wish->places) {
		log_write(&sched->log, LOG_LEVEL_ERROR, "%s: %u, but %u of an instance that has %s",
			  wish->key, wish->places, port->places, wish->name);
		return -EINVAL;
	}
	while (place < port->places && port_has(port, place))
		place++;
	*place_out = place;
	if (place < port->places)
		return 0;
	log_write(&sched->log, LOG_LEVEL_ERROR, "%s: %u, and so many instances have %s already",
		  wish->key, wish->places, wish->name);
	return -EBUSY;
}

void port_come(struct port *port, uint32_t place)
{
	for (uint32_t i = 1; i < port->places; i++) {
		struct side *side = &port->sides[i];
		if (place == 0) {
			lane_open_giver(&side->to);
			lane_open_taker(&side->from);
		} else if (i == place) {
			lane_open_giver(&side->from);
			lane_open_taker(&side->to);
		}
	}
	atomic_store(&port->sides[place].present, true);
	port->taken++;
}

void port_go(struct port *port, uint32_t place, struct heap *heap)
{
	if (!port_has(port, place))
		return;
	for (uint32_t i = 1; i < port->places; i++) {
		struct side *side = &port->sides[i];
		if (place == 0) {
			lane_close_giver(&side->to, heap);
			lane_close_taker(&side->from);
		} else if (i == place) {
			lane_close_giver(&side->from, heap);
			lane_close_taker(&side->to);
		}
	}
	atomic_store(&port->sides[place].asleep, false);
	atomic_store(&port->sides[place].present, false);
	port->taken--;
}

void port_release(struct port *port)
{
	if (!port || port->taken > 0)
		return;
	list_remove(&port->in_all);
	free_port(port);
}
