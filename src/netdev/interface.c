/* SPDX-License-Identifier: MIT */
#include "netdev/interface.h"

#include "base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORD_MAX 64

/* ---- requests ---- */

/* 0 or -errno. */
static int request(unsigned long what, const char *name, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
	int err = ioctl(fd, what, ifr) ? -errno : 0;
	close(fd);
	return err;
}

int interface_set_flags(const char *name, uint32_t set)
{
	struct ifreq ifr = {0};
	int err = request(SIOCGIFFLAGS, name, &ifr);

	if (err)
		return err;
	ifr.ifr_flags |= (short)set;
	return request(SIOCSIFFLAGS, name, &ifr);
}

int interface_set_mtu(const char *name, uint32_t mtu)
{
	struct ifreq ifr = {.ifr_mtu = (int)mtu};

	return request(SIOCSIFMTU, name, &ifr);
}

int interface_read(struct sched *sched, const char *name, struct interface *out)
{
	struct ifreq ifr = {0};
	int err = request(SIOCGIFINDEX, name, &ifr);

	if (err) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "raw_socket.linux_interface_name: \"%s\": %s (`ip link` lists those that "
			  "are there)",
			  name, err == -ENODEV ? "no such interface" : strerror(-err));
		return err;
	}
	*out = (struct interface){.index = ifr.ifr_ifindex};
	(void)snprintf(out->name, sizeof(out->name), "%s", name);
	err = request(SIOCGIFHWADDR, name, &ifr);
	if (err)
		return err;
	if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "raw_socket.linux_interface_name: \"%s\": not an Ethernet interface",
			  name);
		return -ENOTSUP;
	}
	memcpy(out->mac, ifr.ifr_hwaddr.sa_data, 6);
	err = request(SIOCGIFFLAGS, name, &ifr);
	out->up = !err && (ifr.ifr_flags & IFF_UP);
	if (!err)
		err = request(SIOCGIFMTU, name, &ifr);
	out->mtu = err ? 0 : (uint32_t)ifr.ifr_mtu;
	return err;
}

int interface_named(struct sched *sched, const char *device, struct interface *out)
{
	if (*sched->config.interface)
		return interface_read(sched, sched->config.interface, out);
	log_write(&sched->log, LOG_LEVEL_ERROR,
		  "raw_socket.linux_interface_name: must name a network interface for "
		  "demitasse.device %s (`ip link` lists them)",
		  device);
	return -EINVAL;
}

void interface_tell_down(struct sched *sched, const struct interface *interface)
{
	if (!interface->up)
		log_write(&sched->log, LOG_LEVEL_WARNING,
			  "interface %s is down: nothing passes until: ip link set %s up",
			  interface->name, interface->name);
}

uint32_t interface_queues(const char *name)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq ifr = {.ifr_data = (void *)&channels};

	if (request(SIOCETHTOOL, name, &ifr))
		return 1;
	uint32_t count = channels.combined_count + channels.rx_count;
	return count > 0 ? count : 1;
}

void interface_take_error(struct sched *sched, const struct interface *interface, int fd,
			  uint32_t events)
{
	int err = 0;
	socklen_t length = sizeof(err);

	if (!(events & (EPOLLERR | EPOLLHUP)))
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &length) || !err)
		return;
	log_write(&sched->log, LOG_LEVEL_WARNING, "interface %s: %s", interface->name,
		  strerror(err));
}

/* ---- veth ---- */

bool interface_is_veth(const char *name)
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq ifr = {.ifr_data = (void *)&info};

	return request(SIOCETHTOOL, name, &ifr) == 0 && strcmp(info.driver, "veth") == 0;
}

/* Asks for the link of an index and reads the answer.  Returns its bytes, 0: none. */
static size_t ask_link(int index, void *answer, size_t room)
{
	const struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
	} question = {
		.header = {.nlmsg_len = sizeof(question),
			   .nlmsg_type = RTM_GETLINK,
			   .nlmsg_flags = NLM_F_REQUEST},
		.link = {.ifi_index = index},
	};

	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return 0;
	ssize_t n = send(fd, &question, sizeof(question), 0);
	if (n > 0)
		n = recv(fd, answer, room, 0);
	close(fd);
	return n > 0 ? (size_t)n : 0;
}

bool interface_veth_peer(const struct interface *interface, char peer_out[IFNAMSIZ])
{
	union {
		struct nlmsghdr header;
		char bytes[8192];
	} answer;

	size_t length = ask_link(interface->index, &answer, sizeof(answer));
	uint32_t peer = 0;

	if (!NLMSG_OK(&answer.header, length) || answer.header.nlmsg_type != RTM_NEWLINK)
		return false;
	size_t left = NLMSG_PAYLOAD(&answer.header, sizeof(struct ifinfomsg));
	struct rtattr *attribute = IFLA_RTA(NLMSG_DATA(&answer.header));
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if (attribute->rta_type == IFLA_LINK_NETNSID)
			return false; /* it is in another namespace */
		if (attribute->rta_type == IFLA_LINK)
			memcpy(&peer, RTA_DATA(attribute), sizeof(peer));
	}
	return peer != 0 && if_indextoname(peer, peer_out);
}

