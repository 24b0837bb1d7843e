/* SPDX-License-Identifier: MIT
 * netdev/afxdp/request.c - from configuration to what is asked of who has the privilege.
 */
#include "netdev/afxdp/afxdp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SPREAD_AUTO, SPREAD_DEVICE, SPREAD_PROGRAM }; /* the choices of the key xdp_spread */

static uint32_t power_of_two(uint64_t n)
{
	return n <= 1 ? 1 : (uint32_t)2 << bits_highest(n - 1);
}

/* A decimal port, at *at, which moves behind it.  0: none. */
static uint16_t parse_port(const char **at)
{
	char *end;
	unsigned long port = strtoul(*at, &end, 10);

	if (end == *at || **at < '0' || **at > '9' || port > UINT16_MAX)
		return 0;
	*at = end;
	return (uint16_t)port;
}

/* "tcp:80" or "udp:1000-1999", at *at, which moves behind it. */
static bool parse_range(const char **at, struct grant_ports *ports)
{
	if (strncmp(*at, "tcp:", 4) != 0 && strncmp(*at, "udp:", 4) != 0)
		return false;
	ports->protocol = **at == 't' ? IPPROTO_TCP : IPPROTO_UDP;
	*at += 4;
	ports->first = parse_port(at);
	ports->last = ports->first;
	if (**at == '-') {
		(*at)++;
		ports->last = parse_port(at);
	}
	return ports->first > 0 && ports->last >= ports->first;
}

/* 0 or -EINVAL, told. */
static int parse_ports(struct sched *sched, struct grant_request *request)
{
	const char *text = sched->config.xdp_ports;
	const char *at = text;

	while (*(at += strspn(at, " ,"))) {
		if (request->num_ports == GRANT_PORTS_MAX ||
		    !parse_range(&at, &request->ports[request->num_ports]) ||
		    (*at && !strchr(" ,", *at))) {
			log_write(&sched->log, LOG_LEVEL_ERROR,
				  "demitasse.xdp.ports: \"%s\": must be at most %d ranges as "
				  "tcp:80,udp:5000-5999",
				  text, GRANT_PORTS_MAX);
			return -EINVAL;
		}
		request->num_ports++;
	}
	return 0;
}

/* Does the program share flows out among several instances, all on one queue?  *pooled.  0 or
 * -EOPNOTSUPP, told. */
static int choose_spread(const struct sched *sched, uint32_t instances, bool *pooled)
{
	const struct config *config = &sched->config;
	uint32_t queues = instances > 1 ? interface_queues(config->interface) : 1;
	const char *why = NULL;

	*pooled = instances > 1 && (config->xdp_spread == SPREAD_PROGRAM ||
				    (config->xdp_spread == SPREAD_AUTO && queues < instances));
	if (*pooled && queues > 1)
		why = "and what arrives on another queue never reaches them";
	else if (*pooled && config->xdp_helper[0])
		why = "which demitasse.xdp.helper does not give";
	if (!why)
		return 0;
	log_write(
		&sched->log, LOG_LEVEL_ERROR,
		"demitasse.xdp.spread: interface %s has %u queues, so the program would share one "
		"out among %u instances, %s: ethtool -L %s combined %u, and device",
		config->interface, queues, instances, why, config->interface, instances);
	return -EOPNOTSUPP;
}

int afxdp_request(struct sched *sched, struct grant_request *request, bool *pooled)
{
	const struct config *config = &sched->config;

	*request = (struct grant_request){
		.memory_bytes = round_up((uint64_t)config->xdp_memory_bytes, SUPERBLOCK_BYTES),
		.headroom = AFXDP_HEADROOM,
		.ring = power_of_two((uint64_t)config->xdp_ring),
		.queue = (uint32_t)config->xdp_queue,
		.queues = (uint32_t)config->xdp_queues,
		.process = (uint32_t)getpid(),
		.place = GRANT_ANY_PLACE,
		.busy_poll_us = (uint32_t)config->xdp_busy_poll_us,
		.mode = (uint8_t)config->xdp_mode,
		.copy = (uint8_t)config->xdp_copy,
		.alone = config->xdp_dispatcher != 0,
	};
	(void)snprintf(request->interface, sizeof(request->interface), "%s", config->interface);
	int err = choose_spread(sched, request->queues, pooled);
	return err ? err : parse_ports(sched, request);
}
