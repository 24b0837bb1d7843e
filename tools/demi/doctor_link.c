/* SPDX-License-Identifier: MIT
 * tools/demi/doctor_link.c - what the kernel says of a network interface: by ioctl, rtnetlink, and
 * its generic netlink family "netdev".  Nothing is changed.
 */
#include "doctor.h"

#include "tool.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Newer than Debian's headers: linux/netdev.h of Linux 6.3. */
#define NETDEV_FAMILY       "netdev"
#define NETDEV_GET          1
#define NETDEV_ATTR_INDEX   1
#define NETDEV_ATTR_SUPPORT 3

#define ANSWER_BYTES 16384

/* ---- ioctl: 0 or a positive errno ---- */

static int ask(const char *name, unsigned long request, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	tool_copy_text(ifr->ifr_name, sizeof(ifr->ifr_name), name);
	int error = ioctl(fd, request, ifr) ? errno : 0;
	close(fd);
	return error;
}

static int ask_ethtool(const char *name, void *data)
{
	struct ifreq ifr = {.ifr_data = data};

	return ask(name, SIOCETHTOOL, &ifr);
}

bool link_offloads(const char *name, unsigned request)
{
	struct ethtool_value value = {.cmd = request};

	return ask_ethtool(name, &value) == 0 && value.data;
}

static int read_basics(const char *name, struct link_facts *facts)
{
	struct ifreq ifr = {0};
	int error = ask(name, SIOCGIFINDEX, &ifr);

	if (error)
		return error;
	facts->index = (unsigned)ifr.ifr_ifindex;
	if (ask(name, SIOCGIFHWADDR, &ifr) == 0)
		facts->ethernet = ifr.ifr_hwaddr.sa_family == ARPHRD_ETHER;
	if (ask(name, SIOCGIFFLAGS, &ifr) == 0)
		facts->up = ifr.ifr_flags & IFF_UP;
	if (ask(name, SIOCGIFMTU, &ifr) == 0)
		facts->mtu = (unsigned)ifr.ifr_mtu;
	return 0;
}

static void read_driver(const char *name, struct link_facts *facts)
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};

	if (ask_ethtool(name, &info) == 0)
		tool_copy_text(facts->driver, sizeof(facts->driver), info.driver);
	if (ask_ethtool(name, &channels) == 0)
		facts->queues = channels.combined_count + channels.rx_count;
}

/* ---- netlink ---- */

struct answer {
	_Alignas(8) char bytes[ANSWER_BYTES];
	size_t length;
};

/* One question, one answer.  False: none. */
static bool exchange(int protocol, const void *question, size_t length, struct answer *answer)
{
	const struct timeval bound = {.tv_sec = 2};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	ssize_t n = -1;

	if (fd < 0)
		return false;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound));
	if (send(fd, question, length, 0) == (ssize_t)length)
		n = recv(fd, answer->bytes, sizeof(answer->bytes), 0);
	close(fd);
	answer->length = n > 0 ? (size_t)n : 0;
	const struct nlmsghdr *header = (const void *)answer->bytes;
	return NLMSG_OK(header, answer->length) && header->nlmsg_type != NLMSG_ERROR;
}

/* An attribute behind a message's own header of so many bytes; NULL: it has none. */
static struct rtattr *find_attribute(struct answer *answer, size_t own, unsigned type)
{
	const struct nlmsghdr *header = (const void *)answer->bytes;
	size_t begin = NLMSG_LENGTH(NLMSG_ALIGN(own));

	if (header->nlmsg_len < begin)
		return NULL;
	struct rtattr *attribute = (void *)(answer->bytes + begin);
	size_t left = header->nlmsg_len - begin;
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if ((attribute->rta_type & NLA_TYPE_MASK) == type)
			return attribute;
	}
	return NULL;
}

