/* SPDX-License-Identifier: MIT
 * tests/packet/parse.c - the text of a packet script: a recursive descent over its characters.
 *
 * The first error ends the parse; it names the line and what was found.  A function that parses
 * something returns false after an error.
 */
#include "packet/parse.h"

#include "packet/expr.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NESTING_MAX 16
#define WORD_MAX    64

/* ---- memory ---- */

struct arena_block {
	struct arena_block *next;
	max_align_t bytes[];
};

void *parse_alloc(struct parser *p, size_t bytes)
{
	struct arena_block *block = calloc(1, sizeof(*block) + bytes);

	if (!block)
		abort(); /* a test program: out of memory is out of luck */
	block->next = p->script->arena;
	p->script->arena = block;
	return block->bytes;
}

const char *parse_copy(struct parser *p, const char *from, size_t length)
{
	char *copy = parse_alloc(p, length + 1);

	memcpy(copy, from, length);
	return copy;
}

void script_free(struct script *script)
{
	struct arena_block *block = script->arena;

	while (block) {
		struct arena_block *next = block->next;
		free(block);
		block = next;
	}
	script->arena = NULL;
}

/* ---- characters ---- */

bool parse_error(struct parser *p, const char *format, ...)
{
	va_list args;
	char what[SCRIPT_ERROR_MAX / 2];

	if (p->script->error[0])
		return false;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	snprintf(p->script->error, SCRIPT_ERROR_MAX, "%s:%d: %s", p->script->path, p->line, what);
	return false;
}

int parse_peek(const struct parser *p)
{
	return p->at < p->end ? (unsigned char)*p->at : 0;
}

static bool starts(const struct parser *p, const char *text)
{
	size_t length = strlen(text);

	return (size_t)(p->end - p->at) >= length && memcmp(p->at, text, length) == 0;
}

static void step(struct parser *p, size_t count)
{
	for (; count > 0 && p->at < p->end; count--) {
		if (*p->at == '\n')
			p->line++;
		p->at++;
	}
}

/* Steps behind text, or to the end. */
static void step_behind(struct parser *p, const char *text)
{
	while (p->at < p->end && !starts(p, text))
		step(p, 1);
	step(p, strlen(text));
}

void parse_space(struct parser *p)
{
	while (p->at < p->end) {
		if (isspace(parse_peek(p)))
			step(p, 1);
		else if (starts(p, "//"))
			step_behind(p, "\n");
		else if (starts(p, "/*"))
			step_behind(p, "*/");
		else
			return;
	}
}

bool parse_accept(struct parser *p, const char *text)
{
	parse_space(p);
	if (!starts(p, text))
		return false;
	step(p, strlen(text));
	return true;
}

/* What stands here, for messages. */
static const char *here(struct parser *p)
{
	size_t length = 0;

	while (length < sizeof(p->shown) - 1 && p->at + length < p->end && p->at[length] != '\n') {
		char c = p->at[length];
		p->shown[length++] = isprint((unsigned char)c) ? c : '?';
	}
	p->shown[length] = '\0';
	return length > 0 ? p->shown : "end of line";
}

bool parse_expect(struct parser *p, const char *text)
{
	if (parse_accept(p, text))
		return true;
	return parse_error(p, "expected `%s`, found `%s`", text, here(p));
}

static bool is_word(int c)
{
	return isalnum(c) || c == '_';
}

bool parse_word(struct parser *p, char word[WORD_MAX])
{
	size_t length = 0;

	parse_space(p);
	while (is_word(parse_peek(p)) && length < WORD_MAX - 1) {
		word[length++] = *p->at;
		step(p, 1);
	}
	word[length] = '\0';
	return length > 0;
}

/* A keyword that no further letter follows. */
bool parse_accept_word(struct parser *p, const char *word)
{
	struct parser saved = *p;
	char found[WORD_MAX];

	if (parse_word(p, found) && strcmp(found, word) == 0)
		return true;
	p->at = saved.at;
	p->line = saved.line;
	return false;
}

