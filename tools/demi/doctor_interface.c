/* SPDX-License-Identifier: MIT
 * tools/demi/doctor_interface.c - what AF_XDP needs of a network interface, and what it can have.
 *
 * Only the native mode, zero copy and several buffers cannot be known for sure without a trial: a
 * program is attached, a socket bound, and taken away at once.  A network card may stop for a
 * moment then: so it is done only on an interface that the user named.
 */
#include "doctor.h"

#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Newer than Debian's headers: linux/if_xdp.h of Linux 6.6. */
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif

#define PROBE_BYTES  (64UL * 4096)
#define ONE_BUFFER   3498 /* the longest MTU of which a frame fits a chunk, with any driver */
#define NATIVE_NEEDS (LINK_NATIVE | LINK_REDIRECT)

struct subject {
	const char *name;
	bool try;
	struct link_facts facts;
};

static bool is_veth(const struct subject *subject)
{
	return strcmp(subject->facts.driver, "veth") == 0;
}

static unsigned queue_wanted(void)
{
	return (unsigned)strtoul(environment("DEMI_XDP_QUEUE", "0"), NULL, 10);
}

/* ---- what the kernel says ---- */

static void check_link(struct finding *finding, const struct subject *subject)
{
	const struct link_facts *facts = &subject->facts;

	if (!facts->ethernet) {
		found(finding, LEVEL_MISSING, "is not an Ethernet interface");
	} else if (!facts->up) {
		found(finding, LEVEL_MISSING, "is down");
		mend_by(finding, "ip link set %s up", subject->name);
	} else {
		found(finding, LEVEL_OK, "Ethernet, up, driver %s",
		      facts->driver[0] ? facts->driver : "unknown");
	}
}

static void check_queues(struct finding *finding, const struct subject *subject)
{
	unsigned queues = subject->facts.queues;

	if (queues <= 1) {
		found(finding, LEVEL_OK, "%s", queues ? "1" : "1, as the driver does not say");
		return;
	}
	found(finding, LEVEL_WARN,
	      "%u receive: each needs a socket (demitasse.xdp.queues), what arrives on others goes "
	      "to the kernel",
	      queues);
	mend_by(finding, "ethtool -L %s combined 1", subject->name);
}

static void check_mtu(struct finding *finding, const struct subject *subject)
{
	unsigned mtu = subject->facts.mtu;

	if (mtu <= ONE_BUFFER) {
		found(finding, LEVEL_OK, "%u", mtu);
		return;
	}
	found(finding, LEVEL_WARN,
	      "%u: frames of more than one buffer of 4096 bytes: with a driver that has them", mtu);
	mend_by(finding, "ip link set %s mtu %u", subject->name, ONE_BUFFER);
}

static void check_program(struct finding *finding, const struct subject *subject)
{
	const struct link_facts *facts = &subject->facts;

	if (!facts->program) {
		found(finding, LEVEL_OK, "none is attached");
		return;
	}
	found(finding, LEVEL_WARN,
	      "number %u is attached in %s mode: ours joins it only if it is libxdp's dispatcher "
	      "(bpftool prog show id %u)",
	      facts->program, facts->native ? "native" : "generic", facts->program);
	mend_by(finding, "ip link set dev %s %s off", subject->name,
		facts->native ? "xdpdrv" : "xdpgeneric");
}

/* ---- trials ---- */

/* 0 or a positive errno. */
static int try_native(const struct subject *subject)
{
	int program = probe_program(true);
	int link = program < 0 ? -1 : probe_attach(program, subject->facts.index, true);
	int error = link < 0 ? errno : 0;

	if (link >= 0)
		close(link);
	if (program >= 0)
		close(program);
	return error;
}

static void tell_native(struct finding *finding, const struct subject *subject, int error)
{
	switch (error) {
	case 0:
		found(finding, LEVEL_OK, "tried: a program was attached, and detached again%s",
		      is_veth(subject) ? " (on veth generic mode is faster, and chosen)" : "");
		break;
	case EPERM:
	case EACCES:
		found(finding, LEVEL_WARN, "not tried: %s", strerror(error));
		mend_by_capability(finding, "cap_net_admin,cap_bpf");
		break;
	case EBUSY:
	case EEXIST:
		found(finding, LEVEL_WARN, "not tried: another program is attached");
		break;
	default:
		found(finding, LEVEL_WARN, "tried: %s%s; generic mode serves instead, slower",
		      strerror(error),
		      error == EOPNOTSUPP ? ": the driver has none, or not as it is set up (large "
					    "receive offload, MTU)"
		      : error == ERANGE   ? ": the MTU, here or of the peer, or the peer's "
					    "segmentation is too large for it"
		      : error == ENOSPC   ? ": more queues send at the peer than receive here"
					  : "");
		if (error != EOPNOTSUPP)
			break;
		mend_by(finding, "ethtool -K %s lro off && ip link set %s mtu 1500", subject->name,
			subject->name);
	}
}

