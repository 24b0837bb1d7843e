/* SPDX-License-Identifier: MIT
 * netdev/afxdp/attach.h - loads the XDP program and attaches it to an interface: alone, or beside
 * others through libxdp's dispatcher.
 *
 * A struct attach is the caller's memory.  Its object has the program's maps until attach_close.
 *
 * Alone, the program hangs on a link: a descriptor, which the kernel closes with the process.  In a
 * dispatcher files of a bpffs hold it, and a killed process leaves it behind: harmless, for without
 * sockets it passes everything, and taken away by whoever attaches next.
 */
#pragma once

#include "netdev/afxdp/steer.h"

#define ATTACH_PROGRAM "demitasse" /* its name in the kernel */

struct bpf_object;
struct xdp_program;

struct attach {
	struct bpf_object *object;
	int index;
	bool native;
	int link; /* alone; else -1 */
	/* In a dispatcher. */
	struct xdp_program *program;
	int owner; /* socket by which others see that we live; -1 */
};

/* 0 or -errno, told. */
int attach_open(const struct log *log, const struct steer_options *options, struct attach *attach);
void attach_close(struct attach *attach);

/* The program's object, not loaded; NULL: errno says why. */
struct bpf_object *attach_object(void);

/* ---- dispatch.c: through libxdp's dispatcher ---- */

enum dispatch_mode { DISPATCH_NONE, DISPATCH_NATIVE, DISPATCH_GENERIC };

/* Where a bpffs has to be mounted; *is_there: one is. */
const char *dispatch_place(bool *is_there);
/* Mode of the dispatcher of an interface. */
enum dispatch_mode dispatch_mode_of(int index);
/* Takes away what killed processes left in it.  Returns how many programs. */
uint32_t dispatch_clean(int index);
/* Sets object, program, owner.  0, or -errno and nothing is set. */
int dispatch_attach(struct attach *attach, bool native);
void dispatch_detach(struct attach *attach);
