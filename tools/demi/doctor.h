/* SPDX-License-Identifier: MIT
 * tools/demi/doctor.h - what the parts of `demi doctor` share: a finding, and the sections of
 * findings.
 *
 * A section adds its findings to a list, which owns them.  Whatever is examined is left as it was.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum level { LEVEL_OK, LEVEL_WARN, LEVEL_MISSING };

struct finding {
	enum level level;
	char name[32];
	char detail[512];
	char mend[384]; /* empty: nothing to mend, or no command can */
};

#define FINDINGS_MAX 32

struct findings {
	size_t count;
	struct finding list[FINDINGS_MAX];
};

/* A further finding, OK and without words. */
struct finding *finding_add(struct findings *findings, const char *name);

__attribute__((format(printf, 3, 4))) void found(struct finding *finding, enum level level,
						 const char *format, ...);
__attribute__((format(printf, 2, 3))) void mend_by(struct finding *finding, const char *format,
						   ...);
/* The command that gives this program capabilities. */
void mend_by_capability(struct finding *finding, const char *capabilities);

/* Whether a capability is in force. */
bool has_capability(unsigned number);

/* The number that a file of the kernel's holds; 0 if there is none. */
unsigned long read_count(const char *path);

/* The value of a key's environment variable, or otherwise. */
const char *environment(const char *name, const char *otherwise);

/* doctor_probe.c.  Descriptors are -1, with errno, if there is none. */

/* An XDP program that passes everything; parts: frames of several buffers too, as the plug-in's. */
int probe_program(bool parts);
/* Its link to an interface, which ends when it is closed. */
int probe_attach(int program, unsigned index, bool native);

/* An XDP socket with memory and rings, bound to nothing. */
struct probe_socket {
	int fd;
	void *memory;
	size_t bytes;
};

int probe_socket_open(struct probe_socket *xsk, size_t bytes);
void probe_socket_close(struct probe_socket *xsk);
/* flags: XDP_ZEROCOPY ...  0 or a positive errno. */
int probe_socket_bind(const struct probe_socket *xsk, unsigned index, unsigned queue,
		      unsigned flags);

/* doctor_link.c: what the kernel says of an interface.  0 or a positive errno. */
struct link_facts {
	unsigned index;
	unsigned mtu;
	bool ethernet;
	bool up;
	char driver[32];
	unsigned queues;     /* that receive; 0: the driver does not say */
	unsigned program;    /* number of the XDP program that is attached, 0: none */
	bool native;         /* where it is */
	bool knows_features; /* the kernel tells what the driver has (Linux 6.3) */
	unsigned features;   /* LINK_... */
	unsigned peer;       /* of a veth pair, in this network namespace: its index */
};

#define LINK_NATIVE        1U /* as the kernel's netdev family numbers them: NETDEV_XDP_ACT_... */
#define LINK_REDIRECT      2U
#define LINK_ZERO_COPY     8U
#define LINK_SEVERAL_PARTS 32U

int link_read(const char *name, struct link_facts *facts);
/* A feature as `ethtool -k` shows it, by one of the old requests (ETHTOOL_GTXCSUM ...). */
bool link_offloads(const char *name, unsigned request);

/* doctor_xdp.c: what AF_XDP needs of machine and user. */
void examine_xdp(struct findings *findings);

/* doctor_dpdk.c: what catnip could drive. */
void examine_dpdk(struct findings *findings);

/* doctor_rdma.c: what catmint needs, and the devices that it could drive. */
void examine_rdma(struct findings *findings);

/* doctor_interface.c: what it needs of an interface.  try: the user named it, so what can be known
 * only by a trial is tried on it. */
void examine_interface(struct findings *findings, const char *name, bool try);
