#!/bin/bash
# tests/lab/guest/catmint_loss.sh: catmint over the real libraries with 2 % of the frames lost each way. Debian's 6.1 sometimes stops a
# queue pair of Soft-RoCE under loss for good (rdma.sh has seen it, without us): each step has three tries, and says so.
# limit: 200 s
set -euo pipefail
. tests/lab/guest/lib/catmint
tc qdisc add dev "$RDMA_LINK0" root netem loss 2%
tc qdisc add dev "$RDMA_LINK1" root netem loss 2%

# try COMMAND...: at most three times
try() {
	for i in 1 2 3; do
		if "$@"; then
			echo "${*@Q}: done by try $i"
			return 0
		fi
		stop
		echo "${*@Q}: try $i did not end well"
	done
	return 1
}

try transfer 15 1 echo -- ask 100 64
try transfer 15 1 echo -- ask 10 65536
try transfer 20 1 echo -- ask 1 262144
try transfer 20 1 receive 500000 1234 -- send 500000 100000 1234
try transfer 40 100 meet -- meet
try killed_clients 2
try ended_server KILL
tc -s qdisc show dev "$RDMA_LINK0"
[ "$(rdma statistic show link rxe1/1 | grep -oE 'completer_retry_err [0-9]+' | cut -d' ' -f2)" -gt 0 ]
