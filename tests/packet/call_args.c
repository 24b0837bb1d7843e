/* SPDX-License-Identifier: MIT
 * tests/packet/call_args.c - arguments and results of calls; see call.h.
 */
#include "packet/call.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- arguments ---- */

bool call_wrong(struct running_call *call, const char *format, ...)
{
	va_list args;

	if (call->wrong[0])
		return false;
	va_start(args, format);
	vsnprintf(call->wrong, sizeof(call->wrong), format, args);
	va_end(args);
	return false;
}

const struct expr *call_arg(const struct running_call *call, int index)
{
	const struct expr *expr = call->event->call.args;

	while (expr && index-- > 0)
		expr = expr->next;
	return expr;
}

int64_t call_number_of(struct running_call *call, const struct expr *expr, const char *what)
{
	if (expr && expr->kind == EXPR_NUMBER)
		return expr->number;
	if (expr && expr->kind == EXPR_LIST && expr->items && !expr->items->next)
		return call_number_of(call, expr->items, what);
	if (expr && expr->kind == EXPR_CALL && expr->items &&
	    (strcmp(expr->text, "htons") == 0 || strcmp(expr->text, "htonl") == 0))
		return call_number_of(call, expr->items, what);
	if (expr && expr->kind == EXPR_NAME)
		(void)call_wrong(call, "%s: `%s` is no constant that is known here", what,
				 expr->text);
	else
		(void)call_wrong(call, "%s is no number", what);
	return -1;
}

int64_t call_number(struct running_call *call, int index, const char *what)
{
	const struct expr *expr = call_arg(call, index);

	if (!expr) {
		(void)call_wrong(call, "argument %d is missing", index + 1);
		return -1;
	}
	return call_number_of(call, expr, what);
}

bool call_is_ellipsis(const struct expr *expr)
{
	return !expr || expr->kind == EXPR_ELLIPSIS;
}

const struct expr *call_field(const struct expr *expr, const char *name)
{
	for (const struct expr *item = expr ? expr->items : NULL; item; item = item->next) {
		if (item->field && strcmp(item->field, name) == 0)
			return item;
	}
	return NULL;
}

/* ---- addresses ---- */

struct address call_make_address(const struct ip_address *ip, uint16_t port)
{
	struct address a = {0};

	if (ip_is_v4(ip)) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(port);
		a.in.sin_addr.s_addr = ip->words[3];
		a.length = sizeof(a.in);
	} else {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons(port);
		memcpy(&a.in6.sin6_addr, ip->bytes, 16);
		a.length = sizeof(a.in6);
	}
	return a;
}

/* inet_addr("192.0.2.1"), inet_pton(AF_INET6, "::1"), INADDR_ANY */
static void put_ip(struct running_call *call, const struct expr *expr, struct address *a)
{
	const struct expr *text = expr;
	void *to =
		a->any.sa_family == AF_INET ? (void *)&a->in.sin_addr : (void *)&a->in6.sin6_addr;

	if (!expr)
		return;
	if (expr->kind == EXPR_CALL)
		for (text = expr->items; text && text->kind != EXPR_STRING; text = text->next)
			;
	if (text && text->kind == EXPR_STRING) {
		if (inet_pton(a->any.sa_family, text->text, to) != 1)
			(void)call_wrong(call, "`%s` is no address of that family", text->text);
	} else if (a->any.sa_family == AF_INET) {
		a->in.sin_addr.s_addr = htonl((uint32_t)call_number_of(call, expr, "address"));
	}
}

/* An address argument; ...: the one given. */
struct address call_address(struct running_call *call, const struct expr *expr,
			    const struct ip_address *ip, uint16_t port)
{
	struct address a = {0};
	const struct expr *family = call_field(expr, "sa_family");

	if (call_is_ellipsis(expr))
		return call_make_address(ip, port);
	if (expr->kind == EXPR_NUMBER && expr->number == 0)
		return a; /* NULL */
	family = family ? family : call_field(expr, "sin_family");
	family = family ? family : call_field(expr, "sin6_family");
	if (!family) {
		(void)call_wrong(call, "an address is ..., or a struct with sa_family");
		return a;
	}
	a.any.sa_family = (sa_family_t)call_number_of(call, family, "sa_family");
	a.length = a.any.sa_family == AF_INET6 ? sizeof(a.in6) : sizeof(a.in);
	const struct expr *at =
		call_field(expr, a.any.sa_family == AF_INET6 ? "sin6_port" : "sin_port");
	if (at)
		a.in.sin_port = htons((uint16_t)call_number_of(call, at, "port"));
	put_ip(call, call_field(expr, a.any.sa_family == AF_INET6 ? "sin6_addr" : "sin_addr"), &a);
	return a;
}

/* ---- results ---- */

/* Ends a call: its result, and errno. */
void call_finish(struct running_call *call, int64_t result)
{
	call->error = result < 0 ? errno : 0;
	call->result = result;
}

void call_finish_fd(struct running_call *call, int live)
{
	const struct expr *wanted = call->event->call.result;

	call_finish(call, live);
	if (live < 0)
		return;
	call->result = run_enter(call->run, live,
				 wanted && wanted->kind == EXPR_NUMBER ? wanted->number : -1);
	if (call->result < 0)
		(void)call_wrong(call, "more than %d descriptors", RUN_FDS);
	else if (strncmp(call->event->call.name, "epoll", 5) != 0)
		call->run->tested_fd = (int)call->result;
}
