/* SPDX-License-Identifier: MIT
 * transport/address.h - socket addresses and those of the internet layer, for every transport that
 * has names of its own.
 */
#pragma once

#include "base/address.h"

#include <stdint.h>
#include <sys/socket.h>

/* 0 or -EINVAL, -EAFNOSUPPORT. */
int address_from_socket(int domain, const struct sockaddr *from, socklen_t length,
			struct ip_address *address, uint16_t *port);

/* At most *length bytes; *length is then what it would have taken. */
void address_to_socket(int domain, const struct ip_address *address, uint16_t port,
		       struct sockaddr *to, socklen_t *length);
