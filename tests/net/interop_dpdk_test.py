#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""interop_test.py over DPDK: libOS catnip, whose port is a packet socket of DPDK's (net_af_packet); some of it by its TAP interface
(net_tap).

usage: interop_dpdk_test.py [WORD]      only the tests with WORD in their names
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import interop_test as interop  # noqa: E402


def tests():
    yield from interop.tests(("dpdk", {}))
    for function in (interop.bulk_both_ways, interop.ping_pong, interop.ping, interop.netcat):
        yield "dpdk tap", {}, function


if __name__ == "__main__":
    sys.exit(interop.report("interop over DPDK", tests(), missing=interop.NO_DPDK, word="".join(sys.argv[1:2])))