static void check_native(struct finding *finding, const struct subject *subject)
{
	const struct link_facts *facts = &subject->facts;

	if (subject->try)
		tell_native(finding, subject, try_native(subject));
	else if (!facts->knows_features)
		found(finding, LEVEL_WARN,
		      "this kernel does not say (Linux 6.3 does); demi doctor --interface %s tries",
		      subject->name);
	else if ((facts->features & NATIVE_NEEDS) == NATIVE_NEEDS)
		found(finding, LEVEL_OK, "the driver has it%s",
		      is_veth(subject) ? " (on veth generic mode is faster, and chosen)" : "");
	else
		found(finding, LEVEL_WARN,
		      "the driver does not have it; generic mode serves instead, slower");
}

/* 0 or a positive errno. */
static int try_bind(const struct subject *subject, unsigned flags)
{
	struct probe_socket xsk;

	if (probe_socket_open(&xsk, PROBE_BYTES))
		return errno;
	int error = probe_socket_bind(&xsk, subject->facts.index, queue_wanted(), flags);
	probe_socket_close(&xsk);
	return error;
}

static void tell_bind(struct finding *finding, const struct subject *subject, int error,
		      const char *otherwise)
{
	unsigned queue = queue_wanted();

	switch (error) {
	case 0:
		found(finding, LEVEL_OK, "tried: a socket was bound to queue %u, and closed",
		      queue);
		break;
	case EPERM:
		found(finding, LEVEL_WARN, "not tried: %s", strerror(error));
		mend_by_capability(finding, "cap_net_raw,cap_net_admin");
		break;
	case EBUSY:
		found(finding, LEVEL_WARN, "not tried: queue %u has a socket", queue);
		break;
	case EOPNOTSUPP:
	case EINVAL:
		found(finding, LEVEL_WARN, "tried on queue %u: %s: %s", queue, strerror(error),
		      otherwise);
		break;
	default:
		found(finding, LEVEL_MISSING, "tried on queue %u: %s", queue, strerror(error));
		if (error == ENETDOWN)
			mend_by(finding, "ip link set %s up", subject->name);
	}
}

static void check_bind(struct finding *finding, const struct subject *subject, unsigned feature,
		       unsigned flags, const char *otherwise)
{
	if (subject->try)
		tell_bind(finding, subject, try_bind(subject, flags), otherwise);
	else if (subject->facts.knows_features && (subject->facts.features & feature))
		found(finding, LEVEL_OK, "the driver has it");
	else
		found(finding, LEVEL_WARN, "%s: %s",
		      subject->facts.knows_features ? "the driver does not have it"
						    : "this kernel does not say (Linux 6.3 does)",
		      otherwise);
}

static void check_copy(struct finding *finding, const struct subject *subject)
{
	check_bind(finding, subject, 0, XDP_COPY, "no socket can be bound");
	if (!subject->try)
		found(finding, LEVEL_OK, "not tried: demi doctor --interface %s does",
		      subject->name);
	else if (finding->level == LEVEL_WARN && !finding->mend[0])
		finding->level = LEVEL_MISSING;
}

static void check_parts(struct finding *finding, const struct subject *subject)
{
	check_bind(finding, subject, LINK_SEVERAL_PARTS, XDP_COPY | XDP_USE_SG,
		   "a frame is one buffer of 4096 bytes: no jumbo frames");
}

static void check_zero_copy(struct finding *finding, const struct subject *subject)
{
	check_bind(finding, subject, LINK_ZERO_COPY, XDP_ZEROCOPY, "the kernel copies each frame");
}

/* ---- what arrives ---- */

static void check_veth_offloads(struct finding *finding, const struct subject *subject)
{
	char peer[IF_NAMESIZE] = "PEER";

	if (!if_indextoname(subject->facts.peer, peer))
		found(finding, LEVEL_WARN,
		      "the other end of the pair is not in this network namespace: run the command "
		      "there, or frames may come with unfinished checksums and longer than the "
		      "MTU, "
		      "and are dropped");
	else if (link_offloads(peer, ETHTOOL_GTXCSUM) || link_offloads(peer, ETHTOOL_GTSO))
		found(finding, LEVEL_WARN,
		      "the other end, %s, leaves checksums and segmentation to us: such frames are "
		      "dropped",
		      peer);
	else {
		found(finding, LEVEL_OK, "the other end, %s, finishes its checksums", peer);
		return;
	}
	mend_by(finding, "ethtool -K %s tx off tso off gso off gro off", peer);
}

