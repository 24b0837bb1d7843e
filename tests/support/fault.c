/* tests/support/fault.c: see fault.h. */
#include "support/fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

/* Weak: a test that wraps only some of the functions has no use for the others. */
#define REAL __attribute__((weak))

REAL void *__real_malloc(size_t size);
REAL void *__real_calloc(size_t count, size_t size);
REAL void *__real_realloc(void *old, size_t size);
REAL void *__real_reallocarray(void *old, size_t count, size_t size);
REAL void *__real_aligned_alloc(size_t alignment, size_t size);
REAL char *__real_strdup(const char *text);
REAL void __real_free(void *block);
REAL void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
REAL void *__real_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
REAL int __real_munmap(void *at, size_t bytes);
REAL void *__real_mremap(void *at, size_t bytes, size_t new_bytes, int flags, ...);
REAL int __real_mprotect(void *at, size_t bytes, int protection);
REAL int __real_madvise(void *at, size_t bytes, int advice);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *block);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t bytes);
void *__wrap_mremap(void *at, size_t bytes, size_t new_bytes, int flags, void *to);
int __wrap_mprotect(void *at, size_t bytes, int protection);
int __wrap_madvise(void *at, size_t bytes, int advice);

static _Atomic uint64_t calls;
static _Atomic uint64_t first; /* the call that fails; 0: none */
static _Atomic uint64_t after; /* the first call that fails no more */
static _Atomic bool happened;
static _Atomic int64_t pauses;
static _Atomic int64_t blocks;
static _Atomic int64_t mapped_bytes;

void fault_fail_times(uint64_t nth, uint64_t times)
{
	happened = false;
	after = UINT64_MAX - calls - nth < times ? UINT64_MAX : calls + nth + times;
	first = calls + nth;
}

void fault_fail(uint64_t nth)
{
	fault_fail_times(nth, 1);
}

void fault_fail_from(uint64_t nth)
{
	fault_fail_times(nth, UINT64_MAX);
}

bool fault_off(void)
{
	first = 0;
	return happened;
}

void fault_pause(bool on)
{
	pauses += on ? 1 : -1;
}

uint64_t fault_calls(void)
{
	return calls;
}

struct fault_live fault_live(void)
{
	return (struct fault_live){.blocks = blocks, .mapped_bytes = mapped_bytes};
}

static bool fails(void)
{
	if (pauses > 0)
		return false;
	uint64_t call = ++calls;
	if (first == 0 || call < first || call >= after)
		return false;
	happened = true;
	errno = ENOMEM;
	return true;
}

static void *block(void *new)
{
	blocks += new != NULL;
	return new;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : block(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : block(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	if (fails())
		return NULL;
	return old ? __real_realloc(old, size) : block(__real_realloc(old, size));
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
	if (fails())
		return NULL;
	return old ? __real_reallocarray(old, count, size)
		   : block(__real_reallocarray(old, count, size));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : block(__real_aligned_alloc(alignment, size));
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : block(__real_strdup(text));
}

void __wrap_free(void *old)
{
	blocks -= old != NULL;
	__real_free(old);
}

static void *mapping(void *new, size_t bytes, int flags)
{
	if (new != MAP_FAILED && !(flags & MAP_FIXED))
		mapped_bytes += (int64_t)bytes;
	return new;
}

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return fails() ? MAP_FAILED
		       : mapping(__real_mmap(at, bytes, protection, flags, fd, offset), bytes,
				 flags);
}

/* What mmap is called where file offsets have 64 bits. */
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return fails() ? MAP_FAILED
		       : mapping(__real_mmap64(at, bytes, protection, flags, fd, offset), bytes,
				 flags);
}

int __wrap_munmap(void *at, size_t bytes)
{
	int err = __real_munmap(at, bytes);

	if (!err)
		mapped_bytes -= (int64_t)bytes;
	return err;
}

/* Always called with a destination here; what it takes the place of counts as before. */
void *__wrap_mremap(void *at, size_t bytes, size_t new_bytes, int flags, void *to)
{
	if (fails())
		return MAP_FAILED;
	void *got = __real_mremap(at, bytes, new_bytes, flags, to);
	if (got != MAP_FAILED)
		mapped_bytes -= (int64_t)bytes;
	return got;
}

int __wrap_mprotect(void *at, size_t bytes, int protection)
{
	return fails() ? -1 : __real_mprotect(at, bytes, protection);
}

int __wrap_madvise(void *at, size_t bytes, int advice)
{
	return fails() ? -1 : __real_madvise(at, bytes, advice);
}
