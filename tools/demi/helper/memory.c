/* SPDX-License-Identifier: MIT
 * tools/demi/helper/memory.c - see memory.h.
 */
#include "helper/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* 0 or -errno, told. */
static int judge(const struct log *log, int fd, uint64_t bytes)
{
	struct stat file;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || fstat(fd, &file)) {
		log_write(log, LOG_LEVEL_ERROR, "memory: its descriptor is not a memfd");
		return -EBADF;
	}
	if (!(seals & F_SEAL_SHRINK)) {
		log_write(log, LOG_LEVEL_ERROR, "memory: a memfd that may shrink (F_SEAL_SHRINK)");
		return -EPERM;
	}
	/* equal, so that the mapping of huge pages is of whole ones too */
	if (file.st_size < 0 || (uint64_t)file.st_size != bytes) {
		log_write(log, LOG_LEVEL_ERROR, "memory: a memfd of %lld bytes, not %llu",
			  (long long)file.st_size, (unsigned long long)bytes);
		return -EINVAL;
	}
	return 0;
}

int memory_map(const struct log *log, int fd, uint64_t bytes, void **memory_out)
{
	int err = judge(log, fd, bytes);

	if (err)
		return err;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		err = -errno;
		log_write(log, LOG_LEVEL_ERROR, "memory: mmap: %s", strerror(-err));
		return err;
	}
	*memory_out = memory;
	return 0;
}

void memory_unmap(void *memory, uint64_t bytes)
{
	(void)munmap(memory, bytes);
}
