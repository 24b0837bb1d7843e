/* tests/net/steer_frames.c: see steer_frames.h. */
#include "net/steer_frames.h"

#include "support/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

enum { ETHERNET = 14, REQUEST = 1, REPLY = 2, SOLICITATION = 135, ADVERTISEMENT = 136 };

#define OURS4   "10.0.0.2"
#define HASHED4 "10.0.0.3"
#define QUEUED4 "10.0.0.4"
#define SHARED4 "10.0.0.1"
#define OTHER4  "10.0.0.9"
#define GROUP4  "224.1.2.3"
#define OURS6   "fd00::2"
#define HASHED6 "fd00::3"
#define SHARED6 "fd00::1"
#define OTHER6  "fd00::9"
#define NODE6   "ff02::1:ff00:2" /* solicited-node group of OURS6, steered */
#define GROUP6  "ff05::7"

const struct steer_row steer_rows[] = {
	{.address = OURS4, .first = 10, .count = 1},
	{.address = HASHED4, .first = SLOT_HASH, .count = HASH_COUNT, .by_hash = true},
	{.address = QUEUED4, .first = SLOT_QUEUE, .count = 2},
	{.address = SHARED4},
	{.address = GROUP4, .first = 12, .count = 1},
	{.address = OURS6, .first = 11, .count = 1},
	{.address = HASHED6, .first = SLOT_HASH, .count = HASH_COUNT, .by_hash = true},
	{.address = SHARED6},
	{.address = NODE6, .first = 13, .count = 1},
	{.address = GROUP6, .first = 14, .count = 1},
	{.protocol = IPPROTO_TCP, .port = 80, .first = 41, .count = 1},
	{.protocol = IPPROTO_UDP, .port = 53, .first = 42, .count = 1},
};
const uint32_t steer_num_rows = sizeof(steer_rows) / sizeof(*steer_rows);

#define SLOT_ANY 41 /* ARP replies to 0.0.0.0: where the first port goes */

/* ---- parts ---- */

static uint8_t *put(struct steer_frame *frame, uint32_t length)
{
	uint8_t *at = frame->bytes + frame->length;

	frame->length += length;
	assert_true(frame->length <= FRAME_BYTES);
	memset(at, 0, length);
	return at;
}

static void set16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void ether(struct steer_frame *frame, uint16_t type)
{
	frame->length = 0;
	set16(put(frame, ETHERNET) + 12, type);
}

static void v4(struct steer_frame *frame, uint8_t protocol, const char *from, const char *to,
	       uint32_t options)
{
	uint8_t *at = put(frame, 20 + options * 4);

	at[0] = (uint8_t)(0x45 + options);
	at[9] = protocol;
	assert_int_equal(inet_pton(AF_INET, from, at + 12), 1);
	assert_int_equal(inet_pton(AF_INET, to, at + 16), 1);
}

static void v6(struct steer_frame *frame, uint8_t next, const char *from, const char *to)
{
	uint8_t *at = put(frame, 40);

	at[0] = 0x60;
	at[6] = next;
	assert_int_equal(inet_pton(AF_INET6, from, at + 8), 1);
	assert_int_equal(inet_pton(AF_INET6, to, at + 24), 1);
}

static bool is_v6(const char *address)
{
	return strchr(address, ':') != NULL;
}

static void ip(struct steer_frame *frame, uint8_t protocol, const char *from, const char *to)
{
	if (is_v6(to))
		v6(frame, protocol, from, to);
	else
		v4(frame, protocol, from, to, 0);
}

static void ports(struct steer_frame *frame, uint16_t source, uint16_t destination)
{
	uint8_t *at = put(frame, 20);

	set16(at, source);
	set16(at + 2, destination);
}

static void extension(struct steer_frame *frame, uint8_t next, uint8_t units)
{
	uint8_t *at = put(frame, 8 + units * 8U);

	at[0] = next;
	at[1] = units;
}

/* ---- frames ---- */

void steer_frame_ports(struct steer_frame *frame, const char *from, const char *to,
		       uint8_t protocol, uint16_t source, uint16_t destination)
{
	ether(frame, is_v6(to) ? 0x86dd : 0x0800);
	ip(frame, protocol, from, to);
	ports(frame, source, destination);
}

