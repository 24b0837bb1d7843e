/* SPDX-License-Identifier: MIT
 * net/group_query.c - what comes in about groups: queries, which are answered at random within the
 * time that they give, one answer for all that it is early enough for (RFC 3376 5.2, RFC 3810 6.2);
 * and in versions 1 and 2 other hosts' reports, which do for ours (RFC 2236 3, RFC 2710 4).
 *
 * A device that shares its interface leaves general queries, which are to all hosts, to the kernel,
 * and the kernel knows nothing of our groups.  There we answer as often as a querier would ask.
 */
#include "net/group.h"

#include "net/net.h"

#define SECOND_NS      1000000000ULL
#define MS_NS          1000000ULL
#define V1_RESPONSE_NS (10 * SECOND_NS) /* RFC 2236 4 */
#define RESPONSE_NS    (10 * SECOND_NS) /* RFC 3376 8.3, RFC 3810 9.3 */

/* ---- answers ---- */

/* RFC 3376 5.2 (rule 1 of the second list), RFC 3810 6.3: the state of everything */
void group_answer_due(struct timer *timer)
{
	struct group_side *side = container_of(timer, struct group_side, answer);
	struct group_report report = {.side = side};

	if (group_is_outdated(side))
		return;
	list_for_each (node, &side->groups) {
		const struct group *group = container_of(node, struct group, in_side);
		if (group_is_in(group) && group_is_reported(group))
			group_report_add(&report, group, GROUP_IS_EXCLUDE, false);
	}
	group_report_end(&report);
}

/* RFC 3376 5.2, RFC 3810 6.3: the state of a group; or, as we exclude no source, that the sources
 * asked for are wanted */
void group_due(struct timer *timer)
{
	struct group *group = container_of(timer, struct group, timer);
	struct group_report report = {.side = group->side};

	if (group_is_outdated(group->side) || !group_is_in(group))
		return;
	if (group->side->version != GROUP_V3) {
		group_tell_old(group);
		return;
	}
	bool sources = group->num_sources > 0;
	group_report_add(&report, group, sources ? GROUP_IS_INCLUDE : GROUP_IS_EXCLUDE, sources);
	group_report_end(&report);
	group->num_sources = 0;
}

static struct ip_address source_at(const struct group_message *query, bool v4, uint32_t i)
{
	uint32_t bytes = group_address_bytes(v4);
	struct ip_address source = v4 ? ip_from_v4(0) : (struct ip_address){.pair = {0, 0}};

	memcpy(source.bytes + 16 - bytes, query->sources + (uint64_t)i * bytes, bytes);
	return source;
}

/* False: there is no room for it. */
static bool add_source(struct group *group, const struct ip_address *source)
{
	for (uint32_t i = 0; i < group->num_sources; i++) {
		if (ip_equal(&group->sources[i], source))
			return true;
	}
	if (group->num_sources == GROUP_SOURCES_MAX)
		return false;
	group->sources[group->num_sources++] = *source;
	return true;
}

/* RFC 3376 5.2, RFC 3810 6.2 (rules 3 to 5): a query about sources is answered for all of them, and
 * one about the group, or about more sources than we remember, for the group. */
static void note_sources(struct group *group, const struct group_message *query)
{
	if (timer_armed(&group->timer) && group->num_sources == 0)
		return;
	if (query->num_sources == 0)
		group->num_sources = 0;
	for (uint32_t i = 0; i < query->num_sources; i++) {
		struct ip_address source = source_at(query, group->side->v4, i);
		if (!add_source(group, &source)) {
			group->num_sources = 0;
			return;
		}
	}
}

/* A query about a group that we are in: rule 1 is that an answer to everything will do. */
static void query_group(struct group *group, const struct group_message *query, uint64_t at_ns)
{
	struct group_side *side = group->side;

	if (side->version == GROUP_V3) {
		if (group_due_ns(&side->answer) <= at_ns)
			return;
		note_sources(group, query);
	}
	group_arm_sooner(side, &group->timer, at_ns);
}

