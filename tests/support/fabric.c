/* tests/support/fabric.c: see fabric.h.  Life, time, chance, and what became of objects. */
#include "support/fabric_own.h"

#include "support/fault.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- memory ---- */

void *fabric_realloc(void *old, size_t bytes)
{
	fault_pause(true);
	void *memory = realloc(old, bytes);
	if (!memory)
		abort();
	fault_pause(false);
	return memory;
}

void *fabric_alloc(size_t bytes)
{
	void *memory = fabric_realloc(NULL, bytes > 0 ? bytes : 1);

	memset(memory, 0, bytes);
	return memory;
}

void fabric_free(void *memory)
{
	free(memory);
}

/* ---- misuse ---- */

static _Noreturn void bail_out(const struct fabric *fabric, const char *what)
{
	printf("# fabric: DEMI_SEED=%" PRIu64 " at %" PRIu64 " ns: %s\n"
	       "Bail out! RDMA was misused\n",
	       fabric ? fabric->seed : 0, fabric ? fabric_now(fabric) : 0, what);
	(void)fflush(stdout);
	abort();
}

void fabric_misuse(struct fabric_device *device, const char *what)
{
	struct fabric *fabric = device ? device->fabric : NULL;

	if (fabric && fabric->forgiving) {
		device->counts.misuses++;
		return;
	}
	if (fabric && fabric->failed)
		fabric->failed(fabric->failed_arg, what);
	bail_out(fabric, what);
}

void fabric_forgive(struct fabric *fabric)
{
	fabric->forgiving = true;
}

void fabric_on_failure(struct fabric *fabric, void (*fn)(void *arg, const char *what), void *arg)
{
	fabric->failed = fn;
	fabric->failed_arg = arg;
}

/* ---- objects ---- */

void fabric_born(struct fabric_device *device, struct fabric_object *object, enum fabric_kind kind,
		 void *memory)
{
	object->device = device;
	object->kind = kind;
	object->memory = memory;
	list_append(&device->objects, &object->link);
	device->counts.objects++;
}

/* The oldest shells that no event means any more go. */
static void trim_shells(struct fabric *fabric, uint32_t most)
{
	uint32_t looked = fabric->num_shells;

	for (; fabric->num_shells > most && looked > 0; looked--) {
		struct list *first = fabric->shells.next;
		struct fabric_object *object = container_of(first, struct fabric_object, link);
		list_remove(first);
		if (object->events > 0) {
			list_append(&fabric->shells, first);
			continue;
		}
		fabric->num_shells--;
		fabric_free(object->memory);
	}
}

void fabric_die(struct fabric_object *object)
{
	struct fabric *fabric = object->device->fabric;

	object->dead = true;
	object->device->counts.objects--;
	list_remove(&object->link);
	list_append(&fabric->shells, &object->link);
	fabric->num_shells++;
	trim_shells(fabric, FABRIC_SHELLS);
}

bool fabric_lives(const struct fabric_object *object, enum fabric_kind kind)
{
	if (object->kind != kind)
		bail_out(NULL, "a pointer that is no such object");
	if (object->dead)
		fabric_misuse(object->device, "an object that was destroyed is used");
	return !object->dead;
}

/* ---- chance ---- */

bool fabric_happens(struct fabric *fabric, uint32_t millionths)
{
	return millionths > 0 && prng_below(&fabric->prng, FABRIC_MILLION) < millionths;
}

uint64_t fabric_delay(struct fabric *fabric)
{
	const struct fabric_chance *chance = &fabric->chance;

	if (fabric->immediate)
		return 0;
	return chance->delay_ns +
	       (chance->jitter_ns ? prng_below(&fabric->prng, chance->jitter_ns + 1) : 0);
}

bool fabric_counts_down(struct fabric_countdown *countdown)
{
	return countdown->left > 0 && --countdown->left == 0;
}

struct fabric_chance *fabric_chance(struct fabric *fabric)
{
	return &fabric->chance;
}

void fabric_note(struct fabric *fabric, uint64_t value)
{
	uint64_t h = (fabric->hash ^ value) * 0x9e3779b97f4a7c15U;

	fabric->hash = h ^ (h >> 29);
}

uint64_t fabric_hash(const struct fabric *fabric)
{
	return fabric->hash;
}

/* ---- time: a binary heap of events ---- */

static uint64_t own_now(void *arg)
{
	const struct fabric *fabric = arg;

	return fabric->own_ns;
}

uint64_t fabric_now(const struct fabric *fabric)
{
	return fabric->clock.now_ns(fabric->clock.arg);
}

uint64_t fabric_clock_now(void *fabric)
{
	return fabric_now(fabric);
}

