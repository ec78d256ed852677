"""docs/conformance.md says what is so: each behaviour has a test that is there, or a reason why it is not."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent.parent
PAGE = (TESTS.parent / "docs/conformance.md").read_text()
BEHAVIOURS_MIN = 120  # What is promised; there are more.


def rows() -> list[tuple[str, str, str]]:
    """(area and behaviour, state, the rest) of each row of each table."""
    found = []
    for section in PAGE.split("\n## ")[1:]:
        area = section.splitlines()[0]
        table = section.split("|---|---|---|")[1]
        found += [(f"{area}: {name}", state, rest) for name, state, rest in re.findall(r"^\| ([^|]+) \| (\w+) \| (.+) \|$", table, re.M)]
    return found


@cache
def defined_in(path: str) -> frozenset[str]:
    """Functions, classes and class::function of a file of tests."""
    found: set[str] = set()
    for node in ast.parse((TESTS / path).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return frozenset(found)


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", PAGE)
    assert named
    assert [f"{path}::{name}" for path, name in named if not (TESTS / path).exists() or name not in defined_in(path)] == []


def test_a_behaviour_that_holds_or_differs_names_its_tests_and_one_that_does_not_says_why() -> None:
    for name, state, rest in rows():
        assert state in ("holds", "differs", "open"), name
        if state != "open":
            assert re.match(r"`[\w/]+\.py::[\w:]+`", rest), name
        if state != "holds":
            assert len(re.sub(r"`[^`]*`", "", rest).split()) > 3, name


def test_enough_behaviours_hold_and_none_is_told_twice() -> None:
    assert [name for name, count in Counter(name for name, _, _ in rows()).items() if count > 1] == []
    assert sum(state == "holds" for _, state, _ in rows()) >= BEHAVIOURS_MIN
