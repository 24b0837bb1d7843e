/* tests/sim/forge.c: see forge.h. */
#include "sim/forge.h"

#include "net/wire/checksum.h"
#include "net/wire/ether.h"
#include "net/wire/icmp.h"
#include "net/wire/ip.h"

#include <arpa/inet.h>
#include <string.h>

#define TTL 64

struct ip_address forge_address(uint32_t v4)
{
	return ip_from_v4(htonl(v4));
}

struct ip_address forge_host_address(uint32_t index)
{
	return forge_address(0x0a000001 + index);
}

/* Sends what stands behind an Ethernet and an IPv4 header. */
static void send_ip(struct host *attacker, const struct forged *forged, uint8_t *frame,
		    uint8_t protocol, uint32_t length)
{
	ether_write(frame, forged->to_host->mac, attacker->mac, ETHER_IPV4);
	ipv4_write(frame + ETHER_HEADER_BYTES, &forged->from, &forged->to, protocol, TTL, 0,
		   length);
	world_send(attacker, frame, ETHER_HEADER_BYTES + IPV4_HEADER_BYTES + length);
}

void forge_segment(struct host *attacker, const struct forged *forged)
{
	uint8_t frame[ETHER_HEADER_BYTES + IPV4_HEADER_BYTES + 60 + FORGE_PAYLOAD_MAX];
	uint8_t *at = frame + ETHER_HEADER_BYTES + IPV4_HEADER_BYTES;
	uint32_t header_bytes = tcp_write(at, &forged->h);
	uint32_t length = header_bytes + forged->length;

	memset(at + header_bytes, 'X', forged->length);
	uint16_t checksum =
		checksum_finish(checksum_pseudo(&forged->from, &forged->to, IP_TCP, length) +
				checksum_partial(at, length));
	memcpy(at + TCP_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
	send_ip(attacker, forged, frame, IP_TCP, length);
}

void forge_error(struct host *attacker, const struct forged *forged, uint8_t type, uint8_t code,
		 uint32_t rest)
{
	const struct icmp_header h = {.type = type, .code = code, .rest = rest};
	uint8_t frame[ETHER_HEADER_BYTES + 2 * IPV4_HEADER_BYTES + ICMP_HEADER_BYTES + 8];
	uint8_t *at = frame + ETHER_HEADER_BYTES + IPV4_HEADER_BYTES;
	uint8_t *quote = at + ICMP_HEADER_BYTES;
	uint32_t length = ICMP_HEADER_BYTES + IPV4_HEADER_BYTES + 8;

	/* The quoted packet went the other way. */
	ipv4_write(quote, &forged->to, &forged->from, IP_TCP, TTL, 0, 1480);
	quote += IPV4_HEADER_BYTES;
	store16(quote, forged->h.destination);
	store16(quote + 2, forged->h.source);
	store32(quote + 4, forged->h.seq);
	icmp_write(at, &h, length, NULL, NULL);
	send_ip(attacker, forged, frame, IP_ICMP, length);
}
