/* SPDX-License-Identifier: MIT
 * tests/unit/config_test.c - base/config.c, base/config_key.c and base/config_yaml.c: every key
 * from every source, the order of the sources, Demikernel's files, bad files, and every allocation
 * failed in turn.
 */
#include "support/test.h"

#include "base/config.h"
#include "support/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NUM(array) (sizeof(array) / sizeof((array)[0]))

/* -- log lines are kept */

#define LINES_MAX 64

struct capture {
	uint32_t count[LOG_LEVEL_INFO + 1];
	uint32_t num_lines;
	char lines[LINES_MAX][LOG_MESSAGE_MAX + 1];
};

static struct capture capture;

static void capture_line(void *arg, int level, const char *message)
{
	struct capture *to = arg;

	assert_in_range(level, LOG_LEVEL_ERROR, LOG_LEVEL_INFO);
	to->count[level]++;
	assert_true(to->num_lines < LINES_MAX);
	(void)snprintf(to->lines[to->num_lines++], LOG_MESSAGE_MAX + 1, "%s", message);
}

static const struct log test_log = {.fn = capture_line, .arg = &capture};

static void expect_silence(void)
{
	if (capture.num_lines)
		fail_msg("unexpected log line: %s", capture.lines[0]);
}

static void expect_line(enum log_level level, const char *line)
{
	assert_int_equal(capture.num_lines, 1);
	assert_string_equal(capture.lines[0], line);
	assert_int_equal(capture.count[level], 1);
}

/* -- the key table, seen from outside */

enum type { NUMBER, CHOICE, STRING, MAP, WORDS };

struct key {
	const char *field;
	const char *path;
	enum type type;
	size_t offset;
	int64_t def;
	int64_t min;
	int64_t max;
	const char *unit;
	const char *choices[8];
	const char *text; /* default of a string or map */
	size_t longest;
};

#define LIST(...)                 \
	{                         \
		__VA_ARGS__, NULL \
	}

static const struct key keys[] = {
#define CONFIG_NUMBER(f, p, d, lo, hi, u, help) \
	{.field = #f,                           \
	 .path = (p),                           \
	 .type = NUMBER,                        \
	 .offset = offsetof(struct config, f),  \
	 .def = (d),                            \
	 .min = (lo),                           \
	 .max = (hi),                           \
	 .unit = (u)},
#define CONFIG_CHOICE(f, p, d, names, help)    \
	{.field = #f,                          \
	 .path = (p),                          \
	 .type = CHOICE,                       \
	 .offset = offsetof(struct config, f), \
	 .def = (d),                           \
	 .choices = LIST names},
#define CONFIG_STRING(f, p, d, most, help)     \
	{.field = #f,                          \
	 .path = (p),                          \
	 .type = STRING,                       \
	 .offset = offsetof(struct config, f), \
	 .text = (d),                          \
	 .longest = (most)},
#define CONFIG_MAP(f, p, most, help)           \
	{.field = #f,                          \
	 .path = (p),                          \
	 .type = MAP,                          \
	 .offset = offsetof(struct config, f), \
	 .text = "",                           \
	 .longest = (most)},
#define CONFIG_WORDS(f, p, most, help)         \
	{.field = #f,                          \
	 .path = (p),                          \
	 .type = WORDS,                        \
	 .offset = offsetof(struct config, f), \
	 .text = "",                           \
	 .longest = (most)},
#define CONFIG_COMPAT(p)
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_MAP
#undef CONFIG_WORDS
#undef CONFIG_COMPAT
};

static const char *const compat_paths[] = {
#define CONFIG_NUMBER(f, p, d, lo, hi, u, help)
#define CONFIG_CHOICE(f, p, d, names, help)
#define CONFIG_STRING(f, p, d, most, help)
#define CONFIG_MAP(f, p, most, help)
#define CONFIG_WORDS(f, p, most, help)
#define CONFIG_COMPAT(p) (p),
#include "base/config.def"
#undef CONFIG_NUMBER
#undef CONFIG_CHOICE
#undef CONFIG_STRING
#undef CONFIG_MAP
#undef CONFIG_WORDS
#undef CONFIG_COMPAT
};

static int64_t value_of(const struct config *config, const struct key *key)
{
	int64_t value;

	memcpy(&value, (const char *)config + key->offset, sizeof(value));
	return value;
}

static const char *text_of(const struct config *config, const struct key *key)
{
	return (const char *)config + key->offset;
}

static const char *variable_of(const struct key *key)
{
	static char name[80];
	int length = snprintf(name, sizeof(name), "DEMI_%s", key->field);

	for (int i = 0; i < length; i++) {
		if (name[i] >= 'a' && name[i] <= 'z')
			name[i] = (char)(name[i] - 32);
	}
	return name;
}

static bool is_bool(const struct key *key)
{
	return key->type == CHOICE &&
	       (!strcmp(key->choices[0], "false") || !strcmp(key->choices[0], "off"));
}

/* -- the environment is clean before every test */

/* Demikernel's variables, a value of each that is neither the default nor refused. */
static const struct {
	const char *variable;
	const char *field;
	const char *value;
} demikernel_variables[] = {
	{"LIBOS", "libos", "catpowder"},
	{"NODELAY", "nodelay", "false"},
	{"LINGER", "linger_seconds", "7"},
	{"LOCAL_IPV4_ADDR", "local_ipv4_addr", "10.0.0.9"},
	{"LOCAL_LINK_ADDR", "mac", "02:00:00:00:00:09"},
	{"LINUX_INTERFACE_NAME", "interface", "veth9"},
	{"MTU", "mtu", "9000"},
	{"ARP_CACHE_TTL", "neighbour_reachable_s", "600"},
	{"ARP_REQUEST_TIMEOUT", "neighbour_retry_s", "2"},
	{"ARP_REQUEST_RETRIES", "neighbour_retries", "9"},
};

static int set_up(void **state)
{
	(void)state;
	(void)unsetenv("LIBOS");
	(void)unsetenv("NODELAY");
	(void)unsetenv("LINGER");
	for (size_t i = 0; i < NUM(demikernel_variables); i++)
		(void)unsetenv(demikernel_variables[i].variable);
	for (size_t i = 0; i < NUM(keys); i++)
		(void)unsetenv(variable_of(&keys[i]));
	memset(&capture, 0, sizeof(capture));
	(void)fault_off();
	return 0;
}

/* -- sources: each gives a key a text and loads */

static int load_bytes(struct config *config, const char *bytes, size_t num_bytes)
{
	char path[64];
	int fd = memfd_create("config", MFD_CLOEXEC);

	assert_return_code(fd, errno);
	assert_int_equal(write(fd, bytes, num_bytes), num_bytes);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	memset(&capture, 0, sizeof(capture));
	errno = ENOTTY;
	int rc = config_load(config, path, NULL, &test_log);
	assert_int_equal(errno, ENOTTY);
	(void)close(fd);
	return rc;
}

