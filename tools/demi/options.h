/* SPDX-License-Identifier: MIT
 * tools/demi/options.h - command-line options from a table: --name value, --name=value, ranges
 * checked, one line a fault.
 */
#pragma once

#include <stddef.h>

enum option_kind {
	OPTION_FLAG,   /* value is a bool *: no argument */
	OPTION_WHOLE,  /* value is a uint64_t *: a whole number; suffixes k, M and their binary kin
			  Ki, Mi */
	OPTION_NUMBER, /* value is a double * */
	OPTION_TEXT,   /* value is a const char ** */
	OPTION_CHOICE, /* value is a const char **: one of `choices`, separated by '|' */
};

struct option_spec {
	const char *name; /* without the dashes */
	enum option_kind kind;
	void *value;
	double min, max;      /* of OPTION_WHOLE and OPTION_NUMBER */
	const char *choices;  /* of OPTION_CHOICE */
	const char *argument; /* what the help calls the argument; NULL for a flag */
	const char *help;
};

/* What options_parse found besides options. */
struct operands {
	char **words;
	size_t count;
};

enum options_outcome {
	OPTIONS_GOOD,
	OPTIONS_HELP, /* --help or -h was asked for */
	OPTIONS_BAD,  /* one line on stderr said why */
};

/* Reads argv[1..]. Words that are no options are operands, moved to the front of argv[1..]; more
 * than operands_max is a fault. */
enum options_outcome options_parse(const struct option_spec *specs, size_t count, int argc,
				   char **argv, size_t operands_max, struct operands *operands);

#define OPTIONS_TOLD (-1)

/* The same where no operands may be, with what --help asks for: the line of usage and the table.
 * TOOL_GOOD; TOOL_USAGE: it was complained of; OPTIONS_TOLD: there was help, nothing is to be done.
 */
int options_read(const struct option_spec *specs, size_t count, int argc, char **argv,
		 const char *usage);

/* Prints the table of options. */
void options_help(const struct option_spec *specs, size_t count);

/* Reads one number with its range; complains in the name of the option. 0 or -1. */
int option_number(const char *name, const char *text, double min, double max, int whole,
		  double *value);
