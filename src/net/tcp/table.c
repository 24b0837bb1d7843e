/* SPDX-License-Identifier: MIT
 * net/tcp/table.c - connections by their four-tuple, listeners and bound sockets by port; ephemeral
 * ports (RFC 6056).
 *
 * The hash is keyed: a peer that chooses its ports cannot fill one bucket.  Buckets are chained and
 * doubled as connections come; the table never shrinks.
 */
#include "net/siphash.h"
#include "net/tcp/lookup.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_BUCKETS 256

/* ---- connections ---- */

struct tcp_conn *tcp_find_tuple(const struct tcp *tcp, const struct ip_address *local,
				uint16_t local_port, const struct ip_address *remote,
				uint16_t remote_port)
{
	return tcp_lookup(tcp, local, local_port, remote, remote_port);
}

static void insert(struct tcp *tcp, struct tcp_conn *conn)
{
	uint32_t hash =
		tcp_hash(tcp, &conn->local, conn->local_port, &conn->remote, conn->remote_port);
	struct tcp_conn **bucket = &tcp->buckets[hash & (tcp->num_buckets - 1)];

	conn->hash_next = *bucket;
	*bucket = conn;
}

/* Twice as many buckets; without memory the chains get longer. */
static void grow(struct tcp *tcp)
{
	struct tcp_conn **old = tcp->buckets;
	uint32_t num_old = tcp->num_buckets;
	struct tcp_conn **buckets = calloc((size_t)num_old * 2, sizeof(struct tcp_conn *));

	if (!buckets)
		return;
	tcp->buckets = buckets;
	tcp->num_buckets = num_old * 2;
	for (uint32_t i = 0; i < num_old; i++) {
		for (struct tcp_conn *conn = old[i], *next; conn; conn = next) {
			next = conn->hash_next;
			insert(tcp, conn);
		}
	}
	free(old);
}

void tcp_table_add(struct tcp *tcp, struct tcp_conn *conn)
{
	ASSERT(!conn->in_table);
	if (tcp->num_conns >= tcp->num_buckets)
		grow(tcp);
	insert(tcp, conn);
	tcp->num_conns++;
	conn->in_table = true;
}

void tcp_table_remove(struct tcp *tcp, struct tcp_conn *conn)
{
	if (!conn->in_table)
		return;
	uint32_t hash =
		tcp_hash(tcp, &conn->local, conn->local_port, &conn->remote, conn->remote_port);
	struct tcp_conn **at = &tcp->buckets[hash & (tcp->num_buckets - 1)];
	while (*at != conn)
		at = &(*at)->hash_next;
	*at = conn->hash_next;
	tcp->num_conns--;
	conn->in_table = false;
}

int tcp_table_open(struct tcp *tcp)
{
	tcp->buckets = calloc(FIRST_BUCKETS, sizeof(struct tcp_conn *));
	tcp->num_buckets = FIRST_BUCKETS;
	tcp->hash_key[0] = net_random(tcp->net);
	tcp->hash_key[1] = net_random(tcp->net);
	return tcp->buckets ? 0 : -ENOMEM;
}

void tcp_table_close(struct tcp *tcp)
{
	ASSERT(tcp->num_conns == 0);
	free(tcp->buckets);
}

/* ---- bound sockets ---- */

static struct list *bound_bucket(struct tcp *tcp, uint16_t port)
{
	return &tcp->bound[port % TCP_BOUND_BUCKETS];
}

/* How well a listener fits: 0 not at all, 3 its own address. */
static uint32_t fitness(const struct tcp_conn *conn, const struct ip_address *local)
{
	if (ip_equal(&conn->local, local))
		return 3;
	if (!ip_is_any(&conn->local))
		return 0;
	if (ip_is_v4(&conn->local)) /* 0.0.0.0 */
		return ip_is_v4(local) ? 2 : 0;
	return ip_is_v4(local) && conn->v6only ? 0 : 1;
}

