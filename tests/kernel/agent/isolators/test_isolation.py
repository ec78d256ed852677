"""What holds containers on this machine, and what is said where it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.agent.isolators import isolation as isolators
from kernel.agent.isolators.isolation import CgroupIsolation, NoIsolation, isolation
from kernel.agent.isolators.limits import Limits, limits_of
from kernel.errors import ConfigError
from kernel.wire.task import Reason
from kernel.wire.values import Scalar
from tests.builders import resources
from tests.cluster import eventually

ROOT = f"meseta-test-{os.getpid()}"


def test_limits_are_what_a_container_was_given() -> None:
    found = limits_of(resources("cpus:0.5;mem:64;disk:100"), {}, quota=False, pids_max=None)
    assert found == Limits(cpu_milli=500, mem_mib=64, cpu_limit_milli=None, mem_limit_mib=64, pids_max=None, disk_mib=100)


def test_with_a_quota_cpus_that_others_leave_are_not_for_it() -> None:
    assert limits_of(resources("cpus:0.5;mem:64"), {}, quota=True, pids_max=9).cpu_limit_milli == 500


def test_a_task_may_be_let_go_beyond() -> None:
    beyond = {"cpus": Scalar(2.0), "mem": Scalar(float("inf"))}
    found = limits_of(resources("cpus:0.5;mem:64"), beyond, quota=True, pids_max=9)
    assert found == Limits(cpu_milli=500, mem_mib=64, cpu_limit_milli=2000, mem_limit_mib=None, pids_max=9)


def test_what_is_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--isolation: network/cni is not built; allowed are cgroups/cpu, cgroups/mem"):
        isolation(("cgroups/cpu", "network/cni"), ROOT, str(tmp_path))


def test_who_has_gpus_and_cannot_guard_them_is_warned_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not isolation(("posix/cpu",), ROOT, str(tmp_path), gpus=True).devices
    assert "--isolation has no gpu/nvidia" in caplog.text
    caplog.clear()
    assert not isolation(("posix/cpu", "gpu/nvidia"), ROOT, str(tmp_path)).devices, "there is nothing to guard"
    assert caplog.text == ""
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert not isolation(None, ROOT, str(tmp_path), gpus=True).devices
    assert "the GPUs of others but the variables" in caplog.text
    with pytest.raises(ConfigError, match="--isolation: only root"):
        isolation(("gpu/nvidia",), ROOT, str(tmp_path), gpus=True)


def test_posix_holds_nothing_and_still_counts(tmp_path: Path) -> None:
    nothing = isolation(("posix/cpu", "posix/mem"), ROOT, str(tmp_path))
    assert isinstance(nothing, NoIsolation)
    code = "import os, time; x = bytearray(20 << 20); os.fork(); os.write(1, b'ready\\n'); time.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
        usage = nothing.usage({"c1": process.pid, "gone": 2**22 - 1})
        assert list(usage) == ["c1"]
        assert (usage["c1"].processes, usage["c1"].threads) == (2, 2)
        assert usage["c1"].rss_bytes is not None
        assert usage["c1"].rss_bytes > 20 << 20
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_who_may_not_is_warned_or_refused_when_he_insists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(isolators.os, "geteuid", lambda: 1000)
    assert isinstance(isolation(None, ROOT, str(tmp_path)), NoIsolation)
    assert "tasks are not held to their cpus, memory and number of processes: only root may make control groups" in caplog.text
    with pytest.raises(ConfigError, match="--isolation: only root may make control groups"):
        isolation(("cgroups/mem",), ROOT, str(tmp_path))


def test_an_end_for_want_of_memory_is_told_with_limit_and_usage(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may make control groups")
    held = isolation(None, ROOT, str(tmp_path))
    assert isinstance(held, CgroupIsolation)
    files = held.prepare("c1", Limits(1000, 64, mem_limit_mib=64))
    enter = "".join(f"open({file!r}, 'w').write('0');" for file in files)
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", enter + "x = bytearray(200 << 20)"])
    assert process.wait() == -signal.SIGKILL
    limitation = held.ended("c1")
    assert limitation is not None
    assert limitation.reason is Reason.REASON_CONTAINER_LIMITATION_MEMORY
    assert limitation.message == "Memory limit exceeded: Requested: 64MB Maximum Used: 64MB"
    assert [resource.name for resource in limitation.resources] == ["mem"]
    files = held.prepare("late", Limits(1000, 64))
    enter = "".join(f"open({file!r}, 'w').write('0');" for file in files)
    late = subprocess.Popen([sys.executable, "-S", "-E", "-c", enter + "import time; time.sleep(1000)"])
    held.spare(lambda: late.pid)
    eventually(lambda: held.groups.usage("late").processes == 1)
    held.ended("late")
    held.sweep()
    assert held.join("late") == files, "as one that does not end"
    held.spare(lambda: None)
    held.sweep()
    assert late.wait() == -signal.SIGKILL
    eventually(lambda: (held.sweep(), not held.join("late"))[1])
    held.prepare("left", Limits(1000, 64))
    held.reconcile({"other"})
    eventually(lambda: not held.groups.leftovers(()))
    held.close()
