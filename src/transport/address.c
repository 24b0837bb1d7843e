/* SPDX-License-Identifier: MIT
 * transport/address.c - socket addresses and those of the internet layer.
 */
#include "transport/address.h"

#include <errno.h>
#include <netinet/in.h>

int address_from_socket(int domain, const struct sockaddr *from, socklen_t length,
			struct ip_address *address, uint16_t *port)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (length < sizeof(in))
		return -EINVAL;
	if (from->sa_family == AF_INET && domain == AF_INET) {
		memcpy(&in, from, sizeof(in));
		*address = ip_from_v4(in.sin_addr.s_addr);
		*port = ntohs(in.sin_port);
		return 0;
	}
	if (from->sa_family == AF_INET6 && domain == AF_INET6) {
		if (length < sizeof(in6))
			return -EINVAL;
		memcpy(&in6, from, sizeof(in6));
		*address = ip_from_bytes(in6.sin6_addr.s6_addr);
		*port = ntohs(in6.sin6_port);
		return 0;
	}
	return -EAFNOSUPPORT;
}

void address_to_socket(int domain, const struct ip_address *address, uint16_t port,
		       struct sockaddr *to, socklen_t *length)
{
	union {
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} out;

	socklen_t bytes = domain == AF_INET ? sizeof(out.in) : sizeof(out.in6);

	memset(&out, 0, sizeof(out));
	if (domain == AF_INET) {
		out.in.sin_family = AF_INET;
		out.in.sin_port = htons(port);
		out.in.sin_addr.s_addr = ip_is_v4(address) ? address->words[3] : 0;
	} else {
		out.in6.sin6_family = AF_INET6;
		out.in6.sin6_port = htons(port);
		memcpy(out.in6.sin6_addr.s6_addr, address->bytes, sizeof(address->bytes));
	}
	memcpy(to, &out, *length < bytes ? *length : bytes);
	*length = bytes;
}
