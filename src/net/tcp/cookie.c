/* SPDX-License-Identifier: MIT
 * net/tcp/cookie.c - SYN cookies: a SYN is answered without remembering anything of it; what the
 * connection needs comes back in the peer's ACK.  RFC 4987 3.6.
 *
 * The initial sequence number is the cookie: a bit that says which secret made it, two bits for the
 * peer's MSS, and 29 bits of SipHash over all that the ACK repeats (addresses, ports, the peer's
 * number), these three bits and the epoch.  With timestamps the last six bits of our timestamp
 * carry window scale, SACK and ECN; without them a cookie's connection has none of these.
 *
 * Secrets last an epoch of 60 s and are known for one more: an older cookie is nobody's.  ACKs are
 * looked at only while cookies that may come back are out, so that at other times nothing can be
 * guessed.  Memory: none but the secrets, until an ACK brings a cookie of ours.
 */
#include "net/siphash.h"
#include "net/tcp/tcp.h"

#define EPOCH_NS    60000000000ULL
#define OPTION_BITS 6 /* of a timestamp */
#define NO_WSCALE   15

enum {
	OPTION_WSCALE = 15,
	OPTION_SACK = 16,
	OPTION_ECN = 32,
	OPTION_MASK = (1 << OPTION_BITS) - 1,
};

/* The largest of these that the peer's is not below.  A peer below the first gets no cookie. */
static const uint16_t mss_v4[] = {TCP_MSS_DEFAULT_V4, 1220, 1460, 8960};
static const uint16_t mss_v6[] = {TCP_MSS_DEFAULT_V4, 1220, 1440, 8940};

static const uint16_t *mss_table(const struct ip_address *peer)
{
	return ip_is_v4(peer) ? mss_v4 : mss_v6;
}

/* ---- secrets ---- */

/* Makes the secrets what the time wants, new ones for epochs that began meanwhile. */
static void rotate(struct tcp *tcp)
{
	struct tcp_cookies *cookies = &tcp->cookies;
	uint64_t epoch = tcp->net->sched->now_ns / EPOCH_NS + 2; /* so that 0 is long ago */
	uint64_t from = epoch - cookies->epoch > 2 ? epoch - 2 : cookies->epoch;

	for (uint64_t made = from + 1; made <= epoch; made++) {
		cookies->secret[made & 1][0] = net_random(tcp->net);
		cookies->secret[made & 1][1] = net_random(tcp->net);
	}
	cookies->epoch = epoch;
}

/* The cookie of an epoch, this one or the last. */
static uint32_t make(const struct tcp *tcp, const struct tcp_segment *seg, uint32_t irs,
		     uint64_t epoch, uint32_t mss)
{
	struct {
		struct tcp_tuple tuple;
		uint32_t irs;
		uint32_t mss;
		uint64_t epoch;
	} hashed;

	uint32_t clear = (uint32_t)(epoch & 1) << 2 | mss;

	memset(&hashed, 0, sizeof(hashed));
	tcp_segment_tuple(seg, &hashed.tuple);
	hashed.irs = irs;
	hashed.mss = mss;
	hashed.epoch = epoch;
	uint64_t mac = siphash_2_4(tcp->cookies.secret[epoch & 1], &hashed, sizeof(hashed));
	return (uint32_t)(mac << 3) | clear;
}

/* ---- timestamps ---- */

static uint32_t option_bits(const struct tcp_conn *listener, const struct tcp_header *h)
{
	const struct config *config = &listener->net->sched->config;
	const struct tcp_options *o = &h->options;
	uint32_t bits =
		config->tcp_window_scaling && o->has & TCP_HAS_WSCALE ? o->wscale : NO_WSCALE;

	if (config->tcp_sack && o->has & TCP_HAS_SACK_PERMITTED)
		bits |= OPTION_SACK;
	if (tcp_takes_ecn(listener, h))
		bits |= OPTION_ECN;
	return bits;
}

