"""Work goes on while its processes are killed at random moments: nothing acknowledged is lost, nothing runs twice.

Tasks are witnesses: each writes down its pid when it begins and its status when it ends. A launcher that is killed while a
task ends may leave nobody who knows the status; that is said honestly ("exit status unknown") and is all that is allowed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel.supervisor import start_time
from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import alive, launcher, left, settled

pytestmark = pytest.mark.e2e

FRAMEWORK = "framework"
VICTIMS = ("master", "agent-1", "agent-2", "launcher of agent-1", "launcher of agent-2", FRAMEWORK, "up")
UNKNOWN = "exit status unknown"
RECONCILED = "Reconciliation: Latest task state: "  # Before a message that a framework asked for before it was told.
LATE_S = 1.0  # An unknown exit is one while there was no launcher; how late one may look on a loaded machine.
AWAY_MAX_S = 8.0  # `meseta run` loses its tasks when it is away for 10 s.


class Witness:
    """Scripts that write down what they do, and what they wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = folder / "gate"
        folder.mkdir()

    def short(self, task_id: str, duration_s: float, status: int) -> str:
        return f"{self._begin(task_id)} sleep {duration_s}; {self._end(task_id, status)}"

    def long(self, task_id: str, status: int) -> str:
        """One that ends when the gate opens."""
        return f"{self._begin(task_id)} until test -e {self.gate}; do sleep 0.1; done; {self._end(task_id, status)}"

    def many(self, duration_s: float) -> str:
        """A script for several instances: each has a name of its own, its sandbox."""
        return f"me=$(basename $PWD); {self._begin('$me')} sleep {duration_s}; {self._end('$me', 0)}"

    def begun(self, task_id: str) -> list[int]:
        """The pids it ran as."""
        file = self.folder / f"{task_id}.begun"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def ended(self, task_id: str) -> list[int]:
        """The statuses it was about to end with."""
        file = self.folder / f"{task_id}.ended"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def ended_s(self, task_id: str) -> float:
        return (self.folder / f"{task_id}.ended").stat().st_mtime

    def _begin(self, task_id: str) -> str:
        return f'echo $$ >> "{self.folder}/{task_id}.begun";'

    def _end(self, task_id: str, status: int) -> str:
        return f'echo {status} >> "{self.folder}/{task_id}.ended"; exit {status}'


class Chaos:
    """Kills parts of a cluster, and a framework that is started again each time."""

    def __init__(self, cluster: Cluster, seed: int, start_framework: Callable[[], subprocess.Popen[str]]) -> None:
        self.cluster, self.random = cluster, random.Random(seed)
        self._start_framework = start_framework
        self.framework = start_framework()
        self._launcher_deaths: dict[str, float] = {}  # The last of each agent's.
        self._absences: list[tuple[float, float]] = []

    def kill(self, victim: str) -> bool:
        """kill -9; False when there was nothing to kill, because it is not back yet."""
        if victim == FRAMEWORK:
            self.framework.kill()
            self.framework.communicate()
            self.framework = self._start_framework()
        elif victim == "up":
            self.cluster.kill("up")
            self.cluster.up()
        elif victim.startswith("launcher"):
            agent = victim.removeprefix("launcher of ")
            pid = launcher(self.cluster, agent)
            if pid is None:
                return False
            self._note_absence(agent)
            self._launcher_deaths[agent] = time.time()
            os.kill(pid, signal.SIGKILL)
        elif (pid := self.cluster.daemon(victim)["pid"]) is None or not alive(pid):
            return False
        else:
            os.kill(pid, signal.SIGKILL)
        return True

    def _note_absence(self, agent: str) -> None:
        """The launcher that is here now has made its socket when it began."""
        death_s = self._launcher_deaths.pop(agent, None)
        if death_s is not None:
            back_s = (self.cluster.work_dir / agent / "launcher/launcher.sock").stat().st_mtime
            self._absences.append((death_s, back_s if back_s > death_s else time.time()))

    def launcher_was_away(self, at_s: float) -> bool:
        """Whether some launcher may not have seen what happened at this time."""
        for agent in list(self._launcher_deaths):
            self._note_absence(agent)
        return any(death_s - LATE_S <= at_s <= back_s + LATE_S for death_s, back_s in self._absences)

    def rage(self, kills: int, pause_s_max: float) -> list[str]:
        """Kill at random moments; return whom."""
        killed = []
        for _ in range(kills):
            time.sleep(self.random.random() * pause_s_max)  # The moment is what is tried here; nothing is waited for.
            victim = self.random.choice(VICTIMS)
            if self.kill(victim):
                killed.append(victim)
            if len(killed) % 10 == 9:  # Restarts back off; without a rest all would soon be down for long.
                settled(self.cluster)
        return killed


