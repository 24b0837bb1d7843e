/* SPDX-License-Identifier: MIT
 * net/wire/tcp.c - TCP options (RFC 9293 3.1 and 3.2, RFC 7323 2 and 3, RFC 2018 2 and 3).
 */
#include "net/wire/tcp.h"

enum tcp_option {
	TCP_OPTION_END = 0,
	TCP_OPTION_NOP = 1,
	TCP_OPTION_MSS = 2,
	TCP_OPTION_WSCALE = 3,
	TCP_OPTION_SACK_PERMITTED = 4,
	TCP_OPTION_SACK = 5,
	TCP_OPTION_TIMESTAMP = 8,
};

/* With kind and length. */
enum tcp_option_bytes {
	TCP_MSS_BYTES = 4,
	TCP_WSCALE_BYTES = 3,
	TCP_SACK_PERMITTED_BYTES = 2,
	TCP_TIMESTAMP_ALONE_BYTES = 10,
	TCP_SACK_BYTES = 2, /* and the blocks */
	TCP_BLOCK_BYTES = 8,
};

static void parse_sack(const uint8_t *at, uint32_t bytes, struct tcp_options *options)
{
	options->num_sack = 0;
	for (uint32_t i = 0; i < bytes / TCP_BLOCK_BYTES && i < TCP_SACK_BLOCKS_MAX; i++) {
		struct tcp_block block = {
			.start = load32(at + (size_t)i * TCP_BLOCK_BYTES),
			.end = load32(at + (size_t)i * TCP_BLOCK_BYTES + 4),
		};

		/* RFC 2018 3: a block ends behind its start; one that does not says nothing */
		if ((int32_t)(block.end - block.start) > 0)
			options->sack[options->num_sack++] = block;
	}
	options->has &= (uint8_t)~TCP_HAS_SACK;
	if (options->num_sack)
		options->has |= TCP_HAS_SACK;
}

/* One option, its value at `at`, bytes with kind and length; what is not ours is left out. */
static void parse_option(uint8_t kind, const uint8_t *at, uint32_t bytes, bool syn,
			 struct tcp_options *options)
{
	if (kind == TCP_OPTION_TIMESTAMP && bytes == TCP_TIMESTAMP_ALONE_BYTES) {
		options->has |= TCP_HAS_TIMESTAMP;
		options->ts_value = load32(at);
		options->ts_echo = load32(at + 4);
	} else if (kind == TCP_OPTION_SACK && !syn &&
		   bytes % TCP_BLOCK_BYTES == TCP_SACK_BYTES % TCP_BLOCK_BYTES) {
		parse_sack(at, bytes - TCP_SACK_BYTES, options);
	} else if (kind == TCP_OPTION_MSS && syn && bytes == TCP_MSS_BYTES) {
		options->has |= TCP_HAS_MSS;
		options->mss = load16(at);
	} else if (kind == TCP_OPTION_WSCALE && syn && bytes == TCP_WSCALE_BYTES) {
		/* RFC 7323 2.3 MUST: a shift above 14 is taken for 14 */
		options->has |= TCP_HAS_WSCALE;
		options->wscale = *at < TCP_WINDOW_SCALE_MAX ? *at : TCP_WINDOW_SCALE_MAX;
	} else if (kind == TCP_OPTION_SACK_PERMITTED && syn && bytes == TCP_SACK_PERMITTED_BYTES) {
		options->has |= TCP_HAS_SACK_PERMITTED;
	}
}

/* RFC 9293 MUST-5: in any segment; MUST-6: those unknown are ignored; MUST-7: an illegal length
 * is survived: it ends the options, those in front of it count; MUST-64: so does an end of options
 */
void tcp_parse_options(const uint8_t *at, uint32_t length, struct tcp_header *header)
{
	struct cursor c = cursor_over(at, length);
	bool syn = header->flags & TCP_SYN;

	while (cursor_left(&c)) {
		uint8_t kind = cursor_u8(&c);

		if (kind == TCP_OPTION_END)
			return;
		if (kind == TCP_OPTION_NOP)
			continue;
		uint8_t bytes = cursor_u8(&c);
		if (bytes < 2)
			return;
		const uint8_t *value = cursor_take(&c, bytes - 2U);
		if (!value)
			return;
		parse_option(kind, value, bytes, syn, &header->options);
	}
}

/* Blocks that fit behind what else is there. */
static uint32_t blocks_that_fit(const struct tcp_options *options, uint32_t used)
{
	uint32_t room = (TCP_OPTIONS_MAX - used - 2 - TCP_SACK_BYTES) / TCP_BLOCK_BYTES;

	return options->num_sack < room ? options->num_sack : room;
}

/* Writes if at is not NULL. */
static uint32_t put(uint8_t *at, uint32_t used, uint32_t word)
{
	if (at)
		store32(at + used, word);
	return used + 4;
}

static uint32_t put_timestamp(uint8_t *at, uint32_t used, const struct tcp_options *options)
{
	uint32_t front = options->has & TCP_HAS_SACK_PERMITTED
				 ? (uint32_t)TCP_OPTION_SACK_PERMITTED << 24 |
					   (uint32_t)TCP_SACK_PERMITTED_BYTES << 16
				 : 0x01010000U;

	used = put(at, used,
		   front | (uint32_t)TCP_OPTION_TIMESTAMP << 8 | TCP_TIMESTAMP_ALONE_BYTES);
	used = put(at, used, options->ts_value);
	return put(at, used, options->ts_echo);
}

static uint32_t put_sack(uint8_t *at, uint32_t used, const struct tcp_options *options)
{
	uint32_t blocks = blocks_that_fit(options, used);

	if (!blocks)
		return used;
	used = put(at, used,
		   0x01010000U | (uint32_t)TCP_OPTION_SACK << 8 |
			   (TCP_SACK_BYTES + blocks * TCP_BLOCK_BYTES));
	for (uint32_t i = 0; i < blocks; i++) {
		used = put(at, used, options->sack[i].start);
		used = put(at, used, options->sack[i].end);
	}
	return used;
}

/* Every option in its layout, each a multiple of 4 bytes long: what is written is what is counted.
 */
static uint32_t put_options(uint8_t *at, const struct tcp_options *options)
{
	uint32_t used = 0;

	if (options->has & TCP_HAS_MSS)
		used = put(at, used,
			   (uint32_t)TCP_OPTION_MSS << 24 | (uint32_t)TCP_MSS_BYTES << 16 |
				   options->mss);
	if (options->has & TCP_HAS_TIMESTAMP)
		used = put_timestamp(at, used, options);
	else if (options->has & TCP_HAS_SACK_PERMITTED)
		used = put(at, used,
			   0x01010000U | (uint32_t)TCP_OPTION_SACK_PERMITTED << 8 |
				   TCP_SACK_PERMITTED_BYTES);
	if (options->has & TCP_HAS_WSCALE)
		used = put(at, used,
			   0x01000000U | (uint32_t)TCP_OPTION_WSCALE << 16 |
				   (uint32_t)TCP_WSCALE_BYTES << 8 | options->wscale);
	if (options->has & TCP_HAS_SACK)
		used = put_sack(at, used, options);
	return used;
}

uint32_t tcp_options_bytes(const struct tcp_options *options)
{
	return put_options(NULL, options);
}

void tcp_write_options(uint8_t *at, const struct tcp_options *options)
{
	(void)put_options(at, options);
}
