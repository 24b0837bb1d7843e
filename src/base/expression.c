/* SPDX-License-Identifier: MIT
 * base/expression.c - see expression.h.
 *
 * One pass makes instructions while it reads.  A comparison ends in a jump, both ends of which lead
 * nowhere at first: they are in a list of its true ends and one of its false ends, linked by next,
 * until what comes behind is known.  So "!" exchanges two lists, and "&&" joins two.
 *
 * Invariant: each end of a jump that was not patched is in exactly one list of the stack or of the
 * operand that was read last.
 */
#include "base/expression.h"

#include "base/address.h"
#include "base/assert.h"
#include "base/bits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define NOWHERE UINT16_MAX /* the end of a list */
#define RETURNS 2          /* instructions that end the program */

/* Ends of jumps: instruction times two, and one more for the false end. */
struct ends {
	uint16_t yes;
	uint16_t no;
};

enum open_kind { OPEN_PARENTHESIS, OPEN_NOT, OPEN_AND, OPEN_OR };

/* What waits for its right side. */
struct open {
	enum open_kind kind;
	uint32_t at;      /* in the text */
	struct ends left; /* what of the left side waits for the whole */
};

struct parser {
	const char *text;
	const char *at;
	struct expression *out;
	struct expression_error *error;
	uint32_t depth;
	struct open open[EXPRESSION_DEPTH_MAX];
	uint16_t next[2 * CBPF_MAX];
};

enum field_kind { FIELD_NUMBER, FIELD_ADDRESS, FIELD_DATA };

struct field {
	const char *name;
	enum field_kind kind;
	uint32_t place; /* in the record */
	uint32_t bytes;
	uint32_t max;
};

static const struct field fields[] = {
	{"len", FIELD_NUMBER, offsetof(struct cbpf_head, len), 4, UINT32_MAX},
	{"ip.version", FIELD_NUMBER, offsetof(struct cbpf_head, version), 1, UINT8_MAX},
	{"ip.src", FIELD_ADDRESS, offsetof(struct cbpf_head, address), 16, 0},
	{"ip.dst", FIELD_ADDRESS, offsetof(struct cbpf_head, local_address), 16, 0},
	{"udp.src", FIELD_NUMBER, offsetof(struct cbpf_head, port), 2, UINT16_MAX},
	{"udp.dst", FIELD_NUMBER, offsetof(struct cbpf_head, local_port), 2, UINT16_MAX},
	{"data", FIELD_DATA, CBPF_DATA, 1, UINT8_MAX},
};

/* ---- text ---- */

static bool refuse(struct parser *p, const char *where, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Always false. */
static bool refuse(struct parser *p, const char *where, const char *format, ...)
{
	va_list arguments;

	p->error->at = (uint32_t)(where - p->text) + 1;
	va_start(arguments, format);
	(void)vsnprintf(p->error->text, sizeof(p->error->text), format, arguments);
	va_end(arguments);
	return false;
}

static void skip_space(struct parser *p)
{
	p->at += strspn(p->at, " \t\n");
}

/* Takes a sign that stands next. */
static bool take(struct parser *p, const char *sign)
{
	skip_space(p);
	if (strncmp(p->at, sign, strlen(sign)) != 0)
		return false;
	p->at += strlen(sign);
	return true;
}

static uint32_t digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return (uint32_t)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (uint32_t)(c - 'a') + 10;
	return c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10 : UINT32_MAX;
}

/* At most max, for what. */
static bool read_number(struct parser *p, uint32_t max, const char *what, uint32_t *value)
{
	skip_space(p);
	const char *start = p->at;
	uint32_t base = start[0] == '0' && (start[1] == 'x' || start[1] == 'X') ? 16 : 10;
	const char *digits = start + (base == 16 ? 2 : 0);
	uint64_t number = 0;

	for (p->at = digits; digit_of(*p->at) < base; p->at++) {
		number = number * base + digit_of(*p->at);
		if (number > max)
			return refuse(p, start, "%s is at most %u", what, max);
	}
	if (p->at == digits)
		return refuse(p, start, "a number must stand here");
	*value = (uint32_t)number;
	return true;
}

/* ---- instructions ---- */

