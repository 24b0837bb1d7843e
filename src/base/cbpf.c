/* SPDX-License-Identifier: MIT
 * base/cbpf.c - see cbpf.h.
 */
#include "base/cbpf.h"

#include "base/assert.h"
#include "base/bits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

static_assert(sizeof(struct cbpf_head) == CBPF_DATA, "the payload is right behind it");
static_assert(offsetof(struct cbpf_head, port) == 4, "len stands alone in front");

/* ---- what is a program ---- */

static uint32_t load_bytes(uint16_t code)
{
	switch (code) {
	case BPF_LD | BPF_W | BPF_ABS:
		return 4;
	case BPF_LD | BPF_H | BPF_ABS:
		return 2;
	case BPF_LD | BPF_B | BPF_ABS:
		return 1;
	default:
		return 0;
	}
}

/* Within the head, or within the payload. */
static bool is_load(const struct sock_filter *in)
{
	uint32_t bytes = load_bytes(in->code);

	if (in->k < CBPF_DATA)
		return bytes > 0 && in->k + bytes <= CBPF_DATA && in->k % bytes == 0;
	return bytes > 0 && in->k <= CBPF_DATA + CBPF_DATA_MAX - bytes;
}

/* left: instructions behind this one. */
static bool is_jump(const struct sock_filter *in, uint32_t left)
{
	switch (in->code) {
	case BPF_JMP | BPF_JA:
		return in->k < left;
	case BPF_JMP | BPF_JEQ | BPF_K:
	case BPF_JMP | BPF_JGT | BPF_K:
	case BPF_JMP | BPF_JGE | BPF_K:
	case BPF_JMP | BPF_JSET | BPF_K:
		return in->jt < left && in->jf < left;
	default:
		return false;
	}
}

static bool is_instruction(const struct sock_filter *in, uint32_t left)
{
	switch (BPF_CLASS(in->code)) {
	case BPF_LD:
		return left > 0 && is_load(in);
	case BPF_ALU:
		return left > 0 && in->code == (BPF_ALU | BPF_AND | BPF_K);
	case BPF_JMP:
		return is_jump(in, left);
	default:
		return in->code == (BPF_RET | BPF_K);
	}
}

int cbpf_check(const struct sock_filter *program, uint32_t count)
{
	if (count == 0 || count > CBPF_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		if (!is_instruction(&program[i], count - 1 - i))
			return -EINVAL;
	}
	return 0;
}

/* ---- running it ---- */

static uint32_t to_number(const uint8_t *at, uint32_t bytes)
{
	uint32_t word;
	uint16_t half;

	if (bytes == 1)
		return *at;
	if (bytes == 2) {
		memcpy(&half, at, sizeof(half));
		return ntohs(half);
	}
	memcpy(&word, at, sizeof(word));
	return ntohl(word);
}

/* Copies bytes of the payload that lie in several segments.  False: it ends before. */
static bool gather(const struct cbpf_record *record, uint64_t offset, uint8_t *to, uint32_t bytes)
{
	for (uint32_t i = 0; i < record->count && bytes > 0; i++) {
		const struct iovec *segment = &record->segments[i];
		if (offset >= segment->iov_len) {
			offset -= segment->iov_len;
			continue;
		}
		size_t there = segment->iov_len - offset;
		uint32_t part = there < bytes ? (uint32_t)there : bytes;
		memcpy(to, (const char *)segment->iov_base + offset, part);
		to += part;
		bytes -= part;
		offset = 0;
	}
	return bytes == 0;
}

/* False: it is not there. */
static bool load_data(const struct cbpf_record *record, uint32_t at, uint32_t bytes,
		      uint32_t *value)
{
	const struct iovec *first = record->segments;
	uint8_t copy[4] = {0};

	if (likely(record->count > 0 && at + bytes <= first->iov_len)) {
		*value = to_number((const uint8_t *)first->iov_base + at, bytes);
		return true;
	}
	if (!gather(record, at, copy, bytes))
		return false;
	*value = to_number(copy, bytes);
	return true;
}

static bool load(const struct cbpf_record *record, uint32_t at, uint32_t bytes, uint32_t *value)
{
	const uint8_t *head = (const uint8_t *)&record->head;

	if (at >= CBPF_DATA)
		return load_data(record, at - CBPF_DATA, bytes, value);
	if (at >= sizeof(record->head.len) && !record->is_datagram)
		return false;
	*value = to_number(head + at, bytes);
	return true;
}

/* How many instructions a jump passes over. */
static uint32_t distance(const struct sock_filter *in, uint32_t a)
{
	switch (in->code) {
	case BPF_JMP | BPF_JA:
		return in->k;
	case BPF_JMP | BPF_JEQ | BPF_K:
		return a == in->k ? in->jt : in->jf;
	case BPF_JMP | BPF_JGT | BPF_K:
		return a > in->k ? in->jt : in->jf;
	case BPF_JMP | BPF_JGE | BPF_K:
		return a >= in->k ? in->jt : in->jf;
	default:
		return a & in->k ? in->jt : in->jf;
	}
}

/* It ends: every step goes forward, and the last instruction is a return. */
bool cbpf_run(const struct sock_filter *program, const struct cbpf_record *record)
{
	uint32_t a = 0;

	for (const struct sock_filter *in = program;; in++) {
		switch (BPF_CLASS(in->code)) {
		case BPF_LD:
			if (!load(record, in->k, load_bytes(in->code), &a))
				return false;
			break;
		case BPF_ALU:
			a &= in->k;
			break;
		case BPF_JMP:
			in += distance(in, a);
			break;
		default:
			return in->k != 0;
		}
	}
}
