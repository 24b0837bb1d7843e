/* SPDX-License-Identifier: MIT
 * tools/demi/rdma.h - the RDMA devices of this machine, as the kernel lists them.
 */
#pragma once

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#define RDMA_DEVICES_MAX 8

/* What is not known is empty. */
struct rdma_device {
	char name[64];
	bool active; /* one of its ports is */
	char link[16];
	char interface[IF_NAMESIZE];    /* the network interface that has its addresses */
	char address[INET6_ADDRSTRLEN]; /* the first of them: IPv4, if there is one */
};

/* How many there are; at most RDMA_DEVICES_MAX are listed. */
size_t rdma_devices(struct rdma_device list[RDMA_DEVICES_MAX]);

/* The address that a program here can listen at: of the first device that has one.  False: none. */
bool rdma_address(char address[INET6_ADDRSTRLEN]);
