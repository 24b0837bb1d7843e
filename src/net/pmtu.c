/* SPDX-License-Identifier: MIT
 * net/pmtu.c - see pmtu.h.
 *
 * An entry is in use if its mtu is not 0; one that is too old is used again like a free one.
 */
#include "net/pmtu.h"

#include "net/siphash.h"

#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1000000000ULL

struct entry {
	struct ip_address to;
	uint64_t since_ns;
	uint32_t mtu;
};

struct pmtu {
	struct entry entries[PMTU_LISTS][PMTU_WAYS];
};

static struct entry *list_of(const struct net *net, const struct ip_address *to)
{
	uint64_t hash = siphash_2_4(net->secret, to->bytes, sizeof(to->bytes));

	return net->pmtu->entries[hash & (PMTU_LISTS - 1)];
}

static bool is_valid(const struct net *net, const struct entry *entry)
{
	return entry->mtu != 0 && net->sched->now_ns - entry->since_ns < PMTU_AGE_S * SECOND_NS;
}

static struct entry *find(const struct net *net, const struct ip_address *to)
{
	struct entry *list = list_of(net, to);

	for (uint32_t i = 0; i < PMTU_WAYS; i++) {
		if (is_valid(net, &list[i]) && ip_equal(&list[i].to, to))
			return &list[i];
	}
	return NULL;
}

uint32_t pmtu_known(const struct net *net, const struct ip_address *to)
{
	const struct entry *entry = find(net, to);
	uint32_t link = ip_is_v4(to) || !net->slaac.mtu ? net->mtu : net->slaac.mtu;

	return entry && entry->mtu < link ? entry->mtu : link;
}

bool pmtu_limit_link(struct net *net)
{
	if (!net->pmtu)
		net->pmtu = calloc(1, sizeof(*net->pmtu));
	return net->pmtu;
}

static uint32_t minimum(const struct net *net, const struct ip_address *to)
{
	uint32_t min = ip_is_v4(to) ? PMTU_MIN_V4 : PMTU_MIN_V6;

	return min < net->mtu ? min : net->mtu;
}

uint32_t pmtu_plateau(const struct net *net, const struct ip_address *to, uint32_t mtu)
{
	static const uint16_t plateaus[] = {65535, 32000, 17914, 8166, 4352,
					    2002,  1492,  1280,  1006, 576};
	uint32_t min = minimum(net, to);

	for (uint32_t i = 0; i < ARRAY_LENGTH(plateaus); i++) {
		if (plateaus[i] < mtu)
			return plateaus[i] > min ? plateaus[i] : min;
	}
	return min;
}

/* A place for one more: free, too old, or of the oldest. */
static struct entry *make(const struct net *net, const struct ip_address *to)
{
	struct entry *list = list_of(net, to);
	struct entry *oldest = &list[0];

	for (uint32_t i = 0; i < PMTU_WAYS; i++) {
		if (!is_valid(net, &list[i]))
			return &list[i];
		if (list[i].since_ns < oldest->since_ns)
			oldest = &list[i];
	}
	return oldest;
}

uint32_t pmtu_lower(struct net *net, const struct ip_address *to, uint32_t mtu)
{
	uint32_t known = path_mtu(net, to);
	uint32_t min = minimum(net, to);

	/* RFC 8201 4 MUST: a message of less than the minimum is discarded */
	if (!ip_is_v4(to) && mtu < PMTU_MIN_V6)
		return known;
	if (mtu == 0)
		mtu = pmtu_plateau(net, to, known);
	if (mtu < min)
		mtu = min;
	/* RFC 1191 3, RFC 8201 4 MUST NOT: a message never raises the estimate */
	if (mtu >= known || net_is_local(net, to))
		return known;
	if (!pmtu_limit_link(net))
		return known;
	struct entry *entry = find(net, to);
	if (!entry)
		entry = make(net, to);
	*entry = (struct entry){.to = *to, .since_ns = net->sched->now_ns, .mtu = mtu};
	return mtu;
}

void pmtu_raise(struct net *net, const struct ip_address *to, uint32_t mtu)
{
	struct entry *entry = net->pmtu ? find(net, to) : NULL;

	if (!entry || mtu <= entry->mtu)
		return;
	entry->mtu = mtu < net->mtu ? mtu : 0;
	entry->since_ns = net->sched->now_ns;
}

void pmtu_close(struct net *net)
{
	free(net->pmtu);
	net->pmtu = NULL;
}

void pmtu_check(const struct net *net)
{
	if (!net->pmtu)
		return;
	for (uint32_t i = 0; i < PMTU_LISTS * PMTU_WAYS; i++) {
		const struct entry *entry = &net->pmtu->entries[i / PMTU_WAYS][i % PMTU_WAYS];
		if (entry->mtu == 0)
			continue;
		ASSERT(entry->mtu >= minimum(net, &entry->to) && entry->mtu < net->mtu);
		ASSERT(entry->since_ns <= net->sched->now_ns);
		ASSERT(list_of(net, &entry->to) == net->pmtu->entries[i / PMTU_WAYS]);
	}
}
