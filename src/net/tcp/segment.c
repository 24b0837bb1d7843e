/* SPDX-License-Identifier: MIT
 * net/tcp/segment.c - what a segment looks like, and those that carry no data of their own: ACKs,
 * SYNs, probes, resets.  RFC 9293 3.1, 3.7.1, 3.8.4, 3.8.6.1, 3.10.7.1; RFC 2018 4; RFC 2883; RFC
 * 3168 6.1.1; RFC 5961 3 to 5; RFC 7323.
 */
#include "net/tcp/segment.h"

#include "net/wire/checksum.h"

/* ---- one segment ---- */

void tcp_fill_sack(struct tcp_conn *conn, struct tcp_options *o, uint32_t payload)
{
	uint32_t max = conn->timestamps ? 3 : 4;
	uint32_t n = 0;

	/* RFC 2883 4: the first block tells of what came twice. */
	if (conn->dsack.start != conn->dsack.end)
		o->sack[n++] = conn->dsack;
	n += tcp_ooo_blocks(conn->ooo, o->sack + n, max - n);
	if (n == 0 || payload + 4 + 8 * n > conn->mss)
		return;
	o->num_sack = (uint8_t)n;
	o->has |= TCP_HAS_SACK;
	conn->dsack = (struct tcp_block){0};
}

/* Copies payload behind the header; returns its sum if it is asked for. */
static uint64_t copy_payload(struct tcp_conn *conn, struct frame *frame, uint32_t length,
			     struct tcp_cursor at, bool sum)
{
	uint8_t *to = frame->data + frame->length;
	uint64_t total = 0;
	uint32_t done = 0;

	while (done < length) {
		const struct tcp_piece *piece = tcp_queue_at(&conn->send_queue, at.index++);
		uint32_t n = piece->length - at.offset;
		if (n > length - done)
			n = length - done;
		if (sum) {
			uint64_t part = checksum_copy(to + done, piece->data + at.offset, n);
			total += done & 1 ? checksum_odd(part) : part;
		} else {
			memcpy(to + done, piece->data + at.offset, n);
		}
		done += n;
		at.offset = 0;
	}
	frame->length += length;
	return total;
}

/* The same by reference. */
static uint64_t refer_payload(struct tcp_conn *conn, struct frame *frame, uint32_t length,
			      struct tcp_cursor at, bool sum)
{
	uint64_t total = 0;
	uint32_t done = 0;

	while (done < length) {
		const struct tcp_piece *piece = tcp_queue_at(&conn->send_queue, at.index++);
		uint32_t n = piece->length - at.offset;
		if (n > length - done)
			n = length - done;
		frame_append(frame, piece->data + at.offset, n);
		if (sum) {
			uint64_t part = checksum_partial(piece->data + at.offset, n);
			total += done & 1 ? checksum_odd(part) : part;
		}
		done += n;
		at.offset = 0;
	}
	return total;
}

/* Is payload long enough, and in few enough pieces, to be sent in place? */
static bool by_reference(struct tcp_conn *conn, uint32_t length, struct tcp_cursor at)
{
	const struct netdev *dev = conn->net->dev;
	uint32_t pieces = 0;

	if (likely(length < (uint64_t)conn->net->sched->config.zero_copy_bytes || length == 0))
		return false;
	for (uint64_t have = 0; have < length; at.offset = 0) {
		have += tcp_queue_at(&conn->send_queue, at.index++)->length - at.offset;
		if (++pieces > dev->max_segments)
			return false;
	}
	return true;
}

bool tcp_can_cut(struct tcp_conn *conn, uint32_t length, struct tcp_cursor at)
{
	const struct heap *heap = conn->net->heap;
	struct tcp_cursor from = at;

	if (!conn->net->tcp_checksum_offload || !by_reference(conn, length, at))
		return false;
	for (uint64_t have = 0; have < length && heap->region; from.offset = 0) {
		const struct tcp_piece *piece = tcp_queue_at(&conn->send_queue, from.index++);
		if (!heap_in_region(heap, piece->data))
			return false;
		have += piece->length - from.offset;
	}
	return true;
}

