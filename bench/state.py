"""State: the time and size of `/state` at a master with agents and running tasks, while another client keeps calling.

The reader is a process of its own. The other client asks by turns for something small that passes the main loop and has its next
call ready at once; how long its answers take is what a large read costs everybody else.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time

import aiohttp

from bench.emulation import Fleet, Framework
from bench.failover import IN_FLIGHT, load
from bench.master import MasterProcess
from bench.report import BenchError, Report, percentile
from kernel.net import loop as event_loop

PEERS = {"Mesos 1.7 (/state of 20,000 agents and 400,000 tasks; C++, hardware not published)": "3.1 s"}
QUIET_S = 2.0
_READ = """
import http.client, sys, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.connect()
began_s, size = time.perf_counter(), 0
connection.request("GET", "/state")
answer = connection.getresponse()
assert answer.status == 200, answer.status
while piece := answer.read1(1 << 20):
    size += len(piece)
print(time.perf_counter() - began_s, size)
"""


class _Other:
    """The client that keeps calling."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.waits_s: list[float] = []
        self._session, self._url = session, url

    async def call(self) -> None:
        """Until cancelled."""
        while True:
            began_s = time.perf_counter()
            async with self._session.post(f"{self._url}/api/v1", json={"type": "GET_MASTER"}) as answer:
                answer.raise_for_status()
                await answer.read()
            self.waits_s.append(time.perf_counter() - began_s)


async def _read(port: int) -> tuple[float, float]:
    """Seconds and 10^6 bytes of one `/state`."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _READ, str(port), stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise BenchError("/state could not be read")
    seconds, size = out.split()
    return float(seconds), int(size) / 1e6


async def _measure(master: MasterProcess, agents: int, tasks: int) -> dict[str, float]:
    fleet = Fleet(master.port, agents, tasks_each=-(-tasks // agents) + 1, keep=True)
    framework = Framework(0, batched=True, in_flight=IN_FLIGHT, tasks_max=tasks)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        serving = await load(master, fleet, framework, session)
        other = _Other(session, master.url)
        gc.collect()
        gc.freeze()  # A pause of this process would be taken for one of the master.
        calling = asyncio.create_task(other.call())
        try:
            await asyncio.sleep(QUIET_S)
            quiet, other.waits_s = other.waits_s, []
            cold_s, size_mb = await _read(master.port)
            busy, other.waits_s = other.waits_s, []
            again_s, _ = await _read(master.port)
            busy += other.waits_s
            return {
                "state_s": cold_s,
                "state_again_s": again_s,
                "state_mb": size_mb,
                "other_p99_s": percentile(busy, 0.99),
                "other_max_s": max(busy, default=0.0),
                "other_quiet_p99_s": percentile(quiet, 0.99),
                "master_rss_mb": master.rss_mb(),
                "longest_stall_s": await asyncio.to_thread(master.longest_stall_s),
            }
        finally:
            gc.unfreeze()
            for task in (calling, serving):
                task.cancel()
            await asyncio.gather(calling, serving, return_exceptions=True)
            fleet.close()


def run(agents: int, tasks: int) -> Report:
    """Measure one master. Raises BenchError when it misbehaves."""
    with MasterProcess() as master:
        results = event_loop.run(_measure(master, agents, tasks))
    return Report("state", {"agents": agents, "tasks": tasks}, results, PEERS)
