/* SPDX-License-Identifier: MIT
 * tests/lab/uring.c - io_uring over a file or block device, past the page cache: writes blocks of a
 * pattern in a scattered order, several in flight, flushes, reads them back and compares.
 *
 *	lab_uring FILE BLOCK_BYTES BLOCKS
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define DEPTH  8
#define STRIDE 37 /* a prime: every block is reached, in no order */

static _Noreturn void fail(int error, const char *what)
{
	(void)fprintf(stderr, "lab_uring: %s: %s\n", what, strerror(-error));
	exit(1);
}

static void must(int result, const char *what)
{
	if (result < 0)
		fail(result, what);
}

static uint8_t pattern(unsigned block, size_t i)
{
	return (uint8_t)(block * 131 + i * 7 + (i >> 8));
}

static struct io_uring_sqe *entry(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		fail(-EBUSY, "io_uring_get_sqe");
	return sqe;
}

/* Waits for so many operations, which have to have moved so many bytes each. */
static void reap(struct io_uring *ring, unsigned count, int bytes)
{
	for (unsigned i = 0; i < count; i++) {
		struct io_uring_cqe *cqe;
		must(io_uring_wait_cqe(ring, &cqe), "io_uring_wait_cqe");
		must(cqe->res, "operation");
		if (cqe->res != bytes)
			must(-EIO, "short operation");
		io_uring_cqe_seen(ring, cqe);
	}
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		(void)fprintf(stderr, "usage: lab_uring FILE BLOCK_BYTES BLOCKS\n");
		return 2;
	}
	const size_t bytes = strtoul(argv[2], NULL, 10);
	const unsigned blocks = (unsigned)strtoul(argv[3], NULL, 10);
	int fd = open(argv[1], O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	must(fd < 0 ? -errno : 0, argv[1]);

	struct io_uring ring;
	must(io_uring_queue_init(DEPTH, &ring, 0), "io_uring_queue_init");
	uint8_t *memory = aligned_alloc(4096, DEPTH * bytes);
	const struct iovec whole = {memory, DEPTH * bytes};
	must(memory ? 0 : -ENOMEM, "aligned_alloc");
	must(io_uring_register_buffers(&ring, &whole, 1), "io_uring_register_buffers");

	for (int reading = 0; reading < 2; reading++) {
		for (unsigned first = 0; first < blocks; first += DEPTH) {
			unsigned count = blocks - first < DEPTH ? blocks - first : DEPTH;
			for (unsigned i = 0; i < count; i++) {
				unsigned block = (first + i) * STRIDE % blocks;
				uint8_t *at = memory + i * bytes;
				struct io_uring_sqe *sqe = entry(&ring);
				for (size_t k = 0; k < bytes; k++)
					at[k] = reading ? 0 : pattern(block, k);
				if (reading)
					io_uring_prep_read_fixed(sqe, fd, at, (unsigned)bytes,
								 (uint64_t)block * bytes, 0);
				else
					io_uring_prep_write_fixed(sqe, fd, at, (unsigned)bytes,
								  (uint64_t)block * bytes, 0);
			}
			must(io_uring_submit(&ring), "io_uring_submit");
			reap(&ring, count, (int)bytes);
			for (unsigned i = 0; reading && i < count; i++) {
				unsigned block = (first + i) * STRIDE % blocks;
				for (size_t k = 0; k < bytes; k++)
					must(memory[i * bytes + k] == pattern(block, k) ? 0 : -EIO,
					     "other bytes than were written");
			}
		}
		io_uring_prep_fsync(entry(&ring), fd, 0);
		must(io_uring_submit(&ring), "io_uring_submit");
		reap(&ring, 1, 0);
	}
	io_uring_queue_exit(&ring);
	(void)close(fd);
	free(memory);
	(void)printf("%s: %u blocks of %zu bytes written, flushed, read\n", argv[1], blocks, bytes);
	return 0;
}
