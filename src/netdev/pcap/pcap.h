/* SPDX-License-Identifier: MIT
 * netdev/pcap/pcap.h - middleware `pcap`: a device that writes every frame that passes through it
 * into a pcapng file, with direction, and the reason why the stack dropped it as the packet's
 * comment.  A leaf: it makes system calls.
 *
 * It can be put around a device that is in use and taken off again, between two poll turns:
 *
 *	err = pcap_wrap(net->dev, &options, &net->dev);
 *	...
 *	net->dev = pcap_unwrap(net->dev, &counts);
 *
 * Frames are written to the descriptor in chunks, when the instance goes to sleep and at least ten
 * times a second while it runs.  What a pipe or socket does not take at once waits in a buffer;
 *frames that do not fit in there, or come after an error of the file, are missing from the capture
 *and counted: the datapath never waits for a reader.  (A file on a disk is waited for as write()
 *does.)
 *
 * A partial checksum (FRAME_CHECKSUM) is completed in the file.
 */
#pragma once

#include "base/log.h"
#include "netdev/netdev.h"

#include <stdbool.h>
#include <stdint.h>

struct pcap_options {
	int fd;           /* belongs to the capture from here, and is closed by it */
	int64_t epoch_ns; /* added to sched->now_ns: time stamps since 1970 */
	const char *name; /* of the interface in the file; copied */
};

/* Wraps a device, started or not.  The head of the file is written.  0, -ENOMEM or an error of the
 * file; then inner and options->fd stay the caller's. */
int pcap_wrap(struct netdev *inner, const struct pcap_options *options, struct netdev **out);

/* Wraps, with time stamps of the system's clock; fd as in pcap_options.  0 or -errno. */
int pcap_wrap_fd(struct netdev *inner, int fd, struct netdev **out);

/* Makes or empties a file and wraps, with time stamps of the system's clock.  0 or -errno, told to
 * the log. */
int pcap_wrap_file(struct netdev *inner, const char *path, const struct log *log,
		   struct netdev **out);

/* Is this device a capture? */
bool pcap_is(const struct netdev *dev);

struct pcap_counts {
	uint64_t frames; /* that passed through */
	uint64_t lost;   /* those of them that are not in the file */
	int err;         /* -errno of the file; 0 */
};

/* Ends a capture: writes what is left, as far as the descriptor takes it, and frees the wrapper.
 * Returns the inner device.  counts: NULL, or what became of it. */
struct netdev *pcap_unwrap(struct netdev *dev, struct pcap_counts *counts);
