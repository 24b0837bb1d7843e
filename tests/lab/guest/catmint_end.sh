#!/bin/bash
# tests/lab/guest/catmint_end.sh: catmint over the real libraries when an end is killed, or ends in order, at any moment: the other
# hears of it, and goes on with others.
# limit: 120 s
set -euo pipefail
. tests/lab/guest/lib/catmint
killed_clients 6
ended_server KILL
ended_server INT
ended_server TERM
