/* SPDX-License-Identifier: MIT
 * tools/demi/helper/kernel.h - what the kernel of this network namespace has for itself, as of now.
 */
#pragma once

#include "base/address.h"

#include <stdbool.h>

enum kernel_use {
	KERNEL_NOT,       /* it has no use for the address */
	KERNEL_ADDRESS,   /* its own, on any interface, or none that anybody may have */
	KERNEL_BROADCAST, /* it listens to broadcasts to it */
	KERNEL_GROUP,     /* it is in this group, on the interface */
	KERNEL_UNKNOWN,   /* it cannot be asked */
};

enum kernel_use kernel_use_of(const char *interface, const struct ip_address *address);

/* A descriptor that is readable when the kernel got or lost an address; -1: complained of. */
int kernel_watch(void);
/* Takes the news. */
void kernel_take_news(int fd);
