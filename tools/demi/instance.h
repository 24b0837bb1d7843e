/* SPDX-License-Identifier: MIT
 * tools/demi/instance.h - a thread's instance of the library, made as the command's options ask.
 */
#pragma once

#include <stddef.h>

/* demi_init for a library OS; device (NAME[,key=value...], where a value may
 * have commas) and idle may be NULL. 0; -ENOTSUP if
 * this build or machine does not have it, else -errno, with the library's own reason in message. */
int instance_open(const char *libos, const char *device, const char *idle, char *message,
		  size_t room);
void instance_close(void);
