/* SPDX-License-Identifier: MIT
 * netdev/afxdp/grant.c - see grant.h: what needs privilege, done by this process.
 *
 * One program an interface and process serves all its sockets: struct hub, in a list under a lock.
 */
#include "netdev/afxdp/grant.h"

#include "netdev/afxdp/share.h"
#include "netdev/afxdp/socket.h"
#include "netdev/interface.h"

#include "base/list.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESSES_MAX 64 /* of a grant */

/* The program of an interface, and which slots of it are in use. */
struct hub {
	struct list in_all;
	int index; /* of the interface */
	struct steer *steer;
	struct list grants;
	bool used[STEER_SLOTS];
};

struct local {
	struct grant grant;
	struct list in_hub;
	struct log log;
	struct grant_request request;
	int index;       /* of the interface */
	struct hub *hub; /* NULL: not bound */
	struct share *share;
	bool steering;
	int link; /* packet socket by which the interface lets groups through; -1 */
	uint32_t num_addresses;
	struct ip_address addresses[ADDRESSES_MAX];
	uint32_t num_filters;
	uint16_t filters[GRANT_FILTERS_MAX]; /* their ports */
};

/* Stated exception to "no mutable globals": the registry of interfaces that several instances
 * share. */
static struct {
	pthread_mutex_t lock;
	struct list all;
	struct list shares;
} hubs = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.all = {.next = &hubs.all, .prev = &hubs.all},
	.shares = {.next = &hubs.shares, .prev = &hubs.shares},
};

/* What the hardware has to let through: groups, and a station that is not the interface's.  It ends
 * with the process. */
static int open_link(int index, bool promiscuous)
{
	const unsigned short types[] = {PACKET_MR_ALLMULTI, PACKET_MR_PROMISC};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* receives nothing */

	for (int i = 0; fd >= 0 && i < 1 + promiscuous; i++) {
		const struct packet_mreq mreq = {.mr_ifindex = index, .mr_type = types[i]};
		(void)setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq, sizeof(mreq));
	}
	return fd;
}

/* ---- hubs: under their lock ---- */

static struct hub *hub_find(int index)
{
	list_for_each (node, &hubs.all) {
		struct hub *hub = container_of(node, struct hub, in_all);
		if (hub->index == index)
			return hub;
	}
	return NULL;
}

static int hub_make(const struct log *log, const struct grant_request *request, int index,
		    struct hub **hub_out)
{
	struct hub *hub = calloc(1, sizeof(*hub));

	if (!hub)
		return -ENOMEM;
	const struct steer_options options = {.interface = request->interface,
					      .index = index,
					      .mode = (enum steer_mode)request->mode,
					      .alone = request->alone};
	int err = steer_open(log, &options, &hub->steer);
	if (err) {
		free(hub);
		return err;
	}
	hub->index = index;
	list_init(&hub->grants);
	list_append(&hubs.all, &hub->in_all);
	*hub_out = hub;
	return 0;
}

/* The first of count free slots; -ENOSPC. */
static int take_slots(struct hub *hub, uint16_t count)
{
	uint16_t run = 0;

	for (uint16_t i = 0; i < STEER_SLOTS; i++) {
		run = (uint16_t)(hub->used[i] ? 0 : run + 1);
		if (run == count) {
			uint16_t first = (uint16_t)(i + 1 - count);
			memset(&hub->used[first], 1, count);
			return first;
		}
	}
	return -ENOSPC;
}

/* Without grants it ends. */
static void hub_drop(struct hub *hub)
{
	if (!list_empty(&hub->grants))
		return;
	steer_close(hub->steer);
	list_remove(&hub->in_all);
	free(hub);
}

/* ---- steering ---- */

static int steer_ports(struct local *local, const struct steer_target *target)
{
	int err = 0;

	for (uint32_t i = 0; i < local->request.num_ports && !err; i++) {
		const struct grant_ports *ports = &local->request.ports[i];
		for (uint32_t port = ports->first; port <= ports->last && !err; port++)
			err = steer_port(local->hub->steer, ports->protocol, (uint16_t)port,
					 target);
	}
	return err;
}

/* Where address stands in the list; num_addresses: nowhere. */
static uint32_t place_of(const struct local *local, const struct ip_address *address)
{
	uint32_t i = 0;

	while (i < local->num_addresses && !ip_equal(&local->addresses[i], address))
		i++;
	return i;
}

static int steer_one(struct local *local, const struct ip_address *address, bool wanted)
{
	struct steer *steer = local->hub->steer;

	if (grant_is_shared(local->request.num_ports, address))
		return steer_share(steer, address, wanted);
	return steer_address(steer, address, wanted ? &local->share->target : NULL);
}

/* What another grant of the interface has too is that one's from now on. */
static int unsteer(struct local *local, const struct ip_address *address)
{
	list_for_each (node, &local->hub->grants) {
		struct local *other = container_of(node, struct local, in_hub);
		if (other != local && place_of(other, address) < other->num_addresses)
			return steer_one(other, address, true);
	}
	return steer_one(local, address, false);
}

