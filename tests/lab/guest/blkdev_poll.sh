#!/bin/bash
# tests/lab/guest/blkdev_poll.sh: drives by io_uring, whose completions come by interrupts, or are polled for: all tests of block devices, a drive that is pulled too; files on such a drive.
# limit: 300 s
set -euo pipefail
. tests/lab/guest/lib/drives
export CMOCKA_MESSAGE_OUTPUT=TAP
lab_blkdev=$BUILD/tests/lab_blkdev

# reload [PARAMETER...]: the kernel's driver of NVMe drives, anew
reload() {
	modprobe -r nvme
	modprobe nvme "$@"
}

leave() {
	! mountpoint -q /tmp/poll || umount /tmp/poll
	dd if=/dev/zero of="/dev/$(drive through)" bs=1M count=4 conv=fsync status=none # others make a log there
	reload
}

"$lab_blkdev" uring "/dev/$(drive plain)" | tee /tmp/interrupts
if grep -q polled /tmp/interrupts; then exit 1; fi
trap leave EXIT
reload poll_queues=1
"$lab_blkdev" uring "/dev/$(drive plain)" polled
"$lab_blkdev" uring "/dev/$(drive native4k)" polled
"$lab_blkdev" uring "/dev/$(drive faulty)" faulty
# One that has a volatile cache: durable writes are followed by flushes.
"$lab_blkdev" uring "/dev/$(virtio_drive cached)" polled

# Files, in the place of those that the tests make.
modprobe ext4
through=/dev/$(drive through)
mkfs.ext4 -q -F "$through"
mkdir -p /tmp/poll
mount "$through" /tmp/poll
cp "$BUILD/tests/unit_blkdev_rings_test" /run
unshare --mount bash -c 'mount --bind /tmp/poll /tmp && exec /run/unit_blkdev_rings_test' | tee /run/rings
grep "O_DIRECT, polled" /run/rings

# For people, and no measure: all is emulated.
for poll in auto never auto never; do
	echo "# demitasse.storage.poll: $poll"
	DEMI_STORAGE_POLL=$poll "$DEMI" bench log --file /tmp/poll/log --pairs 2 --seconds 0.2 --part append 2>/dev/null
done