void steer_frame_error(struct steer_frame *frame, const char *from, const char *to,
		       const struct steer_frame *about)
{
	ether(frame, is_v6(to) ? 0x86dd : 0x0800);
	ip(frame, is_v6(to) ? IPPROTO_ICMPV6 : IPPROTO_ICMP, from, to);
	put(frame, 8)[0] = is_v6(to) ? 2 : 3;
	memcpy(put(frame, about->length - ETHERNET), about->bytes + ETHERNET,
	       about->length - ETHERNET);
}

void steer_frame_fragment(struct steer_frame *frame, uint16_t field)
{
	uint8_t *ip_header = frame->bytes + ETHERNET;
	uint8_t *next = ip_header + 40;

	if (ip_header[0] >> 4 == 4) {
		set16(ip_header + 6, field);
		return;
	}
	put(frame, 8);
	memmove(next + 8, next, frame->length - ETHERNET - 48);
	memset(next, 0, 8);
	next[0] = ip_header[6];
	set16(next + 2, field);
	ip_header[6] = IPPROTO_FRAGMENT;
}

static void arp(struct steer_frame *frame, uint16_t operation, const char *sender,
		const char *target)
{
	ether(frame, 0x0806);
	uint8_t *at = put(frame, 28);
	set16(at, 1);
	set16(at + 2, 0x0800);
	set16(at + 4, 0x0604);
	set16(at + 6, operation);
	assert_int_equal(inet_pton(AF_INET, sender, at + 14), 1);
	assert_int_equal(inet_pton(AF_INET, target, at + 24), 1);
}

static void discovery(struct steer_frame *frame, uint8_t type, const char *to, const char *target)
{
	ether(frame, 0x86dd);
	v6(frame, IPPROTO_ICMPV6, "fe80::9", to);
	uint8_t *at = put(frame, 24);
	at[0] = type;
	assert_int_equal(inet_pton(AF_INET6, target, at + 8), 1);
}

/* A tag behind the addresses. */
static void tag(struct steer_frame *frame, uint16_t type)
{
	uint8_t *at = frame->bytes + 12;

	put(frame, 4);
	memmove(at + 4, at, frame->length - 16);
	set16(at, type);
	set16(at + 2, 7);
}

/* ---- the table ---- */

static void each_arp(steer_check_fn check)
{
	struct steer_frame frame;

	arp(&frame, REQUEST, OTHER4, OURS4);
	check("ARP request for us", &frame, 10);
	arp(&frame, REPLY, OTHER4, OURS4);
	check("ARP reply to us", &frame, 10);
	arp(&frame, REQUEST, OURS4, OURS4);
	check("ARP announcement of our address by another", &frame, 10);
	arp(&frame, REQUEST, "0.0.0.0", OURS4);
	check("ARP probe of our address", &frame, 10);
	arp(&frame, REQUEST, OTHER4, SHARED4);
	check("ARP request for a shared address", &frame, FRAME_KERNEL);
	arp(&frame, REQUEST, OTHER4, "10.0.0.5");
	check("ARP request for another", &frame, FRAME_KERNEL);
	arp(&frame, REPLY, OTHER4, "0.0.0.0");
	check("ARP reply to nobody", &frame, SLOT_ANY);
	arp(&frame, REQUEST, OTHER4, "0.0.0.0");
	check("ARP request for nobody", &frame, FRAME_KERNEL);
	arp(&frame, REQUEST, OTHER4, QUEUED4);
	check("ARP request for an address by queue", &frame, SLOT_QUEUE);
	arp(&frame, REQUEST, OTHER4, HASHED4);
	check("ARP request for an address by hash", &frame, SLOT_HASH);
	arp(&frame, REQUEST, OTHER4, OURS4);
	frame.bytes[ETHERNET + 1] = 6;
	check("ARP of other hardware", &frame, FRAME_KERNEL);
	arp(&frame, REQUEST, OTHER4, OURS4);
	frame.bytes[ETHERNET + 4] = 8;
	check("ARP with longer addresses", &frame, FRAME_KERNEL);
}

