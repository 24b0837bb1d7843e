/* SPDX-License-Identifier: MIT
 * base/config.h - configuration: defaults < file < environment < API, all from the one key table
 * config.def.
 *
 * A struct config is a plain value: filled once when an instance is made, read-only afterwards.
 */
#pragma once

#include "base/log.h"

#include <stddef.h>
#include <stdint.h>

struct config {
#define CONFIG_NUMBER(field, path, def, min, max, unit, help) int64_t field;
#define CONFIG_CHOICE(field, path, def, choices, help)        int64_t field;
#define CONFIG_STRING(field, path, def, longest, help)        char field[(longest) + 1];
#define CONFIG_MAP(field, path, longest, help)                char field[(longest) + 1];
#define CONFIG_WORDS(field, path, longest, help)              char field[(longest) + 1];
#define CONFIG_COMPAT(path)
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_MAP
#undef CONFIG_WORDS
#undef CONFIG_COMPAT
};

/* Values that were set by the API before an instance is made: a list of (key, text) owned by the
 * thread, at most one entry a key.  An empty list is NULL. */
struct config_override;

/* Adds, replaces (or with value NULL removes) an override.  The key is a field name or its YAML
 * path; the value is copied.  -EINVAL (logged with key, value and range), -ENOTSUP (a libOS of
 * Demikernel that is not built), -ENOMEM: the list is as it was. */
int config_override_set(struct config_override **list, const char *key, const char *value,
			const struct log *log);
void config_override_free(struct config_override **list);

/* Fills *config: defaults, then the YAML file at path (NULL: none), then the environment, then the
 * overrides.  Unknown keys of the file and of DEMI_* are warned of and ignored; an empty variable
 * counts as not set.  A bad value is -EINVAL (-ENOTSUP: a libOS of Demikernel that is not built)
 * with one error line that names the key, the value, where it stood and the range.  File errors:
 * -ENOENT, -EACCES, -EFBIG (above 1 MiB) ...; bad YAML is -EINVAL with its line number; -ENOMEM.
 * After an error *config means nothing.  Blocks for the read of the file; leaves errno alone. */
int config_load(struct config *config, const char *path, const struct config_override *overrides,
		const struct log *log);

/* The file's part of config_load, on bytes in memory: sets what they say in *config, which holds
 * valid values already.  name stands for the file in log lines.  -EINVAL, -ENOTSUP, -ENOMEM. */
int config_parse(struct config *config, const char *name, const char *bytes, size_t num_bytes,
		 const struct log *log);

/* Name of the chosen value of a CONFIG_CHOICE key ("adaptive"), static.  field is one. */
const char *config_choice_name(const struct config *config, const char *field);

/* Calls fn for each key, in the table's order, with its present value as text (alive during the
 * call): for `demi stat`. */
void config_each(const struct config *config,
		 void (*fn)(void *arg, const char *field, const char *value), void *arg);
