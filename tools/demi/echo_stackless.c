/* SPDX-License-Identifier: MIT
 * tools/demi/echo_stackless.c - the client `stackless`: a generator of TCP segments and UDP
 * datagrams over a bare port, which spends as little as can be on an answer, so that the server is
 * what is measured.
 *
 * Of TCP it has what an error-free link needs: a handshake, one sequence number each way, the
 * peer's window, an acknowledgement where no data takes it along; and the oldest segment again when
 * nothing was heard for a while.
 */
#include "echo.h"
#include "raw.h"
#include "segment.h"
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_PORT 10000
#define FLOWS_MAX  50000
#define SPIN_TURNS 1024
#define BURST      32 /* handshakes at a time */
#define AGAIN_NS   (200 * NS_PER_MS)
#define PATIENCE   (5 * NS_PER_S)
#define TOUCHED    (RAW_BURST + 1)

struct stream {
	struct flow flow;
	uint32_t una, next; /* ours: first that is not acknowledged, next to be sent */
	uint32_t start;     /* of the data */
	uint32_t theirs;    /* next that is to come */
	uint32_t window, mss;
	uint8_t shift;
	bool open, owes, touched, ended, heard_end;
	uint64_t heard_ns;
};

struct generator {
	struct echo_end *end;
	const struct raw_ops *ops;
	struct ends ends;
	struct stream *streams;
	unsigned count;
	unsigned opened, closed; /* of the streams */
	bool udp, resolved;
	int error;
	struct raw_frame out[RAW_BURST];
	uint32_t pending;
	struct stream *touched[TOUCHED]; /* by the frames of this burst */
	uint32_t num_touched;
};

/* ---- frames ---- */

static void flush(struct generator *g)
{
	raw_send_all(g->ops, g->out, g->pending);
	g->pending = 0;
}

/* A frame of length bytes that goes out with the burst once it is written; NULL: no buffers. */
static uint8_t *put(struct generator *g, uint32_t length)
{
	if (g->pending == RAW_BURST)
		flush(g);
	if (g->ops->make(&g->out[g->pending], 1, length) == 0) {
		g->error = echo_fail(g->end, -ENOMEM, "no buffers");
		return NULL;
	}
	return g->out[g->pending++].data;
}

static void say_arp(struct generator *g, bool reply)
{
	uint8_t *frame = put(g, ARP_FRAME_BYTES);

	if (frame)
		arp_write(&g->ends, frame, reply);
}

static struct segment segment_of(const struct generator *g, const struct stream *s)
{
	return (struct segment){
		.our_port = (uint16_t)(FIRST_PORT + (s - g->streams)),
		.their_port = ntohs(g->end->address.in.sin_port),
		.seq = s->next,
		.ack = s->theirs,
		.flags = SEGMENT_ACK,
	};
}

static void send_segment(struct generator *g, const struct segment *segment)
{
	uint32_t options = segment->flags & SEGMENT_SYN ? SEGMENT_OPTIONS : 0;
	uint8_t *frame = put(g, SEGMENT_HEADER + options + segment->length);

	if (frame)
		segment_write(&g->ends, frame, segment);
}

static void send_flag(struct generator *g, struct stream *s, uint8_t flags)
{
	struct segment segment = segment_of(g, s);

	segment.flags = flags;
	segment.seq = flags & (SEGMENT_SYN | SEGMENT_FIN) ? s->next - 1 : s->next;
	send_segment(g, &segment);
	s->owes = false;
}

/* ---- streams ---- */

static void begin(struct generator *g, struct stream *s, uint64_t now_ns)
{
	s->next = s->start;
	s->una = s->start - 1;
	s->heard_ns = now_ns;
	send_flag(g, s, SEGMENT_SYN);
}

/* What was issued, as far as the window goes; an acknowledgement that is owed rides along. */
static void send_data(struct generator *g, struct stream *s)
{
	const struct load *load = &g->end->load;

	while (s->flow.tx_bytes > 0 && s->next - s->una < s->window && !g->error) {
		struct segment segment = segment_of(g, s);
		uint32_t room = s->window - (s->next - s->una);
		size_t length;
		segment.payload = flow_next(load, &s->flow, &length);
		if (length > s->mss)
			length = s->mss;
		segment.length = length < room ? (uint32_t)length : room;
		segment.flags |= SEGMENT_PSH;
		send_segment(g, &segment);
		flow_sent(load, &s->flow, segment.length);
		s->next += segment.length;
		s->owes = false;
	}
	if (s->owes)
		send_flag(g, s, SEGMENT_ACK);
}

