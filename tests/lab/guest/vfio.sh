#!/bin/bash
# tests/lab/guest/vfio.sh: behind the emulated IOMMU a drive goes to vfio-pci and comes back.
# limit: 60 s
set -euo pipefail
. tests/lab/guest/lib/drives
. tests/lab/guest/lib/vfio
bdf=$(basename "$(readlink -f "$(controller plain)/device")")
group=$(basename "$(readlink "/sys/bus/pci/devices/$bdf/iommu_group")")
echo "$bdf is in IOMMU group $group: $(ls "/sys/kernel/iommu_groups/$group/devices")"
[ "$(ls "/sys/kernel/iommu_groups/$group/devices")" = "$bdf" ]

vfio_take "$bdf"
[ -c "/dev/vfio/$group" ]
vfio_give "$bdf"
[ -b "/dev/$(drive plain)" ]
