/* SPDX-License-Identifier: MIT
 * netdev/afxdp/renew.c - the helper that gave the socket may go before us, as when it is updated.
 * What arrives goes to the kernel then, and connections wait as if packets were lost, until the
 * next helper has taken the socket on.
 */
#include "netdev/afxdp/afxdp.h"

#define FIRST_NS 20000000ULL   /* until it is asked for the first time */
#define AGAIN_NS 1000000000ULL /* and between the following */

static void renew(struct timer *timer)
{
	struct afxdp *x = container_of(timer, struct afxdp, renewal);
	struct sched *sched = x->dev.sched;

	/* blocks while the helper attaches its program: nothing could arrive in that time */
	if (x->grant->ops->renew(x->grant) || afxdp_watch_giver(x)) {
		timer_arm(&sched->timers, &x->renewal, sched->now_ns + AGAIN_NS);
		return;
	}
	log_write(&sched->log, LOG_LEVEL_WARNING,
		  "interface %s: xdp-helper: another one goes on with our socket",
		  x->interface.name);
}

static void giver_event(struct fd_watch *watch, uint32_t events)
{
	struct afxdp *x = container_of(watch, struct afxdp, giver);
	struct sched *sched = x->dev.sched;

	if (!(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
		return;
	fdset_remove(&sched->fds, watch);
	log_write(&sched->log, LOG_LEVEL_WARNING,
		  "interface %s: xdp-helper went away: nothing arrives until another one is there",
		  x->interface.name);
	timer_arm(&sched->timers, &x->renewal, sched->now_ns + FIRST_NS);
}

int afxdp_watch_giver(struct afxdp *x)
{
	if (x->grant->giver < 0)
		return 0;
	if (!x->renewal.fn)
		timer_init(&x->renewal, renew);
	x->giver.fd = x->grant->giver;
	x->giver.lazy = true;
	x->giver.fn = giver_event;
	return fdset_add(&x->dev.sched->fds, &x->giver, EPOLLRDHUP);
}

void afxdp_forget_giver(struct afxdp *x)
{
	if (x->giver.watched)
		fdset_remove(&x->dev.sched->fds, &x->giver);
	if (x->renewal.fn)
		timer_cancel(&x->dev.sched->timers, &x->renewal);
}
