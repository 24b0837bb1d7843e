/* SPDX-License-Identifier: MIT
 * net/tcp/lookup.h - a connection by its four-tuple, in line: every segment asks for it.
 */
#pragma once

#include "net/tcp/tcp.h"

static inline uint64_t tcp_hash_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* A product of two words that a peer does not know: enough where it never sees the result. */
static inline uint32_t tcp_hash(const struct tcp *tcp, const struct ip_address *local,
				uint16_t local_port, const struct ip_address *remote,
				uint16_t remote_port)
{
	const uint64_t *key = tcp->hash_key;
	uint64_t ports = (uint64_t)local_port << 16 | remote_port;
	uint64_t h = tcp_hash_mix(local->pair[1] ^ key[0], remote->pair[1] ^ key[1]);

	if (unlikely((local->pair[0] | remote->pair[0]) != 0))
		h ^= tcp_hash_mix(local->pair[0] ^ key[1], remote->pair[0] ^ ~key[0]);
	return (uint32_t)tcp_hash_mix(h ^ ports, key[0] ^ 0x9e3779b97f4a7c15U);
}

static inline bool tcp_has_tuple(const struct tcp_conn *conn, const struct ip_address *local,
				 uint16_t local_port, const struct ip_address *remote,
				 uint16_t remote_port)
{
	return conn->remote_port == remote_port && conn->local_port == local_port &&
	       ip_equal(&conn->remote, remote) && ip_equal(&conn->local, local);
}

static inline struct tcp_conn *tcp_lookup(const struct tcp *tcp, const struct ip_address *local,
					  uint16_t local_port, const struct ip_address *remote,
					  uint16_t remote_port)
{
	uint32_t hash = tcp_hash(tcp, local, local_port, remote, remote_port);
	struct tcp_conn *conn = tcp->buckets[hash & (tcp->num_buckets - 1)];

	while (conn && !tcp_has_tuple(conn, local, local_port, remote, remote_port))
		conn = conn->hash_next;
	return conn;
}
