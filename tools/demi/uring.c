/* SPDX-License-Identifier: MIT
 * tools/demi/uring.c - an io_uring as the echo benchmark uses it.
 */
#include "uring.h"

#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SUBMISSION_ENTRIES 256
#define COMPLETION_ENTRIES 8192

static int open_ring(struct uring *uring, unsigned files, const char **what)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE,
		.cq_entries = COMPLETION_ENTRIES,
	};
	int error = io_uring_queue_init_params(SUBMISSION_ENTRIES, &uring->ring, &params);

	*what = "io_uring_setup";
	if (error)
		return error;
	io_uring_register_ring_fd(&uring->ring);
	*what = "io_uring_register_files_sparse";
	error = io_uring_register_files_sparse(&uring->ring, files);
	if (error)
		io_uring_queue_exit(&uring->ring);
	return error;
}

static int open_buffers(struct uring *uring)
{
	struct io_uring_buf_reg group = {.ring_entries = uring->buffers, .bgid = URING_GROUP};
	int error;

	uring->group_bytes = uring->buffers * sizeof(struct io_uring_buf);
	uring->group = mmap(NULL, uring->group_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (uring->group == MAP_FAILED)
		return -errno;
	group.ring_addr = (uintptr_t)uring->group;
	error = io_uring_register_buf_ring(&uring->ring, &group, 0);
	if (error) {
		munmap(uring->group, uring->group_bytes);
		return error;
	}
	uring->memory = tool_alloc(uring->buffers, uring->buffer_bytes);
	io_uring_buf_ring_init(uring->group);
	for (unsigned buffer = 0; buffer < uring->buffers; buffer++)
		uring_give_buffer(uring, buffer);
	return 0;
}

int uring_open(struct uring *uring, unsigned files, unsigned buffers, size_t buffer_bytes,
	       bool spins, const char **what)
{
	int error;

	memset(uring, 0, sizeof(*uring));
	uring->buffers = buffers;
	uring->buffer_bytes = buffer_bytes;
	uring->spins = spins;
	error = open_ring(uring, files, what);
	if (error)
		return error;
	*what = "io_uring_register_buf_ring";
	error = open_buffers(uring);
	if (error)
		io_uring_queue_exit(&uring->ring);
	return error;
}

void uring_close(struct uring *uring)
{
	io_uring_queue_exit(&uring->ring);
	munmap(uring->group, uring->group_bytes);
	free(uring->memory);
}

void uring_give_buffer(struct uring *uring, unsigned buffer)
{
	io_uring_buf_ring_add(uring->group, uring_buffer(uring, buffer),
			      (unsigned)uring->buffer_bytes, (unsigned short)buffer,
			      io_uring_buf_ring_mask(uring->buffers), 0);
	io_uring_buf_ring_advance(uring->group, 1);
}

struct io_uring_sqe *uring_sqe(struct uring *uring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	while (!sqe) {
		io_uring_submit(&uring->ring);
		sqe = io_uring_get_sqe(&uring->ring);
	}
	return sqe;
}

void uring_receive(struct uring *uring, unsigned file, uint64_t user_data)
{
	struct io_uring_sqe *sqe = uring_sqe(uring);

	io_uring_prep_recv_multishot(sqe, (int)file, NULL, 0, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT);
	sqe->buf_group = URING_GROUP;
	io_uring_sqe_set_data64(sqe, user_data);
}

int uring_turn(struct uring *uring)
{
	int count;

	if (!uring->spins)
		count = io_uring_submit_and_wait(&uring->ring, 1);
	else if (io_uring_sq_ready(&uring->ring) > 0 ||
		 *(volatile unsigned *)uring->ring.sq.kflags & IORING_SQ_TASKRUN)
		count = io_uring_submit_and_get_events(&uring->ring);
	else
		count = 0;
	return count < 0 && count != -EINTR && count != -EBUSY ? count : 0;
}
