/* SPDX-License-Identifier: MIT
 * tests/packet/adapter_script.c - what packetdrill and its script say that the interface does not
 * pass on: options, on the command line or in the script's first lines, and the sysctls that a
 * script sets for the system's own stack.
 *
 * The command line is that of this process, if it is packetdrill; the script is its last argument.
 */
#include "packet/adapter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The file's bytes with a 0 behind; NULL: it cannot be read.  Freed by the caller. */
static char *read_all(const char *path, size_t *length)
{
	FILE *file = fopen(path, "re");
	char *bytes = NULL;
	size_t room = 0;
	size_t n;

	*length = 0;
	if (!file)
		return NULL;
	do {
		room += 65536;
		char *bigger = realloc(bytes, room + 1);
		if (!bigger)
			abort();
		bytes = bigger;
		n = fread(bytes + *length, 1, room - *length, file);
		*length += n;
	} while (n > 0);
	(void)fclose(file);
	bytes[*length] = '\0';
	return bytes;
}

static void take_option(const char *text, adapter_tell_t tell, void *arg)
{
	static const char *const names[][2] = {{"--mtu=", "mtu"}, {"--local_ip=", "local"}};
	char value[64];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t length = strlen(names[i][0]);
		if (strncmp(text, names[i][0], length) != 0)
			continue;
		size_t bytes = strcspn(text + length, " \t\r\n");
		if (bytes == 0 || bytes >= sizeof(value))
			return;
		memcpy(value, text + length, bytes);
		value[bytes] = '\0';
		tell(arg, names[i][1], value);
	}
}

static void take_script(const char *text, adapter_tell_t tell, void *arg)
{
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		take_option(line, tell, arg);
	}
	if (strstr(text, "net.ipv4.tcp_ecn=1"))
		tell(arg, "tcp_ecn", "active");
}

void adapter_read_script(adapter_tell_t tell, void *arg)
{
	size_t length;
	size_t script_length;
	char *line = read_all("/proc/self/cmdline", &length);
	const char *last = NULL;

	if (!line)
		return;
	const char *slash = strrchr(line, '/');
	if (strncmp(slash ? slash + 1 : line, "packetdrill", 11) == 0) {
		for (const char *word = line; word < line + length; word += strlen(word) + 1)
			last = word;
	}
	char *script = last ? read_all(last, &script_length) : NULL;
	if (script)
		take_script(script, tell, arg);
	/* The command line wins, as with packetdrill. */
	for (const char *word = line; last && word < last; word += strlen(word) + 1)
		take_option(word, tell, arg);
	free(script);
	free(line);
}