static void query_all(struct group_side *side, uint64_t max_ns)
{
	if (side->version == GROUP_V3) {
		group_arm_sooner(side, &side->answer, group_moment(side->net, max_ns));
		return;
	}
	list_for_each (node, &side->groups) {
		struct group *group = container_of(node, struct group, in_side);
		if (group_is_reported(group))
			group_arm_sooner(side, &group->timer, group_moment(side->net, max_ns));
	}
}

void group_refresh_later(struct group_side *side)
{
	struct net *net = side->net;

	if (net->dev->misses_all_hosts)
		timer_arm(&net->sched->timers, &side->refresh,
			  net->sched->now_ns + side->interval_s * SECOND_NS);
}

void group_refresh_due(struct timer *timer)
{
	struct group_side *side = container_of(timer, struct group_side, refresh);

	if (list_empty(&side->groups))
		return;
	(void)group_speak(side);
	query_all(side, RESPONSE_NS);
	group_refresh_later(side);
}

/* RFC 3376 7.2.1 and 8.12, RFC 3810 8.2.1 and 9.12: how long an older querier is taken for present;
 * and what a querier of version 3 says of the link. */
static void note_querier(struct group_side *side, const struct group_message *query)
{
	uint64_t now = side->net->sched->now_ns;

	if (query->version == GROUP_V3) {
		/* RFC 3376 4.1.6, 4.1.7: what a query does not say has its default */
		side->robustness = query->robustness ? query->robustness : GROUP_ROBUSTNESS;
		side->interval_s = query->interval_s ? query->interval_s : GROUP_INTERVAL_S;
	} else if (ip_is_any(&query->group)) {
		side->until_ns[query->version] = now +
						 side->robustness * side->interval_s * SECOND_NS +
						 query->max_response_ms * MS_NS;
	}
}

static enum drop query_input(struct group_side *side, const struct group_message *query)
{
	struct net *net = side->net;
	bool general = ip_is_any(&query->group);
	uint64_t max_ns = query->max_response_ms * MS_NS;

	if (!bucket_take(general ? &side->general : &side->special, net->sched->now_ns, 1))
		return DROP_GROUP_RATE;
	note_querier(side, query);
	if (group_speak(side) == GROUP_V1)
		max_ns = V1_RESPONSE_NS;
	if (general) {
		query_all(side, max_ns);
		group_refresh_later(side);
		return DROP_NONE;
	}
	struct group *group = group_find(net, &query->group);
	if (group && group_is_in(group) && group_is_reported(group))
		query_group(group, query, group_moment(net, max_ns));
	return DROP_NONE;
}

/* RFC 2236 3, RFC 2710 4: another host's report does for ours */
static void report_input(struct group_side *side, const struct ip_address *address)
{
	struct group *group = group_find(side->net, address);

	if (group_speak(side) == GROUP_V3 || !group || !timer_armed(&group->timer))
		return;
	group->reported_last = false;
	group_settle(group);
}

static enum drop input(struct group_side *side, const struct group_message *message)
{
	if (message->query)
		return query_input(side, message);
	report_input(side, &message->group);
	return DROP_NONE;
}

void igmp_input(struct net *net, struct frame *frame, const struct ip_packet *packet)
{
	struct cursor c = cursor_over(packet->payload, packet->length);
	struct group_message message;
	enum drop drop = group_parse_v4(&c, packet, &message);

	if (!drop)
		drop = input(&net->groups->sides[0], &message);
	if (drop)
		net_drop(net, frame, drop);
	else
		frame_free(net->heap, frame);
}

enum drop mld_input(struct net *net, const struct ip_packet *packet,
		    const struct icmp_header *header, struct cursor *c)
{
	struct group_message message;
	enum drop drop = group_parse_v6(c, packet, header, &message);

	return drop ? drop : input(&net->groups->sides[1], &message);
}
