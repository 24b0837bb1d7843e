#!/bin/bash
# tests/lab/cases/fails.sh: leaves a process behind and fails.
while :; do
	touch /tmp/lab.alive
	sleep 0.05
done &
echo "it is not so"
exit 4