def statuses(file: Path, prefix: str) -> dict[str, list[str]]:
    """What the recorder wrote down: task id -> texts, in their order."""
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT key, value FROM entries WHERE key LIKE ?", (f"{prefix}/%",)).fetchall()
    connection.close()
    found: dict[str, list[str]] = {}
    for key, text in sorted((key.split("/"), bytes(value).decode()) for key, value in rows):
        found.setdefault(key[1], []).append(text)
    return found


def check(witness: Witness, chaos: Chaos, task_id: str, state: str, message: str, expected: int) -> None:
    """What a framework was told of a task is what the task did."""
    what = f"{task_id}: told {state} {message!r}, ran as {witness.begun(task_id)}, ended with {witness.ended(task_id)}"
    assert len(witness.begun(task_id)) <= 1, what
    if UNKNOWN in message:
        assert state == "TASK_FAILED", what
        assert not witness.ended(task_id) or chaos.launcher_was_away(witness.ended_s(task_id)), what
        return
    assert len(witness.begun(task_id)) == 1, what
    assert witness.ended(task_id) == [expected], what
    if expected == 0:
        assert state == "TASK_FINISHED", what
    else:
        assert (state, message.removeprefix(RECONCILED)) == ("TASK_FAILED", f"Command exited with status {expected}"), what


def storm(
    cluster: Cluster, witness: Witness, seed: int, plan: dict[str, Any], kills: int, pause_s_max: float
) -> tuple[Chaos, dict[str, tuple[str, str]]]:
    """Have the recorder run a plan while everything is killed; then let the long tasks end. Returns the state and message
    it was told of each task."""
    plan_file, file = witness.folder / "plan.json", witness.folder / "recorder.db"
    plan_file.write_text(json.dumps(plan))

    def start_framework() -> subprocess.Popen[str]:
        recorder = Path(__file__).with_name("recorder.py")
        command = [sys.executable, "-P", str(recorder), cluster.urls["master"], str(file), str(plan_file)]  # -P: other files are here.
        return cluster.spawn(command, stderr=subprocess.PIPE)

    chaos = Chaos(cluster, seed, start_framework)
    try:
        killed = chaos.rage(kills, pause_s_max)
        settled(cluster)
        longs = [task_id for task_id in plan if task_id.startswith("long")]
        ended_early = chaos.framework.poll
        eventually(lambda: ended_early() is not None or all(witness.begun(task_id) for task_id in longs), 60, "all long tasks run")
        witness.gate.touch()
        output, errors = chaos.framework.communicate(timeout=120)
    finally:
        witness.gate.touch()
        chaos.framework.kill()
        chaos.framework.communicate()
    print("killed:", ", ".join(killed))
    assert chaos.framework.returncode == 0, output + errors + cluster.logs()
    ended, heard = statuses(file, "ended"), statuses(file, "heard")
    assert ended.keys() == plan.keys()
    for task_id, texts in ended.items():
        assert len(texts) == 1, (task_id, texts)
        ends = {text for text in heard[task_id] if not text.startswith("TASK_DROPPED ")}  # Not begun: launched anew by the SDK.
        assert len(ends) == 1, f"a terminal state is final, and told by one update: {task_id} {ends}"
    return chaos, {task_id: (texts[0].partition(" ")[0], texts[0].partition(" ")[2]) for task_id, texts in ended.items()}


@pytest.mark.parametrize(
    ("seed", "kills", "short", "pause_s_max"),
    [
        (1, 12, 250, 0.8),
        (2, 12, 250, 0.8),
        *(pytest.param(seed, 60, 1500, 2.0, marks=[pytest.mark.soak, pytest.mark.timeout(1200)]) for seed in range(100, 105)),
    ],
)
def test_nothing_acknowledged_is_lost(
    start_cluster: Callable[..., Cluster], tmp_path: Path, seed: int, kills: int, short: int, pause_s_max: float
) -> None:
    cluster = start_cluster(only="master,agent")
    witness, rng = Witness(tmp_path / "witness"), random.Random(seed)
    expected = {f"short-{number}": number % 4 for number in range(short)}
    plan = {task_id: witness.short(task_id, round(rng.random() * pause_s_max, 2), status) for task_id, status in expected.items()}
    for number in range(6):
        expected[f"long-{number}"] = 40 + number
        plan[f"long-{number}"] = witness.long(f"long-{number}", 40 + number)
    chaos, told = storm(cluster, witness, seed, dict(rng.sample(sorted(plan.items()), len(plan))), kills, pause_s_max)
    unknown = 0
    for task_id, (state, message) in told.items():
        check(witness, chaos, task_id, state, message, expected[task_id])
        unknown += UNKNOWN in message
    print(f"{len(told)} tasks, {unknown} with exit status unknown")
    assert not cluster.json("task", "list")
    cluster.down()
    assert not left(cluster)


