/* SPDX-License-Identifier: MIT
 * tools/demi/helper/policy.c - see policy.h.
 */
#include "helper/policy.h"

#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX 64

/* ---- the options ---- */

/* The next word of a list, copied; false: it ended.  *bad: it is too long or empty. */
static bool next_word(const char **at, char word[WORD_MAX], bool *bad)
{
	if (!**at)
		return false;
	size_t length = strcspn(*at, ",");
	*bad = length == 0 || length >= WORD_MAX;
	if (!*bad)
		memcpy(word, *at, length);
	word[*bad ? 0 : length] = '\0';
	*at += length + ((*at)[length] == ',');
	return true;
}

/* A decimal number that fills text up to end.  0 or -1. */
static int read_number(const char *text, const char *end, unsigned long max, uint32_t *out)
{
	char *stop;

	if (*text < '0' || *text > '9')
		return -1;
	unsigned long number = strtoul(text, &stop, 10);
	if (stop != end || number > max)
		return -1;
	*out = (uint32_t)number;
	return 0;
}

/* "7" or "0-3".  0 or -1. */
static int read_range(const char *text, unsigned long max, uint32_t *first, uint32_t *last)
{
	const char *end = text + strlen(text);
	const char *dash = strchr(text, '-');

	if (read_number(text, dash ? dash : end, max, first))
		return -1;
	*last = *first;
	if (dash && read_number(dash + 1, end, max, last))
		return -1;
	return *last < *first ? -1 : 0;
}

static int read_interface(struct policy *policy, const char *word)
{
	if (strlen(word) >= IFNAMSIZ || strchr(word, '/'))
		return -1;
	tool_copy_text(policy->interfaces[policy->num_interfaces++], IFNAMSIZ, word);
	return 0;
}

static int read_prefix(struct policy *policy, const char *word)
{
	struct policy_prefix *prefix = &policy->prefixes[policy->num_prefixes];
	char text[WORD_MAX];
	uint32_t v4;
	size_t length = strcspn(word, "/");
	uint32_t bits = UINT32_MAX;

	memcpy(text, word, length);
	text[length] = '\0';
	bool is_v4 = inet_pton(AF_INET, text, &v4) == 1;
	if (is_v4)
		prefix->address = ip_from_v4(v4);
	else if (inet_pton(AF_INET6, text, prefix->address.bytes) != 1)
		return -1;
	uint32_t whole = is_v4 ? 32 : 128;
	if (word[length] && read_number(word + length + 1, word + strlen(word), whole, &bits))
		return -1;
	prefix->bits = (bits > whole ? whole : bits) + (is_v4 ? 96 : 0);
	policy->num_prefixes++;
	return 0;
}

static int read_ports(struct policy *policy, const char *word)
{
	struct grant_ports *ports = &policy->ports[policy->num_ports];
	uint32_t first;
	uint32_t last;

	if (strncmp(word, "tcp:", 4) != 0 && strncmp(word, "udp:", 4) != 0)
		return -1;
	if (read_range(word + 4, UINT16_MAX, &first, &last) || first == 0)
		return -1;
	*ports = (struct grant_ports){.protocol = *word == 't' ? IPPROTO_TCP : IPPROTO_UDP,
				      .first = (uint16_t)first,
				      .last = (uint16_t)last};
	policy->num_ports++;
	return 0;
}

static int read_queues(struct policy *policy, const char *word)
{
	struct policy_queues *queues = &policy->queues[policy->num_queues];

	if (read_range(word, STEER_SLOTS - 1, &queues->first, &queues->last))
		return -1;
	policy->num_queues++;
	return 0;
}

static int read_list(struct policy *policy, const char *text, const char *option,
		     int (*read)(struct policy *, const char *))
{
	char word[WORD_MAX];
	bool bad;
	const char *at = text;

	for (uint32_t i = 0; next_word(&at, word, &bad); i++) {
		if (bad || i == POLICY_RANGES_MAX || read(policy, word)) {
			tool_complain("--%s: '%s': %s", option, text,
				      i == POLICY_RANGES_MAX ? "more than 32"
							     : "--help shows the form");
			return -1;
		}
	}
	return 0;
}

int policy_read_interfaces(struct policy *policy, const char *text)
{
	return read_list(policy, text, "interface", read_interface);
}

int policy_read_addresses(struct policy *policy, const char *text)
{
	return read_list(policy, text, "addresses", read_prefix);
}

int policy_read_ports(struct policy *policy, const char *text)
{
	return read_list(policy, text, "ports", read_ports);
}

int policy_read_queues(struct policy *policy, const char *text)
{
	return read_list(policy, text, "queues", read_queues);
}

/* ---- requests ---- */

/* What stands in a bool of a message must be one: anything else is undefined in C. */
static bool is_bool(const void *at)
{
	uint8_t byte;

	memcpy(&byte, at, 1);
	return byte <= 1;
}

