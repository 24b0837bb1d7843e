/* SPDX-License-Identifier: MIT
 * net/group.c - see group.h: who is in which group, and when that is told.
 *
 * A change is told at once and again robustness - 1 times, at random within a second, all changes
 * that are open in one report (RFC 3376 5.1, RFC 3810 6.1).  While a querier of an older version is
 * about, its version is spoken (RFC 3376 7.2, RFC 3810 8.2), a report a group.
 *
 * What the link can make us do is bounded: queries have buckets, an answer is sent once however
 * many asked, and of a group's sources GROUP_SOURCES_MAX are remembered.  A host on the link that
 * forges an older querier makes us speak its version for some minutes, no more.
 */
#include "net/group.h"

#include "net/net.h"

#include <errno.h>
#include <stdlib.h>

#define SECOND_NS 1000000000ULL

#define UNSOLICITED_NS     SECOND_NS        /* RFC 3376 8.11, RFC 3810 9.11 */
#define UNSOLICITED_OLD_NS (10 * SECOND_NS) /* RFC 2236 8.10, RFC 2710 7.10 */

/* General queries: a querier sends one in two minutes.  Others: two a group that somebody left. */
#define GENERAL_PER_S 1
#define GENERAL_BURST 4
#define SPECIAL_PER_S 64
#define SPECIAL_BURST GROUP_MAX
#define CHANGES_PER_S 64
#define CHANGES_BURST GROUP_MAX

/* ---- the table ---- */

static struct list *bucket_of(const struct net *net, const struct ip_address *address)
{
	uint32_t hash = address->words[3] * 0x9e3779b1U;

	return &net->groups->buckets[hash >> 16 & (GROUP_BUCKETS - 1)];
}

struct group *group_find(const struct net *net, const struct ip_address *address)
{
	list_for_each (node, bucket_of(net, address)) {
		struct group *group = container_of(node, struct group, in_bucket);
		if (ip_equal(&group->address, address))
			return group;
	}
	return NULL;
}

/* RFC 1112 7.1, RFC 2710 4: every host is in the all-hosts groups, and need not say so */
bool group_has(const struct net *net, const struct ip_address *address)
{
	if (group_is_all_hosts(address))
		return true;
	const struct group *group = group_find(net, address);
	return group && group_is_in(group);
}

/* RFC 3376 5, RFC 3810 6: nothing is ever said of 224.0.0.1 and ff02::1, nor
 * of groups that reach no farther than the interface */
bool group_is_reported(const struct group *group)
{
	const struct ip_address *a = &group->address;

	if (!group->side->net->sched->config.group_reports || group_is_all_hosts(a))
		return false;
	return ip_is_v4(a) || group_scope(a) >= GROUP_SCOPE_LINK;
}

static void group_free(struct group *group)
{
	timer_cancel(&group->side->net->sched->timers, &group->timer);
	list_remove(&group->in_bucket);
	list_remove(&group->in_side);
	group->side->net->groups->count--;
	free(group);
}

/* Ends what is pending about a group: one that nobody is in is gone then. */
void group_settle(struct group *group)
{
	timer_cancel(&group->side->net->sched->timers, &group->timer);
	group->changes_left = 0;
	group->num_sources = 0;
	if (!group_is_in(group))
		group_free(group);
}

/* ---- versions ---- */

static enum group_version version_at(const struct group_side *side, uint64_t now_ns)
{
	if (side->until_ns[GROUP_V1] > now_ns)
		return GROUP_V1;
	return side->until_ns[GROUP_V2] > now_ns ? GROUP_V2 : GROUP_V3;
}

/* The version to be spoken now.  RFC 3376 7.2.1, RFC 3810 8.2.1: when it changes, all that was
 * pending is cancelled. */
enum group_version group_speak(struct group_side *side)
{
	enum group_version version = version_at(side, side->net->sched->now_ns);

	if (version == side->version)
		return version;
	side->version = (uint8_t)version;
	timer_cancel(&side->net->sched->timers, &side->answer);
	timer_cancel(&side->net->sched->timers, &side->change);
	list_for_each_safe (node, after, &side->groups)
		group_settle(container_of(node, struct group, in_side));
	return version;
}

/* Has the version changed that what is due now belongs to? */
bool group_is_outdated(struct group_side *side)
{
	uint8_t version = side->version;

	return group_speak(side) != version;
}

