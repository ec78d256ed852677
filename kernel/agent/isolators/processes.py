"""What processes use, added up by session: each container's first process leads one (spec: mesos-v1, section 8.6, posix/cpu).

Processes that made themselves a session of their own are not found so, nor is the time of those that ended, unless a
parent in the session waited for them.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from kernel.agent.isolators.limits import Usage


class _Sum(NamedTuple):
    user_ticks: int = 0
    system_ticks: int = 0
    rss_pages: int = 0
    processes: int = 0
    threads: int = 0


def usage_by_session() -> dict[int, Usage]:
    """What runs, by the pid of the session's leader. One pass over /proc."""
    sums: dict[int, _Sum] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                data = file.read()
        except OSError:  # It has ended.
            continue
        fields = data[data.rindex(b")") + 2 :].split()  # The name before it may hold anything. fields[0] is the third.
        session = int(fields[3])
        had = sums.get(session, _Sum())
        sums[session] = _Sum(
            had.user_ticks + int(fields[11]) + int(fields[13]),
            had.system_ticks + int(fields[12]) + int(fields[14]),
            had.rss_pages + int(fields[21]),
            had.processes + 1,
            had.threads + int(fields[17]),
        )
    tick_s, page = 1 / os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return {
        session: Usage(
            user_s=found.user_ticks * tick_s,
            system_s=found.system_ticks * tick_s,
            mem_bytes=found.rss_pages * page,
            rss_bytes=found.rss_pages * page,
            processes=found.processes,
            threads=found.threads,
        )
        for session, found in sums.items()
    }