static void check_offloads(struct finding *finding, const struct subject *subject)
{
	if (is_veth(subject)) {
		check_veth_offloads(finding, subject);
		return;
	}
	if (!link_offloads(subject->name, ETHTOOL_GGRO)) {
		found(finding, LEVEL_OK, "frames arrive as they were sent");
		return;
	}
	found(finding, LEVEL_WARN,
	      "in generic mode the kernel joins frames (GRO) before we get them: those longer than "
	      "the MTU are dropped; not so in native mode");
	mend_by(finding, "ethtool -K %s gro off lro off", subject->name);
}

/* Frames to addresses that the kernel does not have, which it gets a copy of (packet socket), or
 * gets because no socket of ours takes them: a router sends them on. */
static void check_forwarding(struct finding *finding, const struct subject *subject)
{
	char path[96];
	unsigned long forwards = 0;
	static const char *const families[] = {"ipv4", "ipv6"};

	for (size_t i = 0; i < TOOL_COUNT(families); i++) {
		snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/forwarding", families[i],
			 subject->name);
		forwards |= read_count(path) << i;
	}
	if (!forwards) {
		found(finding, LEVEL_OK, "the kernel is no router here");
		return;
	}
	found(finding, LEVEL_WARN,
	      "the kernel is a router here (%s%s%s): what is ours never reaches it over AF_XDP "
	      "while "
	      "we live, but then it answers peers with ICMP; over a packet socket (afpacket) it "
	      "always does, and sends copies on",
	      forwards & 1 ? "IPv4" : "", forwards == 3 ? ", " : "", forwards & 2 ? "IPv6" : "");
	mend_by(finding, "sysctl -w net.ipv4.conf.%s.forwarding=0 net.ipv6.conf.%s.forwarding=0",
		subject->name, subject->name);
}

/* ---- addresses ---- */

static bool is_kernels(const struct ifaddrs *one, const char *text)
{
	unsigned char ours[sizeof(struct in6_addr)];

	if (!one->ifa_addr || inet_pton(one->ifa_addr->sa_family, text, ours) != 1)
		return false;
	if (one->ifa_addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)one->ifa_addr;
		return memcmp(&in->sin_addr, ours, sizeof(in->sin_addr)) == 0;
	}
	const struct sockaddr_in6 *in6 = (const void *)one->ifa_addr;
	return memcmp(&in6->sin6_addr, ours, sizeof(in6->sin6_addr)) == 0;
}

/* Of one of our addresses with its prefix: the kernel's interface that has it, or NULL. */
static const char *holder_of(const struct ifaddrs *all, const char *ours)
{
	char address[INET6_ADDRSTRLEN] = "";

	tool_copy_text(address, sizeof(address), ours);
	address[strcspn(address, "/")] = '\0';
	for (const struct ifaddrs *one = all; one; one = one->ifa_next) {
		if (is_kernels(one, address))
			return one->ifa_name;
	}
	return NULL;
}

static void check_addresses(struct finding *finding, const char *list)
{
	struct ifaddrs *all = NULL;
	char copy[512];
	char *rest = copy;
	char *ours;

	tool_copy_text(copy, sizeof(copy), list);
	found(finding, LEVEL_OK, "%s: none is the kernel's", list);
	if (getifaddrs(&all))
		return;
	while ((ours = strsep(&rest, ", "))) {
		const char *holder = *ours ? holder_of(all, ours) : NULL;
		if (!holder)
			continue;
		found(finding, LEVEL_MISSING, "%s is the kernel's: it would end our connections",
		      ours);
		mend_by(finding, "ip addr del %s dev %s, or share it: DEMI_XDP_PORTS=tcp:PORT",
			ours, holder);
		break;
	}
	freeifaddrs(all);
}

/* ---- all ---- */

void examine_interface(struct findings *findings, const char *name, bool try)
{
	static const struct {
		const char *name;
		void (*check)(struct finding *finding, const struct subject *subject);
	} needs[] = {
		{"link", check_link},         {"queues", check_queues},
		{"MTU", check_mtu},           {"XDP program", check_program},
		{"socket", check_copy},       {"native mode", check_native},
		{"buffers", check_parts},     {"zero copy", check_zero_copy},
		{"offloads", check_offloads}, {"forwarding", check_forwarding},
	};
	struct subject subject = {.name = name, .try = try};
	const char *addresses = environment("DEMI_ADDRESSES", "");
	int error = link_read(name, &subject.facts);

	if (error) {
		struct finding *finding = finding_add(findings, "link");
		found(finding, LEVEL_MISSING, "%s",
		      error == ENODEV ? "no such interface" : strerror(error));
		mend_by(finding, "ip link");
		return;
	}
	for (size_t i = 0; i < TOOL_COUNT(needs); i++)
		needs[i].check(finding_add(findings, needs[i].name), &subject);
	if (*addresses && !*environment("DEMI_XDP_PORTS", ""))
		check_addresses(finding_add(findings, "addresses"), addresses);
}