/* ---- timers ---- */

/* A moment within max_ns from now. */
uint64_t group_moment(struct net *net, uint64_t max_ns)
{
	return net->sched->now_ns + (max_ns ? 1 + net_random(net) % max_ns : 0);
}

void group_arm_sooner(struct group_side *side, struct timer *timer, uint64_t at_ns)
{
	if (at_ns < group_due_ns(timer))
		timer_arm(&side->net->sched->timers, timer, at_ns);
}

/* ---- changes ---- */

/* Adds what changed last, one time less to be told. */
static void add_change(struct group_report *report, struct group *group)
{
	group_report_add(report, group, group_is_in(group) ? GROUP_TO_EXCLUDE : GROUP_TO_INCLUDE,
			 false);
	group->changes_left--;
	if (group->changes_left == 0 && !group_is_in(group))
		group_free(group);
}

static void change_due(struct timer *timer)
{
	struct group_side *side = container_of(timer, struct group_side, change);
	struct group_report report = {.side = side};
	bool more = false;

	if (group_is_outdated(side))
		return;
	list_for_each_safe (node, after, &side->groups) {
		struct group *group = container_of(node, struct group, in_side);
		more |= group->changes_left > 1;
		if (group->changes_left > 0)
			add_change(&report, group);
	}
	group_report_end(&report);
	if (more)
		timer_arm(&side->net->sched->timers, timer,
			  group_moment(side->net, UNSOLICITED_NS));
}

/* RFC 3376 5.1, RFC 3810 6.1 */
static void tell_records(struct group *group)
{
	struct group_side *side = group->side;
	struct net *net = side->net;
	struct group_report report = {.side = side};
	uint8_t times = side->robustness;

	group->changes_left = times;
	if (bucket_take(&side->changes, net->sched->now_ns, 1)) {
		add_change(&report, group);
		group_report_end(&report);
		times--;
	}
	if (times > 0)
		group_arm_sooner(side, &side->change, group_moment(net, UNSOLICITED_NS));
}

/* Versions 1 and 2: reports a group, and what it comes to. */
void group_tell_old(struct group *group)
{
	struct group_side *side = group->side;

	group_report_old(group, false);
	group->reported_last = true;
	if (group->changes_left > 0 && --group->changes_left > 0)
		timer_arm(&side->net->sched->timers, &group->timer,
			  group_moment(side->net, UNSOLICITED_OLD_NS));
}

/* RFC 2236 3, RFC 2710 4: who is the first to come says so, and again later; who goes says so if
 * routers may wait for its report. */
static void tell_old(struct group *group)
{
	if (group_is_in(group)) {
		group->changes_left = group->side->robustness;
		group_tell_old(group);
		return;
	}
	if (group->reported_last && group->side->version != GROUP_V1)
		group_report_old(group, true);
	group_free(group);
}

/* The first has come, or the last has gone. */
static void tell(struct group *group)
{
	enum group_version version;

	group->num_sources = 0;
	timer_cancel(&group->side->net->sched->timers, &group->timer);
	if (!group_is_reported(group)) {
		group_settle(group);
		return;
	}
	if (!timer_armed(&group->side->refresh))
		group_refresh_later(group->side);
	/* One without members would not outlive a change of version. */
	group->holders++;
	version = group_speak(group->side);
	group->holders--;
	if (version == GROUP_V3)
		tell_records(group);
	else
		tell_old(group);
}

/* ---- members ---- */

/* A group that nobody is in any more, and of which only reports are left. */
static bool give_one_up(struct net *net)
{
	for (uint32_t i = 0; i < 2; i++) {
		list_for_each (node, &net->groups->sides[i].groups) {
			struct group *group = container_of(node, struct group, in_side);
			if (!group_is_in(group)) {
				group_free(group);
				return true;
			}
		}
	}
	return false;
}

static int group_new(struct net *net, const struct ip_address *address, struct group **out)
{
	struct group_side *side = &net->groups->sides[!ip_is_v4(address)];

	if (net->groups->count == GROUP_MAX && !give_one_up(net))
		return -ENOBUFS;
	struct group *group = calloc(1, sizeof(*group));
	if (!group)
		return -ENOMEM;
	group->address = *address;
	group->side = side;
	timer_init(&group->timer, group_due);
	list_append(&side->groups, &group->in_side);
	list_append(bucket_of(net, address), &group->in_bucket);
	net->groups->count++;
	*out = group;
	return 0;
}

