#!/bin/bash
# tests/lab/cases/skips.sh: skips with a reason.
echo "looked for it"
echo "there is no such device"
exit 77
