/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <errno.h>
#include <sys/mman.h>

/* Stated exception to "no mutable globals" (docs/ARCHITECTURE.md): it is about the process, not
 * about an instance. */
union process_page process_page __attribute__((aligned(PROCESS_PAGE)));

/* The same, but never wiped: tells a child from a process that has not begun. */
static int process_begun;

int process_wipe_on_fork(void *page, size_t bytes)
{
	return madvise(page, bytes, MADV_WIPEONFORK) == 0 ? 0 : -errno;
}

bool process_forked(void)
{
	return !process_alive() && __atomic_load_n(&process_begun, __ATOMIC_RELAXED);
}

int process_begin(bool *anew)
{
	int expected = 0;

	*anew = false;
	if (process_alive())
		return 0;
	int err = process_wipe_on_fork(&process_page, sizeof(process_page));
	if (err)
		return err;
	__atomic_store_n(&process_begun, 1, __ATOMIC_RELAXED);
	*anew = __atomic_compare_exchange_n(&process_page.word, &expected, 1, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	return 0;
}
