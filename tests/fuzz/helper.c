/* SPDX-License-Identifier: MIT
 * tests/fuzz/helper.c - what clients send to demi-xdp-helper, up to where it would be done.
 *
 * The first byte says which policy; the rest is the message.  What passes all of the judgement must
 * be within the policy, told by a second look at it here.
 */
#include "helper/policy.h"

#include "base/assert.h"
#include "netdev/afxdp/translate.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void swallow(void *arg, int level, const char *message)
{
	(void)arg;
	ASSERT(level > 0 && strlen(message) <= LOG_MESSAGE_MAX);
}

static void make_policy(struct policy *policy, uint8_t which)
{
	*policy = (struct policy){.memory_max = (uint64_t)4096 << (which & 15),
				  .promiscuous = which & 16};
	ASSERT(policy_read_interfaces(policy, "eth0,eth1") == 0);
	if (which & 32)
		ASSERT(policy_read_ports(policy, "tcp:80-89,udp:53") == 0);
	if (which & 64)
		ASSERT(policy_read_queues(policy, "0-3,8") == 0);
	if (which & 128)
		ASSERT(policy_read_addresses(policy, "10.0.0.0/8,fd00::/7") == 0);
}

static void check_open(const struct policy *policy, const struct grant_request *request)
{
	ASSERT(strcmp(request->interface, "eth0") == 0 || strcmp(request->interface, "eth1") == 0);
	ASSERT(request->memory_bytes > 0 && request->memory_bytes <= policy->memory_max);
	ASSERT(policy->promiscuous || !request->promiscuous);
	ASSERT(policy->num_queues == 0 || request->queue <= 3 || request->queue == 8);
	ASSERT(request->num_ports <= (policy->num_ports ? GRANT_PORTS_MAX : 0));
	for (int i = 0; i < request->num_ports; i++) {
		const struct grant_ports *ports = &request->ports[i];
		ASSERT(ports->first <= ports->last);
		ASSERT(ports->protocol == 6 ? ports->first >= 80 && ports->last <= 89
					    : ports->first == 53 && ports->last == 53);
	}
}

static void check_address(const struct policy *policy, const struct ip_address *address)
{
	if (policy->num_prefixes > 0)
		ASSERT(ip_is_v4(address) ? address->bytes[12] == 10
					 : (address->bytes[0] & 0xfe) == 0xfc);
}

/* What is taken runs, and becomes eBPF of the length that there is room for. */
static void check_filter(const struct remote_request *request)
{
	static struct bpf_insn insns[TRANSLATE_MAX];
	const struct translate_maps maps = {.sockets = 3, .record = 4, .counts = 5};
	const struct cbpf_record record = {.is_datagram = true};

	ASSERT(request->count > 0 && request->count <= CBPF_MAX);
	(void)cbpf_run(request->program, &record);
	ASSERT(translate(request->program, request->count, 53, &maps, insns) <= TRANSLATE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct log log = {.fn = swallow};
	struct remote_request request;
	struct policy policy;

	if (size < 1)
		return 0;
	make_policy(&policy, data[0]);
	/* of its own size, so that a sanitizer sees what is read behind it */
	uint8_t *message = malloc(size);
	ASSERT(message);
	memcpy(message, data + 1, size - 1);
	if (policy_parse(&log, message, size - 1, false, &request) == 0) {
		if (request.kind == REMOTE_STEER &&
		    policy_address(&policy, &log, &request.address) == 0)
			check_address(&policy, &request.address);
		if (request.kind == REMOTE_OPEN && policy_open(&policy, &log, &request.grant) == 0)
			check_open(&policy, &request.grant);
		if (request.kind == REMOTE_FILTER &&
		    cbpf_check(request.program, request.count) == 0)
			check_filter(&request);
	}
	free(message);
	return 0;
}
