"""Which sandboxes may go, and when it is worth to look for them (spec: mesos-v1, section 8.5). Values only: it touches no disk.

A sandbox's age is counted from its last change (ctime, which a task cannot set). Those in use are touched at each look, so an
ended one is as old as its end, also after a restart of the agent or of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

LOOKS_PER_DELAY = 50  # The disk is searched at most so often in the time a sandbox stays: it is removed up to 2 % late.


class Sandbox(NamedTuple):
    """One on the disk. changed_s: wall clock. parent: the sandbox that it lies in, if it is a nested one."""

    path: str
    changed_s: float
    parent: str | None = None


class InUse(Struct, frozen=True):
    """What must stay: the sandboxes of all that runs or whose end is not acknowledged. parents: those of default executors, in which
    others are nested. agent_id: the present one, empty before it has any."""

    sandboxes: frozenset[str] = frozenset()
    parents: frozenset[str] = frozenset()
    agent_id: str = ""


class Verdict(NamedTuple):
    """expired: oldest first. left: how many have ended and stay for now; oldest_s: when the oldest of them changed, None for none."""

    expired: list[Sandbox]
    left: int
    oldest_s: float | None


def disk_usage(blocks: int, free: int, inodes: int, free_inodes: int) -> float:
    """How full a file system is, from 0 to 1: by blocks or inodes, whatever is scarcer (Mesos: by blocks)."""
    by_blocks = 1 - free / blocks if blocks else 0.0
    by_inodes = 1 - free_inodes / inodes if inodes else 0.0  # Some file systems count none.
    return max(0.0, by_blocks, by_inodes)


def removal_age_s(gc_delay_s: float, headroom: float, usage: float, interval_s: float) -> float:
    """The age at which a sandbox goes: the fuller the disk, the less. However full, at least two looks apart, so that whoever
    follows a task has time to read its end; unless gc_delay itself is less."""
    return max(gc_delay_s * max(0.0, 1 - headroom - usage), min(gc_delay_s, 2 * interval_s))


def judge(found: Iterable[Sandbox], in_use: InUse, age_s: float, now_s: float) -> Verdict:
    """Decide what goes. found: listed before in_use was asked for, so that none of it can have been put to use since (each run has a
    sandbox of its own). A nested one is judged only while its parent is in use: otherwise it goes with that."""
    ended = [
        sandbox
        for sandbox in found
        if sandbox.path not in in_use.sandboxes and (sandbox.parent is None or sandbox.parent in in_use.sandboxes)
    ]
    expired = sorted((sandbox for sandbox in ended if sandbox.changed_s + age_s <= now_s), key=lambda sandbox: sandbox.changed_s)
    younger = [sandbox.changed_s for sandbox in ended if sandbox.changed_s + age_s > now_s]
    return Verdict(expired, len(younger), min(younger, default=None))


class Search(Struct, frozen=True):
    """The last search of the disk: when, and the earliest change that it left or that can have come since."""

    at_s: float
    oldest_s: float

    @staticmethod
    def done(verdict: Verdict, at_s: float) -> Search:
        return Search(at_s, at_s if verdict.oldest_s is None else min(at_s, verdict.oldest_s))


def search_is_due(last: Search | None, age_s: float, now_s: float) -> bool:
    """Whether to search again. Looks cost little, searches pass over all there is: so only when something can be old enough."""
    if last is None or now_s < last.at_s:  # The clock was put back.
        return True
    return last.oldest_s + age_s <= now_s and last.at_s + age_s / LOOKS_PER_DELAY <= now_s
