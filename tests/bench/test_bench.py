"""Each benchmark at a tiny size: it runs to its end, and prints one object of the promised form with plausible numbers.

How fast anything is, nobody asserts here: that depends on the machine and on who else uses it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cli import BARS
from bench.cron_peers import ratios

ROOT = Path(__file__).parents[2]


def bench(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kernel.cli", "bench", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=110, check=False)


def measured(*arguments: str) -> dict[str, Any]:
    done = bench(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert list(report) == ["bench", "machine", "params", "results", "peers"]
    assert report["bench"] == arguments[0]
    assert report["machine"]["cores"]
    assert all(isinstance(number, int | float) and number >= 0 for number in report["results"].values())
    assert all(isinstance(text, str) for text in report["peers"].values())
    return report


@pytest.mark.parametrize("mode", ["whole", "demand"])
def test_allocator(mode: str) -> None:
    report = measured("allocator", "--agents", "60", "--frameworks", "12", "--roles", "3", "--mode", mode)
    results = report["results"]
    assert {"full_cycle_s", "idle_cycle_s", "one_freed_s"} <= results.keys()
    params = {"agents": 60, "frameworks": 12, "roles": 3, "refusals": 1, "mode": mode, "quota": "false", "reservations": "false"}
    assert report["params"] == params
    assert results["idle_cycle_s"] < results["full_cycle_s"]
    assert results["refused"] >= 60
    assert results["offers"] >= 60


@pytest.mark.parametrize("mode", ["whole", "demand"])
def test_allocator_with_quotas_and_reservations(mode: str) -> None:
    report = measured(
        "allocator", "--agents", "60", "--frameworks", "24", "--roles", "12", "--mode", mode, "--quota", "--reservations"
    )  # fmt: skip
    assert report["results"]["offers"] >= 60
    assert (report["params"]["quota"], report["params"]["reservations"]) == ("true", "true")


@pytest.mark.e2e
@pytest.mark.parametrize("calls", ["single", "batched"])
def test_placements(calls: str) -> None:
    report = measured("placements", "--agents", "5", "--frameworks", "2", "--roles", "2", "--seconds", "0.5", "--calls", calls)
    results = report["results"]
    assert {"placements_per_s", "p50_s", "p99_s", "master_cpu_s", "master_rss_mb", "longest_stall_s"} <= results.keys()
    assert report["params"]["calls"] == calls
    assert results["placements_per_s"] > 0
    assert 0 < results["p50_s"] <= results["p99_s"]
    assert results["longest_stall_s"] > 0
    assert results["master_rss_mb"] > 10


@pytest.mark.e2e
def test_failover() -> None:
    results = measured("failover", "--agents", "6", "--tasks", "20")["results"]
    assert 0 < results["start_s"] <= results["recover_s"]
    assert results["registered_s"] <= results["recover_s"]


def test_failover_of_the_core() -> None:
    results = measured("failover", "--agents", "30", "--tasks", "100", "--core")["results"]
    assert 0 < results["load_s"] < results["recover_s"]


@pytest.mark.e2e
def test_state() -> None:
    results = measured("state", "--agents", "5", "--tasks", "100")["results"]
    assert {"state_s", "state_mb", "other_p99_s", "longest_stall_s"} <= results.keys()
    assert 0.01 < results["state_mb"] < 1  # A hundred tasks.
    assert results["other_p99_s"] <= results["other_max_s"]


@pytest.mark.e2e
@pytest.mark.parametrize("containerizer", ["oci", "docker"])
def test_launch_in_images(containerizer: str) -> None:
    """What is not here is not measured, and that is said: no number takes its place."""
    done = bench("launch", "--containerizer", containerizer, "--tasks", "4", "--rounds", "1", "--docker-socket", "/nowhere", "--json")
    if os.geteuid() != 0 or not shutil.which("runc") or not shutil.which("busybox"):
        assert done.returncode == 1
    elif containerizer == "docker":
        assert done.returncode == 1
        assert "no Docker engine answers at /nowhere" in done.stderr
    else:
        report = json.loads(done.stdout)
        assert report["params"] == {"containerizer": "oci", "instances": 4, "rounds": 1}
        assert report["results"].keys() == {"oci_per_s", "runc_per_s", "oci_to_runc"}
        assert all(number > 0 for number in report["results"].values())
        assert report["peers"]["docker run"].startswith("NOT MEASURED")


def test_launch() -> None:
    report = measured("launch", "--tasks", "5", "--rounds", "1")
    results = report["results"]
    assert {"launch_per_s", "spawn_per_s", "xargs_per_s", "ratio"} <= results.keys()
    assert results["ratio"] == pytest.approx(results["launch_per_s"] / results["xargs_per_s"])
    for peer in ("celery", "dask", "ray", "slurm"):
        assert f"{peer}_per_s" in results or report["peers"][peer].startswith("not ")


@pytest.mark.e2e
def test_embedded() -> None:
    results = measured("embedded", "--seconds", "0.2")["results"]
    assert {"first_output_s", "idle_mb", "idle_cpu_percent", "help_s", "node_list_s"} == results.keys()
    assert results["idle_mb"] > 10
    assert 0 < results["help_s"] < results["first_output_s"]


@pytest.mark.e2e
def test_cron() -> None:
    """Beside peers that are not there, in an interpreter without packages: that is said, and no number takes their place."""
    sizes = ("--jobs", "300", "--schedules", "400", "--due", "20", "--listed", "300", "--seconds", "1")
    report = measured("cron", *sizes, "--peers-python", os.path.realpath(sys.executable))
    results = report["results"]
    assert {"load_s", "rss_mb", "lateness_p50_s", "lateness_p99_s", "idle_cpu", "list_ms", "search_ms"} <= results.keys()
    assert results["lateness_p50_s"] <= results["lateness_p99_s"] <= results["launched_p99_s"] <= results["all_over_s"]
    assert results["rss_mb"] > 10
    assert not any(name.startswith(("apscheduler", "celery")) for name in results)
    assert report["peers"]["APScheduler"].startswith("NOT MEASURED")
    assert report["peers"]["Celery beat"].startswith("NOT MEASURED")


def test_how_many_times_as_late_and_slow_peers_were() -> None:
    ours = {"lateness_p99_s": 0.5, "load_s": 2.0}
    assert ratios(ours, 1000) == {}
    peer = {"celery_jobs": 100.0, "celery_lateness_p99_s": 5.0, "celery_load_s": 1.0}
    assert ratios(ours | peer, 1000) == {"celery_to_ours_late": 10.0, "celery_to_ours_load": 5.0}


def test_the_bars_are_commands_and_sizes_that_there_are() -> None:
    for command, sizes in BARS:
        assert sizes.keys() <= {parameter.name for parameter in command.params}, command.name


def test_sim() -> None:
    results = measured("sim", "--seeds", "1", "--minutes", "0.5")["results"]
    assert results["seeds"] == 1
    assert results["hours"] > 0.5 / 60
    assert results["hours_per_minute"] > 0


def test_people_get_lines() -> None:
    done = bench("failover", "--core", "--agents", "3", "--tasks", "9")
    assert done.stdout.startswith("failover  (agents 3, tasks 9, of core)\n")
    assert "recover_s" in done.stdout
    assert "beside: Mesos 1.5" in done.stdout


def test_sim_needs_a_checkout(tmp_path: Path) -> None:
    script = f"import sys; sys.path[:] = [p for p in sys.path if p not in ('', {str(ROOT)!r})]; sys.modules['tests'] = None\n"
    script += f"sys.path.append({str(ROOT)!r})\nfrom kernel.cli import run\nsys.exit(run(['bench', 'sim']))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "checkout" in done.stderr
