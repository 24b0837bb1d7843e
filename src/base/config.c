/* SPDX-License-Identifier: MIT
 * base/config.c - the key table at work: defaults, the file, the environment, overrides, and the
 * one error line that names key, value, place and range.
 *
 * Every source of values ends in key_apply; nothing else writes to a struct config.
 */
#include "base/config.h"

#include "base/assert.h"
#include "base/config_yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CHOICES_MAX    8
#define FILE_BYTES_MAX ((size_t)1 << 20)
/* Warnings of one source that are written; a file could cause 300,000. */
#define WARNINGS_MAX   16
#define FIELD_MAX      40
#define VARIABLE_MAX   (FIELD_MAX + (int)sizeof("DEMI_"))
#define NAME_MAX_SHOWN 120

enum key_type { KEY_NUMBER, KEY_CHOICE, KEY_STRING };

struct key {
	const char *field;
	const char *path;
	size_t offset; /* of the value in struct config */
	enum key_type type;
	int64_t value; /* default of a number or choice */
	int64_t min;
	int64_t max;
	const char *unit;
	const char *choices[CHOICES_MAX]; /* ended by NULL */
	const char *text;                 /* default of a string */
	size_t longest;
};

#define CHOICE_LIST(...)          \
	{                         \
		__VA_ARGS__, NULL \
	}

static const struct key keys[] = {
#define CONFIG_NUMBER(name, yaml, def, low, high, what, help) \
	{.field = #name,                                      \
	 .path = (yaml),                                      \
	 .offset = offsetof(struct config, name),             \
	 .type = KEY_NUMBER,                                  \
	 .value = (def),                                      \
	 .min = (low),                                        \
	 .max = (high),                                       \
	 .unit = (what)},
#define CONFIG_CHOICE(name, yaml, def, names, help) \
	{.field = #name,                            \
	 .path = (yaml),                            \
	 .offset = offsetof(struct config, name),   \
	 .type = KEY_CHOICE,                        \
	 .value = (def),                            \
	 .choices = CHOICE_LIST names},
#define CONFIG_STRING(name, yaml, def, most, help) \
	{.field = #name,                           \
	 .path = (yaml),                           \
	 .offset = offsetof(struct config, name),  \
	 .type = KEY_STRING,                       \
	 .text = (def),                            \
	 .longest = (most)},
#define CONFIG_COMPAT(yaml)
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_COMPAT
};

#define NUM_KEYS (sizeof(keys) / sizeof(keys[0]))

/* Paths that are passed over with all that is below them. */
static const char *const compat_paths[] = {
#define CONFIG_NUMBER(name, yaml, def, low, high, what, help)
#define CONFIG_CHOICE(name, yaml, def, names, help)
#define CONFIG_STRING(name, yaml, def, most, help)
#define CONFIG_COMPAT(yaml) (yaml),
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_COMPAT
};

#define NUM_COMPAT_PATHS (sizeof(compat_paths) / sizeof(compat_paths[0]))

