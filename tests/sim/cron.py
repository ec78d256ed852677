"""The Jepsen test of Chronos (2015) on a simulated cluster: jobs with schedules, halves of the cluster that cannot reach each other,
crashes of all its parts between any two of their acts; then peace. `tests/sim/cron_checker.py` says whether what ran is what was due.

The cores of scheduler, master, agents and launchers are the real ones. History is a table that outlives the scheduler's crashes; a write
to it takes a while, and a crash may lose it.
"""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from chronos import inputs
from chronos.core import ChronosScheduler, chronos_info
from chronos.job import job_of
from chronos.life import Settings
from chronos.run import Run
from chronos.schedule import show_time
from chronos.schedule.zones import UTC_ZONE
from kernel.errors import KernelError
from tests.sim import cron_checker
from tests.sim.cluster import Cluster, Framework
from tests.sim.cron_checker import EPSILON_S, Posted, Ran
from tests.sim.history import Outcome, told
from tests.sim.world import WALL_S

HEAD_START_S = 10
BACK_S = 10.0  # After the end of all trouble, when everything is to be as if nothing had been.
HISTORY_WRITE_S = 0.3


class Scale(Struct, frozen=True):
    """seconds: of trouble, of which every other partition_s the halves are apart. jobs: posted meanwhile. repeats_max: of one."""

    seconds: float
    partition_s: float
    jobs: int
    repeats_max: int


FULL = Scale(seconds=1000.0, partition_s=200.0, jobs=20, repeats_max=99)
SMALL = Scale(seconds=300.0, partition_s=60.0, jobs=8, repeats_max=20)