/* The clock's timestamp, or one a little before it, with bits at its end. */
static uint32_t stamp(uint32_t clock, uint32_t bits)
{
	uint32_t value = (clock & ~(uint32_t)OPTION_MASK) | bits;

	return seq_after(value, clock) ? value - (OPTION_MASK + 1) : value;
}

/* ---- the answer ---- */

static uint16_t own_mss(const struct tcp_conn *listener, const struct ip_address *peer)
{
	uint32_t mss = ip_link_payload_max(listener->net, peer) - TCP_HEADER_BYTES;
	uint32_t wanted = (uint32_t)listener->net->sched->config.tcp_mss;

	if (wanted && wanted < mss)
		mss = wanted;
	if (listener->mss_limit && listener->mss_limit < mss)
		mss = listener->mss_limit;
	return (uint16_t)mss;
}

static uint16_t first_window(const struct tcp_conn *listener)
{
	return (uint16_t)(listener->rcv_buffer < 65535 ? listener->rcv_buffer : 65535);
}

static void fill_options(const struct tcp_conn *listener, const struct tcp_segment *seg,
			 struct tcp_header *h)
{
	struct net *net = listener->net;
	const struct config *config = &net->sched->config;
	uint32_t bits = option_bits(listener, &seg->h);
	struct tcp_options *o = &h->options;
	struct tcp_tuple tuple;

	o->has = TCP_HAS_MSS;
	o->mss = own_mss(listener, &seg->packet->from);
	if (!config->tcp_timestamps || !(seg->h.options.has & TCP_HAS_TIMESTAMP))
		return; /* nowhere to keep the rest */
	tcp_segment_tuple(seg, &tuple);
	o->has |= TCP_HAS_TIMESTAMP;
	o->ts_value = stamp((uint32_t)(net->sched->now_ns / 1000000) +
				    tcp_timestamp_offset(tcp_tuple_hash(net, &tuple)),
			    bits);
	o->ts_echo = seg->h.options.ts_value;
	if (bits & OPTION_SACK)
		o->has |= TCP_HAS_SACK_PERMITTED;
	if (bits & OPTION_ECN) /* RFC 3168 6.1.1 */
		h->flags |= TCP_ECE;
	if ((bits & OPTION_WSCALE) == NO_WSCALE)
		return;
	o->has |= TCP_HAS_WSCALE;
	o->wscale = tcp_receive_scale(listener);
}

bool tcp_send_cookie(struct tcp_conn *listener, const struct tcp_segment *seg)
{
	struct net *net = listener->net;
	const uint16_t *table = mss_table(&seg->packet->from);
	uint32_t peer = seg->h.options.has & TCP_HAS_MSS ? seg->h.options.mss
			: ip_is_v4(&seg->packet->from)   ? TCP_MSS_DEFAULT_V4
							 : TCP_MSS_DEFAULT_V6;
	uint32_t mss = ARRAY_LENGTH(mss_v4) - 1;
	struct tcp_header h = {
		.source = seg->h.destination,
		.destination = seg->h.source,
		.ack = seg->h.seq + 1,
		.flags = TCP_SYN | TCP_ACK,
		.window = first_window(listener),
	};

	if (!net->sched->config.tcp_syn_cookies || peer < table[0])
		return false;
	while (table[mss] > peer)
		mss--;
	rotate(net->tcp);
	h.seq = make(net->tcp, seg, seg->h.seq, net->tcp->cookies.epoch, mss);
	fill_options(listener, seg, &h);
	net->tcp->cookies.sent_ns = net->sched->now_ns;
	sched_count(net->sched, COUNTER_TCP_COOKIES_SENT, 1);
	tcp_reply(net, seg->packet, &h);
	return true;
}

/* ---- what comes back ---- */