static void each_address(steer_check_fn check)
{
	static const struct {
		const char *from, *to;
		int32_t slot;
	} pairs[] = {
		{OTHER4, OURS4, 10},
		{OTHER4, HASHED4, SLOT_HASH},
		{OTHER4, QUEUED4, SLOT_QUEUE},
		{OTHER4, GROUP4, 12},
		{OTHER4, "224.0.0.1", FRAME_KERNEL},
		{OTHER4, "10.0.0.5", FRAME_KERNEL},
		{OURS4, OTHER4, FRAME_KERNEL},
		{OTHER4, SHARED4, FRAME_KERNEL},
		{OTHER6, OURS6, 11},
		{OTHER6, HASHED6, SLOT_HASH},
		{OTHER6, GROUP6, 14},
		{OTHER6, NODE6, 13},
		{OTHER6, "ff02::1", FRAME_KERNEL},
		{OTHER6, SHARED6, FRAME_KERNEL},
		{OURS6, OTHER6, FRAME_KERNEL},
	};
	struct steer_frame frame;

	for (uint32_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		steer_frame_ports(&frame, pairs[i].from, pairs[i].to, IPPROTO_UDP, 1000, 2000);
		check(pairs[i].to, &frame, pairs[i].slot);
		tag(&frame, 0x8100);
		check("with a tag", &frame, pairs[i].slot);
		frame.bytes[12] = 0x88;
		frame.bytes[13] = 0xa8;
		check("with a tag of a service", &frame, pairs[i].slot);
		tag(&frame, 0x8100);
		check("with two tags", &frame, FRAME_KERNEL);
		steer_frame_ports(&frame, pairs[i].from, pairs[i].to, 132, 80, 80);
		check("without ports", &frame, pairs[i].slot);
		steer_frame_ports(&frame, pairs[i].from, pairs[i].to, IPPROTO_TCP, 1, 2);
		steer_frame_fragment(&frame, 0x2000);
		check("first fragment", &frame, pairs[i].slot);
		frame.bytes[ETHERNET] ^= 0xf0;
		check("of another version", &frame, FRAME_KERNEL);
	}
}

/* Ports of a shared address. */
static void each_port_of(steer_check_fn check, const char *from, const char *to)
{
	struct steer_frame frame;

	steer_frame_ports(&frame, from, to, IPPROTO_TCP, 1000, 80);
	check("our TCP port", &frame, 41);
	tag(&frame, 0x8100);
	check("our TCP port with a tag", &frame, 41);
	steer_frame_ports(&frame, from, to, IPPROTO_UDP, 1000, 53);
	check("our UDP port", &frame, 42);
	steer_frame_ports(&frame, from, to, IPPROTO_UDP, 1000, 80);
	check("our port of the other protocol", &frame, FRAME_KERNEL);
	steer_frame_ports(&frame, from, to, IPPROTO_TCP, 80, 1000);
	check("the same port over there", &frame, FRAME_KERNEL);
	steer_frame_ports(&frame, from, to, 132, 80, 80);
	check("no ports", &frame, FRAME_KERNEL);
	steer_frame_ports(&frame, from, to, IPPROTO_TCP, 1000, 80);
	steer_frame_fragment(&frame, 0x2000);
	check("first fragment to our port", &frame, FRAME_KERNEL);
	steer_frame_ports(&frame, from, to, IPPROTO_TCP, 1000, 80);
	steer_frame_fragment(&frame, 0x0008);
	check("second fragment to our port", &frame, FRAME_KERNEL);
}

/* Errors about a packet from a shared address. */
static void each_error_of(steer_check_fn check, const char *from, const char *to)
{
	uint32_t icmp = ETHERNET + (is_v6(to) ? 40 : 20);
	struct steer_frame about;
	struct steer_frame frame;

	steer_frame_ports(&about, to, from, IPPROTO_TCP, 80, 1000);
	steer_frame_error(&frame, from, to, &about);
	check("error about our port", &frame, 41);
	frame.bytes[icmp] = is_v6(to) ? 128 : 8;
	check("echo of the same", &frame, FRAME_KERNEL);
	frame.bytes[icmp] = is_v6(to) ? 137 : 5;
	check("redirect of the same", &frame, FRAME_KERNEL);
	frame.bytes[icmp] = is_v6(to) ? 4 : 11;
	check("another error", &frame, 41);
	steer_frame_ports(&about, to, from, IPPROTO_TCP, 1000, 80);
	steer_frame_error(&frame, from, to, &about);
	check("error about the kernel's port", &frame, FRAME_KERNEL);
	steer_frame_ports(&about, to, from, IPPROTO_TCP, 80, 1000);
	steer_frame_fragment(&about, 0x0010);
	steer_frame_error(&frame, from, to, &about);
	check("error about a fragment", &frame, FRAME_KERNEL);
}