struct tcp_conn *tcp_find_listener(const struct tcp *tcp, const struct ip_address *local,
				   uint16_t port)
{
	struct tcp_conn *best = NULL;
	uint32_t best_fitness = 0;

	list_for_each (node, &tcp->bound[port % TCP_BOUND_BUCKETS]) {
		struct tcp_conn *conn = container_of(node, struct tcp_conn, in_bound);
		if (conn->state != TCPS_LISTEN || conn->local_port != port)
			continue;
		uint32_t fit = fitness(conn, local);
		if (fit > best_fitness) {
			best = conn;
			best_fitness = fit;
		}
	}
	return best;
}

/* Would two sockets get each other's connections? */
static bool overlap(const struct tcp_conn *a, const struct tcp_conn *b)
{
	if (ip_equal(&a->local, &b->local))
		return true;
	if (ip_is_any(&a->local) && ip_is_any(&b->local)) /* 0.0.0.0 and :: */
		return !(ip_is_v4(&a->local) ? b : a)->v6only;
	if (ip_is_any(&a->local))
		return fitness(a, &b->local) > 0;
	return ip_is_any(&b->local) && fitness(b, &a->local) > 0;
}

static bool port_taken(struct tcp *tcp, const struct tcp_conn *conn, uint16_t port)
{
	list_for_each (node, bound_bucket(tcp, port)) {
		const struct tcp_conn *other = container_of(node, struct tcp_conn, in_bound);
		if (other != conn && other->local_port == port && overlap(other, conn) &&
		    !(other->reuse_port && conn->reuse_port))
			return true;
	}
	return false;
}

int tcp_bind(struct tcp_conn *conn, const struct ip_address *address, uint16_t port)
{
	struct tcp *tcp = conn->net->tcp;

	if (conn->bound || conn->state != TCPS_CLOSED)
		return -EINVAL;
	if (!ip_is_any(address) && !own_may_bind(conn->net, address))
		return -EADDRNOTAVAIL;
	if (port != 0 && !net_port_is_ours(conn->net, IP_TCP, port))
		return -EACCES;
	conn->local = *address;
	if (port == 0)
		port = tcp_choose_port(conn);
	if (port == 0 || port_taken(tcp, conn, port)) {
		memset(&conn->local, 0, sizeof(conn->local));
		return -EADDRINUSE;
	}
	conn->local_port = port;
	conn->bound = true;
	list_append(bound_bucket(tcp, port), &conn->in_bound);
	return 0;
}

/* Is nobody in the way? old: but a connection in TIME-WAIT that may be replaced. */
static bool port_free(struct tcp_conn *conn, uint16_t port, bool old)
{
	struct tcp *tcp = conn->net->tcp;
	uint32_t iss_min;

	if (port_taken(tcp, conn, port))
		return false;
	if (conn->remote_port == 0)
		return true;
	const struct netdev_flow flow = {&conn->local, &conn->remote, port, conn->remote_port};
	if (!net_is_answered(conn->net, &flow))
		return false;
	const struct tcp_conn *other =
		tcp_find_tuple(tcp, &conn->local, port, &conn->remote, conn->remote_port);
	return !other || (old && tcp_may_reuse(other, &iss_min));
}

/* RFC 6056 3.3.1: a random start, then the next free one. */
static uint16_t choose_port(struct tcp_conn *conn, bool old)
{
	uint32_t count = net_port_count(conn->net, IP_TCP);
	uint32_t start = count > 0 ? (uint32_t)(net_random(conn->net) % count) : 0;

	for (uint32_t i = 0; i < count; i++) {
		uint16_t port = net_port_choice(conn->net, IP_TCP, (start + i) % count);
		if (port_free(conn, port, old))
			return port;
	}
	return 0;
}

uint16_t tcp_choose_port(struct tcp_conn *conn)
{
	uint16_t port = choose_port(conn, false);

	return port ? port : choose_port(conn, true);
}