/* Nothing was heard for a while: the oldest that is not acknowledged goes out again. */
static void send_again(struct generator *g, struct stream *s, uint64_t now_ns)
{
	const struct load *load = &g->end->load;
	struct segment segment = segment_of(g, s);
	uint32_t length = s->next - s->una;
	size_t offset = (s->una - s->start) % load->size;

	s->heard_ns = now_ns;
	if (!s->open)
		send_flag(g, s, SEGMENT_SYN);
	else if (s->ended)
		send_flag(g, s, SEGMENT_FIN | SEGMENT_ACK);
	if (!s->open || s->ended || length == 0)
		return;
	if (length > load->pattern_size - offset)
		length = (uint32_t)(load->pattern_size - offset);
	segment.seq = s->una;
	segment.payload = load->pattern + offset;
	segment.length = length < s->mss ? length : s->mss;
	segment.flags |= SEGMENT_PSH;
	send_segment(g, &segment);
}

static void take_handshake(struct generator *g, struct stream *s, const struct segment *in)
{
	if (!(in->flags & SEGMENT_ACK) || in->ack != s->start)
		return;
	s->owes = true;
	if (s->open)
		return;
	s->open = true;
	s->theirs = in->seq + 1;
	s->una = s->start;
	s->window = in->window;
	s->shift = in->shift;
	s->mss = in->mss > 0 && in->mss < SEGMENT_MSS ? in->mss : SEGMENT_MSS;
	g->opened++;
}

static void take_payload(struct generator *g, struct stream *s, const struct segment *in,
			 uint64_t now_ns)
{
	bool in_order = in->seq == s->theirs;

	if (in->length > 0)
		s->owes = true;
	if (in_order && in->length > 0) {
		(void)flow_received(&g->end->load, &s->flow, in->payload, in->length, now_ns);
		s->theirs += in->length;
	}
	if (in_order && in->flags & SEGMENT_FIN) {
		s->theirs++;
		s->owes = true;
		s->heard_end = true;
		g->closed++;
	}
}

static void take_segment(struct generator *g, const struct segment *in, uint64_t now_ns)
{
	unsigned n = in->our_port - (unsigned)FIRST_PORT;

	if (in->our_port < FIRST_PORT || n >= g->count)
		return;
	struct stream *s = &g->streams[n];
	s->heard_ns = now_ns;
	if (in->flags & SEGMENT_RST) {
		g->error = echo_fail(g->end, -ECONNRESET, "connection %u: reset", n);
		return;
	}
	if (in->flags & SEGMENT_SYN) {
		take_handshake(g, s, in);
	} else if (s->open) {
		s->window = in->window << s->shift;
		if ((int32_t)(in->ack - s->una) > 0 && (int32_t)(s->next - in->ack) >= 0)
			s->una = in->ack;
		take_payload(g, s, in, now_ns);
	}
	if (!s->touched)
		g->touched[g->num_touched++] = s;
	s->touched = true;
}

/* ---- datagrams ---- */

static void send_datagram(struct generator *g, struct stream *s, uint32_t length)
{
	struct segment segment = segment_of(g, s);
	uint8_t *frame = put(g, DATAGRAM_HEADER + length);

	if (!frame)
		return;
	segment.payload = frame + DATAGRAM_HEADER;
	segment.length = length;
	if (length > 0)
		flow_fill(&g->end->load, &s->flow, frame + DATAGRAM_HEADER);
	datagram_write(&g->ends, frame, &segment);
}

static void take_datagram(struct generator *g, const struct segment *in, uint64_t now_ns)
{
	unsigned n = in->our_port - (unsigned)FIRST_PORT;

	if (in->our_port < FIRST_PORT || n >= g->count)
		return;
	(void)flow_datagram(&g->end->load, &g->streams[n].flow, in->payload, in->length, now_ns);
	if (!g->streams[n].touched)
		g->touched[g->num_touched++] = &g->streams[n];
	g->streams[n].touched = true;
}

