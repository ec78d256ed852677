"""`meseta simulate` as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kernel.commands.context import CommandError
from kernel.commands.simulate import simulate

HEADER = "arrival,role,framework,shape,duration,tasks"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(f"{HEADER}\n0,a,f,cpus=1,10,8\n0,b,g,cpus=1,10,2\n")
    return path


def called(*arguments: object) -> Result:
    return CliRunner().invoke(simulate, [str(argument) for argument in arguments], catch_exceptions=False)


def test_it_tells_how_long_kinds_took_and_roles_waited(trace: Path) -> None:
    shown = called(trace, "--cluster", "4*cpus=1", "--alone").output
    assert [line.split() for line in shown.splitlines()][1] == ["f", "1", "8", "30", "s", "10", "s", "40", "s", "1.33x"]
    assert "over after 30 s; used on average: cpus 83%" in shown


def test_it_tells_machines_the_same(trace: Path) -> None:
    found = json.loads(called(trace, "--cluster", "4*cpus=1", "--json").output)
    assert found["kinds"]["g"] == {"jobs": 1, "tasks": 2, "completion_s": 10, "wait_mean_s": 0}


@pytest.mark.parametrize("name", ["picture.png", "picture.svg"])
def test_it_draws(trace: Path, tmp_path: Path, name: str) -> None:
    called(trace, "--cluster", "4*cpus=1", "--plot", tmp_path / name)
    assert (tmp_path / name).stat().st_size > 5_000


def test_what_it_cannot_draw_or_read_it_names(trace: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    refused = runner.invoke(simulate, [str(trace), "--cluster", "4*cpus=1", "--plot", str(tmp_path / "picture.bmp")])
    assert "picture.bmp" in str(refused.exception)
    trace.write_text(f"{HEADER}\n0,a,f,cpus=1,10,none\n")
    refused = runner.invoke(simulate, [str(trace), "--cluster", "4*cpus=1"])
    assert isinstance(refused.exception, CommandError)
    assert "line 2: tasks: 'none'" in str(refused.exception)
    refused = runner.invoke(simulate, [str(trace), "--cluster", "4*cpus=1", "--weight", "a=0"])
    assert (refused.exit_code, "--weight: 'a=0' is not allowed" in refused.output) == (2, True)
    refused = runner.invoke(simulate, [str(trace), "--cluster", "4*cpus=0"])
    assert (refused.exit_code, "--cluster: an agent of '4*cpus=0' has nothing" in refused.output) == (2, True)


def test_quotas_hold_as_an_operator_would_set_them(trace: Path) -> None:
    limited = json.loads(called(trace, "--cluster", "4*cpus=1", "--limit", "a:cpus=2", "--json").output)
    assert limited["kinds"]["f"]["completion_s"] == 40
    kept = json.loads(called(trace, "--cluster", "4*cpus=1", "--guarantee", "b:cpus=2", "--json").output)
    assert kept["kinds"]["g"] == {"jobs": 1, "tasks": 2, "completion_s": 10, "wait_mean_s": 0}


@pytest.mark.parametrize(
    ("option", "text", "says"),
    [
        ("--limit", "cpus=2", "--limit: 'cpus=2' is not allowed; ROLE:AMOUNTS is due"),
        ("--limit", "a b:cpus=2", "limit"),
        ("--guarantee", "a:cpus=-1", "--guarantee: 'cpus=-1' is no amount"),
        ("--guarantee", "a:2", "--guarantee: '2' is no amount"),
    ],
)
def test_quotas_that_are_none_are_named(trace: Path, option: str, text: str, says: str) -> None:
    refused = CliRunner().invoke(simulate, [str(trace), "--cluster", "4*cpus=1", option, text])
    assert refused.exit_code == 2
    assert says in refused.output