static bool emit(struct parser *p, uint16_t code, uint32_t k)
{
	if (p->out->count == CBPF_MAX - RETURNS)
		return refuse(p, p->at, "too long: more than %d instructions", CBPF_MAX);
	p->out->program[p->out->count++] = (struct sock_filter){.code = code, .k = k};
	return true;
}

static bool emit_load(struct parser *p, uint32_t place, uint32_t bytes)
{
	uint16_t size = bytes == 4 ? BPF_W : bytes == 2 ? BPF_H : BPF_B;

	return emit(p, BPF_LD | BPF_ABS | size, place);
}

static bool emit_and(struct parser *p, uint32_t mask)
{
	return mask == UINT32_MAX || emit(p, BPF_ALU | BPF_AND | BPF_K, mask);
}

static uint16_t *end_of(struct parser *p, uint16_t end)
{
	return &p->next[end];
}

/* The jump's ends are the operand's. */
static bool emit_jump(struct parser *p, uint16_t kind, uint32_t k, struct ends *ends)
{
	uint16_t i = (uint16_t)p->out->count;

	if (!emit(p, BPF_JMP | BPF_K | kind, k))
		return false;
	*ends = (struct ends){.yes = (uint16_t)(2 * i), .no = (uint16_t)(2 * i + 1)};
	*end_of(p, ends->yes) = NOWHERE;
	*end_of(p, ends->no) = NOWHERE;
	return true;
}

/* All of a list lead to the next instruction. */
static void patch(struct parser *p, uint16_t list)
{
	while (list != NOWHERE) {
		uint32_t i = list / 2U;
		uint8_t distance = (uint8_t)(p->out->count - i - 1);
		if (list % 2)
			p->out->program[i].jf = distance;
		else
			p->out->program[i].jt = distance;
		list = *end_of(p, list);
	}
}

static uint16_t join(struct parser *p, uint16_t a, uint16_t b)
{
	uint16_t last = a;

	if (a == NOWHERE)
		return b;
	while (*end_of(p, last) != NOWHERE)
		last = *end_of(p, last);
	*end_of(p, last) = b;
	return a;
}

static struct ends negate(struct ends ends)
{
	return (struct ends){.yes = ends.no, .no = ends.yes};
}

/* ---- comparisons ---- */

/* One more condition, behind one whose true ends lead here. */
static bool emit_also(struct parser *p, uint32_t k, struct ends *ends)
{
	struct ends more;

	if (!emit_jump(p, BPF_JEQ, k, &more))
		return false;
	*ends = (struct ends){.yes = more.yes, .no = join(p, ends->no, more.no)};
	return true;
}

static bool emit_prefix(struct parser *p, uint32_t place, const struct ip_address *address,
			uint32_t bits, struct ends *ends)
{
	bool v4 = ip_is_v4(address) && bits >= 96;

	if (!emit_load(p, offsetof(struct cbpf_head, version), 1) ||
	    !emit_jump(p, BPF_JEQ, v4 ? 4 : 6, ends))
		return false;
	for (uint32_t i = v4 ? 3 : 0; i < 4 && bits > i * 32; i++) {
		uint32_t left = bits - i * 32;
		uint32_t mask = left < 32 ? ~(UINT32_MAX >> left) : UINT32_MAX;
		patch(p, ends->yes);
		if (!emit_load(p, place + i * 4, 4) || !emit_and(p, mask) ||
		    !emit_also(p, ntohl(address->words[i]) & mask, ends))
			return false;
	}
	return true;
}

/* An address as inet_pton reads it, with or without its bits. */
static bool read_prefix(struct parser *p, struct ip_address *address, uint32_t *bits)
{
	char text[INET6_ADDRSTRLEN];
	uint32_t v4;

	skip_space(p);
	const char *start = p->at;
	size_t length = strspn(start, "0123456789abcdefABCDEF:.");
	size_t kept = length < sizeof(text) ? length : 0;
	memcpy(text, start, kept);
	text[kept] = '\0';
	bool is_v4 = inet_pton(AF_INET, text, &v4) == 1;
	if (is_v4)
		*address = ip_from_v4(v4);
	else if (inet_pton(AF_INET6, text, address->bytes) != 1)
		return refuse(p, start, "an address must stand here, as 10.0.0.0/8 or fd00::1");
	p->at += length;
	*bits = is_v4 ? 32 : 128;
	if (*p->at == '/') {
		p->at++;
		if (!read_number(p, *bits, "a prefix of this address", bits))
			return false;
	}
	*bits += is_v4 ? 96 : 0;
	return true;
}