/* Names the text "demi.yaml" in log lines. */
static int load_text(struct config *config, const char *text)
{
	struct config_override *none = NULL;

	memset(&capture, 0, sizeof(capture));
	assert_int_equal(config_load(config, NULL, none, &test_log), 0);
	return config_parse(config, "demi.yaml", text, strlen(text), &test_log);
}

/* "a.b.c" and a text to a file of nested maps. */
static int load_by_file(struct config *config, const struct key *key, const char *text)
{
	char yaml[2048];
	size_t used = 0;
	int depth = 0;

	for (const char *at = key->path; *at; at++) {
		if (*at == '.')
			used += (size_t)snprintf(yaml + used, sizeof(yaml) - used, ":\n%*s",
						 ++depth * 2, "");
		else
			yaml[used++] = *at;
	}
	const char *quote = key->text ? "\"" : "";
	(void)snprintf(yaml + used, sizeof(yaml) - used, ": %s%s%s\n", quote, text, quote);
	return load_bytes(config, yaml, strlen(yaml));
}

static int load_by_variable(struct config *config, const struct key *key, const char *text)
{
	assert_int_equal(setenv(variable_of(key), text, 1), 0);
	memset(&capture, 0, sizeof(capture));
	int rc = config_load(config, NULL, NULL, &test_log);
	(void)unsetenv(variable_of(key));
	return rc;
}

static int load_by_override(struct config *config, const char *name, const char *text)
{
	struct config_override *list = NULL;

	memset(&capture, 0, sizeof(capture));
	int rc = config_override_set(&list, name, text, &test_log);
	if (!rc)
		rc = config_load(config, NULL, list, &test_log);
	else
		assert_null(list);
	config_override_free(&list);
	assert_null(list);
	return rc;
}

static int load_by(int source, struct config *config, const struct key *key, const char *text)
{
	switch (source) {
	case 0:
		return load_by_file(config, key, text);
	case 1:
		return load_by_variable(config, key, text);
	case 2:
		return load_by_override(config, key->field, text);
	default:
		return load_by_override(config, key->path, text);
	}
}

#define NUM_SOURCES 4

static void accept(const struct key *key, const char *text, int64_t expected)
{
	struct config config;

	for (int source = 0; source < NUM_SOURCES; source++) {
		int rc = load_by(source, &config, key, text);

		expect_silence();
		assert_int_equal(rc, 0);
		assert_int_equal(value_of(&config, key), expected);
	}
}

static void accept_text(const struct key *key, const char *text)
{
	struct config config;

	for (int source = 0; source < NUM_SOURCES; source++) {
		int rc = load_by(source, &config, key, text);

		expect_silence();
		assert_int_equal(rc, 0);
		assert_string_equal(text_of(&config, key), text);
	}
}

static void refuse(const struct key *key, const char *text)
{
	struct config config;

	for (int source = 0; source < NUM_SOURCES; source++) {
		if (source == 1 && !*text)
			continue; /* an empty variable is none */
		if (!load_by(source, &config, key, text))
			fail_msg("%s took \"%s\" from source %d", key->field, text, source);
		assert_int_equal(capture.num_lines, 1);
		assert_int_equal(capture.count[LOG_LEVEL_ERROR], 1);
		if (strncmp(capture.lines[0], key->field, strlen(key->field)) != 0)
			fail_msg("%s does not name %s", capture.lines[0], key->field);
	}
}

/* -- every key */

static void test_defaults(void **state)
{
	struct config config;

	(void)state;
	memset(&config, 0xa5, sizeof(config));
	assert_int_equal(config_load(&config, NULL, NULL, &test_log), 0);
	expect_silence();
	for (size_t i = 0; i < NUM(keys); i++) {
		if (keys[i].text)
			assert_string_equal(text_of(&config, &keys[i]), keys[i].text);
		else
			assert_int_equal(value_of(&config, &keys[i]), keys[i].def);
	}
}

static void test_number_ranges(void **state)
{
	char text[32];

	(void)state;
	for (size_t i = 0; i < NUM(keys); i++) {
		const struct key *key = &keys[i];

		if (key->type != NUMBER)
			continue;
		(void)snprintf(text, sizeof(text), "%" PRId64, key->min);
		accept(key, text, key->min);
		(void)snprintf(text, sizeof(text), "00%" PRId64, key->max);
		accept(key, text, key->max);
		(void)snprintf(text, sizeof(text), "%" PRId64, key->min - 1);
		refuse(key, text);
		(void)snprintf(text, sizeof(text), "%" PRId64, key->max + 1);
		refuse(key, text);
	}
}

static void test_number_malformed(void **state)
{
	static const char *const texts[] = {
		"",
		"x",
		"~",
		"null",
		"true",
		"-1",
		"+70",
		"70x",
		"7_0",
		"0x70",
		"7e1",
		"70.0",
		"7 0",
		"70kk",
		"70 k",
		"k",
		"70t",
		"18446744073709551616",
		"9223372036854775808",
		"9223372036854775807g",
		"9999999999999999999999999999999999999999",
	};

	(void)state;
	for (size_t i = 0; i < NUM(keys); i++) {
		for (size_t j = 0; keys[i].type == NUMBER && j < NUM(texts); j++)
			refuse(&keys[i], texts[j]);
	}
}

static void test_number_suffixes(void **state)
{
	static const struct {
		const char *text;
		int64_t value;
	} cases[] = {{"4096k", 4194304}, {"4096K", 4194304}, {"16m", 16777216},
		     {"16M", 16777216},  {"1g", 1073741824}, {"1G", 1073741824}};

	(void)state;
	for (size_t i = 0; i < NUM(keys); i++) {
		if (keys[i].type != NUMBER)
			continue;
		bool is_bytes = !strcmp(keys[i].unit, "bytes");
		for (size_t j = 0; j < NUM(cases); j++) {
			int64_t value = cases[j].value;

			if (is_bytes && keys[i].min <= value && value <= keys[i].max)
				accept(&keys[i], cases[j].text, value);
			else
				refuse(&keys[i], cases[j].text);
		}
	}
}

static void test_choices(void **state)
{
	char upper[32];

	(void)state;
	for (size_t i = 0; i < NUM(keys); i++) {
		for (int j = 0; keys[i].type == CHOICE && keys[i].choices[j]; j++) {
			const char *name = keys[i].choices[j];
			size_t length = strlen(name);

			accept(&keys[i], name, j);
			for (size_t k = 0; k <= length; k++)
				upper[k] = (char)(name[k] >= 'a' && name[k] <= 'z' ? name[k] - 32
										   : name[k]);
			accept(&keys[i], upper, j);
		}
	}
}

