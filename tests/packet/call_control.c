/* SPDX-License-Identifier: MIT
 * tests/packet/call_control.c - the calls of scripts that neither make sockets nor move data.
 */
#include "packet/call.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define EVENTS_MAX 16

/* ---- descriptors ---- */

void call_fcntl(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	int command = (int)call_number(call, 1, "command");
	int value = call_arg(call, 2) ? (int)call_number(call, 2, "value") : 0;

	if (!call->wrong[0])
		call_finish(call, IFC(call, fcntl, run_live(call->run, fd), command, value));
}

void call_ioctl(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	unsigned long request = (unsigned long)call_number(call, 1, "request");
	int64_t expected = call_number(call, 2, "value");
	int value = (int)expected;

	if (call->wrong[0])
		return;
	call_finish(call, IFC(call, ioctl, run_live(call->run, fd), request, &value));
	if (call->result == 0 && value != expected)
		(void)call_wrong(call, "value: expected %" PRId64 ", got %d", expected, value);
}

/* ---- options ---- */

union option_value {
	int number;
	struct linger linger;
	struct timeval time;
	char text[32];
};

/* The value of a setsockopt: a number, {onoff=1, linger=0}, {tv_sec=1, tv_usec=0} or "reno". */
static socklen_t option_of(struct running_call *call, const struct expr *expr,
			   union option_value *value)
{
	if (expr && expr->kind == EXPR_LIST && expr->items && !expr->items->next)
		expr = expr->items;
	if (expr && expr->kind == EXPR_STRING) {
		size_t length = strlen(expr->text);
		length = length < sizeof(value->text) ? length : sizeof(value->text);
		memcpy(value->text, expr->text, length);
		return (socklen_t)length;
	}
	if (call_field(expr, "onoff") || call_field(expr, "l_onoff")) {
		const struct expr *on = call_field(expr, "onoff");
		const struct expr *time = call_field(expr, "linger");
		on = on ? on : call_field(expr, "l_onoff");
		time = time ? time : call_field(expr, "l_linger");
		value->linger.l_onoff = (int)call_number_of(call, on, "onoff");
		value->linger.l_linger = time ? (int)call_number_of(call, time, "linger") : 0;
		return sizeof(value->linger);
	}
	if (call_field(expr, "tv_sec")) {
		const struct expr *usec = call_field(expr, "tv_usec");
		value->time.tv_sec =
			(time_t)call_number_of(call, call_field(expr, "tv_sec"), "tv_sec");
		value->time.tv_usec = usec ? (suseconds_t)call_number_of(call, usec, "tv_usec") : 0;
		return sizeof(value->time);
	}
	value->number = (int)call_number_of(call, expr, "value");
	return sizeof(value->number);
}

void call_setsockopt(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	int level = (int)call_number(call, 1, "level");
	int name = (int)call_number(call, 2, "option");
	union option_value value = {0};
	socklen_t length = option_of(call, call_arg(call, 3), &value);

	if (!call->wrong[0])
		call_finish(call, IFC(call, setsockopt, run_live(call->run, fd), level, name,
				      &value, length));
}

void call_getsockopt(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	int level = (int)call_number(call, 1, "level");
	int name = (int)call_number(call, 2, "option");
	const struct expr *shown = call_arg(call, 3);
	union option_value expected = {0};
	union option_value value = {0};
	socklen_t length = sizeof(value);
	bool any = call_is_ellipsis(shown) ||
		   (shown->kind == EXPR_LIST && call_is_ellipsis(shown->items));
	socklen_t bytes = any ? 0 : option_of(call, shown, &expected);

	if (call->wrong[0])
		return;
	call_finish(call,
		    IFC(call, getsockopt, run_live(call->run, fd), level, name, &value, &length));
	if (call->result != 0 || any)
		return;
	if (bytes == sizeof(int) && value.number != expected.number)
		(void)call_wrong(call, "value: expected %d, got %d (%s)", expected.number,
				 value.number, symbol_errno(value.number));
	else if (memcmp(&value, &expected, bytes) != 0)
		(void)call_wrong(call, "the value is another");
}

/* ---- poll and epoll ---- */

void call_poll(struct running_call *call)
{
	struct pollfd fds[EVENTS_MAX];
	short expected[EVENTS_MAX];
	nfds_t count = 0;
	const struct expr *list = call_arg(call, 0);

	for (const struct expr *item = list ? list->items : NULL; item && count < EVENTS_MAX;
	     item = item->next, count++) {
		const struct expr *revents = call_field(item, "revents");
		fds[count].fd = run_live(call->run,
					 (int)call_number_of(call, call_field(item, "fd"), "fd"));
		fds[count].events =
			(short)call_number_of(call, call_field(item, "events"), "events");
		expected[count] = revents ? (short)call_number_of(call, revents, "revents") : -1;
	}
	int timeout = (int)call_number(call, 2, "timeout");
	if (call->wrong[0])
		return;
	call_finish(call, IFC(call, poll, fds, count, timeout));
	for (nfds_t i = 0; i < count && call->result >= 0; i++) {
		if (expected[i] != -1 && fds[i].revents != expected[i])
			(void)call_wrong(call, "revents: expected %#x, got %#x",
					 (unsigned)expected[i], (unsigned)fds[i].revents);
	}
}

void call_epoll_create(struct running_call *call)
{
	call_finish_fd(call, IFC(call, epoll_create, 1));
}

static struct epoll_event epoll_event_of(struct running_call *call, const struct expr *expr)
{
	const struct expr *events = call_field(expr, "events");
	const struct expr *fd = call_field(expr, "fd");
	struct epoll_event event = {0};

	if (events)
		event.events = (uint32_t)call_number_of(call, events, "events");
	else
		(void)call_wrong(call, "expected {events=..., fd=...}");
	if (fd)
		event.data.fd = (int)call_number_of(call, fd, "fd");
	return event;
}

void call_epoll_ctl(struct running_call *call)
{
	int epfd = (int)call_number(call, 0, "descriptor");
	int operation = (int)call_number(call, 1, "operation");
	int fd = (int)call_number(call, 2, "descriptor");
	struct epoll_event event = {0};
	const struct expr *expr = call_arg(call, 3);

	if (!call_is_ellipsis(expr) && expr->kind == EXPR_STRUCT)
		event = epoll_event_of(call, expr);
	if (!call->wrong[0])
		call_finish(call, IFC(call, epoll_ctl, run_live(call->run, epfd), operation,
				      run_live(call->run, fd), &event));
}

void call_epoll_wait(struct running_call *call)
{
	int epfd = (int)call_number(call, 0, "descriptor");
	const struct expr *list = call_arg(call, 1);
	int max = (int)call_number(call, 2, "maximum");
	int timeout = (int)call_number(call, 3, "timeout");
	struct epoll_event events[EVENTS_MAX] = {0};
	int index = 0;

	if (call->wrong[0])
		return;
	max = max < EVENTS_MAX ? max : EVENTS_MAX;
	call_finish(call, IFC(call, epoll_wait, run_live(call->run, epfd), events, max, timeout));
	const struct expr *item = list && list->kind == EXPR_LIST     ? list->items
				  : list && list->kind == EXPR_STRUCT ? list
								      : NULL;
	for (; item && index < call->result; index++) {
		struct epoll_event expected = epoll_event_of(call, item);
		if (events[index].events != expected.events ||
		    events[index].data.fd != expected.data.fd)
			(void)call_wrong(call, "event %d: expected %#x of %d, got %#x of %d", index,
					 expected.events, expected.data.fd, events[index].events,
					 events[index].data.fd);
		item = item == list ? NULL : item->next;
	}
}