/* ---- both ---- */

static void issue(struct generator *g, struct stream *s, uint64_t now_ns)
{
	struct load *load = &g->end->load;

	while (!g->error && flow_issue(load, &s->flow, now_ns)) {
		if (g->udp)
			send_datagram(g, s, (uint32_t)load->size);
	}
	if (!g->udp)
		send_data(g, s);
}

static void take(struct generator *g, const struct raw_frame *frame, uint64_t now_ns)
{
	struct segment in;

	if (g->udp ? datagram_read(&g->ends, frame->data, frame->length, &in)
		   : segment_read(&g->ends, frame->data, frame->length, &in)) {
		if (g->udp)
			take_datagram(g, &in, now_ns);
		else
			take_segment(g, &in, now_ns);
		return;
	}
	enum arp_kind kind = arp_read(&g->ends, frame->data, frame->length);
	g->resolved |= kind != ARP_NONE;
	if (kind == ARP_ASKED)
		say_arp(g, true);
}

/* Takes a burst in; requests: those whose answers came are followed by others.  How many came. */
static uint32_t turn(struct generator *g, bool requests, uint64_t *now_ns)
{
	struct raw_frame frames[RAW_BURST];
	uint32_t n = g->ops->receive(frames, RAW_BURST);

	if (n == 0)
		return 0;
	*now_ns = clock_now_ns();
	for (uint32_t i = 0; i < n; i++)
		take(g, &frames[i], *now_ns);
	g->ops->drop(frames, n);
	for (uint32_t i = 0; i < g->num_touched; i++) {
		struct stream *s = g->touched[i];
		s->touched = false;
		if (requests)
			issue(g, s, *now_ns);
		else if (s->owes)
			send_flag(g, s, SEGMENT_ACK);
	}
	g->num_touched = 0;
	flush(g);
	return n;
}

/* What no frame reminds of. */
static void look_after(struct generator *g, uint64_t now_ns)
{
	for (unsigned n = 0; n < g->count && !g->error; n++) {
		struct stream *s = &g->streams[n];
		if (g->udp)
			flow_expire(&g->end->load, &s->flow, now_ns);
		else if (s->una != s->next && s->heard_ns + AGAIN_NS < now_ns)
			send_again(g, s, now_ns);
	}
	flush(g);
}

static int loop(void *arg)
{
	struct generator *g = arg;
	const struct load *load = &g->end->load;
	uint64_t now_ns = clock_now_ns();

	for (unsigned n = 0; n < g->count; n++)
		issue(g, &g->streams[n], now_ns);
	flush(g);
	for (unsigned turns = 1; !g->error && !load_done(load, now_ns); turns++) {
		if (turn(g, true, &now_ns) > 0 || turns % SPIN_TURNS)
			continue;
		now_ns = clock_now_ns();
		look_after(g, now_ns);
		for (unsigned n = 0; n < g->count; n++) /* what was lost is issued anew */
			issue(g, &g->streams[n], now_ns);
		flush(g);
	}
	return g->error;
}

/* ---- beginning and end ---- */

/* Turns until what is counted has come to goal.  0, or -errno with a message. */
static int await(struct generator *g, const unsigned *what, unsigned goal, const char *why)
{
	uint64_t now_ns = clock_now_ns();
	uint64_t end_ns = now_ns + PATIENCE;

	for (unsigned turns = 1; *what < goal && !g->error; turns++) {
		if (turn(g, false, &now_ns) > 0 || turns % SPIN_TURNS)
			continue;
		now_ns = clock_now_ns();
		look_after(g, now_ns);
		if (now_ns > end_ns)
			return echo_fail(g->end, -ETIMEDOUT, "%s", why);
	}
	return g->error;
}

