"""The tests of what holds tasks, on machines with all kinds of control groups: of version 1, of version 2, of both, as in containers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.vm.machine import CGROUPS, KERNEL, MachineError, run

SPARED = "test_for_want_of_memory_the_launcher_is_not_ended_but_what_it_starts_is"
ISOLATORS = (
    "tests/kernel/agent/isolators",
    "tests/kernel/agent/launcher/test_cgroups.py",
    f"tests/kernel/agent/launcher/test_spawn.py::{SPARED}",
)
TASKS = ("tests/e2e/test_isolation.py", "tests/e2e/test_gpus.py", "tests/e2e/test_nested_containers.py")
SLOWLY_S = 600  # A machine is some times slower than the one below.

pytestmark = pytest.mark.skipif(not KERNEL.exists(), reason="no virtual machine here: tests/setup_vm.sh lays it out")


def run_tests(cgroups: str, paths: tuple[str, ...]) -> int:
    options = ("-q", "--color=no", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", str(SLOWLY_S))
    return run([sys.executable, "-m", "pytest", *options, *paths], cgroups)


@pytest.mark.e2e
@pytest.mark.timeout(SLOWLY_S)
@pytest.mark.parametrize("cgroups", ["2", "container-2"])
def test_isolators(cgroups: str) -> None:
    assert run_tests(cgroups, ISOLATORS) == 0


@pytest.mark.soak
@pytest.mark.parametrize("cgroups", CGROUPS)
def test_isolators_and_tasks(cgroups: str) -> None:
    assert run_tests(cgroups, (*ISOLATORS, *TASKS)) == 0


def test_a_command_is_root_in_its_machine_and_changes_nothing_below(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("below")
    script = f"id -u; cat {tmp_path}/file; echo above > {tmp_path}/file && cat {tmp_path}/file; exit 7"
    assert run(["sh", "-c", script], "2") == 7
    assert (tmp_path / "file").read_text() == "below"


def test_a_machine_that_ends_too_soon_says_so() -> None:
    with pytest.raises(MachineError, match="ended before its command"):
        run(["sh", "-c", "echo o > /proc/sysrq-trigger; sleep 100"], "2")
