/* tests/support/several.h: instances of this process that share a device, a thread each: they serve
 * connections of the kernel at its other end, which has 10.9.0.1 where they have 10.9.0.2, and open
 * some to it.  What they are comes from the environment. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SEVERAL 4

struct several {
	const char *said; /* words of the log before the number of an instance's place */
	const char *key;  /* that the refusal of one more names */
	bool calling;     /* they open connections, too */
	uint32_t least;   /* of them have connections in the end */
};

void several_serve_kernel(const struct several *several);

/* The same of catnip over a device of DPDK, which reaches the interface vQ: its other end is the
 * kernel's.  False: privilege or plug-in is missing, the test is skipped. */
bool several_over_dpdk(const char *device, uint32_t least);
