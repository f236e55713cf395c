#!/bin/sh
# Find a Python that can make the environment, and let scripts/bootstrap.py do the rest.
set -eu
cd "$(dirname "$0")/.."

usable='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
for python in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
    if [ -n "$python" ] && "$python" -c "$usable" >/dev/null 2>&1; then
        exec "$python" scripts/bootstrap.py "$@"
    fi
done
# shellcheck disable=SC2016 # the backquotes are for the reader
echo 'No Python 3.11 or newer (with its venv module) was found: install it (Debian/Ubuntu: `sudo apt install python3.11 python3.11-venv`), then run this again.' >&2
exit 1
