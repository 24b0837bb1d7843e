/* SPDX-License-Identifier: MIT
 * tests/fuzz/expression.c - any text as a field expression, over any element.
 *
 * What is taken is a program, and says of the element what a second reader of the text says, which
 * knows no programs: it keeps two truths for each open parenthesis and looks only at what counts.
 *
 * Input: a byte of flags (1: a datagram, 2: IPv6, 4: the payload is in two segments), the length of
 * the payload, 4 bytes of ports, 32 of addresses; then payload, then text.
 */
#include "base/expression.h"
#include "base/address.h"
#include "base/assert.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD_BYTES 38

struct element {
	struct cbpf_record record;
	struct iovec segments[2];
	const uint8_t *payload;
	uint32_t bytes;
};

static void read_addresses(struct element *e, const uint8_t *data)
{
	struct ip_address address[2];
	bool v6 = data[0] & 2;

	for (uint32_t i = 0; i < 2; i++) {
		uint32_t v4;
		memcpy(&v4, data + 6 + 16 * i, sizeof(v4));
		address[i] = v6 ? ip_from_bytes(data + 6 + 16 * i) : ip_from_v4(v4);
		if (v6 && ip_is_v4(&address[i])) /* no record has such ones */
			address[i].bytes[0] = 0xfd;
	}
	memcpy(e->record.head.address, &address[0], 16);
	memcpy(e->record.head.local_address, &address[1], 16);
	e->record.head.version = v6 ? 6 : 4;
}

static void make_element(struct element *e, const uint8_t *data)
{
	*e = (struct element){.payload = data + HEAD_BYTES, .bytes = data[1]};
	uint32_t first = data[0] & 4 ? e->bytes / 2 : e->bytes;
	e->segments[0] = (struct iovec){(void *)(uintptr_t)e->payload, first};
	e->segments[1] = (struct iovec){(void *)(uintptr_t)(e->payload + first), e->bytes - first};
	e->record.is_datagram = data[0] & 1;
	e->record.count = 2;
	e->record.segments = e->segments;
	e->record.head.len = htonl(e->bytes);
	memcpy(&e->record.head.port, data + 2, 2);
	memcpy(&e->record.head.local_port, data + 4, 2);
	read_addresses(e, data);
}

/* ---- the second reader: of a text that is good ---- */

struct reader {
	const char *at;
	const struct element *element;
	bool missing; /* a field that counts is not there */
};

static void skip(struct reader *r)
{
	r->at += strspn(r->at, " \t\n");
}

static bool take(struct reader *r, const char *sign)
{
	skip(r);
	bool there = strncmp(r->at, sign, strlen(sign)) == 0;
	r->at += there ? strlen(sign) : 0;
	return there;
}

static uint64_t number(struct reader *r)
{
	char *end;

	skip(r);
	bool hex = r->at[0] == '0' && (r->at[1] == 'x' || r->at[1] == 'X');
	uint64_t value = strtoull(r->at, &end, hex ? 16 : 10);
	r->at = end;
	return value;
}

static uint64_t data_value(struct reader *r)
{
	const struct element *e = r->element;
	uint64_t bytes = 1;
	uint64_t value = 0;

	ASSERT(take(r, "["));
	uint64_t from = number(r);
	if (take(r, ":"))
		bytes = number(r);
	ASSERT(take(r, "]"));
	if (from + bytes > e->bytes) {
		r->missing = true;
		return 0;
	}
	for (uint64_t i = 0; i < bytes; i++)
		value = value << 8 | e->payload[from + i];
	return value;
}

static bool relation(struct reader *r, uint64_t value)
{
	skip(r);
	if (r->at[0] == '&' && r->at[1] != '&') {
		r->at++;
		value &= number(r);
	}
	if (take(r, "=="))
		return value == number(r);
	if (take(r, "!="))
		return value != number(r);
	if (take(r, "<="))
		return value <= number(r);
	if (take(r, ">="))
		return value >= number(r);
	if (take(r, "<"))
		return value < number(r);
	if (take(r, ">"))
		return value > number(r);
	return value != 0;
}

