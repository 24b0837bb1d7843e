/* SPDX-License-Identifier: MIT
 * sched/fdset.h - the file descriptors that an instance sleeps on: one epoll instance.  A leaf: it
 * makes system calls.
 *
 * Watches belong to whoever embeds them and stay registered until removed.  Events are reported as
 * they are registered (EPOLLET: on edges); fn may add and remove any watch, its own too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define FDSET_BATCH 64

struct fd_watch {
	int fd;
	bool watched;
	bool lazy; /* need not be looked at in poll turns, only when the instance sleeps and now and
		      then */
	void (*fn)(struct fd_watch *watch, uint32_t events);
};

struct fdset {
	int epoll_fd;
	uint32_t watched; /* without lazy ones */
	int pending;      /* events[next..pending) are being dispatched */
	int next;
	bool wait2; /* the kernel has epoll_pwait2 */
	struct epoll_event events[FDSET_BATCH];
};

/* 0 or -errno. */
int fdset_open(struct fdset *set);
void fdset_close(struct fdset *set);

/* events: EPOLLIN ...; 0 or -errno (-ENOMEM, -ENOSPC). */
int fdset_add(struct fdset *set, struct fd_watch *watch, uint32_t events);
/* No event of this watch is reported any more; no-op if it is not watched. */
void fdset_remove(struct fdset *set, struct fd_watch *watch);

/* Waits for at most timeout_ns (0: not at all, UINT64_MAX: for ever) and dispatches.  Returns
 * events dispatched; a signal ends the wait with 0. */
uint32_t fdset_wait(struct fdset *set, uint64_t timeout_ns);
