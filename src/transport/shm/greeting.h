/* SPDX-License-Identifier: MIT
 * transport/shm/greeting.h - the one datagram that either end sends the other at the start, with
 * the memfds that it may read.
 */
#pragma once

#include "transport/shm/internal.h"

struct greeting {
	uint64_t magic;   /* RING_MAGIC */
	uint32_t version; /* RING_VERSION */
	int32_t refusal;  /* 0: welcome; a positive errno: go away, and there are no descriptors */
	uint64_t heap_bytes; /* of what it lends from; 0: it does not, and sends one memfd only */
	uint32_t barrier;    /* 1: it lets a barrier run on every core before it sleeps */
	uint32_t hello_bytes;
	char hello[CHANNEL_HELLO_MAX];
};

/* 0 or -errno. */
int greeting_send(int fd, const struct greeting *greeting, int memory_fd, int heap_fd);

/* Takes the one that has come, if any.  0: checked, *memory_fd is good to be mapped and the
 * caller's, *heap_fd too or -1; -EAGAIN: none has come; -ECONNRESET: nobody is there; -EPROTO; or
 * what the peer refuses us with, -errno. */
int greeting_receive(int fd, struct greeting *greeting, int *memory_fd, int *heap_fd);

/* Tells whoever is there that it is not wanted. */
void greeting_refuse(int fd, int err);
