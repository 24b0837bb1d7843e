/* SPDX-License-Identifier: MIT
 * tools/demi/helper/main.c - demi-xdp-helper, which `demi xdp-helper` runs: opens XDP sockets for
 * applications that have no privilege, and passes them over a Unix socket.
 */
#include "helper/policy.h"
#include "helper/server.h"
#include "helper/system.h"

#include "options.h"
#include "tool.h"

#include <errno.h>
#include <grp.h>
#include <net/if.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_DEFAULT  "/run/demitasse/xdp.sock"
#define MEMORY_DEFAULT  (256 << 20)
#define MEMORY_MAX      8589934592.0 /* demitasse.xdp.memory_bytes */
#define CLIENTS_DEFAULT 16

struct settings {
	const char *socket;
	const char *interfaces;
	const char *addresses;
	const char *ports;
	const char *queues;
	const char *user;
	const char *group;
	const char *mode;
	uint64_t memory_max;
	uint64_t clients_max;
	bool promiscuous;
	bool take_groups;
	bool alone;
};

static int read_settings(struct settings *settings, int argc, char **argv)
{
	const struct option_spec specs[] = {
		{"interface", OPTION_TEXT, &settings->interfaces, 0, 0, NULL, "NAME[,NAME...]",
		 "network interfaces that sockets may be had of (needed)"},
		{"addresses", OPTION_TEXT, &settings->addresses, 0, 0, NULL, "PREFIX[,PREFIX...]",
		 "addresses and groups that clients may have, as 10.0.0.0/24,fd00::/64 (any that "
		 "the kernel does not have)"},
		{"ports", OPTION_TEXT, &settings->ports, 0, 0, NULL, "RANGE[,RANGE...]",
		 "ports of the kernel's addresses that clients may have, as tcp:80,udp:5000-5999 "
		 "(none)"},
		{"queues", OPTION_TEXT, &settings->queues, 0, 0, NULL, "RANGE[,RANGE...]",
		 "receive queues that clients may have, as 0-3 (any)"},
		{"socket", OPTION_TEXT, &settings->socket, 0, 0, NULL, "PATH",
		 "Unix socket that clients connect to (" SOCKET_DEFAULT ")"},
		{"user", OPTION_TEXT, &settings->user, 0, 0, NULL, "NAME",
		 "owner of the socket, who may connect (who starts it)"},
		{"group", OPTION_TEXT, &settings->group, 0, 0, NULL, "NAME",
		 "group of the socket, which may connect (of who starts it)"},
		{"mode", OPTION_TEXT, &settings->mode, 0, 0, NULL, "OCTAL",
		 "mode of the socket (0660; 0666: everybody may connect)"},
		{"max-memory", OPTION_WHOLE, &settings->memory_max, 4096, MEMORY_MAX, NULL, "BYTES",
		 "memory of a client (256Mi)"},
		{"max-clients", OPTION_WHOLE, &settings->clients_max, 1, STEER_SLOTS, NULL, "N",
		 "sockets given at the same time (16)"},
		{"promiscuous", OPTION_FLAG, &settings->promiscuous, 0, 0, NULL, NULL,
		 "clients may have link-layer addresses of their own"},
		{"take-groups", OPTION_FLAG, &settings->take_groups, 0, 0, NULL, NULL,
		 "clients may have groups and broadcasts that the kernel listens to, and then "
		 "does not get"},
		{"alone", OPTION_FLAG, &settings->alone, 0, 0, NULL, NULL,
		 "attach without libxdp's dispatcher, and give up CAP_SYS_ADMIN, which it needs"},
	};

	return options_read(specs, TOOL_COUNT(specs), argc, argv,
			    "demi xdp-helper --interface NAME[,NAME...] [OPTION...]");
}

