/* SPDX-License-Identifier: MIT
 * tools/demi/net/lwip_end.c - one end of a connection benchmark on lwIP, by its raw API; see
 * lwip_end.h.
 *
 * Debian's liblwip is built for threads (NO_SYS 0). It is driven from one thread here, without
 * lwIP's own: tcpip_init is never called, so no thread and no core lock exist, and lwIP's check of
 * the lock finds nothing to check; frames go straight to ethernet_input, and its timers are looked
 * at with every 16th poll, as ours are.  A frame is copied out of its slot of the ring into a pbuf
 * (as our device does), and out of pbufs into a slot.  The pbuf is PBUF_RAM, of the frame's length:
 * 2.1.3+dfsg1-2 makes elements of PBUF_POOL of 592 bytes, and pbuf_alloc of the same library takes
 * them for 1536, so that a long frame overruns the heap.
 */
#include "lwip_end.h"

#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>
#include <malloc.h>
#include <netif/ethernet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMER_POLLS   16
#define CHAIN_MAX     16 /* pbufs of one frame */
#define MESSAGE_BYTES 65535

struct connection {
	struct tcp_pcb *pcb;
	uint32_t wanted; /* bytes of the answer that are to come */
};

struct queued {
	struct pbuf *frame;
	struct queued *next;
};

/* A copy of the module is one end, so its state is the module's. */
static struct {
	struct lwip_wire wire;
	struct netif netif;
	struct queued *queue, **queue_end; /* frames for which the ring had no room */
	struct tcp_pcb *listening;
	struct connection *connections; /* that we began */
	unsigned begun, connected, closed, next, polls;
	uint64_t answers, received;
	uint32_t sequence;
	bool echo, initialised;
} end;

static uint8_t message[MESSAGE_BYTES];

/* ---- frames ---- */

static err_t put_now(const struct pbuf *frame)
{
	struct iovec pieces[CHAIN_MAX];
	unsigned count = 0;

	for (const struct pbuf *p = frame; p; p = p->next) {
		if (count == CHAIN_MAX)
			return ERR_BUF;
		pieces[count++] = (struct iovec){.iov_base = p->payload, .iov_len = p->len};
	}
	return end.wire.put(end.wire.end, pieces, count) == 0 ? ERR_OK : ERR_BUF;
}

/* A copy waits in front of the full ring: lwIP's timer acknowledges thousands of connections at
 * once, and what the ring does not take would be sent again after seconds. */
static err_t put_later(struct pbuf *frame)
{
	struct queued *queued = malloc(sizeof(*queued));

	if (!queued)
		return ERR_MEM;
	queued->frame = pbuf_clone(PBUF_RAW, PBUF_RAM, frame);
	queued->next = NULL;
	if (!queued->frame) {
		free(queued);
		return ERR_MEM;
	}
	*end.queue_end = queued;
	end.queue_end = &queued->next;
	return ERR_OK;
}

static err_t put_frame(struct netif *netif, struct pbuf *frame)
{
	(void)netif;
	if (!end.queue && put_now(frame) == ERR_OK)
		return ERR_OK;
	return put_later(frame);
}

static void put_queued(void)
{
	while (end.queue && put_now(end.queue->frame) == ERR_OK) {
		struct queued *queued = end.queue;

		end.queue = queued->next;
		if (!end.queue)
			end.queue_end = &end.queue;
		pbuf_free(queued->frame);
		free(queued);
	}
}

static err_t init_netif(struct netif *netif)
{
	netif->name[0] = 'r';
	netif->name[1] = 'g';
	netif->mtu = (u16_t)end.wire.mtu;
	netif->hwaddr_len = sizeof(end.wire.mac);
	memcpy(netif->hwaddr, end.wire.mac, sizeof(end.wire.mac));
	netif->flags =
		NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
	netif->output = etharp_output;
	netif->linkoutput = put_frame;
	return ERR_OK;
}

static void take_frame(const void *bytes, uint32_t length)
{
	struct pbuf *frame = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_RAM);

	if (!frame)
		return;
	pbuf_take(frame, bytes, (u16_t)length);
	if (ethernet_input(frame, &end.netif) != ERR_OK)
		pbuf_free(frame);
}

