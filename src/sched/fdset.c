/* SPDX-License-Identifier: MIT */
#include "sched/fdset.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

int fdset_open(struct fdset *set)
{
	*set = (struct fdset){.epoll_fd = epoll_create1(EPOLL_CLOEXEC), .wait2 = true};
	return set->epoll_fd < 0 ? -errno : 0;
}

void fdset_close(struct fdset *set)
{
	if (set->epoll_fd >= 0)
		close(set->epoll_fd);
	set->epoll_fd = -1;
}

int fdset_add(struct fdset *set, struct fd_watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event))
		return -errno;
	watch->watched = true;
	set->watched += !watch->lazy;
	return 0;
}

void fdset_remove(struct fdset *set, struct fd_watch *watch)
{
	if (!watch->watched)
		return;
	(void)epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->watched = false;
	set->watched -= !watch->lazy;
	for (int i = set->next; i < set->pending; i++) {
		if (set->events[i].data.ptr == watch)
			set->events[i].data.ptr = NULL;
	}
}

static int wait_for_events(struct fdset *set, uint64_t timeout_ns)
{
	struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000),
				   .tv_nsec = (long)(timeout_ns % 1000000000)};
	int timeout_ms;

	if (timeout_ns == 0)
		return epoll_wait(set->epoll_fd, set->events, FDSET_BATCH, 0);
	if (set->wait2) {
		int n = epoll_pwait2(set->epoll_fd, set->events, FDSET_BATCH,
				     timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
		if (n >= 0 || errno != ENOSYS)
			return n;
		set->wait2 = false; /* a kernel before 5.11 */
	}
	if (timeout_ns == UINT64_MAX)
		timeout_ms = -1;
	else
		timeout_ms = timeout_ns / 1000000 >= INT_MAX
				     ? INT_MAX
				     : (int)((timeout_ns + 999999) / 1000000);
	return epoll_wait(set->epoll_fd, set->events, FDSET_BATCH, timeout_ms);
}

uint32_t fdset_wait(struct fdset *set, uint64_t timeout_ns)
{
	const int saved_errno = errno;
	int n = wait_for_events(set, timeout_ns);

	if (n <= 0) {
		errno = saved_errno;
		return 0;
	}
	set->pending = n;
	for (set->next = 0; set->next < set->pending;) {
		const struct epoll_event *event = &set->events[set->next++];
		struct fd_watch *watch = event->data.ptr;
		if (watch)
			watch->fn(watch, event->events);
	}
	set->pending = 0;
	set->next = 0;
	errno = saved_errno;
	return (uint32_t)n;
}
