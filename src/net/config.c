/* SPDX-License-Identifier: MIT
 * net/config.c - what the configuration says of our addresses, checked: everything that could not
 * work is refused by a log line with the key, the value and what it has to be.
 */
#include "net/net.h"
#include "net/wire/ether.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define V4_BITS  96  /* of a mapped address, in front of the IPv4 one */
#define MTU_V4   576 /* RFC 791 3.1: what every host takes */
#define MTU_V6   1280
#define MTU_MAX  65535
#define WORD_MAX 64 /* the longest word of a list, and its end */

static int refuse(const struct net *net, const char *key, const char *value, const char *why)
{
	log_write(&net->sched->log, LOG_LEVEL_ERROR, "%s: \"%s\": %s", key, value, why);
	return -EINVAL;
}

/* ---- words ---- */

/* Cuts the next word off a list with commas; spaces around it are passed over.  False: there is
 * none.  A word that is too long for out is cut, and so means nothing. */
static bool next_word(const char **list, char out[WORD_MAX])
{
	const char *at = *list + strspn(*list, " ,");
	size_t length = strcspn(at, ",");

	*list = at + length;
	while (length > 0 && at[length - 1] == ' ')
		length--;
	if (length == 0)
		return false;
	if (length >= WORD_MAX)
		length = WORD_MAX - 1;
	memcpy(out, at, length);
	out[length] = '\0';
	return true;
}

static bool parse_address(const char *text, struct ip_address *out)
{
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		*out = ip_from_v4(v4);
		return true;
	}
	return inet_pton(AF_INET6, text, out->bytes) == 1 && !ip_is_v4(out);
}

static bool parse_prefix(const char *text, uint32_t max, uint32_t *out)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || *text < '0' || *text > '9' || value > max)
		return false;
	*out = (uint32_t)value;
	return true;
}

/* Six pairs of hexadecimal digits with colons between. */
static bool parse_mac(const char *text, uint8_t mac[6])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < 17; i++) {
		char c = text[i];
		const char *digit = strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
		if (i % 3 == 2 ? c != ':' : (!c || !digit))
			return false;
		if (i % 3 == 0)
			mac[i / 3] = (uint8_t)((digit - digits) << 4);
		else if (i % 3 == 1)
			mac[i / 3] |= (uint8_t)(digit - digits);
	}
	return text[17] == '\0';
}

/* ---- addresses ---- */

/* NULL: it can be a host's; else why not. */
static const char *unfit_for_host(const struct ip_address *a)
{
	uint8_t first = a->bytes[12];
	static const struct ip_address loopback_v6 = {.bytes = {[15] = 1}};

	if (ip_is_any(a))
		return "is no host's address";
	if (ip_is_multicast(a))
		return "is a multicast address";
	if (ip_is_v4(a) ? first == 127 || first == 0 : ip_equal(a, &loopback_v6))
		return "is a loopback address";
	if (ip_is_v4(a) && first >= 240)
		return "is reserved";
	return NULL;
}

/* The bits behind the prefix: all 0 names the network, all 1 is its broadcast address (RFC
 * 1122 3.2.1.3). Prefixes of 31 and 32 bits have neither (RFC 3021). */
static const char *unfit_for_prefix(const struct ip_address *a, uint32_t prefix)
{
	if (!ip_is_v4(a) || prefix > V4_BITS + 30)
		return NULL;
	uint32_t host = ntohl(a->words[3]) & (UINT32_MAX >> (prefix - V4_BITS));
	if (host == 0)
		return "is the address of its network";
	if (host == UINT32_MAX >> (prefix - V4_BITS))
		return "is the broadcast address of its network";
	return NULL;
}

static uint32_t count_configured(const struct net *net)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < OWN_MAX; i++)
		count += net->own.entries[i].state != OWN_FREE;
	return count;
}

static int add_address(struct net *net, const char *key, const char *text,
		       const struct ip_address *address, uint32_t prefix)
{
	const char *why = unfit_for_host(address);

	if (!why)
		why = unfit_for_prefix(address, prefix);
	if (!why && own_find(net, address))
		why = "stands there twice";
	if (!why && count_configured(net) == OWN_CONFIGURED_MAX)
		why = "is the seventeenth address; at most 16 can be ours";
	if (why)
		return refuse(net, key, text, why);
	(void)own_add(net, address, prefix, OWN_CONFIGURED);
	return 0;
}

static int add_from_list(struct net *net, const char *text)
{
	static const char key[] = "demitasse.addresses";
	static const char form[] =
		"must be an address and its prefix: 10.0.0.2/24 (0 to 32) or fd00::2/64 (0 to 128)";
	struct ip_address address;
	uint32_t prefix;
	char word[WORD_MAX];

	memcpy(word, text, sizeof(word));
	char *slash = strchr(word, '/');
	if (!slash)
		return refuse(net, key, text, form);
	*slash = '\0';
	if (!parse_address(word, &address))
		return refuse(net, key, text, form);
	bool v4 = ip_is_v4(&address);
	if (!parse_prefix(slash + 1, v4 ? 32 : 128, &prefix))
		return refuse(net, key, text, form);
	return add_address(net, key, text, &address, v4 ? prefix + V4_BITS : prefix);
}

