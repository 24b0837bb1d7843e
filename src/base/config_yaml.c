/* SPDX-License-Identifier: MIT
 * base/config_yaml.c - walks libyaml's events with an explicit stack: one saved path length a map.
 *
 * Invariants: depth is the number of maps entered, path[0 .. path_bytes[depth]) the path of the
 * innermost one; skipping counts the lists and maps open inside a value that is passed over.
 */
#include "base/config_yaml.h"

#include "base/assert.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

struct walk {
	yaml_parser_t parser;
	const char *name;
	const char *bytes;
	size_t num_bytes;
	config_yaml_fn fn;
	void *arg;
	const struct log *log;
	bool in_value; /* a key was read, its value comes next */
	bool in_list;  /* that was entered: the value goes on */
	uint32_t key_line;
	uint32_t num_documents;
	uint32_t skipping;
	uint32_t depth;
	size_t path_bytes[CONFIG_YAML_DEPTH_MAX + 1];
	char path[CONFIG_YAML_PATH_MAX];
};

static uint32_t line_of(const yaml_event_t *event)
{
	return (uint32_t)event->start_mark.line + 1;
}

static int refuse(const struct walk *walk, uint32_t line, const char *why)
{
	log_write(walk->log, LOG_LEVEL_ERROR, "bad YAML in %s:%u: %s", walk->name, line, why);
	return -EINVAL;
}

/* libyaml places errors of the character encoding by byte, all others by line. */
static uint32_t problem_line(const struct walk *walk)
{
	const yaml_parser_t *parser = &walk->parser;
	uint32_t line = 1;

	if (parser->error != YAML_READER_ERROR)
		return (uint32_t)parser->problem_mark.line + 1;
	for (size_t i = 0; i < parser->problem_offset && i < walk->num_bytes; i++)
		line += walk->bytes[i] == '\n';
	return line;
}

