/* SPDX-License-Identifier: MIT
 * tests/unit/log_test.c - base/log.c: the default sink's bytes, cuts, the callback's guard,
 * log_once.
 */
#include "support/test.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

struct capture {
	uint32_t gate;
	uint32_t gate_seen;
	int count;
	int level;
	char message[LOG_MESSAGE_MAX + 2];
};

static void capture_line(void *arg, int level, const char *message)
{
	struct capture *capture = arg;

	capture->count++;
	capture->level = level;
	capture->gate_seen = capture->gate;
	(void)snprintf(capture->message, sizeof(capture->message), "%s", message);
	errno = EXDEV;
}

static struct log capture_log(struct capture *capture)
{
	*capture = (struct capture){.gate = 1};
	return (struct log){.fn = capture_line, .arg = capture, .gate = &capture->gate};
}

/* Runs log_write with the default sink and returns what it wrote to fd 2. */
static size_t stderr_of(enum log_level level, const char *message, char *out, size_t size)
{
	struct log log = {0};
	int saved = dup(STDERR_FILENO);
	int ends[2];

	/* Packets keep one write apart from the next. */
	assert_return_code(pipe2(ends, O_DIRECT | O_NONBLOCK), errno);
	assert_return_code(dup2(ends[1], STDERR_FILENO), errno);
	log_write(&log, level, "%s", message);
	assert_return_code(dup2(saved, STDERR_FILENO), errno);
	ssize_t got = read(ends[0], out, size - 1);
	out[got > 0 ? got : 0] = '\0';
	assert_int_equal(read(ends[0], &(char){0}, 1), -1);
	(void)close(ends[0]);
	(void)close(ends[1]);
	(void)close(saved);
	return got > 0 ? (size_t)got : 0;
}

static void test_default_sink(void **state)
{
	static const struct {
		enum log_level level;
		const char *message;
		const char *line;
	} cases[] = {
		{LOG_LEVEL_ERROR, "it broke", "demitasse: error: it broke\n"},
		{LOG_LEVEL_WARNING, "it bends", "demitasse: warning: it bends\n"},
		{LOG_LEVEL_WARNING, "", "demitasse: warning: \n"},
		{LOG_LEVEL_INFO, "it is so", ""},
		{LOG_LEVEL_ERROR, "two\nlines\t\x1b[31m\x7f",
		 "demitasse: error: two?lines??[31m?\n"},
		{LOG_LEVEL_ERROR, "gr\xc3\xbc\xc3\x9f", "demitasse: error: gr\xc3\xbc\xc3\x9f\n"},
	};

	char out[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)stderr_of(cases[i].level, cases[i].message, out, sizeof(out));
		assert_string_equal(out, cases[i].line);
	}
}

static void test_default_sink_long(void **state)
{
	char message[2000];
	char out[1024];

	(void)state;
	memset(message, 'a', sizeof(message) - 1);
	message[sizeof(message) - 1] = '\0';
	size_t length = stderr_of(LOG_LEVEL_ERROR, message, out, sizeof(out));
	assert_int_equal(length, strlen("demitasse: error: ") + LOG_MESSAGE_MAX + 1);
	assert_string_equal(out + length - 5, "a...\n");
}

/* A lost line is no reason to fail, nor to touch errno. */
static void test_default_sink_closed(void **state)
{
	struct log log = {0};
	int saved = dup(STDERR_FILENO);

	(void)state;
	(void)close(STDERR_FILENO);
	errno = ENOTTY;
	log_write(&log, LOG_LEVEL_ERROR, "nobody hears %d", 1);
	assert_int_equal(errno, ENOTTY);
	assert_return_code(dup2(saved, STDERR_FILENO), errno);
	(void)close(saved);
}

/* unit is repeated after prefix up to length bytes; tail is how the message then ends. */
static void test_cut(void **state)
{
	static const struct {
		const char *prefix;
		const char *unit;
		size_t length;
		size_t expected;
		const char *tail;
	} cases[] = {
		{"", "x", 0, 0, ""},
		{"", "x", 511, 511, "x"},
		{"", "x", 512, 512, "xx"},
		{"", "x", 513, 512, "x..."},
		{"", "x", 5000, 512, "x..."},
		{"", "\xc3\xbc", 600, 511, "\xc3\xbc..."},
		{"x", "\xc3\xbc", 601, 512, "\xc3\xbc..."},
		{"", "\xf0\x9f\x98\x80", 600, 511, "\xf0\x9f\x98\x80..."},
		{"xxx", "\xf0\x9f\x98\x80", 603, 510, "\xf0\x9f\x98\x80..."},
		{"", "\x80", 600, 509, "\x80..."},
	};
	struct capture capture;
	struct log log = capture_log(&capture);
	char text[6000];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t unit = strlen(cases[i].unit);
		size_t used = strlen(cases[i].prefix);

		memcpy(text, cases[i].prefix, used);
		for (; used < cases[i].length; used += unit)
			memcpy(text + used, cases[i].unit, unit);
		text[used] = '\0';
		log_write(&log, LOG_LEVEL_INFO, "%s", text);
		size_t length = strlen(capture.message);
		assert_int_equal(length, cases[i].expected);
		assert_string_equal(capture.message + length - strlen(cases[i].tail),
				    cases[i].tail);
	}
}

static void test_callback(void **state)
{
	struct capture capture;
	struct log log = capture_log(&capture);

	(void)state;
	errno = ENOTTY;
	log_write(&log, LOG_LEVEL_INFO, "%s is %d", "seven", 7);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(capture.count, 1);
	assert_int_equal(capture.level, LOG_LEVEL_INFO);
	assert_string_equal(capture.message, "seven is 7");
	assert_int_equal(capture.gate_seen, 0);
	assert_int_equal(capture.gate, 1);
	log.gate = NULL;
	log_write(&log, LOG_LEVEL_WARNING, "no guard");
	assert_int_equal(capture.count, 2);
	assert_int_equal(capture.gate_seen, 1);
}

static const char bad_wide[] = "%ls";

static void test_unformattable(void **state)
{
	struct capture capture;
	struct log log = capture_log(&capture);
	static const wchar_t not_a_character[] = {0x7fffffff, 0};

	(void)state;
	log_write(&log, LOG_LEVEL_INFO, bad_wide, not_a_character);
	assert_string_equal(capture.message, "(a message that cannot be formatted)");
}

static void test_once(void **state)
{
	static const char formats[LOG_SEEN_MAX + 2][4] = {{0}};
	struct capture capture;
	struct log log = capture_log(&capture);
	struct log_seen seen = {0};
	struct log_seen other = {0};

	(void)state;
	for (int i = 0; i < 5; i++)
		log_once(&log, &seen, LOG_LEVEL_WARNING, "value %d", i);
	assert_int_equal(capture.count, 1);
	assert_string_equal(capture.message, "value 0");
	log_once(&log, &other, LOG_LEVEL_WARNING, "value %d", 9);
	assert_int_equal(capture.count, 2);
	seen = (struct log_seen){0};
	capture.count = 0;
	/* The formats are told apart by address, not text; beyond the set all count as seen. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < LOG_SEEN_MAX + 2; i++)
			log_once(&log, &seen, LOG_LEVEL_WARNING, formats[i]);
	}
#pragma GCC diagnostic pop
	assert_int_equal(capture.count, LOG_SEEN_MAX);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default_sink),
		cmocka_unit_test(test_default_sink_long),
		cmocka_unit_test(test_default_sink_closed),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_callback),
		cmocka_unit_test(test_unformattable),
		cmocka_unit_test(test_once),
	};

	return test_run("log", tests);
}
