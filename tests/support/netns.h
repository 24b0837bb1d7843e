/* tests/support/netns.h: a network namespace of the test's own, and commands run in it. */
#pragma once

#include <stdbool.h>

/* Moves the process into a new network namespace with its loopback up, IPv6 off on what is made in
 * it; false: the privilege is missing. Every interface in it goes with the process. */
bool netns_enter(void);

/* Runs a command of the shell, which has to succeed. */
__attribute__((format(printf, 1, 2))) void netns_run(const char *format, ...);

/* The same; returns whether it succeeded. */
__attribute__((format(printf, 1, 2))) bool netns_try(const char *format, ...);

/* Two Ethernet interfaces joined back to back, both up. */
void netns_veth(const char *a, const char *b);