static unsigned end_poll(unsigned frames)
{
	const void *bytes;
	uint32_t length;
	unsigned count = 0;

	if (end.queue)
		put_queued();
	for (; count < frames && end.wire.get(end.wire.end, &bytes, &length); count++) {
		take_frame(bytes, length);
		end.wire.done(end.wire.end);
	}
	if (++end.polls % TIMER_POLLS == 0)
		sys_check_timeouts();
	return count;
}

/* ---- what lwIP calls ---- */

static void count_answer(struct connection *connection, uint32_t bytes)
{
	if (!connection || connection->wanted == 0)
		return;
	connection->wanted -= bytes < connection->wanted ? bytes : connection->wanted;
	end.answers += connection->wanted == 0;
}

static err_t answer(struct tcp_pcb *pcb, const struct pbuf *data)
{
	err_t error = ERR_OK;

	for (const struct pbuf *p = data; p && error == ERR_OK; p = p->next)
		error = tcp_write(pcb, p->payload, p->len, TCP_WRITE_FLAG_COPY);
	return error;
}

/* An answer for which there is no room cannot happen here. */
static err_t on_data(void *arg, struct tcp_pcb *pcb, struct pbuf *data, err_t error)
{
	if (!data) {
		end.closed++;
		return tcp_close(pcb);
	}
	if (error != ERR_OK || (end.echo && answer(pcb, data) != ERR_OK)) {
		pbuf_free(data);
		tcp_abort(pcb);
		return ERR_ABRT;
	}
	end.received += data->tot_len;
	count_answer(arg, data->tot_len);
	tcp_recved(pcb, data->tot_len);
	pbuf_free(data);
	return ERR_OK;
}

static void set_up(struct tcp_pcb *pcb)
{
	tcp_recv(pcb, on_data);
	tcp_nagle_disable(pcb);
	end.connected++;
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t error)
{
	(void)arg;
	if (error != ERR_OK || !pcb)
		return ERR_VAL;
	set_up(pcb);
	return ERR_OK;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t error)
{
	(void)arg;
	(void)error;
	set_up(pcb);
	return ERR_OK;
}

/* ---- making ---- */

static struct tcp_pcb **all_pcbs(void)
{
	extern struct tcp_pcb *tcp_active_pcbs; /* lwip/priv/tcp_priv.h */

	return &tcp_active_pcbs;
}

static void end_close(void)
{
	if (end.listening)
		(void)tcp_close(end.listening);
	end.listening = NULL;
	while (*all_pcbs())
		tcp_abort(*all_pcbs());
	while (end.queue) {
		struct queued *queued = end.queue;

		end.queue = queued->next;
		pbuf_free(queued->frame);
		free(queued);
	}
	free(end.connections);
	end.connections = NULL;
	end.begun = end.connected = end.closed = end.next = 0;
	if (end.initialised)
		netif_remove(&end.netif);
}

static int end_open(const struct lwip_wire *wire)
{
	ip4_addr_t address;
	ip4_addr_t mask;
	ip4_addr_t none;

	end.wire = *wire;
	end.answers = end.received = 0;
	end.queue_end = &end.queue;
	if (!end.initialised)
		lwip_init();
	end.initialised = true;
	ip4_addr_set_u32(&address, lwip_htonl(wire->address));
	IP4_ADDR(&mask, 255, 255, 255, 0);
	ip4_addr_set_zero(&none);
	if (!netif_add(&end.netif, &address, &mask, &none, NULL, init_netif, ethernet_input))
		return ERR_IF;
	netif_set_default(&end.netif);
	netif_set_up(&end.netif);
	return ERR_OK;
}

static int end_listen(uint16_t port, bool echo)
{
	struct tcp_pcb *pcb = tcp_new();

	end.echo = echo;
	if (!pcb)
		return ERR_MEM;
	err_t error = tcp_bind(pcb, IP_ADDR_ANY, port);
	if (error != ERR_OK)
		return error;
	end.listening = tcp_listen(pcb);
	if (!end.listening)
		return ERR_MEM;
	tcp_accept(end.listening, on_accept);
	return ERR_OK;
}

static int begin_one(const ip_addr_t *to, uint16_t port)
{
	struct connection *connection = &end.connections[end.begun];

	connection->pcb = tcp_new();
	connection->wanted = 0;
	if (!connection->pcb)
		return ERR_MEM;
	end.begun++;
	tcp_arg(connection->pcb, connection);
	return tcp_connect(connection->pcb, to, port, on_connected);
}

