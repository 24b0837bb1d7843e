#!/bin/bash
# tests/lab/guest/drives.sh: the drives are what tests/lab/README.md says, and the faulty one has its faults.
# limit: 60 s
set -euo pipefail
. tests/lab/guest/lib/drives

expect() {
	echo "$1 $2: $(cat "/sys/block/$(drive "$1")/queue/$2")"
	[ "$(cat "/sys/block/$(drive "$1")/queue/$2")" = "$3" ]
}

# fails_with MESSAGE COMMAND...
fails_with() {
	local said
	if said=$("${@:2}" 2>&1); then
		echo "no error of: ${*:2}"
		return 1
	fi
	echo "$said"
	grep -q "$1" <<<"$said"
}

expect plain logical_block_size 512
expect native4k logical_block_size 4096
expect zoned zoned host-managed
expect zoned chunk_sectors 8192 # zones of 4 MiB
expect plain zoned none
expect through logical_block_size 512
grep "write back" "/sys/block/$(virtio_drive cached)/queue/write_cache"

faulty=/dev/$(drive faulty)
dd if="$faulty" of=/dev/null bs=4096 count=1 iflag=direct
fails_with "No data available" dd if="$faulty" of=/dev/null bs=512 skip=2048 count=1 iflag=direct
dd if=/dev/zero of="$faulty" bs=512 seek=2048 count=1 oflag=direct
fails_with "No data available" dd if=/dev/zero of="$faulty" bs=512 seek=4096 count=1 oflag=direct