static int read_addresses(struct net *net)
{
	const struct config *config = &net->sched->config;
	const char *list = config->addresses;
	char word[WORD_MAX];
	uint32_t v4;

	while (next_word(&list, word)) {
		int err = add_from_list(net, word);
		if (err)
			return err;
	}
	if (*config->local_ipv4_addr) {
		const char *text = config->local_ipv4_addr;
		if (inet_pton(AF_INET, text, &v4) != 1)
			return refuse(net, "demikernel.local_ipv4_addr", text,
				      "must be an IPv4 address");
		const struct ip_address address = ip_from_v4(v4);
		if (!own_find(net, &address)) {
			int err = add_address(net, "demikernel.local_ipv4_addr", text, &address,
					      V4_BITS);
			if (err)
				return err;
		}
	}
	if (net->num_known == 0 && !config->slaac)
		return refuse(net, "demitasse.addresses", config->addresses,
			      "must name at least one address of ours, unless routers tell of them "
			      "(demitasse.slaac)");
	return 0;
}

/* RFC 4862 5.3: fe80::/64 with an interface identifier of ours */
static void add_link_local(struct net *net)
{
	struct ip_address address = {.bytes = {0xfe, 0x80}};

	slaac_identify(net, &address, 0);
	if (!own_find(net, &address))
		(void)own_add(net, &address, 64, OWN_LINK_LOCAL);
}

static bool has_family(const struct net *net, bool v4)
{
	for (uint32_t i = 0; i < net->num_known; i++) {
		if (ip_is_v4(&net->addresses[i].address) == v4)
			return true;
	}
	return !v4 && net->slaac.on;
}

/* ---- gateways ---- */

static bool on_link(const struct net *net, const struct ip_address *a)
{
	if (!ip_is_v4(a) && ip_is_link_local(a))
		return true;
	for (uint32_t i = 0; i < net->num_known; i++) {
		const struct net_interface_address *own = &net->addresses[i];
		if (ip_is_v4(&own->address) == ip_is_v4(a) &&
		    ip_same_prefix(&own->address, a, own->prefix))
			return true;
	}
	return false;
}

static int add_gateway(struct net *net, const char *text)
{
	struct ip_address a;
	const char *why = NULL;

	if (!parse_address(text, &a))
		return refuse(net, "demitasse.gateways", text, "must be an IPv4 or IPv6 address");
	bool v4 = ip_is_v4(&a);
	if (unfit_for_host(&a))
		why = unfit_for_host(&a);
	else if (!has_family(net, v4))
		why = "is of a family that we have no address of";
	else if (own_find(net, &a) || (v4 && ip_is_broadcast(net, &a)))
		why = "is no other host";
	else if (!on_link(net, &a))
		why = "is on no prefix of ours";
	else if (!ip_is_any(&net->gateway[!v4]))
		why = "is the second one of its family; at most one can be";
	if (why)
		return refuse(net, "demitasse.gateways", text, why);
	net->gateway[!v4] = a;
	return 0;
}

static int read_gateways(struct net *net)
{
	const char *list = net->sched->config.gateways;
	char word[WORD_MAX];

	while (next_word(&list, word)) {
		int err = add_gateway(net, word);
		if (err)
			return err;
	}
	return 0;
}

/* ---- the link ---- */

static int read_mac(struct net *net)
{
	const char *text = net->sched->config.mac;

	memcpy(net->mac, net->dev->mac, 6);
	if (*text && (!parse_mac(text, net->mac) || !ether_is_station(net->mac)))
		return refuse(net, "demikernel.local_link_addr", text,
			      "must be the address of one station: 02:00:00:00:00:01");
	return 0;
}

static int read_mtu(struct net *net)
{
	uint32_t asked = (uint32_t)net->sched->config.mtu;
	uint32_t min = has_family(net, false) ? MTU_V6 : MTU_V4;

	net->mtu = net->dev->mtu;
	if (asked && asked < net->mtu)
		net->mtu = asked;
	if (net->mtu > MTU_MAX)
		net->mtu = MTU_MAX;
	if (net->mtu >= min)
		return 0;
	log_write(&net->sched->log, LOG_LEVEL_ERROR,
		  "inetstack_config.mtu: %u: must be at least %u with these addresses (the device "
		  "takes %u)",
		  net->mtu, min, net->dev->mtu);
	return -EINVAL;
}

int net_configure(struct net *net)
{
	int err = read_mac(net);

	net->vlan = (uint16_t)net->sched->config.vlan;
	if (!err)
		err = read_addresses(net);
	if (!err)
		err = read_mtu(net);
	if (!err && has_family(net, false))
		add_link_local(net);
	if (!err)
		err = read_gateways(net);
	return err;
}

static int add_neighbour(struct net *net, const char *text)
{
	static const char key[] = "inetstack_config.arp_table";
	struct ip_address address;
	char word[WORD_MAX];
	uint8_t mac[6];

	memcpy(word, text, sizeof(word));
	char *equals = strchr(word, '=');
	if (equals)
		*equals = '\0';
	if (!equals || !parse_mac(word, mac) || !parse_address(equals + 1, &address))
		return refuse(net, key, text,
			      "must be a station and its address: 02:00:00:00:00:01=10.0.0.1");
	if (!ether_is_station(mac) || unfit_for_host(&address) || own_find(net, &address))
		return refuse(net, key, text, "is no neighbour's");
	int err = neighbour_set(net, &address, mac);
	if (err)
		return refuse(net, key, text, "is one more than neighbours_max allows");
	return 0;
}

int net_configure_neighbours(struct net *net)
{
	const char *list = net->sched->config.arp_table;
	char word[WORD_MAX];

	while (next_word(&list, word)) {
		int err = add_neighbour(net, word);
		if (err)
			return err;
	}
	return 0;
}
