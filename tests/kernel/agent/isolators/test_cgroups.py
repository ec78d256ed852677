"""Control groups: against the kernel's own where this test may make some, and version 2 as a tree of plain files beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.agent.isolators import group_files
from kernel.agent.isolators.cgroups import CgroupError, Cgroups, Hierarchy, mounted
from kernel.agent.isolators.limits import Limits
from tests.cluster import eventually

LIMITS = Limits(cpu_milli=500, mem_mib=64, cpu_limit_milli=1500, mem_limit_mib=64, pids_max=20)


def test_hierarchies_are_read_from_the_mounts(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    lines = [
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0",
        f"cgroup {tmp_path} cgroup rw,memory 0 0",
        f"cgroup2 {tmp_path} cgroup2 rw 0 0",
        "proc /proc proc rw 0 0",
    ]
    one, two = mounted(lines)
    assert (one.path, one.version) == ("/sys/fs/cgroup/cpu,cpuacct", 1)
    assert {"cpu", "cpuacct"} <= one.controllers
    assert two == Hierarchy(str(tmp_path), 2, frozenset({"cpu", "memory"}))


# ---- The kernel's own -------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Iterator[Cgroups]:
    """Groups in the hierarchies of this machine."""
    with open("/proc/self/mounts") as mounts:
        hierarchies = mounted(mounts)
    if os.geteuid() != 0 or not hierarchies:
        pytest.skip("only root may make control groups")
    root = f"meseta-test-{uuid.uuid4().hex[:8]}"
    groups = Cgroups(root, hierarchies)
    if not groups.limits:
        pytest.skip("no controllers here")
    yield groups
    for name in groups.leftovers(()):
        groups.kill(name)
        eventually(lambda name=name: groups.remove(name))  # type: ignore[misc]
    groups.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_is_kept_away_from_devices(version: int) -> None:
    """By a controller in version 1, by a filter of ours in version 2."""
    with open("/proc/self/mounts") as mounts:
        hierarchies = [hierarchy for hierarchy in mounted(mounts) if hierarchy.version == version]
    if os.geteuid() != 0 or not hierarchies:
        pytest.skip("only root may make control groups")
    groups = Cgroups(f"meseta-test-{uuid.uuid4().hex[:8]}", hierarchies, {"devices"})
    if "devices" not in groups.limits:
        groups.close()
        pytest.skip("this kernel guards no devices so")
    opens = (
        "import sys\n"
        "def opens(path):\n"
        "    try: open(path, 'rb').close(); return True\n"
        "    except PermissionError: return False\n"
        "print(*map(opens, ('/dev/zero', '/dev/full', '/dev/null')))"
    )
    try:
        for allowed, denied, expected in (
            (("c 1:7",), ("c 1:5",), "False True True"),
            (("c 1:5", "c 1:7"), (), "True True True"),
            ((), ("c 1:5", "c 1:7"), "False False True"),
        ):
            files = groups.make("c1", Limits(100, 32, allowed=allowed, denied=denied))
            assert run(files, opens).communicate()[0].strip() == expected
        groups.update("c1", Limits(100, 32, allowed=("c 1:5",), denied=("c 1:7",)))
        assert run(groups.doors("c1"), opens).communicate()[0].strip() == "True False True"
        assert groups.usage("c1").processes == 0
    finally:
        groups.kill("c1")
        eventually(lambda: groups.remove("c1"))
        groups.close()


def run(files: tuple[str, ...], code: str) -> subprocess.Popen[str]:
    """A Python process that goes into groups before it does anything."""
    enter = "".join(f"open({file!r}, 'w').write('0');" for file in files)
    return subprocess.Popen([sys.executable, "-S", "-E", "-c", enter + code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_memory_beyond_the_limit_kills_and_is_told(real: Cgroups) -> None:
    files = real.make("c1", LIMITS)
    process = run(files, "x = bytearray(200 << 20)")
    assert process.wait() == -9
    assert real.killed_for_memory("c1")
    usage = real.usage("c1")
    assert usage.mem_limit_bytes == 64 << 20
    assert usage.mem_peak_bytes is not None
    assert usage.mem_peak_bytes > 60 << 20
    process.communicate()


def test_what_stays_within_its_limits_is_counted(real: Cgroups) -> None:
    files = real.make("c1", LIMITS)
    process = run(files, "x = bytearray(20 << 20); sum(range(3000000)); print('ready', flush=True); import time; time.sleep(1000)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    usage = real.usage("c1")
    assert usage.mem_bytes is not None
    assert usage.mem_bytes > 20 << 20
    assert usage.user_s is not None
    assert usage.user_s > 0
    assert (usage.processes, usage.threads) == (1, 1)
    assert not real.killed_for_memory("c1")
    process.kill()
    process.communicate()


def test_processes_beyond_the_limit_are_refused(real: Cgroups) -> None:
    files = real.make("c1", LIMITS)
    process = run(files, "import os, time\nfor _ in range(40):\n  if os.fork() == 0: time.sleep(1000)")
    assert process.wait() == 1
    assert real.refused_processes("c1")
    assert real.kill("c1")
    process.communicate()


def test_all_of_a_container_is_killed_also_what_left_its_session(real: Cgroups) -> None:
    files = real.make("c1", LIMITS)
    process = run(files, "import os, time\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(1000)")
    assert process.wait() == 0
    assert real.usage("c1").processes == 1
    assert not real.remove("c1")
    assert real.kill("c1")
    assert eventually(lambda: real.remove("c1"))
    assert real.remove("c1"), "a repeat changes nothing"
    process.communicate()


def test_groups_that_a_container_made_below_its_own_go_with_it(real: Cgroups) -> None:
    files = real.make("c1", LIMITS)
    inner = [f"{os.path.dirname(file)}/inner" for file in files]
    enter = "".join(f"os.mkdir({group!r}); open({group + '/cgroup.procs'!r}, 'w').write('0');" for group in inner)
    process = run(files, f"import os, time; {enter} print('ready', flush=True); time.sleep(1000)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert not real.remove("c1")
    assert real.kill("c1")
    assert process.wait() == -9
    assert eventually(lambda: real.remove("c1"))
    assert not real.exists("c1")
    process.communicate()


def test_who_only_starts_something_in_a_container_does_not_end_with_it(real: Cgroups) -> None:
    files = real.make("c1", LIMITS)
    stays = "print('ready', flush=True); import time; time.sleep(1000)"
    launcher, other = run(files, stays), run(files, stays)
    for process in (launcher, other):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    real.spared = lambda: launcher.pid
    assert real.kill("c1")
    assert other.wait() == -9
    assert launcher.poll() is None
    assert not real.remove("c1")
    launcher.kill()
    for process in (launcher, other):
        process.communicate()


def test_a_quota_of_cpu_time_is_kept(real: Cgroups) -> None:
    files = real.make("c1", Limits(cpu_milli=100, mem_mib=64, cpu_limit_milli=100))
    process = run(files, "\nwhile True: pass")
    eventually(lambda: (real.usage("c1").throttled or 0) >= 3)
    usage = real.usage("c1")
    assert usage.periods is not None
    assert usage.user_s is not None
    assert usage.throttled_s is not None
    assert usage.throttled_s > usage.user_s, "it waits longer than it runs"
    process.kill()
    process.communicate()


def test_limits_can_be_changed_but_memory_not_below_what_is_used(real: Cgroups) -> None:
    files = real.make("c1", LIMITS)
    process = run(files, "x = bytearray(50 << 20); print('ready', flush=True); import time; time.sleep(1000)")
    assert process.stdout is not None
    process.stdout.readline()
    real.update("c1", Limits(cpu_milli=100, mem_mib=200, mem_limit_mib=200))
    assert real.usage("c1").mem_limit_bytes == 200 << 20
    real.update("c1", Limits(cpu_milli=100, mem_mib=40, mem_limit_mib=40))
    assert real.usage("c1").mem_limit_bytes == 200 << 20
    assert not real.killed_for_memory("c1")
    assert process.poll() is None
    real.update("c1", Limits(cpu_milli=100, mem_mib=100, mem_limit_mib=100))
    assert real.usage("c1").mem_limit_bytes == 100 << 20
    process.kill()
    process.communicate()


def test_groups_nobody_knows_are_found(real: Cgroups) -> None:
    real.make("c1", LIMITS)
    real.make("c2", LIMITS)
    assert real.leftovers({"c1"}) == {"c2"}


# ---- Version 2, whose files are only looked at here --------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Cgroups, Path]:
    """Here a group has no files when it is made, so writing one makes it."""
    monkeypatch.setattr(group_files, "put", lambda path, value: Path(path).write_text(value))
    (tmp_path / "cgroup.procs").touch()
    hierarchy = Hierarchy(str(tmp_path), 2, frozenset({"cpu", "memory", "pids", "io"}))
    return Cgroups("meseta/a1", [hierarchy]), tmp_path / "meseta" / "a1"


def test_in_version_2_each_parent_hands_the_controllers_on(two: tuple[Cgroups, Path]) -> None:
    _, root = two
    wanted = "+cpu +memory +pids"
    assert (root.parent.parent / "cgroup.subtree_control").read_text() == wanted
    assert {folder.name: folder.is_dir() for folder in (root, root.parent)} == {"a1": True, "meseta": True}


def test_limits_in_the_words_of_version_2(two: tuple[Cgroups, Path]) -> None:
    groups, root = two
    assert groups.limits == {"cpu", "memory", "pids"}
    assert groups.make("c1", LIMITS) == (str(root / "c1" / "cgroup.procs"),)
    written = {file.name: file.read_text() for file in (root / "c1").iterdir()}
    assert written == {
        "cpu.weight": "20",
        "cpu.max": "150000 100000",
        "memory.low": str(64 << 20),
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "20",
    }
    groups.update("c1", Limits(cpu_milli=2000, mem_mib=64, mem_limit_mib=128))
    written = {file.name: file.read_text() for file in (root / "c1").iterdir()}
    assert (written["cpu.weight"], written["cpu.max"], written["memory.max"]) == ("79", "max 100000", str(128 << 20))
    groups.update("c1", Limits(cpu_milli=2000, mem_mib=64))
    assert (root / "c1" / "memory.max").read_text() == "max"


def test_usage_in_the_words_of_version_2(two: tuple[Cgroups, Path]) -> None:
    groups, root = two
    groups.make("c1", LIMITS)
    files = {
        "cpu.stat": "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 5\nnr_throttled 2\nthrottled_usec 500000\n",
        "memory.current": "1000\n",
        "memory.peak": "2000\n",
        "memory.stat": "anon 600\nfile 300\nfile_mapped 100\n",
        "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n",
        "cgroup.procs": "10\n11\n",
        "cgroup.threads": "10\n11\n12\n",
    }
    for name, text in files.items():
        (root / "c1" / name).write_text(text)
    usage = groups.usage("c1")
    assert (usage.user_s, usage.system_s, usage.periods, usage.throttled, usage.throttled_s) == (2.0, 1.0, 5, 2, 0.5)
    assert (usage.mem_bytes, usage.mem_peak_bytes, usage.mem_limit_bytes) == (1000, 2000, 64 << 20)
    assert (usage.rss_bytes, usage.cache_bytes, usage.mapped_bytes) == (600, 300, 100)
    assert (usage.processes, usage.threads) == (2, 3)
    assert groups.killed_for_memory("c1")
    assert not groups.refused_processes("c1")


def test_in_version_2_a_limit_below_what_is_used_is_set_when_the_kernel_could_take_it_back(two: tuple[Cgroups, Path]) -> None:
    groups, root = two
    groups.make("c1", LIMITS)
    used = root / "c1" / "memory.current"
    used.write_text(str(50 << 20))
    groups.update("c1", Limits(cpu_milli=100, mem_mib=40, mem_limit_mib=40))
    assert (root / "c1" / "memory.reclaim").read_text() == str(10 << 20)
    assert (root / "c1" / "memory.max").read_text() == str(64 << 20)
    used.write_text(str(39 << 20))
    groups.update("c1", Limits(cpu_milli=100, mem_mib=40, mem_limit_mib=40))
    assert (root / "c1" / "memory.max").read_text() == str(40 << 20)


def test_a_group_that_cannot_be_made_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "meseta").write_text("a file")
    with pytest.raises(CgroupError, match=str(tmp_path / "meseta")):
        Cgroups("meseta", [Hierarchy(str(tmp_path), 1, frozenset({"cpu"}))])