static int refuse_problem(const struct walk *walk)
{
	const char *problem = walk->parser.problem;

	if (walk->parser.error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	return refuse(walk, problem_line(walk), problem ? problem : "cannot be parsed");
}

static bool is_null(const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;

	return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (!*text || !strcmp(text, "~") || !strcasecmp(text, "null"));
}

static bool is_start(const yaml_event_t *event)
{
	return event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT;
}

static bool is_end(const yaml_event_t *event)
{
	return event->type == YAML_MAPPING_END_EVENT || event->type == YAML_SEQUENCE_END_EVENT;
}

static int skip_event(struct walk *walk, const yaml_event_t *event)
{
	if (is_start(event))
		walk->skipping++;
	if (is_end(event))
		walk->skipping--;
	if (walk->depth + walk->skipping > CONFIG_YAML_DEPTH_MAX)
		return refuse(walk, line_of(event), "too deeply nested");
	return 0;
}

/* Appends the key to the path of the innermost map.  A path that does not fit is cut: it is longer
 * than any key of ours, so it stays unknown.  A zero byte must not make a key look like another. */
static int take_key(struct walk *walk, const yaml_event_t *event)
{
	size_t used = walk->path_bytes[walk->depth];
	size_t room = sizeof(walk->path) - used;

	if (event->type != YAML_SCALAR_EVENT)
		return refuse(walk, line_of(event), "a key that is not a word");
	const char *key = (const char *)event->data.scalar.value;
	if (strlen(key) != event->data.scalar.length)
		return refuse(walk, line_of(event), "a key with a zero byte");
	(void)snprintf(walk->path + used, room, "%s%s", used ? "." : "", key);
	walk->key_line = line_of(event);
	walk->in_value = true;
	return 0;
}

static int enter_map(struct walk *walk, const yaml_event_t *event)
{
	if (walk->depth == CONFIG_YAML_DEPTH_MAX)
		return refuse(walk, line_of(event), "too deeply nested");
	walk->path_bytes[++walk->depth] = strlen(walk->path);
	walk->in_value = false;
	return 0;
}

static void leave_map(struct walk *walk)
{
	ASSERT(walk->depth > 0);
	walk->depth--;
	walk->in_value = false;
}

static struct config_yaml_node node_of(const struct walk *walk, const yaml_event_t *event)
{
	struct config_yaml_node node = {.path = walk->path, .text = "", .line = walk->key_line};

	if (event->type == YAML_SCALAR_EVENT) {
		node.kind = is_null(event) ? CONFIG_YAML_NULL : CONFIG_YAML_SCALAR;
		node.text = (const char *)event->data.scalar.value;
		node.text_bytes = event->data.scalar.length;
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		node.kind = CONFIG_YAML_MAP;
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		node.kind = CONFIG_YAML_LIST;
	} else {
		node.kind = CONFIG_YAML_ALIAS;
	}
	return node;
}

static int take_value(struct walk *walk, const yaml_event_t *event)
{
	struct config_yaml_node node = node_of(walk, event);
	int rc = walk->fn(walk->arg, &node);

	if (rc < 0)
		return rc;
	walk->in_list = rc == CONFIG_YAML_ENTER && node.kind == CONFIG_YAML_LIST;
	if (walk->in_list)
		return 0;
	if (rc == CONFIG_YAML_ENTER)
		return enter_map(walk, event);
	walk->in_value = false;
	return is_start(event) ? skip_event(walk, event) : 0;
}

static int take_item(struct walk *walk, const yaml_event_t *event)
{
	if (event->type == YAML_SEQUENCE_END_EVENT) {
		walk->in_list = false;
		walk->in_value = false;
		return 0;
	}
	if (event->type != YAML_SCALAR_EVENT)
		return refuse(walk, line_of(event), "an item that is not a word");
	struct config_yaml_node node = node_of(walk, event);
	node.kind = CONFIG_YAML_ITEM;
	node.line = line_of(event);
	int rc = walk->fn(walk->arg, &node);
	return rc < 0 ? rc : 0;
}

/* Outside of any map: the start and end of the document, and its one value, a map or nothing. */
static int take_root(struct walk *walk, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (walk->num_documents++)
			return refuse(walk, line_of(event), "a second document");
		return 0;
	case YAML_MAPPING_START_EVENT:
		return enter_map(walk, event);
	case YAML_SCALAR_EVENT:
		if (is_null(event))
			return 0;
		return refuse(walk, line_of(event), "not a map of keys and values");
	case YAML_SEQUENCE_START_EVENT:
	case YAML_ALIAS_EVENT:
		return refuse(walk, line_of(event), "not a map of keys and values");
	default:
		return 0;
	}
}

static int take_event(struct walk *walk, const yaml_event_t *event)
{
	if (walk->skipping)
		return skip_event(walk, event);
	if (!walk->depth)
		return take_root(walk, event);
	if (walk->in_list)
		return take_item(walk, event);
	if (walk->in_value)
		return take_value(walk, event);
	if (event->type != YAML_MAPPING_END_EVENT)
		return take_key(walk, event);
	leave_map(walk);
	return 0;
}

static int walk_run(struct walk *walk)
{
	yaml_event_t event;
	bool done = false;

	while (!done) {
		if (!yaml_parser_parse(&walk->parser, &event))
			return refuse_problem(walk);
		done = event.type == YAML_STREAM_END_EVENT;
		int rc = take_event(walk, &event);
		yaml_event_delete(&event);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int config_yaml_parse(const char *name, const char *bytes, size_t num_bytes, config_yaml_fn fn,
		      void *arg, const struct log *log)
{
	struct walk walk = {.name = name,
			    .bytes = bytes,
			    .num_bytes = num_bytes,
			    .fn = fn,
			    .arg = arg,
			    .log = log};

	if (!yaml_parser_initialize(&walk.parser))
		return -ENOMEM;
	/* libyaml aborts on a null pointer, even to no bytes. */
	const void *input = bytes ? bytes : "";
	yaml_parser_set_input_string(&walk.parser, input, num_bytes);
	int rc = walk_run(&walk);
	yaml_parser_delete(&walk.parser);
	return rc;
}
