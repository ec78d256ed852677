"""Who runs in a container: names of users are those of its image, then those of this machine."""

from __future__ import annotations

import os
import pwd

from kernel.agent.containerizer.oci_spec import User
from kernel.errors import CallError

ENTRIES_MAX = 10_000  # Lines of a passwd file that are looked at.


class BundleError(CallError):
    """A container cannot be made ready; the text says why, for its user."""


def user_of(asked: str | None, of_image: str | None, rootfs: str) -> User:
    """Whom to run as: the task's user, else the image's, else root. Names are those of the image, then those of this machine."""
    name, _, group = (asked or of_image or "0").partition(":")
    passwd = _entries(f"{rootfs}/etc/passwd", rootfs)
    entry = next((fields for fields in passwd if fields[0] == name or (name.isdigit() and fields[2] == name)), None)
    if entry is not None and entry[2].isdigit() and entry[3].isdigit():
        uid, gid = int(entry[2]), int(entry[3])
    elif name.isdigit():
        uid, gid = int(name), 0
    else:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            raise BundleError(f"user {name!r} exists neither in the image nor on this agent") from None
        uid, gid = found.pw_uid, found.pw_gid
    groups = _entries(f"{rootfs}/etc/group", rootfs)
    if group:
        known = next((fields for fields in groups if fields[0] == group), None)
        if known is None and not group.isdigit():
            raise BundleError(f"group {group!r} does not exist in the image")
        gid = int(group) if known is None else int(known[2])
    others = {int(fields[2]) for fields in groups if len(fields) > 3 and fields[2].isdigit() and name in fields[3].split(",")}
    return User(uid, gid, tuple(sorted(others - {gid})))


def _entries(path: str, rootfs: str) -> list[list[str]]:
    """The lines of a file of the image such as passwd. A link that leads out of the image is none of its files."""
    try:
        if not os.path.realpath(path).startswith(f"{os.path.realpath(rootfs)}/"):
            return []
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n").split(":") for _, line in zip(range(ENTRIES_MAX), file, strict=False)]
    except OSError:
        return []
    return [fields for fields in lines if len(fields) >= 4]
