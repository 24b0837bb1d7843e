/* SPDX-License-Identifier: MIT
 * tools/demi/json.h - a small JSON reader: a document becomes a tree of values. Depth is bounded; a
 * value's texts live in the tree, which json_free drops.
 */
#pragma once

#include <stddef.h>

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_TEXT, JSON_ARRAY, JSON_OBJECT };

struct json {
	enum json_kind kind;
	char *key;  /* in an object; else NULL */
	char *text; /* of a text, number or bool, as to be shown; else NULL */
	struct json *first, *last, *next;
};

/* The document, or NULL if it is no JSON. */
struct json *json_read(const char *document, size_t length);
void json_free(struct json *value);

const struct json *json_find(const struct json *object, const char *key);

/* How a value looks in one cell. */
const char *json_show(const struct json *value);