static void test_choices_malformed(void **state)
{
	static const char *const texts[] = {"",      "x",   "~",      "2",          "-1",
					    "truex", "tru", "on off", "direct|ring"};
	static const char *const switches[] = {"yes", "No", "TRUE", "False", "on", "OFF", "1", "0"};

	(void)state;
	for (size_t i = 0; i < NUM(keys); i++) {
		for (size_t j = 0; keys[i].type == CHOICE && j < NUM(texts); j++)
			refuse(&keys[i], texts[j]);
		for (size_t j = 0; keys[i].type == CHOICE && j < NUM(switches); j++) {
			if (is_bool(&keys[i]))
				accept(&keys[i], switches[j], (j + 1) % 2);
			else
				refuse(&keys[i], switches[j]);
		}
	}
}

static void test_strings(void **state)
{
	char text[1024];

	(void)state;
	for (size_t i = 0; i < NUM(keys); i++) {
		const struct key *key = &keys[i];

		if (key->type != STRING)
			continue;
		assert_in_range(key->longest, 2, sizeof(text) - 2);
		memset(text, 's', sizeof(text));
		text[key->longest + 1] = '\0';
		refuse(key, text);
		text[key->longest] = '\0';
		accept_text(key, text);
		text[key->longest - 1] = '\0';
		accept_text(key, text);
		accept_text(key, "%s,=");
		accept_text(key, "");
	}
}

static void test_maps(void **state)
{
	static const char *const good[] = {"", "a=b", "a=b,c=d", "a=b,a=b,a=c",
					   "02:00:00:00:00:01=10.0.0.1,02:00:00:00:00:02=fd00::2"};
	static const char *const bad[] = {"a",    "=",     "a=",  "=b",     ",",    "a=b,",
					  ",a=b", "a=b=c", "a==", "a=b,,c", "a=,b", "a=b,c"};
	char text[1100];

	(void)state;
	for (size_t i = 0; i < NUM(keys); i++) {
		const struct key *key = &keys[i];

		if (key->type != MAP)
			continue;
		for (size_t j = 0; j < NUM(good); j++)
			accept_text(key, good[j]);
		for (size_t j = 0; j < NUM(bad); j++)
			refuse(key, bad[j]);
		assert_in_range(key->longest, 4, sizeof(text) - 2);
		memset(text, 'm', sizeof(text));
		text[1] = '=';
		text[key->longest + 1] = '\0';
		refuse(key, text);
		text[key->longest] = '\0';
		accept_text(key, text);
	}
}

/* A map of the file becomes the text; two of its keys may be the same, as in Demikernel's files. */
static void test_map_of_file(void **state)
{
	static const struct {
		const char *yaml;
		const char *text;
	} cases[] = {
		{"inetstack_config: {arp_table: {}}", ""},
		{"inetstack_config: {arp_table: }", ""},
		{"inetstack_config: {arp_table: ~}", ""},
		{"inetstack_config: {arp_table: {\"a:b\": c}}", "a:b=c"},
		{"inetstack_config:\n  arp_table:\n    \"02:00\": 10.0.0.1\n    02:00: 'fd00::1'\n",
		 "02:00=10.0.0.1,02:00=fd00::1"},
		{"inetstack_config: {arp_table: {1.2: 3.4, ~: b, c: 7}}", "1.2=3.4,~=b,c=7"},
		{"inetstack_config.arp_table.a: b", "a=b"},
	};
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(cases); i++) {
		int rc = load_text(&config, cases[i].yaml);

		expect_silence();
		assert_int_equal(rc, 0);
		assert_string_equal(config.arp_table, cases[i].text);
	}
	/* The last of two maps counts, and it replaces what the values came from before. */
	assert_int_equal(load_text(&config, "inetstack_config:\n  arp_table: {a: b}\n"
					    "  arp_table: {c: d}\n"),
			 0);
	expect_line(LOG_LEVEL_WARNING,
		    "inetstack_config.arp_table in demi.yaml:3 overrides the same key in line 2");
	assert_string_equal(config.arp_table, "c=d");
}

static void test_map_of_file_refused(void **state)
{
	static const struct {
		const char *yaml;
		const char *line;
	} cases[] = {
		{"inetstack_config: {arp_table: [a, b]}",
		 "inetstack_config.arp_table in demi.yaml:1 wants a map of plain values"},
		{"inetstack_config: {arp_table: {a: [b]}}",
		 "inetstack_config.arp_table.a in demi.yaml:1 wants one plain value"},
		{"inetstack_config: {arp_table: {a: {b: c}}}",
		 "inetstack_config.arp_table.a in demi.yaml:1 wants one plain value"},
		{"inetstack_config: {arp_table: {a: *b}}",
		 "inetstack_config.arp_table.a in demi.yaml:1 wants one plain value"},
		{"inetstack_config: {arp_table: {a: }}",
		 "inetstack_config.arp_table.a in demi.yaml:1 wants one plain value"},
		{"inetstack_config: {arp_table: {a: \"b\\0\"}}",
		 "inetstack_config.arp_table.a in demi.yaml:1 wants a value without zero bytes"},
		{"inetstack_config:\n  arp_table:\n    a: b\n    c: 'd,e'\n",
		 "arp_table: \"c=d,e\" in demi.yaml:4 is not a list key=value,key=value of at most "
		 "1023 bytes"},
		{"inetstack_config: {arp_table: {\"\": b}}",
		 "arp_table: \"=b\" in demi.yaml:1 is not a list key=value,key=value of at most "
		 "1023 bytes"},
		{"inetstack_config: {arp_table: {a=b: c}}",
		 "arp_table: \"a=b=c\" in demi.yaml:1 is not a list key=value,key=value of at most "
		 "1023 bytes"},
		{"inetstack_config: {arp_table: {a: \"\"}}",
		 "arp_table: \"a=\" in demi.yaml:1 is not a list key=value,key=value of at most "
		 "1023 bytes"},
	};
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(cases); i++) {
		assert_int_equal(load_text(&config, cases[i].yaml), -EINVAL);
		expect_line(LOG_LEVEL_ERROR, cases[i].line);
	}
}