bool parse_number(struct parser *p, int64_t *value)
{
	char digits[WORD_MAX];
	size_t length = 0;
	char *end;

	parse_space(p);
	if (parse_peek(p) == '-') {
		digits[length++] = '-';
		step(p, 1);
	}
	while (isalnum(parse_peek(p)) && length < WORD_MAX - 1) {
		digits[length++] = *p->at;
		step(p, 1);
	}
	digits[length] = '\0';
	errno = 0;
	*value = strtoll(digits, &end, 0);
	if (length == 0 || *end || errno || end == digits)
		return parse_error(p, "expected a number, found `%s%s`", digits, here(p));
	return true;
}

bool parse_range(struct parser *p, uint64_t max, const char *what, uint32_t *value)
{
	int64_t number;

	if (!parse_number(p, &number))
		return false;
	if (number < 0 || (uint64_t)number > max)
		return parse_error(p, "%s %lld is not within 0 and %llu", what, (long long)number,
				   (unsigned long long)max);
	*value = (uint32_t)number;
	return true;
}

/* ---- time ---- */

static bool parse_time(struct parser *p, int64_t *ns)
{
	char digits[WORD_MAX];
	size_t length = 0;
	int64_t whole = 0;
	int64_t part = 0;
	int64_t unit = SCRIPT_NS_PER_S;

	parse_space(p);
	while (isdigit(parse_peek(p)) || (parse_peek(p) == '.' && !starts(p, "..."))) {
		if (length < WORD_MAX - 1)
			digits[length++] = *p->at;
		step(p, 1);
	}
	digits[length] = '\0';
	size_t i = 0;
	for (; isdigit((unsigned char)digits[i]); i++) {
		if (whole > 100000000)
			return parse_error(p, "a time above 100000000 s");
		whole = whole * 10 + (digits[i] - '0');
	}
	if (digits[i] == '.') {
		for (i++; isdigit((unsigned char)digits[i]); i++) {
			unit /= 10;
			part += (digits[i] - '0') * unit;
		}
	}
	if (length == 0 || digits[i] || (length == 1 && digits[0] == '.'))
		return parse_error(p, "expected a time, found `%s%s`", digits, here(p));
	*ns = whole * SCRIPT_NS_PER_S + part;
	return true;
}

static bool parse_event_time(struct parser *p, struct event *event)
{
	if (parse_accept(p, "*")) {
		event->time = TIME_ANY;
		return true;
	}
	event->time = parse_accept(p, "+") ? TIME_RELATIVE : TIME_ABSOLUTE;
	if (!parse_time(p, &event->at_ns))
		return false;
	if (!parse_accept(p, "~"))
		return true;
	event->has_range = true;
	if (event->time == TIME_RELATIVE && !parse_accept(p, "+"))
		return parse_error(p, "the end of a relative range begins with +");
	if (!parse_time(p, &event->until_ns))
		return false;
	if (event->until_ns < event->at_ns)
		return parse_error(p, "a range that ends before it begins");
	return true;
}

/* ---- expressions ---- */

static bool parse_expr(struct parser *p, struct expr **out);

/* Items up to a closing character; *first is the list. */
static bool parse_items(struct parser *p, const char *close, struct expr **first)
{
	struct expr **tail = first;

	*first = NULL;
	if (parse_accept(p, close))
		return true;
	do {
		if (!parse_expr(p, tail))
			return false;
		tail = &(*tail)->next;
	} while (parse_accept(p, ","));
	return parse_expect(p, close);
}

static bool parse_string(struct parser *p, struct expr *expr)
{
	const char *start = p->at;

	while (p->at < p->end && *p->at != '"' && *p->at != '\n')
		step(p, 1);
	if (parse_peek(p) != '"')
		return parse_error(p, "a string that does not end");
	expr->kind = EXPR_STRING;
	expr->text = parse_copy(p, start, (size_t)(p->at - start));
	step(p, 1);
	return true;
}

