#!/bin/bash
# tests/lab/cases/fails.sh: leaves a process behind and fails.
sleep 12345 &
echo "it is not so"
exit 4
