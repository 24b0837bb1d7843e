/* SPDX-License-Identifier: MIT
 * base/config_key.c - the key table made from config.def, and one value of it: found by name, read
 * from text, shown as text, refused with its range.
 */
#include "base/config_key.h"

#include "base/assert.h"
#include "base/config_yaml.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CHOICE_LIST(...)          \
	{                         \
		__VA_ARGS__, NULL \
	}

const struct config_key config_key_table[CONFIG_KEY_COUNT] = {
#define CONFIG_NUMBER(name, yaml, def, low, high, what, help) \
	{.field = #name,                                      \
	 .path = (yaml),                                      \
	 .offset = offsetof(struct config, name),             \
	 .type = CONFIG_KEY_NUMBER,                           \
	 .value = (def),                                      \
	 .min = (low),                                        \
	 .max = (high),                                       \
	 .unit = (what)},
#define CONFIG_CHOICE(name, yaml, def, names, help) \
	{.field = #name,                            \
	 .path = (yaml),                            \
	 .offset = offsetof(struct config, name),   \
	 .type = CONFIG_KEY_CHOICE,                 \
	 .value = (def),                            \
	 .choices = CHOICE_LIST names},
#define CONFIG_STRING(name, yaml, def, most, help) \
	{.field = #name,                           \
	 .path = (yaml),                           \
	 .offset = offsetof(struct config, name),  \
	 .type = CONFIG_KEY_STRING,                \
	 .text = (def),                            \
	 .longest = (most)},
#define CONFIG_MAP(name, yaml, most, help)        \
	{.field = #name,                          \
	 .path = (yaml),                          \
	 .offset = offsetof(struct config, name), \
	 .type = CONFIG_KEY_MAP,                  \
	 .text = "",                              \
	 .longest = (most)},
#define CONFIG_WORDS(name, yaml, most, help)      \
	{.field = #name,                          \
	 .path = (yaml),                          \
	 .offset = offsetof(struct config, name), \
	 .type = CONFIG_KEY_WORDS,                \
	 .text = "",                              \
	 .longest = (most)},
#define CONFIG_COMPAT(yaml)
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_MAP
#undef CONFIG_WORDS
#undef CONFIG_COMPAT
};

/* Paths that are passed over with all that is below them. */
static const char *const compat_paths[] = {
#define CONFIG_NUMBER(name, yaml, def, low, high, what, help)
#define CONFIG_CHOICE(name, yaml, def, names, help)
#define CONFIG_STRING(name, yaml, def, most, help)
#define CONFIG_MAP(name, yaml, most, help)
#define CONFIG_WORDS(name, yaml, most, help)
#define CONFIG_COMPAT(yaml) (yaml),
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_MAP
#undef CONFIG_WORDS
#undef CONFIG_COMPAT
};

#define NUM_COMPAT_PATHS (sizeof(compat_paths) / sizeof(compat_paths[0]))

#define NAMES_FIT(field, path) \
	(sizeof(field) <= CONFIG_KEY_FIELD_MAX && sizeof(path) <= CONFIG_YAML_PATH_MAX)

/* Relations of the table: numbers are parsed without a sign, and every default is legal. */
#define CONFIG_NUMBER(name, yaml, def, low, high, what, help)                  \
	static_assert(0 <= (low) && (low) <= (def) && (def) <= (high), #name); \
	static_assert(NAMES_FIT(#name, yaml), #name);
#define CONFIG_CHOICE(name, yaml, def, names, help) static_assert(NAMES_FIT(#name, yaml), #name);
#define CONFIG_STRING(name, yaml, def, most, help)       \
	static_assert(sizeof(def) <= (most) + 1, #name); \
	static_assert(NAMES_FIT(#name, yaml), #name);
#define CONFIG_MAP(name, yaml, most, help)   static_assert(NAMES_FIT(#name, yaml), #name);
#define CONFIG_WORDS(name, yaml, most, help) static_assert(NAMES_FIT(#name, yaml), #name);
#define CONFIG_COMPAT(yaml)                  static_assert(sizeof(yaml) <= CONFIG_YAML_PATH_MAX, yaml);
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_MAP
#undef CONFIG_WORDS
#undef CONFIG_COMPAT

/* libOSes of Demikernel's world: not having one is another error than a name from nowhere. */
static const char *const other_liboses[] = {"cattree"};

/* -- names */

const struct config_key *config_key_by_field(const char *field)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		if (!strcmp(config_key_table[i].field, field))
			return &config_key_table[i];
	}
	return NULL;
}

const struct config_key *config_key_by_path(const char *path)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		if (!strcmp(config_key_table[i].path, path))
			return &config_key_table[i];
	}
	return NULL;
}

bool config_key_is_compat(const char *path)
{
	for (size_t i = 0; i < NUM_COMPAT_PATHS; i++) {
		if (!strcmp(compat_paths[i], path))
			return true;
	}
	return false;
}

static bool is_below(const char *path, const char *section)
{
	size_t length = strlen(section);

	return length && !strncmp(path, section, length) && path[length] == '.';
}

const struct config_key *config_key_map_of(const char *path, const char **name_out)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_key_table[i];

		if (key->type != CONFIG_KEY_MAP || !is_below(path, key->path))
			continue;
		*name_out = path + strlen(key->path) + 1;
		return key;
	}
	return NULL;
}

