"""When a child runs: what its parents came to, counted per run. Pure and made to be stored: plain values, one record for a child and run.

Jobs below one root share the identity of its run (`nightly@1790000000000`): there a child waits for what its parents came to in
*that* run, whichever runs overtake each other. A job in the middle that is run by hand begins a run of its own, of what is below it.
Parents of different roots have no run in common; their child counts edges as Chronos did (spec: chronos-v1, 7), under the identity "".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum

from msgspec import Struct

from chronos.graph import Graph


class Outcome(Enum):
    """What a parent came to. KILLED is neither success nor failure; SKIPPED: it did not run at all."""

    SUCCESS = "success"
    FAILURE = "failure"
    KILLED = "killed"
    SKIPPED = "skipped"


class Verdict(Enum):
    """RUN: now. NEVER: not in this run, which is a record of its own with its reason. WAIT: too early. DECIDED: it was decided before."""

    RUN = "run"
    NEVER = "never"
    WAIT = "wait"
    DECIDED = "decided"


class Edges(Struct, frozen=True, omit_defaults=True):
    """What is known of a child in one run. outcomes: of its parents, the last of each; counts: how often each counted since the child last
    ran (without a common run only); decided: RUN or NEVER, once it is."""

    outcomes: dict[str, Outcome] = {}
    counts: dict[str, int] = {}
    decided: Verdict | None = None


NOTHING = Edges()


class Decision(Struct, frozen=True):
    """What to do about a child, and what to store. edges None: nothing more is to be kept. reason: of NEVER, for people."""

    verdict: Verdict
    edges: Edges | None
    reason: str = ""


def shares_run(graph: Graph, child: str) -> bool:
    """Whether all parents of a child take part in the same runs: they have one and the same root."""
    return len(graph.roots(child)) == 1


def taking_part(graph: Graph, child: str, identity: str) -> Collection[str]:
    """The parents of a child that take part in a run: all of them in one of their root. In one that was begun further down, by hand, those
    that it began at or that are below: nobody runs the others in it, so nobody waits for them."""
    parents, start = graph.parents(child), identity.partition("@")[0]
    if len(parents) == 1 or start not in graph or start in graph.roots(child):
        return parents
    below = {start, *graph.descendants((start,))}
    return tuple(parent for parent in parents if parent in below) or parents


def report(join: str, parents: Collection[str], edges: Edges, parent: str, outcome: Outcome) -> Decision:
    """A parent has come to an end in a run that all parents of the child share.

    join: `all`, `any`, `onFailure`, `onCompletion`. parents: of the child, as they are now, those that take part.
    """
    outcomes = {name: known for name, known in edges.outcomes.items() if name in parents} | {parent: outcome}
    verdict, reason = (Verdict.DECIDED, "") if edges.decided is not None else _verdict(join, parents, outcomes)
    decided = edges.decided if verdict is Verdict.DECIDED else verdict if verdict is not Verdict.WAIT else None
    over = decided is not None and len(outcomes) == len(parents)
    return Decision(verdict, None if over else Edges(outcomes, {}, decided), reason)


def known_outcomes(outcomes: Iterable[tuple[str, Outcome]]) -> Edges:
    """Edges anew, from a run's history: where it was over, nothing had been kept. For running it again from one of its jobs."""
    return Edges(dict(outcomes))


def count(join: str, parents: Collection[str], edges: Edges, parent: str, outcome: Outcome) -> Decision:
    """A parent without a run in common with the others has come to an end.

    `all`: it runs when the edge that counted now has no more than each other, that is when every parent has succeeded since it last ran;
    `onCompletion` counts each end, whatever it was; `any` and `onFailure` need no counting.
    """
    if join == "any":
        return Decision(Verdict.RUN if outcome is Outcome.SUCCESS else Verdict.WAIT, None)
    if join == "onFailure":
        return Decision(Verdict.RUN if outcome is Outcome.FAILURE else Verdict.WAIT, None)
    counts = {name: number for name, number in edges.counts.items() if name in parents}
    if join == "onCompletion" or outcome is Outcome.SUCCESS:
        counts[parent] = counts.get(parent, 0) + 1
        if counts[parent] == min(counts.get(name, 0) for name in parents):
            return Decision(Verdict.RUN, None)
    return Decision(Verdict.WAIT, Edges({}, counts))


def _verdict(join: str, parents: Collection[str], outcomes: dict[str, Outcome]) -> tuple[Verdict, str]:
    """Decide by what is known so far; early, where the rest can change nothing."""
    succeeded = [name for name, outcome in outcomes.items() if outcome is Outcome.SUCCESS]
    failed = [name for name, outcome in outcomes.items() if outcome is Outcome.FAILURE]
    complete = len(outcomes) == len(parents)
    if join == "onCompletion":
        return (Verdict.RUN if complete else Verdict.WAIT), ""
    if join == "any":
        if succeeded:
            return Verdict.RUN, ""
        return (Verdict.NEVER, "none of its parents succeeded") if complete else (Verdict.WAIT, "")
    if join == "onFailure":
        if failed:
            return Verdict.RUN, ""
        return (Verdict.NEVER, "none of its parents failed") if complete else (Verdict.WAIT, "")
    assert join == "all", join
    for name, outcome in outcomes.items():
        if outcome is not Outcome.SUCCESS:
            return Verdict.NEVER, f"its parent {name} {_ENDS[outcome]}"
    return (Verdict.RUN if complete else Verdict.WAIT), ""


_ENDS = {Outcome.FAILURE: "failed", Outcome.KILLED: "was killed", Outcome.SKIPPED: "was skipped"}
