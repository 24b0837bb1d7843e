#!/bin/bash
# tests/lab/guest/vfio.sh: behind the emulated IOMMU a drive goes to vfio-pci and comes back.
# limit: 60 s
set -euo pipefail
. tests/lab/guest/lib/drives
modprobe vfio-pci

bdf=$(basename "$(readlink -f "$(controller plain)/device")")
group=$(basename "$(readlink "/sys/bus/pci/devices/$bdf/iommu_group")")
echo "$bdf is in IOMMU group $group: $(ls "/sys/kernel/iommu_groups/$group/devices")"
[ "$(ls "/sys/kernel/iommu_groups/$group/devices")" = "$bdf" ]

# to DRIVER: that driver has the device
to() {
	echo "$1" >"/sys/bus/pci/devices/$bdf/driver_override"
	echo "$bdf" >"/sys/bus/pci/devices/$bdf/driver/unbind"
	echo "$bdf" >/sys/bus/pci/drivers_probe
	[ "$(basename "$(readlink "/sys/bus/pci/devices/$bdf/driver")")" = "$1" ]
}
to vfio-pci
[ -c "/dev/vfio/$group" ]
to nvme
[ -b "/dev/$(drive plain)" ]
