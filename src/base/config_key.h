/* SPDX-License-Identifier: MIT
 * base/config_key.h - the key table made from config.def: which keys there are, which values they
 * take, and where in a struct config they stand.
 *
 * Part of base/config.c, which knows the sources of values; others ask config.h.
 */
#pragma once

#include "base/config.h"
#include "base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_KEY_CHOICES_MAX 8
#define CONFIG_KEY_FIELD_MAX   40
#define CONFIG_KEY_NUMBER_MAX  24

enum config_key_type {
	CONFIG_KEY_NUMBER,
	CONFIG_KEY_CHOICE,
	CONFIG_KEY_STRING,
	CONFIG_KEY_MAP,
	CONFIG_KEY_WORDS,
};

struct config_key {
	const char *field;
	const char *path;
	size_t offset; /* of the value in struct config */
	enum config_key_type type;
	int64_t value; /* default of a number or choice */
	int64_t min;
	int64_t max;
	const char *unit;
	const char *choices[CONFIG_KEY_CHOICES_MAX]; /* ended by NULL */
	const char *text;                            /* default of a string, map or words */
	size_t longest;
};

enum {
	CONFIG_KEY_COUNT = 0

#define CONFIG_NUMBER(name, yaml, def, low, high, what, help) +1
#define CONFIG_CHOICE(name, yaml, def, names, help)           +1
#define CONFIG_STRING(name, yaml, def, most, help)            +1
#define CONFIG_MAP(name, yaml, most, help)                    +1
#define CONFIG_WORDS(name, yaml, most, help)                  +1
#define CONFIG_COMPAT(yaml)
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_MAP
#undef CONFIG_WORDS
#undef CONFIG_COMPAT
};

extern const struct config_key config_key_table[CONFIG_KEY_COUNT];

/* NULL: there is none such. */
const struct config_key *config_key_by_field(const char *field);
const struct config_key *config_key_by_path(const char *path);

/* The map that the path is an entry of, and the entry's name; or NULL. */
const struct config_key *config_key_map_of(const char *path, const char **name_out);

/* True for a path that is passed over with all that is below it. */
bool config_key_is_compat(const char *path);

/* True for a path that is the beginning of known ones: "tcp_socket_options.linger". */
bool config_key_is_section(const char *path);

/* Gives the key its default. */
void config_key_reset(const struct config_key *key, struct config *config);

/* Sets the key to the value that the text means.  False if it is not one of the key's: what
 * *config holds for it means nothing then. */
bool config_key_parse(const struct config_key *key, const char *text, struct config *config);

/* Adds an entry to a CONFIG_KEY_MAP.  False if it has no name or value, holds one of the characters
 * that the map's text is made with, or does not fit: the map is as it was. */
bool config_key_add(const struct config_key *key, const char *name, const char *value,
		    struct config *config);

/* Adds a word to a CONFIG_KEY_WORDS; none at all is no word.  False if it holds a blank or does not
 * fit: the text is as it was. */
bool config_key_append(const struct config_key *key, const char *word, struct config *config);

/* One error line that names key, value, where it stood and the range.  -EINVAL, or -ENOTSUP for a
 * libOS of Demikernel that is not built. */
int config_key_refuse(const struct config_key *key, const char *text, const char *where,
		      const struct log *log);

/* The value as text: static, in *config, or written to number. */
const char *config_key_show(const struct config_key *key, const struct config *config,
			    char number[static CONFIG_KEY_NUMBER_MAX]);

/* Name of the chosen value, static.  The key is a CONFIG_KEY_CHOICE. */
const char *config_key_choice(const struct config_key *key, const struct config *config);
