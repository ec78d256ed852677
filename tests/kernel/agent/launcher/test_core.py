"""The launcher's decisions as values: repeats, orders, and a crash between any two steps."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from kernel.agent.launcher.core import (
    INTENT,
    STATE_CHUNK,
    Command,
    Core,
    Effect,
    Ended,
    Event,
    Execute,
    Exit,
    Forget,
    Hello,
    Kill,
    Launch,
    Reap,
    Record,
    Replace,
    Send,
    Signal,
    Spawn,
    Spawned,
    SpawnFailed,
    Stop,
)

Json = dict[str, Any]


def launch(name: str = "c1") -> Launch:
    return Launch(name, ("true",), {}, "/", "/dev/null", "/dev/null")


def running(*names: str) -> Core:
    core = Core()
    for pid, name in enumerate(names, start=100):
        core.receive(launch(name), 1.0)
        core.receive(Spawned(name, pid, 7), 1.0)
    return core


def test_a_life_in_order() -> None:
    core = Core()
    assert core.receive(launch(), 1.0) == [Record({"r": "intent", "c": "c1", "at": 1.0}), Spawn(launch())]
    assert core.receive(Spawned("c1", 100, 7), 1.5) == [
        Record({"r": "running", "c": "c1", "pid": 100, "start": 7}),
        Send({"type": "started", "container": "c1", "pid": 100}),
    ]
    exited = {"type": "exited", "container": "c1", "status": 256, "ended_s": 2.0}
    assert core.receive(Ended("c1", 256), 2.0) == [
        Record({"r": "exit", "c": "c1", "status": 256, "at": 2.0}),
        Reap("c1", 100),
        Send(exited),
    ]
    assert core.receive(launch(), 3.0) == [Send(exited)]  # A late repeat starts nothing.
    assert core.receive(Forget("c1"), 3.0) == [Record({"r": "forget", "c": "c1"})]
    assert core.snapshot() == []
    assert core.idle


def test_what_cannot_be_started_is_remembered_too() -> None:
    core = Core()
    core.receive(launch(), 1.0)
    failed = {"type": "failed", "container": "c1", "reason": "not found", "message": "no such file"}
    record = {"r": "failed", "c": "c1", "reason": "not found", "message": "no such file"}
    assert core.receive(SpawnFailed("c1", "not found", "no such file"), 1.0) == [Record(record), Send(failed)]
    assert core.receive(launch(), 2.0) == [Send(failed)]
    [state] = core.receive(Hello(), 2.0)
    assert isinstance(state, Send)
    assert state.message["containers"][0]["failed"] == {"reason": "not found", "message": "no such file"}
    assert core.receive(Forget("c1"), 3.0) == [Record({"r": "forget", "c": "c1"})]


@pytest.mark.parametrize("event", [Spawned("c1", 100, 7), SpawnFailed("c1", "r", "m"), Ended("c1", 9), Forget("c1"), Signal("c1", 15)])
def test_what_is_said_of_an_unknown_container_changes_nothing(event: Command | Event) -> None:
    core = Core()
    assert core.receive(event, 1.0) == []
    assert core.snapshot() == []


def test_a_repeated_event_changes_nothing() -> None:
    core = running("c1")
    assert core.receive(Spawned("c1", 101, 8), 2.0) == []
    assert core.receive(SpawnFailed("c1", "r", "m"), 2.0) == []
    core.receive(Ended("c1", 0), 2.0)
    assert core.receive(Ended("c1", 9), 3.0) == []
    assert core.receive(Signal("c1", 9), 3.0) == []


def test_a_running_container_is_not_forgotten() -> None:
    core = running("c1")
    assert core.receive(Forget("c1"), 2.0) == []
    assert core.receive(launch(), 2.0) == [Send({"type": "started", "container": "c1", "pid": 100})]


def test_a_signal_that_comes_before_its_process_waits_for_it() -> None:
    core = Core()
    core.receive(launch(), 1.0)
    assert core.receive(Signal("c1", 15, False), 1.0) == []
    effects = core.receive(Spawned("c1", 100, 7), 1.0)
    assert effects[1] == Kill(100, 7, 15, False)
    assert core.receive(Signal("c1", 9), 1.0) == [Kill(100, 7, 9, True)]


def test_exit_is_refused_while_anything_is_known() -> None:
    core = running("c1")
    assert core.receive(Exit(), 2.0) == [Send({"type": "busy", "containers": 1})]
    core.receive(Ended("c1", 0), 2.0)
    assert core.receive(Exit(), 2.0) == [Send({"type": "busy", "containers": 1})]
    core.receive(Forget("c1"), 2.0)
    assert core.receive(Exit(), 2.0) == [Stop()]


def test_exit_with_kill_all_kills_waits_and_stops() -> None:
    core = running("c1", "c2")
    assert core.receive(Exit(kill_all=True), 2.0) == [Kill(100, 7, 9, True), Kill(101, 7, 9, True)]
    [refusal] = core.receive(launch("c3"), 2.0)
    assert isinstance(refusal, Send)
    assert refusal.message["reason"] == "stopping"
    assert core.receive(Replace(("python",)), 2.0) == []
    assert Stop() not in core.receive(Ended("c1", 9), 2.0)
    assert core.receive(Ended("c2", 9), 2.0)[-1] == Stop()
    assert [r["c"] for r in core.snapshot() if r["r"] == "exit"] == ["c1", "c2"]  # The next launcher tells them.


def test_exit_with_kill_all_reaches_a_process_that_is_just_being_started() -> None:
    core = Core()
    core.receive(launch(), 1.0)
    assert core.receive(Exit(kill_all=True), 1.0) == []
    assert Kill(100, 7, 9, True) in core.receive(Spawned("c1", 100, 7), 1.0)
    assert core.receive(Ended("c1", 9), 1.0)[-1] == Stop()


def test_exit_with_kill_all_stops_at_once_when_nothing_runs() -> None:
    assert Core().receive(Exit(kill_all=True), 1.0) == [Stop()]
    core = Core()
    core.receive(launch(), 1.0)
    core.receive(Exit(kill_all=True), 1.0)
    assert core.receive(SpawnFailed("c1", "r", "m"), 1.0)[-1] == Stop()


def test_replace_names_the_successor() -> None:
    assert running("c1").receive(Replace(("python", "main.py")), 1.0) == [Execute(("python", "main.py"))]


def test_a_large_state_is_told_in_parts() -> None:
    core = Core()
    core.restore([{"r": "intent", "c": f"c{n}", "at": 1.0} for n in range(2 * STATE_CHUNK + 1)])
    parts = [effect.message for effect in core.receive(Hello(), 1.0) if isinstance(effect, Send)]
    assert [(len(part["containers"]), part["more"]) for part in parts] == [(STATE_CHUNK, True), (STATE_CHUNK, True), (1, False)]


def test_an_empty_state_is_told_too() -> None:
    assert Core("abc").receive(Hello(), 1.0) == [Send({"type": "state", "version": 1, "build": "abc", "containers": [], "more": False})]


def test_a_number_that_was_given_away_keeps_its_new_owner() -> None:
    """An adopted process ended, its pid went to a new one, and only then its end is noticed."""
    core = running("c1")
    core.receive(launch("c2"), 2.0)
    core.receive(Spawned("c2", 100, 9), 2.0)
    core.receive(Ended("c1", None), 3.0)
    assert core.by_pid[100].name == "c2"


def test_snapshot_restores_every_phase() -> None:
    core = running("runs", "ended", "gone")
    core.receive(Ended("ended", 15), 2.0)
    core.receive(Ended("gone", None), 2.0)
    core.receive(Forget("gone"), 2.0)
    core.receive(launch("intent"), 3.0)
    core.receive(launch("failed"), 3.0)
    core.receive(SpawnFailed("failed", "not found", "no"), 3.0)
    again = Core()
    again.restore(core.snapshot())
    assert again.snapshot() == core.snapshot()
    assert again.receive(Hello(), 4.0) == core.receive(Hello(), 4.0)
    assert {c.name for c in again.unresolved()} == {"runs", "intent"}
    assert (again.pending, set(again.by_pid)) == (1, {100})


def test_records_of_a_later_format_are_passed_over() -> None:
    core = Core()
    core.restore([{"r": "journal", "format": 9}, {"r": "new", "c": "c1"}, {"r": "running", "c": "c1", "pid": 1, "start": 1}, {}])
    assert core.snapshot() == []


# A world of processes in which the launcher can die at any moment.


class Died(Exception):
    """The launcher was killed."""


class World:
    """What outlives a launcher: processes, the journal, and the agent with what it was told."""

    def __init__(self, fails: frozenset[str] = frozenset()) -> None:
        self.fails = fails
        self.journal: list[Json] = []
        self.pids = itertools.count(100)
        self.processes: dict[str, int] = {}  # {container: pid}, every one ever started.
        self.truth: dict[str, int] = {}  # {container: status} of those that ended.
        self.zombies: set[str] = set()  # Ended, not reaped, and their parent lives.
        self.told: dict[str, list[Json]] = {}
        self.lives: list[int] = []  # Steps of each launcher that dies; the one after them does not.
        self.stopped = False

    def step(self) -> None:
        if self.lives:
            if self.lives[0] == 0:
                self.lives.pop(0)
                raise Died
            self.lives[0] -= 1

    def end(self, name: str, status: int) -> None:
        if name in self.processes and name not in self.truth:
            self.truth[name] = status
            self.zombies.add(name)

    def perform(self, core: Core, effects: list[Effect]) -> None:
        for effect in effects:
            self.step()
            match effect:
                case Record(entry):
                    self.journal.append(entry)
                case Spawn(spec):
                    self.perform(core, core.receive(self.spawn(spec), 1.0))
                case Reap(name):
                    self.zombies.discard(name)
                case Kill(pid):
                    self.end(next(name for name, p in self.processes.items() if p == pid), 9)
                case Send(message):
                    self.hear(message)
                case Stop():
                    self.stopped = True

    def spawn(self, spec: Launch) -> Event:
        assert spec.container not in self.processes, "started twice"
        if spec.container in self.fails:
            return SpawnFailed(spec.container, "not found", "no")
        self.processes[spec.container] = next(self.pids)
        self.step()
        return Spawned(spec.container, self.processes[spec.container], 7)

    def hear(self, message: Json) -> None:
        if message["type"] == "state":
            for report in message["containers"]:
                if report["exit"] is not None:
                    self.told.setdefault(report["container"], []).append(report["exit"])
                elif report["failed"] is not None:
                    self.told.setdefault(report["container"], []).append(report["failed"])
        elif message["type"] in ("exited", "failed"):
            self.told.setdefault(message["container"], []).append(message)

    def start_launcher(self) -> Core:
        """What the edge does when it starts, with statuses that no launcher saw gone."""
        core = Core()
        core.restore(self.journal)
        self.zombies.clear()  # Another parent took them.
        for container in core.unresolved():
            name = container.name
            if container.phase == INTENT and name in self.processes and name not in self.truth:
                self.perform(core, core.receive(Spawned(name, self.processes[name], 7), 1.0))
            if name in self.truth or name not in self.processes:
                self.perform(core, core.receive(Ended(name, None), 1.0))
        self.perform(core, core.receive(Hello(), 1.0))
        return core

    def reap(self, core: Core) -> None:
        for name in sorted(self.zombies):
            self.perform(core, core.receive(Ended(name, self.truth[name]), 1.0))


SCRIPT: list[tuple[str, Any]] = [
    ("do", launch("a")),
    ("do", launch("b")),
    ("do", launch("bad")),
    ("end", ("a", 256)),
    ("do", launch("a")),
    ("do", Forget("a")),
    ("do", launch("c")),
    ("do", Signal("b", 9)),
    ("do", Forget("bad")),
    ("do", launch("d")),
    ("end", ("d", 0)),
]


def play(world: World, script: list[tuple[str, Any]]) -> int:
    """Play an agent that repeats what the launcher died over; returns how often it died."""
    core: Core | None = None
    todo = [*script, ("do", Exit(kill_all=True))]
    deaths = 0
    while todo:
        kind, what = todo[0]
        try:
            core = core or world.start_launcher()
            if kind == "end":
                world.end(*what)
            elif not (isinstance(what, Launch) and what.container in world.told):  # Nobody asks again for what is over.
                world.perform(core, core.receive(what, 1.0))
            world.reap(core)
            todo.pop(0)
        except Died:
            deaths += 1
            core = None
    return deaths


@pytest.mark.parametrize("second", [None, *range(20)])
@pytest.mark.parametrize("doubled", [False, True])
def test_a_launcher_killed_at_any_step_doubles_and_loses_nothing(doubled: bool, second: int | None) -> None:
    """Method: one script, the launcher killed before its n-th effect, for every n; and, if second, the next one soon after."""
    script = [entry for entry in SCRIPT for _ in range(2)] if doubled else SCRIPT
    deaths = 0
    for steps in itertools.count():
        world = World(fails=frozenset({"bad"}))
        world.lives = [steps] if second is None else [steps, second]
        died = play(world, script)
        deaths += died
        assert world.stopped
        assert set(world.truth) == set(world.processes), "something still runs"
        for name in ("a", "b", "c", "d", "bad"):
            assert world.told.get(name), f"nobody was told of {name}"
            for outcome in world.told[name]:
                if outcome.get("status") is not None:
                    assert outcome["status"] == world.truth[name], "a status was guessed"
        if not died:
            assert world.told["a"][0]["status"] == 256
            break
    assert deaths > 20


@pytest.mark.parametrize("order", list(itertools.permutations([launch("a"), Signal("a", 15), Forget("a"), Hello(), launch("a")])))
def test_commands_in_any_order_start_a_container_once(order: tuple[Command, ...]) -> None:
    world = World()
    core = Core()
    for command in order:
        world.perform(core, core.receive(command, 1.0))
    world.perform(core, core.receive(Exit(kill_all=True), 1.0))
    world.reap(core)
    assert world.stopped
    assert list(world.processes) == ["a"]
    assert world.told["a"][-1]["status"] == world.truth["a"]