static int find_or_make(struct net *net, const struct ip_address *address, struct group **out)
{
	*out = group_find(net, address);
	return *out ? 0 : group_new(net, address, out);
}

/* The device lets the all-hosts groups through by itself. */
static int steer(const struct group *group, bool wanted)
{
	struct netdev *dev = group->side->net->dev;

	if (group_is_all_hosts(&group->address))
		return 0;
	return dev->ops->steer(dev, &group->address, wanted);
}

int group_join(struct net *net, const struct ip_address *address, struct group **group_out)
{
	struct group *group;
	int err = find_or_make(net, address, &group);

	if (err)
		return err;
	if (group->members == 0)
		err = steer(group, true);
	if (err) {
		if (!group_is_in(group) && group->changes_left == 0)
			group_free(group);
		return err;
	}
	bool first = !group_is_in(group);
	group->members++;
	if (first)
		tell(group);
	*group_out = group;
	return 0;
}

void group_leave(struct group *group)
{
	group->members--;
	if (group->members == 0)
		(void)steer(group, false);
	if (!group_is_in(group))
		tell(group);
}

void group_hold_address(struct net *net, const struct ip_address *address)
{
	const struct ip_address solicited = group_solicited_node(address);
	struct group *group;

	if (ip_is_v4(address) || find_or_make(net, &solicited, &group))
		return;
	bool first = !group_is_in(group);
	group->holders++;
	if (first)
		tell(group);
}

void group_release_address(struct net *net, const struct ip_address *address)
{
	const struct ip_address solicited = group_solicited_node(address);
	struct group *group = ip_is_v4(address) ? NULL : group_find(net, &solicited);

	if (!group || group->holders == 0)
		return;
	group->holders--;
	if (!group_is_in(group))
		tell(group);
}

/* ---- life ---- */

int group_open(struct net *net)
{
	uint64_t now = net->sched->now_ns;

	net->groups = calloc(1, sizeof(*net->groups));
	if (!net->groups)
		return -ENOMEM;
	for (uint32_t i = 0; i < GROUP_BUCKETS; i++)
		list_init(&net->groups->buckets[i]);
	for (uint32_t i = 0; i < 2; i++) {
		struct group_side *side = &net->groups->sides[i];
		*side = (struct group_side){
			.net = net,
			.v4 = i == 0,
			.version = GROUP_V3,
			.robustness = GROUP_ROBUSTNESS,
			.interval_s = GROUP_INTERVAL_S,
		};
		bucket_init(&side->general, now, GENERAL_PER_S, GENERAL_BURST);
		bucket_init(&side->special, now, SPECIAL_PER_S, SPECIAL_BURST);
		bucket_init(&side->changes, now, CHANGES_PER_S, CHANGES_BURST);
		timer_init(&side->answer, group_answer_due);
		timer_init(&side->change, change_due);
		timer_init(&side->refresh, group_refresh_due);
		list_init(&side->groups);
	}
	return 0;
}

void group_close(struct net *net)
{
	for (uint32_t i = 0; i < 2; i++) {
		struct group_side *side = &net->groups->sides[i];
		timer_cancel(&side->net->sched->timers, &side->answer);
		timer_cancel(&side->net->sched->timers, &side->change);
		timer_cancel(&side->net->sched->timers, &side->refresh);
		list_for_each_safe (node, after, &side->groups)
			group_free(container_of(node, struct group, in_side));
	}
	free(net->groups);
	net->groups = NULL;
}

void group_check(struct net *net)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < 2; i++) {
		const struct group_side *side = &net->groups->sides[i];
		list_for_each (node, &side->groups) {
			const struct group *group = container_of(node, struct group, in_side);
			ASSERT(group->side == side && ip_is_v4(&group->address) == side->v4);
			ASSERT(group_is_in(group) || group->changes_left > 0);
			ASSERT(group->num_sources <= GROUP_SOURCES_MAX);
			ASSERT(group_find(net, &group->address) == group);
			count++;
		}
	}
	ASSERT(count == net->groups->count && count <= GROUP_MAX);
}
