#!/bin/bash
# tests/lab/guest/rdma.sh: verbs between two Soft-RoCE devices, 4 KiB messages, as they are and with 2 % of the frames lost.
# limit: 150 s
set -euo pipefail
. tests/lab/guest/lib/rdma

# pingpong COUNT: between the two. Fails where it stops (seen once, under loss, for good), and where the end of one of the
# two is lost while the other has ended already, and its queue pair with it.
pingpong() {
	local server status=0
	timeout 15 ibv_rc_pingpong -d rxe0 -g 1 -n "$1" -s 4096 >/dev/null &
	server=$!
	until ss -ltn | grep -q :18515; do
		kill -0 $server || return 1
		sleep 0.05
	done
	timeout 15 ibv_rc_pingpong -d rxe1 -g 1 -n "$1" -s 4096 "$RDMA_ADDRESS0" || status=1
	wait $server && return $status
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
tries=1
until pingpong 500; do
	echo "with loss: try $tries did not end"
	[ $((tries++)) -lt 4 ]
done
tc -s qdisc show dev "$RDMA_LINK0"
echo "with loss: $(retries) retries"
[ "$(retries)" -gt 0 ]
