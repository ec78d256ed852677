"""When a child runs, by what its parents come to, in the order they come to it."""

from __future__ import annotations

from itertools import permutations, product

import msgspec
import pytest

from chronos.extension import JOINS
from chronos.graph import Graph
from chronos.joins import NOTHING, Decision, Edges, Outcome, Verdict, count, known_outcomes, report, shares_run, taking_part

SUCCESS, FAILURE, KILLED, SKIPPED = Outcome.SUCCESS, Outcome.FAILURE, Outcome.KILLED, Outcome.SKIPPED
RUN, NEVER, WAIT, DECIDED = Verdict.RUN, Verdict.NEVER, Verdict.WAIT, Verdict.DECIDED
PARENTS = ("a", "b")


def told(join: str, *reports: tuple[str, Outcome], parents: tuple[str, ...] = PARENTS) -> list[Verdict]:
    return [decision.verdict for decision in decisions(join, *reports, parents=parents)]


def decisions(join: str, *reports: tuple[str, Outcome], parents: tuple[str, ...] = PARENTS) -> list[Decision]:
    edges, made = NOTHING, []
    for parent, outcome in reports:
        made.append(report(join, parents, edges, parent, outcome))
        edges = made[-1].edges or NOTHING
    return made


@pytest.mark.parametrize(
    ("join", "first", "second", "verdicts"),
    [
        ("all", SUCCESS, SUCCESS, [WAIT, RUN]),
        ("all", SUCCESS, FAILURE, [WAIT, NEVER]),
        ("all", FAILURE, SUCCESS, [NEVER, DECIDED]),
        ("all", KILLED, SUCCESS, [NEVER, DECIDED]),
        ("all", SUCCESS, SKIPPED, [WAIT, NEVER]),
        ("any", SUCCESS, SUCCESS, [RUN, DECIDED]),
        ("any", FAILURE, SUCCESS, [WAIT, RUN]),
        ("any", FAILURE, KILLED, [WAIT, NEVER]),
        ("onFailure", FAILURE, FAILURE, [RUN, DECIDED]),
        ("onFailure", SUCCESS, FAILURE, [WAIT, RUN]),
        ("onFailure", KILLED, SKIPPED, [WAIT, NEVER]),
        ("onCompletion", FAILURE, SUCCESS, [WAIT, RUN]),
        ("onCompletion", KILLED, SKIPPED, [WAIT, RUN]),
    ],
)
def test_joins(join: str, first: Outcome, second: Outcome, verdicts: list[Verdict]) -> None:
    assert told(join, ("a", first), ("b", second)) == verdicts


@pytest.mark.parametrize("join", JOINS)
def test_each_run_of_a_child_is_decided_once_whatever_the_order(join: str) -> None:
    """Three parents, all outcomes, all orders: one of RUN and NEVER, the same in each order; and in the end nothing is kept."""
    parents = ("a", "b", "c")
    for outcomes in product(Outcome, repeat=3):
        seen = set()
        for order in permutations(zip(parents, outcomes, strict=True)):
            made = decisions(join, *order, parents=parents)
            final = [decision.verdict for decision in made if decision.verdict in (RUN, NEVER)]
            assert len(final) == 1
            assert made[-1].edges is None
            seen.add(final[0])
        assert len(seen) == 1


def test_the_reason_names_the_parent() -> None:
    assert decisions("all", ("a", FAILURE))[0].reason == "its parent a failed"
    assert decisions("all", ("b", KILLED))[0].reason == "its parent b was killed"


def test_a_parent_told_twice_changes_nothing() -> None:
    assert told("all", ("a", SUCCESS), ("a", SUCCESS), ("b", SUCCESS)) == [WAIT, WAIT, RUN]


def test_running_again_from_a_failed_parent() -> None:
    """a failed, so the child was skipped; a runs again in the same run, with what b came to still known."""
    assert report("all", PARENTS, known_outcomes([("b", SUCCESS)]), "a", SUCCESS).verdict is RUN
    assert report("all", PARENTS, known_outcomes([]), "a", SUCCESS).verdict is WAIT


def test_a_parent_taken_away_is_not_waited_for() -> None:
    edges = decisions("all", ("a", SUCCESS))[0].edges
    assert edges is not None
    assert report("all", ("b",), edges, "b", SUCCESS).verdict is RUN


# ---- Counted --------------------------------------------------------------------------------------------


def counted(join: str, *reports: tuple[str, Outcome]) -> list[Verdict]:
    edges, made = NOTHING, []
    for parent, outcome in reports:
        decision = count(join, PARENTS, edges, parent, outcome)
        edges = decision.edges or NOTHING
        made.append(decision.verdict)
    return made


def test_without_a_common_run_each_parent_must_have_succeeded_since_the_child_last_ran() -> None:
    hourly, daily = ("a", SUCCESS), ("b", SUCCESS)
    assert counted("all", hourly, hourly, hourly, daily, hourly, daily) == [WAIT, WAIT, WAIT, RUN, WAIT, RUN]
    assert counted("all", daily, hourly, ("a", FAILURE), daily, hourly) == [WAIT, RUN, WAIT, WAIT, RUN]
    assert counted("onCompletion", ("a", FAILURE), ("b", KILLED)) == [WAIT, RUN]
    assert counted("any", hourly, ("a", FAILURE), daily) == [RUN, WAIT, RUN]
    assert counted("onFailure", hourly, ("b", FAILURE)) == [WAIT, RUN]


def test_who_shares_a_run() -> None:
    graph = Graph({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "z": (), "e": ("d", "z")})
    assert [shares_run(graph, name) for name in ("b", "d", "e")] == [True, True, False]


def test_who_takes_part_in_a_run() -> None:
    """a -> b, c; b, c -> d; d, c -> e: all in a run of a; in one that was begun at b or d, what is below it."""
    graph = Graph({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ("d", "c")})
    for identity, parents in {"a@1": {"b", "c"}, "b@1": {"b"}, "c@1": {"c"}, "gone@1": {"b", "c"}}.items():
        assert set(taking_part(graph, "d", identity)) == parents, identity
    assert set(taking_part(graph, "e", "b@1~2")) == set(taking_part(graph, "e", "d@1")) == {"d"}
    assert set(taking_part(graph, "e", "c@1")) == {"d", "c"}
    assert tuple(taking_part(graph, "b", "b@1")) == ("a",)


def test_edges_can_be_stored() -> None:
    for edges in (NOTHING, Edges({"a": FAILURE}, {}, NEVER), Edges({}, {"b": 3}, None)):
        assert msgspec.json.decode(msgspec.json.encode(edges), type=Edges) == edges
