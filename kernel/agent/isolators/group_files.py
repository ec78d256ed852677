"""The files of control groups, as the kernel has them: one written at a time, numbers read. Paths are plain text, see `cgroups`."""

from __future__ import annotations

import os
from collections.abc import Mapping


def put(path: str, value: str) -> None:
    """Write a file; its errors name it."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def text(path: str) -> str:
    """What a file says, nothing when it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode()
    except OSError:  # The group was removed meanwhile.
        return ""
    finally:
        os.close(fd)


def pairs(path: str) -> Mapping[str, int]:
    """The lines `name number` of a file, empty when it is gone."""
    found = (line.split() for line in text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in found if len(pair) == 2 and pair[1].isdigit()}


def number(path: str) -> int | None:
    """The number that a file holds; None when it holds none, as `max`, or is gone."""
    said = text(path).strip()
    return int(said) if said.isdigit() else None
