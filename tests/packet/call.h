/* SPDX-License-Identifier: MIT
 * tests/packet/call.h - what the files of the calls share: arguments, results.
 */
#pragma once

#include "packet/run.h"

#include <netinet/in.h>

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_storage storage;
	};

	socklen_t length;
};

/* A member of the interface: everything that is asked of the stack. */
#define IFC(call, member, ...) (call)->run->ifc.member((call)->run->ifc.userdata, __VA_ARGS__)

/* Notes the first thing that is wrong with a call; false. */
bool call_wrong(struct running_call *call, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* An argument; NULL: there are not so many. */
const struct expr *call_arg(const struct running_call *call, int index);
/* An argument's value; -1 and a note: it has none. */
int64_t call_number(struct running_call *call, int index, const char *what);
int64_t call_number_of(struct running_call *call, const struct expr *expr, const char *what);
bool call_is_ellipsis(const struct expr *expr);
/* A member of a struct; NULL. */
const struct expr *call_field(const struct expr *expr, const char *name);
struct address call_make_address(const struct ip_address *ip, uint16_t port);
/* An address argument; ...: the one given. */
struct address call_address(struct running_call *call, const struct expr *expr,
			    const struct ip_address *ip, uint16_t port);
/* Ends a call: its result, and errno. */
void call_finish(struct running_call *call, int64_t result);
/* The same, of a call that returns a descriptor. */
void call_finish_fd(struct running_call *call, int live);

/* call_control.c */
void call_fcntl(struct running_call *call);
void call_ioctl(struct running_call *call);
void call_setsockopt(struct running_call *call);
void call_getsockopt(struct running_call *call);
void call_poll(struct running_call *call);
void call_epoll_create(struct running_call *call);
void call_epoll_ctl(struct running_call *call);
void call_epoll_wait(struct running_call *call);
