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
from tests.kernel.planning.test_plan import shared


class Master:
    """Answers with a snapshot."""

    def __init__(self, urls: list[str], credential: object) -> None:
        pass

    def get(self, path: str) -> Any:
        assert path == "/allocation"
        return json.loads(codec.encode(shared().snapshot()))


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
    assert "20 cpus guaranteed of 16: IS NOT THERE" in called("--guarantee", "a:cpus=20").output


def test_it_says_what_a_node_takes_with_it() -> None:
    assert "framework f would lose" in called("--lose", "s1").output


def test_it_tells_machines_the_same_and_draws(tmp_path: Path) -> None:
    found = json.loads(called("--demand", "c:5*cpus=1,mem=1g", "--plot", tmp_path / "plan.svg", "--json").output)
    assert [role["role"] for role in found["roles"]] == ["a", "b", "c"]
    assert (tmp_path / "plan.svg").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--guarantee", "cpus=1"), "guarantee: 'cpus=1' is not allowed"),
        (("--guarantee", "a:cpus=x"), "guarantee: 'cpus=x' is no amount"),
        (("--guarantee", "a:cpus=2", "--limit", "a:cpus=1"), "guarantee: that of a for cpus is above its limit"),
        (("--limit", "a b:cpus=1"), "limit"),
        (("--weight", "a=0"), "weight: 'a=0' is not allowed"),
        (("--demand", "a:cpus=1"), "demand: 'a:cpus=1' is not allowed"),
        (("--lose", "nobody"), "there is no node 'nobody'"),
        (("--plot", "plan.bmp"), "'plan.bmp' is not allowed"),
    ],
)
def test_what_it_cannot_read_it_names(arguments: tuple[str, ...], told: str) -> None:
    refused = called(*arguments)
    assert refused.exit_code != 0
    assert told in str(refused.exception)
    assert isinstance(refused.exception, CommandError) or "--plot" in arguments
