/* SPDX-License-Identifier: MIT
 * queue/field_filter.c - filters whose condition is a field expression (base/expression.h).
 *
 * The condition runs here for every element.  If the filter stands on a socket whose device can run
 * it too, elements that do not pass are mostly dropped there already: what is left to do here is
 * what the device could not judge, and what had arrived before.  So nothing depends on the device.
 */
#include "queue/operator.h"

#include "base/address.h"
#include "sched/datagram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct field_filter {
	struct derived derived;
	struct expression expression;
	struct cbpf_head head; /* local: what the socket below is bound to */
	char text[];
};

static struct field_filter *filter_of(struct derived *derived)
{
	return container_of(derived, struct field_filter, derived);
}

/* ---- the record of an element ---- */

static struct ip_address address_of(const struct sockaddr *name, uint16_t *port)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)name;
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)name;

	if (name->sa_family == AF_INET) {
		*port = in->sin_port;
		return ip_from_v4(in->sin_addr.s_addr);
	}
	*port = in6->sin6_port;
	return ip_from_bytes(in6->sin6_addr.s6_addr);
}

static void take_source(struct cbpf_record *record, const struct op *element)
{
	int is_datagram;
	const struct datagram *datagram = datagram_object(element->sga_buf, &is_datagram);

	record->is_datagram = is_datagram;
	if (!is_datagram)
		return;
	const struct ip_address source = address_of(&datagram->source.any, &record->head.port);
	record->head.version = ip_is_v4(&source) ? 4 : 6;
	memcpy(record->head.address, source.bytes, sizeof(source.bytes));
}

static bool holds(const struct field_filter *filter, struct op *element)
{
	uint64_t bytes = op_bytes(element);
	struct iovec one;
	struct cbpf_record record = {
		.head = filter->head,
		.count = element->numsegs,
		.segments = op_vector(element, &one),
	};

	record.head.len = htonl(bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX);
	if (filter->expression.wants_datagram)
		take_source(&record, element);
	return cbpf_run(filter->expression.program, &record);
}

/* ---- the operator ---- */

static int pass(struct derived *derived, struct op *element)
{
	return holds(filter_of(derived), element);
}

/* What is pushed has come from nowhere: a filter that asks where from is about pops alone. */
static int push(struct derived *derived, struct op *op, const struct sockaddr *to, socklen_t length)
{
	const struct field_filter *filter = filter_of(derived);

	if (!filter->expression.wants_datagram && !(op->flags & OP_END) && !holds(filter, op)) {
		op_complete(derived->queue.sched, op, EPERM);
		return 0;
	}
	return operator_push(derived->pullers[0].source, op, to, length);
}

/* The device drops nothing any more. */
static void end(struct derived *derived)
{
	struct queue *source = derived->pullers[0].source;

	if (source->ops->socket)
		(void)source->ops->socket->filter(source, NULL, 0);
}

static void free_filter(struct derived *derived)
{
	free(filter_of(derived));
}

static void tell(struct derived *derived, struct queue_info *info)
{
	struct queue *source = derived->pullers[0].source;
	struct queue_info below = {.filter = NULL};

	if (source && source->ops->socket)
		source->ops->describe(source, &below);
	info->filter = below.filter ? below.filter : "cpu";
	info->expression = filter_of(derived)->text;
}

static const struct operator_ops field_filter_ops = {
	.kind = "filter",
	.pass = pass,
	.serve = stage_serve,
	.push = push,
	.end = end,
	.free = free_filter,
	.tell = tell,
};

/* ---- life ---- */

/* The socket that all elements of a queue come from, or NULL. */
static struct queue *socket_below(struct queue *queue)
{
	while (queue && queue->ops == &derived_queue_ops) {
		struct derived *derived = derived_of(queue);
		queue = derived->num_pullers == 1 ? derived->pullers[0].source : NULL;
	}
	return queue && queue->ops->socket ? queue : NULL;
}

/* What the fields of the receiver's side are: those of the name that the socket is bound to.  0, or
 * -EINVAL, told. */
static int take_local(struct field_filter *filter, struct queue *source)
{
	struct queue *below = socket_below(source);
	union datagram_source name = {.any = {.sa_family = AF_UNSPEC}};
	socklen_t length = sizeof(name);
	struct ip_address local = {.pair = {0, 0}};

	if (below && below->ops->socket->local_name(below, &name.any, &length) == 0 &&
	    name.any.sa_family != AF_UNSPEC)
		local = address_of(&name.any, &filter->head.local_port);
	memcpy(filter->head.local_address, local.bytes, sizeof(local.bytes));
	bool missing = (filter->expression.wants_local_address && ip_is_any(&local)) ||
		       (filter->expression.wants_local_port && filter->head.local_port == 0);
	if (!missing)
		return 0;
	log_write(&source->sched->log, LOG_LEVEL_ERROR,
		  "filter: %s is what a socket is bound to, and queue %d is none that is bound so, "
		  "nor made of one: \"%s\"",
		  filter->head.local_port ? "ip.dst" : "udp.dst", source->qd, filter->text);
	return -EINVAL;
}

static int compile(struct field_filter *filter, struct queue *source)
{
	struct expression_error error;
	int err = expression_compile(filter->text, &filter->expression, &error);

	if (err)
		log_write(&source->sched->log, LOG_LEVEL_ERROR, "filter: character %u: %s: \"%s\"",
			  error.at, error.text, filter->text);
	return err ? err : take_local(filter, source);
}

static int open_filter(struct field_filter *filter, struct queue *source)
{
	int err = compile(filter, source);

	if (!err)
		err = derived_open(&filter->derived, &field_filter_ops, source, NULL);
	if (!err && source->ops->socket)
		(void)source->ops->socket->filter(source, filter->expression.program,
						  filter->expression.count);
	return err;
}

int field_filter_new(struct queue *source, const char *text, struct queue **queue_out)
{
	size_t length = strlen(text);
	struct field_filter *filter = calloc(1, sizeof(*filter) + length + 1);

	if (!filter)
		return -ENOMEM;
	(void)snprintf(filter->text, length + 1, "%s", text);
	int err = open_filter(filter, source);
	if (err) {
		free(filter);
		return err;
	}
	*queue_out = &filter->derived.queue;
	return 0;
}