static bool read_address(struct parser *p, const struct field *field, struct ends *ends)
{
	struct ip_address address;
	uint32_t bits = 0;
	bool equal = take(p, "==");

	if (!equal && !take(p, "!="))
		return refuse(p, p->at, "== or != must stand behind %s", field->name);
	if (!read_prefix(p, &address, &bits) || !emit_prefix(p, field->place, &address, bits, ends))
		return false;
	if (!equal)
		*ends = negate(*ends);
	return true;
}

struct relation {
	const char *sign;
	uint16_t jump;
	bool inverted;
};

/* Longer signs first. */
static const struct relation relations[] = {
	{"==", BPF_JEQ, false}, {"!=", BPF_JEQ, true}, {"<=", BPF_JGT, true},
	{">=", BPF_JGE, false}, {"<", BPF_JGE, true},  {">", BPF_JGT, false},
};

/* NULL: none stands here. */
static const struct relation *take_relation(struct parser *p)
{
	for (size_t i = 0; i < ARRAY_LENGTH(relations); i++) {
		if (take(p, relations[i].sign))
			return &relations[i];
	}
	return NULL;
}

/* One "&", not two. */
static bool take_mask_sign(struct parser *p)
{
	skip_space(p);
	if (p->at[0] != '&' || p->at[1] == '&')
		return false;
	p->at++;
	return true;
}

static bool read_comparison(struct parser *p, const struct field *field, struct ends *ends)
{
	uint32_t mask = UINT32_MAX;
	uint32_t value = 0;

	if (!emit_load(p, field->place, field->bytes))
		return false;
	if (take_mask_sign(p) &&
	    (!read_number(p, field->max, field->name, &mask) || !emit_and(p, mask)))
		return false;
	const struct relation *relation = take_relation(p);
	if (relation && !read_number(p, field->max, field->name, &value))
		return false;
	if (!relation)
		relation = &relations[1];
	if (!emit_jump(p, relation->jump, value, ends))
		return false;
	if (relation->inverted)
		*ends = negate(*ends);
	return true;
}

/* "[I]" or "[I:N]" behind data: the field that it names. */
static bool read_index(struct parser *p, struct field *field)
{
	uint32_t index;

	if (!take(p, "["))
		return refuse(p, p->at, "[ must stand behind data");
	if (!read_number(p, CBPF_DATA_MAX - 4, "an index of data", &index))
		return false;
	if (take(p, ":")) {
		skip_space(p);
		const char *start = p->at;
		if (!read_number(p, UINT32_MAX, "a number", &field->bytes))
			return false;
		if (field->bytes != 1 && field->bytes != 2 && field->bytes != 4)
			return refuse(p, start, "as many bytes as 1, 2 or 4");
	}
	field->place = CBPF_DATA + index;
	field->max = UINT32_MAX >> (32 - 8 * field->bytes);
	return take(p, "]") || refuse(p, p->at, "] must stand here");
}

static size_t name_length(const char *text)
{
	return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.");
}

static const struct field *find_field(const char *name, size_t length)
{
	for (size_t i = 0; i < ARRAY_LENGTH(fields); i++) {
		if (strlen(fields[i].name) == length && memcmp(fields[i].name, name, length) == 0)
			return &fields[i];
	}
	return NULL;
}

static bool read_field(struct parser *p, struct ends *ends)
{
	size_t length = name_length(p->at);
	const struct field *found = find_field(p->at, length);

	if (!found)
		return refuse(p, p->at,
			      "%s: ip.version, ip.src, ip.dst, udp.src, udp.dst, len, data",
			      length > 0 ? "no such field" : "a field must stand here");
	struct field field = *found;
	p->at += length;
	p->out->wants_datagram |= field.place > 0 && field.place < CBPF_DATA;
	p->out->wants_local_address |= field.place == offsetof(struct cbpf_head, local_address);
	p->out->wants_local_port |= field.place == offsetof(struct cbpf_head, local_port);
	if (field.kind == FIELD_ADDRESS)
		return read_address(p, &field, ends);
	if (field.kind == FIELD_DATA && !read_index(p, &field))
		return false;
	return read_comparison(p, &field, ends);
}