/* The table moves when it grows: what lwIP was given points into it. */
static int grow(unsigned count)
{
	struct connection *table = realloc(end.connections, (end.begun + count) * sizeof(*table));

	if (!table)
		return ERR_MEM;
	end.connections = table;
	for (unsigned i = 0; i < end.begun; i++)
		tcp_arg(table[i].pcb, &table[i]);
	return ERR_OK;
}

static int end_connect(uint32_t address, uint16_t port, unsigned count)
{
	ip_addr_t to = IPADDR4_INIT(lwip_htonl(address));
	int error = grow(count);

	for (unsigned i = 0; i < count && error == ERR_OK; i++)
		error = begin_one(&to, port);
	return error;
}

static unsigned end_connected(void)
{
	return end.connected;
}

/* ---- sending ---- */

static int end_request(unsigned active, unsigned count, uint32_t bytes)
{
	for (unsigned i = 0; i < count; i++) {
		struct connection *connection = &end.connections[end.next];
		uint32_t number = end.sequence++;

		end.next = end.next + 1 == active ? 0 : end.next + 1;
		memcpy(message, &number, sizeof(number));
		connection->wanted = bytes;
		err_t error =
			tcp_write(connection->pcb, message, (u16_t)bytes, TCP_WRITE_FLAG_COPY);
		if (error == ERR_OK)
			error = tcp_output(connection->pcb);
		if (error != ERR_OK)
			return error;
	}
	return ERR_OK;
}

static uint32_t end_fill(uint32_t bytes)
{
	struct tcp_pcb *pcb = end.connections[0].pcb;
	uint32_t room = tcp_sndbuf(pcb);

	/* Whole segments, but for the last. */
	if (room < bytes)
		bytes = room - room % TCP_MSS;
	if (bytes == 0 || tcp_write(pcb, message, (u16_t)bytes, TCP_WRITE_FLAG_COPY) != ERR_OK)
		return 0;
	(void)tcp_output(pcb);
	return bytes;
}

static unsigned end_closed(void)
{
	return end.closed;
}

static uint64_t end_answers(void)
{
	return end.answers;
}

static uint64_t end_received(void)
{
	return end.received;
}

static uint64_t end_allocated(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static const char *end_options(void)
{
	static char text[1024];

	snprintf(text, sizeof(text),
		 "lwIP %s, Debian's build: NO_SYS %d, TCP_WND %u << %d, TCP_SND_BUF %u, "
		 "TCP_SND_QUEUELEN %d, TCP_MSS %d, LWIP_TCP_TIMESTAMPS %d, LWIP_TCP_SACK_OUT %d, "
		 "CHECKSUM_CHECK_IP %d, CHECKSUM_CHECK_TCP %d, CHECKSUM_GEN_TCP %d, "
		 "LWIP_CHECKSUM_ON_COPY %d, LWIP_NETIF_TX_SINGLE_PBUF %d, MEM_LIBC_MALLOC %d, "
		 "MEMP_MEM_MALLOC %d, SYS_LIGHTWEIGHT_PROT %d, LWIP_TCPIP_CORE_LOCKING %d, "
		 "LWIP_TIMERS %d, LWIP_IPV6 %d",
		 LWIP_VERSION_STRING, NO_SYS, (unsigned)TCP_WND, TCP_RCV_SCALE,
		 (unsigned)TCP_SND_BUF, TCP_SND_QUEUELEN, TCP_MSS, LWIP_TCP_TIMESTAMPS,
		 LWIP_TCP_SACK_OUT, CHECKSUM_CHECK_IP, CHECKSUM_CHECK_TCP, CHECKSUM_GEN_TCP,
		 LWIP_CHECKSUM_ON_COPY, LWIP_NETIF_TX_SINGLE_PBUF, MEM_LIBC_MALLOC, MEMP_MEM_MALLOC,
		 SYS_LIGHTWEIGHT_PROT, LWIP_TCPIP_CORE_LOCKING, LWIP_TIMERS, LWIP_IPV6);
	return text;
}

extern const struct lwip_end demi_lwip_end;
__attribute__((visibility("default"))) const struct lwip_end demi_lwip_end = {
	.open = end_open,
	.listen = end_listen,
	.connect = end_connect,
	.connected = end_connected,
	.closed = end_closed,
	.poll = end_poll,
	.request = end_request,
	.fill = end_fill,
	.answers = end_answers,
	.received = end_received,
	.allocated = end_allocated,
	.close = end_close,
	.options = end_options,
};
