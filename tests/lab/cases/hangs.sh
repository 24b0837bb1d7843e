#!/bin/bash
# tests/lab/cases/hangs.sh: does not end.
# limit: 1 s
echo "begun"
while :; do
	sleep 100
done
