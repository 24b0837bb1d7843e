/* SPDX-License-Identifier: MIT
 * tools/demi/json.c - a small JSON reader (RFC 8259; \u escapes above ASCII are shown as they are
 * written).
 */
#include "json.h"

#include "tool.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32

/* What is left of the document. */
struct reader {
	const char *at, *end;
	unsigned depth;
};

static struct json *read_value(struct reader *reader);

static void skip_space(struct reader *reader)
{
	while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) && *reader->at)
		reader->at++;
}

/* Takes the character if it is next, after white space. */
static bool take(struct reader *reader, char wanted)
{
	skip_space(reader);
	if (reader->at == reader->end || *reader->at != wanted)
		return false;
	reader->at++;
	return true;
}

static char *copy_text(const char *from, size_t length)
{
	char *text = tool_alloc(length + 1, 1);

	memcpy(text, from, length);
	return text;
}

/* The character that \letter stands for; 0 if it is none. */
static char escaped(char letter)
{
	static const char letters[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	const char *found = strchr(letters, letter);

	return letter && found ? meanings[found - letters] : 0;
}

static int hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* The 4 hexadecimal digits of \u; above 0xffff: they are none. */
static unsigned read_hex(const char *digits)
{
	unsigned code = 0;

	for (int i = 0; i < 4; i++) {
		int value = hex_value(digits[i]);

		if (value < 0)
			return 0x10000;
		code = code << 4 | (unsigned)value;
	}
	return code;
}

/* One character, or escape, of a text. The bytes it takes in the document; 0: bad. */
static size_t read_character(const struct reader *reader, char *character)
{
	const char *at = reader->at;
	unsigned code;

	*character = *at;
	if (*at != '\\')
		return 1;
	if (reader->end - at < 2)
		return 0;
	*character = escaped(at[1]);
	if (*character)
		return 2;
	if (at[1] != 'u' || reader->end - at < 6)
		return 0;
	code = read_hex(at + 2);
	*character = code < 0x80 ? (char)code : '?';
	return code > 0xffff ? 0 : 6;
}

/* Bytes up to the closing quote; at least what the text needs. */
static size_t text_span(const struct reader *reader)
{
	const char *at = reader->at;

	while (at < reader->end && *at != '"')
		at += *at == '\\' && reader->end - at > 1 ? 2 : 1;
	return (size_t)(at - reader->at);
}

/* A text after its opening quote; NULL: bad. */
static char *read_text(struct reader *reader)
{
	char *text = tool_alloc(text_span(reader) + 1, 1);
	size_t length = 0;

	while (reader->at < reader->end && *reader->at != '"') {
		size_t taken = read_character(reader, &text[length++]);

		if (taken == 0)
			break;
		reader->at += taken;
	}
	if (reader->at < reader->end && *reader->at == '"') {
		reader->at++;
		return text;
	}
	free(text);
	return NULL;
}

static void append(struct json *parent, struct json *child)
{
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
}

/* NOLINTBEGIN(misc-no-recursion): as deep as DEPTH_MAX */

/* One member of an object or array. Whether it was good. */
static bool read_member(struct reader *reader, struct json *parent)
{
	char *key = NULL;
	struct json *child;

	if (parent->kind == JSON_OBJECT) {
		if (!take(reader, '"'))
			return false;
		key = read_text(reader);
		if (!key || !take(reader, ':')) {
			free(key);
			return false;
		}
	}
	child = read_value(reader);
	if (!child) {
		free(key);
		return false;
	}
	child->key = key;
	append(parent, child);
	return true;
}

/* An object or array after its opening bracket. Whether it was good. */
static bool read_members(struct reader *reader, struct json *parent, char close)
{
	bool good = true;

	if (take(reader, close))
		return true;
	if (++reader->depth > DEPTH_MAX)
		return false;
	do
		good = read_member(reader, parent);
	while (good && take(reader, ','));
	reader->depth--;
	return good && take(reader, close);
}

/* A number, true, false or null: the characters that such a word can have. */
static bool read_word(struct reader *reader, struct json *value)
{
	const char *begin = reader->at;
	size_t length;

	while (reader->at < reader->end &&
	       (isalnum((unsigned char)*reader->at) || strchr("+-.", *reader->at)) && *reader->at)
		reader->at++;
	length = (size_t)(reader->at - begin);
	if (length == 0)
		return false;
	value->text = copy_text(begin, length);
	if (strcmp(value->text, "null") == 0)
		value->kind = JSON_NULL;
	else if (strcmp(value->text, "true") == 0 || strcmp(value->text, "false") == 0)
		value->kind = JSON_BOOL;
	else
		value->kind = JSON_NUMBER;
	return value->kind != JSON_NUMBER || *begin == '-' || isdigit((unsigned char)*begin);
}

static bool fill_value(struct reader *reader, struct json *value)
{
	if (take(reader, '{')) {
		value->kind = JSON_OBJECT;
		return read_members(reader, value, '}');
	}
	if (take(reader, '[')) {
		value->kind = JSON_ARRAY;
		return read_members(reader, value, ']');
	}
	if (take(reader, '"')) {
		value->kind = JSON_TEXT;
		value->text = read_text(reader);
		return value->text != NULL;
	}
	return read_word(reader, value);
}

static struct json *read_value(struct reader *reader)
{
	struct json *value = tool_alloc(1, sizeof(*value));

	if (fill_value(reader, value))
		return value;
	json_free(value);
	return NULL;
}

/* NOLINTEND(misc-no-recursion) */

struct json *json_read(const char *document, size_t length)
{
	struct reader reader = {.at = document, .end = document + length};
	struct json *value = read_value(&reader);

	skip_space(&reader);
	if (value && reader.at == reader.end)
		return value;
	json_free(value);
	return NULL;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as DEPTH_MAX */
void json_free(struct json *value)
{
	while (value) {
		struct json *next = value->next;

		json_free(value->first);
		free(value->key);
		free(value->text);
		free(value);
		value = next;
	}
}

const struct json *json_find(const struct json *object, const char *key)
{
	for (const struct json *child = object ? object->first : NULL; child; child = child->next) {
		if (child->key && strcmp(child->key, key) == 0)
			return child;
	}
	return NULL;
}

const char *json_show(const struct json *value)
{
	if (!value || value->kind == JSON_NULL)
		return "-";
	if (value->text)
		return value->text;
	return value->first ? "..." : "-";
}
