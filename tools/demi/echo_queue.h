/* SPDX-License-Identifier: MIT
 * tools/demi/echo_queue.h - what server and client over the queue API share.
 */
#pragma once

#include "echo.h"
#include "instance.h"

#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/wait.h>

/* Bytes of an array. */
size_t queue_bytes(const demi_sgarray_t *sga);

/* Port of a socket queue that is bound, host order. */
uint16_t queue_port(int qd);

/* A socket queue as the run asks; 0 or -errno with the message left. */
int queue_socket(struct echo_end *end, int *qd);
