#!/bin/bash
# tests/lab/guest/catmint.sh: catmint over the real libraries, between two Soft-RoCE devices: echoes of all lengths, bulk, many
# connections, datagrams, nobody there, too little memory, the benchmark beside its floor.
# limit: 180 s
set -euo pipefail
. tests/lab/guest/lib/catmint

doctor=$("$DEMI" doctor || true) # MISSING elsewhere is no matter
grep -q "^OK *rxe0 *Ethernet $RDMA_LINK0: $RDMA_ADDRESS0" <<<"$doctor"
grep -q "^OK *all together *an instance can be made" <<<"$doctor"

echo "echoes: in line, from the heap, by rendezvous"
transfer 30 1 echo -- ask 100 64
transfer 30 1 echo -- ask 20 65536
transfer 30 1 echo -- ask 5 1048576

echo "bulk, both ways, and the end of the stream"
transfer 30 1 receive 4000000 1234 -- send 4000000 100000 1234
transfer 30 1 send 2000000 1000 1234 -- receive 2000000 1234

echo "100 connections at once"
transfer 60 100 meet -- meet

echo "datagrams"
for size in 64 900; do
	port=$((port + 1))
	start timeout 30 "$peer" udp-serve "$RDMA_ADDRESS0" $port 20 $size
	ready
	timeout 30 "$peer" udp-call "$RDMA_ADDRESS0" $port 20 $size
	wait "$server"
	server=
done

echo "nobody listens; nobody is there"
timeout 20 "$peer" refused "$RDMA_ADDRESS0" 6999
if timeout 20 "$peer" refused 10.9.9.9 6999 2>"$LAB/client"; then
	exit 1
fi
grep -q "Cannot assign requested address" "$LAB/client" # no RDMA device reaches it

# limited KIB COMMAND...: so much memory can be registered
limited() {
	# shellcheck disable=SC2016 # the inner shell expands them
	setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock bash -c 'ulimit -l "$1"; shift; exec "$@"' bash "$@"
}

echo "too little memory may be locked"
if limited 64 timeout 20 "$peer" serve "$RDMA_ADDRESS0" 6998 1 echo >"$LAB/server" 2>&1; then
	exit 1
fi
grep "RLIMIT_MEMLOCK allows 65536 bytes.*ulimit -l" "$LAB/server"
limited 64 "$DEMI" doctor >"$LAB/doctor" 2>&1 || true
grep "^WARN *memory .*64 KiB.*ulimit -l unlimited" "$LAB/doctor"

echo "the benchmark, beside its floor: function, not figures"
"$DEMI" bench echo --libos catmint --address "$RDMA_ADDRESS0" --reference posix-spin --pairs 1 --rounds 200 >"$LAB/bench" 2>"$LAB/bench.errors"
cat "$LAB/bench"
grep -q "^floor: twice ib_send_lat's typical" "$LAB/bench"
