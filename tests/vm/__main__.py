"""Runs a command in a virtual machine of its own: `python -m tests.vm --cgroups 2 -- .venv/bin/python -m pytest tests/kernel`."""

from __future__ import annotations

import argparse
import sys

from tests.vm.machine import CGROUPS, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.vm", description=__doc__)
    parser.add_argument("--cgroups", choices=CGROUPS, default="2", help="which control groups it has mounted")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    return run(arguments.command, arguments.cgroups)


if __name__ == "__main__":
    sys.exit(main())
