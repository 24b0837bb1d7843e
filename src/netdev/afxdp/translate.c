/* SPDX-License-Identifier: MIT
 * netdev/afxdp/translate.c - see translate.h.
 *
 * Registers: 6 the frame, 7 the record, 8 the accumulator of classic BPF, 9 the verdict.  It is
 * written twice: jumps go forward, and the first time says where to.
 */
#include "netdev/afxdp/translate.h"

#include "base/assert.h"
#include "netdev/afxdp/record.h"

#include <stddef.h>

enum { FRAME = BPF_REG_6, RECORD = BPF_REG_7, ACCUMULATOR = BPF_REG_8, VERDICT = BPF_REG_9 };

#define REG(number) ((number)&15U) /* as the fields are */

/* On the stack.  Linux before 6.8 takes no write of another size to what was written, from a
 * process without CAP_PERFMON: so they are two, and words. */
enum { INDEX = -8, SCRATCH = -16 };

struct writer {
	struct bpf_insn *out;
	uint32_t count;
	bool reached[CBPF_MAX]; /* the verifier takes no instruction that is not */
	/* Where things begin, as the first time found out. */
	uint32_t start[CBPF_MAX];
	uint32_t accept;
	uint32_t drop;
	uint32_t tally;
	uint32_t end;
};

/* ---- single instructions ---- */

static void put(struct writer *w, struct bpf_insn insn)
{
	ASSERT(w->count < TRANSLATE_MAX);
	w->out[w->count++] = insn;
}

static void put_move(struct writer *w, uint8_t to, uint8_t from)
{
	put(w, (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_X,
				 .dst_reg = REG(to),
				 .src_reg = REG(from)});
}

static void put_set(struct writer *w, uint8_t to, uint32_t value)
{
	put(w, (struct bpf_insn){.code = BPF_ALU | BPF_MOV | BPF_K,
				 .dst_reg = REG(to),
				 .imm = (int32_t)value});
}

static void put_add(struct writer *w, uint8_t to, int32_t value)
{
	put(w, (struct bpf_insn){.code = BPF_ALU64 | BPF_ADD, /* BPF_K */
				 .dst_reg = REG(to),
				 .imm = value});
}

static void put_call(struct writer *w, int32_t helper)
{
	put(w, (struct bpf_insn){.code = BPF_JMP | BPF_CALL, .imm = helper});
}

/* size: BPF_B, BPF_H, BPF_W or BPF_DW. */
static void put_load(struct writer *w, uint8_t size, uint8_t to, uint8_t from, size_t offset)
{
	put(w, (struct bpf_insn){.code = BPF_LDX | BPF_MEM | size,
				 .dst_reg = REG(to),
				 .src_reg = REG(from),
				 .off = (int16_t)offset});
}

static void put_store(struct writer *w, uint8_t size, uint8_t to, int16_t offset, uint8_t from)
{
	put(w, (struct bpf_insn){.code = BPF_STX | BPF_MEM | size,
				 .dst_reg = REG(to),
				 .src_reg = REG(from),
				 .off = offset});
}

static void put_map(struct writer *w, uint8_t to, int map)
{
	put(w, (struct bpf_insn){.code = BPF_LD | BPF_DW, /* BPF_IMM */
				 .dst_reg = REG(to),
				 .src_reg = BPF_PSEUDO_MAP_FD,
				 .imm = map});
	put(w, (struct bpf_insn){.code = 0}); /* the upper half */
}

/* As jumps of classic BPF: of 32 bits, unsigned. */
static void put_jump(struct writer *w, uint8_t kind, uint8_t reg, uint32_t value, uint32_t to)
{
	put(w, (struct bpf_insn){.code = BPF_JMP32 | kind | BPF_K,
				 .dst_reg = REG(reg),
				 .off = (int16_t)(to - w->count - 1),
				 .imm = (int32_t)value});
}

static void put_go(struct writer *w, uint32_t to)
{
	put(w, (struct bpf_insn){.code = BPF_JMP | BPF_JA, .off = (int16_t)(to - w->count - 1)});
}

/* ---- the frame of it ---- */

/* Register 0: the value of an array's element index, or 0. */
static void put_lookup(struct writer *w, int map, uint8_t index)
{
	put_store(w, BPF_DW, BPF_REG_10, INDEX, index);
	put_map(w, BPF_REG_1, map);
	put_move(w, BPF_REG_2, BPF_REG_10);
	put_add(w, BPF_REG_2, INDEX);
	put_call(w, BPF_FUNC_map_lookup_elem);
}

/* The record is there, and its length is one: both are for the verifier, who wants to see a look,
 * and a way to put_drop.  That of another port, if the table changed on the way here, is not
 * judged. */
static void put_begin(struct writer *w, const struct translate_maps *maps, uint32_t key)
{
	put_move(w, FRAME, BPF_REG_1);
	put_set(w, VERDICT, XDP_PASS);
	put_set(w, BPF_REG_3, 0);
	put_lookup(w, maps->record, BPF_REG_3);
	put(w, (struct bpf_insn){.code = BPF_JMP | BPF_JEQ | BPF_K,
				 .dst_reg = BPF_REG_0,
				 .off = (int16_t)(w->end - w->count - 1)});
	put_move(w, RECORD, BPF_REG_0);
	put_set(w, ACCUMULATOR, 0);
	put_load(w, BPF_W, BPF_REG_1, RECORD, offsetof(struct filter_record, key));
	put_jump(w, BPF_JNE, BPF_REG_1, key, w->accept);
	put_load(w, BPF_W, BPF_REG_1, RECORD, offsetof(struct filter_record, length));
	put_jump(w, BPF_JGT, BPF_REG_1, UINT16_MAX, w->drop);
}

