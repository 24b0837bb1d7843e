/* SPDX-License-Identifier: MIT
 * tools/demi/core_loops.c - the loops of `demi bench core`.
 *
 * What each figure holds:
 * memory_queue_roundtrip  demi_push, demi_wait, demi_pop, demi_wait on a memory queue with a
 * 64-byte array, and demi_sgafree of what was popped coroutine_switch        demi_yield of two
 * coroutines that run alternately; nothing else can run operation               demi_pop of a
 * memory queue that has an element, and demi_wait: allocated, completed, redeemed; the pushes
 * before, 64 at a time, are not counted wait_any_N              demi_wait_any over the pops of N
 * memory queues of which one, at random, has just got an element; the push before and the pop
 * after, whose token replaces the spent one, are not counted heap, malloc, mimalloc  allocate,
 * write the first byte, free syscall                 getppid
 */
#include "core_loops.h"

#include "tool.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ELEMENT_BYTES 64
#define BATCH         64
#define TOKENS_MAX    10000

struct core_state {
	demi_sgarray_t element;
	int *qds;
	demi_qtoken_t *tokens;
	int count;                 /* queues */
	uint64_t random, overhead; /* overhead: ticks that two readings of the counter are apart */
	size_t size;
	void *(*allocate)(size_t size);
	void (*release)(void *memory);
	/* coroutine_switch */
	uint64_t yields, begin;
	unsigned running;
	int error;
};

struct core_state *core_state_make(void)
{
	struct core_state *state = tool_alloc(1, sizeof(*state));

	state->qds = tool_alloc(TOKENS_MAX, sizeof(*state->qds));
	state->tokens = tool_alloc(TOKENS_MAX, sizeof(*state->tokens));
	state->random = 0x2545f4914f6cdd1dULL;
	state->overhead = ticks_overhead();
	return state;
}

void core_state_free(struct core_state *state)
{
	free(state->tokens);
	free(state->qds);
	free(state);
}

static uint32_t next_random(struct core_state *state)
{
	state->random ^= state->random << 13;
	state->random ^= state->random >> 7;
	state->random ^= state->random << 17;
	return (uint32_t)(state->random >> 32);
}

static int open_queues(struct core_state *state, size_t count)
{
	int error = 0;

	state->count = 0;
	state->element = demi_sgaalloc(ELEMENT_BYTES);
	if (state->element.sga_numsegs == 0)
		return ENOMEM;
	memset(state->element.sga_segs[0].sgaseg_buf, 'd', ELEMENT_BYTES);
	while (!error && (size_t)state->count < count) {
		error = demi_queue(&state->qds[state->count]);
		state->count += !error;
	}
	return error;
}

static int open_queue(struct core_state *state, size_t size)
{
	(void)size;
	return open_queues(state, 1);
}

static void close_queues(struct core_state *state)
{
	while (state->count > 0)
		demi_close(state->qds[--state->count]);
	demi_sgafree(&state->element);
}

/* Redeems a token; 0, or an errno also if the operation failed. */
static int redeem(demi_qtoken_t token, demi_qresult_t *result)
{
	int error = demi_wait(result, token, NULL);

	return error ? error : result->qr_opcode == DEMI_OPC_FAILED ? (int)result->qr_ret : 0;
}

static int push_element(struct core_state *state, int qd)
{
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = demi_push(&token, qd, &state->element);

	return error ? error : redeem(token, &result);
}

static uint64_t run_memory_queue(struct core_state *state, uint64_t count)
{
	uint64_t begin = core_ticks();

	for (uint64_t i = 0; i < count; i++) {
		demi_qresult_t result;
		demi_qtoken_t token;

		if (push_element(state, state->qds[0]) || demi_pop(&token, state->qds[0]) ||
		    redeem(token, &result))
			return 0;
		demi_sgafree(&result.qr_value.sga);
	}
	return core_ticks() - begin;
}

static void yield_loop(void *arg)
{
	struct core_state *state = arg;

	for (uint64_t i = 0; i < state->yields; i++)
		demi_yield();
	if (--state->running == 0)
		state->error = push_element(state, state->qds[0]);
}

