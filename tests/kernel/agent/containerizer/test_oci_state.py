"""What runc keeps of containers, and what is taken away without asking it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from kernel.agent.containerizer import oci_state
from kernel.agent.launcher import processes
from tests.cluster import eventually


@pytest.fixture
def groups(tmp_path: Path) -> dict[str, str]:
    """Two hierarchies with a control group each; folders do for them: both can be removed when nothing is in them."""
    paths = {name: tmp_path / name / "c1" for name in ("memory", "pids")}
    for path in paths.values():
        path.mkdir(parents=True)
    return {name: str(path) for name, path in paths.items()}


def kept(tmp_path: Path, groups: dict[str, str]) -> Path:
    folder = tmp_path / "state" / "c1"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"id": "c1", "init_process_pid": 17, "cgroup_paths": groups}))
    return folder


def test_what_is_left_of_a_container_that_has_ended_is_taken_away_with_its_groups(tmp_path: Path, groups: dict[str, str]) -> None:
    Path(groups["pids"]).rmdir()  # Others may have begun.
    folder = kept(tmp_path, groups)
    assert oci_state.remove(str(folder))
    assert not folder.exists()
    assert not Path(groups["memory"]).exists()


def test_a_container_in_which_something_runs_stays_as_it_is(tmp_path: Path, groups: dict[str, str]) -> None:
    folder = kept(tmp_path, groups)
    (Path(groups["memory"]) / "cgroup.procs").write_text("17\n18\n")  # So the folder cannot be removed, as its group could not.
    assert not oci_state.remove(str(folder))
    assert (folder / "state.json").exists()
    assert oci_state.members(str(folder)) == [17, 18]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cgroup_paths": 3}', "{}"])
def test_a_container_that_was_only_begun_is_left_to_runc(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)
    assert not oci_state.remove(str(tmp_path))
    assert oci_state.members(str(tmp_path)) == []
    assert tmp_path.exists()


def test_a_container_that_runc_does_not_know_has_no_processes(tmp_path: Path) -> None:
    assert oci_state.members(str(tmp_path / "c1")) == []
    assert not oci_state.remove(str(tmp_path / "c1"))


def test_a_container_has_ended_with_its_first_process_reaped_or_not(tmp_path: Path) -> None:
    first = subprocess.Popen(["/bin/sleep", "1000"])
    found = processes.stat(first.pid)
    assert found is not None
    kept = {"init_process_pid": first.pid, "init_process_start": found.start}
    (tmp_path / "state.json").write_text(json.dumps(kept))
    assert not oci_state.ended(str(tmp_path))
    first.kill()
    eventually(lambda: oci_state.ended(str(tmp_path)))
    first.wait()
    assert oci_state.ended(str(tmp_path))
    assert oci_state.ended(str(tmp_path / "none"))
