/* SPDX-License-Identifier: MIT
 * net/tcp/option.c - socket options, by Linux's names and values.  What tells of a connection
 * (TCP_INFO and the like) is info.c's.
 */
#include "net/tcp/mtu.h"
#include "net/tcp/recovery.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>

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

static int give_int(int from, void *value, socklen_t *length)
{
	return tcp_give_bytes(&from, sizeof(from), value, length);
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

/* Bytes a second, by 4 or 8 bytes; all ones: no limit.  Kept in kilobytes, rounded up. */
static int set_pacing(struct tcp_conn *conn, const void *value, socklen_t length)
{
	uint64_t rate = 0;
	uint32_t narrow;

	if (length >= sizeof(rate)) {
		memcpy(&rate, value, sizeof(rate));
	} else if (length >= sizeof(narrow)) {
		memcpy(&narrow, value, sizeof(narrow));
		rate = narrow == UINT32_MAX ? UINT64_MAX : narrow;
	} else {
		return -EINVAL;
	}
	uint64_t kilobytes = rate / 1024 + (rate % 1024 != 0);
	if (rate == 0) /* all but stopped */
		kilobytes = 1;
	conn->max_pacing_kbps = kilobytes < UINT32_MAX ? (uint32_t)kilobytes : 0;
	conn->paced = conn->max_pacing_kbps != 0 || conn->net->sched->config.tcp_pacing;
	return 0;
}

static int set_socket(struct tcp_conn *conn, int name, const void *value, socklen_t length)
{
	int v;

	if (name == SO_LINGER)
		return set_linger(conn, value, length);
	if (name == SO_MAX_PACING_RATE)
		return set_pacing(conn, value, length);
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
	if (on && conn->cork && tcp_unsent(conn) > 0) { /* what waits goes, as if uncorked */
		conn->cork = false;
		tcp_output(conn);
		conn->cork = true;
	}
	if (on)
		tcp_want_output(conn);
	return 0;
}

static int set_cork(struct tcp_conn *conn, int v)
{
	conn->cork = v != 0;
	conn->more = v == DEMI_CORK_MORE;
	if (!v)
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

	if (!ops)
		return -ENOENT;
	if (conn->state > TCPS_SYN_SENT)
		tcp_cc_change(&conn->cc, ops);
	else
		conn->cc.ops = ops;
	tcp_update_watch(conn);
	return 0;
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
		return set_cork(conn, v);
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
	case TCP_NOTSENT_LOWAT:
		/* All ones and 0 alike: no limit. */
		conn->notsent_lowat = v == -1 ? 0 : (uint32_t)v;
		return 0;
	case TCP_QUICKACK:
		conn->quick_left = v ? TCP_QUICK_SEGMENTS : 0;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

/* Options of the IP layer may be of one byte as well. */
static int ip_value(const void *value, socklen_t length, int *out)
{
	uint8_t byte;

	if (length != sizeof(byte))
		return int_value(value, length, out);
	memcpy(&byte, value, sizeof(byte));
	*out = byte;
	return 0;
}

static int set_tos(struct tcp_conn *conn, bool v6, int v)
{
	if (v6 && v == -1) /* RFC 3542 6.5: the default */
		v = 0;
	if (v6 && (v < 0 || v > 255))
		return -EINVAL;
	conn->tos = (uint8_t)(v & 0xfc); /* the ECN bits are TCP's */
	return 0;
}

static int set_ip(struct tcp_conn *conn, int level, int name, const void *value, socklen_t length)
{
	bool v6 = level == IPPROTO_IPV6;
	int v;
	int err = v6 ? int_value(value, length, &v) : ip_value(value, length, &v);

	if (err)
		return err;
	if (name == (v6 ? IPV6_UNICAST_HOPS : IP_TTL)) {
		if (v < -1 || v == 0 || v > 255)
			return -EINVAL;
		conn->ttl = v < 0 ? IP_DEFAULT_TTL : (uint8_t)v;
		return 0;
	}
	if (name == (v6 ? IPV6_TCLASS : IP_TOS))
		return set_tos(conn, v6, v);
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

static int give_pacing(const struct tcp_conn *conn, void *value, socklen_t *length)
{
	uint64_t rate = conn->max_pacing_kbps ? (uint64_t)conn->max_pacing_kbps * 1024 : UINT64_MAX;
	uint32_t narrow = rate < UINT32_MAX ? (uint32_t)rate : UINT32_MAX;

	if (*length >= sizeof(rate))
		return tcp_give_bytes(&rate, sizeof(rate), value, length);
	return tcp_give_bytes(&narrow, sizeof(narrow), value, length);
}

static int get_socket(struct tcp_conn *conn, int name, void *value, socklen_t *length)
{
	const struct linger linger = {.l_onoff = conn->linger_on, .l_linger = conn->linger_s};
	switch (name) {
	case SO_LINGER:
		return tcp_give_bytes(&linger, sizeof(linger), value, length);
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
	case SO_MEMINFO:
		return tcp_give_memory(conn, value, length);
	case SO_MAX_PACING_RATE:
		return give_pacing(conn, value, length);
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

static int give_name(const char *name, void *value, socklen_t *length)
{
	char padded[16] = {0}; /* as long as Linux's names may be */

	(void)snprintf(padded, sizeof(padded), "%s", name);
	return tcp_give_bytes(padded, sizeof(padded), value, length);
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
	case TCP_NOTSENT_LOWAT:
		return give_int((int)conn->notsent_lowat, value, length);
	case TCP_INFO:
		return tcp_give_info(conn, value, length);
	case TCP_CC_INFO:
		return tcp_give_cc_info(conn, value, length);
	case TCP_CONGESTION:
		return give_name(conn->cc.ops->name, value, length);
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
