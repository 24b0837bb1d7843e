/* SPDX-License-Identifier: MIT
 * net/udp_filter.c - filters of UDP sockets that the device runs (netdev.filter).
 *
 * The device knows ports only, so a socket has its filter there while it is alone on its port and
 * not connected: whoever comes to the port later (enter, in udp_name.c) ends that.  What is for
 * the port and not for this socket (another address, another family) passes by instructions in
 * front.
 */
#include "net/udp_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

static struct sock_filter load(uint32_t place, uint16_t size)
{
	return (struct sock_filter){.code = (uint16_t)(BPF_LD | BPF_ABS | size), .k = place};
}

/* Goes on if it is equal, else far instructions further. */
static struct sock_filter equal(uint32_t value, uint8_t near, uint8_t far)
{
	return (struct sock_filter){
		.code = BPF_JMP | BPF_JEQ | BPF_K, .jt = near, .jf = far, .k = value};
}

/* To this address? */
static uint32_t only_address(const struct ip_address *address, struct sock_filter *out)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < 4; i++) {
		out[n++] = load((uint32_t)offsetof(struct cbpf_head, local_address) + i * 4, BPF_W);
		out[n++] = equal(ntohl(address->words[i]), i == 3, (uint8_t)(6 - 2 * i));
	}
	return n;
}

/* What of the port is not for the socket passes; returns how many instructions that takes. */
static uint32_t only_ours(const struct udp_socket *socket, struct sock_filter *out)
{
	bool v4 = udp_speaks(socket, true);
	uint32_t n;

	if (!ip_is_any(&socket->bound)) {
		n = only_address(&socket->bound, out);
	} else if (v4 && udp_speaks(socket, false)) {
		return 0;
	} else {
		out[0] = load(offsetof(struct cbpf_head, version), BPF_B);
		out[1] = equal(v4 ? 4 : 6, 1, 0);
		n = 2;
	}
	out[n++] = (struct sock_filter){.code = BPF_RET | BPF_K, .k = 1};
	return n;
}

static bool is_alone(const struct udp_socket *socket)
{
	list_for_each (node, udp_port_list(socket->net, socket->port)) {
		const struct udp_socket *s = container_of(node, struct udp_socket, by_port);
		if (s != socket && s->port == socket->port)
			return false;
	}
	return true;
}

int udp_socket_filter(struct udp_socket *socket, const struct sock_filter *program, uint32_t count)
{
	struct netdev *dev = socket->net->dev;
	struct sock_filter whole[CBPF_MAX];

	if (count == 0) {
		udp_unfilter(socket);
		return 0;
	}
	if (!dev->filter || socket->port == 0 || socket->connected || !is_alone(socket))
		return -ENOTSUP;
	uint32_t front = only_ours(socket, whole);
	if (count > CBPF_MAX - front)
		return -E2BIG;
	memcpy(whole + front, program, count * sizeof(*program));
	int err = dev->filter(dev, socket->port, whole, front + count);
	socket->filtered = err == 0;
	return err;
}

bool udp_socket_filtered(const struct udp_socket *socket)
{
	return socket->filtered;
}

void udp_unfilter(struct udp_socket *socket)
{
	struct netdev *dev = socket->net->dev;

	if (socket->filtered)
		(void)dev->filter(dev, socket->port, NULL, 0);
	socket->filtered = false;
}

void udp_unfilter_port(struct net *net, uint16_t port)
{
	list_for_each (node, udp_port_list(net, port)) {
		struct udp_socket *s = container_of(node, struct udp_socket, by_port);
		if (s->port == port)
			udp_unfilter(s);
	}
}
