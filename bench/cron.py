"""The scheduler of jobs under load: how long it takes to load, what it holds, how late it is, what it costs when nothing is due.

Each figure is of a real `meseta serve chronos` with a store made before, a real master, and emulated agents (`bench.emulation`); only
load_s is of the store and the core alone. lateness is from when a run was due to when it was handed to the driver, launched to when its
task was sent to an agent. Peers are measured in the same run (`bench/cron_peers.py`).
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from bench import cron_peers
from bench.emulation import Fleet
from bench.master import DaemonProcess, MasterProcess
from bench.report import BenchError, Report, percentile
from chronos.book import JOBS, STATUS
from chronos.core import ChronosScheduler, chronos_info
from chronos.entry import Status
from chronos.job import job_of, kept_job
from kernel.net import loop as event_loop
from kernel.store.sqlite import SqliteStore

NAME, WHEN, WHO = "NAME-OF-THE-JOB", "30 2 1 1 *", "OWNER-OF-THE-JOB"
WRITTEN_AT_ONCE = 20_000
FAR_MS = 30 * 86_400_000
DUE_IN_S = 8.0  # After the scheduler leads.
AGENTS, PAGE, ASKED = 100, 100, 30
SETTLED_S = 5.0
PATIENCE_S = 120.0  # Until all that was due is over.
PEERS = {
    "Temporal (its own figure for schedules that start together)": "about 1 s late",
    "Kubernetes CronJob (its controller looks every 10 s)": "10 s late",
}


class Load(Struct, frozen=True):
    """jobs: loaded, of which `due` are due in one second. schedules: held. listed: in lists. seconds: of idling."""

    jobs: int
    schedules: int
    due: int
    listed: int
    seconds: float


class Chronos(DaemonProcess):
    """A scheduler of jobs, with the jobs it finds. It answers when it leads."""

    def __init__(self, master: MasterProcess) -> None:
        flags = ("--master", master.url, "--logging_level", "ERROR")
        super().__init__("chronos", "--http-port", *flags, health="/v1/meseta/live?limit=1", start_s=300.0)

    def fill(self, count: int, due: int = 0, due_ms: int = 0) -> None:
        asyncio.run(_write(self.work_dir / "jobs.db", count, due, due_ms))

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=300) as answer:
            body: bytes = answer.read()
            return body


def _entries(count: int, due: int, due_ms: int) -> Iterator[tuple[str, bytes]]:
    """What a store holds of jobs, as the scheduler writes it: of many owners, at every minute of a day of the month."""
    now_ms = int(time.time() * 1000)
    fields = {"name": NAME, "command": f"echo {NAME}", "cpus": 1, "mem": 64, "schedule": WHEN, "owner": WHO}
    far = kept_job(msgspec.structs.replace(job_of(fields), disk=0.0))
    once = kept_job(msgspec.structs.replace(job_of({**fields, "schedule": f"R1/{_text(due_ms)}/PT1H"}), disk=0.0))
    soon = msgspec.msgpack.encode(Status(now_ms, next_ms=due_ms, left=1))
    for number in range(count):
        name = f"job-{number:07}"
        hour, minute = divmod(number % 1440, 60)
        body = (once if number < due else far).replace(NAME.encode(), name.encode())
        body = body.replace(WHEN.encode(), f"{minute} {hour} 1 * *".encode()).replace(
            WHO.encode(), f"team-{number % 1000}@example.org".encode()
        )
        yield JOBS + name, body
        later = Status(now_ms, next_ms=now_ms + FAR_MS + number % 1440 * 60_000)
        yield STATUS + name, soon if number < due else msgspec.msgpack.encode(later)


def _text(at_ms: int) -> str:
    from chronos.schedule import show_time
    from chronos.schedule.zones import UTC_ZONE

    return show_time(at_ms, UTC_ZONE)


async def _write(path: Path, count: int, due: int, due_ms: int) -> None:
    store = SqliteStore(path, durable=False)
    part: list[tuple[str, bytes | None]] = []
    for entry in _entries(count, due, due_ms):
        part.append(entry)
        if len(part) >= WRITTEN_AT_ONCE:
            await store.write(part)
            part = []
    await store.write(part)
    await store.close()


# ---- Figures --------------------------------------------------------------------------------------------


async def _load(path: Path, count: int) -> dict[str, float]:
    """From a store on the disk to a core that knows what is due."""
    await _write(path, count, 0, 0)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    store = SqliteStore(path)
    info = chronos_info("bench", user="", roles=("*",), failover_timeout_s=60.0, webui_url=None, principal=None)
    core = ChronosScheduler(info, await store.load(), fresh_id="bench")
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    await store.close()
    if len(core.book.entries) != count or core.book.due_ms(int(time.time() * 1000) + 2 * FAR_MS) is None:
        raise BenchError(f"{count} jobs were written, {len(core.book.entries)} were loaded")
    return {"load_s": took_s, "load_cpu_s": cpu_s}


def _idle(master: MasterProcess, load: Load) -> dict[str, float]:
    chronos = Chronos(master)
    chronos.fill(load.schedules)
    with chronos:
        time.sleep(SETTLED_S)
        began_s, cpu_s = time.perf_counter(), chronos.cpu_s()
        time.sleep(load.seconds)
        idle_cpu = (chronos.cpu_s() - cpu_s) / (time.perf_counter() - began_s)
        return {"rss_mb": chronos.rss_mb(), "idle_cpu": idle_cpu}


def _lists(master: MasterProcess, load: Load) -> dict[str, float]:
    chronos = Chronos(master)
    chronos.fill(load.listed)
    with chronos:
        middle, last = f"job-{load.listed // 2:07}", f"job-{load.listed - 1:07}"
        paths = {
            "list_ms": f"/v1/meseta/jobs?limit={PAGE}&after={middle}",
            "search_ms": f"/scheduler/jobs/search?any={last}",
            "list_all_ms": "/scheduler/jobs",
        }
        return {name: _took_ms(chronos, path) for name, path in paths.items()}


def _took_ms(chronos: Chronos, path: str) -> float:
    """The median of some."""
    chronos.get(path)
    took: list[float] = []
    for _ in range(ASKED if "?" in path else 3):
        began_s = time.perf_counter()
        chronos.get(path)
        took.append((time.perf_counter() - began_s) * 1000)
    return percentile(took, 0.5)


def _lateness(master: MasterProcess, load: Load) -> dict[str, float]:
    chronos = Chronos(master)
    began_s = time.time()
    chronos.fill(load.jobs)  # Once to see how long it takes to be there.
    with chronos:
        ready_s = time.time() - began_s
    chronos = Chronos(master)
    due_ms = int((time.time() + 2 * ready_s + DUE_IN_S) * 1000)
    chronos.fill(load.jobs, load.due, due_ms)
    with chronos:
        return event_loop.run(_due_at_once(master, chronos, load, due_ms))


async def _due_at_once(master: MasterProcess, chronos: Chronos, load: Load, due_ms: int) -> dict[str, float]:
    fleet = Fleet(master.port, AGENTS, tasks_each=-(-load.due // AGENTS), keep=False)
    try:
        await fleet.connect()
        if time.time() * 1000 > due_ms:
            raise BenchError("the scheduler was not ready in time: the machine is too busy")
        cpu_s = chronos.cpu_s()
        runs: list[_Run] = []
        until_s = due_ms / 1000 + PATIENCE_S
        while len(runs) < load.due:
            await asyncio.sleep(2.0)
            fleet.check()
            if time.time() > until_s:
                raise BenchError(f"of {load.due} runs only {len(runs)} came to an end")
            lines = await asyncio.to_thread(chronos.get, "/v1/meseta/export")
            runs = [_run.decode(line) for line in lines.splitlines()]
        handed = [run.late_ms / 1000 for run in runs]
        launched = [(run.attempts[0].launched - run.due) / 1000 for run in runs if run.attempts]
        return {
            "lateness_p50_s": percentile(handed, 0.5),
            "lateness_p99_s": percentile(handed, 0.99),
            "launched_p50_s": percentile(launched, 0.5),
            "launched_p99_s": percentile(launched, 0.99),
            "scheduler_cpu_s": chronos.cpu_s() - cpu_s,
            "all_over_s": max(run.ended for run in runs) / 1000 - due_ms / 1000,
        }
    finally:
        fleet.close()


class _Attempt(Struct):
    launched: int


class _Run(Struct, rename="camel"):
    due: int
    late_ms: int
    ended: int
    attempts: tuple[_Attempt, ...]


_run = msgspec.json.Decoder(_Run)


def run(load: Load, peers_python: str) -> Report:
    """Measure all of it, one after another. Raises BenchError."""
    with MasterProcess() as master:
        results = asyncio.run(_load(master.work_dir / "load" / "jobs.db", load.jobs))
        results |= _lateness(master, load)
        results |= _lists(master, load)
        results |= _idle(master, load)
    measured, notes = cron_peers.measure(peers_python, load.jobs, load.due)
    results |= measured
    return Report("cron", msgspec.structs.asdict(load), results | cron_peers.ratios(results, load.jobs), PEERS | notes)
