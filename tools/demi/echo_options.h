/* SPDX-License-Identifier: MIT
 * tools/demi/echo_options.h - the options that `demi bench echo` and `demi bench size` share, and
 * the contest they describe.
 */
#pragma once

#include "contest.h"
#include "options.h"

#define ECHO_RATES_MAX 32

struct echo_options {
	const char *libos, *client, *reference, *device, *proto, *idle, *role, *address, *local,
		*rates, *json, *plot, *log_file;
	uint64_t size, connections, depth, rounds, pairs, core, port;
	double seconds;
	bool log, one_way;
	char log_path[LOG_FILE_PATH_MAX];    /* of log or log_file; empty: none */
	char rdma_address[INET6_ADDRSTRLEN]; /* what address is over RDMA, if none was given */
	struct echo_link own_link;
	const struct echo_link *link; /* own_link, if --device asks for one; lasts until we end */
	double rates_per_s[ECHO_RATES_MAX]; /* of --rate; none: closed loop */
	size_t rate_count;
};

/* Which command reads them: some options have another default or no meaning there. */
enum echo_command { ECHO_COMMAND_ECHO, ECHO_COMMAND_SIZE };

/* Fills in defaults, reads and checks. TOOL_GOOD; TOOL_USAGE after a complaint; -1: help was
 * printed. */
int echo_options_read(struct echo_options *options, enum echo_command command, int argc,
		      char **argv);

/* Adds NAME and its references for this size and rate. TOOL_GOOD, or TOOL_USAGE after a complaint.
 */
int echo_options_contest(const struct echo_options *options, size_t size, double rate_per_s,
			 struct contest *contest);