static struct rtattr *find_nested(struct rtattr *outer, unsigned type)
{
	struct rtattr *attribute = RTA_DATA(outer);
	size_t left = RTA_PAYLOAD(outer);

	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if (attribute->rta_type == type)
			return attribute;
	}
	return NULL;
}

static unsigned value_of(struct rtattr *attribute)
{
	unsigned value = 0; /* little endian: the low bits of whatever size */

	if (attribute)
		memcpy(&value, RTA_DATA(attribute),
		       RTA_PAYLOAD(attribute) < sizeof(value) ? RTA_PAYLOAD(attribute)
							      : sizeof(value));
	return value;
}

static void read_program(struct answer *answer, struct link_facts *facts)
{
	struct rtattr *xdp = find_attribute(answer, sizeof(struct ifinfomsg), IFLA_XDP);

	if (!xdp)
		return;
	facts->program = value_of(find_nested(xdp, IFLA_XDP_PROG_ID));
	facts->native = value_of(find_nested(xdp, IFLA_XDP_ATTACHED)) == XDP_ATTACHED_DRV;
}

static void read_link(struct link_facts *facts)
{
	const struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
	} question = {
		.header = {.nlmsg_len = sizeof(question),
			   .nlmsg_type = RTM_GETLINK,
			   .nlmsg_flags = NLM_F_REQUEST},
		.link = {.ifi_index = (int)facts->index},
	};
	struct answer answer;

	if (!exchange(NETLINK_ROUTE, &question, sizeof(question), &answer))
		return;
	read_program(&answer, facts);
	if (!find_attribute(&answer, sizeof(struct ifinfomsg), IFLA_LINK_NETNSID))
		facts->peer =
			value_of(find_attribute(&answer, sizeof(struct ifinfomsg), IFLA_LINK));
}

/* The number of the family; 0: a kernel without it. */
static unsigned find_family(void)
{
	const struct {
		struct nlmsghdr header;
		struct genlmsghdr command;
		struct rtattr attribute;
		char name[sizeof(NETDEV_FAMILY)];
	} question = {
		.header = {.nlmsg_len = sizeof(question),
			   .nlmsg_type = GENL_ID_CTRL,
			   .nlmsg_flags = NLM_F_REQUEST},
		.command = {.cmd = CTRL_CMD_GETFAMILY, .version = 1},
		.attribute = {.rta_type = CTRL_ATTR_FAMILY_NAME,
			      .rta_len = RTA_LENGTH(sizeof(NETDEV_FAMILY))},
		.name = NETDEV_FAMILY,
	};
	struct answer answer;

	if (!exchange(NETLINK_GENERIC, &question, sizeof(question), &answer))
		return 0;
	return value_of(find_attribute(&answer, sizeof(struct genlmsghdr), CTRL_ATTR_FAMILY_ID));
}

static void read_features(struct link_facts *facts)
{
	struct {
		struct nlmsghdr header;
		struct genlmsghdr command;
		struct rtattr attribute;
		unsigned index;
	} question = {
		.header = {.nlmsg_len = sizeof(question),
			   .nlmsg_type = (uint16_t)find_family(),
			   .nlmsg_flags = NLM_F_REQUEST},
		.command = {.cmd = NETDEV_GET, .version = 1},
		.attribute = {.rta_type = NETDEV_ATTR_INDEX, .rta_len = RTA_LENGTH(4)},
		.index = facts->index,
	};
	struct answer answer;

	if (question.header.nlmsg_type == 0 ||
	    !exchange(NETLINK_GENERIC, &question, sizeof(question), &answer))
		return;
	struct rtattr *features =
		find_attribute(&answer, sizeof(struct genlmsghdr), NETDEV_ATTR_SUPPORT);
	facts->knows_features = features != NULL;
	facts->features = value_of(features);
}

int link_read(const char *name, struct link_facts *facts)
{
	*facts = (struct link_facts){0};
	int error = read_basics(name, facts);

	if (error)
		return error;
	read_driver(name, facts);
	read_link(facts);
	read_features(facts);
	return 0;
}
