/* SPDX-License-Identifier: MIT
 * net/tcp/info.c - what getsockopt tells of a connection: TCP_INFO, TCP_CC_INFO, SO_MEMINFO, in
 * Linux's forms.
 */
#include "net/tcp/mtu.h"
#include "net/tcp/recovery.h"

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>

#define SSTHRESH_NONE 0x7fffffff /* as Linux tells it */

/* TCP_INFO of newer Linux: what it has behind the system's own is told as well. */
struct info {
	struct tcp_info known;
	uint32_t rcv_wnd;
	uint32_t rehash;
	uint32_t newer[10]; /* 0: of timeouts, and of accurate ECN */
};

int tcp_give_bytes(const void *from, socklen_t bytes, void *value, socklen_t *length)
{
	if (*length > bytes)
		*length = bytes;
	memcpy(value, from, *length);
	return 0;
}

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
			 (conn->window_scale ? TCPI_OPT_WSCALE : 0) |
			 (conn->ecn ? TCPI_OPT_ECN : 0));
}

static uint64_t max_pacing_rate(const struct tcp_conn *conn)
{
	return conn->max_pacing_kbps ? (uint64_t)conn->max_pacing_kbps * 1024 : UINT64_MAX;
}

/* UINT64_MAX: no round-trip time is known. */
static uint64_t pacing_rate(const struct tcp_conn *conn)
{
	uint64_t rate = tcp_cc_pacing_rate(&conn->cc, conn->rtt.srtt_ns);
	uint64_t max = max_pacing_rate(conn);

	return rate == 0 || rate > max ? max : rate;
}

#define REORDERING_DEFAULT 3 /* what RFC 5681 takes for loss */

/* Bytes that are taken for lost, sent again or not; and those that were sent again. */
static void sum_runs(const struct tcp_conn *conn, uint32_t *lost, uint32_t *again)
{
	uint32_t start = conn->snd_una;

	*lost = 0;
	*again = 0;
	for (uint32_t i = 0; i < conn->sb.count; i++) {
		const struct tcp_run *run = tcp_scoreboard_at(&conn->sb, i);
		uint32_t bytes = run->end - start;
		start = run->end;
		if (run->flags & RUN_SACKED)
			continue;
		if (run->flags & (RUN_LOST | RUN_REPAIRED))
			*lost += bytes;
		if ((run->flags & (RUN_LOST | RUN_RETRANSMITTED)) == RUN_RETRANSMITTED)
			*again += bytes;
	}
}

static uint32_t reordering(const struct tcp_conn *conn)
{
	uint32_t degree = conn->trouble ? conn->trouble->reorder_degree : 0;

	return degree > REORDERING_DEFAULT ? degree : REORDERING_DEFAULT;
}

static void fill_info(const struct tcp_conn *conn, struct tcp_info *info)
{
	uint64_t now = conn->net->sched->now_ns;
	uint32_t mss = conn->mss ? conn->mss : 1;
	uint32_t lost;
	uint32_t again;

	sum_runs(conn, &lost, &again);
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
		.tcpi_lost = (lost + mss - 1) / mss,
		.tcpi_retrans = (again + mss - 1) / mss,
		.tcpi_reordering = reordering(conn),
		.tcpi_last_data_sent =
			conn->sent_ns ? (uint32_t)((now - conn->sent_ns) / 1000000) : 0,
		.tcpi_last_data_recv = (uint32_t)((now - conn->received_ns) / 1000000),
		.tcpi_last_ack_recv = (uint32_t)((now - conn->received_ns) / 1000000),
		.tcpi_pmtu = tcp_path_mtu(conn),
		.tcpi_rtt = in_us(conn->rtt.srtt_ns),
		.tcpi_rttvar = in_us(conn->rtt.rttvar_ns),
		.tcpi_snd_ssthresh =
			conn->cc.ssthresh == UINT32_MAX ? SSTHRESH_NONE : conn->cc.ssthresh / mss,
		.tcpi_snd_cwnd = conn->cc.cwnd / mss,
		.tcpi_advmss = ip_link_payload_max(conn->net, &conn->local) - TCP_HEADER_BYTES,
		.tcpi_rcv_space = conn->rcv_buffer,
		.tcpi_pacing_rate = pacing_rate(conn),
		.tcpi_max_pacing_rate = max_pacing_rate(conn),
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

int tcp_give_info(const struct tcp_conn *conn, void *value, socklen_t *length)
{
	struct info info = {.rcv_wnd = conn->state > TCPS_SYN_SENT ? conn->rcv_adv - conn->rcv_nxt
								   : 0};

	_Static_assert(offsetof(struct info, rcv_wnd) ==
			       offsetof(struct tcp_info, tcpi_snd_wnd) + sizeof(uint32_t),
		       "nothing is between them");
	fill_info(conn, &info.known);
	return tcp_give_bytes(&info, sizeof(info), value, length);
}

/* Like Linux: nothing but success if the algorithm has nothing to tell. */
int tcp_give_cc_info(const struct tcp_conn *conn, void *value, socklen_t *length)
{
	union tcp_cc_info info = {0};

	if (conn->cc.ops != &tcp_cc_dctcp || conn->state <= TCPS_SYN_SENT)
		return tcp_give_bytes(&info, 0, value, length);
	info.dctcp = (struct tcp_dctcp_info){
		.dctcp_enabled = 1,
		.dctcp_alpha = conn->cc.dctcp.alpha / (TCP_DCTCP_ONE / 1024),
		.dctcp_ab_ecn = conn->cc.dctcp.marked,
		.dctcp_ab_tot = conn->cc.dctcp.acked,
	};
	return tcp_give_bytes(&info, sizeof(info.dctcp), value, length);
}

int tcp_give_memory(const struct tcp_conn *conn, void *value, socklen_t *length)
{
	uint32_t unsent = conn->state >= TCPS_ESTABLISHED ? (uint32_t)tcp_unsent(conn) : 0;
	const uint32_t memory[SK_MEMINFO_VARS] = {
		[SK_MEMINFO_RMEM_ALLOC] = conn->rcv_held,
		[SK_MEMINFO_RCVBUF] = conn->rcv_buffer,
		[SK_MEMINFO_WMEM_ALLOC] = (uint32_t)conn->queued - unsent,
		[SK_MEMINFO_SNDBUF] = tcp_send_limit(conn),
		[SK_MEMINFO_WMEM_QUEUED] = (uint32_t)conn->queued,
	};

	return tcp_give_bytes(memory, sizeof(memory), value, length);
}