static void each_v4(steer_check_fn check)
{
	struct steer_frame frame;

	ether(&frame, 0x0800);
	v4(&frame, IPPROTO_TCP, OTHER4, SHARED4, 3);
	ports(&frame, 1000, 80);
	check("IPv4 options before a port", &frame, 41);
	frame.bytes[ETHERNET] = 0x44;
	check("IPv4 header of 16 bytes", &frame, FRAME_KERNEL);
	steer_frame_ports(&frame, OTHER4, OURS4, IPPROTO_UDP, 1, 2);
	frame.bytes[ETHERNET] = 0x41;
	check("IPv4 header too short, to our address", &frame, 10);
	steer_frame_ports(&frame, OTHER4, SHARED4, IPPROTO_TCP, 1000, 80);
	steer_frame_fragment(&frame, 0x4000);
	check("don't fragment", &frame, 41);
}

static void each_v6(steer_check_fn check)
{
	static const uint8_t chain[] = {0, 43, 60, 60, 60};
	struct steer_frame frame;

	for (uint32_t n = 1; n <= sizeof(chain); n++) {
		ether(&frame, 0x86dd);
		v6(&frame, chain[0], OTHER6, SHARED6);
		for (uint32_t i = 1; i < n; i++)
			extension(&frame, chain[i], (uint8_t)(i % 3));
		extension(&frame, IPPROTO_UDP, 1);
		ports(&frame, 1000, 53);
		check("extension headers before a port", &frame, n <= 4 ? 42 : FRAME_KERNEL);
	}
	steer_frame_ports(&frame, OTHER6, SHARED6, IPPROTO_UDP, 1000, 53);
	steer_frame_fragment(&frame, 0);
	check("atomic fragment to our port", &frame, 42);
}

static void each_discovery(steer_check_fn check)
{
	struct steer_frame frame;

	discovery(&frame, SOLICITATION, NODE6, OURS6);
	check("solicitation of our address", &frame, 11);
	discovery(&frame, SOLICITATION, NODE6, "fd00:1::2");
	check("solicitation of another in our group", &frame, FRAME_KERNEL);
	discovery(&frame, SOLICITATION, "ff02::1:ff00:5", OURS6);
	check("solicitation of our address in a wrong group", &frame, 11);
	discovery(&frame, SOLICITATION, "ff02::1:ff00:1", SHARED6);
	check("solicitation of a shared address", &frame, FRAME_KERNEL);
	discovery(&frame, SOLICITATION, OURS6, OURS6);
	check("solicitation to our address", &frame, 11);
	discovery(&frame, SOLICITATION, OTHER6, OURS6);
	check("solicitation to another about us", &frame, FRAME_KERNEL);
	discovery(&frame, ADVERTISEMENT, OURS6, OTHER6);
	check("advertisement to us", &frame, 11);
	discovery(&frame, ADVERTISEMENT, "ff02::1", OURS6);
	check("advertisement to all of our address", &frame, 11);
	discovery(&frame, ADVERTISEMENT, "ff02::1", OTHER6);
	check("advertisement to all of another", &frame, FRAME_KERNEL);
	discovery(&frame, ADVERTISEMENT, GROUP6, OTHER6);
	check("advertisement to our group", &frame, 14);
	discovery(&frame, 134, "ff02::1", OURS6);
	check("router advertisement", &frame, FRAME_KERNEL);
	discovery(&frame, 134, OURS6, OURS6);
	check("router advertisement to us", &frame, 11);
	discovery(&frame, SOLICITATION, NODE6, HASHED6);
	check("solicitation of an address by hash", &frame, SLOT_HASH);
}

void steer_frames_each(steer_check_fn check)
{
	struct steer_frame frame;

	each_arp(check);
	each_address(check);
	each_port_of(check, OTHER4, SHARED4);
	each_port_of(check, OTHER6, SHARED6);
	each_error_of(check, OTHER4, SHARED4);
	each_error_of(check, OTHER6, SHARED6);
	each_v4(check);
	each_v6(check);
	each_discovery(check);
	ether(&frame, 0x88cc);
	put(&frame, 46);
	check("LLDP", &frame, FRAME_KERNEL);
	ether(&frame, 46);
	put(&frame, 46);
	check("802.3", &frame, FRAME_KERNEL);
}
