#!/bin/bash
# tests/lab/guest/uring.sh: io_uring, past the page cache: on drives of both block sizes, and on a file of a file system.
# limit: 60 s
set -euo pipefail
. tests/lab/guest/lib/drives

"$BUILD/tests/lab_uring" "/dev/$(drive plain)" 512 256
"$BUILD/tests/lab_uring" "/dev/$(drive native4k)" 4096 256

modprobe ext4
mkfs.ext4 -q -F "/dev/$(drive plain)"
mkdir /tmp/mounted
mount "/dev/$(drive plain)" /tmp/mounted
"$BUILD/tests/lab_uring" /tmp/mounted/file 4096 256
umount /tmp/mounted