/* 0 or -1: complained of. */
static int make_policy(struct policy *policy, const struct settings *settings)
{
	*policy = (struct policy){.memory_max = settings->memory_max,
				  .promiscuous = settings->promiscuous};
	if (policy_read_interfaces(policy, settings->interfaces) ||
	    policy_read_addresses(policy, settings->addresses) ||
	    policy_read_ports(policy, settings->ports) ||
	    policy_read_queues(policy, settings->queues))
		return -1;
	if (policy->num_interfaces == 0) {
		tool_complain("xdp-helper: --interface is needed: the interfaces that sockets may "
			      "be had of");
		return -1;
	}
	return 0;
}

static int find_user(const char *name, uid_t *user)
{
	const struct passwd *entry = getpwnam(name);
	char *end;
	unsigned long number = strtoul(name, &end, 10);

	*user = entry ? entry->pw_uid : (uid_t)number;
	if (entry || (*name >= '0' && *name <= '9' && *end == '\0'))
		return 0;
	tool_complain("--user: '%s': no such user", name);
	return -1;
}

static int find_group(const char *name, gid_t *group)
{
	const struct group *entry = getgrnam(name);
	char *end;
	unsigned long number = strtoul(name, &end, 10);

	*group = entry ? entry->gr_gid : (gid_t)number;
	if (entry || (*name >= '0' && *name <= '9' && *end == '\0'))
		return 0;
	tool_complain("--group: '%s': no such group", name);
	return -1;
}

/* 0 or -1: complained of. */
static int make_admission(struct admission *admission, const struct settings *settings)
{
	char *end;
	unsigned long mode = strtoul(settings->mode, &end, 8);

	if (settings->mode[0] < '0' || settings->mode[0] > '7' || *end || mode > 0777) {
		tool_complain("--mode: '%s': must be octal, as 0660", settings->mode);
		return -1;
	}
	*admission =
		(struct admission){.user = geteuid(), .group = getegid(), .mode = (mode_t)mode};
	if (settings->user && find_user(settings->user, &admission->user))
		return -1;
	return settings->group ? find_group(settings->group, &admission->group) : 0;
}

/* 0 or -1: complained of. */
static int have_privilege(void)
{
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	tool_complain("xdp-helper: XDP sockets: %s%s", strerror(errno),
		      errno == EPERM ? ": run it as root, or with the capabilities that demi(1) "
				       "names"
				     : "");
	return -1;
}

static void warn_of_missing(const struct policy *policy)
{
	for (uint32_t i = 0; i < policy->num_interfaces; i++) {
		if (if_nametoindex(policy->interfaces[i]) == 0)
			tool_complain("xdp-helper: interface %s: is not there now",
				      policy->interfaces[i]);
	}
}

static int run(const struct settings *settings)
{
	struct policy policy;
	struct admission admission;
	struct listener listener;

	if (make_policy(&policy, settings) || make_admission(&admission, settings))
		return TOOL_USAGE;
	const struct server_options options = {.policy = &policy,
					       .admission = &admission,
					       .clients_max = (uint32_t)settings->clients_max,
					       .take_groups = settings->take_groups,
					       .alone = settings->alone};
	tool_raise_file_limit();
	if (have_privilege() || listener_open(&listener, settings->socket, &admission))
		return TOOL_FAILED;
	warn_of_missing(&policy);
	int status = system_drop_privilege(!settings->alone) ? TOOL_FAILED
							     : server_run(&options, listener.fd);
	listener_close(&listener);
	return status;
}

int main(int argc, char **argv)
{
	struct settings settings = {
		.socket = SOCKET_DEFAULT,
		.interfaces = "",
		.addresses = "",
		.ports = "",
		.queues = "",
		.mode = "0660",
		.memory_max = MEMORY_DEFAULT,
		.clients_max = CLIENTS_DEFAULT,
	};
	int status = read_settings(&settings, argc, argv);

	if (status != TOOL_GOOD)
		return status < 0 ? TOOL_GOOD : status;
	return run(&settings);
}
