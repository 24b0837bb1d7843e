/* SPDX-License-Identifier: MIT
 * sched/fiber.h - tells AddressSanitizer, ThreadSanitizer and valgrind of every stack and every
 * switch.
 *
 * Compiles to nothing in ordinary builds, but for valgrind's registration when a stack is made (a
 * few instructions that do nothing outside of valgrind).
 */
#pragma once

#include "mem/guard.h"
#include "sched/coroutine.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define FIBER_VALGRIND 1
#endif

#if defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif

#ifdef GUARD_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

static inline void fiber_new(struct coroutine *co)
{
#ifdef FIBER_VALGRIND
	co->valgrind_id = VALGRIND_STACK_REGISTER(co->stack, co->stack + co->stack_bytes);
#endif
#ifdef FIBER_TSAN
	co->tsan_fiber = __tsan_create_fiber(0);
#endif
	(void)co;
}

static inline void fiber_delete(struct coroutine *co)
{
#ifdef FIBER_VALGRIND
	VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#endif
#ifdef FIBER_TSAN
	__tsan_destroy_fiber(co->tsan_fiber);
#endif
	guard_live(co->stack,
		   co->stack_bytes); /* ASan poisoned the frames that were left as they were */
}

/* On the old stack, right before the switch.  ended: what from has on its stack is never needed
 * again. */
static inline __attribute__((always_inline)) void fiber_leave(struct coroutine *from,
							      struct coroutine *to, bool ended)
{
#ifdef FIBER_TSAN
	if (coroutine_is_main(from))
		from->tsan_fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
#ifdef GUARD_ASAN
	from->table->asan_from = from;
	__sanitizer_start_switch_fiber(ended ? NULL : &from->asan_stack, to->stack,
				       to->stack_bytes);
#endif
	(void)from;
	(void)to;
	(void)ended;
}

/* On the new stack, right after the switch; anew: self has nothing on its stack yet. */
static inline __attribute__((always_inline)) void fiber_arrive(struct coroutine *self, bool anew)
{
#ifdef GUARD_ASAN
	const void *bottom;
	size_t bytes;

	__sanitizer_finish_switch_fiber(anew ? NULL : self->asan_stack, &bottom, &bytes);
	/* Only ASan knows the bounds of the thread's own stack, which may be another thread's than
	 * last time. */
	if (coroutine_is_main(self->table->asan_from)) {
		self->table->main.stack = (char *)(uintptr_t)bottom;
		self->table->main.stack_bytes = bytes;
	}
#endif
	(void)self;
	(void)anew;
}
