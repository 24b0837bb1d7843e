/* SPDX-License-Identifier: MIT
 * tools/demi/probe.h - which library OSes can run here: found out by making an instance in a child
 * process.
 */
#pragma once

#include <stddef.h>

/* 0 if it runs; else -errno and the library's reason in message. */
int libos_probe(const char *name, char *message, size_t room);
