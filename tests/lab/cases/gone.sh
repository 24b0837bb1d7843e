#!/bin/bash
# tests/lab/cases/gone.sh: nothing is left of the script before it, fails.sh, but its file.
rm -f /tmp/lab.alive
sleep 1
[ ! -e /tmp/lab.alive ]
