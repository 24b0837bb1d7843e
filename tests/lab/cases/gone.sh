#!/bin/bash
# tests/lab/cases/gone.sh: nothing is left of the script before it, fails.sh.
if pgrep -f "sleep 12345"; then
	exit 1
fi