/* Relations of the table: numbers are parsed without a sign, and every default is legal. */
#define CONFIG_NUMBER(name, yaml, def, low, high, what, help)                  \
	static_assert(0 <= (low) && (low) <= (def) && (def) <= (high), #name); \
	static_assert(sizeof(#name) <= FIELD_MAX && sizeof(yaml) <= CONFIG_YAML_PATH_MAX, #name);
#define CONFIG_CHOICE(name, yaml, def, names, help) \
	static_assert(sizeof(#name) <= FIELD_MAX && sizeof(yaml) <= CONFIG_YAML_PATH_MAX, #name);
#define CONFIG_STRING(name, yaml, def, most, help)       \
	static_assert(sizeof(def) <= (most) + 1, #name); \
	static_assert(sizeof(#name) <= FIELD_MAX && sizeof(yaml) <= CONFIG_YAML_PATH_MAX, #name);
#define CONFIG_COMPAT(yaml) static_assert(sizeof(yaml) <= CONFIG_YAML_PATH_MAX, yaml);
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_COMPAT

/* libOSes of Demikernel's world: not having one is another error than a name from nowhere. */
static const char *const other_liboses[] = {"catnip",  "catpowder", "catmint",
					    "cattree", "catmem",    "catloop"};

/* Where a value stood: a line of a file, a variable of the environment, or (all zero) the API. */
struct source {
	const char *file;
	uint32_t line;
	const char *variable;
};

/* One load in progress. */
struct load {
	struct config *config;
	const struct log *log;
	const char *file;         /* as shown in log lines */
	uint32_t lines[NUM_KEYS]; /* where the file set a key; 0: not yet */
	uint32_t num_warnings;
};

struct config_override {
	struct config_override *next;
	const struct key *key;
	char text[];
};

/* -- the table */

static const struct key *key_by_field(const char *field)
{
	for (size_t i = 0; i < NUM_KEYS; i++) {
		if (!strcmp(keys[i].field, field))
			return &keys[i];
	}
	return NULL;
}

static const struct key *key_by_path(const char *path)
{
	for (size_t i = 0; i < NUM_KEYS; i++) {
		if (!strcmp(keys[i].path, path))
			return &keys[i];
	}
	return NULL;
}

static bool is_compat(const char *path)
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

/* True for a path that is the beginning of known ones: "tcp_socket_options.linger". */
static bool is_section(const char *path)
{
	for (size_t i = 0; i < NUM_KEYS; i++) {
		if (is_below(keys[i].path, path))
			return true;
	}
	for (size_t i = 0; i < NUM_COMPAT_PATHS; i++) {
		if (is_below(compat_paths[i], path))
			return true;
	}
	return false;
}

static int64_t *value_of(const struct key *key, struct config *config)
{
	return (void *)((char *)config + key->offset);
}

static int64_t value_get(const struct key *key, const struct config *config)
{
	int64_t value;

	memcpy(&value, (const char *)config + key->offset, sizeof(value));
	return value;
}

static bool is_libos(const struct key *key)
{
	return key->offset == offsetof(struct config, libos);
}

/* -- text to value */

/* Bytes may be given in units of 1024: 64k, 16M, 1g.  -1: not such a suffix. */
static int suffix_shift(const struct key *key, const char *suffix)
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

static bool number_parse(const struct key *key, const char *text, int64_t *number)
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

static int choice_find(const struct key *key, const char *text)
{
	for (int i = 0; i < CHOICES_MAX && key->choices[i]; i++) {
		if (!strcasecmp(key->choices[i], text))
			return i;
	}
	return -1;
}

static bool is_switch(const struct key *key)
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

static bool choice_parse(const struct key *key, const char *text, int64_t *choice)
{
	int found = choice_find(key, text);

	if (found < 0 && is_switch(key))
		found = switch_find(text);
	if (found < 0)
		return false;
	*choice = found;
	return true;
}

static bool string_parse(const struct key *key, const char *text, struct config *config)
{
	size_t length = strlen(text);

	if (length > key->longest)
		return false;
	memcpy((char *)config + key->offset, text, length + 1);
	return true;
}

static bool key_parse(const struct key *key, const char *text, struct config *config)
{
	switch (key->type) {
	case KEY_NUMBER:
		return number_parse(key, text, value_of(key, config));
	case KEY_CHOICE:
		return choice_parse(key, text, value_of(key, config));
	case KEY_STRING:
		return string_parse(key, text, config);
	}
	return false;
}

/* -- refusals */

/* Ends of long paths say more than their beginnings. */
static void name_shorten(const char *name, char shown[NAME_MAX_SHOWN + 1])
{
	size_t length = strlen(name);

	if (length <= NAME_MAX_SHOWN)
		(void)snprintf(shown, NAME_MAX_SHOWN + 1, "%s", name);
	else
		(void)snprintf(shown, NAME_MAX_SHOWN + 1, "...%s",
			       name + length - NAME_MAX_SHOWN + 3);
}

static void source_text(const struct source *source, char text[static NAME_MAX_SHOWN + 32])
{
	size_t size = NAME_MAX_SHOWN + 32;

	if (source->file)
		(void)snprintf(text, size, "in %s:%u", source->file, source->line);
	else if (source->variable)
		(void)snprintf(text, size, "in the environment variable %s", source->variable);
	else
		(void)snprintf(text, size, "given to demi_set_config");
}

static void choices_text(const struct key *key, char *text, size_t size)
{
	size_t used = 0;

	for (int i = 0; i < CHOICES_MAX && key->choices[i] && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "",
					 key->choices[i]);
}

static void range_text(const struct key *key, char text[static 160])
{
	char choices[128];

	switch (key->type) {
	case KEY_NUMBER:
		(void)snprintf(text, 160, "is not a number of %s from %" PRId64 " to %" PRId64,
			       key->unit, key->min, key->max);
		break;
	case KEY_CHOICE:
		choices_text(key, choices, sizeof(choices));
		(void)snprintf(text, 160, "is not one of %s", choices);
		break;
	case KEY_STRING:
		(void)snprintf(text, 160, "is longer than %zu bytes", key->longest);
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

static int libos_refuse(const struct key *key, const char *text, const char *where,
			const struct log *log)
{
	bool other = is_other_libos(text);
	char choices[128];

	choices_text(key, choices, sizeof(choices));
	log_write(log, LOG_LEVEL_ERROR, "libos: \"%.64s\" %s is not %s; this build has %s", text,
		  where, other ? "built in" : "a library OS", choices);
	return other ? -ENOTSUP : -EINVAL;
}

static int key_refuse(const struct key *key, const char *text, const struct source *source,
		      const struct log *log)
{
	char where[NAME_MAX_SHOWN + 32];
	char range[160];

	source_text(source, where);
	if (is_libos(key))
		return libos_refuse(key, text, where, log);
	range_text(key, range);
	log_write(log, LOG_LEVEL_ERROR, "%s: \"%.64s\" %s %s", key->field, text, where, range);
	return -EINVAL;
}

static int key_apply(const struct key *key, const char *text, const struct source *source,
		     struct config *config, const struct log *log)
{
	if (!key_parse(key, text, config))
		return key_refuse(key, text, source, log);
	return 0;
}

/* -- defaults */

static void defaults_apply(struct config *config)
{
	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < NUM_KEYS; i++) {
		if (keys[i].type == KEY_STRING)
			(void)string_parse(&keys[i], keys[i].text, config);
		else
			*value_of(&keys[i], config) = keys[i].value;
	}
}

/* -- unknown names, of file and environment */

static bool may_warn(struct load *load)
{
	if (load->num_warnings > WARNINGS_MAX)
		return false;
	if (load->num_warnings++ < WARNINGS_MAX)
		return true;
	log_write(load->log, LOG_LEVEL_WARNING, "further warnings about keys are left out");
	return false;
}

/* -- the file */

static int shape_refuse(const struct load *load, const struct config_yaml_node *node,
			const char *wanted)
{
	log_write(load->log, LOG_LEVEL_ERROR, "%s in %s:%u wants %s", node->path, load->file,
		  node->line, wanted);
	return -EINVAL;
}

/* The last of several lines counts, as with Demikernel; nobody writes two on purpose. */
static void note_line(struct load *load, const struct key *key, const struct config_yaml_node *node)
{
	uint32_t *line = &load->lines[key - keys];

	if (*line && may_warn(load))
		log_write(load->log, LOG_LEVEL_WARNING,
			  "%s in %s:%u overrides the same key in line %u", node->path, load->file,
			  node->line, *line);
	*line = node->line;
}

static int file_key(struct load *load, const struct key *key, const struct config_yaml_node *node)
{
	struct source source = {.file = load->file, .line = node->line};

	if (node->kind != CONFIG_YAML_SCALAR && node->kind != CONFIG_YAML_NULL)
		return shape_refuse(load, node, "one plain value");
	if (strlen(node->text) != node->text_bytes)
		return shape_refuse(load, node, "a value without zero bytes");
	note_line(load, key, node);
	return key_apply(key, node->text, &source, load->config, load->log);
}

static int unknown_key(struct load *load, const struct config_yaml_node *node)
{
	if (may_warn(load))
		log_write(load->log, LOG_LEVEL_WARNING, "unknown key %s in %s:%u is ignored",
			  node->path, load->file, node->line);
	return 0;
}

static int file_node(void *arg, const struct config_yaml_node *node)
{
	struct load *load = arg;
	const struct key *key = key_by_path(node->path);

	if (key)
		return file_key(load, key, node);
	if (is_compat(node->path))
		return 0;
	if (!is_section(node->path))
		return unknown_key(load, node);
	if (node->kind == CONFIG_YAML_MAP)
		return CONFIG_YAML_ENTER;
	/* A section whose keys are all commented out is none. */
	return node->kind == CONFIG_YAML_NULL ? 0 : shape_refuse(load, node, "keys below it");
}

int config_parse(struct config *config, const char *name, const char *bytes, size_t num_bytes,
		 const struct log *log)
{
	char shown[NAME_MAX_SHOWN + 1];
	struct load load = {.config = config, .log = log, .file = shown};

	name_shorten(name, shown);
	return config_yaml_parse(shown, bytes, num_bytes, file_node, &load, log);
}

/* Reads to the end or until the buffer is full. */
static int bytes_read(int fd, char *bytes, size_t room, size_t *num_bytes)
{
	size_t used = 0;

	while (used < room) {
		ssize_t got = read(fd, bytes + used, room - used);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		used += (size_t)got;
	}
	*num_bytes = used;
	return 0;
}

/* The caller frees *bytes, after an error too.  Pipes have no size to ask for: one byte more than
 * is allowed tells a file that is too long. */
static int file_read(const char *path, char **bytes, size_t *num_bytes)
{
	*bytes = malloc(FILE_BYTES_MAX + 1);
	if (!*bytes)
		return -ENOMEM;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	int rc = bytes_read(fd, *bytes, FILE_BYTES_MAX + 1, num_bytes);
	(void)close(fd);
	if (!rc && *num_bytes > FILE_BYTES_MAX)
		rc = -EFBIG;
	return rc;
}

static void file_refuse(const char *path, int error, const struct log *log)
{
	char shown[NAME_MAX_SHOWN + 1];
	const char *why = strerrordesc_np(error);

	name_shorten(path, shown);
	if (error == EFBIG)
		why = "larger than 1 MiB";
	log_write(log, LOG_LEVEL_ERROR, "cannot read the configuration file %s: %s", shown,
		  why ? why : "unknown error");
}

static int file_apply(struct config *config, const char *path, const struct log *log)
{
	int saved_errno = errno;
	size_t num_bytes = 0;
	char *bytes;
	int rc = file_read(path, &bytes, &num_bytes);

	if (rc < 0)
		file_refuse(path, -rc, log);
	else
		rc = config_parse(config, path, bytes, num_bytes, log);
	free(bytes);
	errno = saved_errno;
	return rc;
}

/* -- the environment */

/* An empty variable is none: that is how shells take one away for a single command. */
static const char *variable_get(const char *variable)
{
	const char *text = getenv(variable);

	return text && *text ? text : NULL;
}

static int variable_apply(struct load *load, const struct key *key, const char *variable)
{
	struct source source = {.variable = variable};
	const char *text = variable_get(variable);

	if (!text)
		return 0;
	return key_apply(key, text, &source, load->config, load->log);
}

/* Demikernel's own: LINGER in seconds implies that lingering is on. */
static int demikernel_variables_apply(struct load *load)
{
	int rc = variable_apply(load, key_by_field("libos"), "LIBOS");

	if (!rc)
		rc = variable_apply(load, key_by_field("nodelay"), "NODELAY");
	if (!rc)
		rc = variable_apply(load, key_by_field("linger_seconds"), "LINGER");
	if (!rc && variable_get("LINGER"))
		load->config->linger = 1;
	return rc;
}

static void variable_name(const struct key *key, char variable[static VARIABLE_MAX])
{
	int length = snprintf(variable, VARIABLE_MAX, "DEMI_%s", key->field);

	for (int i = 0; i < length; i++) {
		if (variable[i] >= 'a' && variable[i] <= 'z')
			variable[i] = (char)(variable[i] - 'a' + 'A');
	}
}

static bool is_variable(const char *entry)
{
	size_t length = strcspn(entry, "=");
	char variable[VARIABLE_MAX];

	for (size_t i = 0; i < NUM_KEYS; i++) {
		variable_name(&keys[i], variable);
		if (strlen(variable) == length && !strncmp(variable, entry, length))
			return true;
	}
	return false;
}

static void unknown_variables_warn(struct load *load)
{
	for (char **entry = environ; entry && *entry; entry++) {
		if (strncmp(*entry, "DEMI_", 5) != 0 || is_variable(*entry) || !may_warn(load))
			continue;
		int length = (int)strcspn(*entry, "=");
		log_write(load->log, LOG_LEVEL_WARNING,
			  "unknown environment variable %.*s is ignored", length < 64 ? length : 64,
			  *entry);
	}
}

static int environment_apply(struct config *config, const struct log *log)
{
	struct load load = {.config = config, .log = log};
	char variable[VARIABLE_MAX];
	int rc = demikernel_variables_apply(&load);

	for (size_t i = 0; !rc && i < NUM_KEYS; i++) {
		variable_name(&keys[i], variable);
		rc = variable_apply(&load, &keys[i], variable);
	}
	if (!rc)
		unknown_variables_warn(&load);
	return rc;
}

/* -- overrides */

static struct config_override **override_find(struct config_override **list, const struct key *key)
{
	while (*list && (*list)->key != key)
		list = &(*list)->next;
	return list;
}

static void override_remove(struct config_override **at)
{
	struct config_override *old = *at;

	if (!old)
		return;
	*at = old->next;
	free(old);
}

static struct config_override *override_make(const struct key *key, const char *value)
{
	size_t size = strlen(value) + 1;
	struct config_override *made = malloc(sizeof(*made) + size);

	if (!made)
		return NULL;
	made->key = key;
	memcpy(made->text, value, size);
	return made;
}

static int override_replace(struct config_override **list, const struct key *key, const char *value)
{
	struct config_override *made = override_make(key, value);

	if (!made)
		return -ENOMEM;
	override_remove(override_find(list, key));
	made->next = *list;
	*list = made;
	return 0;
}

int config_override_set(struct config_override **list, const char *name, const char *value,
			const struct log *log)
{
	const struct key *key = key_by_field(name);
	struct source source = {0};
	struct config scratch;

	if (!key)
		key = key_by_path(name);
	if (!key) {
		log_write(log, LOG_LEVEL_ERROR, "unknown key %.128s given to demi_set_config",
			  name);
		return -EINVAL;
	}
	if (!value) {
		override_remove(override_find(list, key));
		return 0;
	}
	int rc = key_apply(key, value, &source, &scratch, log);
	return rc ? rc : override_replace(list, key, value);
}

void config_override_free(struct config_override **list)
{
	while (*list)
		override_remove(list);
}

static int overrides_apply(struct config *config, const struct config_override *overrides,
			   const struct log *log)
{
	struct source source = {0};
	int rc = 0;

	for (; !rc && overrides; overrides = overrides->next)
		rc = key_apply(overrides->key, overrides->text, &source, config, log);
	return rc;
}

/* -- all of it */

int config_load(struct config *config, const char *path, const struct config_override *overrides,
		const struct log *log)
{
	int rc = 0;

	defaults_apply(config);
	if (path)
		rc = file_apply(config, path, log);
	if (!rc)
		rc = environment_apply(config, log);
	if (!rc)
		rc = overrides_apply(config, overrides, log);
	return rc;
}

static const char *choice_name(const struct key *key, const struct config *config)
{
	int64_t choice = value_get(key, config);

	ASSERT(choice >= 0);
	ASSERT(choice < CHOICES_MAX);
	return key->choices[choice];
}

const char *config_choice_name(const struct config *config, const char *field)
{
	const struct key *key = key_by_field(field);

	ASSERT(key);
	ASSERT(key->type == KEY_CHOICE);
	return choice_name(key, config);
}

void config_each(const struct config *config,
		 void (*fn)(void *arg, const char *field, const char *value), void *arg)
{
	char number[24];

	for (size_t i = 0; i < NUM_KEYS; i++) {
		const struct key *key = &keys[i];

		if (key->type == KEY_CHOICE) {
			fn(arg, key->field, choice_name(key, config));
		} else if (key->type == KEY_STRING) {
			fn(arg, key->field, (const char *)config + key->offset);
		} else {
			(void)snprintf(number, sizeof(number), "%" PRId64, value_get(key, config));
			fn(arg, key->field, number);
		}
	}
}
