/* SPDX-License-Identifier: MIT
 * tools/demi/raw.c - see raw.h.
 */
#include "raw.h"

#include "tool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MODULE  "demi-bench-raw.so"
#define WAIT_NS (5 * NS_PER_S)

static const struct raw_ops *load(char *message, size_t room)
{
	const struct raw_ops *ops = libexec_symbol(MODULE, RAW_SYMBOL);

	if (!ops)
		(void)snprintf(message, room, "raw needs %s, built where DPDK is", MODULE);
	return ops;
}

int raw_open(const struct raw_ops **ops_out, const char *text, char *message, size_t room)
{
	static const char key[] = "dpdk_device=";
	const char *device = strstr(text, key);

	*ops_out = load(message, room);
	if (!*ops_out)
		return -ENOTSUP;
	return (*ops_out)->open(device ? device + sizeof(key) - 1 : text, message, room);
}

int raw_await_peer(const struct raw_ops *ops)
{
	static const struct timespec pause = {.tv_nsec = NS_PER_MS};
	uint64_t end_ns = clock_now_ns() + WAIT_NS;

	while (!ops->is_up()) {
		if (clock_now_ns() > end_ns)
			return -ETIMEDOUT;
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

void raw_send_all(const struct raw_ops *ops, const struct raw_frame *frames, uint32_t count)
{
	for (uint32_t sent = 0; sent < count;)
		sent += ops->send(frames + sent, count - sent);
}
