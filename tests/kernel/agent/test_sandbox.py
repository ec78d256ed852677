"""Sandboxes: made once, by the right owner, shown under three names and never beyond themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.agent.effects import LaunchContainer
from kernel.agent.isolators.limits import Limits
from kernel.agent.sandbox import SandboxError, SandboxFiles, link, make_below, prepare
from kernel.errors import CallError, NotFound

RUNS = "slaves/s1/frameworks/f/executors/e/runs"


@pytest.fixture(autouse=True)
def umask() -> object:
    before = os.umask(0o022)  # As the agent sets it.
    yield
    os.umask(before)


def launch(work_dir: Path, container: str = "c1", user: str | None = None) -> LaunchContainer:
    runs = work_dir / RUNS
    return LaunchContainer(container, "x", ("x",), {}, str(runs / container), user, ((str(runs / "latest"), container),), Limits(1000, 128))


def test_a_sandbox_has_its_mode_its_parents_and_its_symlink(tmp_path: Path) -> None:
    prepare(launch(tmp_path))
    sandbox = tmp_path / RUNS / "c1"
    assert sandbox.stat().st_mode & 0o777 == 0o750
    assert all(parent.stat().st_mode & 0o777 == 0o755 for parent in list(sandbox.parents)[:7])
    assert (tmp_path / RUNS / "latest").readlink() == Path("c1")


def test_a_repeat_leaves_everything_as_it_is(tmp_path: Path) -> None:
    prepare(launch(tmp_path))
    (tmp_path / RUNS / "c1" / "stdout").write_text("kept")
    prepare(launch(tmp_path))
    assert (tmp_path / RUNS / "latest" / "stdout").read_text() == "kept"


def test_latest_follows_the_newest_run(tmp_path: Path) -> None:
    prepare(launch(tmp_path, "c1"))
    prepare(launch(tmp_path, "c2"))
    assert (tmp_path / RUNS / "latest").readlink() == Path("c2")
    assert sorted(entry.name for entry in (tmp_path / RUNS).iterdir()) == ["c1", "c2", "latest"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_only_the_sandbox_belongs_to_the_user(tmp_path: Path) -> None:
    prepare(launch(tmp_path, user="nobody"))
    assert (tmp_path / RUNS / "c1").owner() == "nobody"
    assert (tmp_path / RUNS).owner() == "root"


def test_a_folder_in_it_is_made_and_never_outside_of_it(tmp_path: Path) -> None:
    asked = launch(tmp_path)
    prepare(asked)
    sandbox = Path(asked.directory)
    make_below(asked, f"{sandbox}/a/b")
    make_below(asked, f"{sandbox}/a/b")
    (sandbox / "file").touch()
    make_below(asked, f"{sandbox}/file")
    assert (sandbox / "a" / "b").is_dir()
    (tmp_path / "other").mkdir()
    (sandbox / "out").symlink_to(tmp_path / "other")
    (sandbox / "within").symlink_to("a")
    make_below(asked, f"{sandbox}/within")
    with pytest.raises(SandboxError, match=r"^'out' leads out of the sandbox$"):
        make_below(asked, f"{sandbox}/out")
    with pytest.raises(SandboxError, match=r"^cannot make 'out/x' in the sandbox: "):
        make_below(asked, f"{sandbox}/out/x")
    assert not list((tmp_path / "other").iterdir())


def test_who_does_not_exist_gets_no_sandbox(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no-such-user"):
        prepare(launch(tmp_path, user="no-such-user"))


def test_a_path_that_is_taken_is_told(tmp_path: Path) -> None:
    (tmp_path / "slaves").write_text("a file")
    with pytest.raises(SandboxError, match="Not a directory"):
        prepare(launch(tmp_path))


def test_a_symlink_is_replaced_whatever_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tasks may have any name; and an agent that was killed in the middle of this must not stand in its own way."""
    longest = "x" * 255
    for name in ("x", "x.new", longest):
        link(str(tmp_path / name), "first")
    with monkeypatch.context() as killed:
        killed.setattr(os, "replace", lambda *_: None)
        link(str(tmp_path / "x"), "second")
    for name in ("x", longest):
        link(str(tmp_path / name), "third")
    assert {entry.name: os.readlink(entry) for entry in tmp_path.iterdir()} == {"x": "third", "x.new": "first", longest: "third"}


def test_a_symlink_is_replaced_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "latest")
    for target in ("a", "b", "b"):
        link(path, target)
        assert os.readlink(path) == target


@pytest.fixture
def files(tmp_path: Path) -> SandboxFiles:
    prepare(launch(tmp_path))
    (tmp_path / RUNS / "c1" / "stdout").write_text("hello")
    (tmp_path / "secret").write_text("hush")
    shown = SandboxFiles(str(tmp_path))
    shown.agent_id = "s1"
    return shown


@pytest.mark.parametrize(
    "path",
    ["{work}/" + RUNS + "/c1", "{work}/" + RUNS + "/latest", "/frameworks/f/executors/e/runs/latest", "/frameworks/f/executors/e/runs/c1"],
)
def test_a_sandbox_is_shown_under_its_names(files: SandboxFiles, tmp_path: Path, path: str) -> None:
    root = path.format(work=tmp_path)
    assert files.read(f"{root}/stdout", 0, 10) == (5, b"hello")
    assert [entry.path for entry in files.browse(root)] == [f"{root}/stdout"]


@pytest.mark.parametrize(
    "path",
    [
        "{work}",
        "{work}/secret",
        "{work}/slaves",
        "{work}/" + RUNS,
        "{work}/" + RUNS + "/c1/../../../../../../../../secret",
        "{work}/" + RUNS + "/../runs/c1/stdout",
        "/frameworks/../frameworks/f/executors/e/runs/latest/stdout",
        "/frameworks/f/executors/e/runs/..",
        "/frameworks/f/executors/e/runs/unknown",
        "/frameworks/f/executors/e/runs/latest/missing",
        "/etc/passwd",
        "",
        "/",
    ],
)
def test_nothing_else_is(files: SandboxFiles, tmp_path: Path, path: str) -> None:
    with pytest.raises((NotFound, CallError)):
        files.read(path.format(work=tmp_path), 0, 10)


def test_a_symlink_out_of_the_sandbox_leads_nowhere(files: SandboxFiles, tmp_path: Path) -> None:
    (tmp_path / RUNS / "c1" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / RUNS / "c1" / "up").symlink_to("..")
    for name in ("out", "up/c1/../../../../../../../secret", "up"):
        with pytest.raises(CallError):
            files.read(f"/frameworks/f/executors/e/runs/latest/{name}", 0, 10)