uint64_t fabric_next(const struct fabric *fabric)
{
	return fabric->num_events > 0 ? fabric->events[0].at_ns : FABRIC_NEVER;
}

static bool earlier(const struct fabric_event *a, const struct fabric_event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->sequence < b->sequence;
}

static void swap(struct fabric_event *a, struct fabric_event *b)
{
	struct fabric_event t = *a;

	*a = *b;
	*b = t;
}

void fabric_put_event(struct fabric *fabric, uint64_t at_ns, void (*fn)(void *arg), void *arg,
		      struct fabric_object *hold)
{
	struct fabric_event *e = fabric->events;
	uint32_t i = fabric->num_events++;

	if (i == fabric->max_events) {
		fabric->max_events = fabric->max_events ? fabric->max_events * 2 : 256;
		e = fabric_realloc(e, fabric->max_events * sizeof(*e));
		fabric->events = e;
	}
	e[i] = (struct fabric_event){
		.at_ns = at_ns,
		.sequence = fabric->sequence++,
		.fn = fn,
		.arg = arg,
		.hold = hold,
	};
	if (hold)
		hold->events++;
	for (; i > 0 && earlier(&e[i], &e[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&e[i], &e[(i - 1) / 2]);
	if (fabric->clock.at)
		fabric->clock.at(fabric->clock.arg, at_ns);
}

static struct fabric_event take_event(struct fabric *fabric)
{
	struct fabric_event *e = fabric->events;
	struct fabric_event first = e[0];
	uint32_t count = --fabric->num_events;

	e[0] = e[count];
	for (uint32_t i = 0;;) {
		uint32_t least = i;
		for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < count; child++)
			if (earlier(&e[child], &e[least]))
				least = child;
		if (least == i)
			return first;
		swap(&e[i], &e[least]);
		i = least;
	}
}

void fabric_settle(struct fabric *fabric)
{
	if (fabric->settling)
		return;
	fabric->settling = true;
	while (fabric->num_events > 0 && fabric->events[0].at_ns <= fabric_now(fabric)) {
		struct fabric_event event = take_event(fabric);
		if (event.hold)
			event.hold->events--;
		event.fn(event.arg);
	}
	fabric->settling = false;
}

void fabric_kick(struct fabric *fabric)
{
	if (fabric->immediate)
		fabric_settle(fabric);
}

bool fabric_step(struct fabric *fabric)
{
	if (fabric->num_events == 0)
		return false;
	if (fabric->own_ns < fabric->events[0].at_ns)
		fabric->own_ns = fabric->events[0].at_ns;
	fabric_settle(fabric);
	return true;
}

void fabric_run_until(struct fabric *fabric, uint64_t at_ns)
{
	while (fabric_next(fabric) <= at_ns)
		(void)fabric_step(fabric);
	if (fabric->own_ns < at_ns)
		fabric->own_ns = at_ns;
}

/* ---- life ---- */

struct fabric *fabric_open(const struct fabric_options *options)
{
	struct fabric *fabric = fabric_alloc(sizeof(*fabric));

	fabric->seed = options->seed;
	prng_seed(&fabric->prng, options->seed);
	fabric->immediate = options->immediate;
	fabric->own_ns = FABRIC_S;
	fabric->clock = options->clock ? *options->clock
				       : (struct fabric_clock){.now_ns = own_now, .arg = fabric};
	fabric->chance.delay_ns = options->delay_ns ? options->delay_ns : FABRIC_US;
	fabric->chance.jitter_ns = options->jitter_ns;
	list_init(&fabric->shells);
	list_init(&fabric->mails);
	list_init(&fabric->datagrams);
	return fabric;
}

static void free_list(struct list *list, size_t link_at)
{
	while (!list_empty(list)) {
		struct list *item = list->next;
		list_remove(item);
		fabric_free((char *)item - link_at);
	}
}

void fabric_close(struct fabric *fabric)
{
	for (uint32_t i = 0; i < fabric->num_devices; i++)
		fabric_device_close(fabric->devices[i]);
	for (uint32_t i = 0; i < fabric->num_events; i++)
		if (fabric->events[i].hold)
			fabric->events[i].hold->events--;
	trim_shells(fabric, 0);
	free_list(&fabric->mails, offsetof(struct fabric_mail, link));
	free_list(&fabric->datagrams, offsetof(struct fabric_datagram, link));
	for (uint32_t i = 0; i < fabric->num_devices; i++)
		fabric_free(fabric->devices[i]);
	fabric_free(fabric->events);
	fabric_free(fabric->ids);
	fabric_free(fabric);
}