static int steer_under_lock(struct local *local, const struct ip_address *address, bool wanted)
{
	uint32_t i = place_of(local, address);

	if (wanted == (i < local->num_addresses))
		return 0;
	if (i == ADDRESSES_MAX)
		return -ENOSPC;
	int err = wanted ? steer_one(local, address, true) : unsteer(local, address);
	if (err)
		return err;
	local->addresses[i] = wanted ? *address : local->addresses[--local->num_addresses];
	local->num_addresses += wanted;
	return 0;
}

static int local_steer(struct grant *grant, const struct ip_address *address, bool wanted)
{
	struct local *local = container_of(grant, struct local, grant);

	pthread_mutex_lock(&hubs.lock);
	int err = steer_under_lock(local, address, wanted);
	pthread_mutex_unlock(&hubs.lock);
	return err;
}

static uint16_t slot_of(const struct local *local)
{
	uint32_t n = local->request.pool ? local->grant.place : local->grant.queue;

	return (uint16_t)(local->share->target.first + n);
}

/* ---- filters ---- */

/* Where port stands in the list; num_filters: nowhere. */
static uint32_t filter_of(const struct local *local, uint16_t port)
{
	uint32_t i = 0;

	while (i < local->num_filters && local->filters[i] != port)
		i++;
	return i;
}

/* 0 or -errno. */
static int filter_under_lock(struct local *local, uint16_t port, const struct sock_filter *program,
			     uint32_t count)
{
	uint32_t i = filter_of(local, port);

	if (!local->steering || i == GRANT_FILTERS_MAX)
		return -ENOSPC;
	if (i == local->num_filters && count == 0)
		return 0;
	int err = steer_filter(local->hub->steer, slot_of(local), port, program, count);
	if (err)
		return err;
	if (count == 0)
		local->filters[i] = local->filters[--local->num_filters];
	else if (i == local->num_filters)
		local->filters[local->num_filters++] = port;
	return 0;
}

static int local_filter(struct grant *grant, uint16_t port, const struct sock_filter *program,
			uint32_t count)
{
	struct local *local = container_of(grant, struct local, grant);

	pthread_mutex_lock(&hubs.lock);
	int err = filter_under_lock(local, port, program, count);
	pthread_mutex_unlock(&hubs.lock);
	return err;
}

/* ---- ends and beginnings ---- */

/* The last one of a share ends what all have: ports and slots. */
static void stop_steering(struct local *local)
{
	struct share *share = local->share;
	struct hub *hub = local->hub;

	while (local->num_addresses > 0)
		(void)unsteer(local, &local->addresses[--local->num_addresses]);
	while (local->num_filters > 0)
		(void)steer_filter(hub->steer, slot_of(local), local->filters[--local->num_filters],
				   NULL, 0);
	(void)steer_socket(hub->steer, slot_of(local), -1);
	local->steering = false;
	if (--share->steering > 0)
		return;
	(void)steer_ports(local, NULL);
	memset(&hub->used[share->target.first], 0, share->target.count);
}

/* The first one of a share begins what all have.  0 or -errno, told. */
static int begin_share(struct local *local, uint16_t count)
{
	const struct grant_request *request = &local->request;
	int first = take_slots(local->hub, count);

	if (first < 0)
		return socket_refused(&local->log, request, "slots of the program", first);
	local->share->target = (struct steer_target){
		.first = (uint16_t)first, .count = count, .by_hash = request->pool > 0};
	if (count > request->queues)
		log_write(&local->log, LOG_LEVEL_WARNING,
			  "interface %s receives on %u queues, and only %u from number %u on are "
			  "ours: what arrives on others goes to the kernel (ethtool -L %s "
			  "combined %u)",
			  request->interface, count, request->queues, request->queue,
			  request->interface, request->queues);
	return 0;
}

/* 0 or -errno, told. */
static int start_steering(struct local *local, const struct grant_request *request)
{
	struct share *share = local->share;
	uint32_t slots = request->pool ? request->queues : interface_queues(request->interface);
	uint16_t count = (uint16_t)(slots < STEER_SLOTS ? slots : STEER_SLOTS);

	if (share->steering > 0)
		count = share->target.count;
	if (!request->pool && local->grant.queue >= count)
		return socket_refused(&local->log, request, "steering", -EINVAL);
	int err = share->steering > 0 ? 0 : begin_share(local, count);
	if (err)
		return err;
	share->steering++;
	local->steering = true;
	err = steer_socket(local->hub->steer, slot_of(local), local->grant.fd);
	if (!err)
		err = steer_ports(local, &share->target);
	if (err) {
		stop_steering(local);
		return socket_refused(&local->log, request, "steering", err);
	}
	return 0;
}

