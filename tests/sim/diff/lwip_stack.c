/* SPDX-License-Identifier: MIT
 * tests/sim/diff/lwip_stack.c - lwIP's raw API as a stack of the differential test: the module
 * diff-lwip.so, see stack.h.
 *
 * Debian's liblwip, driven from one thread as tools/demi/net/lwip_end.c does it.  It asks sys_now
 * for the time; that of this module comes before its own.  An assertion of it that fails calls
 * abort, which is caught: the stack is broken then until the run's end.  What it has begun cannot
 * be undone, so one netif stays, and each run ends by aborting what is there and letting its timers
 * run out.
 */
#include "stack.h"

#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>
#include <netif/ethernet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS  1000000U
#define END_MS     2000 /* after which no timer of TCP runs any more */
#define FRAME_MAX  2048
#define CHUNK      1460
#define ARP_BYTES  42
#define MS_PER_ARP 60000 /* lwIP forgets a neighbour after five minutes */

/* As priv/tcp_priv.h has them. */
extern struct tcp_pcb *tcp_active_pcbs;
extern struct tcp_pcb *tcp_tw_pcbs;
extern struct tcp_pcb *tcp_bound_pcbs;
extern u32_t tcp_ticks;
void tcp_tmr(void);

static struct {
	const struct diff_wire *wire;
	struct netif netif;
	struct tcp_pcb *listening;
	struct tcp_pcb *pcb; /* NULL: none, or given up */
	struct diff_app app;
	uint32_t sent;   /* bytes of the application's stream */
	uint32_t unread; /* bytes that came and were not read */
	bool end_unread; /* so did the end */
	bool initialised;
	volatile sig_atomic_t inside; /* lwIP is at work */
	sigjmp_buf back;
	struct sigaction others; /* action at SIGABRT */
	uint64_t now_ns;
	uint64_t arp_ns;
} own;

u32_t sys_now(void);

__attribute__((visibility("default"))) u32_t sys_now(void)
{
	return (u32_t)(own.now_ns / NS_PER_MS);
}

/* ---- frames ---- */

static err_t put_frame(struct netif *netif, struct pbuf *frame)
{
	uint8_t bytes[FRAME_MAX];
	uint16_t length = pbuf_copy_partial(frame, bytes, sizeof(bytes), 0);

	(void)netif;
	if (own.wire)
		own.wire->output(own.wire->arg, bytes, length);
	return ERR_OK;
}

static err_t init_netif(struct netif *netif)
{
	netif->name[0] = 'd';
	netif->name[1] = 'f';
	netif->mtu = DIFF_MTU;
	netif->hwaddr_len = 6;
	memcpy(netif->hwaddr, own.wire->mac, 6);
	netif->flags =
		NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
	netif->output = etharp_output;
	netif->linkoutput = put_frame;
	return ERR_OK;
}

static void stack_input(const uint8_t *bytes, uint32_t length)
{
	struct pbuf *frame = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_RAM);

	if (!frame)
		abort();
	pbuf_take(frame, bytes, (u16_t)length);
	if (ethernet_input(frame, &own.netif) != ERR_OK)
		pbuf_free(frame);
}

/* The peer asks for the stack's address: so the stack knows the peer's. */
static void tell_neighbour(void)
{
	static const uint8_t head[] = {0, 1, 8, 0, 6, 4, 0, 1};
	static const uint8_t from[] = {10, 0, 0, 2};
	static const uint8_t to[] = {10, 0, 0, 1};
	uint8_t bytes[ARP_BYTES] = {0};

	if (!own.wire)
		return;
	memcpy(bytes, own.wire->mac, 6);
	memcpy(bytes + 6, own.wire->peer_mac, 6);
	bytes[12] = 8;
	bytes[13] = 6;
	memcpy(bytes + 14, head, sizeof(head));
	memcpy(bytes + 22, own.wire->peer_mac, 6);
	memcpy(bytes + 28, from, sizeof(from));
	memcpy(bytes + 38, to, sizeof(to));
	own.arp_ns = own.now_ns;
	stack_input(bytes, sizeof(bytes));
}

/* ---- time ---- */

static void pass_ms(uint64_t ms)
{
	uint64_t end_ns = own.now_ns + ms * NS_PER_MS;

	for (;;) {
		sys_check_timeouts();
		uint64_t left = (end_ns - own.now_ns) / NS_PER_MS;
		uint64_t sleep = sys_timeouts_sleeptime();
		if (left == 0)
			return;
		own.now_ns += (sleep < left ? sleep : left) * NS_PER_MS;
		if (own.now_ns - own.arp_ns > (uint64_t)MS_PER_ARP * NS_PER_MS)
			tell_neighbour();
	}
}

