/* SPDX-License-Identifier: MIT
 * transport/shm/shm.c - the channels of an instance in its poll turns, and how it sleeps.
 *
 * Sleep.  Who wants to sleep says so in its asleep word, has a full barrier, and looks at the rings
 * once more; who has written a message has a full barrier, and looks at the word.  So one of the
 * two sees what the other did.  The writer's barrier would cost it as much as the message, since it
 * waits for the line to arrive; so where both processes take part in membarrier(2), the sleeper has
 * the barrier run on every core of theirs, and the writer needs none.
 */
#include "transport/shm/lend.h"

#include <grp.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IDLE_POLLS 1024 /* without anything, before a channel may become cold */

static struct shm *shm_of(struct poller *poller)
{
	return container_of(poller, struct shm, poller);
}

/* ---- barriers ---- */

static bool join_barrier(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

/* What peers wrote before they looked at our asleep words is seen, or they see the words. */
static void barrier(const struct shm *shm)
{
	if (!shm->barrier || syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0))
		atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in kick */
}

/* ---- telling peers ---- */

static void kick(struct channel *channel)
{
	uint32_t news = channel->news;

	channel->news = 0;
	channel->dirty = false;
	list_remove(&channel->in_dirty);
	if (!channel_hears(channel))
		return;
	if (!channel->fenceless)
		atomic_thread_fence(memory_order_seq_cst); /* pairs with that in barrier */
	/* relaxed: ordered by the fences; pairs with the stores in fall_asleep, wake_up */
	uint32_t asleep = atomic_load_explicit(&channel->mapped->asleep, memory_order_relaxed);
	if (likely(!(asleep & news)) || asleep / RING_SLEEP_STEP == channel->kicked)
		return;
	channel->kicked = asleep / RING_SLEEP_STEP;
	join_wake(channel);
}

static void shm_flush(struct poller *poller, uint32_t more)
{
	struct shm *shm = shm_of(poller);

	(void)more;
	/* What was written must not be put off by the compiler beyond the look at the word. */
	atomic_signal_fence(memory_order_seq_cst);
	while (!list_empty(&shm->dirty))
		kick(container_of(shm->dirty.next, struct channel, in_dirty));
}

/* ---- sleeping ---- */

static void fall_asleep(struct channel *channel)
{
	uint32_t word = RING_ASLEEP;

	if (!op_list_empty(&channel->pushes) || channel->wants_roomy)
		word |= RING_WANTS_ROOM;
	if (channel->closing)
		word |= RING_WANTS_LOANS;
	channel->sleeps += RING_SLEEP_STEP;
	/* relaxed: barrier orders it; pairs with the load in kick */
	atomic_store_explicit(&channel->own->asleep, channel->sleeps | word, memory_order_relaxed);
}

static void wake_up(struct channel *channel)
{
	/* relaxed: a peer that still sees us asleep wakes us in vain */
	atomic_store_explicit(&channel->own->asleep, 0, memory_order_relaxed);
}

/* Has the message at the front somebody who takes it? */
static bool message_wanted(const struct channel *channel, uint64_t head)
{
	if (ring_kind(head) == CHANNEL_DATA)
		return channel->deaf || !op_list_empty(&channel->pops);
	return !channel->offer.head || channel->offer.position != channel->in_position;
}

/* Is there something that a poll would do? */
static bool is_ready(const struct channel *channel)
{
	uint64_t head = ring_next(channel);

	if (head)
		return message_wanted(channel, head);
	if (channel->state == CHANNEL_LEFT || (channel->closing && !channel_owes(channel)) ||
	    (channel->lent > 0 && lend_returned(channel)))
		return true;
	if (op_list_empty(&channel->pushes) && !channel->wants_roomy)
		return false;
	/* relaxed: it is looked at again, by ring_learn */
	return channel->refuses ||
	       (channel->peer && atomic_load_explicit(&channel->peer->consumed,
						      memory_order_relaxed) != channel->out_acked);
}

static void shm_disarm(struct poller *poller)
{
	list_for_each (node, &shm_of(poller)->hot)
		wake_up(container_of(node, struct channel, in_shm));
}

static int shm_arm(struct poller *poller)
{
	struct shm *shm = shm_of(poller);

	if (!list_empty(&shm->dirty))
		return -EAGAIN;
	if (list_empty(&shm->hot))
		return 0;
	list_for_each (node, &shm->hot)
		fall_asleep(container_of(node, struct channel, in_shm));
	barrier(shm);
	list_for_each (node, &shm->hot) {
		if (is_ready(container_of(node, struct channel, in_shm))) {
			shm_disarm(poller);
			return -EAGAIN;
		}
	}
	return 0;
}

