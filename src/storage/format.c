/* SPDX-License-Identifier: MIT */
#include "storage/format.h"

#include "storage/crc32c.h"

#include <stddef.h>

static uint32_t super_crc(const struct super *super)
{
	static const uint32_t zero;
	size_t behind = offsetof(struct super, crc) + sizeof(super->crc);
	uint32_t crc = crc32c_add(0, super, offsetof(struct super, crc));

	crc = crc32c_add(crc, &zero, sizeof(zero));
	return crc32c_add(crc, (const char *)super + behind, sizeof(*super) - behind);
}

void super_seal(struct super *super)
{
	super->magic = SUPER_MAGIC;
	super->version = SUPER_VERSION;
	super->crc = super_crc(super);
}

bool super_check(const struct super *super)
{
	return super->magic == SUPER_MAGIC && super->crc == super_crc(super);
}

static uint32_t segment_crc(const struct segment_header *header, uint64_t identity, uint64_t at)
{
	const uint64_t place[2] = {identity, at};
	size_t behind = offsetof(struct segment_header, log);
	uint32_t crc = crc32c_add(0, place, sizeof(place));

	return crc32c_add(crc, (const char *)header + behind, sizeof(*header) - behind);
}

void segment_seal(struct segment_header *header, uint64_t identity, uint64_t at)
{
	header->magic = SEGMENT_MAGIC;
	header->crc = segment_crc(header, identity, at);
}

/* Nothing was acknowledged before it was there. */
static bool sequence_check(uint64_t sequence, uint64_t acknowledged)
{
	return sequence > 0 && sequence <= SEQUENCE_MAX && acknowledged <= sequence;
}

bool segment_check(const struct segment_header *header, uint64_t identity, uint64_t at)
{
	return header->magic == SEGMENT_MAGIC && header->crc == segment_crc(header, identity, at) &&
	       sequence_check(header->first_sequence, header->acknowledged);
}

static uint32_t record_crc(const struct record_header *header, const struct record_place *place)
{
	size_t behind = offsetof(struct record_header, sequence);
	uint32_t crc = crc32c_add(0, place, sizeof(*place));

	return crc32c_add(crc, (const char *)header + behind, sizeof(*header) - behind);
}

void record_seal(struct record_header *header, const struct record_place *place)
{
	header->magic = RECORD_MAGIC;
	header->crc = record_crc(header, place);
}

bool record_check(const struct record_header *header, const struct record_place *place)
{
	return header->magic == RECORD_MAGIC && header->crc == record_crc(header, place) &&
	       sequence_check(header->sequence, header->acknowledged);
}
