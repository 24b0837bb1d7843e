/* SPDX-License-Identifier: MIT
 * tools/demi/echo_lwip.c - the server `lwip`: lwIP's raw API over a bare port, to be driven by the
 * client `stackless`.  lwIP is in the module of `demi bench net`.
 */
#include "echo.h"
#include "net/lwip_end.h"
#include "raw.h"
#include "tool.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define MODULE "demi-bench-lwip.so"
#define PORT   7
#define MTU    1500

struct wire {
	const struct raw_ops *ops;
	struct raw_frame in[RAW_BURST], out[RAW_BURST];
	uint32_t next, count; /* of in */
	uint32_t pending;     /* in out */
};

static void flush(struct wire *wire)
{
	raw_send_all(wire->ops, wire->out, wire->pending);
	wire->pending = 0;
}

static int put(void *end, const struct iovec *iov, uint32_t n)
{
	struct wire *wire = end;
	size_t length = 0;
	uint8_t *at;

	if (wire->pending == RAW_BURST)
		flush(wire);
	for (uint32_t i = 0; i < n; i++)
		length += iov[i].iov_len;
	if (wire->ops->make(&wire->out[wire->pending], 1, (uint32_t)length) == 0)
		return -ENOBUFS;
	at = wire->out[wire->pending++].data;
	for (uint32_t i = 0; i < n; i++) {
		memcpy(at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	return 0;
}

static bool get(void *end, const void **bytes_out, uint32_t *length_out)
{
	struct wire *wire = end;

	if (wire->next == wire->count)
		return false;
	*bytes_out = wire->in[wire->next].data;
	*length_out = wire->in[wire->next].length;
	return true;
}

static void done(void *end)
{
	struct wire *wire = end;

	wire->ops->drop(&wire->in[wire->next++], 1);
}

static int serve(struct echo_end *end, const struct lwip_end *lwip, struct wire *wire)
{
	const struct lwip_wire how = {
		.end = wire,
		.put = put,
		.get = get,
		.done = done,
		.mac = {2, 0, 0, 0, 0, 0xed},
		.mtu = MTU,
		.address = ntohl(end->address.in.sin_addr.s_addr),
	};

	if (lwip->open(&how) || lwip->listen(PORT, true))
		return echo_fail(end, -EIO, "lwIP does not open");
	echo_server_ready(end, PORT);
	while (!echo_interrupted() && (end->stays || lwip->closed() < end->spec->connections)) {
		wire->next = 0;
		wire->count = wire->ops->receive(wire->in, RAW_BURST);
		(void)lwip->poll(RAW_BURST);
		flush(wire);
	}
	return 0;
}

int echo_lwip_server(struct echo_end *end)
{
	const struct lwip_end *lwip = libexec_symbol(MODULE, LWIP_END_SYMBOL);
	struct wire wire = {0};

	if (!lwip)
		return echo_fail(end, -ENOTSUP, "lwip needs %s, built where lwIP is", MODULE);
	if (end->address.any.sa_family != AF_INET)
		return echo_fail(end, -EINVAL, "lwip: over IPv4 only");
	int error = raw_open(&wire.ops, end->device, end->message, ECHO_MESSAGE_MAX);
	return error ? error : serve(end, lwip, &wire);
}
