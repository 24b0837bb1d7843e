/* SPDX-License-Identifier: MIT
 * tools/demi/report.h - the result of a benchmark: rows of named values, written as JSON and
 * printed as a table.
 *
 * A row owns copies of its texts; keys are literals. The report owns its rows; report_free drops
 * them all.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum field_kind { FIELD_TEXT, FIELD_WHOLE, FIELD_NUMBER, FIELD_NULL };

struct field {
	const char *key;
	enum field_kind kind;
	char *text;
	uint64_t whole;
	double number;
};

#define ROW_FIELDS_MAX 64

struct row {
	struct field fields[ROW_FIELDS_MAX];
	size_t count;
};

struct report {
	struct row **rows;
	size_t count;
};

/* One column of the printed table: the field's value divided by scale, with so many decimals. */
struct report_column {
	const char *key;
	const char *heading;
	double scale;
	int decimals;
};

struct row *report_add(struct report *report);
void report_free(struct report *report);

void row_text(struct row *row, const char *key, const char *text);
void row_whole(struct row *row, const char *key, uint64_t value);
void row_number(struct row *row, const char *key, double value);
void row_null(struct row *row, const char *key);
const struct field *row_find(const struct row *row, const char *key);

/* A field as a number; 0 if the row has none such. */
double row_value(const struct row *row, const char *key);

/* Writes an array of flat objects to the file; "-" is standard output. 0, or -1 after a complaint.
 */
int report_write_json(const struct report *report, const char *path);

/* Prints the columns that at least one row has. */
void report_print(const struct report *report, const struct report_column *columns, size_t count);

/* Writes text as a JSON string, quotes included. */
void json_write_text(FILE *file, const char *text);
