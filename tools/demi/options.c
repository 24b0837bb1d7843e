/* SPDX-License-Identifier: MIT
 * tools/demi/options.c - command-line options from a table.
 */
#include "options.h"

#include "tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Factor of a unit that follows a number; 0: no such unit. */
static double unit_factor(const char *unit)
{
	static const struct {
		const char *unit;
		double factor;
	} units[] = {
		{"", 1},       {"k", 1e3}, {"K", 1024},     {"Ki", 1024},
		{"KiB", 1024}, {"M", 1e6}, {"Mi", 1048576}, {"MiB", 1048576},
	};

	for (size_t i = 0; i < TOOL_COUNT(units); i++) {
		if (strcmp(units[i].unit, unit) == 0)
			return units[i].factor;
	}
	return 0;
}

int option_number(const char *name, const char *text, double min, double max, int whole,
		  double *value)
{
	char *end;
	double number = strtod(text, &end);
	double factor = end == text ? 0 : unit_factor(end);

	number *= factor;
	if (factor == 0 || !isfinite(number) || (whole && number != floor(number))) {
		tool_complain("--%s: '%s' is not a %snumber", name, text, whole ? "whole " : "");
		return -1;
	}
	if (number < min || number > max) {
		tool_complain("--%s: %s is not between %.12g and %.12g", name, text, min, max);
		return -1;
	}
	*value = number;
	return 0;
}

static bool choice_holds(const char *choices, const char *text)
{
	size_t length = strlen(text);

	for (const char *choice = choices; choice; choice = strchr(choice, '|')) {
		choice += *choice == '|';
		if (length > 0 && strncmp(choice, text, length) == 0 &&
		    (choice[length] == '|' || choice[length] == '\0'))
			return true;
	}
	return false;
}

static int option_set(const struct option_spec *spec, const char *text)
{
	double number;

	switch (spec->kind) {
	case OPTION_FLAG:
		*(bool *)spec->value = true;
		return 0;
	case OPTION_WHOLE:
		if (option_number(spec->name, text, spec->min, spec->max, 1, &number) < 0)
			return -1;
		*(uint64_t *)spec->value = (uint64_t)number;
		return 0;
	case OPTION_NUMBER:
		return option_number(spec->name, text, spec->min, spec->max, 0, spec->value);
	case OPTION_CHOICE:
		if (!choice_holds(spec->choices, text)) {
			tool_complain("--%s: '%s' is not one of %s", spec->name, text,
				      spec->choices);
			return -1;
		}
		break;
	case OPTION_TEXT:
		break;
	}
	*(const char **)spec->value = text;
	return 0;
}

/* The option that argument (after its dashes) names, and its text after '=', if any. */
static const struct option_spec *option_find(const struct option_spec *specs, size_t count,
					     const char *argument, const char **text)
{
	size_t length = strcspn(argument, "=");

	*text = argument[length] == '=' ? argument + length + 1 : NULL;
	for (size_t i = 0; i < count; i++) {
		if (strlen(specs[i].name) == length &&
		    strncmp(specs[i].name, argument, length) == 0)
			return &specs[i];
	}
	tool_complain("--%.*s: no such option (--help lists them)", (int)length, argument);
	return NULL;
}

/* One option at argv[*at]; *at moves on over the argument that it takes. */
static int option_take(const struct option_spec *specs, size_t count, int argc, char **argv,
		       int *at)
{
	const char *text;
	const struct option_spec *spec = option_find(specs, count, argv[*at] + 2, &text);

	if (!spec)
		return -1;
	if (spec->kind == OPTION_FLAG && text) {
		tool_complain("--%s: takes no argument", spec->name);
		return -1;
	}
	if (spec->kind != OPTION_FLAG && !text) {
		if (*at + 1 >= argc) {
			tool_complain("--%s: needs an argument", spec->name);
			return -1;
		}
		text = argv[++*at];
	}
	return option_set(spec, text);
}

enum options_outcome options_parse(const struct option_spec *specs, size_t count, int argc,
				   char **argv, size_t operands_max, struct operands *operands)
{
	operands->words = argv + 1;
	operands->count = 0;
	for (int at = 1; at < argc; at++) {
		if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)
			return OPTIONS_HELP;
		if (strncmp(argv[at], "--", 2) == 0) {
			if (option_take(specs, count, argc, argv, &at) < 0)
				return OPTIONS_BAD;
		} else if (argv[at][0] == '-' && argv[at][1] != '\0') {
			tool_complain("%s: no such option (--help lists them)", argv[at]);
			return OPTIONS_BAD;
		} else if (operands->count == operands_max) {
			tool_complain("%s: one word too many", argv[at]);
			return OPTIONS_BAD;
		} else {
			operands->words[operands->count++] = argv[at];
		}
	}
	return OPTIONS_GOOD;
}

void options_help(const struct option_spec *specs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char head[64];

		snprintf(head, sizeof(head), "--%s%s%s", specs[i].name,
			 specs[i].argument ? " " : "", specs[i].argument ? specs[i].argument : "");
		printf("  %-24s %s\n", head, specs[i].help);
	}
}

int options_read(const struct option_spec *specs, size_t count, int argc, char **argv,
		 const char *usage)
{
	struct operands none;

	switch (options_parse(specs, count, argc, argv, 0, &none)) {
	case OPTIONS_HELP:
		printf("usage: %s\n", usage);
		options_help(specs, count);
		return OPTIONS_TOLD;
	case OPTIONS_BAD:
		return TOOL_USAGE;
	case OPTIONS_GOOD:
		break;
	}
	return TOOL_GOOD;
}
