"""The command line of `meseta serve`: the flags of Mesos in all their spellings."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import pytest
from click.testing import CliRunner, Result
from msgspec import Struct

from kernel import config
from kernel.agent.config import AgentConfig
from kernel.config import Setting
from kernel.flags import AGENT_FLAGS, MASTER_FLAGS, LogFormatter, daemon_command
from kernel.master.config import MasterConfig

SPEC_SAMPLE = {  # Some of each section of the reference, among them all that take no value.
    "master": ("zk", "quorum", "work_dir", "ip", "offer_timeout", "registry", "max_agent_ping_timeouts", "root_submissions", "roles"),
    "agent": ("master", "work_dir", "containerizers", "isolation", "switch_user", "strict", "gc_delay", "attributes", "resources"),
}


class Config(Struct, frozen=True, kw_only=True):
    work_dir: Annotated[str, Setting("Where state is kept.", kind="path")]
    switch_user: Annotated[bool, Setting("Whether tasks run as their user.")] = True
    gc_delay_s: Annotated[float, Setting("Age.", kind="duration", flag="gc_delay")] = 60.0


def run(*arguments: str) -> tuple[Result, list[Config]]:
    started: list[Config] = []
    command = daemon_command("agent", Config, started.append, help="Run.", mesos_flags=AGENT_FLAGS)
    return CliRunner().invoke(command, arguments, env={"MESOS_WORK_DIR": None, "MESETA_WORK_DIR": None}), started


@pytest.mark.parametrize(
    ("arguments", "switch_user"),
    [
        (["--work_dir", "/w", "--no-switch_user"], False),
        (["--work_dir=/w", "--switch_user=false"], False),
        (["--work-dir", "/w", "--no-switch-user"], False),
        (["--work-dir=/w", "--switch-user=true"], True),
        (["--work_dir=/w", "--switch_user"], True),
        (["--work_dir=/w"], True),
    ],
)
def test_spellings(arguments: list[str], switch_user: bool) -> None:
    result, started = run(*arguments)
    assert result.exit_code == 0, result.output
    assert started == [Config(work_dir="/w", switch_user=switch_user)]


def test_an_unknown_flag_is_wrong_usage_and_the_nearest_is_named() -> None:
    result, started = run("--work_dri", "/w")
    assert result.exit_code == 2
    assert "--work-dir" in result.output
    assert not started


def test_a_known_flag_without_effect_is_taken() -> None:
    result, started = run(
        "--work_dir=/w", "--hadoop_home=/h", "--no-systemd_enable_support", "--cgroups_enable_cfs", "--isolation", "posix/cpu"
    )
    assert result.exit_code == 0, result.output
    assert started


@pytest.mark.parametrize("flag", sorted({*MASTER_FLAGS, *AGENT_FLAGS}))
def test_every_known_flag_parses(flag: str) -> None:
    """Each flag of the reference is taken by the daemons that have it, in Mesos's spelling; none is unknown."""
    for table, config_type in ((MASTER_FLAGS, MasterConfig), (AGENT_FLAGS, AgentConfig)):
        if flag in table:
            settable = config.fields(config_type)
            assert flag not in settable or (settable[flag].kind == "bool") == table[flag], "the table and the config differ in kind"
            command = daemon_command("x", config_type, lambda _: None, help="", mesos_flags=table)
            arguments = [f"--{flag}"] if table[flag] else [f"--{flag}=x"]
            with command.make_context("x", arguments) as context:
                assert context.params[flag] is not None


def test_the_tables_hold_the_flags_of_the_reference() -> None:
    assert set(SPEC_SAMPLE["master"]) <= MASTER_FLAGS.keys()
    assert set(SPEC_SAMPLE["agent"]) <= AGENT_FLAGS.keys()


def test_help_shows_what_has_an_effect_only() -> None:
    result, _ = run("--help")
    assert "--work-dir PATH" in result.output
    assert "[default: 60secs]" in result.output
    assert "hadoop" not in result.output
    assert "--config FILE" in result.output


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\x1b[2J", "\x00", "\x7f", "\x85", "\u2028", "\t"])
def test_a_log_record_is_one_line_that_steers_no_terminal(text: str) -> None:
    record = logging.LogRecord("n", logging.INFO, "p", 1, "said: %s", (text,), None)
    line = LogFormatter("%(levelname).1s %(message)s").format(record)
    assert line.startswith("I said: ")
    assert len(line.splitlines()) == 1
    assert line.isprintable()


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "p", 1, "failed", (), sys.exc_info())
    assert LogFormatter("%(message)s").format(record).splitlines()[-1] == "ValueError: why"