/* The file's entries add up to what the text may have, and not to one byte more. */
static void test_map_of_file_longest(void **state)
{
	enum { ENTRY = 32, NUM_ENTRIES = 1024 / ENTRY };

	char yaml[4096];
	struct config config;

	(void)state;
	for (int more = 0; more < 2; more++) {
		size_t used = (size_t)snprintf(yaml, sizeof(yaml), "inetstack_config.arp_table:\n");

		/* With its comma each is 32 bytes, the last one without. */
		for (int i = 0; i < NUM_ENTRIES; i++)
			used += (size_t)snprintf(yaml + used, sizeof(yaml) - used,
						 "  %014d: v%015d%s\n", i, i,
						 more && i == NUM_ENTRIES - 1 ? "9" : "");
		int rc = load_text(&config, yaml);
		assert_int_equal(rc, more ? -EINVAL : 0);
		assert_int_equal(capture.num_lines, more);
		assert_int_equal(strlen(config.arp_table), more ? 1023 - ENTRY : 1023);
	}
	/* Paths are cut at 127 bytes: the name of an entry must be seen whole. */
	for (int length = 126; length < 128; length++) {
		size_t prefix = strlen("inetstack_config.arp_table.");

		(void)snprintf(yaml, sizeof(yaml), "inetstack_config: {arp_table: {%0*d: v}}",
			       length - (int)prefix, 0);
		assert_int_equal(load_text(&config, yaml), length == 126 ? 0 : -EINVAL);
		if (length == 127)
			assert_non_null(strstr(capture.lines[0], "wants a shorter name"));
	}
}

/* -- what log lines say */

static void test_messages(void **state)
{
	static const struct {
		const char *yaml;
		const char *line;
	} cases[] = {
		{"demitasse:\n\n  # slow\n  spin_us: \"70x\"\n",
		 "spin_us: \"70x\" in demi.yaml:4 is not a number of microseconds from 0 to "
		 "1000000"},
		{"demitasse: {engine: fast}",
		 "engine: \"fast\" in demi.yaml:1 is not one of direct"},
		{"tcp_socket_options: {nodelay: perhaps}",
		 "nodelay: \"perhaps\" in demi.yaml:1 is not one of false, true"},
		{"demitasse: {libos: cattree}",
		 "libos: \"cattree\" in demi.yaml:1 is not built in; "
		 "this build has catnap, catpowder, catnip, catmem, catloop, catmint"},
		{"demitasse: {libos: dog}",
		 "libos: \"dog\" in demi.yaml:1 is not a library OS; "
		 "this build has catnap, catpowder, catnip, catmem, catloop, catmint"},
		{"demitasse:\n  engine: [ring]",
		 "demitasse.engine in demi.yaml:2 wants one plain value"},
		{"demitasse:\n  engine: {a: b}",
		 "demitasse.engine in demi.yaml:2 wants one plain value"},
		{"demitasse:\n  engine: *a",
		 "demitasse.engine in demi.yaml:2 wants one plain value"},
		{"demitasse:\n  engine: \"ring\\0\"",
		 "demitasse.engine in demi.yaml:2 wants a value without zero bytes"},
		{"demitasse: 7", "demitasse in demi.yaml:1 wants keys below it"},
		{"demitasse: [a]", "demitasse in demi.yaml:1 wants keys below it"},
		{"tcp_socket_options:\n  linger: true",
		 "tcp_socket_options.linger in demi.yaml:2 wants keys below it"},
		{"demitasse:\n  spin_us: \"7\\n0\"", "spin_us: \"7?0\" in demi.yaml:2 is not a "
						     "number of microseconds from 0 to 1000000"},
	};
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(cases); i++) {
		assert_true(load_text(&config, cases[i].yaml) < 0);
		expect_line(LOG_LEVEL_ERROR, cases[i].line);
	}
	assert_int_equal(load_by_override(&config, "spin_us", "x"), -EINVAL);
	expect_line(LOG_LEVEL_ERROR, "spin_us: \"x\" given to demi_set_config is not a number of "
				     "microseconds from 0 to 1000000");
	assert_int_equal(load_by_override(&config, "spin", "1"), -EINVAL);
	expect_line(LOG_LEVEL_ERROR, "unknown key spin given to demi_set_config");
}

/* Name and value as long as they like: the range still stands in the line. */
static void test_messages_long(void **state)
{
	static const char range[] = "is not a number of microseconds from 0 to 1000000";
	char name[3000];
	char yaml[3000];
	struct config config;

	(void)state;
	memset(name, 'd', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	(void)snprintf(yaml, sizeof(yaml), "demitasse: {spin_us: %.*s}", 2900, name);
	assert_int_equal(config_load(&config, NULL, NULL, &test_log), 0);
	assert_int_equal(config_parse(&config, name, yaml, strlen(yaml), &test_log), -EINVAL);
	assert_int_equal(capture.num_lines, 1);
	const char *line = capture.lines[0];
	assert_string_equal(line + strlen(line) - strlen(range), range);
	assert_non_null(strstr(line, " in ...ddd"));
}

/* -- libOS names */

static void test_libos(void **state)
{
	static const struct {
		const char *name;
		int rc;
	} cases[] = {{"catnap", 0},
		     {"CatNap", 0},
		     {"CATNAP", 0},
		     {"", 0},
		     {"CatNip", 0},
		     {"CATPOWDER", 0},
		     {"CatMem", 0},
		     {"CatMint", 0},
		     {"cattree", -ENOTSUP},
		     {"CatLoop", 0},
		     {"catnap ", -EINVAL},
		     {"catnapw", -EINVAL},
		     {"posix-epoll", -EINVAL},
		     {"%s%n", -EINVAL},
		     {"0", -EINVAL}};
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(cases); i++) {
		memset(&capture, 0, sizeof(capture));
		assert_int_equal(setenv("LIBOS", cases[i].name, 1), 0);
		assert_int_equal(config_load(&config, NULL, NULL, &test_log), cases[i].rc);
		assert_int_equal(capture.count[LOG_LEVEL_ERROR], cases[i].rc != 0);
		(void)unsetenv("LIBOS");
	}
	assert_int_equal(setenv("LIBOS", "cattree", 1), 0);
	memset(&capture, 0, sizeof(capture));
	assert_int_equal(config_load(&config, NULL, NULL, &test_log), -ENOTSUP);
	expect_line(LOG_LEVEL_ERROR,
		    "libos: \"cattree\" in the environment variable LIBOS is not built in; "
		    "this build has catnap, catpowder, catnip, catmem, catloop, catmint");
	(void)unsetenv("LIBOS");
	assert_int_equal(load_by_override(&config, "libos", "cattree"), -ENOTSUP);
}

/* -- the environment */

struct shown_text {
	const char *field;
	char value[64];
};

static void keep_shown(void *arg, const char *field, const char *value)
{
	struct shown_text *shown = arg;

	if (!strcmp(field, shown->field))
		(void)snprintf(shown->value, sizeof(shown->value), "%s", value);
}

