"""Placements: tasks accepted to TASK_RUNNING, per second, through a real master.

Agents and frameworks are emulated (`bench.emulation`), an agent ends a task as soon as its running is acknowledged. All of
them share this process, so the figure is the master's only while this process is not the slower one: its own CPU time is
printed beside the master's, and placements_per_cpu_s, by CPU time of the master, does not depend on who else uses the machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiohttp
import msgspec
from msgspec import Struct

from bench.emulation import Fleet, Framework
from bench.master import MasterProcess
from bench.report import BenchError, Report, percentile
from kernel.net import loop as event_loop

TASKS_PER_AGENT = 8
WARM_S = 2.0
PEERS = {
    "kube-scheduler (the gate of its own performance tests)": "810/s",
    "Nomad C1M (HashiCorp 2016; 5 servers of 16 cores, 5,000 clients)": "3,750/s",
    "Nomad C2M (HashiCorp 2020; 3 servers of 36 cores, 6,100 clients)": "1,500/s",
}


class Load(Struct, frozen=True):
    """in_flight: tasks accepted and not known to run yet, of all frameworks together: by it and the rate goes the latency.
    calls: `single` or `batched`."""

    agents: int
    frameworks: int
    roles: int
    in_flight: int
    seconds: float
    calls: str


async def _measure(master: MasterProcess, agents: int, frameworks: Sequence[Framework], seconds: float) -> dict[str, float]:
    fleet = Fleet(master.port, agents, tasks_each=TASKS_PER_AGENT, keep=False)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        serving: list[asyncio.Task[None]] = []
        try:
            await fleet.connect()
            serving += [asyncio.create_task(framework.serve(session, master.port)) for framework in frameworks]
            await _alive(serving, WARM_S)
            for framework in frameworks:
                framework.counting = True
            cpu_s, own_s, started = master.cpu_s(), time.process_time(), time.perf_counter()
            await _alive(serving, seconds)
            elapsed_s = time.perf_counter() - started
            latencies = [latency for framework in frameworks for latency in framework.latencies]
            fleet.check()
            cpu_s = master.cpu_s() - cpu_s
            return {
                "placements_per_s": len(latencies) / elapsed_s,
                "placements_per_cpu_s": len(latencies) / max(cpu_s, 0.01),
                "p50_s": percentile(latencies, 0.5),
                "p99_s": percentile(latencies, 0.99),
                "master_cpu_s": cpu_s,
                "master_rss_mb": master.rss_mb(),
                "load_cpu_s": time.process_time() - own_s,
                "longest_stall_s": await asyncio.to_thread(master.longest_stall_s),
            }
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            fleet.close()


async def _alive(tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Let time pass; raise what ended any of the tasks."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
        raise BenchError("the master closed a stream")


async def _run(master: MasterProcess, load: Load) -> dict[str, float]:
    each = max(1, load.in_flight // load.frameworks)
    batched = load.calls == "batched"
    frameworks = [Framework(number, batched=batched, in_flight=each, roles=load.roles) for number in range(load.frameworks)]
    return await _measure(master, load.agents, frameworks, load.seconds)


def run(load: Load) -> Report:
    """Measure one master. Raises BenchError when it misbehaves."""
    with MasterProcess() as master:
        results = event_loop.run(_run(master, load))
    return Report("placements", msgspec.structs.asdict(load), results, PEERS)