static bool address(struct reader *r, const uint64_t pair[2], uint8_t version)
{
	char text[64];
	const struct ip_address mine = {.pair = {pair[0], pair[1]}};
	struct ip_address other;
	uint32_t v4;
	bool equal = take(r, "==");

	if (!equal)
		ASSERT(take(r, "!="));
	skip(r);
	size_t length = strspn(r->at, "0123456789abcdefABCDEF:.");
	ASSERT(length < sizeof(text));
	memcpy(text, r->at, length);
	text[length] = '\0';
	r->at += length;
	bool is_v4 = inet_pton(AF_INET, text, &v4) == 1;
	if (is_v4)
		other = ip_from_v4(v4);
	else
		ASSERT(inet_pton(AF_INET6, text, other.bytes) == 1);
	uint32_t bits = is_v4 ? 32 : 128;
	if (*r->at == '/') {
		r->at++;
		bits = (uint32_t)number(r);
	}
	bits += is_v4 ? 96 : 0;
	bool of_v4 = ip_is_v4(&other) && bits >= 96;
	return ((version == (of_v4 ? 4 : 6)) && ip_same_prefix(&mine, &other, bits)) == equal;
}

static bool comparison(struct reader *r)
{
	const struct cbpf_head *head = &r->element->record.head;

	skip(r);
	if (take(r, "len"))
		return relation(r, r->element->bytes);
	if (take(r, "data"))
		return relation(r, data_value(r));
	r->missing = !r->element->record.is_datagram;
	if (take(r, "ip.version"))
		return relation(r, head->version);
	if (take(r, "ip.src"))
		return address(r, head->address, head->version);
	if (take(r, "ip.dst"))
		return address(r, head->local_address, head->version);
	if (take(r, "udp.src"))
		return relation(r, ntohs(head->port));
	ASSERT(take(r, "udp.dst"));
	return relation(r, ntohs(head->local_port));
}

/* What is between a parenthesis and its end. */
struct level {
	bool counts; /* its value is looked at */
	bool any;    /* a term before the last || is true */
	bool all;    /* the term since then, as far as it is read, is true */
	bool flip;   /* "!" before the next operand */
};

static void operand(struct level *level, bool value)
{
	level->all = level->all && value != level->flip;
	level->flip = false;
}

/* Reads up to an operator or the end.  Returns whether it goes on. */
static bool more(struct reader *r, struct level *level)
{
	if (take(r, "&&"))
		return true;
	if (!take(r, "||"))
		return false;
	level->any |= level->all;
	level->all = true;
	return true;
}

static bool live(const struct level *level)
{
	return level->counts && !level->any && level->all;
}

static bool evaluate(const char *text, const struct element *element)
{
	struct reader r = {.at = text, .element = element};
	struct level levels[EXPRESSION_DEPTH_MAX + 1] = {{.counts = true, .all = true}};
	struct level *level = levels;

	for (;;) {
		if (take(&r, "(")) {
			level[1] = (struct level){.counts = live(level), .all = true};
			level++;
			continue;
		}
		if (take(&r, "!")) {
			level->flip = !level->flip;
			continue;
		}
		bool counts = live(level);
		r.missing = false;
		operand(level, comparison(&r));
		if (counts && r.missing)
			return false;
		while (take(&r, ")")) {
			bool value = level->any || level->all;
			level--;
			operand(level, value);
		}
		if (!more(&r, level))
			return level->any || level->all;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct expression expression;
	struct expression_error error;
	struct element element;

	if (size < HEAD_BYTES || size < (size_t)HEAD_BYTES + data[1])
		return 0;
	make_element(&element, data);
	size_t length = size - HEAD_BYTES - data[1];
	char *text = malloc(length + 1);
	ASSERT(text);
	memcpy(text, data + HEAD_BYTES + data[1], length);
	text[length] = '\0';
	if (expression_compile(text, &expression, &error) == 0) {
		ASSERT(cbpf_check(expression.program, expression.count) == 0);
		ASSERT(cbpf_run(expression.program, &element.record) == evaluate(text, &element));
	} else {
		ASSERT(error.at >= 1 && error.at <= strlen(text) + 1);
		ASSERT(memchr(error.text, 0, sizeof(error.text)));
	}
	free(text);
	return 0;
}
