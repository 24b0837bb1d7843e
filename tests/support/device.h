/* tests/support/device.h: a network device without a stack above it, on a bench: frames to and from
 * a packet socket at the other end, in a network namespace of the test's own.
 *
 * Frames are an Ethernet header of bench.type and a stream of bytes that a seed stands for; those
 * of type IPv4 have a header to 10.9.0.2 before it.  Everything asserts. */
#pragma once

#include "support/test.h"

#include "netdev/netdev.h"

#include <stdio.h>

#define DEVICE_TYPE     0x88b5 /* IEEE: for local experiments */
#define DEVICE_ETHERNET 14
#define DEVICE_IP       20
#define DEVICE_FRAMES   8192 /* frames_max */

/* Stands for the test itself: one at a time. */
extern struct bench {
	struct sched sched;
	struct netdev *dev;
	struct config config;
	int peer; /* packet socket at the other end */
	uint16_t type;
	char log[4096];
} bench;

extern const uint8_t device_other[6]; /* the peer's station */

#define device_set(key, text) (void)snprintf(bench.config.key, sizeof(bench.config.key), "%s", text)

/* A configuration for one of the choices of demitasse.device. */
void device_prepare(int64_t device, const char *interface);
/* Opens what was prepared.  0 or -errno. */
int device_try_open(void);
/* Opens and starts it, and the socket at the other end. */
void device_start(const char *peer);
/* Closes both; the heap holds nothing any more. */
void device_finish(void);
int device_open_peer(const char *interface);

void device_assert_told(const char *words);
uint64_t device_drops(enum drop reason);

/* Bytes of the headers of a frame. */
static inline uint32_t device_header(void)
{
	return DEVICE_ETHERNET + (bench.type == DEVICE_TYPE ? 0 : DEVICE_IP);
}

/* Writes so many bytes. */
void device_write_header(uint8_t *at, const uint8_t to[6], const uint8_t from[6]);
/* Sends bytes from the peer to a station. */
void device_peer_send(const uint8_t to[6], uint32_t bytes, uint32_t seed);
/* The next frame of ours that the peer gets. */
void device_peer_expect(uint32_t bytes, uint32_t seed);

/* Waits until a frame can be received.  False: none comes in this time. */
bool device_wait(int ms);
/* Is it one that the test sent, and not the kernel? */
bool device_is_ours(const struct frame *frame);
/* The next frame of ours; NULL: none comes. */
struct frame *device_receive(void);
void device_expect(const uint8_t to[6], uint32_t bytes, uint32_t seed);

/* A frame to be sent: headers, then the stream of seed, in so many further segments. */
struct frame *device_make(uint32_t bytes, uint32_t seed, uint32_t segments);
/* Sends; the device must take all. */
void device_transmit(struct frame *frame);

/* Of a device that was just started: frames of all sizes pass both ways, up to that MTU, and of all
 * numbers of segments out, and are counted. */
void device_exchange(uint32_t mtu);

/* Can what was prepared not be opened for lack of its plug-in?  Takes the link away again. */
bool device_lacks_plugin(const char *link);