/* A constant, a call, or a field of a struct with its value. */
static bool parse_named(struct parser *p, struct expr *expr)
{
	char word[WORD_MAX];

	if (!parse_word(p, word))
		return parse_error(p, "expected an argument, found `%s`", here(p));
	expr->text = parse_copy(p, word, strlen(word));
	if (parse_accept(p, "(")) {
		expr->kind = EXPR_CALL;
		if (!parse_items(p, ")", &expr->items))
			return false;
	} else {
		expr->kind = symbol_find(word, &expr->number) ? EXPR_NUMBER : EXPR_NAME;
	}
	parse_space(p);
	if (!p->in_struct || parse_peek(p) != '=')
		return true;
	step(p, 1);
	const char *field = expr->text;
	struct expr *value;
	if (!parse_expr(p, &value))
		return false;
	*expr = *value;
	expr->field = field;
	return true;
}

static bool parse_primary(struct parser *p, struct expr *expr)
{
	bool in_struct = p->in_struct;
	bool ok;

	parse_space(p);
	if (parse_accept(p, "...")) {
		expr->kind = EXPR_ELLIPSIS;
		return true;
	}
	if (parse_accept(p, "\""))
		return parse_string(p, expr);
	if (parse_accept(p, "[")) {
		expr->kind = EXPR_LIST;
		p->in_struct = false;
		ok = parse_items(p, "]", &expr->items);
		p->in_struct = in_struct;
		return ok;
	}
	if (parse_accept(p, "{")) {
		expr->kind = EXPR_STRUCT;
		p->in_struct = true;
		ok = parse_items(p, "}", &expr->items);
		p->in_struct = in_struct;
		return ok;
	}
	(void)(p->in_struct && parse_accept(p, "."));
	if (isdigit(parse_peek(p)) || parse_peek(p) == '-') {
		expr->kind = EXPR_NUMBER;
		return parse_number(p, &expr->number);
	}
	return parse_named(p, expr);
}

static bool both_numbers(struct parser *p, const struct expr *a, const struct expr *b)
{
	if (a->kind == EXPR_NUMBER && b->kind == EXPR_NUMBER)
		return true;
	const struct expr *bad = a->kind == EXPR_NUMBER ? b : a;
	return parse_error(p, "`%s` is no constant that is known here",
			   bad->text ? bad->text : "an operand");
}

/* primary, or primaries joined by |, + or *, which are done from left to right */
static bool parse_expr(struct parser *p, struct expr **out)
{
	struct expr *expr = parse_alloc(p, sizeof(*expr));

	*out = expr;
	if (++p->nesting > NESTING_MAX)
		return parse_error(p, "nested too deeply");
	bool ok = parse_primary(p, expr);
	while (ok) {
		int op;
		parse_space(p);
		op = parse_peek(p);
		/* Behind a result + and * begin the time of the next event. */
		if (op != '|' && (p->in_result || (op != '*' && op != '+')))
			break;
		step(p, 1);
		struct expr right = {0};
		ok = parse_primary(p, &right) && both_numbers(p, expr, &right);
		uint64_t a = (uint64_t)expr->number;
		uint64_t b = (uint64_t)right.number;
		expr->number = (int64_t)(op == '|' ? a | b : op == '*' ? a * b : a + b);
	}
	p->nesting--;
	return ok;
}

/* ---- calls ---- */

/* (some words) */
static void skip_note(struct parser *p)
{
	parse_space(p);
	if (parse_peek(p) != '(')
		return;
	while (parse_peek(p) && parse_peek(p) != ')' && parse_peek(p) != '\n')
		step(p, 1);
	(void)parse_accept(p, ")");
}

static bool parse_error_name(struct parser *p, struct call_spec *call)
{
	char word[WORD_MAX];
	int64_t number;

	parse_space(p);
	if (parse_peek(p) != 'E')
		return true;
	(void)parse_word(p, word);
	if (!symbol_find(word, &number))
		return parse_error(p, "`%s` is no errno that is known here", word);
	call->error = parse_copy(p, word, strlen(word));
	call->error_number = (int)number;
	return true;
}

