/* SPDX-License-Identifier: MIT
 * netdev/afxdp/share.c - see share.h.
 */
#include "netdev/afxdp/share.h"

#include "base/assert.h"
#include "base/bits.h"

#include <errno.h>
#include <stdlib.h>

static bool is_same(const struct share_key *a, const struct share_key *b)
{
	return a->index == b->index && a->process == b->process && a->first == b->first &&
	       a->count == b->count && a->pool == b->pool;
}

static struct share *find(struct list *all, const struct share_key *key)
{
	list_for_each (node, all) {
		struct share *share = container_of(node, struct share, in_all);
		if (is_same(&share->key, key))
			return share;
	}
	return NULL;
}

static struct share *make(struct list *all, const struct share_key *key)
{
	struct share *share = calloc(1, sizeof(*share));

	if (!share)
		return NULL;
	share->key = *key;
	list_append(all, &share->in_all);
	return share;
}

static uint32_t lowest(const struct share *share)
{
	uint32_t place = 0;

	while (place < share->key.count && share->used[place])
		place++;
	return place;
}

int share_take(struct list *all, const struct share_key *key, uint32_t place,
	       struct share **share_out, uint32_t *place_out)
{
	struct share *share = key->count > 1 ? find(all, key) : NULL;

	ASSERT(key->count >= 1 && key->count <= STEER_SLOTS);
	if (!share && !(share = make(all, key)))
		return -ENOMEM;
	if (place == SHARE_ANY)
		place = lowest(share);
	if (place >= key->count || share->used[place]) {
		if (share->taken == 0)
			share_leave(share, SHARE_ANY);
		return -EBUSY;
	}
	share->used[place] = true;
	share->taken++;
	*share_out = share;
	*place_out = place;
	return 0;
}

void share_leave(struct share *share, uint32_t place)
{
	if (place != SHARE_ANY) {
		ASSERT(share->used[place]);
		share->used[place] = false;
		share->taken--;
	}
	if (share->taken > 0)
		return;
	list_remove(&share->in_all);
	free(share);
}
