"""What master and agent answer in the same way: version and flags. Pure."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from kernel import __version__
from kernel.config import fields
from kernel.wire.operator_common import Flag, VersionInfo

MESOS_VERSION = "1.11.0"  # The release whose API we speak; clients turn each part into an integer.


def version_info() -> VersionInfo:
    return VersionInfo(MESOS_VERSION, build_date="", build_time=0.0, build_user="")


def version_json() -> bytes:
    """Return the answer of `/version`; our own version has a name of its own."""
    return msgspec.json.encode(
        {"build_date": "", "build_time": 0.0, "build_user": "", "version": MESOS_VERSION, "meseta_version": __version__}
    )


def flags(config: Struct) -> dict[str, str]:
    """Return the settings in force by flag name; those that are not set are left out."""
    found = {}
    for flag, setting in fields(type(config)).items():
        value = getattr(config, setting.name)
        if value is None:
            continue
        if setting.kind == "bool":
            found[flag] = "true" if value else "false"
        elif setting.kind == "duration":
            found[flag] = f"{value:g}secs"
        elif setting.kind == "list":
            found[flag] = ",".join(value)
        elif setting.kind == "json":
            found[flag] = msgspec.json.encode(value).decode()
        else:
            found[flag] = re.sub(r"^zk://[^/]*@", "zk://", str(value))  # Without the password of a ZooKeeper.
    return found


def flag_messages(config: Struct) -> tuple[Flag, ...]:
    return tuple(Flag(name, value) for name, value in flags(config).items())
