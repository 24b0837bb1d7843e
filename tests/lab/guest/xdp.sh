#!/bin/bash
# tests/lab/guest/xdp.sh: filters in the XDP program on Debian's kernel, whose verifier is another, and through libxdp's dispatcher.
# limit: 120 s
set -euo pipefail
modprobe veth
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
export DEMI_PLUGIN_DIR=$BUILD

# a test of the build, of which nothing may be skipped but for this reason
passes() {
	"$BUILD/tests/$1" >"$LAB/$1.out" 2>&1 || { cat "$LAB/$1.out"; return 1; }
	grep -E '^(# (xdp|cpu|[0-9]+ frames)|ok)|SKIP' "$LAB/$1.out"
	if grep SKIP "$LAB/$1.out" | grep -v "$2"; then
		return 1
	fi
}

passes net_filter_test 'nothing'
passes net_filter_expression_test 'Linux 6.4'
[ "$(grep -c '^# xdp, .*dispatcher: ' "$LAB/net_filter_expression_test.out")" = 2 ]
