/* SPDX-License-Identifier: MIT
 * tests/packet/expr.h - what stands in %{ }%: assertions over the fields of struct tcp_info.
 *
 *	assert tcpi_state == TCP_ESTABLISHED and not tcpi_unacked, tcpi_unacked; assert (1 + 2) * 3
 *== 9
 */
#pragma once

#include <linux/tcp.h>
#include <stdbool.h>
#include <stddef.h>

/* Is the text well-formed, and are its names known?  False: why says. */
bool expr_check(const char *text, char *why, size_t why_bytes);

/* Does every assertion hold?  False: why holds the first that does not, with the values of its
 * names. */
bool expr_hold(const char *text, const struct tcp_info *info, char *why, size_t why_bytes);
