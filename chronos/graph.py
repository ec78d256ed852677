"""Who depends on whom: a graph of jobs without cycles, by name. Pure; what a finished parent sets off is decided in `joins.py`.

Walks are iterative, as a chain may be as long as there are jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import msgspec
from msgspec import UNSET

from chronos.extension import nearest
from chronos.job import Job
from kernel.errors import CallError

_SHOWN_MAX = 50  # Jobs of a cycle that an error shows.


class Graph:
    """Jobs and their parents. Changes refuse what would close a cycle or hang in the air, and then leave nothing behind."""

    def __init__(self, jobs: Mapping[str, Collection[str]] | None = None) -> None:
        """jobs: the parents of each, in any order. Raises CallError at the first that is wrong."""
        self._parents: dict[str, tuple[str, ...]] = {}
        self._children: dict[str, dict[str, None]] = {}  # Ordered; of those that have any: most jobs of many have none.
        self._roots: dict[str, frozenset[str]] = {}
        jobs = jobs or {}
        for name, parents in jobs.items():
            self._parents[name] = ()
            self._check_known(name, parents, jobs)
        for name, parents in jobs.items():
            self._connect(name, tuple(parents))
        tied = [name for name, parents in jobs.items() if parents]
        order = self.order(tied)
        if len(order) < len(tied):
            raise _cycle(self._circle(set(tied) - set(order)))

    def __contains__(self, name: str) -> bool:
        return name in self._parents

    def __len__(self) -> int:
        return len(self._parents)

    def parents(self, name: str) -> tuple[str, ...]:
        return self._parents[name]

    def children(self, name: str) -> tuple[str, ...]:
        return tuple(self._children.get(name, ()))

    def put(self, name: str, parents: Collection[str] = ()) -> None:
        """Add a job, or give one other parents. Raises CallError naming a missing parent or the cycle."""
        self._check_known(name, parents, self._parents)
        path = self.path(name, parents)
        if path is not None:
            raise _cycle([*path, name])
        self._disconnect(name)
        self._connect(name, tuple(parents))

    def remove(self, name: str) -> None:
        """Take a job out. What its children become is for `without`."""
        self._roots.clear()
        self._disconnect(name)
        for child in self._children.pop(name, ()):
            self._parents[child] = tuple(parent for parent in self._parents[child] if parent != name)
        del self._parents[name]

    def path(self, start: str, ends: Collection[str]) -> list[str] | None:
        """A way from a job down to one of others, both in it; None when there is none."""
        if start in ends:
            return [start]
        came_from: dict[str, str] = {}
        waiting = [start]
        while waiting:
            name = waiting.pop()
            for child in self._children.get(name, ()):
                if child in came_from:
                    continue
                came_from[child] = name
                if child in ends:
                    way = [child]
                    while way[-1] != start:
                        way.append(came_from[way[-1]])
                    return way[::-1]
                waiting.append(child)
        return None

    def descendants(self, names: Iterable[str]) -> list[str]:
        """All that depends on some jobs, near or far, without these (unless one depends on another), parents before children."""
        found: dict[str, None] = {}
        waiting = list(names)
        while waiting:
            for child in self._children.get(waiting.pop(), ()):
                if child not in found:
                    found[child] = None
                    waiting.append(child)
        return self.order(found)

    def roots(self, name: str) -> frozenset[str]:
        """The jobs without parents that a job depends on, near or far; itself when it has none. Remembered until the graph changes."""
        waiting = [name]
        while waiting:
            at = waiting[-1]
            if at in self._roots:
                waiting.pop()
                continue
            parents = self._parents[at]
            unknown = [parent for parent in parents if parent not in self._roots]
            if unknown:
                waiting += unknown
            else:
                found = {self._roots[parent] for parent in parents} or {frozenset((at,))}
                self._roots[at] = next(iter(found)) if len(found) == 1 else frozenset().union(*found)
        return self._roots[name]

    def order(self, among: Collection[str] | None = None) -> list[str]:
        """Parents before children, of all jobs or of some; jobs in a cycle are left out (there is none but while loading)."""
        names = self._parents if among is None else among
        inside = set(names)
        missing = {name: sum(parent in inside for parent in self._parents[name]) for name in names}
        ready = [name for name in names if missing[name] == 0]
        ordered: list[str] = []
        while ready:
            following: list[str] = []
            for name in ready:
                ordered.append(name)
                for child in self._children.get(name, ()):
                    if child in missing:
                        missing[child] -= 1
                        if missing[child] == 0:
                            following.append(child)
            ready = following
        return ordered

    def links(self) -> Iterator[tuple[str, str]]:
        """All (parent, child)."""
        for parent, children in self._children.items():
            for child in children:
                yield parent, child

    def _check_known(self, name: str, parents: Collection[str], known: Collection[str]) -> None:
        for parent in parents:
            if parent == name:
                raise _cycle([name, name])
            if parent not in known:
                raise CallError(f"parents: {name} names the parent {parent[:100]!r}, which does not exist{nearest(parent, known)}")

    def _connect(self, name: str, parents: tuple[str, ...]) -> None:
        self._roots.clear()
        self._parents[name] = parents
        for parent in parents:
            self._children.setdefault(parent, {})[name] = None

    def _disconnect(self, name: str) -> None:
        for parent in self._parents.get(name, ()):
            siblings = self._children.get(parent)
            if siblings is not None:
                siblings.pop(name, None)
                if not siblings:
                    del self._children[parent]

    def _circle(self, cyclic: set[str]) -> list[str]:
        """One cycle among jobs that `order` left out: each of them has a parent there, so going up comes round."""
        at = min(cyclic)
        way: dict[str, int] = {}
        while at not in way:
            way[at] = len(way)
            at = next(parent for parent in self._parents[at] if parent in cyclic)
        circle = list(way)[way[at] :]
        return [circle[0], *reversed(circle)]


def _cycle(path: list[str]) -> CallError:
    shown = path if len(path) <= _SHOWN_MAX else [*path[: _SHOWN_MAX - 1], "...", path[-1]]
    return CallError(f"parents: they close a cycle: {' -> '.join(shown)}")


# ---- Deleting -------------------------------------------------------------------------------------------


def without(job: Job, children: Iterable[Job]) -> list[Job]:
    """What the children of a job become when it is deleted (spec: chronos-v1, 2.6, without its losses).

    A dependent job's own parents take its place. Of a scheduled one, children that have other parents stay with these, others take
    over its schedule, zone and what `meseta` says of when it runs; all their other fields stay.
    """
    return [_orphaned(job, child) for child in children]


def _orphaned(job: Job, child: Job) -> Job:
    others = tuple(parent for parent in child.parent_names if parent != job.name)
    inherited = tuple(parent for parent in job.parent_names if parent not in others)
    if others or inherited:
        return msgspec.structs.replace(child, parents=others + inherited)
    when = {field: getattr(job.more, field) for field in ("start", "end", "calendar", "jitter", "dst")}
    told = job.meseta is UNSET and child.meseta is UNSET
    return msgspec.structs.replace(
        child,
        parents=UNSET,
        schedule=job.schedule,
        schedule_time_zone=job.schedule_time_zone,
        meseta=UNSET if told else msgspec.structs.replace(child.more, **when),
    )


# ---- Showing --------------------------------------------------------------------------------------------


def dot(graph: Graph) -> str:
    """Graphviz, as Chronos wrote it: vertices numbered from 1, then parent -> child."""
    numbers = {name: number for number, name in enumerate(graph.order(), 1)}
    vertices = [f'  {number} [ label="{name}" ];' for name, number in numbers.items()]
    edges = [f"  {numbers[parent]} -> {numbers[child]};" for parent, child in graph.links()]
    return "\n".join(["digraph G {", *vertices, *edges, "}", ""])


def csv(graph: Graph, states: Callable[[str], tuple[str, str]]) -> str:
    """`node,NAME,LAST,CURRENT` and `link,PARENT,CHILD` lines. states: the last and the current state of a job (`fresh`, `idle`...)."""
    nodes = [",".join(("node", name, *states(name))) for name in graph.order()]
    links = [f"link,{parent},{child}" for parent, child in graph.links()]
    return "".join(f"{line}\n" for line in nodes + links)
