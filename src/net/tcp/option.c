/* SPDX-License-Identifier: MIT
 * net/tcp/option.c - socket options, by Linux's names and values, and TCP_INFO.
 */
#include "net/tcp/tcp.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>

#include <demi/socket.h>

#define BUFFER_MIN 4096
#define BUFFER_MAX ((uint32_t)1 << 30)

/* ---- values ---- */

static int int_value(const void *value, socklen_t length, int *out)
{
	if (length < sizeof(*out))
		return -EINVAL;
	memcpy(out, value, sizeof(*out));
	return 0;
}

static int give_bytes(const void *from, socklen_t bytes, void *value, socklen_t *length)
{
	if (*length > bytes)
		*length = bytes;
	memcpy(value, from, *length);
	return 0;
}

static int give_int(int from, void *value, socklen_t *length)
{
	return give_bytes(&from, sizeof(from), value, length);
}

static uint32_t clamp(int v, uint32_t low, uint32_t high)
{
	uint32_t u = v < 0 ? 0 : (uint32_t)v;

	return u < low ? low : u > high ? high : u;
}

/* ---- setting ---- */

static int set_linger(struct tcp_conn *conn, const void *value, socklen_t length)
{
	struct linger linger;

	if (length < sizeof(linger))
		return -EINVAL;
	memcpy(&linger, value, sizeof(linger));
	conn->linger_on = linger.l_onoff != 0;
	conn->linger_s = linger.l_linger;
	return 0;
}