static int resolve(struct generator *g)
{
	uint64_t now_ns = clock_now_ns();
	uint64_t end_ns = now_ns + PATIENCE;

	for (uint64_t ask_ns = 0; !g->resolved && !g->error; now_ns = clock_now_ns()) {
		if (now_ns > end_ns)
			return echo_fail(g->end, -ETIMEDOUT, "nobody answers for the address");
		if (now_ns >= ask_ns) {
			say_arp(g, false);
			flush(g);
			ask_ns = now_ns + 10 * NS_PER_MS;
		}
		(void)turn(g, false, &now_ns);
	}
	return g->error;
}

static int connect_all(struct generator *g)
{
	int error = 0;

	for (unsigned n = 0; n < g->count && !error;) {
		unsigned goal = n + BURST < g->count ? n + BURST : g->count;
		for (; n < goal; n++)
			begin(g, &g->streams[n], clock_now_ns());
		flush(g);
		error = await(g, &g->opened, goal, "no answer to a connection");
	}
	return error;
}

/* The server ends when all connections have.  What is in the port's ring when we go is lost: it has
 * some time to take the last acknowledgements. */
static void end_all(struct generator *g)
{
	static const struct timespec grace = {.tv_nsec = 10 * NS_PER_MS};

	g->error = 0;
	for (unsigned n = 0; n < g->count; n++) {
		struct stream *s = &g->streams[n];
		if (g->udp || !s->open || s->ended)
			continue;
		s->next++;
		s->ended = true;
		send_flag(g, s, SEGMENT_FIN | SEGMENT_ACK);
	}
	if (g->udp && g->resolved)
		send_datagram(g, &g->streams[0], 0);
	flush(g);
	if (!g->udp)
		(void)await(g, &g->closed, g->opened, "");
	(void)nanosleep(&grace, NULL);
}

static int run(struct generator *g)
{
	int error = resolve(g);

	if (!error && !g->udp)
		error = connect_all(g);
	if (!error)
		error = echo_client_run(g->end, loop, g);
	end_all(g);
	return error;
}

static bool read_ends(struct generator *g)
{
	static const uint8_t ours[6] = {2, 0, 0, 0, 0, 0xee};
	static const char key[] = "addresses=";
	const char *at = strstr(g->end->device, key);
	char text[INET_ADDRSTRLEN] = "";
	struct in_addr address;

	if (!at || g->end->address.any.sa_family != AF_INET)
		return false;
	at += sizeof(key) - 1;
	size_t length = strcspn(at, "/,");
	if (length >= sizeof(text))
		return false;
	memcpy(text, at, length);
	if (inet_pton(AF_INET, text, &address) != 1)
		return false;
	memcpy(g->ends.our_mac, ours, sizeof(ours));
	g->ends.ours = ntohl(address.s_addr);
	g->ends.theirs = ntohl(g->end->address.in.sin_addr.s_addr);
	return true;
}

static int check(struct generator *g)
{
	const struct echo_spec *spec = g->end->spec;
	size_t most = SEGMENT_MSS + SEGMENT_HEADER - DATAGRAM_HEADER;

	if (!read_ends(g))
		return echo_fail(g->end, -EINVAL, "stackless: over IPv4 only");
	if (spec->rate_per_s > 0 || spec->connections > FLOWS_MAX || (g->udp && spec->size > most))
		return echo_fail(g->end, -EINVAL,
				 "stackless: no rate, %d connections at most, datagrams of %zu "
				 "bytes at most",
				 FLOWS_MAX, most);
	return 0;
}

int echo_stackless_client(struct echo_end *end)
{
	struct generator g = {
		.end = end, .count = end->spec->connections, .udp = end->spec->proto == ECHO_UDP};
	int error = check(&g);

	if (!error)
		error = raw_open(&g.ops, end->device, end->message, ECHO_MESSAGE_MAX);
	if (error)
		return error;
	if (raw_await_peer(g.ops))
		return echo_fail(end, -ETIMEDOUT, "the server's port does not come up");
	g.streams = tool_alloc(g.count, sizeof(*g.streams));
	for (unsigned n = 0; n < g.count; n++) {
		flow_init(&g.streams[n].flow, &end->load);
		g.streams[n].start = 1000000 * (n + 1);
	}
	error = run(&g);
	for (unsigned n = 0; n < g.count; n++)
		flow_fini(&g.streams[n].flow);
	free(g.streams);
	return error;
}
