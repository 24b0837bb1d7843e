/* SPDX-License-Identifier: MIT
 * tests/packet/parse_packet.c - packets of a script.
 *
 *	< [ect0] (5000>8080) S. 0:0(0) ack 1 win 65535 urg 0 <mss 1460,nop,wscale 7> badsum
 *	> udp (100)
 *	< icmp unreachable frag_needed mtu 1400 [1:1461(1460)]
 */
#include "packet/parse.h"

#include <ctype.h>
#include <string.h>

#define MAX32 0xffffffffULL

/* ---- in front ---- */

static const struct {
	const char *name;
	enum packet_ecn ecn;
} ecn_names[] = {{"noecn", ECN_NONE},
		 {"ect0", ECN_ECT0},
		 {"ect1", ECN_ECT1},
		 {"ect01", ECN_ANY_ECT},
		 {"ce", ECN_CE}};

static bool parse_ip_word(struct parser *p, struct packet_spec *packet)
{
	char word[64];
	uint32_t value;

	if (!parse_word(p, word))
		return parse_error(p, "expected ect0, ce, noecn, tos or ttl in [ ]");
	if (strcmp(word, "tos") == 0 || strcmp(word, "ttl") == 0) {
		if (!parse_range(p, 255, word, &value))
			return false;
		*(word[1] == 'o' ? &packet->tos : &packet->ttl) = (int)value;
		return true;
	}
	for (size_t i = 0; i < sizeof(ecn_names) / sizeof(ecn_names[0]); i++) {
		if (strcmp(word, ecn_names[i].name) == 0) {
			packet->ecn = ecn_names[i].ecn;
			return true;
		}
	}
	return parse_error(p, "[%s] is not supported", word);
}

static bool parse_ip_words(struct parser *p, struct packet_spec *packet)
{
	if (!parse_accept(p, "["))
		return true;
	do {
		if (!parse_ip_word(p, packet))
			return false;
	} while (parse_accept(p, ","));
	return parse_expect(p, "]");
}

static bool parse_ports(struct parser *p, struct packet_spec *packet)
{
	uint32_t from;
	uint32_t to;

	if (!parse_accept(p, "("))
		return true;
	if (!parse_range(p, 65535, "port", &from) || !parse_expect(p, ">") ||
	    !parse_range(p, 65535, "port", &to) || !parse_expect(p, ")"))
		return false;
	packet->has_ports = true;
	packet->from_port = (uint16_t)from;
	packet->to_port = (uint16_t)to;
	return true;
}

/* ---- TCP ---- */

static bool parse_flags(struct parser *p, struct packet_spec *packet)
{
	static const char letters[] = "FSRP.UEW";
	bool any = false;

	parse_space(p);
	for (;; p->at++) {
		int c = parse_peek(p);
		const char *letter = c ? strchr(letters, c) : NULL;
		if (c == '-') {
			any = true;
			continue;
		}
		if (!letter)
			break;
		any = true;
		packet->flags |= (uint8_t)(1U << (letter - letters));
	}
	if (!any || !(isspace(parse_peek(p)) || parse_peek(p) == 0))
		return parse_error(p, "flags are of S F R P . U E W, or -");
	return true;
}

/* seq:end(length) */
static bool parse_sequence(struct parser *p, uint32_t *seq, uint32_t *length)
{
	uint32_t end;

	if (!parse_range(p, MAX32, "sequence number", seq) || !parse_expect(p, ":") ||
	    !parse_range(p, MAX32, "sequence number", &end) || !parse_expect(p, "(") ||
	    !parse_range(p, 65535, "length", length) || !parse_expect(p, ")"))
		return false;
	if (end != *seq + *length)
		return parse_error(p, "%u:%u(%u): the end is not the start and the length", *seq,
				   end, *length);
	return true;
}

static bool parse_sack(struct parser *p, struct option_spec *option)
{
	parse_space(p);
	while (isdigit(parse_peek(p))) {
		if (option->num_blocks == 4)
			return parse_error(p, "more than four SACK blocks");
		uint32_t start;
		uint32_t end;
		if (!parse_range(p, MAX32, "sequence number", &start) || !parse_expect(p, ":") ||
		    !parse_range(p, MAX32, "sequence number", &end))
			return false;
		option->blocks[option->num_blocks].start = start;
		option->blocks[option->num_blocks++].end = end;
		parse_space(p);
	}
	return true;
}

static bool parse_stamp(struct parser *p, const char *word, bool *any, uint32_t *value)
{
	if (!parse_accept_word(p, word))
		return parse_error(p, "TS is followed by val N ecr N");
	*any = parse_accept(p, "...");
	return *any || parse_range(p, MAX32, "timestamp", value);
}