bool config_key_is_section(const char *path)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		if (is_below(config_key_table[i].path, path))
			return true;
	}
	for (size_t i = 0; i < NUM_COMPAT_PATHS; i++) {
		if (is_below(compat_paths[i], path))
			return true;
	}
	return false;
}

/* -- the value */

static int64_t *value_of(const struct config_key *key, struct config *config)
{
	return (void *)((char *)config + key->offset);
}

static int64_t value_get(const struct config_key *key, const struct config *config)
{
	int64_t value;

	memcpy(&value, (const char *)config + key->offset, sizeof(value));
	return value;
}

void config_key_reset(const struct config_key *key, struct config *config)
{
	if (key->text)
		memcpy((char *)config + key->offset, key->text, strlen(key->text) + 1);
	else
		*value_of(key, config) = key->value;
}

const char *config_key_choice(const struct config_key *key, const struct config *config)
{
	int64_t choice = value_get(key, config);

	ASSERT(choice >= 0);
	ASSERT(choice < CONFIG_KEY_CHOICES_MAX);
	return key->choices[choice];
}

const char *config_key_show(const struct config_key *key, const struct config *config,
			    char number[static CONFIG_KEY_NUMBER_MAX])
{
	switch (key->type) {
	case CONFIG_KEY_NUMBER:
		(void)snprintf(number, CONFIG_KEY_NUMBER_MAX, "%" PRId64, value_get(key, config));
		return number;
	case CONFIG_KEY_CHOICE:
		return config_key_choice(key, config);
	case CONFIG_KEY_STRING:
	case CONFIG_KEY_MAP:
	case CONFIG_KEY_WORDS:
		return (const char *)config + key->offset;
	}
	return "";
}

/* -- text to value */

/* Bytes may be given in units of 1024: 64k, 16M, 1g.  -1: not such a suffix. */
static int suffix_shift(const struct config_key *key, const char *suffix)
{
	if (!*suffix)
		return 0;
	if (strcmp(key->unit, "bytes") != 0 || suffix[1])
		return -1;
	switch (*suffix) {
	case 'k':
	case 'K':
		return 10;
	case 'm':
	case 'M':
		return 20;
	case 'g':
	case 'G':
		return 30;
	default:
		return -1;
	}
}

static bool number_parse(const struct config_key *key, const char *text, int64_t *number)
{
	const char *at = text;
	int64_t value = 0;

	for (; *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, *at - '0', &value))
			return false;
	}
	int shift = suffix_shift(key, at);
	if (at == text || shift < 0 || __builtin_mul_overflow(value, (int64_t)1 << shift, &value))
		return false;
	*number = value;
	return key->min <= value && value <= key->max;
}

static int choice_find(const struct config_key *key, const char *text)
{
	for (int i = 0; i < CONFIG_KEY_CHOICES_MAX && key->choices[i]; i++) {
		if (!strcasecmp(key->choices[i], text))
			return i;
	}
	return -1;
}

static bool is_switch(const struct config_key *key)
{
	return !strcmp(key->choices[0], "false") || !strcmp(key->choices[0], "off");
}

/* The ways that YAML and shells write a truth value; off comes first in the table. */
static int switch_find(const char *text)
{
	static const char *const words[][4] = {{"false", "no", "off", "0"},
					       {"true", "yes", "on", "1"}};

	for (size_t i = 0; i < 8; i++) {
		if (!strcasecmp(words[i / 4][i % 4], text))
			return (int)(i / 4);
	}
	return -1;
}

static bool choice_parse(const struct config_key *key, const char *text, int64_t *choice)
{
	int found = choice_find(key, text);

	if (found < 0 && is_switch(key))
		found = switch_find(text);
	if (found < 0)
		return false;
	*choice = found;
	return true;
}

