#!/bin/sh
# Make the virtual environment $1 with the first usable Python of at least 3.11; do nothing when it works already.
# PYTHON=... chooses one. Each candidate is tried, as a name on PATH may be a shim without the version behind it.
set -eu
venv=$1

if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

found=
for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3 /usr/bin/python3.11 /usr/bin/python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        found=$candidate
        if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            exec "$candidate" -m venv --clear "$venv"
        fi
        # Debian keeps ensurepip in a package of its own (python3-venv); its pip can do the same, where it is installed.
        if "$candidate" -m venv --clear --without-pip "$venv" >/dev/null 2>&1 &&
            "$candidate" -m pip --quiet --python "$venv/bin/python" install pip >/dev/null 2>&1; then
            exit 0
        fi
        rm -rf "$venv"
    fi
done

if [ -n "$found" ]; then
    echo "$found cannot make virtual environments. On Debian: apt-get install python3-venv" >&2
else
    echo "Python 3.11 or later is needed. On Debian 12 or later: apt-get install python3 python3-venv" >&2
fi
exit 1
