"""`meseta plan` as a person calls it, before a master that answers with a snapshot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kernel.commands import plan as command
from kernel.commands.context import CommandError
from kernel.wire import codec
from tests.kernel.commands.cluster import agent
from tests.kernel.planning.test_plan import shared


class Master:
    """Answers with a snapshot."""

    def __init__(self, urls: list[str], credential: object) -> None:
        pass

    def get(self, path: str) -> Any:
        assert path == "/allocation"
        return json.loads(codec.encode(shared().snapshot()))

    def call(self, type_: str) -> Any:
        assert type_ == "GET_AGENTS"
        return {"agents": [agent(one.id, one.hostname) for one in shared().snapshot().agents]}


@pytest.fixture(autouse=True)
def master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Master", Master)


def called(*arguments: object) -> Result:
    return CliRunner().invoke(command.plan, ["--master", "http://127.0.0.1:1", *map(str, arguments)])


def test_it_says_who_gains_and_who_loses() -> None:
    lines = called("--weight", "b=3").output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["a", "b"]
    assert lines[1].endswith("50.0% -> 25.0%  loses")
    assert lines[2].endswith("50.0% -> 75.0%  gains")


def test_it_says_whether_what_is_guaranteed_is_there() -> None:
    assert "cpus: 20 guaranteed of 16: IS NOT THERE" in called("--guarantee", "a:cpus=20").output


def test_it_says_what_a_node_takes_with_it() -> None:
    assert "framework f would lose" in called("--lose", "s1").output


def test_it_tells_machines_the_same_and_draws(tmp_path: Path) -> None:
    found = json.loads(called("--demand", "c:5*cpus=1,mem=1g", "--plot", tmp_path / "plan.svg", "--json").output)
    assert [role["role"] for role in found["roles"]] == ["a", "b", "c"]
    assert (tmp_path / "plan.svg").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--guarantee", "cpus=1"), "--guarantee: 'cpus=1' is not allowed; ROLE:AMOUNTS is due"),
        (("--guarantee", "a:cpus=x"), "--guarantee: 'cpus=x' is no amount"),
        (("--guarantee", "a:cpus=1.2345"), "--guarantee: 'cpus=1.2345' is too precise"),
        (("--limit", "a:cpus=2000000000000"), "--limit: 2000000000000.0 is not allowed; a number from 0 to 1000000000000 is"),
        (("--guarantee", "a:cpus=2", "--limit", "a:cpus=1"), "--guarantee: 2 cpus of 'a' is above its limit, 1"),
        (("--limit", "a:cpus=1", "--limit", "a:mem=1g"), "--limit: 'a' is given twice"),
        (("--weight", "a=1", "--weight", "a=2"), "--weight: 'a' is given twice"),
        (("--limit", "a b:cpus=1"), "--limit: the role 'a b' must not contain white space"),
        (("--no-quota", "a b"), "--no-quota: the role 'a b' must not contain white space"),
        *((("--weight", text), f"--weight: '{text}' is not allowed; ROLE=NUMBER is due") for text in ("a=0", "a=nan", "a=1e30", "a")),
        (("--demand", "a:cpus=1"), "--demand: 'a:cpus=1' is not allowed; ROLE:N*AMOUNTS is due"),
        (("--demand", "a:2*cpus=0"), "--demand: 'a:2*cpus=0' asks for nothing"),
        (("--plot", "plan.bmp"), "'plan.bmp' is not allowed"),
    ],
)
def test_what_it_cannot_read_is_wrong_usage(arguments: tuple[str, ...], told: str) -> None:
    refused = called(*arguments)
    assert (refused.exit_code, told in f"{refused.output}{refused.exception}") == (2 if "--plot" not in arguments else 1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--lose", "nobody"), "there is no node 'nobody'"),
        (("--limit", "a:cpus=1", "--limit", "a/b:cpus=2"), "limits.cpus of 'a/b': 2 is above 1, the limit of 'a'"),
        (("--guarantee", "a:cpu=1"), "guarantees.cpu of 'a': no agent has such a scalar resource; allowed are cpus, "),
        (("--no-quota", "nobody"), "role: 'nobody' has no quota"),
    ],
)
def test_what_the_master_would_refuse_it_refuses(arguments: tuple[str, ...], told: str) -> None:
    refused = called(*arguments)
    assert isinstance(refused.exception, CommandError)
    assert told in str(refused.exception)