static void put_accept(struct writer *w, const struct translate_maps *maps)
{
	w->accept = w->count;
	put_map(w, BPF_REG_1, maps->sockets);
	put_load(w, BPF_W, BPF_REG_2, RECORD, offsetof(struct filter_record, slot));
	put_set(w, BPF_REG_3, XDP_PASS); /* of an empty slot */
	put_call(w, BPF_FUNC_redirect_map);
	put_move(w, VERDICT, BPF_REG_0);
	put_set(w, BPF_REG_3, STEER_COUNT_STEERED);
	put_jump(w, BPF_JEQ, VERDICT, XDP_REDIRECT, w->tally);
	put_set(w, BPF_REG_3, STEER_COUNT_NO_SOCKET);
	put_go(w, w->tally);
}

static void put_drop(struct writer *w)
{
	w->drop = w->count;
	put_set(w, VERDICT, XDP_DROP);
	put_set(w, BPF_REG_3, STEER_COUNT_FILTERED);
}

static void put_end(struct writer *w, const struct translate_maps *maps)
{
	w->tally = w->count;
	put_lookup(w, maps->counts, BPF_REG_3);
	put(w, (struct bpf_insn){.code = BPF_JMP | BPF_JEQ | BPF_K,
				 .dst_reg = BPF_REG_0,
				 .off = (int16_t)(w->end - w->count - 1)});
	put_load(w, BPF_DW, BPF_REG_1, BPF_REG_0, 0);
	put_add(w, BPF_REG_1, 1);
	put_store(w, BPF_DW, BPF_REG_0, 0, BPF_REG_1);
	w->end = w->count;
	put_move(w, BPF_REG_0, VERDICT);
	put(w, (struct bpf_insn){.code = BPF_JMP | BPF_EXIT});
}

/* ---- the filter ---- */

static uint32_t bytes_of(uint8_t size)
{
	return size == BPF_W ? 4 : size == BPF_H ? 2 : 1;
}

/* Bytes of the frame into the scratch, if the payload has them. */
static void put_gather(struct writer *w, uint32_t at, uint32_t bytes)
{
	put_load(w, BPF_W, BPF_REG_1, RECORD, offsetof(struct filter_record, length));
	put_jump(w, BPF_JLT, BPF_REG_1, at + bytes, w->drop);
	put_move(w, BPF_REG_1, FRAME);
	put_load(w, BPF_W, BPF_REG_2, RECORD, offsetof(struct filter_record, payload));
	put_add(w, BPF_REG_2, (int32_t)at);
	put_move(w, BPF_REG_3, BPF_REG_10);
	put_add(w, BPF_REG_3, SCRATCH);
	put_set(w, BPF_REG_4, bytes);
	put_call(w, BPF_FUNC_xdp_load_bytes);
	put_jump(w, BPF_JNE, BPF_REG_0, 0, w->accept);
}

static void put_field(struct writer *w, const struct sock_filter *in)
{
	uint8_t size = (uint8_t)BPF_SIZE(in->code);

	if (in->k >= CBPF_DATA) {
		put_gather(w, in->k - CBPF_DATA, bytes_of(size));
		put_load(w, size, ACCUMULATOR, BPF_REG_10, (size_t)SCRATCH);
	} else {
		put_load(w, size, ACCUMULATOR, RECORD, in->k);
	}
	if (size != BPF_B)
		put(w, (struct bpf_insn){.code = BPF_ALU | BPF_END | BPF_TO_BE,
					 .dst_reg = ACCUMULATOR,
					 .imm = (int32_t)(8 * bytes_of(size))});
}

static void put_instruction(struct writer *w, const struct sock_filter *in, uint32_t i)
{
	switch (BPF_CLASS(in->code)) {
	case BPF_LD:
		put_field(w, in);
		break;
	case BPF_ALU:
		put(w, (struct bpf_insn){.code = BPF_ALU | BPF_AND | BPF_K,
					 .dst_reg = ACCUMULATOR,
					 .imm = (int32_t)in->k});
		break;
	case BPF_JMP:
		if (BPF_OP(in->code) == BPF_JA) {
			put_go(w, w->start[i + 1 + in->k]);
			break;
		}
		put_jump(w, (uint8_t)BPF_OP(in->code), ACCUMULATOR, in->k,
			 w->start[i + 1 + in->jt]);
		put_go(w, w->start[i + 1 + in->jf]);
		break;
	default:
		put_go(w, in->k ? w->accept : w->drop);
		break;
	}
}

/* Jumps go forward: what leads to an instruction stands in front of it. */
static void find_reached(struct writer *w, const struct sock_filter *program, uint32_t count)
{
	w->reached[0] = true;
	for (uint32_t i = 0; i < count; i++) {
		const struct sock_filter *in = &program[i];
		if (!w->reached[i] || BPF_CLASS(in->code) == BPF_RET)
			continue;
		bool jump = BPF_CLASS(in->code) == BPF_JMP;
		bool always = jump && BPF_OP(in->code) == BPF_JA;
		w->reached[i + 1 + (always ? in->k : jump ? in->jt : 0)] = true;
		if (jump && !always)
			w->reached[i + 1 + in->jf] = true;
	}
}

uint32_t translate(const struct sock_filter *program, uint32_t count, uint32_t key,
		   const struct translate_maps *maps, struct bpf_insn *out)
{
	struct writer w = {.out = out};

	find_reached(&w, program, count);
	for (uint32_t round = 0; round < 2; round++) {
		w.count = 0;
		put_begin(&w, maps, key);
		for (uint32_t i = 0; i < count; i++) {
			w.start[i] = w.count;
			if (w.reached[i])
				put_instruction(&w, &program[i], i);
		}
		put_accept(&w, maps);
		put_drop(&w);
		put_end(&w, maps);
	}
	return w.count;
}
