#!/bin/bash
# tests/lab/guest/boot.sh: the guest is what the tests may count on.
# limit: 20 s
set -euo pipefail
[ "$(uname -s)" = Linux ] && [ -d "/lib/modules/$(uname -r)" ]
echo "Linux $(uname -r), $(nproc) CPUs, $(awk '/MemTotal/ { print $2 }' /proc/meminfo) KiB, after $(cut -d' ' -f1 /proc/uptime) s"

echo "the checkout is there, to read"
[ -x "$DEMI" ] && "$DEMI" --version
[ "$PWD" = "$(cat "$LAB/checkout")" ]
if touch tools/lab.written 2>/dev/null; then
	exit 1
fi

echo "the host's programs run, and what they write stays here"
python3 -c 'open("/etc/lab.written", "w").write("yes")'
[ "$(cat /etc/lab.written)" = yes ]

echo "modules load"
modprobe dummy
[ -d /sys/module/dummy ]