static void stack_pass(uint64_t ns)
{
	uint64_t fine = own.now_ns % NS_PER_MS + ns;

	own.now_ns -= own.now_ns % NS_PER_MS;
	pass_ms(fine / NS_PER_MS);
	own.now_ns += fine % NS_PER_MS;
}

/* ---- what lwIP calls ---- */

static err_t on_data(void *arg, struct tcp_pcb *pcb, struct pbuf *data, err_t error)
{
	(void)arg;
	(void)pcb;
	(void)error;
	if (!data) {
		own.end_unread = true;
		return ERR_OK;
	}
	for (u16_t i = 0; i < data->tot_len; i++)
		if (pbuf_get_at(data, i) !=
		    own.wire->byte(false, own.app.delivered + own.unread + i))
			own.app.wrong = true;
	own.unread += data->tot_len;
	pbuf_free(data);
	return ERR_OK;
}

static void on_error(void *arg, err_t error)
{
	(void)arg;
	own.pcb = NULL;
	own.app.failed |= error != ERR_CLSD; /* that is the end of LAST_ACK */
}

static void set_up(struct tcp_pcb *pcb)
{
	own.pcb = pcb;
	tcp_recv(pcb, on_data);
	tcp_err(pcb, on_error);
	tcp_nagle_disable(pcb);
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t error)
{
	(void)arg;
	if (error != ERR_OK || !pcb || own.pcb)
		return ERR_VAL;
	set_up(pcb);
	own.app.connected = true;
	return ERR_OK;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t error)
{
	(void)arg;
	(void)pcb;
	own.app.connected = error == ERR_OK;
	return ERR_OK;
}

/* ---- calls ---- */

static void stack_open_all(const struct diff_wire *wire, uint64_t seed)
{
	ip4_addr_t address;
	ip4_addr_t mask;
	ip4_addr_t none;

	(void)seed;
	own.wire = wire;
	memset(&own.app, 0, sizeof(own.app));
	own.sent = own.unread = 0;
	own.end_unread = false;
	if (!own.initialised) {
		lwip_init();
		IP4_ADDR(&address, 10, 0, 0, 1);
		IP4_ADDR(&mask, 255, 255, 255, 0);
		ip4_addr_set_zero(&none);
		if (!netif_add(&own.netif, &address, &mask, &none, NULL, init_netif,
			       ethernet_input))
			abort();
		netif_set_default(&own.netif);
		netif_set_up(&own.netif);
		own.initialised = true;
		pass_ms(END_MS);
	}
	/* Only every other tick of its timer is a slow one: each run begins behind such. */
	for (u32_t ticks = tcp_ticks; tcp_ticks == ticks;)
		tcp_tmr();
	tell_neighbour();
}

static struct tcp_pcb *new_pcb(void)
{
	struct tcp_pcb *pcb = tcp_new();

	if (!pcb || tcp_bind(pcb, IP_ADDR_ANY, DIFF_PORT) != ERR_OK)
		abort();
	return pcb;
}

static void stack_listen(void)
{
	own.listening = tcp_listen(new_pcb());
	if (!own.listening)
		abort();
	tcp_accept(own.listening, on_accept);
}

static void stack_connect(void)
{
	ip_addr_t to;

	IP_ADDR4(&to, 10, 0, 0, 2);
	set_up(new_pcb());
	if (tcp_connect(own.pcb, &to, DIFF_PEER_PORT, on_connected) != ERR_OK)
		abort();
}

static uint32_t stack_send(uint32_t bytes)
{
	uint8_t chunk[CHUNK];
	uint32_t taken = 0;

	while (own.pcb && taken < bytes) {
		uint32_t n = bytes - taken < CHUNK ? bytes - taken : CHUNK;
		if (n > tcp_sndbuf(own.pcb))
			n = tcp_sndbuf(own.pcb);
		for (uint32_t i = 0; i < n; i++)
			chunk[i] = own.wire->byte(true, own.sent + i);
		if (n == 0 || tcp_write(own.pcb, chunk, (u16_t)n, TCP_WRITE_FLAG_COPY) != ERR_OK)
			break;
		own.sent += n;
		taken += n;
	}
	if (own.pcb)
		(void)tcp_output(own.pcb);
	return taken;
}