/* Is the number a cookie of ours?  Then its MSS. */
static bool is_cookie(const struct tcp *tcp, const struct tcp_segment *seg, uint16_t *mss_out)
{
	const uint32_t cookie = seg->h.ack - 1;
	const struct tcp_cookies *cookies = &tcp->cookies;
	/* RFC 4987 3.6: it is of this epoch or the last, or too old. */
	uint64_t epoch = cookies->epoch - ((cookies->epoch ^ cookie >> 2) & 1);

	*mss_out = mss_table(&seg->packet->from)[cookie & 3];
	return cookie == make(tcp, seg, seg->h.seq - 1, epoch, cookie & 3);
}

/* The SYN as it must have been. */
static void recall_syn(const struct tcp_segment *seg, const struct config *config, uint16_t mss,
		       struct tcp_header *syn)
{
	uint32_t bits = seg->h.options.ts_echo & OPTION_MASK;
	struct tcp_options *o = &syn->options;

	*syn = (struct tcp_header){
		.seq = seg->h.seq - 1,
		.flags = TCP_SYN,
		.window = seg->h.window,
		.options = {.has = TCP_HAS_MSS, .mss = mss},
	};
	if (!config->tcp_timestamps || !(seg->h.options.has & TCP_HAS_TIMESTAMP))
		return;
	o->has |= TCP_HAS_TIMESTAMP;
	o->ts_value = seg->h.options.ts_value;
	if (bits & OPTION_SACK)
		o->has |= TCP_HAS_SACK_PERMITTED;
	if (bits & OPTION_ECN)
		syn->flags |= TCP_ECE | TCP_CWR;
	if ((bits & OPTION_WSCALE) == NO_WSCALE)
		return;
	o->has |= TCP_HAS_WSCALE;
	o->wscale = (uint8_t)(bits & OPTION_WSCALE);
}

static struct tcp_conn *establish(struct tcp_conn *listener, const struct tcp_segment *seg,
				  uint16_t mss)
{
	struct tcp_conn *conn = tcp_child_new(listener, seg);
	struct tcp_header syn;

	if (!conn) {
		net_count_drop(listener->net, DROP_TX_MEMORY);
		return NULL;
	}
	recall_syn(seg, &listener->net->sched->config, mss, &syn);
	tcp_choose_iss(conn, NULL); /* for the offset of its timestamps */
	tcp_set_iss(conn, seg->h.ack - 1);
	tcp_apply_syn(conn, &syn);
	conn->rcv_adv = conn->rcv_nxt + first_window(listener);
	/* Our SYN is acknowledged; there was no retransmission timer. */
	conn->snd_una = seg->h.ack;
	conn->snd_nxt = seg->h.ack;
	conn->snd_wnd = (uint32_t)seg->h.window << conn->snd_wscale;
	conn->snd_wnd_max = conn->snd_wnd;
	conn->snd_wl1 = seg->h.seq;
	conn->snd_wl2 = seg->h.ack;
	conn->progress_ns = listener->net->sched->now_ns;
	sched_count(listener->net->sched, COUNTER_TCP_COOKIES_TAKEN, 1);
	tcp_set_state(conn, TCPS_SYN_RECEIVED);
	tcp_established(conn);
	tcp_child_established(conn);
	return conn->dead ? NULL : conn;
}

bool tcp_take_cookie(struct tcp_conn *listener, const struct tcp_segment *seg,
		     struct tcp_conn **conn_out)
{
	struct net *net = listener->net;
	const struct tcp_cookies *cookies = &net->tcp->cookies;
	uint16_t mss;

	*conn_out = NULL;
	if (cookies->sent_ns == 0 || net->sched->now_ns - cookies->sent_ns > 2 * EPOCH_NS ||
	    (seg->h.flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK)
		return false;
	rotate(net->tcp);
	if (!is_cookie(net->tcp, seg, &mss)) {
		net_count_drop(net, DROP_TCP_COOKIE);
		return false;
	}
	if (tcp_accept_full(listener->listener))
		/* Nobody takes it yet: as if the ACK were lost; what the peer sends next comes
		 * back. */
		net_count_drop(net, DROP_TCP_BACKLOG);
	else
		*conn_out = establish(listener, seg, mss);
	return true;
}
