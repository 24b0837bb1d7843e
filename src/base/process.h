/* SPDX-License-Identifier: MIT
 * base/process.h - was this memory image forked?
 *
 * process_word is 1 from process_begin on and 0 in a forked child: it lives on a page that the
 * kernel wipes on fork (MADV_WIPEONFORK).  The heap's address range stands on a page of the same
 * kind.  After a fork the parent goes on; in the child every call of the library fails with ENOSYS
 * until demi_init begins anew.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define PROCESS_PAGE 4096

union process_page {
	int word; /* by __atomic builtins only */
	char room[PROCESS_PAGE];
};

extern union process_page process_page;

/* Marks static memory (page aligned, whole pages) as wiped on fork.  0 or -errno. */
int process_wipe_on_fork(void *page, size_t bytes);

/* Idempotent, any thread.  *anew: this is the first call of the process, or the first after a fork.
 * 0 or -errno. */
int process_begin(bool *anew);

/* Is this a forked child that has not begun anew? */
bool process_forked(void);

static inline bool process_alive(void)
{
	return __atomic_load_n(&process_page.word, __ATOMIC_RELAXED) != 0;
}
