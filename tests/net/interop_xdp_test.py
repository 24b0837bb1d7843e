#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""interop_test.py over AF_XDP, in generic and native mode.

usage: interop_xdp_test.py [WORD]      only the tests with WORD in their names
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import interop_test as interop  # noqa: E402

if __name__ == "__main__":
    sys.exit(interop.report("interop over AF_XDP",
                            interop.tests(*(("afxdp", {"xdp_mode": mode}) for mode in interop.xdp_modes())),
                            missing=interop.NO_XDP, word="".join(sys.argv[1:2])))
