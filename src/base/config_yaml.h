/* SPDX-License-Identifier: MIT
 * base/config_yaml.h - flattens a YAML document of nested maps into calls with dotted paths.
 *
 * It knows YAML, not the keys: what to enter, take or skip is the caller's word.  Bounded whatever
 * the bytes are: aliases are never expanded, and nesting beyond CONFIG_YAML_DEPTH_MAX is an error.
 */
#pragma once

#include "base/log.h"

#include <stddef.h>
#include <stdint.h>

#define CONFIG_YAML_DEPTH_MAX 16
#define CONFIG_YAML_PATH_MAX  128

enum config_yaml_kind {
	CONFIG_YAML_NULL, /* nothing, or ~ or null without quotes */
	CONFIG_YAML_SCALAR,
	CONFIG_YAML_LIST,
	CONFIG_YAML_MAP,
	CONFIG_YAML_ALIAS,
	CONFIG_YAML_ITEM, /* of a list; its text is as of a SCALAR.  Only these are in lists */
};

/* The value of one key of a map; lives during the call. */
struct config_yaml_node {
	const char *path; /* "tcp_socket_options.linger.enabled"; cut when too long to be a key of
			     ours */
	enum config_yaml_kind kind;
	const char *text;  /* of NULL and SCALAR, zero-terminated; else "" */
	size_t text_bytes; /* strlen(text), more when it holds zero bytes */
	uint32_t line;     /* of the key, from 1 */
};

/* Returned for a MAP: call again for the keys in it; for a LIST: for its items, by the path of the
 * list.  0 passes over it, and over anything else. */
#define CONFIG_YAML_ENTER 1

/* An error (-errno) ends the parse and becomes its result. */
typedef int (*config_yaml_fn)(void *arg, const struct config_yaml_node *node);

/* Calls fn for each key of the one document in bytes, in order; none for an empty document.
 * -EINVAL after an error line with name and line number: bad YAML, not a map, two documents, too
 * deep.  -ENOMEM. */
int config_yaml_parse(const char *name, const char *bytes, size_t num_bytes, config_yaml_fn fn,
		      void *arg, const struct log *log);
