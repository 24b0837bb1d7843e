/* SPDX-License-Identifier: MIT
 * tools/demi/helper/policy.h - what the administrator allows: pure functions of it and of what a
 * client asks for.
 *
 * A client is taken to be hostile.  What it sent is copied before it is looked at.
 */
#pragma once

#include "base/log.h"
#include "netdev/afxdp/remote.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define POLICY_INTERFACES_MAX 32
#define POLICY_RANGES_MAX     32

struct policy_prefix {
	struct ip_address address;
	uint32_t bits; /* of the 128 */
};

struct policy_queues {
	uint32_t first;
	uint32_t last;
};

struct policy {
	uint32_t num_interfaces;
	uint32_t num_prefixes; /* 0: any address that is not the kernel's */
	uint32_t num_ports;    /* 0: none may be shared */
	uint32_t num_queues;   /* 0: any */
	uint64_t memory_max;   /* of a client, bytes */
	bool promiscuous;
	char interfaces[POLICY_INTERFACES_MAX][IFNAMSIZ];
	struct policy_prefix prefixes[POLICY_RANGES_MAX];
	struct grant_ports ports[POLICY_RANGES_MAX];
	struct policy_queues queues[POLICY_RANGES_MAX];
};

/* Read the text of an option, separated by commas: names; 10.0.0.0/24,fd00::/8,10.0.1.7;
 * tcp:80,udp:5000-5999; 0-3,7.  0, or -1: complained of. */
int policy_read_interfaces(struct policy *policy, const char *text);
int policy_read_addresses(struct policy *policy, const char *text);
int policy_read_ports(struct policy *policy, const char *text);
int policy_read_queues(struct policy *policy, const char *text);

/* What arrived on a connection: length as recvmsg says, truncated by its flags.  0, or -EPROTO if
 * it is not a request, told. */
int policy_parse(const struct log *log, const void *bytes, size_t length, bool truncated,
		 struct remote_request *out);

/* May this be opened?  0 or -errno, told. */
int policy_open(const struct policy *policy, const struct log *log,
		const struct grant_request *request);
/* May this address be steered, as far as addresses are named?  0 or -EACCES, told. */
int policy_address(const struct policy *policy, const struct log *log,
		   const struct ip_address *address);

/* Is any port in both? */
bool policy_ports_meet(const struct grant_ports *a, const struct grant_ports *b);

/* For the log: 10.0.0.1, fd00::1. */
#define POLICY_ADDRESS_TEXT 46
const char *policy_address_text(const struct ip_address *address, char text[POLICY_ADDRESS_TEXT]);
