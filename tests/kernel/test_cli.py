"""The root command: lazy subcommands, exit statuses, errors for people and for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import MESETA

MODULE = '''"""Greet whoever is named."""

import click
from kernel.errors import CallError, ConfigError

print("imported")

@click.command()
@click.option("--name", required=True)
@click.option("--json", is_flag=True)
@click.pass_context
def command(ctx, name, json):
    if name == "refused":
        raise CallError("name: is refused")
    if name == "config":
        raise ConfigError("--name: wrong")
    if name == "elsewhere":
        raise OSError(28, "of another file")
    if name == "seven":
        ctx.exit(7)
    print("hello", name)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """An environment in which another distribution adds the command `greet`."""
    (tmp_path / "greeting.py").write_text(MODULE)
    (tmp_path / "greeting-1.dist-info").mkdir()
    (tmp_path / "greeting-1.dist-info/entry_points.txt").write_text(
        "[console_scripts]\nother = x:y\n\n[meseta.commands]\ngreet = greeting:command\ngone = no_such_module:command\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MESETA, *arguments], env=environ, capture_output=True, text=True, timeout=30, check=False)


def test_help_names_commands_without_importing_them(plugin: dict[str, str]) -> None:
    done = run(plugin, "--help")
    assert done.returncode == 0, done.stderr
    assert "greet" in done.stdout
    assert "Greet whoever is named." in done.stdout
    assert "imported" not in done.stdout
    assert "gone" in done.stdout


def test_a_command_is_imported_when_run(plugin: dict[str, str]) -> None:
    done = run(plugin, "greet", "--name", "you")
    assert (done.returncode, done.stdout) == (0, "imported\nhello you\n")


@pytest.mark.parametrize(
    ("arguments", "status", "error", "field"),
    [
        (["greet"], 2, "Missing option '--name'.", "--name"),
        (["greet", "--nam", "x"], 2, "No such option '--nam'.", "--nam"),
        (["greet", "--name", "refused"], 1, "name: is refused", None),
        (["greet", "--name", "config"], 2, "--name: wrong", None),
        (["nothing"], 2, "No such command 'nothing'.", None),
        (["greet", "--name", "seven"], 7, None, None),
    ],
)
def test_exit_statuses_and_errors(plugin: dict[str, str], arguments: list[str], status: int, error: str | None, field: str | None) -> None:
    for_people, for_programs = run(plugin, *arguments), run(plugin, *arguments, "--json")
    assert for_people.returncode == for_programs.returncode == status
    if error is not None:
        assert f"Error: {error}" in for_people.stderr
        told = json.loads(for_programs.stderr)
        assert set(told) == {"error", "field", "hint"}
        assert told["error"].startswith(error)
        assert told["field"] == field


@pytest.mark.parametrize("arguments", [[], ["serve"]])
def test_a_group_alone_shows_its_help_and_no_error(arguments: list[str]) -> None:
    done = run({}, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == run({}, *arguments, "--help").stdout


def test_json_of_a_task_is_not_ours(plugin: dict[str, str]) -> None:
    """Behind `--` stands a command line of someone else."""
    done = run(plugin, "greet", "--", "--json")
    assert done.returncode == 2
    assert done.stderr.startswith("Usage:")


def test_completion(plugin: dict[str, str]) -> None:
    script = run(plugin, "completion", "bash")
    assert "_MESETA_COMPLETE=bash_complete" in script.stdout
    asked = {**plugin, "_MESETA_COMPLETE": "bash_complete", "COMP_WORDS": "meseta gr", "COMP_CWORD": "1"}
    assert run(asked).stdout == "plain,greet\n"


def test_version() -> None:
    done = run({}, "--version")
    assert done.stdout.startswith("meseta ")
    assert done.returncode == 0


def test_help_imports_neither_the_network_nor_the_messages() -> None:
    """What keeps `--help` at 60 ms."""
    program = (
        "import sys; from kernel.cli import run; run(['--help']); print([m for m in ('aiohttp', 'msgspec', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.endswith("[]\n")


def test_a_reader_that_has_seen_enough_is_no_crash() -> None:
    done = subprocess.run(f"{' '.join(MESETA)} --help | true", shell=True, capture_output=True, text=True, timeout=30, check=False)  # noqa: S602
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", ["greet --name you", "--help", "greet --json --name you"])
def test_output_that_cannot_be_written_is_told_in_one_line(plugin: dict[str, str], arguments: str, buffered: bool) -> None:
    environ = plugin if buffered else {**plugin, "PYTHONUNBUFFERED": "1"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*MESETA, *arguments.split()], env=environ, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    told = json.loads(done.stderr)["error"] if "--json" in arguments else done.stderr.removeprefix("Error: ").removesuffix("\n")
    assert (done.returncode, told) == (1, "cannot write the output: No space left on device")


def test_other_errors_of_the_system_are_bugs(plugin: dict[str, str]) -> None:
    done = run(plugin, "greet", "--name", "elsewhere")
    assert done.returncode == 1
    assert "OSError: [Errno 28] of another file" in done.stderr


def test_a_closed_stdout_is_no_crash(plugin: dict[str, str]) -> None:
    command = f"{' '.join(MESETA)} greet --name you >&-"
    done = subprocess.run(command, shell=True, env=plugin, stderr=subprocess.PIPE, text=True, timeout=30, check=False)  # noqa: S602
    assert (done.returncode, done.stderr) == (0, "")
