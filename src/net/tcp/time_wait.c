/* SPDX-License-Identifier: MIT
 * net/tcp/time_wait.c - TIME-WAIT: how long, how many, and who may end it early.  RFC 9293 3.6, RFC
 * 6191, RFC 1337.
 *
 * Connections in TIME-WAIT stand in tcp->time_wait, by in_listener, which only the children of a
 * listener use beside them, in the order in which they end.
 */
#include "net/tcp/tcp.h"

#include <errno.h>

/* From the last number of an old connection to the first of the new one, at least. */
#define ISS_STEP 65537

void tcp_enter_time_wait(struct tcp_conn *conn)
{
	struct tcp *tcp = conn->net->tcp;
	const struct config *config = &conn->net->sched->config;

	if (conn->state == TCPS_TIME_WAIT) {
		list_remove(&conn->in_listener);
		tcp->num_time_wait--;
	}
	ASSERT(!conn->parent);
	tcp_set_state(conn, TCPS_TIME_WAIT);
	for (int i = 0; i < TCP_DEADLINES; i++)
		tcp_clear_deadline(conn, i);
	/* RFC 9293 3.6 MUST-13: it lasts twice the maximum segment lifetime. */
	tcp_set_deadline(conn, TCP_STATE,
			 conn->net->sched->now_ns + (uint64_t)config->tcp_time_wait_ms * 1000000);
	tcp_fail_pushes(conn, EPIPE);
	tcp_send_free(conn);
	list_append(&tcp->time_wait, &conn->in_listener);
	tcp->num_time_wait++;
	if (tcp->num_time_wait <= (uint64_t)config->tcp_time_wait_max)
		return;
	/* Memory is worth more than the oldest one's last seconds. */
	sched_count(conn->net->sched, COUNTER_TCP_TIME_WAITS_CUT, 1);
	tcp_finish(container_of(tcp->time_wait.next, struct tcp_conn, in_listener), 0);
}

void tcp_leave_time_wait(struct tcp_conn *conn)
{
	list_remove(&conn->in_listener);
	conn->net->tcp->num_time_wait--;
}

/* RFC 9293 3.6.1 MAY-2, RFC 6191 2: a SYN that no old duplicate can be. */
static bool opens_anew(const struct tcp_conn *conn, const struct tcp_segment *seg)
{
	const struct tcp_header *h = &seg->h;
	bool above = seq_after(h->seq, conn->rcv_nxt);

	if ((h->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN)
		return false;
	if (!conn->timestamps || !(h->options.has & TCP_HAS_TIMESTAMP))
		return above;
	return seq_after(h->options.ts_value, conn->ts_recent) ||
	       (above && h->options.ts_value == conn->ts_recent);
}

bool tcp_reopen(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	struct tcp_conn *listener =
		tcp_find_listener(conn->net->tcp, &conn->local, conn->local_port);

	if (!listener || !opens_anew(conn, seg))
		return false;
	if (tcp_listener_full(listener->listener)) { /* the SYN comes again */
		net_count_drop(conn->net, DROP_TCP_BACKLOG);
		return true;
	}
	uint32_t iss_min = conn->snd_nxt + ISS_STEP;
	sched_count(conn->net->sched, COUNTER_TCP_TIME_WAITS_REUSED, 1);
	tcp_finish(conn, 0);
	tcp_open_child(listener, seg, &iss_min);
	return true;
}

/* The other direction: a second after the peer's last segment our timestamps are greater than all
 * that the old connection sent. */
bool tcp_may_reuse(const struct tcp_conn *conn, uint32_t *iss_min_out)
{
	if (conn->state != TCPS_TIME_WAIT || conn->user || !conn->timestamps ||
	    !conn->net->sched->config.tcp_timestamps ||
	    conn->net->sched->now_ns - conn->ts_recent_ns <= 1000000000)
		return false;
	*iss_min_out = conn->snd_nxt + ISS_STEP;
	return true;
}