static void test_demikernel_variables(void **state)
{
	static const struct {
		const char *variable;
		const char *text;
		int rc;
		int64_t nodelay;
		int64_t linger;
		int64_t linger_seconds;
	} cases[] = {
		{"NODELAY", "false", 0, 0, 0, 0},     {"NODELAY", "true", 0, 1, 0, 0},
		{"NODELAY", "", 0, 1, 0, 0},          {"NODELAY", "2", -EINVAL, 0, 0, 0},
		{"LINGER", "7", 0, 1, 1, 7},          {"LINGER", "0", 0, 1, 1, 0},
		{"LINGER", "", 0, 1, 0, 0},           {"LINGER", "65536", -EINVAL, 0, 0, 0},
		{"LINGER", "true", -EINVAL, 0, 0, 0},
	};
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(cases); i++) {
		assert_int_equal(setenv(cases[i].variable, cases[i].text, 1), 0);
		int rc = config_load(&config, NULL, NULL, &test_log);
		assert_int_equal(rc, cases[i].rc);
		(void)unsetenv(cases[i].variable);
		if (rc)
			continue;
		assert_int_equal(config.nodelay, cases[i].nodelay);
		assert_int_equal(config.linger, cases[i].linger);
		assert_int_equal(config.linger_seconds, cases[i].linger_seconds);
	}
}

/* Each sets its key; over it stands ours. */
static void test_demikernel_variables_all(void **state)
{
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(demikernel_variables); i++) {
		const char *variable = demikernel_variables[i].variable;
		size_t at = 0;

		while (strcmp(keys[at].field, demikernel_variables[i].field) != 0)
			assert_true(++at < NUM(keys));
		for (int ours = 0; ours < 2; ours++) {
			const char *other = keys[at].type == CHOICE ? "on" : "3";

			if (!strcmp(variable, "LIBOS"))
				other = "catnap";
			assert_int_equal(setenv(variable, demikernel_variables[i].value, 1), 0);
			if (ours)
				assert_int_equal(setenv(variable_of(&keys[at]), other, 1), 0);
			assert_int_equal(config_load(&config, NULL, NULL, &test_log), 0);
			expect_silence();
			struct shown_text shown = {.field = keys[at].field};
			config_each(&config, keep_shown, &shown);
			const char *expected = ours ? other : demikernel_variables[i].value;
			if (!strcmp(expected, "on"))
				expected = "true";
			assert_string_equal(shown.value, expected);
			(void)unsetenv(variable_of(&keys[at]));
		}
		(void)unsetenv(variable);
	}
}

static void test_unknown_variable(void **state)
{
	struct config config;

	(void)state;
	assert_int_equal(setenv("DEMI_SPIN", "7", 1), 0);
	assert_int_equal(config_load(&config, NULL, NULL, &test_log), 0);
	(void)unsetenv("DEMI_SPIN");
	expect_line(LOG_LEVEL_WARNING, "unknown environment variable DEMI_SPIN is ignored");
}

static void test_no_environment(void **state)
{
	char **saved = environ;
	struct config config;

	(void)state;
	environ = NULL;
	int rc = config_load(&config, NULL, NULL, &test_log);
	environ = saved;
	assert_int_equal(rc, 0);
	expect_silence();
}

/* -- precedence: of the sources that are given, the strongest wins */

