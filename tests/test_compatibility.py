"""docs/compatibility.md says what is so: its tables are complete, and a running cluster answers as they say."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from kernel.wire import agent_operator, executor, operator, scheduler
from tests.cluster import Cluster

PAGE = (Path(__file__).parent.parent / "docs/compatibility.md").read_text()
STATES = {"done", "differs", "not yet"}
NOT_THERE = {404, 501}


def rows(section: str, kind: str) -> dict[str, str]:
    """The table of a section whose first column is headed `kind`: name -> state."""
    text = PAGE.split(f"\n## {section}")[1].split("\n## ")[0]
    table = text.split(f"| {kind} | state | remarks |\n")[1].split("\n\n")[0]
    return dict(re.findall(r"^\| ([^ |-]\S*) \| ([^|]+) \|", table, re.MULTILINE))


def parts(message: type[msgspec.Struct]) -> set[str]:
    """The types of an envelope that have a body: its fields."""
    return {field.name.upper() for field in msgspec.structs.fields(message)} - {"TYPE", "FRAMEWORK_ID", "EXECUTOR_ID"}


@pytest.mark.parametrize(
    ("section", "kind", "message", "bare"),
    [
        ("Scheduler API", "call", scheduler.Call, {"TEARDOWN"}),
        ("Scheduler API", "event", scheduler.Event, {"HEARTBEAT"}),
        ("Executor API", "call", executor.Call, {"HEARTBEAT"}),
        ("Executor API", "event", executor.Event, {"HEARTBEAT", "SHUTDOWN"}),
        ("Operator API of the master", "event", operator.Event, {"HEARTBEAT"}),
    ],
)
def test_each_type_has_its_row(section: str, kind: str, message: type[msgspec.Struct], bare: set[str]) -> None:
    assert rows(section, kind).keys() == parts(message) | bare


@pytest.mark.parametrize(("section", "message"), [("of the master", operator.Call), ("of the agent", agent_operator.Call)])
def test_each_operator_call_has_its_row(section: str, message: type[msgspec.Struct]) -> None:
    assert parts(message) <= rows(f"Operator API {section}", "call").keys()


def test_states_are_of_three_kinds() -> None:
    assert set(re.findall(r"^\| \S+ \| ([^|]+) \|", PAGE, re.MULTILINE)) - {"state", "---"} <= STATES


def status(url: str, method: str, path: str, body: object = None) -> int:
    """The status of an answer; what follows, be it an endless stream, is not read."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.e2e
@pytest.mark.parametrize(("daemon", "title"), [("master", "Operator API of the master"), ("agent-1", "Operator API of the agent")])
def test_operator_calls_are_answered_as_the_page_says(cluster: Cluster, daemon: str, title: str) -> None:
    """With nothing but their type, those that are built complain at most of what is missing."""
    for name, state in rows(title, "call").items():
        answered = status(cluster.urls[daemon], "POST", "/api/v1", {"type": name})
        assert (answered == 501) == (state == "not yet"), f"{name}: {answered}"


@pytest.mark.e2e
@pytest.mark.parametrize(("daemon", "title"), [("master", "Older endpoints of the master"), ("agent-1", "Older endpoints of the agent")])
def test_older_endpoints_are_there_as_the_page_says(cluster: Cluster, daemon: str, title: str) -> None:
    for path, state in rows(title, "path").items():
        answered = {status(cluster.urls[daemon], method, path) for method in ("GET", "POST")}
        assert bool(answered & NOT_THERE and not answered & {200, 307}) == (state == "not yet"), f"{path}: {answered}"
