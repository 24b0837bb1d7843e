/* SPDX-License-Identifier: MIT
 * netdev/pcap/pcapng.h - blocks of a pcapng file (draft-ietf-opsawg-pcapng), in the byte order of
 * the machine, written into room that the caller has.  One section, one Ethernet interface,
 * nanoseconds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PCAPNG_BEGIN_MAX   512 /* bytes of pcapng_begin */
#define PCAPNG_PACKET_MORE 56  /* bytes of a packet block beside the frame, at most */
#define PCAPNG_COMMENT_MAX 128 /* bytes that a comment adds, at most: longer ones are cut */
#define PCAPNG_FRAME_AT    28  /* where in a packet block the frame stands */
#define PCAPNG_END_BYTES   80

/* The section header and the interface description.  name: of the interface.  Returns bytes. */
uint32_t pcapng_begin(uint8_t *at, const char *name, const uint8_t mac[6]);

/* Completes a packet block around the frame of length bytes that stands at at + PCAPNG_FRAME_AT.
 * Returns the block's bytes. */
uint32_t pcapng_packet(uint8_t *at, uint64_t time_ns, bool outbound, uint32_t length);

/* Adds a comment to a packet block of bytes without one.  Returns bytes added, for which there must
 * be room behind it; bytes that pcapng_comment_bytes told. */
uint32_t pcapng_comment(uint8_t *at, uint32_t bytes, const char *text);
uint32_t pcapng_comment_bytes(const char *text);

/* Interface statistics, at the end: frames received and sent, and those that are not in the file.
 */
uint32_t pcapng_end(uint8_t *at, uint64_t time_ns, uint64_t frames, uint64_t lost);