static uint64_t shm_next_deadline(struct poller *poller)
{
	(void)poller;
	return TIMER_NEVER;
}

/* ---- hot and cold ---- */

/* Takes it out of its list; the poll under way goes on behind it. */
static void unlink_channel(struct channel *channel)
{
	struct shm *shm = channel->shm;

	if (shm->next == &channel->in_shm)
		shm->next = channel->in_shm.next;
	list_remove(&channel->in_shm);
	shm->num_hot -= !channel->cold;
}

void shm_forget(struct channel *channel)
{
	unlink_channel(channel);
	if (channel->dirty)
		list_remove(&channel->in_dirty);
}

void shm_warm(struct channel *channel)
{
	struct shm *shm = channel->shm;

	channel->idle = 0;
	if (!channel->cold)
		return;
	unlink_channel(channel);
	channel->cold = false;
	list_append(&shm->hot, &channel->in_shm);
	shm->num_hot++;
	wake_up(channel);
	if (channel->socket.watched && channel->state == CHANNEL_JOINED && !channel->socket.lazy)
		(void)join_watch(channel, true);
}

static void cool(struct channel *channel)
{
	struct shm *shm = channel->shm;

	channel->idle = 0;
	if (channel->state == CHANNEL_LEFT || channel->state == CHANNEL_GREETING)
		return;
	fall_asleep(channel);
	barrier(shm);
	if (is_ready(channel) || (channel->socket.fd >= 0 && join_watch(channel, false))) {
		wake_up(channel);
		return;
	}
	unlink_channel(channel);
	channel->cold = true;
	list_append(&shm->cold, &channel->in_shm);
}

/* ---- turns ---- */

static uint32_t shm_poll(struct poller *poller)
{
	struct shm *shm = shm_of(poller);
	uint32_t happened = 0;

	for (shm->next = shm->hot.next; shm->next != &shm->hot;) {
		struct channel *channel = container_of(shm->next, struct channel, in_shm);
		shm->next = shm->next->next;
		if (unlikely(ring_next(channel) || channel_wants_attention(channel))) {
			channel->idle = 0;
			happened += channel_poll(channel);
		} else if (unlikely(shm->num_hot > SHM_HOT_MAX) && ++channel->idle > IDLE_POLLS) {
			cool(channel);
		}
	}
	shm->next = NULL;
	return happened;
}

static const struct poller_ops shm_poller = {
	.flush = shm_flush,
	.poll = shm_poll,
	.arm = shm_arm,
	.disarm = shm_disarm,
	.next_deadline = shm_next_deadline,
};

/* ---- life ---- */

/* The group that the configuration names, if it names one.  0 or -EINVAL, which is logged. */
static int find_group(struct shm *shm)
{
	const char *name = shm->sched->config.shm_group;
	char *end;
	char room[4096];
	struct group group;
	struct group *found = NULL;

	shm->has_group = *name != '\0';
	if (!shm->has_group)
		return 0;
	shm->group = (gid_t)strtoul(name, &end, 10);
	if (*end == '\0')
		return 0;
	if (getgrnam_r(name, &group, room, sizeof(room), &found) || !found) {
		log_write(&shm->sched->log, LOG_LEVEL_ERROR, "shm_group: no group \"%s\"", name);
		return -EINVAL;
	}
	shm->group = group.gr_gid;
	return 0;
}

int shm_open_instance(struct sched *sched, struct shm **shm_out)
{
	struct shm *shm = calloc(1, sizeof(*shm));

	if (!shm)
		return -ENOMEM;
	shm->sched = sched;
	if (find_group(shm)) {
		free(shm);
		return -EINVAL;
	}
	shm->poller = (struct poller){.ops = &shm_poller, .looks = true};
	shm->barrier = join_barrier();
	lend_prepare(sched, &shm->region_fd);
	list_init(&shm->hot);
	list_init(&shm->cold);
	list_init(&shm->dirty);
	sched_add_poller(sched, &shm->poller);
	*shm_out = shm;
	return 0;
}

static void free_all(struct list *list)
{
	while (!list_empty(list))
		channel_free(container_of(list->next, struct channel, in_shm));
}

void shm_close_instance(struct shm *shm)
{
	free_all(&shm->hot);
	free_all(&shm->cold);
	sched_remove_poller(shm->sched, &shm->poller);
	free(shm);
}

uint32_t shm_lingering(const struct shm *shm)
{
	uint32_t count = 0;

	list_for_each (node, &shm->hot) {
		const struct channel *channel = container_of(node, struct channel, in_shm);
		count += channel->closing && !op_list_empty(&channel->pushes);
	}
	return count;
}

struct sched *shm_sched(const struct shm *shm)
{
	return shm->sched;
}
