#!/bin/bash
# tests/lab/guest/rdma.sh: verbs between two Soft-RoCE devices, 4 KiB messages, as they are and with 2 % of the frames lost.
# limit: 90 s
set -euo pipefail
. tests/lab/guest/lib/rdma

# pingpong COUNT: between the two
pingpong() {
	ibv_rc_pingpong -d rxe0 -g 1 -n "$1" -s 4096 >/dev/null &
	until ss -ltn | grep -q :18515; do
		sleep 0.05
	done
	ibv_rc_pingpong -d rxe1 -g 1 -n "$1" -s 4096 "$RDMA_ADDRESS0"
	wait $!
}

# retries: how often a request was sent again, or came again
retries() {
	local link
	for link in rxe0/1 rxe1/1; do
		rdma statistic show link "$link"
	done | grep -oE '(completer_retry_err|duplicate_request|out_of_seq_request) [0-9]+' | awk '{ sum += $2 } END { print sum + 0 }'
}

pingpong 200
echo "without loss: $(retries) retries"
tc qdisc add dev "$RDMA_LINK0" root netem loss 2%
pingpong 500
tc -s qdisc show dev "$RDMA_LINK0"
echo "with loss: $(retries) retries"
[ "$(retries)" -gt 0 ]
