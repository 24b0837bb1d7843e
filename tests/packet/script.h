/* SPDX-License-Identifier: MIT
 * tests/packet/script.h - a packet script as a value: what parse.c makes of the text, and run.c
 * runs.
 *
 * The syntax is packetdrill's, as far as it is spoken here (README.md), read by a parser of our
 * own. Everything of a script lies in its arena and is freed with it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRIPT_ERROR_MAX   512
#define SCRIPT_OPTIONS_MAX 40 /* bytes of TCP options */
#define SCRIPT_NS_PER_S    1000000000LL

/* ---- expressions: arguments and results of calls ---- */

enum expr_kind {
	EXPR_ELLIPSIS, /* ...: the runner chooses, or does not look */
	EXPR_NUMBER,
	EXPR_STRING,
	EXPR_NAME,   /* a word that is no known constant */
	EXPR_LIST,   /* [a, b] */
	EXPR_STRUCT, /* {name=a, name=b} */
	EXPR_CALL,   /* name(a, b): htons(8080), inet_addr("192.0.2.1") */
};

struct expr {
	enum expr_kind kind;
	int64_t number;
	const char *text;   /* string, name; of a call: its name */
	const char *field;  /* what stands in front of = in a struct; NULL: nothing */
	struct expr *items; /* first of a list, a struct or the arguments */
	struct expr *next;  /* in the list that this is an item of */
};

/* ---- packets ---- */

enum packet_kind { PACKET_TCP, PACKET_UDP, PACKET_ICMP };

enum packet_ecn {
	ECN_NONE = 0,
	ECN_ECT1 = 1,
	ECN_ECT0 = 2,
	ECN_CE = 3,
	ECN_ANY_ECT = 4,
	ECN_NOT_GIVEN = 5
};

enum option_kind {
	OPTION_EOL = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_WSCALE = 3,
	OPTION_SACK_OK = 4,
	OPTION_SACK = 5,
	OPTION_TIMESTAMP = 8,
	OPTION_RAW = 256,
};

struct option_spec {
	enum option_kind kind;
	uint32_t value; /* mss, wscale, TS val */
	uint32_t echo;
	bool any_value; /* TS val ... */
	bool any_echo;  /* TS ... ecr ... */
	uint32_t num_blocks;

	struct {
		uint32_t start;
		uint32_t end;
	} blocks[4];

	uint32_t raw_bytes;
	uint8_t raw[SCRIPT_OPTIONS_MAX];
};

struct packet_spec {
	enum packet_kind kind;
	bool outbound;
	bool has_ports; /* (5000>8080): our extension, for scripts with several connections */
	uint16_t from_port;
	uint16_t to_port;
	enum packet_ecn ecn;
	int tos; /* -1: not given */
	int ttl; /* -1: not given */
	uint8_t flags;
	uint32_t seq;
	uint32_t length; /* bytes of payload */
	bool has_ack;
	uint32_t ack;
	bool has_window;
	uint16_t window;
	bool has_urgent;
	uint16_t urgent;
	bool any_options;  /* <...> */
	bool bad_checksum; /* badsum: our extension */
	uint32_t num_options;
	struct option_spec *options;
	uint8_t icmp_type; /* ICMPv4's; icmp6_type is the same in ICMPv6 */
	uint8_t icmp_code;
	uint8_t icmp6_type;
	uint8_t icmp6_code;
	bool has_icmp6;
	bool has_icmp4;
	uint32_t icmp_rest; /* mtu, or id and sequence */
	bool has_quote;
	enum packet_kind quote_kind;
	bool quote_has_seq;
	uint32_t quote_seq;
	uint32_t quote_length;
};

/* ---- calls ---- */

struct call_spec {
	const char *name;
	struct expr *args;
	struct expr *result; /* NULL: none is stated */
	const char *error;   /* EAGAIN; NULL: none is stated */
	int error_number;
	bool blocking; /* start...end name(): it returns at end */
	int64_t end_ns;
};

/* ---- events ---- */

enum time_kind { TIME_ABSOLUTE, TIME_RELATIVE, TIME_ANY };

enum event_kind { EVENT_PACKET, EVENT_CALL, EVENT_ASSERT, EVENT_COMMAND };

struct event {
	int line;
	enum event_kind kind;
	enum time_kind time;
	int64_t at_ns;
	bool has_range; /* at~until */
	int64_t until_ns;

	union {
		struct packet_spec packet;
		struct call_spec call;
		const char *text; /* of an assertion or a command */
	};
	struct event *next;
};

struct option_line {
	int line;
	const char *name;
	const char *value;
	struct option_line *next;
};

struct script {
	const char *path;
	struct option_line *options;
	struct event *events;
	void *arena;
	char error[SCRIPT_ERROR_MAX]; /* "path:line: what" */
};

/* Parses bytes (need not end in 0); name is for messages and lives as long as the script.  0, or -1
 * with script->error; free it either way. */
int script_parse(struct script *script, const char *name, const char *bytes, size_t num_bytes);
void script_free(struct script *script);

/* symbols.c: constants of the system by name.  False: unknown. */
bool symbol_find(const char *name, int64_t *value);
/* The name of an errno, or "errno N" in a static table. */
const char *symbol_errno(int err);