int policy_parse(const struct log *log, const void *bytes, size_t length, bool truncated,
		 struct remote_request *out)
{
	if (length != sizeof(*out) || truncated) {
		log_write(log, LOG_LEVEL_ERROR,
			  "a message of %zu bytes%s, not %zu: not a request of this version",
			  length, truncated ? " and more" : "", sizeof(*out));
		return -EPROTO;
	}
	memcpy(out, bytes, length);
	if (out->version != REMOTE_VERSION || out->kind < REMOTE_OPEN ||
	    out->kind > REMOTE_FILTER || out->wanted > 1 || !is_bool(&out->grant.alone) ||
	    !is_bool(&out->grant.promiscuous) || out->grant.num_ports > GRANT_PORTS_MAX ||
	    out->count > CBPF_MAX) {
		log_write(log, LOG_LEVEL_ERROR, "not a request of this version");
		return -EPROTO;
	}
	return 0;
}

static bool interface_allowed(const struct policy *policy, const char *name)
{
	for (uint32_t i = 0; i < policy->num_interfaces; i++) {
		if (strcmp(policy->interfaces[i], name) == 0)
			return true;
	}
	return false;
}

static bool queue_allowed(const struct policy *policy, uint32_t queue)
{
	for (uint32_t i = 0; i < policy->num_queues; i++) {
		if (queue >= policy->queues[i].first && queue <= policy->queues[i].last)
			return true;
	}
	return policy->num_queues == 0;
}

static bool ports_allowed(const struct policy *policy, const struct grant_ports *asked)
{
	for (uint32_t i = 0; i < policy->num_ports; i++) {
		const struct grant_ports *ports = &policy->ports[i];
		if (asked->protocol == ports->protocol && asked->first >= ports->first &&
		    asked->last <= ports->last)
			return true;
	}
	return false;
}

static int all_ports_allowed(const struct policy *policy, const struct log *log,
			     const struct grant_request *request)
{
	for (uint32_t i = 0; i < request->num_ports; i++) {
		const struct grant_ports *ports = &request->ports[i];
		if (ports_allowed(policy, ports))
			continue;
		log_write(log, LOG_LEVEL_ERROR, "ports %s:%u-%u: not allowed (--ports)",
			  ports->protocol == IPPROTO_TCP ? "tcp" : "udp", ports->first,
			  ports->last);
		return -EACCES;
	}
	return 0;
}

int policy_open(const struct policy *policy, const struct log *log,
		const struct grant_request *request)
{
	int err = grant_check(log, request);

	if (err)
		return err;
	if (!interface_allowed(policy, request->interface)) {
		log_write(log, LOG_LEVEL_ERROR, "interface %s: not allowed (--interface)",
			  request->interface);
		return -EACCES;
	}
	for (uint32_t queue = request->queue; queue < request->queue + request->queues; queue++) {
		if (queue_allowed(policy, queue))
			continue;
		log_write(log, LOG_LEVEL_ERROR, "interface %s, queue %u: not allowed (--queues)",
			  request->interface, queue);
		return -EACCES;
	}
	if (request->memory_bytes > policy->memory_max) {
		log_write(log, LOG_LEVEL_ERROR,
			  "%llu bytes of memory: at most %llu are allowed (--max-memory)",
			  (unsigned long long)request->memory_bytes,
			  (unsigned long long)policy->memory_max);
		return -EDQUOT;
	}
	if (request->promiscuous && !policy->promiscuous) {
		log_write(log, LOG_LEVEL_ERROR,
			  "interface %s: a link-layer address of its own, so the interface "
			  "promiscuous: not allowed (--promiscuous)",
			  request->interface);
		return -EACCES;
	}
	return all_ports_allowed(policy, log, request);
}

int policy_address(const struct policy *policy, const struct log *log,
		   const struct ip_address *address)
{
	char text[POLICY_ADDRESS_TEXT];

	for (uint32_t i = 0; i < policy->num_prefixes; i++) {
		const struct policy_prefix *prefix = &policy->prefixes[i];
		if (ip_same_prefix(address, &prefix->address, prefix->bits))
			return 0;
	}
	if (policy->num_prefixes == 0)
		return 0;
	log_write(log, LOG_LEVEL_ERROR, "address %s: not allowed (--addresses)",
		  policy_address_text(address, text));
	return -EACCES;
}

bool policy_ports_meet(const struct grant_ports *a, const struct grant_ports *b)
{
	return a->protocol == b->protocol && a->first <= b->last && b->first <= a->last;
}

const char *policy_address_text(const struct ip_address *address, char text[POLICY_ADDRESS_TEXT])
{
	bool is_v4 = ip_is_v4(address);

	(void)inet_ntop(is_v4 ? AF_INET : AF_INET6, address->bytes + (is_v4 ? 12 : 0), text,
			POLICY_ADDRESS_TEXT);
	return text;
}
