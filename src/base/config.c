/* SPDX-License-Identifier: MIT
 * base/config.c - the sources of values, in their order: defaults, the file, the environment,
 * overrides.
 *
 * Each says where a value stood; what the keys are and which values they take is config_key.c's.
 * All but the defaults end in key_apply.
 */
#include "base/config.h"

#include "base/assert.h"
#include "base/config_key.h"
#include "base/config_yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)
/* Warnings of one source that are written; a file could cause 300,000. */
#define WARNINGS_MAX   16
#define VARIABLE_MAX   (CONFIG_KEY_FIELD_MAX + (int)sizeof("DEMI_"))
#define NAME_MAX_SHOWN 120

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
	const char *file;                 /* as shown in log lines */
	uint32_t lines[CONFIG_KEY_COUNT]; /* where the file set a key; 0: not yet */
	uint32_t num_warnings;
};

struct config_override {
	struct config_override *next;
	const struct config_key *key;
	char text[];
};

/* -- where a value stood */

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

static int key_apply(const struct config_key *key, const char *text, const struct source *source,
		     struct config *config, const struct log *log)
{
	char where[NAME_MAX_SHOWN + 32];

	if (config_key_parse(key, text, config))
		return 0;
	source_text(source, where);
	return config_key_refuse(key, text, where, log);
}

/* -- defaults */

static void defaults_apply(struct config *config)
{
	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
		config_key_reset(&config_key_table[i], config);
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
static void note_line(struct load *load, const struct config_key *key,
		      const struct config_yaml_node *node)
{
	uint32_t *line = &load->lines[key - config_key_table];

	if (*line && may_warn(load))
		log_write(load->log, LOG_LEVEL_WARNING,
			  "%s in %s:%u overrides the same key in line %u", node->path, load->file,
			  node->line, *line);
	*line = node->line;
}

static int file_word(struct load *load, const struct config_key *key,
		     const struct config_yaml_node *node)
{
	if (strlen(node->text) != node->text_bytes)
		return shape_refuse(load, node, "words without zero bytes");
	if (config_key_append(key, node->text, load->config))
		return 0;
	return shape_refuse(load, node, "fewer words, and no blanks in them");
}

static const char *shape(const struct config_key *key)
{
	switch (key->type) {
	case CONFIG_KEY_MAP:
		return "a map of plain values";
	case CONFIG_KEY_WORDS:
		return "a list of words";
	default:
		return "one plain value";
	}
}

static int file_key(struct load *load, const struct config_key *key,
		    const struct config_yaml_node *node)
{
	struct source source = {.file = load->file, .line = node->line};

	if (node->kind == CONFIG_YAML_ITEM)
		return file_word(load, key, node);
	if ((key->type == CONFIG_KEY_MAP && node->kind == CONFIG_YAML_MAP) ||
	    (key->type == CONFIG_KEY_WORDS && node->kind == CONFIG_YAML_LIST)) {
		note_line(load, key, node);
		config_key_reset(key, load->config);
		return CONFIG_YAML_ENTER;
	}
	if (node->kind != CONFIG_YAML_SCALAR && node->kind != CONFIG_YAML_NULL)
		return shape_refuse(load, node, shape(key));
	if (strlen(node->text) != node->text_bytes)
		return shape_refuse(load, node, "a value without zero bytes");
	note_line(load, key, node);
	/* No text is an empty one, however YAML writes it; no number is none. */
	const char *text = key->text && node->kind == CONFIG_YAML_NULL ? "" : node->text;
	return key_apply(key, text, &source, load->config, load->log);
}

/* An entry of a map, as the rest of the path names it. */
static int file_entry(struct load *load, const struct config_key *key, const char *name,
		      const struct config_yaml_node *node)
{
	char entry[2 * CONFIG_YAML_PATH_MAX];
	char where[NAME_MAX_SHOWN + 32];
	struct source source = {.file = load->file, .line = node->line};

	if (node->kind != CONFIG_YAML_SCALAR)
		return shape_refuse(load, node, "one plain value");
	if (strlen(node->text) != node->text_bytes)
		return shape_refuse(load, node, "a value without zero bytes");
	if (strlen(node->path) == CONFIG_YAML_PATH_MAX - 1)
		return shape_refuse(load, node, "a shorter name");
	if (config_key_add(key, name, node->text, load->config))
		return 0;
	(void)snprintf(entry, sizeof(entry), "%s=%s", name, node->text);
	source_text(&source, where);
	return config_key_refuse(key, entry, where, load->log);
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
	const struct config_key *key = config_key_by_path(node->path);
	const char *name;

	if (key)
		return file_key(load, key, node);
	key = config_key_map_of(node->path, &name);
	if (key)
		return file_entry(load, key, name, node);
	if (config_key_is_compat(node->path))
		return 0;
	if (!config_key_is_section(node->path))
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

static int variable_apply(struct load *load, const struct config_key *key, const char *variable)
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
	static const struct {
		const char *field;
		const char *variable;
	} known[] = {
		{"libos", "LIBOS"},
		{"nodelay", "NODELAY"},
		{"linger_seconds", "LINGER"},
		{"local_ipv4_addr", "LOCAL_IPV4_ADDR"},
		{"mac", "LOCAL_LINK_ADDR"},
		{"interface", "LINUX_INTERFACE_NAME"},
		{"mtu", "MTU"},
		{"neighbour_reachable_s", "ARP_CACHE_TTL"},
		{"neighbour_retry_s", "ARP_REQUEST_TIMEOUT"},
		{"neighbour_retries", "ARP_REQUEST_RETRIES"},
	};

	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(known) / sizeof(known[0]); i++)
		rc = variable_apply(load, config_key_by_field(known[i].field), known[i].variable);
	if (!rc && variable_get("LINGER"))
		load->config->linger = 1;
	return rc;
}

static void variable_name(const struct config_key *key, char variable[static VARIABLE_MAX])
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

	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		variable_name(&config_key_table[i], variable);
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

	for (size_t i = 0; !rc && i < CONFIG_KEY_COUNT; i++) {
		variable_name(&config_key_table[i], variable);
		rc = variable_apply(&load, &config_key_table[i], variable);
	}
	if (!rc)
		unknown_variables_warn(&load);
	return rc;
}

/* -- overrides */

static struct config_override **override_find(struct config_override **list,
					      const struct config_key *key)
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

static struct config_override *override_make(const struct config_key *key, const char *value)
{
	size_t size = strlen(value) + 1;
	struct config_override *made = malloc(sizeof(*made) + size);

	if (!made)
		return NULL;
	made->key = key;
	memcpy(made->text, value, size);
	return made;
}

static int override_replace(struct config_override **list, const struct config_key *key,
			    const char *value)
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
	const struct config_key *key = config_key_by_field(name);
	struct source source = {0};
	struct config scratch;

	if (!key)
		key = config_key_by_path(name);
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

const char *config_choice_name(const struct config *config, const char *field)
{
	const struct config_key *key = config_key_by_field(field);

	ASSERT(key);
	ASSERT(key->type == CONFIG_KEY_CHOICE);
	return config_key_choice(key, config);
}

void config_each(const struct config *config,
		 void (*fn)(void *arg, const char *field, const char *value), void *arg)
{
	char number[CONFIG_KEY_NUMBER_MAX];

	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
		fn(arg, config_key_table[i].field,
		   config_key_show(&config_key_table[i], config, number));
}
