"""Handing controllers on in version 2, below a root that is a group like others, as in a container."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from kernel.agent.isolators import group_files
from kernel.agent.isolators.delegation import delegate


class Kernel:
    """Groups as the kernel has them, in so far: none hands on what while it has processes; a process is in one group."""

    def __init__(self, root: Path) -> None:
        self.root, self.forks = root, 0

    def put(self, path: str, value: str) -> None:
        file = Path(path)
        procs = file.parent / "cgroup.procs"
        if file.name == "cgroup.subtree_control" and procs.exists() and procs.read_text():
            raise OSError(errno.EBUSY, "busy", path)
        if file.name == "cgroup.procs":
            outer = self.root / "cgroup.procs"
            here = outer.read_text().split()
            if value not in here:
                raise OSError(errno.ESRCH, "ended", path)
            here.remove(value)
            if self.forks:
                self.forks -= 1
                here.append(f"{value}0")
            outer.write_text("\n".join(here))
            value = f"{file.read_text() if file.exists() else ''}{value}\n"
        file.write_text(value)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path)
    monkeypatch.setattr(group_files, "put", kernel.put)
    (tmp_path / "meseta").mkdir()
    return kernel


def test_where_nothing_runs_nothing_is_moved(kernel: Kernel) -> None:
    (kernel.root / "cgroup.procs").touch()
    delegate(f"{kernel.root}/meseta", ("cpu", "memory"))
    assert (kernel.root / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert not (kernel.root / "init").exists()


def test_what_runs_in_the_root_goes_to_a_leaf_also_when_it_forks_meanwhile(kernel: Kernel) -> None:
    (kernel.root / "cgroup.procs").write_text("7\n8\n")
    kernel.forks = 2
    delegate(f"{kernel.root}/meseta", ("cpu", "memory"))
    assert (kernel.root / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert sorted((kernel.root / "init" / "cgroup.procs").read_text().split()) == ["7", "70", "8", "80"]


def test_what_never_ends_forking_is_given_up(kernel: Kernel) -> None:
    (kernel.root / "cgroup.procs").write_text("7\n")
    kernel.forks = 1000
    with pytest.raises(OSError, match="busy"):
        delegate(f"{kernel.root}/meseta", ("cpu",))
