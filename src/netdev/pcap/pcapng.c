/* SPDX-License-Identifier: MIT
 * netdev/pcap/pcapng.c - see pcapng.h.
 */
#include "netdev/pcap/pcapng.h"

#include "base/bits.h"

#include <stddef.h>
#include <string.h>

/* Block types and options, by their names in the draft. */
#define BLOCK_SECTION    0x0a0d0d0aU
#define BLOCK_INTERFACE  1
#define BLOCK_STATISTICS 5
#define BLOCK_PACKET     6
#define BYTE_ORDER_MAGIC 0x1a2b3c4dU
#define LINKTYPE_ETHER   1
#define OPT_COMMENT      1
#define SHB_USERAPPL     4
#define IF_NAME          2
#define IF_MACADDR       6
#define IF_TSRESOL       9
#define EPB_FLAGS        2
#define ISB_ENDTIME      3
#define ISB_IFRECV       4
#define ISB_IFDROP       5
#define INBOUND          1
#define OUTBOUND         2
#define TAIL_BYTES       8 /* end of options, and the block's length again */
#define TEXT_MAX         ((size_t)PCAPNG_COMMENT_MAX - 8)

static uint8_t *put(uint8_t *at, const void *bytes, size_t n)
{
	memcpy(at, bytes, n);
	return at + n;
}

static uint8_t *put16(uint8_t *at, uint16_t value)
{
	return put(at, &value, sizeof(value));
}

static uint8_t *put32(uint8_t *at, uint32_t value)
{
	return put(at, &value, sizeof(value));
}

static uint8_t *put64(uint8_t *at, uint64_t value)
{
	return put(at, &value, sizeof(value));
}

/* A time is two words, the high one first whatever the byte order. */
static uint8_t *put_time(uint8_t *at, uint64_t ns)
{
	at = put32(at, (uint32_t)(ns >> 32));
	return put32(at, (uint32_t)ns);
}

static uint8_t *put_padded(uint8_t *at, const void *bytes, size_t n)
{
	static const uint8_t zeros[4];

	at = put(at, bytes, n);
	return put(at, zeros, round_up(n, 4) - n);
}

static uint8_t *put_option(uint8_t *at, uint16_t code, const void *value, size_t n)
{
	at = put16(at, code);
	at = put16(at, (uint16_t)n);
	return put_padded(at, value, n);
}

/* Ends the options and the block that began at block. */
static uint8_t *put_tail(uint8_t *block, uint8_t *at)
{
	uint32_t bytes = (uint32_t)(at - block) + TAIL_BYTES;

	at = put32(at, 0);
	at = put32(at, bytes);
	put32(block + 4, bytes);
	return at;
}

uint32_t pcapng_begin(uint8_t *at, const char *name, const uint8_t mac[6])
{
	static const char program[] = "demitasse " DEMI_VERSION_TEXT;
	static const uint8_t resolution = 9; /* 10^-9 s */
	uint8_t *section = at;

	at = put32(at, BLOCK_SECTION) + 4;
	at = put32(at, BYTE_ORDER_MAGIC);
	at = put16(at, 1);
	at = put16(at, 0);
	at = put64(at, UINT64_MAX); /* the section's length is not told */
	at = put_option(at, SHB_USERAPPL, program, sizeof(program) - 1);
	at = put_tail(section, at);

	uint8_t *interface = at;
	at = put32(at, BLOCK_INTERFACE) + 4;
	at = put16(at, LINKTYPE_ETHER);
	at = put16(at, 0);
	at = put32(at, 0); /* frames are whole */
	at = put_option(at, IF_NAME, name, strnlen(name, TEXT_MAX));
	at = put_option(at, IF_MACADDR, mac, 6);
	at = put_option(at, IF_TSRESOL, &resolution, 1);
	at = put_tail(interface, at);
	return (uint32_t)(at - section);
}

uint32_t pcapng_packet(uint8_t *at, uint64_t time_ns, bool outbound, uint32_t length)
{
	static const uint8_t zeros[4];
	uint32_t flags = outbound ? OUTBOUND : INBOUND;
	uint8_t *block = at;

	at = put32(at, BLOCK_PACKET) + 4;
	at = put32(at, 0); /* interface */
	at = put_time(at, time_ns);
	at = put32(at, length);
	at = put32(at, length);
	at = put(at + length, zeros, round_up(length, 4) - length);
	at = put_option(at, EPB_FLAGS, &flags, sizeof(flags));
	at = put_tail(block, at);
	return (uint32_t)(at - block);
}

uint32_t pcapng_comment_bytes(const char *text)
{
	return 4 + (uint32_t)round_up(strnlen(text, TEXT_MAX), 4);
}

uint32_t pcapng_comment(uint8_t *at, uint32_t bytes, const char *text)
{
	uint8_t *end =
		put_option(at + bytes - TAIL_BYTES, OPT_COMMENT, text, strnlen(text, TEXT_MAX));

	return (uint32_t)(put_tail(at, end) - at) - bytes;
}

uint32_t pcapng_end(uint8_t *at, uint64_t time_ns, uint64_t frames, uint64_t lost)
{
	uint8_t *block = at;
	uint8_t end_time[8];

	at = put32(at, BLOCK_STATISTICS) + 4;
	at = put32(at, 0); /* interface */
	at = put_time(at, time_ns);
	(void)put_time(end_time, time_ns);
	at = put_option(at, ISB_ENDTIME, end_time, sizeof(end_time));
	at = put_option(at, ISB_IFRECV, &frames, sizeof(frames));
	at = put_option(at, ISB_IFDROP, &lost, sizeof(lost));
	at = put_tail(block, at);
	return (uint32_t)(at - block);
}