static uint64_t run_coroutines(struct core_state *state, uint64_t count)
{
	demi_qresult_t result;
	demi_qtoken_t token;

	state->yields = count / 2;
	state->running = 2;
	state->error = 0;
	if (demi_pop(&token, state->qds[0]) || demi_go(yield_loop, state) ||
	    demi_go(yield_loop, state))
		return 0;
	state->begin = core_ticks();
	if (redeem(token, &result) || state->error)
		return 0;
	state->begin = core_ticks() - state->begin;
	demi_sgafree(&result.qr_value.sga);
	return state->begin;
}

static uint64_t pop_batch(struct core_state *state, demi_qresult_t *results)
{
	uint64_t begin;

	for (unsigned i = 0; i < BATCH; i++) {
		if (push_element(state, state->qds[0]))
			return 0;
	}
	begin = core_ticks();
	for (unsigned i = 0; i < BATCH; i++) {
		demi_qtoken_t token;

		if (demi_pop(&token, state->qds[0]) || redeem(token, &results[i]))
			return 0;
	}
	begin = core_ticks() - begin - state->overhead;
	for (unsigned i = 0; i < BATCH; i++)
		demi_sgafree(&results[i].qr_value.sga);
	return begin;
}

static uint64_t run_operation(struct core_state *state, uint64_t count)
{
	demi_qresult_t *results = tool_alloc(BATCH, sizeof(*results));
	uint64_t sum = 0;

	for (uint64_t i = 0; i < count / BATCH; i++) {
		uint64_t ticks = pop_batch(state, results);

		if (ticks == 0) {
			sum = 0;
			break;
		}
		sum += ticks;
	}
	free(results);
	return sum;
}

static int open_waiting(struct core_state *state, size_t size)
{
	int error = open_queues(state, size);

	for (int i = 0; i < state->count && !error; i++)
		error = demi_pop(&state->tokens[i], state->qds[i]);
	return error;
}

/* Closing cancels the pops; their tokens are redeemed all the same. */
static void close_waiting(struct core_state *state)
{
	int count = state->count;

	close_queues(state);
	for (int i = 0; i < count; i++) {
		demi_qresult_t result;

		(void)!demi_wait(&result, state->tokens[i], NULL);
	}
}

static uint64_t run_wait_any(struct core_state *state, uint64_t count)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < count; i++) {
		int target = (int)(next_random(state) % (uint32_t)state->count);
		demi_qresult_t result;
		uint64_t begin;
		int error;
		int at;

		if (push_element(state, state->qds[target]))
			return 0;
		begin = core_ticks();
		error = demi_wait_any(&result, &at, state->tokens, state->count, NULL);
		sum += core_ticks() - begin - state->overhead;
		if (error || at != target || result.qr_opcode != DEMI_OPC_POP)
			return 0;
		demi_sgafree(&result.qr_value.sga);
		if (demi_pop(&state->tokens[at], state->qds[at]))
			return 0;
	}
	return sum;
}

static void release_heap(void *memory)
{
	(void)!demi_free(memory);
}

static int prepare_heap(struct core_state *state, size_t size)
{
	state->size = size;
	return 0;
}

/* The compiler may not know what is done with the memory: it would delete a malloc that is only
 * freed. */
static inline void touch(void *memory)
{
	*(volatile char *)memory = 1;
	__asm__ volatile("" : : "r"(memory) : "memory");
}

static uint64_t run_heap(struct core_state *state, uint64_t count)
{
	uint64_t begin = core_ticks();

	for (uint64_t i = 0; i < count; i++) {
		void *memory = demi_malloc(state->size);

		if (!memory)
			return 0;
		touch(memory);
		release_heap(memory);
	}
	return core_ticks() - begin;
}

static uint64_t run_malloc(struct core_state *state, uint64_t count)
{
	uint64_t begin = core_ticks();

	for (uint64_t i = 0; i < count; i++) {
		void *memory = malloc(state->size);

		if (!memory)
			return 0;
		touch(memory);
		free(memory);
	}
	return core_ticks() - begin;
}

