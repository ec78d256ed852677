"""How much of what a task prints is kept, and when to look at it again. Values only: it touches no disk.

As with Mesos's logrotate module a task may say for itself, by variables of its environment: CONTAINER_LOGGER_MAX_STDOUT_SIZE=20MB,
CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS with `rotate 9` in it (of logrotate's options no other is heeded), the same for STDERR, and
CONTAINER_LOGGER_MAX_FILES for both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from kernel import config
from kernel.agent.config import AgentConfig

STREAMS = ("stdout", "stderr")
FILES_MAX = 1000
LOOK_FIRST_S, LOOK_MAX_S = 0.5, 16.0
_ROTATE = re.compile(r"\brotate\s+(\d{1,9})\b")


class LogLimit(Struct, frozen=True):
    """bytes_max: size at which a file is rotated, 0 for never. files_max: how many such files are kept besides."""

    bytes_max: int
    files_max: int


def log_limits(settings: AgentConfig, env: Mapping[str, str]) -> dict[str, LogLimit]:
    """By stream. What a task says wrongly is as if it had not said it."""
    sizes = {"stdout": settings.container_logger_max_stdout_size, "stderr": settings.container_logger_max_stderr_size}
    files_max = _number(env.get("CONTAINER_LOGGER_MAX_FILES", ""), settings.container_logger_max_files)
    found = {}
    for stream, bytes_max in sizes.items():
        own = env.get(f"CONTAINER_LOGGER_MAX_{stream.upper()}_SIZE", "")
        options = _ROTATE.search(env.get(f"CONTAINER_LOGGER_LOGROTATE_{stream.upper()}_OPTIONS", ""))
        kept = files_max if options is None else int(options[1])
        found[stream] = LogLimit(_size(own, bytes_max), min(kept, FILES_MAX))
    return found


def _number(text: str, default: int) -> int:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else default


def _size(text: str, default: int) -> int:
    try:
        return config.size(text)
    except ValueError:
        return default


def next_look_s(size: int, grown: int, passed_s: float, pause_s: float, bytes_max: int) -> float:
    """How long a file need not be looked at: half of the time in which it is full if it goes on like this. One that does not grow is
    looked at ever less. size: now; grown: since the last look, passed_s ago; pause_s: what this gave then."""
    if grown <= 0:
        return min(LOOK_MAX_S, 2 * pause_s)
    full_s = (bytes_max - size) / grown * passed_s
    return min(LOOK_MAX_S, max(LOOK_FIRST_S, full_s / 2))


def kept(sizes: Sequence[int], limit: LogLimit, coming: int) -> int:
    """How many of the rotated files stay (their sizes, newest first) when one more of `coming` bytes is added. What counts is their
    size together: a task that writes much between two looks gets larger files, and fewer."""
    left = limit.bytes_max * limit.files_max - coming
    for number, size in enumerate(sizes[: max(0, limit.files_max - 1)]):
        left -= size
        if left < 0:
            return number
    return min(len(sizes), max(0, limit.files_max - 1))
