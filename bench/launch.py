"""Launch: real processes on one real agent, from the command to the acknowledged end of all, beside bare loops that start the
same program.

`meseta run --instances N -- true` on an embedded cluster with one agent; the clock runs from the command's exec to its exit. As root
also on one whose tasks are held by control groups (isolated), as they are by default.
Beside it, round by round, so that whoever else uses the machine slows all of them: posix_spawn with four in flight, `xargs -P 4`,
and other systems where they are installed (`bench.peers`). Medians of the rounds.
"""

from __future__ import annotations

import os
import select
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench.cluster import Cluster
from bench.peers import Peers
from bench.report import Report

TRUE = shutil.which("true") or "/bin/true"
IN_FLIGHT = 4
PUBLISHED = {
    "Ray 2.60 (our measurement: 1,000 x true, 2 cores of a virtual machine, xargs -P 4 at 1,164/s)": "474/s",
    "Celery 5.7, 4 workers, Redis (same)": "159/s to 386/s",
    "Dask distributed 2026.8, 2 workers of 2 threads (same)": "210/s",
    "GNU parallel 20221122 -j4 (same)": "165/s",
    "Slurm 22.05 tuned (same)": "31/s",
}


def _launch(cluster: Cluster, instances: int) -> float:
    """Seconds for so many tasks."""
    began_s = time.perf_counter()
    cluster.meseta("run", "--instances", str(instances), "--cpus", "0.01", "--mem", "1", "--", TRUE)
    return time.perf_counter() - began_s


def _spawn(instances: int) -> float:
    """Seconds for so many processes, four at a time, started the quickest way there is and waited for by pidfd."""
    began_s = time.perf_counter()
    poll = select.epoll()
    running: dict[int, int] = {}
    left = instances
    while left or running:
        while left and len(running) < IN_FLIGHT:
            pid = os.posix_spawn(TRUE, [TRUE], os.environ)
            handle = os.pidfd_open(pid)
            poll.register(handle, select.EPOLLIN)
            running[handle] = pid
            left -= 1
        for handle, _ in poll.poll():
            poll.unregister(handle)  # Closing it is not enough: a child between fork and exec may hold it, too.
            os.waitpid(running.pop(handle), 0)
            os.close(handle)
    poll.close()
    return time.perf_counter() - began_s


def _xargs(instances: int) -> float:
    began_s = time.perf_counter()
    lines = "\n".join(map(str, range(instances)))
    subprocess.run(["xargs", "-P", str(IN_FLIGHT), "-n", "1", TRUE], input=lines, text=True, check=True)
    return time.perf_counter() - began_s


def run(instances: int, rounds: int, peers_python: str | None = None) -> Report:
    """Measure. peers_python: the interpreter that has the other systems. Raises BenchError when a cluster, a task or a peer fails."""
    with ExitStack() as stack:
        plain = stack.enter_context(Cluster(MESETA_ISOLATION="posix/cpu,posix/mem"))
        others = stack.enter_context(Peers(peers_python or sys.executable, TRUE))
        ours: dict[str, Callable[[int], float]] = {"launch": lambda count: _launch(plain, count)}
        if os.geteuid() == 0:
            isolated = stack.enter_context(Cluster(MESETA_ISOLATION="cgroups/all"))
            ours["isolated"] = lambda count: _launch(isolated, count)
        ways: dict[str, Callable[[int], float]] = {**ours, "spawn": _spawn, "xargs": _xargs, **others.measures}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for launch in ours.values():
            launch(min(instances, 50))
        for _ in range(rounds):
            for name, measure in ways.items():
                times[name].append(measure(instances))
    results = {f"{name}_per_s": instances / statistics.median(seconds) for name, seconds in times.items()}
    ratios = [xargs / launch for launch, xargs in zip(times["launch"], times["xargs"], strict=True)]
    results["ratio"] = statistics.median(ratios)
    results["ratio_worst"], results["ratio_best"] = min(ratios), max(ratios)
    if "isolated" in times:
        pairs = zip(times["launch"], times["isolated"], strict=True)
        results["isolated_to_launch"] = statistics.median(launch / isolated for launch, isolated in pairs)
    params: dict[str, int | float | str] = {"instances": instances, "rounds": rounds}
    return Report("launch", params, results, PUBLISHED | others.missing)
