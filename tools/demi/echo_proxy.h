/* SPDX-License-Identifier: MIT
 * tools/demi/echo_proxy.h - what may stand between client and server of `demi bench proxy`: a
 * process of its own that takes TCP connections and carries their bytes on.
 *
 * The proxy has the first core; client and server share the next.  Its struct echo_end says where
 * it listens (address) and where the server is (target).  It goes on until it is killed.
 */
#pragma once

#include "echo.h"

struct echo_proxy {
	const char *name;
	bool library; /* a library OS */
	bool device;  /* that drives a device of its own */
	const char *idle;
	int (*run)(struct echo_end *end); /* NULL: there is none, the client talks to the server */
};

const struct echo_proxy *echo_proxy_find(const char *name);
size_t echo_proxy_count(void);
const struct echo_proxy *echo_proxy_at(size_t index);

/* It takes connections at this port now. */
void echo_proxy_ready(struct echo_end *end, uint16_t port);

int echo_proxy_splice(struct echo_end *end);
int echo_proxy_haproxy(struct echo_end *end);
int echo_proxy_queue(struct echo_end *end);
