/* SPDX-License-Identifier: MIT */
#include "sched/coroutine.h"

#include "base/assert.h"
#include "base/bits.h"
#include "sched/sched.h"
#include "sched/switch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the switch ---- */

#if defined(__x86_64__) && !defined(COROUTINE_PORTABLE)
/* Registers go to the contexts, not onto the stacks, and the last step is an indirect jump.  Both
 * were measured (docs/design/): pops after a change of rsp are forwarded wrongly by AMD's Zen 3 (20
 * to 300 cycles), a ret misses the return predictor on Intel's (45 ns).  A tail call to this from
 * demi_yield needs no stack at all. */
__attribute__((naked, noinline)) int context_switch(struct coroutine_context *from
						    __attribute__((unused)),
						    struct coroutine_context *to
						    __attribute__((unused)))
{
	__asm__("popq %rcx\n\t"
		"xorl %eax, %eax\n\t"
		"movq %rsp, 0(%rdi)\n\t"
		"movq %rbp, 8(%rdi)\n\t"
		"movq %rbx, 16(%rdi)\n\t"
		"movq %r12, 24(%rdi)\n\t"
		"movq %r13, 32(%rdi)\n\t"
		"movq %r14, 40(%rdi)\n\t"
		"movq %r15, 48(%rdi)\n\t"
		"movq %rcx, 56(%rdi)\n\t"
		"movq 0(%rsi), %rsp\n\t"
		"movq 8(%rsi), %rbp\n\t"
		"movq 16(%rsi), %rbx\n\t"
		"movq 24(%rsi), %r12\n\t"
		"movq 32(%rsi), %r13\n\t"
		"movq 40(%rsi), %r14\n\t"
		"movq 48(%rsi), %r15\n\t"
		"jmpq *56(%rsi)");
}
#else
#include <ucontext.h>

/* Portable and slow: a context's frame member points to its ucontext_t, which lies on its own
 * stack. */
int context_switch(struct coroutine_context *from, struct coroutine_context *to)
{
	ucontext_t here;

	from->frame = &here;
	swapcontext(&here, to->frame);
	return 0;
}
#endif

/* ---- a new stack ---- */

static __attribute__((noreturn, used)) void coroutine_start(struct coroutine *co);

/* Bytes at the top of a stack that stay unused.  Stacks begin on pages: without a different offset
 * for each, the frames of all coroutines would fall into the same few sets of the first-level
 * cache. */
static size_t stack_colour(const struct coroutine *co)
{
	return 64 + co->index % 16 * 192;
}

#if defined(__x86_64__) && !defined(COROUTINE_PORTABLE)
/* First instructions of a coroutine: rbx holds it. */
__attribute__((naked, noreturn)) static void coroutine_thunk(void)
{
	__asm__ volatile("movq %%rbx, %%rdi\n\t"
			 "xorl %%ebp, %%ebp\n\t"
			 "callq %P0\n\t"
			 "ud2" ::"i"(coroutine_start));
}

static void context_make(struct coroutine_context *context, struct coroutine *co)
{
	*context = (struct coroutine_context){
		.sp = co->stack + co->stack_bytes -
		      stack_colour(co), /* aligned to 16, as before a call */
		.saved[0] = co,
		.resume = (void *)(uintptr_t)coroutine_thunk,
	};
}
#else
static void start_halves(unsigned high, unsigned low)
{
	coroutine_start((struct coroutine *)(((uintptr_t)high << 32) | low));
}

static void context_make(struct coroutine_context *context, struct coroutine *co)
{
	ucontext_t *start = (ucontext_t *)(co->stack + co->stack_bytes -
					   round_up(sizeof(*start) + stack_colour(co), 64));
	uintptr_t address = (uintptr_t)co;

	getcontext(start);
	start->uc_stack.ss_sp = co->stack;
	start->uc_stack.ss_size = (size_t)((char *)start - co->stack);
	makecontext(start, (void (*)(void))start_halves, 2, (unsigned)(address >> 32),
		    (unsigned)address);
	context->frame = start;
}
#endif

/* ---- readiness ---- */

/* First word after the given one that has a ready coroutine, round-robin.  There is one. */
static uint32_t next_word(const struct coroutine_table *table, uint32_t word)
{
	uint32_t group = word / 64;
	uint64_t bits = table->summary[group] & coroutine_above(word % 64);

	while (!bits) {
		group = group + 1 < table->summary_words ? group + 1 : 0;
		bits = table->summary[group];
	}
	return group * 64 + bits_lowest(bits);
}

/* Takes the next ready coroutine after an index, round-robin.  There is one. */
static struct coroutine *take_next(struct coroutine_table *table, uint32_t index)
{
	uint32_t word = index / 64;
	uint64_t bits = table->ready[word] & coroutine_above(index % 64);

	if (unlikely(!bits)) {
		word = next_word(table, word);
		bits = table->ready[word];
	}
	uint32_t bit = bits_lowest(bits);
	table->ready[word] ^= (uint64_t)1 << bit;
	if (table->ready[word] == 0)
		table->summary[word / 64] &= ~((uint64_t)1 << (word % 64));
	table->ready_count--;
	return table->slots[word * 64 + bit];
}

/* Who runs next: coroutine 0 if nobody else is ready, or all had their rounds. */
static struct coroutine *next_to_run(struct coroutine_table *table)
{
	uint32_t from = table->cursor;