static int hex_digit(int c)
{
	if (isdigit(c))
		return c - '0';
	c = tolower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* raw 0x1e04abcd: any bytes */
static bool parse_raw(struct parser *p, struct option_spec *option)
{
	if (!parse_expect(p, "0x"))
		return false;
	while (hex_digit(parse_peek(p)) >= 0) {
		int high = hex_digit(parse_peek(p));
		p->at++;
		int low = hex_digit(parse_peek(p));
		if (low < 0 || option->raw_bytes == SCRIPT_OPTIONS_MAX)
			return parse_error(p, "raw is followed by at most 40 bytes in hex");
		p->at++;
		option->raw[option->raw_bytes++] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool parse_option(struct parser *p, struct option_spec *option)
{
	char word[64];

	if (!parse_word(p, word))
		return parse_error(p, "expected a TCP option");
	if (strcmp(word, "nop") == 0) {
		option->kind = OPTION_NOP;
	} else if (strcmp(word, "eol") == 0) {
		option->kind = OPTION_EOL;
	} else if (strcmp(word, "mss") == 0) {
		option->kind = OPTION_MSS;
		return parse_range(p, 65535, word, &option->value);
	} else if (strcmp(word, "wscale") == 0) {
		option->kind = OPTION_WSCALE;
		return parse_range(p, 255, word, &option->value);
	} else if (strcmp(word, "sackOK") == 0) {
		option->kind = OPTION_SACK_OK;
	} else if (strcmp(word, "sack") == 0) {
		option->kind = OPTION_SACK;
		return parse_sack(p, option);
	} else if (strcmp(word, "TS") == 0) {
		option->kind = OPTION_TIMESTAMP;
		return parse_stamp(p, "val", &option->any_value, &option->value) &&
		       parse_stamp(p, "ecr", &option->any_echo, &option->echo);
	} else if (strcmp(word, "raw") == 0) {
		option->kind = OPTION_RAW;
		return parse_raw(p, option);
	} else {
		return parse_error(p, "TCP option `%s` is not supported", word);
	}
	return true;
}

static uint32_t option_bytes(const struct option_spec *option)
{
	switch (option->kind) {
	case OPTION_EOL:
	case OPTION_NOP:
		return 1;
	case OPTION_MSS:
		return 4;
	case OPTION_WSCALE:
		return 3;
	case OPTION_SACK_OK:
		return 2;
	case OPTION_SACK:
		return 2 + 8 * option->num_blocks;
	case OPTION_TIMESTAMP:
		return 10;
	case OPTION_RAW:
		return option->raw_bytes;
	}
	return 0;
}

static bool parse_options(struct parser *p, struct packet_spec *packet)
{
	struct option_spec options[SCRIPT_OPTIONS_MAX];
	uint32_t bytes = 0;
	uint32_t count = 0;

	if (!parse_accept(p, "<"))
		return true;
	if (parse_accept(p, "...")) {
		packet->any_options = true;
		if (!packet->outbound)
			return parse_error(p, "<...> says nothing of an inbound packet");
		return parse_expect(p, ">");
	}
	if (parse_accept(p, ">"))
		return true;
	do {
		if (count == SCRIPT_OPTIONS_MAX)
			return parse_error(p, "more than 40 bytes of options");
		options[count] = (struct option_spec){0};
		if (!parse_option(p, &options[count]))
			return false;
		bytes += option_bytes(&options[count++]);
	} while (parse_accept(p, ","));
	if (bytes > SCRIPT_OPTIONS_MAX)
		return parse_error(p, "%u bytes of options are more than 40", bytes);
	packet->num_options = count;
	packet->options = parse_alloc(p, count * sizeof(options[0]));
	memcpy(packet->options, options, count * sizeof(options[0]));
	return parse_expect(p, ">");
}

static bool parse_tcp(struct parser *p, struct packet_spec *packet)
{
	uint32_t value;

	if (!parse_flags(p, packet) || !parse_sequence(p, &packet->seq, &packet->length))
		return false;
	if (parse_accept_word(p, "ack")) {
		packet->has_ack = true;
		if (!parse_range(p, MAX32, "ack", &packet->ack))
			return false;
	}
	if (parse_accept_word(p, "win")) {
		packet->has_window = true;
		if (!parse_range(p, 65535, "win", &value))
			return false;
		packet->window = (uint16_t)value;
	}
	if (parse_accept_word(p, "urg")) {
		packet->has_urgent = true;
		if (!parse_range(p, 65535, "urg", &value))
			return false;
		packet->urgent = (uint16_t)value;
	}
	if (!packet->outbound && !packet->has_window && !(packet->flags & 4))
		return parse_error(p, "an inbound packet needs a window: win N");
	if (!parse_options(p, packet))
		return false;
	packet->bad_checksum = parse_accept_word(p, "badsum");
	return true;
}

/* ---- UDP and ICMP ---- */

/* (length) */
static bool parse_length(struct parser *p, uint32_t *length)
{
	return parse_expect(p, "(") && parse_range(p, 65507, "length", length) &&
	       parse_expect(p, ")");
}

/* Names of ICMP messages; -1: that family has none such. */
static const struct {
	const char *type;
	const char *code; /* NULL: the type alone */
	int type4;
	int code4;
	int type6;
	int code6;
} icmp_names[] = {
	{"unreachable", "net_unreachable", 3, 0, 1, 0},
	{"unreachable", "host_unreachable", 3, 1, 1, 3},
	{"unreachable", "protocol_unreachable", 3, 2, 4, 1},
	{"unreachable", "port_unreachable", 3, 3, 1, 4},
	{"unreachable", "frag_needed", 3, 4, 2, 0},
	{"unreachable", "source_route_failed", 3, 5, -1, 0},
	{"unreachable", "admin_prohibited", 3, 13, 1, 1},
	{"packet_too_big", NULL, 3, 4, 2, 0},
	{"time_exceeded", NULL, 11, 0, 3, 0},
	{"parameter_problem", NULL, 12, 0, 4, 0},
	{"source_quench", NULL, 4, 0, -1, 0},
	{"redirect", NULL, 5, 1, -1, 0},
	{"echo_request", NULL, 8, 0, 128, 0},
	{"echo_reply", NULL, 0, 0, 129, 0},
};

static bool parse_icmp_name(struct parser *p, struct packet_spec *packet)
{
	char type[64];
	char code[64];
	bool needs_code = false;

	if (!parse_word(p, type))
		return parse_error(p, "expected a type of ICMP message");
	needs_code = strcmp(type, "unreachable") == 0;
	if (needs_code && !parse_word(p, code))
		return parse_error(p, "unreachable what?");
	for (size_t i = 0; i < sizeof(icmp_names) / sizeof(icmp_names[0]); i++) {
		if (strcmp(type, icmp_names[i].type) != 0 ||
		    (needs_code && strcmp(code, icmp_names[i].code) != 0))
			continue;
		packet->has_icmp4 = icmp_names[i].type4 >= 0;
		packet->icmp_type = (uint8_t)icmp_names[i].type4;
		packet->icmp_code = (uint8_t)icmp_names[i].code4;
		packet->has_icmp6 = icmp_names[i].type6 >= 0;
		packet->icmp6_type = (uint8_t)icmp_names[i].type6;
		packet->icmp6_code = (uint8_t)icmp_names[i].code6;
		return true;
	}
	return parse_error(p, "icmp %s %s is not supported", type, needs_code ? code : "");
}

static bool parse_quote(struct parser *p, struct packet_spec *packet)
{
	if (!parse_accept(p, "["))
		return true;
	packet->has_quote = true;
	if (parse_accept_word(p, "udp")) {
		packet->quote_kind = PACKET_UDP;
		return parse_length(p, &packet->quote_length) && parse_expect(p, "]");
	}
	packet->quote_kind = PACKET_TCP;
	packet->quote_has_seq = true;
	(void)parse_accept_word(p, "tcp");
	return parse_sequence(p, &packet->quote_seq, &packet->quote_length) && parse_expect(p, "]");
}

static bool parse_icmp(struct parser *p, struct packet_spec *packet)
{
	uint32_t value;

	if (!parse_icmp_name(p, packet))
		return false;
	if (parse_accept_word(p, "mtu") && !parse_range(p, MAX32, "mtu", &packet->icmp_rest))
		return false;
	if (parse_accept_word(p, "id")) {
		if (!parse_range(p, 65535, "id", &value))
			return false;
		packet->icmp_rest = value << 16;
	}
	if (parse_accept_word(p, "seq")) {
		if (!parse_range(p, 65535, "seq", &value))
			return false;
		packet->icmp_rest |= value;
	}
	parse_space(p);
	if (parse_peek(p) == '(' && !parse_length(p, &packet->length))
		return false;
	if (!parse_quote(p, packet))
		return false;
	packet->bad_checksum = parse_accept_word(p, "badsum");
	return true;
}

bool parse_packet(struct parser *p, struct packet_spec *packet)
{
	packet->outbound = parse_accept(p, ">");
	packet->ecn = ECN_NOT_GIVEN;
	packet->tos = -1;
	packet->ttl = -1;
	if (!packet->outbound && !parse_expect(p, "<"))
		return false;
	if (!parse_ip_words(p, packet) || !parse_ports(p, packet))
		return false;
	if (parse_accept_word(p, "udp")) {
		packet->kind = PACKET_UDP;
		if (!parse_length(p, &packet->length))
			return false;
		packet->bad_checksum = parse_accept_word(p, "badsum");
		return true;
	}
	if (parse_accept_word(p, "icmp")) {
		packet->kind = PACKET_ICMP;
		return parse_icmp(p, packet);
	}
	packet->kind = PACKET_TCP;
	return parse_tcp(p, packet);
}
