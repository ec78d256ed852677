"""The graph of jobs: what it refuses, in which order it is walked, what deleting does, and how it is shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from chronos.extension import nearest
from chronos.graph import Graph, csv, dot, without
from chronos.job import Job, job_of
from kernel.errors import CallError

DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ("d",)}


def job(name: str, **fields: Any) -> Job:
    return job_of({"name": name, **fields})


# ---- Refused --------------------------------------------------------------------------------------------


def test_a_cycle_is_printed() -> None:
    graph = Graph(DIAMOND)
    with pytest.raises(CallError, match="parents: they close a cycle: b -> d -> e -> b"):
        graph.put("b", ["e"])
    with pytest.raises(CallError, match="a cycle: x -> x"):
        graph.put("x", ["x"])


def test_what_was_refused_leaves_nothing_behind() -> None:
    graph = Graph(DIAMOND)
    for name, parents in (("b", ["e"]), ("new", ["a", "missing"])):
        with pytest.raises(CallError):
            graph.put(name, parents)
    assert list(graph.links()) == list(Graph(DIAMOND).links())
    assert "new" not in graph


def test_of_many_names_few_are_compared_with_a_wrong_one() -> None:
    """In a scheduler with a million jobs nobody waits for that."""
    many = [*(f"other-{number}" for number in range(10_000)), *(f"import_{number}" for number in range(10_000)), "import_users"]
    assert nearest("other-1x", many).startswith("; did you mean other-")
    assert nearest("import_userz", many[:1000] + many[-1:]) == "; did you mean import_users?"
    assert nearest("imbort_users", many) == ""


def test_a_missing_parent_is_named_with_the_nearest() -> None:
    with pytest.raises(
        CallError, match=r"parents: later names the parent 'import_user', which does not exist; did you mean import_users\?"
    ):
        Graph({"import_users": ()}).put("later", ["import_user"])


def test_loading_refuses_the_same() -> None:
    with pytest.raises(CallError, match="a cycle: b -> c -> d -> b"):
        Graph({"a": (), "b": ("a", "d"), "c": ("b",), "d": ("c",), "e": ("d",)})
    with pytest.raises(CallError, match="'z', which does not exist"):
        Graph({"a": (), "b": ("z",)})
    with pytest.raises(CallError, match="a cycle: a -> a"):
        Graph({"a": ("a",)})


def test_a_long_cycle_is_shown_in_part() -> None:
    names = [f"j{number}" for number in range(5_000)]
    graph = Graph({name: (names[index - 1],) if index else () for index, name in enumerate(names)})
    with pytest.raises(CallError) as raised:
        graph.put("j0", ["j4999"])
    assert "j0 -> j1 -> " in str(raised.value)
    assert str(raised.value).endswith("-> ... -> j0")
    assert len(str(raised.value)) < 1000


# ---- Walked ---------------------------------------------------------------------------------------------


def test_order_descendants_and_roots() -> None:
    graph = Graph({**DIAMOND, "other": (), "f": ("other", "d")})
    assert graph.order() == ["a", "other", "b", "c", "d", "e", "f"]
    assert graph.descendants(["b"]) == ["d", "e", "f"]
    assert graph.descendants(["a", "e"]) == ["b", "c", "d", "e", "f"]
    assert graph.descendants(["f"]) == []
    assert graph.roots("e") == {"a"}
    assert graph.roots("f") == {"a", "other"}
    assert graph.roots("other") == {"other"}
    graph.put("b", ["other"])
    assert graph.roots("e") == {"a", "other"}


def test_parents_change_and_jobs_go() -> None:
    graph = Graph(DIAMOND)
    graph.put("d", ["b"])
    assert graph.children("c") == ()
    graph.remove("b")
    assert graph.parents("d") == ()
    assert len(graph) == 4
    graph.put("a", ["d"])  # No cycle any more.
    assert graph.roots("c") == {"d"}


@given(st.lists(st.tuples(st.integers(0, 7), st.sets(st.integers(0, 7), max_size=3)), max_size=25))
def test_whatever_is_put_there_is_an_order(changes: list[tuple[int, set[int]]]) -> None:
    graph = Graph()
    for number, parents in changes:
        before = list(graph.links())
        try:
            graph.put(f"j{number}", sorted(f"j{parent}" for parent in parents))
        except CallError:
            assert list(graph.links()) == before
    order = graph.order()
    assert len(order) == len(graph)
    assert all(order.index(parent) < order.index(child) for parent, child in graph.links())
    for name in order:
        below = graph.descendants([name])
        assert {other for other in order if graph.path(name, [other]) and other != name} == set(below)
        assert graph.roots(name) == {root for root in order if not graph.parents(root) and graph.path(root, [name])}


# ---- Deleting -------------------------------------------------------------------------------------------


def test_parents_of_a_deleted_dependent_job_take_its_place() -> None:
    child = job("d", parents=["b", "c"], owner="me")
    (changed,) = without(job("b", parents=["a", "c"]), [child])
    assert changed.parents == ("c", "a")
    assert changed.owner == "me"


def test_children_of_a_deleted_scheduled_job_take_over_its_schedule_and_keep_all_else() -> None:
    parent = job("a", schedule="0 3 * * *", scheduleTimeZone="Europe/Berlin", meseta={"jitter": "5m", "overlap": "skip"})
    kept = {"command": "x", "ownerName": "o", "description": "d", "runAsUser": "u", "concurrent": True, "arguments": ["1"]}
    (changed,) = without(
        parent, [job("b", parents=["a"], environmentVariables=[{"name": "A", "value": "b"}], meseta={"timeout": 5}, **kept)]
    )
    assert (changed.parents, changed.schedule, changed.schedule_time_zone) == (UNSET, "0 3 * * *", "Europe/Berlin")
    assert (changed.command, changed.owner_name, changed.description, changed.run_as_user) == ("x", "o", "d", "u")
    assert (changed.concurrent, changed.arguments, len(changed.environment_variables)) == (True, ("1",), 1)
    assert (changed.more.jitter, changed.more.timeout, changed.more.overlap) == ("5m", 5, "")


def test_a_child_with_other_parents_stays_dependent() -> None:
    (changed,) = without(job("a", schedule="@daily"), [job("c", parents=["a", "b"])])
    assert changed == job("c", parents=["b"])


def test_a_child_that_says_nothing_more_still_does_not() -> None:
    (changed,) = without(job("a", schedule="@daily"), [job("c", parents=["a"])])
    assert changed == job("c", schedule="@daily")


# ---- Showing --------------------------------------------------------------------------------------------


def test_dot() -> None:
    assert dot(Graph({"a": (), "b": ("a",)})) == 'digraph G {\n  1 [ label="a" ];\n  2 [ label="b" ];\n  1 -> 2;\n}\n'


def test_csv() -> None:
    states = {"a": ("success", "idle"), "b": ("fresh", "2 running")}
    assert csv(Graph({"a": (), "b": ("a",)}), states.__getitem__) == "node,a,success,idle\nnode,b,fresh,2 running\nlink,a,b\n"
