"""Sandboxes on a real disk: what is to go goes, whatever is in it; nothing else does, and nobody waits for it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.agent.config import AgentConfig
from kernel.agent.effects import LaunchContainer
from kernel.agent.isolators.limits import Limits
from kernel.agent.sandbox import SandboxFiles, prepare
from kernel.agent.sandboxes.collection import InUse
from kernel.agent.sandboxes.collector import Collector
from kernel.agent.sandboxes.removal import BIN, Bin
from kernel.errors import NotFound

NOBODY = 65534
LATER_S = 1e9


def made(work_dir: Path, agent: str = "s1", framework: str = "f", executor: str = "e", run: str = "c1") -> Path:
    """A sandbox, as launches make it."""
    runs = work_dir / "slaves" / agent / "frameworks" / framework / "executors" / executor / "runs"
    links = ((str(runs / "latest"), run),)
    prepare(LaunchContainer(run, "x", ("x",), {}, str(runs / run), None, links, Limits(1000, 128)))
    (runs / run / "stdout").write_text("hello")
    return runs / run


class World:
    """A collector at work; `later_s` is how much later than now it is."""

    def __init__(self, work_dir: Path, **settings: object) -> None:
        self.in_use = InUse(agent_id="s1")
        self.later_s = LATER_S
        self.collector = Collector(AgentConfig(work_dir=str(work_dir), **settings), self._ask, self.in_use, self._now)  # type: ignore[arg-type]

    async def _ask(self) -> InUse:
        return self.in_use

    def _now(self) -> float:
        return time.time() + self.later_s

    def look(self) -> None:
        asyncio.run(self.collector.look())

    def keep(self, *paths: Path) -> None:
        self.in_use = InUse(frozenset(map(str, paths)), frozenset(map(str, paths)), "s1")

    @property
    def counts(self) -> tuple[float, float, float]:
        numbers = self.collector.numbers()
        succeeded, failed, pending = (numbers[f"gc/path_removals_{kind}"] for kind in ("succeeded", "failed", "pending"))
        return succeeded, failed, pending


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def left(work_dir: Path) -> list[str]:
    """All files and folders below slaves/, without the empty bin."""
    slaves = work_dir / "slaves"
    return sorted(str(path.relative_to(slaves)) for path in slaves.rglob("*") if path.name != BIN)


def test_an_old_sandbox_goes_with_its_parents_the_agents_own_folder_stays(tmp_path: Path, world: World) -> None:
    made(tmp_path)
    world.look()
    assert left(tmp_path) == ["s1"]
    assert world.counts == (1, 0, 0)


def test_a_young_one_stays_and_is_pending(tmp_path: Path, world: World) -> None:
    sandbox = made(tmp_path)
    world.later_s = 60.0
    world.look()
    assert sandbox.exists()
    assert world.counts == (0, 0, 1)


def test_one_in_use_stays_whatever_its_age_and_is_as_old_as_its_end(tmp_path: Path, world: World) -> None:
    running, ended = made(tmp_path, run="c2"), made(tmp_path, run="c1")
    before_ns = running.stat().st_ctime_ns
    world.keep(running)
    world.look()
    assert running.exists()
    assert not ended.exists()
    assert running.stat().st_ctime_ns > before_ns
    assert (running.parent / "latest").is_symlink() is False, "it led to what is gone"


def test_latest_stays_while_it_leads_somewhere(tmp_path: Path, world: World) -> None:
    made(tmp_path, run="c1")
    running = made(tmp_path, run="c2")
    world.keep(running)
    world.look()
    assert (running.parent / "latest").resolve() == running


def test_what_an_earlier_agent_left_goes_whole(tmp_path: Path, world: World) -> None:
    made(tmp_path, "s0", "f1", "e1", "c1")
    made(tmp_path, "s0", "f2", "e1", "c1")
    kept = made(tmp_path, "s1")
    world.keep(kept)
    world.look()
    assert [path.name for path in (tmp_path / "slaves").iterdir() if path.name != BIN] == ["s1"]


def test_its_files_are_shown_no_longer(tmp_path: Path, world: World) -> None:
    sandbox = made(tmp_path)
    files = SandboxFiles(str(tmp_path))
    files.agent_id = "s1"
    world.look()
    for path in (str(sandbox), "/frameworks/f/executors/e/runs/latest", "/frameworks/f/executors/e/runs/c1"):
        with pytest.raises(NotFound):
            files.read(f"{path}/stdout", 0, 10)


def test_a_nested_sandbox_stays_with_its_parent_unless_the_flag_says_otherwise(tmp_path: Path) -> None:
    parent = made(tmp_path)
    nested, live = parent / "containers" / "n1", parent / "containers" / "n2"
    for path in (nested, live):
        links = ((str(parent / "tasks" / f"t-{path.name}"), f"../containers/{path.name}"),)
        prepare(LaunchContainer(path.name, "x", ("x",), {}, str(path), None, links, Limits(1000, 128)))
    world = World(tmp_path)
    world.in_use = InUse(frozenset({str(parent), str(live)}), frozenset({str(parent)}), "s1")
    world.look()
    assert nested.exists()
    flagged = World(tmp_path, gc_non_executor_container_sandboxes=True)
    flagged.in_use = world.in_use
    flagged.look()
    assert not nested.exists()
    assert live.exists()
    assert [link.name for link in (parent / "tasks").iterdir()] == ["t-n2"]


# ---- What tasks leave behind ------------------------------------------------------------------------------


def test_symlinks_lead_nowhere(tmp_path: Path, world: World) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("precious")
    sandbox = made(tmp_path)
    (sandbox / "a").symlink_to(outside)
    (sandbox / "b").symlink_to(outside / "file")
    (sandbox / "deep").mkdir()
    (sandbox / "deep" / "c").symlink_to("../../../../../../../../outside", target_is_directory=True)
    os.link(outside / "file", sandbox / "hard")
    world.look()
    assert world.counts == (1, 0, 0)
    assert (outside / "file").read_text() == "precious"
    assert (outside / "folder").exists()


def test_a_symlink_in_the_place_of_a_sandbox_is_not_one(tmp_path: Path, world: World) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    sandbox = made(tmp_path)
    (sandbox.parent / "c9").symlink_to(outside)
    world.look()
    assert outside.exists()


def look_as(world: World, uid: int) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresuid(uid, uid, uid)
    world.look()
    assert world.counts == (1, 0, 0)


@pytest.mark.parametrize("user", ["ours", pytest.param("nobody", marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root"))])
def test_folders_without_permissions_go_too(tmp_path: Path, world: World, user: str) -> None:
    """As root, and as a user who must first be let in."""
    sandbox = made(tmp_path)
    for path in ("locked/inner", "empty", "readonly/inner"):
        (sandbox / path).mkdir(parents=True)
        (sandbox / path / "file").write_text("x")
    (sandbox / "empty" / "file").unlink()
    if user == "nobody":
        subprocess.run(["chown", "-R", str(NOBODY), str(tmp_path)], check=True)
        for folder in list(tmp_path.parents)[:-2]:
            folder.chmod(0o755)
    for path, mode in (("locked/inner", 0), ("locked", 0), ("empty", 0), ("readonly/inner", 0o500), ("readonly", 0o500), (".", 0)):
        (sandbox / path).chmod(mode)
    looking = multiprocessing.get_context("fork").Process(target=look_as, args=(world, NOBODY if user == "nobody" else os.geteuid()))
    looking.start()
    looking.join()
    assert looking.exitcode == 0
    assert left(tmp_path) == ["s1"]


def test_very_deep_folders_go_too(tmp_path: Path, world: World) -> None:
    """Deeper than any path may be long."""
    sandbox = made(tmp_path)
    here = os.open(sandbox, os.O_RDONLY)
    for _ in range(200):  # 40,000 bytes of a path. Not deeper than what pytest can remove, should this fail.
        os.mkdir("x" * 200, dir_fd=here)
        inner = os.open("x" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    world.look()
    assert left(tmp_path) == ["s1"]
    assert world.counts == (1, 0, 0)


def test_many_files_go_while_the_loop_goes_on(tmp_path: Path, world: World) -> None:
    """A bit at a time: the loop turns more often than once for each slice."""
    sandbox = made(tmp_path)
    for folder in range(20):
        (sandbox / str(folder)).mkdir()
        for number in range(500):
            (sandbox / str(folder) / str(number)).touch()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    async def both() -> None:
        counting = asyncio.create_task(count())
        await world.collector.look()
        counting.cancel()

    asyncio.run(both())
    assert left(tmp_path) == ["s1"]
    assert turns > 1


def test_what_a_killed_agent_had_not_finished_is_finished(tmp_path: Path) -> None:
    slaves = str(tmp_path / "slaves")
    Bin(slaves).take(str(made(tmp_path)))
    world = World(tmp_path)
    world.look()
    assert world.counts == (1, 0, 0)
    assert Bin(slaves).waiting() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_what_is_mounted_inside_is_never_entered(tmp_path: Path, world: World) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    sandbox = made(tmp_path)
    (sandbox / "volume").mkdir()
    if subprocess.run(["mount", "--bind", str(precious), str(sandbox / "volume")], capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        world.look()
        assert (precious / "file").exists()
        assert world.counts == (0, 1, 0)
        assert not sandbox.exists()
    finally:
        for mounted in Path("/proc/self/mounts").read_text().splitlines():
            target = mounted.split()[1].replace("\\134", "\\")
            if target.startswith(str(tmp_path)):
                subprocess.run(["umount", target], check=True)
    world.look()
    assert world.counts == (1, 1, 0)
    assert (precious / "file").exists()


@pytest.fixture
def mischief() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Does something again and again in a thread, until the test ends."""
    over, threads = threading.Event(), []

    def start(act: Callable[[], None]) -> None:
        def go_on() -> None:
            while not over.is_set():
                try:
                    act()
                except OSError:
                    pass

        threads.append(threading.Thread(target=go_on))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


