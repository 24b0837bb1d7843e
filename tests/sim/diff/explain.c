/* SPDX-License-Identifier: MIT
 * tests/sim/diff/explain.c - differences between lwIP and our stack that are explained; see diff.h
 * and docs/design/0008-differential.md. */
#include "sim/diff/diff.h"

#include "base/bits.h"

/* RFC 9293 3.10.7.4, fifth: a segment without ACK is dropped.  lwIP takes its data. */
static bool without_ack(const struct diff_run *run, enum diff_field field)
{
	(void)field;
	return run->step.act == ACT_PACKET && run->handshake &&
	       !(run->step.flags & (TCP_ACK | TCP_SYN | TCP_RST));
}

const struct diff_reason diff_reasons[] = {
	{"data without ACK taken", "RFC 9293 3.10.7.4, fifth", "ours", true, without_ack},
};

const uint32_t diff_num_reasons = ARRAY_LENGTH(diff_reasons);
