/* SPDX-License-Identifier: MIT
 * tools/demi/net/input.h - what a received frame costs our stack.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* So many frames come in, one a poll, each counted (count.h) from where the device has returned it
 * to the end of the poll: 64 bytes in order that acknowledge nothing new, whose pop is complete
 * then; a request of 64 bytes that acknowledges the answer before it; a bare acknowledgement. false
 * after a complaint. */
bool input_data(uint64_t count);
bool input_request(uint64_t count);
bool input_ack(uint64_t count);

/* Time from the moment when the device's receive burst has returned a frame of 64 bytes to the one
 * when the coroutine that waits for it runs: the median of so many; negative after a complaint. */
double input_to_waiter_ns(uint64_t count);