void interface_tell_offloads(struct sched *sched, const struct interface *interface)
{
	static const char line[] =
		"interface %s: frames arrive with unfinished checksums or longer than the MTU, "
		"and are dropped; %s: ethtool -K %s tx off tso off gso off gro off%s";
	const char *name = interface->name;
	char peer[IFNAMSIZ];
	struct log_seen *seen = &sched->log_seen;

	if (!interface_is_veth(name))
		log_once(&sched->log, seen, LOG_LEVEL_WARNING, line, name, "run", name,
			 " rx off lro off");
	else if (interface_veth_peer(interface, peer))
		log_once(&sched->log, seen, LOG_LEVEL_WARNING, line, name, "run", peer, "");
	else
		log_once(&sched->log, seen, LOG_LEVEL_WARNING, line, name,
			 "run where the other end of the veth pair is, with its name for PEER",
			 "PEER", "");
}

/* ---- link-layer addresses ---- */

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Six pairs of hexadecimal digits, colons between them; one station's. */
static bool parse_mac(const char *text, uint8_t mac[6])
{
	uint8_t any = 0;

	if (strlen(text) != 17)
		return false;
	for (int i = 0; i < 6; i++, text += 3) {
		int high = digit(text[0]);
		int low = digit(text[1]);
		if (high < 0 || low < 0 || text[2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
		any |= mac[i];
	}
	return any && !(mac[0] & 1);
}

int interface_mac(struct sched *sched, const uint8_t fallback[6], uint8_t mac_out[6])
{
	const char *text = sched->config.mac;

	memcpy(mac_out, fallback, 6);
	if (!*text || parse_mac(text, mac_out))
		return 0;
	log_write(&sched->log, LOG_LEVEL_ERROR,
		  "demikernel.local_link_addr: \"%s\": must be the address of one station, as "
		  "02:00:00:00:00:01",
		  text);
	return -EINVAL;
}

/* ---- addresses ---- */

/* What is no address is refused elsewhere. */
static bool parse_address(const char *text, struct ip_address *out)
{
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		*out = ip_from_v4(v4);
		return true;
	}
	return inet_pton(AF_INET6, text, out->bytes) == 1;
}

static bool is_address(const struct ifaddrs *one, const struct ip_address *ours)
{
	if (!one->ifa_addr)
		return false;
	if (one->ifa_addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)one->ifa_addr;
		struct ip_address theirs = ip_from_v4(in->sin_addr.s_addr);
		return ip_equal(&theirs, ours);
	}
	if (one->ifa_addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)one->ifa_addr;
		return memcmp(&in6->sin6_addr, ours->bytes, 16) == 0;
	}
	return false;
}

/* Length of the prefix that the kernel's address has. */
static int prefix_of(const struct ifaddrs *one)
{
	bool v4 = one->ifa_addr->sa_family == AF_INET;
	const uint8_t *mask =
		v4 ? (const void *)&((const struct sockaddr_in *)(const void *)one->ifa_netmask)
				->sin_addr
		   : (const void *)&((const struct sockaddr_in6 *)(const void *)one->ifa_netmask)
				->sin6_addr;
	int bits = 0;

	for (int i = 0; i < (v4 ? 4 : 16); i++)
		bits += __builtin_popcount(mask[i]);
	return bits;
}

/* 0 or -EADDRNOTAVAIL. */
static int check_address(struct sched *sched, const char *key, const char *text,
			 const struct ifaddrs *kernels, bool shared)
{
	struct ip_address ours;

	if (!parse_address(text, &ours) || (shared && !ip_is_link_local(&ours)))
		return 0;
	for (const struct ifaddrs *one = kernels; one; one = one->ifa_next) {
		if (!is_address(one, &ours))
			continue;
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "%s: %s is the kernel's address, on interface %s: it would answer our "
			  "peers, with resets; take it away: ip addr del %s/%d dev %s",
			  key, text, one->ifa_name, text, one->ifa_netmask ? prefix_of(one) : 0,
			  one->ifa_name);
		return -EADDRNOTAVAIL;
	}
	return 0;
}

/* Each address of the list, without its prefix. */
static int check_list(struct sched *sched, const char *list, const struct ifaddrs *kernels,
		      bool shared)
{
	while (*list) {
		char word[WORD_MAX];
		list += strspn(list, " ,");
		size_t length = strcspn(list, " /,");
		(void)snprintf(word, sizeof(word), "%.*s", (int)length, list);
		int err = check_address(sched, "demitasse.addresses", word, kernels, shared);
		if (err)
			return err;
		list += strcspn(list, ",");
	}
	return 0;
}

int interface_check_addresses(struct sched *sched, bool shared)
{
	struct ifaddrs *kernels;

	if (getifaddrs(&kernels))
		return -errno;
	int err = check_list(sched, sched->config.addresses, kernels, shared);
	if (!err)
		err = check_address(sched, "demikernel.local_ipv4_addr",
				    sched->config.local_ipv4_addr, kernels, shared);
	freeifaddrs(kernels);
	return err;
}

/* ---- privileges ---- */

int interface_refused(struct sched *sched, const char *what, const char *capability, int err)
{
	char program[256] = "PROGRAM";

	if (err != EPERM && err != EACCES) {
		log_write(&sched->log, LOG_LEVEL_ERROR, "%s: %s", what, strerror(err));
		return -err;
	}
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (length > 0)
		program[length] = '\0';
	log_write(&sched->log, LOG_LEVEL_ERROR,
		  "%s: %s: needs the capability %s; run it by sudo, or once: sudo setcap "
		  "cap_net_raw,cap_net_admin+ep %s",
		  what, strerror(err), capability, program);
	return -err;
}