	if (!coroutine_is_main(table->running)) {
		from = table->cursor = table->running->index;
		if (table->slots_end <= 64)
			table->rounds = table->place / 64; /* what yields left of them */
	}
	if (table->ready_count == 0)
		return &table->main;
	struct coroutine *next = take_next(table, from);
	if (next->index > from || coroutine_is_main(table->running))
		return next;
	if (table->rounds > 0) {
		table->rounds--;
		return next;
	}
	coroutine_ready(next);
	return &table->main;
}

static void locate(struct coroutine_table *table, const struct coroutine *co)
{
	uint32_t word = co->index / 64;

	table->word = coroutine_is_main(co) ? &table->none : &table->ready[word];
	table->word_slots = &table->slots[word * 64];
}

/* Rounds within the word are for when all coroutines are in it: others would starve. */
static uint32_t place_of(const struct coroutine_table *table, const struct coroutine *co)
{
	return (table->slots_end <= 64 ? table->rounds * 64 : 0) + co->index % 64;
}

static void switch_to(struct coroutine_table *table, struct coroutine *to)
{
	locate(table, to);
	(void)coroutine_switch_near(table, to, place_of(table, to));
}

void coroutine_block(struct coroutine_table *table)
{
	ASSERT(!coroutine_is_main(table->running));
	struct coroutine *next = next_to_run(table);
	if (next == table->running)
		table->place = place_of(table, next);
	else
		switch_to(table, next);
}

int coroutine_yield(struct coroutine_table *table)
{
	if (coroutine_is_main(table->running)) {
		(void)sched_turn(table->sched);
		return 0;
	}
	coroutine_ready(table->running);
	coroutine_block(table);
	return 0;
}

bool coroutine_run(struct coroutine_table *table)
{
	if (table->ready_count == 0)
		return false;
	table->rounds = COROUTINE_RUN_SWITCHES / table->ready_count;
	table->runs++;
	switch_to(table, next_to_run(table));
	return true;
}

/* ---- life ---- */

static void retire(struct coroutine *co)
{
	struct coroutine_table *table = co->table;

	waitset_give_all(table->sched, &co->waits, &table->main.waits);
	co->next_unused = table->unused;
	table->unused = co;
	table->live--;
}

/* The last switch of a coroutine that ended. */
static inline __attribute__((always_inline)) void coroutine_leave(struct coroutine *co,
								  struct coroutine *next)
{
	struct coroutine_table *table = co->table;

	locate(table, next);
	table->running = next;
	table->place = place_of(table, next);
	fiber_leave(co, next, true);
	(void)context_switch(&co->context, &next->context);
}

static void coroutine_start(struct coroutine *co)
{
	struct coroutine_table *table = co->table;

	for (;;) {
		fiber_arrive(co, true);
		co->fn(co->arg);
		retire(co);
		struct coroutine *next = next_to_run(table);
		/* Used again, this stack goes on behind this switch, with a new fn. */
		coroutine_leave(co, next);
	}
}

static bool map_stack(struct coroutine *co, size_t stack_bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t bytes = round_up(stack_bytes, page);
	char *at = mmap(NULL, bytes + page, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return false;
	if (mprotect(at, page, PROT_NONE)) {
		munmap(at, bytes + page);
		return false;
	}
	co->stack = at + page;
	co->stack_bytes = bytes;
	return true;
}

static void coroutine_delete(struct coroutine *co)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	fiber_delete(co);
	munmap(co->stack - page, co->stack_bytes + page);
	free(co);
}

static struct coroutine *coroutine_new(struct coroutine_table *table)
{
	if (table->slots_end > table->max)
		return NULL;
	struct coroutine *co = aligned_alloc(CACHE_LINE, sizeof(*co));
	if (!co)
		return NULL;
	memset(co, 0, sizeof(*co));
	co->table = table;
	if (!map_stack(co, table->stack_bytes)) {
		free(co);
		return NULL;
	}
	fiber_new(co);
	co->index = table->slots_end++;
	context_make(&co->context, co);
	table->summary_words = co->index / 4096 + 1;
	table->slots[co->index] = co;
	return co;
}

int coroutine_go(struct coroutine_table *table, void (*fn)(void *), void *arg)
{
	struct coroutine *co = table->unused;

	if (co)
		table->unused = co->next_unused;
	else
		co = coroutine_new(table);
	if (!co)
		return -ENOMEM;
	waitset_init(&co->waits, co);
	co->fn = fn;
	co->arg = arg;
	table->live++;
	coroutine_ready(co);
	return 0;
}

static void free_bitmaps(struct coroutine_table *table)
{
	free(table->slots);
	free(table->summary);
	free(table->ready);
}

int coroutine_table_open(struct coroutine_table *table, struct sched *sched, uint32_t max,
			 size_t stack_bytes)
{
	*table = (struct coroutine_table){
		.sched = sched,
		.max = max,
		.summary_words = 1,
		.slots_end = 1,
		.stack_bytes = stack_bytes,
	};
	table->ready = calloc(max / 64 + 1, sizeof(*table->ready));
	table->summary = calloc(max / 4096 + 1, sizeof(*table->summary));
	table->slots = calloc((size_t)max + 1, sizeof(struct coroutine *));
	if (!table->ready || !table->summary || !table->slots) {
		free_bitmaps(table);
		return -ENOMEM;
	}
	table->main.table = table;
	waitset_init(&table->main.waits, &table->main);
	table->slots[0] = &table->main;
	table->running = &table->main;
	locate(table, &table->main);
	return 0;
}

void coroutine_table_close(struct coroutine_table *table)
{
	for (uint32_t i = 1; i < table->slots_end; i++) {
		if (table->slots[i] !=
		    table->running) /* exit was called in it: its stack is still in use */
			coroutine_delete(table->slots[i]);
	}
	free_bitmaps(table);
}