def test_a_task_that_exchanges_folders_for_symlinks_meanwhile_gains_nothing(
    tmp_path: Path, world: World, mischief: Callable[[Callable[[], None]], None]
) -> None:
    """A process that outlived its task goes on, by a folder it has open, wherever that is by now."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(50):
        (outside / str(number)).touch()
    sandbox = made(tmp_path)
    (sandbox / "x").mkdir()
    held = os.open(sandbox, os.O_RDONLY)

    def exchange() -> None:
        try:
            os.rename("x", "y", src_dir_fd=held, dst_dir_fd=held)
            os.symlink(str(outside), "x", dir_fd=held)
            os.unlink("x", dir_fd=held)
            os.rename("y", "x", src_dir_fd=held, dst_dir_fd=held)
        except OSError:
            os.mkdir("x", dir_fd=held)

    mischief(exchange)
    for _ in range(20):
        world.look()
    assert len(list(outside.iterdir())) == 50
    os.close(held)


def test_launches_meanwhile_find_their_parents(tmp_path: Path, mischief: Callable[[Callable[[], None]], None]) -> None:
    """An executor's folder is removed with its last sandbox and made again with the next one."""
    bin = Bin(str(tmp_path / "slaves"))
    runs = made(tmp_path, run="c0").parent
    mischief(lambda: bin.tidy(str(runs), "s1"))
    for number in range(100):
        sandbox = made(tmp_path, run=f"c{number}")
        assert (runs / "latest").resolve() == sandbox
        bin.take(str(sandbox))