static void test_precedence(void **state)
{
	static const char yaml[] =
		"demitasse:\n  spin_us: 1\ntcp_socket_options:\n  nodelay: true\n";

	enum { FROM_FILE = 1, FROM_VARIABLE = 2, FROM_API = 4 };

	static const int64_t expected[] = {50, 1, 2, 2, 3, 3, 3, 3};
	struct config config;
	char path[64];
	int fd = memfd_create("config", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(write(fd, yaml, strlen(yaml)), strlen(yaml));
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (int given = 0; given < 8; given++) {
		struct config_override *list = NULL;

		if (given & FROM_VARIABLE)
			assert_int_equal(setenv("DEMI_SPIN_US", "2", 1), 0);
		if (given & FROM_API)
			assert_int_equal(config_override_set(&list, "spin_us", "3", &test_log), 0);
		const char *file = given & FROM_FILE ? path : NULL;
		assert_int_equal(config_load(&config, file, list, &test_log), 0);
		assert_int_equal(config.spin_us, expected[given]);
		(void)unsetenv("DEMI_SPIN_US");
		config_override_free(&list);
	}
	(void)close(fd);
	expect_silence();
}

/* Demikernel's variables stand over the file, ours over Demikernel's. */
static void test_precedence_variables(void **state)
{
	struct config config;

	(void)state;
	assert_int_equal(setenv("NODELAY", "false", 1), 0);
	assert_int_equal(load_bytes(&config, "tcp_socket_options: {nodelay: true}", 35), 0);
	assert_int_equal(config.nodelay, 0);
	assert_int_equal(setenv("DEMI_NODELAY", "true", 1), 0);
	assert_int_equal(config_load(&config, NULL, NULL, &test_log), 0);
	assert_int_equal(config.nodelay, 1);
	assert_int_equal(setenv("LINGER", "5", 1), 0);
	assert_int_equal(setenv("DEMI_LINGER", "off", 1), 0);
	assert_int_equal(config_load(&config, NULL, NULL, &test_log), 0);
	assert_int_equal(config.linger, 0);
	assert_int_equal(config.linger_seconds, 5);
	(void)unsetenv("NODELAY");
	(void)unsetenv("LINGER");
}

/* -- overrides */

static void test_overrides(void **state)
{
	struct config_override *list = NULL;
	struct config config;

	(void)state;
	assert_int_equal(config_override_set(&list, "spin_us", NULL, &test_log), 0);
	assert_null(list);
	assert_int_equal(config_override_set(&list, "spin_us", "1", &test_log), 0);
	assert_int_equal(config_override_set(&list, "idle", "busy", &test_log), 0);
	assert_int_equal(config_override_set(&list, "demitasse.spin_us", "2", &test_log), 0);
	assert_int_equal(config_override_set(&list, "queues_max", "8", &test_log), 0);
	assert_int_equal(config_override_set(&list, "spin_us", "bad", &test_log), -EINVAL);
	assert_int_equal(config_override_set(&list, "idle", NULL, &test_log), 0);
	assert_int_equal(config_load(&config, NULL, list, &test_log), 0);
	assert_int_equal(config.spin_us, 2);
	assert_int_equal(config.idle, 0);
	assert_int_equal(config.queues_max, 8);
	assert_int_equal(config_override_set(&list, "spin_us", NULL, &test_log), 0);
	assert_int_equal(config_override_set(&list, "queues_max", NULL, &test_log), 0);
	assert_null(list);
	assert_int_equal(config_override_set(&list, "nothing", NULL, &test_log), -EINVAL);
	assert_int_equal(config_override_set(&list, "", "1", &test_log), -EINVAL);
	assert_int_equal(config_override_set(&list, "demitasse", "1", &test_log), -EINVAL);
	assert_int_equal(config_override_set(&list, "raw_socket.tx_ring_size", "8", &test_log),
			 -EINVAL);
	config_override_free(&list);
}

/* -- Demikernel's files */

static const char catnap_yaml[] = "# for the kernel's sockets\n"
				  "tcp_socket_options:\n"
				  "  keepalive:\n"
				  "    enabled: false\n"
				  "    time_millis: 0\n"
				  "    interval: 0\n"
				  "  linger:\n"
				  "    enabled: true\n"
				  "    time_seconds: 3\n"
				  "  nodelay: true\n";

static const char catnip_yaml[] =
	"%YAML 1.2\n"
	"---\n"
	"demikernel:\n"
	"  local_ipv4_addr: 10.0.0.1\n"
	"  local_link_addr: \"02:00:00:00:00:01\"\n"
	"dpdk:\n"
	"  eal_init: [\"\", \"-c\", \"0xff\", \"-n\", \"4\", \"-a\", \"0:0.0\"]\n"
	"tcp_socket_options:\n"
	"  keepalive: {enabled: true, time_millis: 60000, interval: 1000}\n"
	"  linger: {enabled: false, time_seconds: 0}\n"
	"  nodelay: false\n"
	"inetstack_config:\n"
	"  mtu: 1500\n"
	"  mss: 1450\n"
	"  enable_jumbo_frames: false\n"
	"  udp_checksum_offload: true\n"
	"  tcp_checksum_offload: true\n"
	"  arp_table:\n"
	"    \"02:00:00:00:00:01\": \"10.0.0.1\"\n"
	"    \"02:00:00:00:00:01\": \"10.0.0.2\"\n"
	"  arp_cache_ttl: 600\n"
	"  arp_request_timeout: 1\n"
	"  arp_request_retries: 2\n"
	"...\n";

static const char catpowder_yaml[] = "demikernel:\n"
				     "  local_ipv4_addr: XX.XX.XX.XX\n"
				     "  local_link_addr: \"ff:ff:ff:ff:ff:ff\"\n"
				     "raw_socket:\n"
				     "  linux_interface_name: \"eth0\"\n"
				     "  xdp_interface_index: 0\n"
				     "  xdp_cohost_mode: false\n"
				     "  xdp_tcp_ports: [80, 443]\n"
				     "  tx_ring_size: 128\n"
				     "dpdk:\n"
				     "tcp_socket_options:\n"
				     "  nodelay: true\n"
				     "inetstack_config:\n"
				     "  mtu: 9000\n";

static void test_demikernel_files(void **state)
{
	struct config config;

	(void)state;
	assert_int_equal(load_bytes(&config, catnap_yaml, strlen(catnap_yaml)), 0);
	expect_silence();
	assert_int_equal(config.keepalive_time_ms, 0);
	assert_int_equal(config.linger, 1);
	assert_int_equal(config.linger_seconds, 3);
	assert_int_equal(load_bytes(&config, catnip_yaml, strlen(catnip_yaml)), 0);
	expect_silence();
	assert_int_equal(config.keepalive, 1);
	assert_int_equal(config.keepalive_time_ms, 60000);
	assert_int_equal(config.keepalive_interval_ms, 1000);
	assert_int_equal(config.nodelay, 0);
	assert_string_equal(config.local_ipv4_addr, "10.0.0.1");
	assert_string_equal(config.mac, "02:00:00:00:00:01");
	assert_string_equal(config.dpdk_eal, "-c 0xff -n 4 -a 0:0.0");
	assert_string_equal(config.arp_table,
			    "02:00:00:00:00:01=10.0.0.1,02:00:00:00:00:01=10.0.0.2");
	assert_int_equal(config.mtu, 1500);
	assert_int_equal(config.tcp_mss, 1450);
	assert_int_equal(config.neighbour_reachable_s, 600);
	assert_int_equal(config.neighbour_retry_s, 1);
	assert_int_equal(config.neighbour_retries, 2);
	assert_int_equal(load_bytes(&config, catpowder_yaml, strlen(catpowder_yaml)), 0);
	expect_silence();
	assert_string_equal(config.interface, "eth0");
	assert_int_equal(config.mtu, 9000);
}

/* A list of words becomes a text; the last list of several counts. */
static void test_words(void **state)
{
	static const struct {
		const char *yaml;
		const char *text; /* NULL: refused */
	} cases[] = {
		{"dpdk: {eal_init: []}", ""},
		{"dpdk: {eal_init: }", ""},
		{"dpdk: {eal_init: -n 4}", "-n 4"},
		{"dpdk: {eal_init: [a]}", "a"},
		{"dpdk:\n  eal_init:\n    - ''\n    - -n\n    - 4\n", "-n 4"},
		{"dpdk: {eal_init: [a, b]}\ndemitasse: {spin_us: 9}", "a b"},
		{"dpdk: {eal_init: [a, b], eal_init: [c]}", "c"},
		{"dpdk: {eal_init: [a, 'b c']}", NULL},
		{"dpdk: {eal_init: [a, \"b\\0\"]}", NULL},
		{"dpdk: {eal_init: [a, [b]]}", NULL},
		{"dpdk: {eal_init: [a, {b: c}]}", NULL},
		{"dpdk: {eal_init: [a, *b]}", NULL},
		{"dpdk: {eal_init: {a: b}}", NULL},
		{"demitasse: {libos: [catnap]}", NULL},
	};

	char yaml[1100] = "dpdk: {eal_init: [";
	struct config config;
	size_t used = strlen(yaml);

	(void)state;
	for (size_t i = 0; i < NUM(cases); i++) {
		int rc = load_bytes(&config, cases[i].yaml, strlen(cases[i].yaml));

		assert_int_equal(rc, cases[i].text ? 0 : -EINVAL);
		if (cases[i].text)
			assert_string_equal(config.dpdk_eal, cases[i].text);
	}
	for (size_t i = 0; i < 256; i++, used += 2) /* with the blanks between: 511 bytes */
		memcpy(yaml + used, "a,", 2);
	memcpy(yaml + used, "]}", 3);
	assert_int_equal(load_bytes(&config, yaml, strlen(yaml)), 0);
	assert_int_equal(strlen(config.dpdk_eal), 511);
	memcpy(yaml + used, "a]}", 4);
	assert_int_equal(load_bytes(&config, yaml, strlen(yaml)), -EINVAL);
}

/* A key that means nothing here may hold anything. */
static void test_compat(void **state)
{
	static const char *const values[] = {"", "7", "[1, [2, {a: b}]]", "{a: {b: [c]}, a: *x}",
					     "*x"};
	struct config config;
	char yaml[256];

	(void)state;
	for (size_t i = 0; i < NUM(compat_paths); i++) {
		for (size_t j = 0; j < NUM(values); j++) {
			const char *dot = strchr(compat_paths[i], '.');

			assert_non_null(dot);
			(void)snprintf(
				yaml, sizeof(yaml), "%.*s: {%s: %s}\ndemitasse: {spin_us: 9}\n",
				(int)(dot - compat_paths[i]), compat_paths[i], dot + 1, values[j]);
			assert_int_equal(load_text(&config, yaml), 0);
			expect_silence();
			assert_int_equal(config.spin_us, 9);
		}
	}
}

/* -- files */

static void test_harmless_yaml(void **state)
{
	static const char *const texts[] = {
		"",
		"\n",
		"# nothing\n",
		"---\n",
		"--- ~\n",
		"null",
		"{}",
		"demitasse:",
		"demitasse: ~",
		"demitasse: {}",
		"\xef\xbb\xbf\"demitasse\": {idle: busy}",
		"? demitasse\n: {idle: busy}",
		"\"demitasse\": {'idle': \"busy\"}",
		"demitasse.idle: busy",
		"demitasse: !!map {idle: !!str busy}",
		"demitasse: &a {idle: &b busy}",
	};
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(texts); i++) {
		int rc = load_text(&config, texts[i]);

		expect_silence();
		assert_int_equal(rc, 0);
		assert_int_equal(config.idle, strstr(texts[i], "busy") != NULL);
	}
	assert_int_equal(config_parse(&config, "none", NULL, 0, &test_log), 0);
}