/* Linked, mimalloc would take the place of malloc: it is opened by name, its symbols kept to
 * itself. */
static int prepare_mimalloc(struct core_state *state, size_t size)
{
#ifdef DEMI_MIMALLOC
	void *library = dlopen(DEMI_MIMALLOC, RTLD_NOW | RTLD_LOCAL);
	void *allocate = library ? dlsym(library, "mi_malloc") : NULL;
	void *release = library ? dlsym(library, "mi_free") : NULL;

	if (!allocate || !release)
		return ENOTSUP;
	/* POSIX gives functions as data pointers; ISO C has no conversion. */
	memcpy(&state->allocate, &allocate, sizeof(allocate));
	memcpy(&state->release, &release, sizeof(release));
	state->size = size;
	return 0;
#else
	(void)state;
	(void)size;
	return ENOTSUP;
#endif
}

static uint64_t run_mimalloc(struct core_state *state, uint64_t count)
{
	uint64_t begin = core_ticks();

	for (uint64_t i = 0; i < count; i++) {
		void *memory = state->allocate(state->size);

		if (!memory)
			return 0;
		touch(memory);
		state->release(memory);
	}
	return core_ticks() - begin;
}

static uint64_t run_syscall(struct core_state *state, uint64_t count)
{
	uint64_t begin = core_ticks();

	(void)state;
	for (uint64_t i = 0; i < count; i++)
		getppid();
	return core_ticks() - begin;
}

const struct core_loop core_loops[] = {
	{"memory_queue_roundtrip_ns", "memory queue push, wait, pop, wait", 100000, 0, open_queue,
	 run_memory_queue, close_queues},
	{"coroutine_switch_ns", "coroutine switch", 1000000, 0, open_queue, run_coroutines,
	 close_queues},
	{"operation_ns", "operation allocate, complete, redeem", 64000, 0, open_queue,
	 run_operation, close_queues},
	{"wait_any_1_ns", "wait_any over 1 token", 20000, 1, open_waiting, run_wait_any,
	 close_waiting},
	{"wait_any_100_ns", "wait_any over 100 tokens", 20000, 100, open_waiting, run_wait_any,
	 close_waiting},
	{"wait_any_10000_ns", "wait_any over 10000 tokens", 20000, TOKENS_MAX, open_waiting,
	 run_wait_any, close_waiting},
	{"syscall_ns", "system call getppid", 20000, 0, NULL, run_syscall, NULL},
	{"heap_64_ns", "heap allocate, free 64 B", 200000, 64, prepare_heap, run_heap, NULL},
	{"malloc_64_ns", "malloc, free 64 B", 200000, 64, prepare_heap, run_malloc, NULL},
	{"mimalloc_64_ns", "mimalloc 64 B", 200000, 64, prepare_mimalloc, run_mimalloc, NULL},
	{"heap_1024_ns", "heap allocate, free 1 KiB", 200000, 1024, prepare_heap, run_heap, NULL},
	{"malloc_1024_ns", "malloc, free 1 KiB", 200000, 1024, prepare_heap, run_malloc, NULL},
	{"mimalloc_1024_ns", "mimalloc 1 KiB", 200000, 1024, prepare_mimalloc, run_mimalloc, NULL},
	{"heap_16384_ns", "heap allocate, free 16 KiB", 200000, 16384, prepare_heap, run_heap,
	 NULL},
	{"malloc_16384_ns", "malloc, free 16 KiB", 200000, 16384, prepare_heap, run_malloc, NULL},
	{"mimalloc_16384_ns", "mimalloc 16 KiB", 200000, 16384, prepare_mimalloc, run_mimalloc,
	 NULL},
};

const size_t core_loop_count = TOOL_COUNT(core_loops);

const struct core_loop *core_loop_find(const char *key)
{
	for (size_t i = 0; i < core_loop_count; i++) {
		const char *own = core_loops[i].key;
		size_t length = strlen(key);

		if (strncmp(own, key, length) == 0 &&
		    (own[length] == '\0' || strcmp(own + length, "_ns") == 0))
			return &core_loops[i];
	}
	return NULL;
}
