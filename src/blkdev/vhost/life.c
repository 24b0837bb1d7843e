/* SPDX-License-Identifier: MIT
 * blkdev/vhost/life.c - the daemon goes and comes: waiting for the next, or giving it up.
 */
#include "blkdev/vhost/vhost.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define RETRY_NS      100000000ULL
#define GIVE_UP_NS    5000000000ULL
#define SLOW_RETRY_NS 1000000000ULL /* after that */

static void say(const struct vhost *v, enum log_level level, const char *what)
{
	log_write(&v->dev.sched->log, level, "%s: the storage daemon %s", v->path, what);
}

const char *vhost_reason(int err)
{
	switch (err) {
	case -ECONNRESET:
		return "closed the connection";
	case -EINVAL:
		return "refuses our memory or queues";
	case -ENOTSUP:
		return "lacks virtio 1, its configuration, or blocks of 512 to 4096 bytes";
	case -ENXIO:
		return "serves a drive of another size or kind now";
	case -EPROTO:
		return "does not keep to the protocol";
	case -ETIMEDOUT:
		return "does not answer; it may serve another (it does one at a time)";
	default:
		return strerror(-err);
	}
}

void vhost_begin(struct vhost *v)
{
	if (v->opened)
		say(v, LOG_LEVEL_INFO, "serves again");
	v->opened = true;
	v->gave_up = false;
	v->idle_polls = 0;
	v->state = VHOST_READY;
}

/* Connects anew after a while. */
static void stay_away(struct vhost *v)
{
	vhost_disconnect(v);
	v->state = VHOST_AWAY;
	v->retry_ns = v->dev.sched->now_ns + (v->gave_up ? SLOW_RETRY_NS : RETRY_NS);
}

static void lose(struct vhost *v)
{
	say(v, LOG_LEVEL_WARNING, "is gone; requests wait for it");
	vhost_recall(v);
	v->away_since_ns = v->dev.sched->now_ns;
	stay_away(v);
}

void vhost_break(struct vhost *v, int err, const char *why)
{
	say(v, LOG_LEVEL_ERROR, why);
	vhost_recall(v);
	vhost_disconnect(v);
	v->state = VHOST_DEAD;
	vhost_fail_all(v, err);
}

void vhost_look(struct vhost *v)
{
	char byte;

	v->idle_polls = 0;
	v->link.look = false;
	ssize_t n = recv(v->link.watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n > 0)
		vhost_break(v, -EIO, "says what it was not asked");
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		lose(v);
}

static void give_up(struct vhost *v)
{
	say(v, LOG_LEVEL_ERROR, "did not come back: requests fail until it does");
	v->gave_up = true;
	vhost_fail_all(v, -ENODEV);
}

static void reconnect(struct vhost *v)
{
	int err = vhost_connect(v);

	if (err) {
		stay_away(v);
		return;
	}
	v->state = VHOST_GREETING;
	v->retry_ns = v->dev.sched->now_ns + VHOST_ANSWER_NS;
}

static void greet(struct vhost *v)
{
	int err = vhost_greet(v);

	if (!err)
		vhost_begin(v);
	else if (err == -ECONNRESET || (err == -EAGAIN && v->dev.sched->now_ns >= v->retry_ns))
		stay_away(v);
	else if (err != -EAGAIN)
		vhost_break(v, -ENODEV, vhost_reason(err));
}

void vhost_revive(struct vhost *v)
{
	uint64_t now_ns = v->dev.sched->now_ns;

	if (v->state == VHOST_DEAD)
		return;
	if (!v->gave_up && now_ns - v->away_since_ns >= GIVE_UP_NS)
		give_up(v);
	if (v->state == VHOST_AWAY && now_ns >= v->retry_ns)
		reconnect(v);
	if (v->state == VHOST_GREETING)
		greet(v);
}

uint64_t vhost_next_deadline(struct blkdev *dev)
{
	const struct vhost *v = vhost_of(dev);
	uint64_t give_up_ns = v->away_since_ns + GIVE_UP_NS;

	if (v->ended.first)
		return dev->sched->now_ns;
	if (v->state == VHOST_READY || v->state == VHOST_DEAD)
		return TIMER_NEVER;
	return !v->gave_up && give_up_ns < v->retry_ns ? give_up_ns : v->retry_ns;
}