static void test_unknown_keys(void **state)
{
	static const struct {
		const char *yaml;
		const char *line;
	} cases[] = {
		{"demitasse:\n  spin: 7\n", "unknown key demitasse.spin in demi.yaml:2 is ignored"},
		{"\nclient:\n  connect_to: {host: a, port: [1]}\n",
		 "unknown key client in demi.yaml:2 is ignored"},
		{"demitass: {spin_us: x}", "unknown key demitass in demi.yaml:1 is ignored"},
		{"\"\": {demitasse: {spin_us: x}}", "unknown key  in demi.yaml:1 is ignored"},
		{"demitasse: {\"\": x}", "unknown key demitasse. in demi.yaml:1 is ignored"},
		{"<<: *a", "unknown key << in demi.yaml:1 is ignored"},
		{"demitasse: {spin_us: 4}\ndemitasse: {spin_us: 50}",
		 "demitasse.spin_us in demi.yaml:2 overrides the same key in line 1"},
	};
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(cases); i++) {
		assert_int_equal(load_text(&config, cases[i].yaml), 0);
		expect_line(LOG_LEVEL_WARNING, cases[i].line);
		assert_int_equal(config.spin_us, 50);
	}
}

/* Hundreds of unknown and repeated keys are not hundreds of lines. */
static void test_warnings_many(void **state)
{
	char yaml[8000];
	size_t used = 0;
	struct config config;

	(void)state;
	for (int i = 0; i < 300; i++)
		used += (size_t)snprintf(yaml + used, sizeof(yaml) - used,
					 i % 2 ? "k%d:\n" : "demitasse.spin_us: %d\n", i);
	assert_int_equal(load_bytes(&config, yaml, used), 0);
	assert_int_equal(config.spin_us, 298);
	assert_int_equal(capture.num_lines, 17);
	assert_string_equal(capture.lines[16], "further warnings about keys are left out");
}

static void test_bad_yaml(void **state)
{
	static const struct {
		const char *yaml;
		const char *begin;
	} cases[] = {
		{"raw_socket:\n  tx_ring_size: [1500\n",
		 "bad YAML in demi.yaml:3: did not find expected"},
		{"a: b: c", "bad YAML in demi.yaml:1: mapping values are not allowed"},
		{"a:\n\tb: c",
		 "bad YAML in demi.yaml:2: found character that cannot start any token"},
		{"a: \"b", "bad YAML in demi.yaml:1: found unexpected end of stream"},
		{"a: 1\nb: 2\nc: \xff\xff", "bad YAML in demi.yaml:3: invalid leading UTF-8 octet"},
		{"a: 1\n\x01: 2", "bad YAML in demi.yaml:2: control characters are not allowed"},
		{"- a\n- b", "bad YAML in demi.yaml:1: not a map of keys and values"},
		{"word", "bad YAML in demi.yaml:1: not a map of keys and values"},
		{"\"\"", "bad YAML in demi.yaml:1: not a map of keys and values"},
		{"*a", "bad YAML in demi.yaml:1: not a map of keys and values"},
		{"a: 1\n---\nb: 2", "bad YAML in demi.yaml:2: a second document"},
		{"{[a]: b}", "bad YAML in demi.yaml:1: a key that is not a word"},
		{"? {a: b}\n: c", "bad YAML in demi.yaml:1: a key that is not a word"},
		{"*a : b", "bad YAML in demi.yaml:1: a key that is not a word"},
		{"\"demitasse\\0x\": {}", "bad YAML in demi.yaml:1: a key with a zero byte"},
		{"x: [[[[[[[[[[[[[[[[[[[[[[a", "bad YAML in demi.yaml:1: too deeply nested"},
		{"x: {{{{{{{{{{{{{{{{{{{{{{a", "bad YAML in demi.yaml:1: too deeply nested"},
	};
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(cases); i++) {
		assert_int_equal(load_text(&config, cases[i].yaml), -EINVAL);
		/* Warnings of unknown keys may come before. */
		assert_int_equal(capture.count[LOG_LEVEL_ERROR], 1);
		const char *last = capture.lines[capture.num_lines - 1];
		if (strncmp(last, cases[i].begin, strlen(cases[i].begin)) != 0)
			fail_msg("%s; expected %s", last, cases[i].begin);
	}
}

static void test_nesting(void **state)
{
	char text[64];
	struct config config;

	(void)state;
	/* The root map counts as one. */
	for (size_t depth = 1; depth < 30; depth++) {
		size_t used = (size_t)snprintf(text, sizeof(text), "raw_socket: {tx_ring_size: ");

		memset(text + used, '[', depth);
		memset(text + used + depth, ']', 1);
		text[used + depth] = '\0';
		int rc = load_text(&config, text);
		assert_int_equal(rc, -EINVAL);
		assert_int_equal(!strstr(capture.lines[0], "too deeply"), depth <= 14);
	}
}

static void test_unreadable_files(void **state)
{
	static const struct {
		const char *path;
		int rc;
		const char *line;
	} cases[] = {
		{"/nonexistent/demi.yaml", -ENOENT,
		 "cannot read the configuration file /nonexistent/demi.yaml: No such file or "
		 "directory"},
		{"", -ENOENT, "cannot read the configuration file : No such file or directory"},
		{"/", -EISDIR, "cannot read the configuration file /: Is a directory"},
		{"/dev/null/x", -ENOTDIR,
		 "cannot read the configuration file /dev/null/x: Not a directory"},
		{"/dev/zero", -EFBIG,
		 "cannot read the configuration file /dev/zero: larger than 1 MiB"},
	};
	struct config config;

	(void)state;
	for (size_t i = 0; i < NUM(cases); i++) {
		memset(&capture, 0, sizeof(capture));
		errno = ENOTTY;
		assert_int_equal(config_load(&config, cases[i].path, NULL, &test_log), cases[i].rc);
		assert_int_equal(errno, ENOTTY);
		expect_line(LOG_LEVEL_ERROR, cases[i].line);
	}
	assert_int_equal(config_load(&config, "/dev/null", NULL, &test_log), 0);
}