/* Completes the checksum, or leaves it to the device. sum: of the payload. */
static void finish_checksum(struct tcp_conn *conn, struct frame *frame, uint32_t header_bytes,
			    uint32_t payload, uint64_t sum)
{
	uint16_t checksum;

	sum += checksum_pseudo(&conn->local, &conn->remote, IP_TCP, header_bytes + payload);
	if (unlikely(conn->net->tcp_checksum_offload)) {
		frame->flags |= FRAME_CHECKSUM;
		frame->transport_offset = 0;
		frame->checksum_offset = TCP_CHECKSUM_OFFSET;
		checksum = checksum_fold(sum);
	} else {
		checksum = checksum_finish(sum + checksum_partial(frame->data, header_bytes));
	}
	memcpy(frame->data + TCP_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
}

bool tcp_emit_marked(struct tcp_conn *conn, const struct tcp_header *h, uint32_t length,
		     struct tcp_cursor at, uint8_t ecn)
{
	struct net *net = conn->net;
	uint32_t header_bytes = tcp_header_bytes(&h->options);
	bool refer = by_reference(conn, length, at);
	struct frame *frame = frame_alloc_tx(net->heap, header_bytes + (refer ? 0 : length));
	uint64_t sum = 0;

	if (unlikely(!frame)) {
		net_count_drop(net, DROP_TX_MEMORY);
		return false;
	}
	frame->length = tcp_write(frame->data, h);
	if (refer)
		sum = refer_payload(conn, frame, length, at, !net->tcp_checksum_offload);
	else if (length > 0)
		sum = copy_payload(conn, frame, length, at, !net->tcp_checksum_offload);
	finish_checksum(conn, frame, header_bytes, length, sum);
	if (unlikely(length > conn->mss) && !conn->searching) { /* not a probe of the MTU */
		frame->cut_bytes = (uint16_t)conn->mss;
		conn->segments_out += (length - 1) / conn->mss;
	}
	conn->segments_out++;
	(void)ip_output(net, frame, &conn->local, &conn->remote, IP_TCP, conn->ttl, conn->tos | ecn,
			&conn->path);
	return true;
}

/* ---- single segments ---- */

static bool send_bare(struct tcp_conn *conn, uint32_t seq, uint8_t flags)
{
	struct tcp_header h;

	tcp_fill_header(conn, &h, seq, flags, 0);
	return tcp_emit(conn, &h, 0, (struct tcp_cursor){0});
}

void tcp_send_ack(struct tcp_conn *conn)
{
	if (send_bare(conn, conn->snd_nxt, TCP_ACK))
		tcp_ack_sent(conn);
}

/* RFC 3168 6.1.1: a SYN asks for ECN by both flags, and not again if it seems to be lost for it
 * (6.1.1.1); the answer by one. */
static uint8_t syn_ecn(struct tcp_conn *conn, bool ack)
{
	if (ack)
		return conn->ecn ? TCP_ECE : 0;
	conn->ecn = tcp_wants_ecn(conn) && conn->retries == 0;
	return conn->ecn ? TCP_ECE | TCP_CWR : 0;
}

/* The SYN, or in SYN-RECEIVED the SYN with its ACK, first or again. */
void tcp_send_syn(struct tcp_conn *conn)
{
	const struct config *config = &conn->net->sched->config;
	bool ack = conn->state == TCPS_SYN_RECEIVED;
	uint32_t own = ip_link_payload_max(conn->net, &conn->remote) - TCP_HEADER_BYTES;
	struct tcp_header h = {
		.source = conn->local_port,
		.destination = conn->remote_port,
		.seq = conn->iss,
		.ack = ack ? conn->rcv_nxt : 0,
		.flags = (uint8_t)(TCP_SYN | (ack ? TCP_ACK : 0) | syn_ecn(conn, ack)),
		.window = (uint16_t)(conn->rcv_buffer < 65535 ? conn->rcv_buffer : 65535),
	};
	struct tcp_options *o = &h.options;

	o->has = TCP_HAS_MSS; /* RFC 9293 3.7.1 MUST-14, SHLD-5 */
	o->mss = (uint16_t)(config->tcp_mss && config->tcp_mss < own ? (uint32_t)config->tcp_mss
								     : own);
	if (conn->mss_limit && conn->mss_limit < o->mss)
		o->mss = conn->mss_limit;
	if (ack ? conn->window_scale : config->tcp_window_scaling) {
		o->has |= TCP_HAS_WSCALE;
		o->wscale = tcp_receive_scale(conn);
	}
	if (ack ? conn->sack : config->tcp_sack)
		o->has |= TCP_HAS_SACK_PERMITTED;
	if (ack ? conn->timestamps : config->tcp_timestamps) {
		o->has |= TCP_HAS_TIMESTAMP;
		o->ts_value = tcp_timestamp(conn, conn->net->sched->now_ns);
		o->ts_echo = ack ? conn->ts_recent : 0;
	}
	if (tcp_emit(conn, &h, 0, (struct tcp_cursor){0}) && ack) {
		conn->rcv_adv = conn->rcv_nxt + h.window;
		conn->rcv_acked = conn->rcv_nxt;
	}
	if (conn->snd_nxt == conn->iss)
		tcp_scoreboard_sent(&conn->sb, conn->iss + 1, conn->net->sched->now_ns);
	else
		(void)tcp_scoreboard_resent(&conn->sb, conn->snd_una,
					    (struct tcp_block){conn->iss, conn->iss + 1},
					    conn->net->sched->now_ns);
	conn->snd_nxt = conn->iss + 1;
	conn->cursor = (struct tcp_cursor){0};
	tcp_arm_retransmit(conn);
}

/* RFC 9293 3.8.6.1 MUST-36: at least one octet of new data, or the FIN; snd_nxt stays. */
void tcp_send_probe(struct tcp_conn *conn)
{
	struct tcp_header h;
	uint32_t length = conn->queued > 0;

	if (conn->snd_una != conn->snd_base || (length == 0 && !conn->fin_queued))
		return;
	if (conn->net->sched->config.tcp_window_probe) {
		tcp_send_keepalive(conn);
		return;
	}
	tcp_verify_pushed(conn, (struct tcp_cursor){0}, length);
	tcp_fill_header(conn, &h, conn->snd_una, length ? TCP_ACK | TCP_PSH : TCP_ACK | TCP_FIN,
			length);
	if (tcp_emit(conn, &h, length, (struct tcp_cursor){0}))
		tcp_ack_sent(conn);
	conn->probed = true; /* an ACK of that octet is one of ours */
}

/* RFC 9293 3.8.4: an old sequence number and no data: a live peer answers with an ACK. */
void tcp_send_keepalive(struct tcp_conn *conn)
{
	(void)send_bare(conn, conn->snd_una - 1, TCP_ACK);
}

void tcp_send_reset(struct tcp_conn *conn)
{
	sched_count(conn->net->sched, COUNTER_TCP_RESETS_OUT, 1);
	/* RFC 5961 3.2: the peer takes it only if it is exactly what it expects next */
	(void)send_bare(conn, conn->snd_nxt, TCP_RST | TCP_ACK);
}

/* RFC 9293 3.10.7.1: <SEQ=SEG.ACK><CTL=RST>, or <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>. */
void tcp_reset_unknown(struct net *net, const struct tcp_segment *seg)
{
	const struct ip_packet *packet = seg->packet;
	struct tcp_header h = {.source = seg->h.destination, .destination = seg->h.source};

	/* MUST-57: never to what was not sent to one host alone; never a reset for a reset. */
	if (seg->h.flags & TCP_RST || packet->broadcast || ip_is_multicast(&packet->from))
		return;
	if (seg->h.flags & TCP_ACK) {
		h.seq = seg->h.ack;
		h.flags = TCP_RST;
	} else {
		h.ack = seg->h.seq + seg->length + !!(seg->h.flags & TCP_SYN) +
			!!(seg->h.flags & TCP_FIN);
		h.flags = TCP_RST | TCP_ACK;
	}
	sched_count(net->sched, COUNTER_TCP_RESETS_OUT, 1);
	tcp_reply(net, packet, &h);
}

/* A segment that no connection sends, back to where packet came from. */
void tcp_reply(struct net *net, const struct ip_packet *packet, const struct tcp_header *h)
{
	struct frame *frame = frame_alloc_tx(net->heap, tcp_header_bytes(&h->options));

	if (!frame) {
		net_count_drop(net, DROP_TX_MEMORY);
		return;
	}
	frame->length = tcp_write(frame->data, h);
	uint64_t sum = checksum_pseudo(&packet->to, &packet->from, IP_TCP, frame->length) +
		       checksum_partial(frame->data, frame->length);
	uint16_t checksum = checksum_finish(sum);
	memcpy(frame->data + TCP_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
	(void)ip_output(net, frame, &packet->to, &packet->from, IP_TCP, IP_DEFAULT_TTL, 0, NULL);
}
