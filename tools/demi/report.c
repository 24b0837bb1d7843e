/* SPDX-License-Identifier: MIT
 * tools/demi/report.c - rows of named values, written as JSON and printed as a table.
 */
#include "report.h"

#include "tool.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_COLUMNS_MAX 24

struct row *report_add(struct report *report)
{
	struct row **rows = reallocarray(report->rows, report->count + 1, sizeof(struct row *));

	if (!rows) {
		tool_complain("out of memory");
		exit(TOOL_FAILED);
	}
	report->rows = rows;
	rows[report->count] = tool_alloc(1, sizeof(**rows));
	return rows[report->count++];
}

void report_free(struct report *report)
{
	for (size_t i = 0; i < report->count; i++) {
		for (size_t j = 0; j < report->rows[i]->count; j++)
			free(report->rows[i]->fields[j].text);
		free(report->rows[i]);
	}
	free(report->rows);
	*report = (struct report){0};
}

static struct field *row_add(struct row *row, const char *key, enum field_kind kind)
{
	struct field *field = &row->fields[row->count];

	assert(row->count < ROW_FIELDS_MAX);
	row->count++;
	field->key = key;
	field->kind = kind;
	return field;
}

void row_text(struct row *row, const char *key, const char *text)
{
	size_t size = strlen(text) + 1;
	struct field *field = row_add(row, key, FIELD_TEXT);

	field->text = tool_alloc(size, 1);
	memcpy(field->text, text, size);
}

void row_whole(struct row *row, const char *key, uint64_t value)
{
	row_add(row, key, FIELD_WHOLE)->whole = value;
}

void row_number(struct row *row, const char *key, double value)
{
	if (isfinite(value))
		row_add(row, key, FIELD_NUMBER)->number = value;
	else
		row_null(row, key);
}

void row_null(struct row *row, const char *key)
{
	row_add(row, key, FIELD_NULL);
}

const struct field *row_find(const struct row *row, const char *key)
{
	for (size_t i = 0; i < row->count; i++) {
		if (strcmp(row->fields[i].key, key) == 0)
			return &row->fields[i];
	}
	return NULL;
}

double row_value(const struct row *row, const char *key)
{
	const struct field *field = row_find(row, key);

	if (!field)
		return 0;
	return field->kind == FIELD_WHOLE ? (double)field->whole : field->number;
}

void json_write_text(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte == '"' || byte == '\\')
			fprintf(file, "\\%c", byte);
		else if (byte < 0x20)
			fprintf(file, "\\u%04x", byte);
		else
			fputc(byte, file);
	}
	fputc('"', file);
}

static void json_write_field(FILE *file, const struct field *field)
{
	json_write_text(file, field->key);
	fputs(": ", file);
	switch (field->kind) {
	case FIELD_TEXT:
		json_write_text(file, field->text);
		break;
	case FIELD_WHOLE:
		fprintf(file, "%llu", (unsigned long long)field->whole);
		break;
	case FIELD_NUMBER:
		fprintf(file, "%.6g", field->number);
		break;
	case FIELD_NULL:
		fputs("null", file);
		break;
	}
}

static void json_write_rows(FILE *file, const struct report *report)
{
	fputs("[", file);
	for (size_t i = 0; i < report->count; i++) {
		fputs(i ? ",\n\t{" : "\n\t{", file);
		for (size_t j = 0; j < report->rows[i]->count; j++) {
			if (j)
				fputs(", ", file);
			json_write_field(file, &report->rows[i]->fields[j]);
		}
		fputs("}", file);
	}
	fputs("\n]\n", file);
}

int report_write_json(const struct report *report, const char *path)
{
	bool to_stdout = strcmp(path, "-") == 0;
	FILE *file = to_stdout ? stdout : fopen(path, "we");
	int error = 0;

	if (!file) {
		tool_complain("--json: %s: %s", path, strerror(errno));
		return -1;
	}
	json_write_rows(file, report);
	if (ferror(file) || (to_stdout ? fflush(file) : fclose(file)) != 0)
		error = errno ? errno : EIO;
	if (error)
		tool_complain("--json: %s: %s", path, strerror(error));
	return error ? -1 : 0;
}

/* The text of one cell. */
static void cell_format(char *cell, size_t room, const struct row *row,
			const struct report_column *column)
{
	const struct field *field = row_find(row, column->key);

	if (!field || field->kind == FIELD_NULL)
		snprintf(cell, room, "-");
	else if (field->kind == FIELD_TEXT)
		snprintf(cell, room, "%s", field->text);
	else
		snprintf(cell, room, "%.*f", column->decimals,
			 row_value(row, column->key) / column->scale);
}

/* Width of a column; 0 if no row has it. */
static int column_width(const struct report *report, const struct report_column *column)
{
	char cell[64];
	int width = 0;

	for (size_t i = 0; i < report->count; i++) {
		if (!row_find(report->rows[i], column->key))
			continue;
		cell_format(cell, sizeof(cell), report->rows[i], column);
		width = (int)strlen(cell) > width ? (int)strlen(cell) : width;
	}
	if (width == 0)
		return 0;
	return (int)strlen(column->heading) > width ? (int)strlen(column->heading) : width;
}

/* One cell: the first column stands to the left, the others to the right. */
static void cell_print(const char *text, int width, bool first)
{
	if (first)
		printf("%-*s", width, text);
	else
		printf("  %*s", width, text);
}

void report_print(const struct report *report, const struct report_column *columns, size_t count)
{
	int widths[REPORT_COLUMNS_MAX];
	char cell[64];

	assert(count <= REPORT_COLUMNS_MAX);
	for (size_t i = 0; i < count; i++) {
		widths[i] = column_width(report, &columns[i]);
		if (widths[i])
			cell_print(columns[i].heading, widths[i], i == 0);
	}
	fputc('\n', stdout);
	for (size_t row = 0; row < report->count; row++) {
		for (size_t i = 0; i < count; i++) {
			cell_format(cell, sizeof(cell), report->rows[row], &columns[i]);
			if (widths[i])
				cell_print(cell, widths[i], i == 0);
		}
		fputc('\n', stdout);
	}
}