static void test_forbidden_file(void **state)
{
	char path[] = "/tmp/demi-config-XXXXXX";
	int fd = mkstemp(path);
	bool is_root = !geteuid();
	struct config config;

	(void)state;
	assert_return_code(fd, errno);
	assert_return_code(fchmod(fd, 0), errno);
	if (is_root)
		assert_return_code(seteuid(65534), errno);
	int rc = config_load(&config, path, NULL, &test_log);
	if (is_root)
		assert_return_code(seteuid(0), errno);
	(void)close(fd);
	(void)unlink(path);
	assert_int_equal(rc, -EACCES);
	assert_non_null(strstr(capture.lines[0], "Permission denied"));
}

static void test_file_size(void **state)
{
	size_t size = (size_t)1 << 20;
	char *text = test_malloc(size + 1);
	struct config config;

	(void)state;
	memset(text, '\n', size + 1);
	memcpy(text, "demitasse: {idle: busy}", 23);
	assert_int_equal(load_bytes(&config, text, size), 0);
	assert_int_equal(config.idle, 1);
	assert_int_equal(load_bytes(&config, text, size + 1), -EFBIG);
	assert_int_equal(capture.num_lines, 1);
	test_free(text);
}

/* Every prefix of a good file and every single byte changed: any answer, no crash, no leak. */
static void test_damaged_file(void **state)
{
	static const char bytes[] = {0,   '\t', '\n', ' ', '"',    '[',   '{',
				     '*', '&',  ':',  '-', '\x80', '\xff'};
	char text[sizeof(catnip_yaml)];
	struct config config;

	(void)state;
	for (size_t length = 0; length < sizeof(catnip_yaml); length++) {
		memset(&capture, 0, sizeof(capture));
		(void)config_parse(&config, "prefix", catnip_yaml, length, &test_log);
	}
	for (size_t i = 0; i < strlen(catnip_yaml); i++) {
		for (size_t j = 0; j < NUM(bytes); j++) {
			memcpy(text, catnip_yaml, sizeof(text));
			text[i] = bytes[j];
			memset(&capture, 0, sizeof(capture));
			(void)config_parse(&config, "changed", text, strlen(catnip_yaml),
					   &test_log);
		}
	}
}

/* -- every allocation failed in turn */

static int load_everything(struct config *config, const char *path)
{
	struct config_override *list = NULL;
	int rc = config_override_set(&list, "spin_us", "1", &test_log);

	if (!rc)
		rc = config_override_set(&list, "idle", "busy", &test_log);
	if (!rc)
		rc = config_override_set(&list, "spin_us", "2", &test_log);
	if (!rc)
		rc = config_load(config, path, list, &test_log);
	config_override_free(&list);
	return rc;
}

static void test_allocations_fail(void **state)
{
	char path[64];
	struct config config;
	int fd = memfd_create("config", MFD_CLOEXEC);
	int failed = 0;
	int rc = -ENOMEM;

	(void)state;
	assert_int_equal(write(fd, catnap_yaml, strlen(catnap_yaml)), strlen(catnap_yaml));
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	while (rc) {
		assert_int_equal(rc, -ENOMEM);
		fault_fail_from((uint64_t)failed + 1);
		rc = load_everything(&config, path);
		failed += rc != 0;
	}
	(void)fault_off();
	(void)close(fd);
	assert_int_equal(failed, 4);
	assert_int_equal(config.spin_us, 2);
}

/* A replacement that fails leaves the old value. */
static void test_override_keeps_old(void **state)
{
	struct config_override *list = NULL;
	struct config config;

	(void)state;
	assert_int_equal(config_override_set(&list, "spin_us", "7", &test_log), 0);
	fault_fail(1);
	assert_int_equal(config_override_set(&list, "spin_us", "8", &test_log), -ENOMEM);
	(void)fault_off();
	assert_int_equal(config_override_set(&list, "spin_us", "x", &test_log), -EINVAL);
	assert_int_equal(config_load(&config, NULL, list, &test_log), 0);
	assert_int_equal(config.spin_us, 7);
	config_override_free(&list);
}

/* -- what `demi stat` shows */

struct shown {
	size_t count;
	const struct config *config;
};

static void check_shown(void *arg, const char *field, const char *value)
{
	struct shown *shown = arg;
	const struct key *key = &keys[shown->count++];

	assert_string_equal(field, key->field);
	if (key->text) {
		assert_ptr_equal(value, text_of(shown->config, key));
	} else if (key->type == CHOICE) {
		assert_string_equal(value, key->choices[value_of(shown->config, key)]);
		assert_ptr_equal(value, config_choice_name(shown->config, field));
	} else {
		assert_int_equal(strtoll(value, NULL, 10), value_of(shown->config, key));
	}
}

static void test_each(void **state)
{
	struct config config;
	struct shown shown = {.config = &config};

	(void)state;
	assert_int_equal(load_by_override(&config, "idle", "BUSY"), 0);
	config_each(&config, check_shown, &shown);
	assert_int_equal(shown.count, NUM(keys));
	assert_string_equal(config_choice_name(&config, "idle"), "busy");
	assert_string_equal(config_choice_name(&config, "libos"), "catnap");
}

#define T(test) cmocka_unit_test_setup(test, set_up)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_defaults),
		T(test_number_ranges),
		T(test_number_malformed),
		T(test_number_suffixes),
		T(test_choices),
		T(test_choices_malformed),
		T(test_strings),
		T(test_maps),
		T(test_map_of_file),
		T(test_map_of_file_refused),
		T(test_map_of_file_longest),
		T(test_messages),
		T(test_messages_long),
		T(test_libos),
		T(test_demikernel_variables),
		T(test_demikernel_variables_all),
		T(test_unknown_variable),
		T(test_no_environment),
		T(test_precedence),
		T(test_precedence_variables),
		T(test_overrides),
		T(test_demikernel_files),
		T(test_words),
		T(test_compat),
		T(test_harmless_yaml),
		T(test_unknown_keys),
		T(test_warnings_many),
		T(test_bad_yaml),
		T(test_nesting),
		T(test_unreadable_files),
		T(test_forbidden_file),
		T(test_file_size),
		T(test_damaged_file),
		T(test_allocations_fail),
		T(test_override_keeps_old),
		T(test_each),
	};

	return test_run("config", tests);
}
