#!/bin/bash
# tests/lab/guest/catnap.sh: catnap's echo, over this kernel's sockets.
# limit: 90 s
set -euo pipefail
for proto in tcp udp; do
	"$DEMI" bench echo --libos catnap --proto "$proto" --rounds 500 --reference none
done
