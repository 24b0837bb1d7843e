/* SPDX-License-Identifier: MIT
 * tests/packet/parse.h - what the two halves of the parser share.
 */
#pragma once

#include "packet/script.h"

struct parser {
	struct script *script;
	const char *at;
	const char *end;
	int line;
	int nesting;
	bool in_struct;
	bool in_result;
	char shown[24];
};

void *parse_alloc(struct parser *p, size_t bytes);
const char *parse_copy(struct parser *p, const char *from, size_t length);
/* Notes the first error; false. */
bool parse_error(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void parse_space(struct parser *p);
/* The next character; 0 at the end. */
int parse_peek(const struct parser *p);
/* Skips space, then text if it stands there. */
bool parse_accept(struct parser *p, const char *text);
bool parse_expect(struct parser *p, const char *text);
bool parse_accept_word(struct parser *p, const char *word);
/* Letters, digits and _; false: none, which is no error yet. */
bool parse_word(struct parser *p, char word[64]);
bool parse_number(struct parser *p, int64_t *value);
bool parse_range(struct parser *p, uint64_t max, const char *what, uint32_t *value);

/* parse_packet.c: from < or > on. */
bool parse_packet(struct parser *p, struct packet_spec *packet);
