#!/bin/bash
# tests/lab/guest/catmint_log.sh: catmint and a drive in one instance, whose heap is registered with both: each message is in a log
# before it is answered, on a drive through vfio-pci, on a block device by io_uring, on a drive's character device.
# limit: 90 s
set -euo pipefail
. tests/lab/guest/lib/drives
. tests/lab/guest/lib/vfio
. tests/lab/guest/lib/catmint

# the bytes of a client's message: the same, whatever round
message() {
	python3 -c '
import sys
x, pattern = 1, bytearray()
for _ in range(65521):
    x = (x * 1664525 + 1013904223) & 0xffffffff
    pattern.append(x >> 24)
for round in range(int(sys.argv[1])):
    sys.stdout.buffer.write(bytes(pattern[(round + i) % 65521] for i in range(int(sys.argv[2]))))' "$@"
}

# logged DRIVER DEVICE ROUNDS SIZE: so many messages come back, and are on the device, in order, behind those that were there
logged() {
	port=$((port + 1))
	DEMI_STORAGE_DRIVER=$1 DEMI_STORAGE_DEVICE=$2 DEMI_STORAGE_SEGMENT_BYTES=1048576 start "$BUILD/examples/echo_log" "$RDMA_ADDRESS0" $port echo
	local status=1
	for _ in $(seq 100); do # it does not say when it listens
		if timeout 30 "$peer" call "$RDMA_ADDRESS0" $port 1 ask "$3" "$4" >"$LAB/client" 2>&1; then
			status=0
			break
		fi
		grep -q refused "$LAB/client" || break
		kill -0 "$server" || break
	done
	stop # by SIGKILL: what was acknowledged is there all the same
	if [ $status -ne 0 ]; then
		echo "client: $(cat "$LAB/client"); server: $(cat "$LAB/server")"
		return 1
	fi
	message "$3" "$4" >>"$LAB/wanted"
	"$BUILD/demi-log" dump --raw --log echo --driver "$1" "$2" >"$LAB/got"
	cmp "$LAB/wanted" "$LAB/got"
	echo "$1: $3 messages of $4 bytes are there"
}

plain=$(basename "$(readlink -f "$(controller plain)/device")")
through=$(drive through)
vfio_take "$plain"
trap 'vfio_give "$plain"; rdma_down' EXIT
for each in "nvme $plain" "uring /dev/$(virtio_drive cached)" "nvme-uring /dev/ng${through#nvme}"; do
	: >"$LAB/wanted"
	# shellcheck disable=SC2086 # two words
	logged $each 20 64
	# shellcheck disable=SC2086
	logged $each 5 100000
done