static int set_socket(struct tcp_conn *conn, int name, const void *value, socklen_t length)
{
	int v;

	if (name == SO_LINGER)
		return set_linger(conn, value, length);
	int err = int_value(value, length, &v);
	if (err)
		return err;
	switch (name) {
	case SO_SNDBUF:
		conn->send_buffer = clamp(v, BUFFER_MIN, BUFFER_MAX);
		conn->send_buffer_fixed = true;
		return 0;
	case SO_RCVBUF: {
		uint32_t bytes = clamp(v, BUFFER_MIN, BUFFER_MAX);
		/* RFC 9293 3.8.6 SHLD-14: once a window was promised it is not taken back. */
		if (conn->state <= TCPS_LISTEN || bytes > conn->rcv_buffer)
			conn->rcv_buffer = bytes;
		conn->receive_buffer_fixed = true;
		return 0;
	}
	case SO_KEEPALIVE:
		conn->keepalive = v != 0;
		tcp_start_keepalive(conn);
		return 0;
	case SO_REUSEADDR:
		conn->reuse_address = v != 0;
		return 0;
	case SO_REUSEPORT:
		conn->reuse_port = v != 0;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int set_nodelay(struct tcp_conn *conn, bool on)
{
	conn->nodelay = on;
	if (on)
		tcp_want_output(conn);
	return 0;
}

static int set_cork(struct tcp_conn *conn, bool on)
{
	conn->cork = on;
	if (!on)
		tcp_want_output(conn);
	return 0;
}

static int set_maxseg(struct tcp_conn *conn, int v)
{
	if (v != 0 && (v < TCP_MSS_MIN || v > 32767))
		return -EINVAL;
	conn->mss_limit = (uint16_t)v;
	if (conn->state >= TCPS_ESTABLISHED && v != 0 && (uint32_t)v < conn->mss) {
		conn->mss = (uint32_t)v - (conn->timestamps ? TCP_TIMESTAMP_BYTES : 0);
		tcp_cc_set_mss(&conn->cc, conn->mss);
	}
	return 0;
}

static int set_keepalive_time(struct tcp_conn *conn, uint32_t *field, int v, int max)
{
	if (v < 1 || v > max)
		return -EINVAL;
	*field = (uint32_t)v;
	tcp_start_keepalive(conn);
	return 0;
}

static int set_congestion(struct tcp_conn *conn, const char *name, socklen_t length)
{
	const struct tcp_cc_ops *ops = tcp_cc_find(name, length);

	(void)conn;
	return ops ? 0 : -ENOENT;
}

static int set_tcp(struct tcp_conn *conn, int name, const void *value, socklen_t length)
{
	int v;

	if (name == TCP_CONGESTION)
		return set_congestion(conn, value, length);
	int err = int_value(value, length, &v);
	if (err)
		return err;
	switch (name) {
	case TCP_NODELAY:
		return set_nodelay(conn, v != 0);
	case TCP_CORK:
		return set_cork(conn, v != 0);
	case TCP_MAXSEG:
		return set_maxseg(conn, v);
	case TCP_KEEPIDLE:
		return set_keepalive_time(conn, &conn->keepalive_idle_s, v, 32767);
	case TCP_KEEPINTVL:
		return set_keepalive_time(conn, &conn->keepalive_interval_s, v, 32767);
	case TCP_KEEPCNT:
		return set_keepalive_time(conn, &conn->keepalive_probes, v, 127);
	case TCP_USER_TIMEOUT:
		if (v < 0)
			return -EINVAL;
		conn->user_timeout_ms = (uint32_t)v;
		return 0;
	case TCP_QUICKACK:
		conn->quick_left = v ? TCP_QUICK_SEGMENTS : 0;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int set_ip(struct tcp_conn *conn, int level, int name, const void *value, socklen_t length)
{
	int v;
	int err = int_value(value, length, &v);

	if (err)
		return err;
	bool v6 = level == IPPROTO_IPV6;
	if (name == (v6 ? IPV6_UNICAST_HOPS : IP_TTL)) {
		if (v < -1 || v == 0 || v > 255)
			return -EINVAL;
		conn->ttl = v < 0 ? IP_DEFAULT_TTL : (uint8_t)v;
		return 0;
	}
	if (name == (v6 ? IPV6_TCLASS : IP_TOS)) {
		conn->tos = (uint8_t)(v & 0xfc); /* the ECN bits are TCP's */
		return 0;
	}
	if (v6 && name == IPV6_V6ONLY) {
		if (conn->bound)
			return -EINVAL;
		conn->v6only = v != 0;
		return 0;
	}
	return -ENOPROTOOPT;
}

static int set_demi(struct tcp_conn *conn, int name, const void *value, socklen_t length)
{
	int v;
	int err = name == DEMI_PUSH_ACKED ? int_value(value, length, &v) : -ENOPROTOOPT;

	if (!err)
		conn->push_acked = v != 0;
	return err;
}

int tcp_set_option(struct tcp_conn *conn, int level, int name, const void *value, socklen_t length)
{
	switch (level) {
	case SOL_SOCKET:
		return set_socket(conn, name, value, length);
	case IPPROTO_TCP:
		return set_tcp(conn, name, value, length);
	case IPPROTO_IP:
	case IPPROTO_IPV6:
		return set_ip(conn, level, name, value, length);
	case SOL_DEMI:
		return set_demi(conn, name, value, length);
	default:
		return -ENOPROTOOPT;
	}
}

/* ---- reading ---- */

static uint8_t linux_state(enum tcp_state state)
{
	static const uint8_t numbers[] = {
		[TCPS_CLOSED] = 7,       [TCPS_LISTEN] = 10,     [TCPS_SYN_SENT] = 2,
		[TCPS_SYN_RECEIVED] = 3, [TCPS_ESTABLISHED] = 1, [TCPS_FIN_WAIT_1] = 4,
		[TCPS_FIN_WAIT_2] = 5,   [TCPS_CLOSE_WAIT] = 8,  [TCPS_CLOSING] = 11,
		[TCPS_LAST_ACK] = 9,     [TCPS_TIME_WAIT] = 6,
	};

	return numbers[state];
}

static uint32_t in_us(uint64_t ns)
{
	return (uint32_t)(ns / 1000);
}

static uint8_t info_options(const struct tcp_conn *conn)
{
	return (uint8_t)((conn->timestamps ? TCPI_OPT_TIMESTAMPS : 0) |
			 (conn->sack ? TCPI_OPT_SACK : 0) |
			 (conn->window_scale ? TCPI_OPT_WSCALE : 0));
}

static void fill_info(const struct tcp_conn *conn, struct tcp_info *info)
{
	uint64_t now = conn->net->sched->now_ns;
	uint32_t mss = conn->mss ? conn->mss : 1;

	*info = (struct tcp_info){
		.tcpi_state = linux_state(conn->state),
		.tcpi_ca_state = conn->recovery == TCP_LOSS       ? TCP_CA_Loss
				 : conn->recovery == TCP_RECOVERY ? TCP_CA_Recovery
				 : conn->sb.sacked > 0            ? TCP_CA_Disorder
								  : TCP_CA_Open,
		.tcpi_retransmits = (uint8_t)conn->retries,
		.tcpi_probes = (uint8_t)(conn->persist ? conn->retries : conn->keepalive_sent),
		.tcpi_backoff = (uint8_t)conn->rtt.backoff,
		.tcpi_options = info_options(conn),
		.tcpi_rto = in_us(tcp_rtt_timeout(&conn->rtt)),
		.tcpi_ato = (uint32_t)conn->net->sched->config.tcp_delayed_ack_ms * 1000,
		.tcpi_snd_mss = conn->mss,
		.tcpi_rcv_mss = conn->rcv_mss ? conn->rcv_mss : TCP_MSS_DEFAULT_V4,
		.tcpi_unacked = (tcp_flight(conn) + mss - 1) / mss,
		.tcpi_sacked = (conn->sb.sacked + mss - 1) / mss,
		.tcpi_lost = (conn->sb.lost + mss - 1) / mss,
		.tcpi_last_data_sent =
			conn->sent_ns ? (uint32_t)((now - conn->sent_ns) / 1000000) : 0,
		.tcpi_last_data_recv = (uint32_t)((now - conn->received_ns) / 1000000),
		.tcpi_last_ack_recv = (uint32_t)((now - conn->received_ns) / 1000000),
		.tcpi_pmtu = tcp_path_mtu(conn),
		.tcpi_rtt = in_us(conn->rtt.srtt_ns),
		.tcpi_rttvar = in_us(conn->rtt.rttvar_ns),
		.tcpi_snd_ssthresh = conn->cc.ssthresh / mss,
		.tcpi_snd_cwnd = conn->cc.cwnd / mss,
		.tcpi_advmss = ip_link_payload_max(conn->net, &conn->local) - TCP_HEADER_BYTES,
		.tcpi_rcv_space = conn->rcv_buffer,
		.tcpi_total_retrans = conn->retransmitted,
		.tcpi_bytes_acked = conn->bytes_acked,
		.tcpi_bytes_received = conn->bytes_received,
		.tcpi_segs_out = conn->segments_out,
		.tcpi_segs_in = conn->segments_in,
		.tcpi_notsent_bytes =
			conn->state >= TCPS_ESTABLISHED ? (uint32_t)tcp_unsent(conn) : 0,
		.tcpi_min_rtt = conn->rtt.min_ns == UINT64_MAX ? 0 : in_us(conn->rtt.min_ns),
		.tcpi_snd_wnd = conn->snd_wnd,
	};
	info->tcpi_snd_wscale = conn->snd_wscale & 15U;
	info->tcpi_rcv_wscale = conn->rcv_wscale & 15U;
}

static int get_info(const struct tcp_conn *conn, void *value, socklen_t *length)
{
	struct tcp_info info;

	fill_info(conn, &info);
	return give_bytes(&info, sizeof(info), value, length);
}

static int get_socket(struct tcp_conn *conn, int name, void *value, socklen_t *length)
{
	const struct linger linger = {.l_onoff = conn->linger_on, .l_linger = conn->linger_s};
	switch (name) {
	case SO_LINGER:
		return give_bytes(&linger, sizeof(linger), value, length);
	case SO_ERROR:
		return give_int(conn->error, value, length);
	case SO_TYPE:
		return give_int(SOCK_STREAM, value, length);
	case SO_DOMAIN:
		return give_int(conn->domain, value, length);
	case SO_PROTOCOL:
		return give_int(IPPROTO_TCP, value, length);
	case SO_ACCEPTCONN:
		return give_int(conn->state == TCPS_LISTEN, value, length);
	case SO_SNDBUF:
		return give_int((int)tcp_send_limit(conn), value, length);
	case SO_RCVBUF:
		return give_int((int)conn->rcv_buffer, value, length);
	case SO_KEEPALIVE:
		return give_int(conn->keepalive, value, length);
	case SO_REUSEADDR:
		return give_int(conn->reuse_address, value, length);
	case SO_REUSEPORT:
		return give_int(conn->reuse_port, value, length);
	default:
		return -ENOPROTOOPT;
	}
}

/* Before there is a peer: what we would ask for. */
static int maxseg(const struct tcp_conn *conn)
{
	if (conn->mss)
		return (int)conn->mss;
	return conn->mss_limit ? conn->mss_limit : TCP_MSS_DEFAULT_V4;
}

static int get_tcp(struct tcp_conn *conn, int name, void *value, socklen_t *length)
{
	switch (name) {
	case TCP_NODELAY:
		return give_int(conn->nodelay, value, length);
	case TCP_CORK:
		return give_int(conn->cork, value, length);
	case TCP_MAXSEG:
		return give_int(maxseg(conn), value, length);
	case TCP_KEEPIDLE:
		return give_int((int)conn->keepalive_idle_s, value, length);
	case TCP_KEEPINTVL:
		return give_int((int)conn->keepalive_interval_s, value, length);
	case TCP_KEEPCNT:
		return give_int((int)conn->keepalive_probes, value, length);
	case TCP_USER_TIMEOUT:
		return give_int((int)conn->user_timeout_ms, value, length);
	case TCP_QUICKACK:
		return give_int(conn->quick_left > 0, value, length);
	case TCP_INFO:
		return get_info(conn, value, length);
	case TCP_CONGESTION:
		return give_bytes(tcp_cc_newreno.name, (socklen_t)strlen(tcp_cc_newreno.name) + 1,
				  value, length);
	default:
		return -ENOPROTOOPT;
	}
}

static int get_ip(struct tcp_conn *conn, int level, int name, void *value, socklen_t *length)
{
	bool v6 = level == IPPROTO_IPV6;

	if (name == (v6 ? IPV6_UNICAST_HOPS : IP_TTL))
		return give_int(conn->ttl, value, length);
	if (name == (v6 ? IPV6_TCLASS : IP_TOS))
		return give_int(conn->tos, value, length);
	if (v6 && name == IPV6_V6ONLY)
		return give_int(conn->v6only, value, length);
	if (name == (v6 ? IPV6_MTU : IP_MTU)) {
		if (conn->state < TCPS_ESTABLISHED)
			return -ENOTCONN;
		return give_int((int)tcp_path_mtu(conn), value, length);
	}
	return -ENOPROTOOPT;
}

int tcp_get_option(struct tcp_conn *conn, int level, int name, void *value, socklen_t *length)
{
	switch (level) {
	case SOL_SOCKET:
		return get_socket(conn, name, value, length);
	case IPPROTO_TCP:
		return get_tcp(conn, name, value, length);
	case IPPROTO_IP:
	case IPPROTO_IPV6:
		return get_ip(conn, level, name, value, length);
	case SOL_DEMI:
		return name == DEMI_PUSH_ACKED ? give_int(conn->push_acked, value, length)
					       : -ENOPROTOOPT;
	default:
		return -ENOPROTOOPT;
	}
}