static bool string_parse(const struct config_key *key, const char *text, struct config *config)
{
	size_t length = strlen(text);

	if (length > key->longest)
		return false;
	memcpy((char *)config + key->offset, text, length + 1);
	return true;
}

/* key=value, as long as the text of one entry says. */
static bool is_entry(const char *text, size_t length)
{
	const char *equals = memchr(text, '=', length);

	if (!equals || equals == text || equals + 1 == text + length)
		return false;
	return !memchr(equals + 1, '=', length - (size_t)(equals + 1 - text));
}

static bool is_map(const char *text)
{
	if (!*text)
		return true;
	for (;;) {
		size_t length = strcspn(text, ",");

		if (!is_entry(text, length))
			return false;
		if (!text[length])
			return true;
		text += length + 1;
	}
}

bool config_key_add(const struct config_key *key, const char *name, const char *value,
		    struct config *config)
{
	char *map = (char *)config + key->offset;
	size_t used = strlen(map);
	size_t comma = used > 0;

	if (!*name || !*value || strpbrk(name, ",=") || strpbrk(value, ",=") ||
	    comma + strlen(name) + 1 + strlen(value) > key->longest - used)
		return false;
	(void)snprintf(map + used, key->longest - used + 1, "%s%s=%s", comma ? "," : "", name,
		       value);
	return true;
}

bool config_key_append(const struct config_key *key, const char *word, struct config *config)
{
	char *text = (char *)config + key->offset;
	size_t used = strlen(text);
	size_t blank = used > 0;

	if (strchr(word, ' ') || blank + strlen(word) > key->longest - used)
		return false;
	if (*word)
		(void)snprintf(text + used, key->longest - used + 1, "%s%s", blank ? " " : "",
			       word);
	return true;
}

bool config_key_parse(const struct config_key *key, const char *text, struct config *config)
{
	switch (key->type) {
	case CONFIG_KEY_NUMBER:
		return number_parse(key, text, value_of(key, config));
	case CONFIG_KEY_CHOICE:
		return choice_parse(key, text, value_of(key, config));
	case CONFIG_KEY_STRING:
	case CONFIG_KEY_WORDS:
		return string_parse(key, text, config);
	case CONFIG_KEY_MAP:
		return is_map(text) && string_parse(key, text, config);
	}
	return false;
}

/* -- refusals */

static void choices_text(const struct config_key *key, char *text, size_t size)
{
	size_t used = 0;

	for (int i = 0; i < CONFIG_KEY_CHOICES_MAX && key->choices[i] && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "",
					 key->choices[i]);
}

static void range_text(const struct config_key *key, char text[static 160])
{
	char choices[128];

	switch (key->type) {
	case CONFIG_KEY_NUMBER:
		(void)snprintf(text, 160, "is not a number of %s from %" PRId64 " to %" PRId64,
			       key->unit, key->min, key->max);
		break;
	case CONFIG_KEY_CHOICE:
		choices_text(key, choices, sizeof(choices));
		(void)snprintf(text, 160, "is not one of %s", choices);
		break;
	case CONFIG_KEY_STRING:
	case CONFIG_KEY_WORDS:
		(void)snprintf(text, 160, "is longer than %zu bytes", key->longest);
		break;
	case CONFIG_KEY_MAP:
		(void)snprintf(text, 160, "is not a list key=value,key=value of at most %zu bytes",
			       key->longest);
		break;
	}
}

static bool is_other_libos(const char *name)
{
	for (size_t i = 0; i < sizeof(other_liboses) / sizeof(other_liboses[0]); i++) {
		if (!strcasecmp(other_liboses[i], name))
			return true;
	}
	return false;
}

static bool is_libos(const struct config_key *key)
{
	return key->offset == offsetof(struct config, libos);
}

static int libos_refuse(const struct config_key *key, const char *text, const char *where,
			const struct log *log)
{
	bool other = is_other_libos(text);
	char choices[128];

	choices_text(key, choices, sizeof(choices));
	log_write(log, LOG_LEVEL_ERROR, "libos: \"%.64s\" %s is not %s; this build has %s", text,
		  where, other ? "built in" : "a library OS", choices);
	return other ? -ENOTSUP : -EINVAL;
}

int config_key_refuse(const struct config_key *key, const char *text, const char *where,
		      const struct log *log)
{
	char range[160];

	if (is_libos(key))
		return libos_refuse(key, text, where, log);
	range_text(key, range);
	log_write(log, LOG_LEVEL_ERROR, "%s: \"%.64s\" %s %s", key->field, text, where, range);
	return -EINVAL;
}
