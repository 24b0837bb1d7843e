/* SPDX-License-Identifier: MIT
 * tests/fuzz/packet.c - any bytes as a packet script: a script or one message, no crash; and as a
 * frame that the runner takes apart and shows.
 */
#include "packet/match.h"
#include "packet/script.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_frame(const uint8_t *data, size_t size)
{
	struct flows flows;
	char shown[256];
	struct ip_address any = ip_from_v4(0);
	struct live_packet *live = live_parse(data, (uint32_t)(size < 65536 ? size : 65536));

	if (!live)
		return;
	flows_init(&flows, &any, &any);
	match_show(&flows, live, shown, sizeof(shown));
	if (memchr(shown, 0, sizeof(shown)) == NULL)
		abort();
	free(live);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script script;

	if (script_parse(&script, "fuzz", (const char *)data, size)) {
		if (!script.error[0])
			abort();
	} else if (script.error[0]) {
		abort();
	}
	script_free(&script);
	as_frame(data, size);
	return 0;
}