/* ---- how they are joined ---- */

static bool push(struct parser *p, enum open_kind kind, struct ends left)
{
	if (p->depth == EXPRESSION_DEPTH_MAX)
		return refuse(p, p->at, "more than %d deep", EXPRESSION_DEPTH_MAX);
	p->open[p->depth++] =
		(struct open){.kind = kind, .at = (uint32_t)(p->at - p->text) - 1, .left = left};
	return true;
}

static const struct open *top(const struct parser *p)
{
	return p->depth > 0 ? &p->open[p->depth - 1] : NULL;
}

/* Joins what binds at least as tightly as kind to its right side, which is complete. */
static void reduce(struct parser *p, enum open_kind kind, struct ends *ends)
{
	for (; top(p) && top(p)->kind != OPEN_PARENTHESIS && top(p)->kind <= kind; p->depth--) {
		const struct open *open = top(p);
		if (open->kind == OPEN_NOT)
			*ends = negate(*ends);
		else if (open->kind == OPEN_AND)
			ends->no = join(p, open->left.no, ends->no);
		else
			ends->yes = join(p, open->left.yes, ends->yes);
	}
}

/* Up to a comparison, and that. */
static bool read_operand(struct parser *p, struct ends *ends)
{
	const struct ends none = {NOWHERE, NOWHERE};

	for (;;) {
		enum open_kind kind = OPEN_NOT;
		if (take(p, "("))
			kind = OPEN_PARENTHESIS;
		else if (!take(p, "!"))
			return read_field(p, ends);
		if (!push(p, kind, none))
			return false;
	}
}

static bool close_parentheses(struct parser *p, struct ends *ends)
{
	reduce(p, OPEN_NOT, ends);
	while (take(p, ")")) {
		reduce(p, OPEN_OR, ends);
		if (p->depth == 0)
			return refuse(p, p->at - 1, ") without (");
		p->depth--;
		reduce(p, OPEN_NOT, ends);
	}
	return true;
}

/* The operator behind an operand; *more: there was one. */
static bool read_operator(struct parser *p, struct ends ends, bool *more)
{
	*more = true;
	if (take(p, "&&")) {
		reduce(p, OPEN_AND, &ends);
		patch(p, ends.yes);
		return push(p, OPEN_AND, (struct ends){.yes = NOWHERE, .no = ends.no});
	}
	if (take(p, "||")) {
		reduce(p, OPEN_OR, &ends);
		patch(p, ends.no);
		return push(p, OPEN_OR, (struct ends){.yes = ends.yes, .no = NOWHERE});
	}
	*more = false;
	skip_space(p);
	return *p->at == '\0' || refuse(p, p->at, "&&, || or the end must stand here");
}

static bool read_expression(struct parser *p, struct ends *ends)
{
	for (bool more = true; more;) {
		if (!read_operand(p, ends) || !close_parentheses(p, ends) ||
		    !read_operator(p, *ends, &more))
			return false;
	}
	reduce(p, OPEN_OR, ends);
	return p->depth == 0 || refuse(p, p->text + top(p)->at, "( without )");
}

int expression_compile(const char *text, struct expression *out, struct expression_error *error)
{
	struct parser p = {.text = text, .at = text, .out = out, .error = error};
	struct ends ends = {NOWHERE, NOWHERE};

	*out = (struct expression){.count = 0};
	if (!read_expression(&p, &ends))
		return -EINVAL;
	patch(&p, ends.yes);
	out->program[out->count++] = (struct sock_filter){.code = BPF_RET | BPF_K, .k = 1};
	patch(&p, ends.no);
	out->program[out->count++] = (struct sock_filter){.code = BPF_RET | BPF_K, .k = 0};
	ASSERT(cbpf_check(out->program, out->count) == 0);
	return 0;
}
