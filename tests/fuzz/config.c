/* SPDX-License-Identifier: MIT
 * tests/fuzz/config.c - any bytes as the configuration file: an answer, no crash, and values in
 * range.
 */
#include "base/config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_message(void *arg, int level, const char *message)
{
	int *errors = arg;

	*errors += level == LOG_LEVEL_ERROR;
	for (size_t i = 0; message[i]; i++) {
		if ((unsigned char)message[i] < ' ' || i == LOG_MESSAGE_MAX)
			abort();
	}
}

static void check_value(int64_t value, int64_t min, int64_t max)
{
	if (value < min || value > max)
		abort();
}

static void check_string(const char *text, size_t longest)
{
	if (strnlen(text, longest + 1) > longest)
		abort();
}

/* Empty, or key=value,key=value. */
static void check_map(const char *text, size_t longest)
{
	size_t equals = 0;

	check_string(text, longest);
	for (size_t i = 0; text[i]; i++) {
		bool mark = text[i] == ',' || text[i] == '=';
		bool at_mark = i == 0 || text[i - 1] == ',' || text[i - 1] == '=';

		if (mark && (at_mark || (text[i] == ',' && equals != 1)))
			abort();
		equals = text[i] == ',' ? 0 : equals + (text[i] == '=');
		if (equals > 1 || (!text[i + 1] && (mark || equals != 1)))
			abort();
	}
}

#define CHOICE_LIST(...) ((const char *const[]){__VA_ARGS__})

static void check_values(const struct config *config)
{
#define CONFIG_NUMBER(field, path, def, min, max, unit, help) check_value(config->field, min, max);
#define CONFIG_CHOICE(field, path, def, choices, help) \
	check_value(config->field, 0,                  \
		    (int64_t)(sizeof(CHOICE_LIST choices) / sizeof(const char *)) - 1);
#define CONFIG_STRING(field, path, def, longest, help) check_string(config->field, longest);
#define CONFIG_MAP(field, path, longest, help)         check_map(config->field, longest);
#define CONFIG_WORDS(field, path, longest, help)       check_string(config->field, longest);
#define CONFIG_COMPAT(path)
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_MAP
#undef CONFIG_WORDS
#undef CONFIG_COMPAT
}

/* An error is told in exactly one line, success in none. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int errors = 0;
	struct log log = {.fn = check_message, .arg = &errors};
	struct config config;

	if (config_load(&config, NULL, NULL, &log))
		return 0;
	int rc = config_parse(&config, "fuzz", (const char *)data, size, &log);
	if (rc != 0 && rc != -EINVAL && rc != -ENOTSUP)
		abort();
	if (errors != (rc != 0))
		abort();
	if (!rc)
		check_values(&config);
	return 0;
}
