#!/bin/bash
# tests/lab/guest/blkdev.sh: our driver of NVMe drives, through vfio-pci: what it says of those that it can't have, and all tests of block devices.
# limit: 100 s
set -euo pipefail
. tests/lab/guest/lib/drives
. tests/lab/guest/lib/vfio
export CMOCKA_MESSAGE_OUTPUT=TAP
lab_blkdev=$BUILD/tests/lab_blkdev

# refused MESSAGE COMMAND...: it does not pass, and says so
refused() {
	local said
	if said=$("${@:2}" 2>&1); then
		echo "no error of: ${*:2}"
		return 1
	fi
	grep "$1" <<<"$said" | head -1
}

address() {
	basename "$(readlink -f "$(controller "$1")/device")"
}

plain=$(address plain)
native4k=$(address native4k)
faulty=$(address faulty)
refused "driver nvme has it" "$lab_blkdev" nvme "$plain"
vfio_take "$plain"
vfio_take "$native4k"
vfio_take "$faulty"
# A log on a drive, through the configuration: its process is killed, what was acknowledged is there.
"$BUILD/tests/lab_append" nvme "$native4k" "$LAB/nvme-log" &
writer=$!
until [ -e "$LAB/nvme-log.ready" ]; do
	kill -0 "$writer"
	sleep 0.1
done
sleep 1
kill -KILL "$writer"
wait "$writer" || true
"$BUILD/tests/lab_append" nvme "$native4k" "$LAB/nvme-log" check
"$lab_blkdev" nvme "$native4k"
"$lab_blkdev" nvme "$faulty" faulty
# limited KIB COMMAND...: so much memory can be pinned
limited() {
	# shellcheck disable=SC2016 # the inner shell expands them
	setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock bash -c 'ulimit -l "$1"; shift; exec "$@"' bash "$@"
}

# With too little of it, it does not begin; with not enough for the heap, data is copied.
refused "memory cannot be pinned" limited 64 "$lab_blkdev" nvme "$plain"
limited 6144 "$lab_blkdev" nvme "$plain" 2>&1 | tee /tmp/limited
grep -q "memory cannot be pinned" /tmp/limited
refused "namespace 2 is not active" "$lab_blkdev" nvme "$plain/2"
vfio_give "$plain"
vfio_give "$native4k"
vfio_give "$faulty"
[ -b "/dev/$(drive plain)" ]
