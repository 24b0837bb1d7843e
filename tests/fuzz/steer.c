/* SPDX-License-Identifier: MIT
 * tests/fuzz/steer.c - any frame into the rules of the XDP program: nothing behind its end is read,
 * the slot is one of a target's, and a tag changes nothing; nor does what makes a record for a
 * filter read more.
 *
 * The first byte is the queue, the rest the frame.
 */
#include "support/bytes.h"
#include "support/steer_model.h"

#include "netdev/afxdp/record.h"

#include <netinet/in.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LONGEST 2048U

static void require(bool condition)
{
	if (!condition)
		abort();
}

/* The addresses and ports of net/steer_frames.c. */
static void fill(void)
{
	static const uint8_t v4[][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}, {10, 0, 0, 3}, {0}};
	static const uint64_t entries[] = {STEER_SHARED, 10 | 1 << 16, 20 | 4 << 16 | STEER_BY_HASH,
					   41 | 1 << 16};

	for (uint32_t i = 0; i < 4; i++) {
		struct ip_address address = {.bytes = {0xfd}};
		address.bytes[15] = (uint8_t)(i + 1);
		steer_model_address(&address, entries[i]);
		memcpy(&address.words[3], v4[i], 4);
		address = ip_from_v4(address.words[3]);
		steer_model_address(&address, entries[i]);
	}
	steer_model_port(IPPROTO_TCP, 80, steer_entry(41, 1));
	steer_model_port(IPPROTO_UDP, 53, steer_entry(42, 2));
}

static bool is_slot(int32_t slot)
{
	return slot == MODEL_KERNEL || slot == -1 || slot == 10 || (slot >= 20 && slot < 24) ||
	       (slot >= 41 && slot < 44);
}

static bool has_tag(const uint8_t *frame)
{
	return (frame[12] == 0x81 && frame[13] == 0) || (frame[12] == 0x88 && frame[13] == 0xa8);
}

static void require_same_tagged(const uint8_t *frame, uint32_t length, uint32_t queue, int32_t slot)
{
	uint8_t *tagged = malloc(length + 4);

	require(tagged);
	memcpy(tagged, frame, 12);
	memcpy(tagged + 12, (const uint8_t[]){0x81, 0, 0, 7}, 4);
	memcpy(tagged + 16, frame + 12, length - 12);
	require(steer_model_slot(tagged, length + 4, queue) == slot);
	free(tagged);
}

/* What a filter is to judge is a datagram of which the headers are there, to one station. */
static void check_record(const uint8_t *frame, uint32_t length)
{
	const struct steer_bytes bytes = {.at = frame, .end = frame + length};
	struct filter_record record;

	if (!filter_parse(&record, &bytes))
		return;
	require((frame[0] & 1) == 0);
	require(record.head.version == 4 || record.head.version == 6);
	require(record.head.len == __builtin_bswap32(record.length));
	require(record.payload <= length && record.length <= UINT16_MAX - 8);
	require(memcmp(frame + record.payload - 8, &record.head.port, 4) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > LONGEST)
		return 0;
	if (steer_model.num_addresses == 0)
		fill();
	uint32_t length = (uint32_t)size - 1;
	uint8_t *frame = bytes_copy(data + 1, length);
	int32_t slot = steer_model_slot(frame, length, data[0]);

	require(is_slot(slot));
	check_record(frame, length);
	if (length >= 14 && !has_tag(frame))
		require_same_tagged(frame, length, data[0], slot);
	free(frame);
	return 0;
}
