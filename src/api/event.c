/* SPDX-License-Identifier: MIT
 * api/event.c - one descriptor for foreign event loops: the instance's epoll, with a timerfd for
 * deadlines in it.
 */
#include "api/instance.h"

#include <sys/timerfd.h>
#include <unistd.h>

static void timer_event(struct fd_watch *watch, uint32_t events)
{
	uint64_t expirations;

	(void)events;
	if (read(watch->fd, &expirations, sizeof(expirations)) < 0)
		return; /* another event loop thread was faster: nothing to do */
}

static int open_timer(struct demi *demi)
{
	if (demi->timer.fd >= 0)
		return 0;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (fd < 0)
		return errno;
	demi->timer = (struct fd_watch){.fd = fd, .lazy = true, .fn = timer_event};
	int err = fdset_add(&demi->sched.fds, &demi->timer, EPOLLIN);
	if (err) {
		close(fd);
		demi->timer.fd = -1;
	}
	return -err;
}

int demi_event_fd(int *fd_out)
{
	KEEP_ERRNO;
	int err = 0;
	struct demi *demi = instance_enter(&err);

	if (!demi)
		return err;
	if (!fd_out)
		return EINVAL;
	err = open_timer(demi);
	if (!err)
		*fd_out = demi->sched.fds.epoll_fd;
	return err;
}

static int set_timer(struct demi *demi, uint64_t deadline_ns)
{
	struct itimerspec spec = {{0, 0}, {0, 0}}; /* zero: disarmed */

	if (deadline_ns != TIMER_NEVER) {
		spec.it_value.tv_sec = (time_t)(deadline_ns / 1000000000);
		spec.it_value.tv_nsec = (long)(deadline_ns % 1000000000);
	}
	return timerfd_settime(demi->timer.fd, TFD_TIMER_ABSTIME, &spec, NULL) ? errno : 0;
}

int demi_event_arm(void)
{
	KEEP_ERRNO;
	int err = 0;
	struct demi *demi = instance_enter(&err);

	if (!demi)
		return err;
	struct sched *sched = &demi->sched;
	if (!coroutine_is_main(sched->coroutines.running))
		return EBUSY;
	bool happened = sched_turn(sched);
	/* A turn seldom looks at the descriptors: one that is ready would end the sleep at once. */
	happened |= fdset_wait(&sched->fds, 0) > 0;
	if (happened || sched->coroutines.main.waits.count > 0)
		return EAGAIN;
	err = open_timer(demi);
	if (!err)
		err = -sched_arm(sched);
	return err ? err : set_timer(demi, sched_next_deadline(sched));
}