class JobScheduler(Framework):
    """The scheduler of jobs, with its history on the disk."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.history: dict[str, Run] = {}

    def make(self) -> ChronosScheduler:  # type: ignore[override]
        info = chronos_info(self.name, user="", roles=(self.role,), failover_timeout_s=3600.0, webui_url=None, principal=None)
        fresh_id, spread = f"{self.name}-{self.life}", self.world.chance.random()
        return ChronosScheduler(info, dict(self.kept), fresh_id=fresh_id, spread=spread, settings=Settings(retry_ms=3_000))

    def perform(self, effect: Any) -> None:
        if isinstance(effect, inputs.Over):
            self._record(effect.run)
        else:
            super().perform(effect)

    def _record(self, run: Run) -> None:
        life, chance = self.life, self.world.chance

        def write() -> None:
            if self.alive(life):
                known = self.history.setdefault(run.run_id, run)
                assert known == run, f"{run.run_id} has two ends: {known} and {run}"
                self.world.after(chance.uniform(0, 0.05), recorded)

        def recorded() -> None:
            if self.alive(life):
                self.give(inputs.Recorded((run.run_id,)))

        self.world.after(chance.uniform(0, HISTORY_WRITE_S), write)

    def outage_s(self) -> float:
        """Now and then long enough that slots are missed."""
        return super().outage_s() * self.world.chance.choice((1, 1, 1, 20))

    @property
    def offset_s(self) -> float:
        """What its clock shows at the beginning of the world."""
        return WALL_S + self._wall_offset_s


class CronCluster(Cluster):
    """posted: the jobs whose POST was answered. healed_s: when all trouble was over."""

    framework_class = JobScheduler

    def __init__(self, seed: int, scale: Scale = FULL, agents: int = 4) -> None:
        super().__init__(seed, agents=agents, frameworks=1)
        self.scale = scale
        self.scheduler: JobScheduler = self.frameworks[0]  # type: ignore[assignment]
        self.posted: dict[str, Posted] = {}
        self.healed_s = 0.0
        self._names = 0

    # ---- Jobs -------------------------------------------------------------------------------------------

    def post(self) -> None:
        """A job of 0 to 9 s, a second and up to 29 more between its runs; in one of four cases others depend on it."""
        chance = self.world.chance
        self._names += 1
        duration_s = chance.randrange(10)
        job = Posted(
            name=f"j{self._names}",
            start_ms=(int(self.scheduler.now().wall_s) + HEAD_START_S + chance.randrange(10)) * 1000,
            interval_s=duration_s + int(EPSILON_S) + chance.randrange(30),
            repeats=chance.randint(1, self.scale.repeats_max),
            overlap=chance.choice(("queue", "queue", "allow", "skip", "replace")),
            retry_unreachable=chance.random() < 0.3,
        )
        meseta = {
            "overlap": job.overlap,
            "catchUp": chance.choice(("latest", "latest", "all", "none")),
            "retryUnreachable": job.retry_unreachable,
            "unreachableAfter": chance.choice(("30s", "15m")),
        }
        if self.post_job(job, f"run {duration_s} exit {chance.choice((0, 0, 0, 'any'))}", meseta) and chance.random() < 0.25:
            self.post_below(job)

    def post_job(self, job: Posted, command: str, meseta: dict[str, Any]) -> bool:
        """Say whether the POST was answered."""
        schedule = f"R{job.repeats}/{show_time(job.start_ms, UTC_ZONE)}/PT{job.interval_s}S"
        answered = self._put({"name": job.name, "schedule": schedule, "command": command, "meseta": meseta})
        if answered:
            self.posted[job.name] = job
        return answered

    def post_below(self, root: Posted) -> None:
        """Two that wait for it, and one that waits for both."""
        chance = self.world.chance
        below = {f"{root.name}.a": [root.name], f"{root.name}.b": [root.name], f"{root.name}.c": [f"{root.name}.a", f"{root.name}.b"]}
        for name, parents in below.items():
            retry_unreachable = chance.random() < 0.3
            meseta = {"overlap": "allow", "unreachableAfter": "30s", "retryUnreachable": retry_unreachable}
            command = f"run {chance.randrange(3)} exit {chance.choice((0, 0, 'any'))}"
            if not self._put({"name": name, "parents": parents, "command": command, "meseta": meseta}):
                return
            self.posted[name] = Posted(name, 0, 0, 0, "allow", retry_unreachable, tuple(parents), root.name)

    def _put(self, fields: dict[str, Any]) -> bool:
        """POST a job; say whether it was answered."""
        life = self.scheduler.life
        answer = self.scheduler.give(inputs.Put(job_of({"cpus": 0.1, "mem": 16, "disk": 1, **fields})))
        assert not isinstance(answer, KernelError), answer
        return self.scheduler.alive(life)

    # ---- Trouble ----------------------------------------------------------------------------------------

    def live(self) -> None:
        """Everything from the first job to rest."""
        scale, world, chance = self.scale, self.world, self.world.chance
        until_s = scale.seconds
        crashes_per_minute = chance.choice((0.0, 1.0, 3.0, 6.0))

        def work() -> None:
            if world.now_s < until_s - HEAD_START_S and self._names < scale.jobs:
                self.post()
                world.after(chance.uniform(0, 1.6 * scale.seconds / scale.jobs), work)

        def halve() -> None:
            if world.now_s < until_s:
                machines = chance.sample([self.scheduler, self.master, *self.agents], (2 + len(self.agents)) // 2)
                self.network.partition({name for machine in machines for name in (machine.name, f"{machine.name}-launcher")})
                world.after(scale.partition_s, self.network.heal)
                world.after(2 * scale.partition_s, halve)

        def crash() -> None:
            if world.now_s < until_s:
                victim = chance.choice([self.scheduler, self.scheduler, *self.processes])
                victim.crash_soon() if chance.random() < 0.7 else victim.crash()
                world.after(chance.expovariate(crashes_per_minute / 60), crash)

        world.after(5.0, work)
        world.after(scale.partition_s, halve)
        if crashes_per_minute:
            world.after(5.0, crash)
        self.step_until(lambda: world.now_s >= until_s)
        self.network.heal()
        for process in self.processes:
            process.spare()
        self.rest()

    def rest(self) -> None:
        """Peace, until all that was posted has run."""
        world = self.world
        self.step_until(lambda: all(process.core is not None for process in self.processes))
        self.healed_s = world.now_s
        longest_s = self.scale.repeats_max * 40
        self.step_until(lambda: world.now_s > self.healed_s + longest_s + 2000 or self.at_rest())
        assert self.at_rest(), self.unfinished()

    def step_until(self, done: Any) -> None:
        while not done():
            self.world.step()
            self.check()

    def unfinished(self) -> str:
        core = self.scheduler.core
        if core is not None and core.life.runs:
            return f"runs are not over: {[(run.run_id, run.state, run.reason) for run in core.life.runs.values()][:5]}"
        waiting = [entry.name for entry in core.book.entries.values() if entry.status.next_ms is not None] if core is not None else []
        return f"{waiting} are due later" if waiting else super().unfinished()

    # ---- The end ----------------------------------------------------------------------------------------

    def check_end(self) -> None:
        """What ran is what was due, and history tells of all of it."""
        assert self.scheduler.stopped is None, self.scheduler.stopped
        assert len(self.scheduler.ids) == 1, f"the scheduler had the ids {self.scheduler.ids}"
        offset_s = self.scheduler.offset_s
        ran = [
            Ran(process.task, process.began_s + offset_s, process.ended_s + offset_s, process.status or 0)
            for agent in self.agents
            for process in agent.machine.processes.values()
        ]
        cron_checker.check(self.posted, self.scheduler.history, ran, self.healed_s + offset_s + BACK_S)


def run(seed: int, scale: Scale = FULL) -> Outcome:
    """Simulate one history; raises nothing."""
    began_s = time.process_time()
    cluster = CronCluster(seed, scale)

    def play() -> None:
        cluster.live()
        cluster.check_end()

    fault = told(play)
    crashes = sum(process.crashes for process in cluster.processes)
    return Outcome(seed, fault, len(cluster.scheduler.history), crashes, cluster.world.now_s, time.process_time() - began_s)


def run_minutes(seed: int, minutes: float) -> Outcome:
    """The same at another length: of so many minutes of trouble, with partitions in proportion."""
    return run(seed, replace(FULL, seconds=minutes * 60, partition_s=minutes * 60 / 5))


def run_killed(victim: str, acts: int) -> bool:
    """A job of three runs, with some that depend on it; one process dies at so many acts after the POST, and comes back. Returns whether
    it came to that. Raises AssertionError when all is not as it would have been."""
    cluster = CronCluster(0, replace(SMALL, repeats_max=3), agents=1)
    cluster.step_until(lambda: cluster.world.now_s > 5)
    agent = cluster.agents[0]
    processes = {"scheduler": cluster.scheduler, "master": cluster.master, "agent": agent, "launcher": agent.launcher}
    processes[victim].die_in(acts)
    start_ms = (int(cluster.scheduler.now().wall_s) + 2) * 1000
    job = Posted("j", start_ms, 4, 3, "queue", False)
    if cluster.post_job(job, "run 1 exit 0", {}):
        cluster.post_below(job)
    cluster.rest()
    cluster.check_end()
    return processes[victim].crashes > 0
