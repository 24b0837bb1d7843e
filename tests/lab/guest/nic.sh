#!/bin/bash
# tests/lab/guest/nic.sh: the two network cards are there and hear each other.
# limit: 60 s
set -euo pipefail
modprobe e1000e
modprobe vmxnet3

# interface MAC: its name
interface() {
	grep -l "$1" /sys/class/net/*/address | cut -d/ -f5
}

ip netns add other
trap 'ip netns del other' EXIT
ip link set "$(interface 02:00:00:00:00:15)" netns other name vmx
ip netns exec other ip addr add 10.8.0.2/24 dev vmx
ip netns exec other ip link set vmx up
here=$(interface 02:00:00:00:00:14)
ip addr add 10.8.0.1/24 dev "$here"
ip link set "$here" up
until [ "$(cat "/sys/class/net/$here/carrier")" = 1 ]; do # it negotiates for some seconds
	sleep 0.1
done
ping -c 3 -w 20 10.8.0.2
ip addr del 10.8.0.1/24 dev "$here"
