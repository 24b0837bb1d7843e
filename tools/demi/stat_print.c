/* SPDX-License-Identifier: MIT
 * tools/demi/stat_print.c - an instance's document as text: it knows JSON, not what the members
 * mean, so that an instance may say new things.
 */
#include "stat_print.h"

#include "tool.h"

#include <stdio.h>
#include <string.h>

#define COLUMNS_MAX 32
#define WIDTH_MAX   48
#define TABLE_WIDTH 160 /* of a table that is not turned, if that helps */

struct column {
	const char *key;
	int width;
};

struct columns {
	struct column columns[COLUMNS_MAX];
	size_t count;
};

static int cell_width(const char *text)
{
	size_t length = strlen(text);

	return length > WIDTH_MAX ? WIDTH_MAX : (int)length;
}

static void widen(struct columns *columns, const struct json *cell)
{
	int width = cell_width(json_show(cell));
	size_t i = 0;

	while (i < columns->count && strcmp(columns->columns[i].key, cell->key) != 0)
		i++;
	if (i == COLUMNS_MAX)
		return;
	if (i == columns->count)
		columns->columns[columns->count++] =
			(struct column){cell->key, cell_width(cell->key)};
	if (width > columns->columns[i].width)
		columns->columns[i].width = width;
}

static int row_width(const struct json *row)
{
	int width = 0;

	for (const struct json *cell = row->first; cell; cell = cell->next) {
		if (cell_width(json_show(cell)) > width)
			width = cell_width(json_show(cell));
	}
	return width;
}

static int key_width(const struct columns *columns)
{
	int width = 0;

	for (size_t i = 0; i < columns->count; i++) {
		if (cell_width(columns->columns[i].key) > width)
			width = cell_width(columns->columns[i].key);
	}
	return width;
}

/* Is it too wide, and narrower with a line for each key? */
static bool better_turned(const struct json *rows, const struct columns *columns)
{
	int upright = 0;
	int turned = 2 + key_width(columns);

	for (size_t i = 0; i < columns->count; i++)
		upright += 2 + columns->columns[i].width;
	for (const struct json *row = rows->first; row; row = row->next)
		turned += 2 + row_width(row);
	return upright > TABLE_WIDTH && turned < upright;
}

static void print_turned(const struct json *rows, const struct columns *columns)
{
	int width = key_width(columns);

	for (size_t i = 0; i < columns->count; i++) {
		printf("  %-*s", width, columns->columns[i].key);
		for (const struct json *row = rows->first; row; row = row->next)
			printf("  %-*.*s", row_width(row), WIDTH_MAX,
			       json_show(json_find(row, columns->columns[i].key)));
		putchar('\n');
	}
}

/* An array of flat objects: a column for each key that one of them has. */
static void print_table(const struct json *rows)
{
	struct columns columns = {0};

	for (const struct json *row = rows->first; row; row = row->next) {
		for (const struct json *cell = row->first; cell; cell = cell->next)
			widen(&columns, cell);
	}
	if (better_turned(rows, &columns)) {
		print_turned(rows, &columns);
		return;
	}
	for (size_t i = 0; i < columns.count; i++)
		printf("  %-*s", columns.columns[i].width, columns.columns[i].key);
	putchar('\n');
	for (const struct json *row = rows->first; row; row = row->next) {
		for (size_t i = 0; i < columns.count; i++)
			printf("  %-*.*s", columns.columns[i].width, WIDTH_MAX,
			       json_show(json_find(row, columns.columns[i].key)));
		putchar('\n');
	}
}

static void print_values(const struct json *object, const char *indent)
{
	int width = 0;

	for (const struct json *value = object->first; value; value = value->next) {
		if (!value->first && value->key && cell_width(value->key) > width)
			width = cell_width(value->key);
	}
	for (const struct json *value = object->first; value; value = value->next) {
		if (value->kind != JSON_ARRAY && value->kind != JSON_OBJECT)
			printf("%s%-*s  %s\n", indent, width, value->key ? value->key : "",
			       json_show(value));
	}
}

static void print_array(const struct json *array)
{
	if (array->first->kind == JSON_OBJECT) {
		print_table(array);
		return;
	}
	for (const struct json *value = array->first; value; value = value->next)
		printf("  %s\n", json_show(value));
}

/* Sections below a value, as deep as json_read goes: objects and arrays that are not empty. path:
 * the headings above. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as a document may be */
static void print_sections(const struct json *object, const char *path)
{
	for (const struct json *value = object->first; value; value = value->next) {
		char heading[128];

		if (value->kind != JSON_ARRAY && value->kind != JSON_OBJECT)
			continue;
		snprintf(heading, sizeof(heading), "%s%s%s", path, *path ? "." : "",
			 value->key ? value->key : "");
		printf("\n%s%s\n", heading, value->first ? "" : ": none");
		if (!value->first)
			continue;
		if (value->kind == JSON_ARRAY) {
			print_array(value);
			continue;
		}
		print_values(value, "  ");
		print_sections(value, heading);
	}
}

void stat_print(const struct json *document)
{
	print_values(document, "");
	print_sections(document, "");
}

static size_t count_members(const struct json *value)
{
	size_t count = 0;

	for (const struct json *member = value ? value->first : NULL; member; member = member->next)
		count++;
	return count;
}

void stat_print_line(const struct json *document, bool first)
{
	static const struct {
		const char *key, *heading;
		int width;
	} cells[] = {
		{"pid", "pid", 8},       {"instance", "instance", 8},  {"libos", "libos", 10},
		{"engine", "engine", 8}, {"uptime_s", "uptime s", 10},
	};

	if (first) {
		for (size_t i = 0; i < TOOL_COUNT(cells); i++)
			printf("%-*s  ", cells[i].width, cells[i].heading);
		puts("queues    logs");
	}
	for (size_t i = 0; i < TOOL_COUNT(cells); i++)
		printf("%-*s  ", cells[i].width, json_show(json_find(document, cells[i].key)));
	printf("%-8zu  %zu\n", count_members(json_find(document, "queues")),
	       count_members(json_find(document, "logs")));
}
