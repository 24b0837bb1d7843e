#!/bin/bash
# tests/lab/guest/catnip.sh: catnip drives an emulated e1000e through vfio-pci, for the kernel's vmxnet3 on the same hub: echoes
# and bulk both ways.
# limit: 120 s
set -euo pipefail
. tests/lab/guest/lib/vfio
if [ ! -e "$BUILD/libdemitasse-dpdk.so" ]; then
	echo "DPDK was not built (libdpdk-dev)"
	exit 77
fi
modprobe vmxnet3
modprobe vfio-pci
bdf=0000:00:14.0
peer=$(basename "$(echo /sys/bus/pci/devices/0000:00:15.0/net/*)")

server=
end() {
	[ -z "$server" ] || kill "$server" || true # it may have ended by itself
	vfio_give "$bdf"
	ip addr del 10.8.1.2/24 dev "$peer"
	ip link set "$peer" down
}
vfio_take "$bdf"
trap end EXIT
doctor=$("$BUILD/demi" doctor || true) # MISSING elsewhere is no matter
grep -q "^OK *$bdf *vfio-pci has it: DEMI_DPDK_DEVICE=$bdf" <<<"$doctor"
grep -q "^WARN *0000:00:15.0 *the kernel has it (vmxnet3, $peer).* --bind=vfio-pci 0000:00:15.0" <<<"$doctor"
ip addr add 10.8.1.2/24 dev "$peer"
ip link set "$peer" up

# serve PORT TASK...: a server of ours that does it on one connection; it listens when this returns
serve() {
	coproc ours { LIBOS=catnip DEMI_DPDK_DEVICE=$bdf DEMI_ADDRESSES=10.8.1.1/24 exec "$BUILD/tests/interop_peer" serve 10.8.1.1 "$1" 1 "${@:2}" 2>"$LAB/catnip.server"; }
	# shellcheck disable=SC2154 # coproc sets it
	server=$ours_PID
	read -r line <&"${ours[0]}"
	echo "$line"
	[ "$line" = ready ] || exit 1
	until ping -c 1 -w 2 10.8.1.1 >/dev/null; do # the card negotiates for some seconds
		kill -0 "$server"
	done
}

# call PORT: the kernel's end, by the script on standard input
call() {
	PYTHONPATH=tests/net python3 -c "
import socket
from interop_test import stream
peer = socket.create_connection(('10.8.1.1', $1), 30)
peer.settimeout(30)
def receive(size):
    got = bytearray()
    while len(got) < size and (part := peer.recv(size - len(got))):
        got += part
    assert got == stream(size), len(got)
$(cat)"
	wait "$server" || {
		echo "the server ended with status $?: $(cat "$LAB/catnip.server")"
		exit 1
	}
	server=
}

serve 7000 echo
call 7000 <<'PYTHON'
for size in (1, 64, 1000, 20000):
    peer.sendall(stream(size))
    receive(size)
PYTHON
serve 7001 receive 2000000 1234
call 7001 <<'PYTHON'
peer.sendall(stream(2000000))
peer.shutdown(socket.SHUT_WR)
receive(1234)
PYTHON
serve 7002 send 2000000 20000 1234
call 7002 <<'PYTHON'
receive(2000000)
assert peer.recv(1) == b"", "more than was sent"
peer.sendall(stream(1234))
PYTHON