@pytest.mark.parametrize(
    ("seed", "kills", "short", "pause_s_max"),
    [
        (4, 12, 150, 0.8),
        *(pytest.param(seed, 60, 1000, 2.0, marks=[pytest.mark.soak, pytest.mark.timeout(1200)]) for seed in range(300, 303)),
    ],
)
def test_a_custom_executor_outlives_all_that_is_around_it(
    start_cluster: Callable[..., Cluster], tmp_path: Path, seed: int, kills: int, short: int, pause_s_max: float
) -> None:
    """Whoever dies: each agent has one executor from first to last, and what it reports is what the framework hears."""
    cluster = start_cluster(only="master,agent")
    witness, rng = Witness(tmp_path / "witness"), random.Random(seed)
    argv = [sys.executable, "-P", str(Path(__file__).with_name("witness_executor.py"))]
    plan: dict[str, Any] = {}
    for number in range(short + 6):
        seconds = None if number < 6 else round(rng.random() * pause_s_max, 2)
        data = {"folder": str(witness.folder), "seconds": seconds, "good": number % 3 > 0}
        plan[f"{'long' if seconds is None else 'short'}-{number}"] = {"argv": argv, "data": data}
    _, told = storm(cluster, witness, seed, dict(rng.sample(sorted(plan.items()), len(plan))), kills, pause_s_max)
    pids = set()
    for task_id, (state, message) in told.items():
        what = f"{task_id}: told {state} {message!r}, ran as {witness.begun(task_id)}, ended as {witness.ended(task_id)}"
        assert (state, message) == ("TASK_FINISHED" if plan[task_id]["data"]["good"] else "TASK_FAILED", "as ordered"), what
        assert len(witness.begun(task_id)) == 1, what
        assert witness.begun(task_id) == witness.ended(task_id), what
        pids.update(witness.begun(task_id))
    assert len(pids) <= cluster.agents
    assert not cluster.json("task", "list")
    cluster.down()
    assert not left(cluster)


def test_long_tasks_keep_their_process_through_every_death(start_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    """`meseta run` waits through the death of everything but itself, each in turn, and gets the status of the process it began."""
    cluster = start_cluster(only="master,agent")
    witness = Witness(tmp_path / "witness")
    runs = {}
    for number in range(4):
        script = witness.long(f"long-{number}", 40 + number)
        runs[number] = cluster.spawn([*MESETA, "run", "--name", f"long-{number}", "--", "sh", "-c", script], stderr=subprocess.PIPE)
    try:
        eventually(lambda: all(witness.begun(f"long-{number}") for number in runs), what="all tasks run")
        pids = {number: witness.begun(f"long-{number}")[0] for number in runs}
        began = {number: start_time(pid) for number, pid in pids.items()}
        chaos = Chaos(cluster, 0, lambda: runs[0])
        for victim in VICTIMS:
            if victim != FRAMEWORK:
                eventually(lambda victim=victim: chaos.kill(victim), what=victim)  # type: ignore[misc]
                settled(cluster)
                assert {number: start_time(pid) for number, pid in pids.items()} == began, f"after the death of {victim}"
        witness.gate.touch()
        for number, process in runs.items():
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 40 + number, errors + cluster.logs()
            assert witness.begun(f"long-{number}") == [pids[number]]
    finally:
        witness.gate.touch()
        for process in runs.values():
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("seed", "kills", "instances"),
    [(3, 6, 150), *(pytest.param(seed, 20, 1000, marks=[pytest.mark.soak, pytest.mark.timeout(1200)]) for seed in range(200, 203))],
)
def test_many_instances_end_once_each(start_cluster: Callable[..., Cluster], tmp_path: Path, seed: int, kills: int, instances: int) -> None:
    """`meseta run --instances` itself lives; masters, agents and launchers do not."""
    cluster = start_cluster(only="master,agent")
    witness = Witness(tmp_path / "witness")
    command = [*MESETA, "run", "--json", "--name", "many", "--cpus", "0.1", "--mem", "8", "--instances", str(instances)]
    process = cluster.spawn([*command, "--", "sh", "-c", witness.many(0.3)], stderr=subprocess.PIPE)
    chaos = Chaos(cluster, seed, lambda: process)
    try:
        for _ in range(kills):
            time.sleep(chaos.random.random())
            chaos.kill(chaos.random.choice([victim for victim in VICTIMS if victim != FRAMEWORK]))
            if any(daemon["state"] != "running" for daemon in cluster.state()["daemons"]):
                settled(cluster, AWAY_MAX_S * 4)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    lines = [json.loads(line) for line in output.splitlines()]
    ended = [line for line in lines if line["type"] == "ended"]
    assert len(ended) == len({line["task_id"] for line in ended}) == instances, errors + cluster.logs()
    unknown = 0
    for line in ended:
        assert line["state"] == "TASK_FINISHED" or UNKNOWN in line["message"], line
        unknown += line["state"] != "TASK_FINISHED"
    marks = list(witness.folder.glob("*.begun"))
    assert len(marks) >= instances - unknown
    assert all(len(file.read_text().split()) == 1 for file in marks), "no task ran twice"
    assert lines[-1] == {**lines[-1], "type": "result", "exit_status": int(unknown > 0)}