static void local_close(struct grant *grant)
{
	struct local *local = container_of(grant, struct local, grant);

	pthread_mutex_lock(&hubs.lock);
	if (local->hub) {
		stop_steering(local);
		list_remove(&local->in_hub);
		hub_drop(local->hub);
	}
	share_leave(local->share, local->grant.place);
	pthread_mutex_unlock(&hubs.lock);
	if (local->link >= 0)
		close(local->link);
	free(local);
}

/* This process does not go before itself. */
static int local_renew(struct grant *grant)
{
	(void)grant;
	return 0;
}

/* Under the hubs' lock. */
static int join_hub(struct local *local)
{
	const struct grant_request *request = &local->request;
	struct hub *hub = hub_find(local->index);
	int err = hub ? 0 : hub_make(&local->log, request, local->index, &hub);

	if (err)
		return err;
	list_append(&hub->grants, &local->in_hub);
	local->hub = hub;
	err = start_steering(local, request);
	if (err) {
		list_remove(&local->in_hub);
		hub_drop(hub);
		local->hub = NULL;
		return err;
	}
	local->grant.native = steer_is_native(hub->steer);
	local->grant.dispatched = steer_is_dispatched(hub->steer);
	return 0;
}

/* With its socket bound.  0 or -errno, told. */
static int begin(struct local *local)
{
	pthread_mutex_lock(&hubs.lock);
	int err = join_hub(local);
	pthread_mutex_unlock(&hubs.lock);
	if (!err)
		local->link = open_link(local->index, local->request.promiscuous);
	return err;
}

/* A bound socket of the same pool; NULL. */
static const struct grant *find_bound(const struct local *local)
{
	const struct grant *found = NULL;

	pthread_mutex_lock(&hubs.lock);
	struct hub *hub = local->request.pool ? hub_find(local->index) : NULL;
	if (hub) {
		list_for_each (node, &hub->grants) {
			const struct local *other = container_of(node, struct local, in_hub);
			if (other->share == local->share)
				found = &other->grant;
		}
	}
	pthread_mutex_unlock(&hubs.lock);
	return found;
}

static int local_bind(struct grant *grant)
{
	struct local *local = container_of(grant, struct local, grant);
	int err = socket_bind(grant, &local->log, &local->request, local->index, find_bound(local));

	return err ? err : begin(local);
}

static int adopted_bind(struct grant *grant)
{
	return begin(container_of(grant, struct local, grant));
}

static const struct grant_ops local_ops = {.bind = local_bind,
					   .steer = local_steer,
					   .filter = local_filter,
					   .renew = local_renew,
					   .close = local_close};
static const struct grant_ops adopted_ops = {.bind = adopted_bind,
					     .steer = local_steer,
					     .filter = local_filter,
					     .renew = local_renew,
					     .close = local_close};

/* 0 or -errno, told. */
static int take_place(struct local *local)
{
	const struct grant_request *request = &local->request;
	const struct share_key key = {.index = local->index,
				      .process = request->process,
				      .first = request->queue,
				      .count = request->queues,
				      .pool = request->pool};

	pthread_mutex_lock(&hubs.lock);
	int err =
		share_take(&hubs.shares, &key, request->place, &local->share, &local->grant.place);
	pthread_mutex_unlock(&hubs.lock);
	if (err == -EBUSY)
		log_write(
			&local->log, LOG_LEVEL_ERROR,
			"demitasse.xdp.queues: interface %s: %u instances of this process share it "
			"already, from queue %u on",
			request->interface, request->queues, request->queue);
	local->grant.queue = request->queue + (request->pool ? 0 : local->grant.place);
	return err;
}

/* Without a socket yet, with a place.  0 or -errno, told. */
static int make(const struct log *log, const struct grant_request *request, struct local **out)
{
	int index = (int)if_nametoindex(request->interface);

	if (index == 0) {
		socket_refused(log, request, "no such interface", -ENODEV);
		return -ENODEV;
	}
	struct local *local = calloc(1, sizeof(*local));
	if (!local)
		return -ENOMEM;
	*local = (struct local){
		.grant = {.ops = &local_ops, .fd = -1, .giver = -1},
		.log = *log,
		.request = *request,
		.index = index,
		.link = -1,
	};
	int err = take_place(local);
	if (err) {
		free(local);
		return err;
	}
	*out = local;
	return 0;
}

int grant_open(const struct log *log, const struct grant_request *request, void *memory,
	       struct grant **grant_out)
{
	struct local *local;
	int err = make(log, request, &local);

	if (err)
		return err;
	err = socket_open(&local->grant, log, request, find_bound(local) ? NULL : memory);
	if (err) {
		if (local->grant.fd >= 0)
			close(local->grant.fd);
		local_close(&local->grant);
		return err;
	}
	*grant_out = &local->grant;
	return 0;
}

int grant_adopt(const struct log *log, const struct grant_request *request, int fd,
		struct grant **grant_out)
{
	struct local *local;
	int err = make(log, request, &local);

	if (err)
		return err;
	local->grant.ops = &adopted_ops;
	local->grant.fd = fd;
	*grant_out = &local->grant;
	return 0;
}
