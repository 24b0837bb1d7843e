#!/bin/bash
# tests/lab/guest/blkdev_uring.sh: drives by commands that go through io_uring: all tests of block devices, and those of one in zones.
# limit: 100 s
set -euo pipefail
. tests/lab/guest/lib/drives
export CMOCKA_MESSAGE_OUTPUT=TAP
lab_blkdev=$BUILD/tests/lab_blkdev

# generic NAME: the character device of a drive's namespace
generic() {
	local name
	name=$(drive "$1")
	echo "/dev/ng${name#nvme}"
}

"$lab_blkdev" nvme-uring "$(generic plain)"
"$lab_blkdev" nvme-uring "$(generic native4k)"
"$lab_blkdev" nvme-uring "$(generic faulty)" faulty
"$lab_blkdev" nvme-uring "$(generic zoned)" | tee /tmp/zoned
grep -q "^ok 3 - test_zone_elsewhere" /tmp/zoned
