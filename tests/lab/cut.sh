#!/bin/bash
# tests/lab/cut.sh: what the guest of tests/lab/cut.py does until the power is cut, on a log for each driver, its state in /lab/DRIVER.
#
# cut.sh append DRIVER IDLE   lab_append on it, idling so
# cut.sh check                all logs are checked
# cut.sh mark                 on each drive two blocks are written, the first one is flushed; then it waits
# cut.sh marked               says which of them are there
set -euo pipefail
. tests/lab/guest/lib/drives
cached=/dev/$(virtio_drive cached)
through=/dev/$(drive through)
flushed=900 unflushed=950 # MiB from the start: where no log comes
printf '%4096s' mark >/tmp/mark

# append DRIVER [check]
append() {
	local device=$cached
	[ "$1" = uring ] || device=/dev/ng${through#/dev/nvme}
	exec "$BUILD/tests/lab_append" "$1" "$device" "/lab/$1" "${@:2}"
}

# write DEVICE MIB [WORD]
write() {
	dd if=/tmp/mark of="$1" bs=4096 seek=$(($2 * 256)) oflag=direct status=none ${3:+"$3"}
}

# tell WORD DEVICE MIB: if it is marked
tell() {
	dd if="$2" of=/tmp/block bs=4096 skip=$(($3 * 256)) count=1 iflag=direct status=none
	! cmp -s /tmp/block /tmp/mark || echo "$1"
}

case $1 in
append)
	echo begun >/lab/begun
	export DEMI_IDLE=$3
	append "$2"
	;;
check)
	(append uring check)
	(append nvme-uring check)
	;;
mark)
	for device in "$cached" "$through"; do
		write "$device" $flushed conv=fsync
		write "$device" $unflushed
	done
	echo ready >/lab/mark.ready
	exec sleep infinity
	;;
marked)
	tell "cached: flushed" "$cached" $flushed
	tell "cached: not flushed" "$cached" $unflushed
	tell "through: flushed" "$through" $flushed
	tell "through: not flushed" "$through" $unflushed
	;;
esac