static void stack_read(void)
{
	uint32_t bytes = own.unread;

	own.app.delivered += bytes;
	own.app.ended |= own.end_unread;
	own.unread = 0;
	for (; own.pcb && bytes > 0; bytes -= bytes < CHUNK ? bytes : CHUNK)
		tcp_recved(own.pcb, (u16_t)(bytes < CHUNK ? bytes : CHUNK));
}

static void stack_shutdown(void)
{
	if (own.pcb)
		(void)tcp_shutdown(own.pcb, 0, 1);
}

/* Of a connection that the application gives up. */
static struct tcp_pcb *take_pcb(void)
{
	struct tcp_pcb *pcb = own.pcb;

	own.pcb = NULL;
	own.unread = 0;
	own.end_unread = false;
	return pcb;
}

static void stack_close(void)
{
	struct tcp_pcb *pcb = take_pcb();

	if (!pcb)
		return;
	tcp_recv(pcb, NULL);
	tcp_err(pcb, NULL);
	if (tcp_close(pcb) != ERR_OK)
		abort();
}

static void stack_abort(void)
{
	struct tcp_pcb *pcb = take_pcb();

	if (!pcb)
		return;
	tcp_err(pcb, NULL);
	tcp_abort(pcb);
}

static void stack_look(struct diff_app *app)
{
	*app = own.app;
}

static void stack_close_all(void)
{
	own.wire = NULL;
	own.pcb = NULL;
	if (own.listening)
		(void)tcp_close(own.listening);
	own.listening = NULL;
	while (tcp_active_pcbs) {
		tcp_err(tcp_active_pcbs, NULL);
		tcp_abort(tcp_active_pcbs);
	}
	while (tcp_bound_pcbs)
		tcp_abort(tcp_bound_pcbs);
	while (tcp_tw_pcbs)
		tcp_abort(tcp_tw_pcbs);
	own.now_ns += NS_PER_MS - own.now_ns % NS_PER_MS;
	own.arp_ns = own.now_ns;
	pass_ms(END_MS);
}

/* ---- with assertions that are caught ---- */

static void on_abort(int signal)
{
	(void)signal;
	if (own.inside)
		siglongjmp(own.back, 1);
	(void)sigaction(SIGABRT, &own.others, NULL); /* abort ends the process then */
}

static bool enter(void)
{
	if (own.app.broken)
		return false;
	own.inside = true;
	return true;
}

static void leave(void)
{
	own.inside = false;
}

static void broke(void)
{
	own.inside = false;
	own.app.broken = true;
}

/* A function that calls lwIP, as struct diff_stack has it. */
#define GUARDED(name, parameters, arguments)  \
	static void guarded_##name parameters \
	{                                     \
		if (!enter())                 \
			return;               \
		if (sigsetjmp(own.back, 0)) { \
			broke();              \
			return;               \
		}                             \
		stack_##name arguments;       \
		leave();                      \
	}

GUARDED(listen, (void), ())
GUARDED(connect, (void), ())
GUARDED(read, (void), ())
GUARDED(shutdown, (void), ())
GUARDED(close, (void), ())
GUARDED(abort, (void), ())
GUARDED(input, (const uint8_t *bytes, uint32_t length), (bytes, length))
GUARDED(pass, (uint64_t ns), (ns))

static uint32_t guarded_send(uint32_t bytes)
{
	if (!enter())
		return 0;
	if (sigsetjmp(own.back, 0)) {
		broke();
		return 0;
	}
	uint32_t taken = stack_send(bytes);
	leave();
	return taken;
}

static void guarded_open_all(const struct diff_wire *wire, uint64_t seed)
{
	const struct sigaction action = {.sa_handler = on_abort, .sa_flags = SA_NODEFER};

	(void)sigaction(SIGABRT, &action, &own.others);
	stack_open_all(wire, seed);
}

static void guarded_close_all(void)
{
	if (!own.app.broken) /* else nothing in it is to be relied on: it is loaded anew */
		stack_close_all();
	(void)sigaction(SIGABRT, &own.others, NULL);
}

extern const struct diff_stack diff_lwip_stack;
__attribute__((visibility("default"))) const struct diff_stack diff_lwip_stack = {
	.name = "lwIP",
	.open_all = guarded_open_all,
	.listen = guarded_listen,
	.connect = guarded_connect,
	.send = guarded_send,
	.read = guarded_read,
	.shutdown = guarded_shutdown,
	.close = guarded_close,
	.abort = guarded_abort,
	.input = guarded_input,
	.pass = guarded_pass,
	.look = stack_look,
	.close_all = guarded_close_all,
};