static bool parse_call(struct parser *p, struct call_spec *call)
{
	char word[WORD_MAX];

	if (!parse_word(p, word))
		return parse_error(p,
				   "expected a packet, a call, a `command` or %%{ }%%, found `%s`",
				   here(p));
	call->name = parse_copy(p, word, strlen(word));
	if (!parse_expect(p, "(") || !parse_items(p, ")", &call->args))
		return false;
	if (!parse_accept(p, "="))
		return true;
	p->in_result = true;
	bool ok = parse_expr(p, &call->result);
	p->in_result = false;
	if (!ok)
		return false;
	if (call->result->kind != EXPR_NUMBER && call->result->kind != EXPR_ELLIPSIS)
		return parse_error(p, "the result of a call is a number or ...");
	if (!parse_error_name(p, call))
		return false;
	skip_note(p);
	return true;
}

/* ---- events ---- */

/* Text up to a closing mark, which is stepped over. */
static bool parse_text(struct parser *p, const char *close, const char **text)
{
	const char *start = p->at;

	while (p->at < p->end && !starts(p, close))
		step(p, 1);
	if (p->at >= p->end)
		return parse_error(p, "`%s` is missing", close);
	*text = parse_copy(p, start, (size_t)(p->at - start));
	step(p, strlen(close));
	return true;
}

static bool parse_assert(struct parser *p, struct event *event)
{
	char why[128];
	int line = p->line;

	event->kind = EVENT_ASSERT;
	if (!parse_text(p, "}%", &event->text))
		return false;
	if (expr_check(event->text, why, sizeof(why)))
		return true;
	p->line = line;
	return parse_error(p, "%s", why);
}

static bool parse_action(struct parser *p, struct event *event)
{
	parse_space(p);
	event->line = p->line;
	if (starts(p, "...")) {
		step(p, 3);
		event->kind = EVENT_CALL;
		event->call.blocking = true;
		return parse_time(p, &event->call.end_ns) && parse_call(p, &event->call);
	}
	if (parse_peek(p) == '<' || parse_peek(p) == '>') {
		event->kind = EVENT_PACKET;
		return parse_packet(p, &event->packet);
	}
	if (parse_accept(p, "`")) {
		event->kind = EVENT_COMMAND;
		return parse_text(p, "`", &event->text);
	}
	if (parse_accept(p, "%{"))
		return parse_assert(p, event);
	event->kind = EVENT_CALL;
	return parse_call(p, &event->call);
}

/* A command in front of all events has no time. */
static bool parse_event(struct parser *p, struct event *event)
{
	parse_space(p);
	if (parse_peek(p) == '`') {
		event->time = TIME_RELATIVE;
		return parse_action(p, event);
	}
	return parse_event_time(p, event) && parse_action(p, event);
}

static bool parse_option_line(struct parser *p, struct option_line **out)
{
	char word[WORD_MAX];
	struct option_line *option = parse_alloc(p, sizeof(*option));

	option->line = p->line;
	if (!parse_word(p, word))
		return parse_error(p, "-- without a name");
	option->name = parse_copy(p, word, strlen(word));
	option->value = "";
	if (parse_peek(p) == '=' || parse_peek(p) == ' ') {
		step(p, 1);
		const char *start = p->at;
		while (parse_peek(p) && !isspace(parse_peek(p)))
			step(p, 1);
		option->value = parse_copy(p, start, (size_t)(p->at - start));
	}
	*out = option;
	return true;
}

static bool parse_script(struct parser *p)
{
	struct option_line **option_tail = &p->script->options;
	struct event **event_tail = &p->script->events;

	while (parse_accept(p, "--")) {
		if (!parse_option_line(p, option_tail))
			return false;
		option_tail = &(*option_tail)->next;
	}
	for (;;) {
		parse_space(p);
		if (p->at >= p->end)
			return true;
		struct event *event = parse_alloc(p, sizeof(*event));
		if (!parse_event(p, event))
			return false;
		*event_tail = event;
		event_tail = &event->next;
	}
}

int script_parse(struct script *script, const char *name, const char *bytes, size_t num_bytes)
{
	struct parser p = {.script = script, .at = bytes, .end = bytes + num_bytes, .line = 1};

	*script = (struct script){.path = name};
	return parse_script(&p) ? 0 : -1;
}
