"""The agent's core told anything at all by its master, its executors and its launcher: it goes on, leaves its folders to nobody,
and starts again from what it kept.

`SEEDS=N` tries more histories; each is replayed by its number.
"""

from __future__ import annotations

import os
import posixpath
import random
from typing import Any

import pytest
from msgspec.structs import replace

from kernel.agent import effects as e
from kernel.agent import views
from kernel.agent.token import Claims
from kernel.errors import KernelError
from kernel.executor.checks import connected, exited
from kernel.wire import agent as link
from kernel.wire import executor as api
from kernel.wire.agent import MasterMessage
from kernel.wire.agent_operator import GetContainersCall, LaunchContainer
from kernel.wire.command import CheckCommand, CheckInfo, CheckType, HealthCheck, TCPCheckInfo
from kernel.wire.ids import ContainerID
from kernel.wire.task import CommandInfo, ExecutorType, Source, TaskState, TaskStatus
from tests.builders import executor, resources
from tests.hostile.anything import Anything, picture
from tests.kernel.agent.desk import AGENT_ID, Desk, command, framework, register

SEEDS = range(int(os.environ.get("SEEDS", "6")))
STEPS = 80
MESSAGES = MasterMessage.__args__
VIEWS = [
    "state",
    "monitor/statistics",
    "containers",
    "containerizer/debug",
    "metrics",
    "get_state",
    "get_tasks",
    "get_executors",
    "get_containers",
]
ARGUMENTS: dict[str, Any] = dict.fromkeys(("monitor/statistics", "containers"), ({}, {}))  # Of the others: an empty query.
ARGUMENTS["get_containers"] = GetContainersCall(True, True), {}
NOT_STATE = ("out", "now", "counts", "silence_due_s")
WORK_DIR = "/work"
DEFAULT = executor("group", type=ExecutorType.DEFAULT, command=None)
CUSTOM = executor("custom", command=CommandInfo(value="x"))
CHECKED = command(
    "u",
    health_check=HealthCheck(type=CheckType.TCP, tcp=TCPCheckInfo(80), delay_seconds=0.0, interval_seconds=0.1, grace_period_seconds=0.0),
    check=CheckInfo(CheckType.COMMAND, CheckCommand(CommandInfo(value="x")), delay_seconds=0.0, interval_seconds=0.1),
)
OPERATED = LaunchContainer(ContainerID("x"), CommandInfo(value="x"), resources("cpus:1;mem:32"))
WORDS = ("f", "g", "t", "c", "group", "custom", AGENT_ID, "n1", "n2")
UUID = b"0123456789abcdef"


class Checked(Desk):
    """Looks at every effect of every input."""

    def give(self, message: Any) -> Any:
        body = super().give(message)
        for launch in self.all(e.LaunchContainer):
            targets = [posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) for path, target in launch.links]
            home = f"{WORK_DIR}/slaves/{AGENT_ID}/frameworks/"
            if launch.container_id.split(".")[0] in self.core.state.operator_containers:  # It stands alone, or is in one that does.
                home = f"{WORK_DIR}/containers/"
            for path in (launch.directory, *(path for path, _ in launch.links), *targets):
                assert posixpath.normpath(path) == path
                assert path.startswith(home), path
        for probe in self.all(e.LaunchProbe):
            assert posixpath.dirname(probe.output) == probe.directory
            assert probe.directory.startswith(f"{WORK_DIR}/slaves/{AGENT_ID}/frameworks/"), probe.directory
        for named in self.all(e.AgentNamed):
            assert named.agent_id == AGENT_ID
        return body


def busy() -> Checked:
    """Tasks of every kind, in every stage."""
    desk = Checked(key=b"key")
    desk.give(e.LauncherState(()))
    register(desk, framework("f"), framework("g", checkpoint=True))
    for name in ("t", "u", "done"):
        container = desk.run_task(CHECKED if name == "u" else command(name))
        desk.started(container)
    desk.exited(container)
    desk.tick(1)
    container = desk.run_task(command("c", executor=CUSTOM))
    desk.started(container)
    subscribe(desk)
    desk.run_task(command("waits", executor=executor("slow")), "g")
    desk.run_group(DEFAULT, command("g1"), command("g2"))
    for name in ("alone", "alone.in"):
        desk.give(e.LaunchOperated(name, OPERATED))
        desk.started(name)
    return desk


def subscribe(desk: Desk) -> None:
    desk.give(e.SubscribeExecutor("stream", "f", "custom", api.Subscribe()))


def honest(desk: Desk) -> list[Any]:
    """What master, executors and launcher would say now."""
    state = desk.core.state
    orders: list[Any] = [
        link.Registered(AGENT_ID, "master", 3.0, 9.0),
        link.FrameworkUpdated(framework("f")),
        link.RunTask("f", command("n1"), True),
        link.RunTask("f", replace(CHECKED, task_id=command("n9").task_id), True),
        link.RunTask("f", command("n2", executor=CUSTOM), False),
        link.RunTask("g", command("n3", executor=executor("n4")), True),
        link.RunTaskGroup("f", DEFAULT, (command("n5"), command("n6")), False),
        link.RunTaskGroup("f", executor("n7", type=ExecutorType.DEFAULT, command=None), (command("n8"),), True),
        link.ReconcileTasks((("f", "t"), ("f", "no"))),
        link.ShutdownExecutor("f", "custom"),
        link.ShutdownFramework("g"),
        link.FrameworkMessage("f", "custom", b"x"),
        link.MasterHeartbeat(),
    ]
    for found in state.frameworks.values():
        for task in found.tasks.values():
            orders.append(link.KillTask(found.framework_id, task.task_id))
            if task.updates.pending:
                orders.append(link.AcknowledgeUpdate(found.framework_id, task.task_id, task.updates.pending[0].uuid or b""))
    told: list[Any] = [e.FromMaster(order) for order in orders]
    status = TaskStatus(command("c").task_id, TaskState.TASK_RUNNING, source=Source.SOURCE_EXECUTOR, uuid=UUID)
    update = api.Update(status)
    told += [
        e.SubscribeExecutor("stream2", "f", "custom", api.Subscribe((command("c"),), (update,))),
        e.ExecutorUpdate("f", "custom", update),
        e.ExecutorUpdate("f", "custom", api.Update(replace(status, state=TaskState.TASK_FINISHED, uuid=b"f" * 16))),
        e.ExecutorData("f", "custom", b"x"),
        e.ExecutorStreamClosed("stream"),
        e.KillContainer(next(iter(state.containers), ""), 9),
        e.KillContainer("alone", 9),
        e.RemoveOperated("alone"),
        e.RemoveOperated("alone.in"),
        e.LaunchOperated("alone", OPERATED),
        e.LaunchOperated("other", OPERATED),
        *(e.LaunchOperated(f"{container}.in", OPERATED) for container in state.containers),
        e.MasterLost(),
        e.MasterConnected(),
    ]
    for container in [*state.containers, *state.probes, *state.operator_containers]:
        told += [e.Probed(container, found) for found in (connected(True), connected(False), exited(7 << 8))]
        told += [e.ContainerStarted(container, 1), e.ContainerFailed(container, "x"), e.ContainerExited(container, e.Exit(0, 0.0))]
    return told


def any_input(desk: Desk, chance: random.Random, anything: Anything) -> Any:
    anything.words = (*WORDS, *desk.core.state.containers)
    match chance.randrange(8):
        case 0 | 1:
            return chance.choice(honest(desk))
        case 2 | 3 | 4:
            message = chance.choice(honest(desk))
            if isinstance(message, e.FromMaster):
                return e.FromMaster(anything.twisted(message.message))
            if isinstance(message, e.LaunchOperated):
                return replace(message, asked=anything.twisted(message.asked))
            body = getattr(message, "body", None)
            return replace(message, body=anything.twisted(body)) if body is not None else message
        case 5:
            return e.FromMaster(anything.message(chance.choice(MESSAGES)))
        case 6:
            ids = chance.choice(anything.words), chance.choice(anything.words)
            claims = chance.choice([None, None, Claims("c", "custom", "f")])
            return chance.choice([
                e.SubscribeExecutor("stream3", *ids, anything.message(api.Subscribe), claims),
                e.ExecutorUpdate(*ids, anything.message(api.Update), claims),
                e.ExecutorData(*ids, b"x", claims),
            ])  # fmt: skip
        case _:
            container = chance.choice(
                [*desk.core.state.containers, *desk.core.state.probes, "alone", "alone.in", "no-such-container", "../x"]
            )
            known = e.KnownContainer(container, chance.choice([None, 0, 7]), chance.choice([None, e.Exit(None, 0.0), e.Exit(9, 1.0)]))
            return chance.choice([
                e.ContainerStarted(container, 0),
                e.ContainerFailed(container, "why"),
                e.ContainerExited(container, e.Exit(chance.choice([None, 0, 9, 256, 65535]), float("nan"))),
                e.KillContainer(container, chance.choice([1, 9, 64])),
                e.LauncherState((known, known)),
                e.ExecutorStreamClosed(container),
            ])  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_comes_the_agent_goes_on(seed: int) -> None:
    chance, anything, desk = random.Random(seed), Anything(seed), busy()
    for step in range(STEPS):
        message = any_input(desk, chance, anything)
        before = picture(desk.core.state, NOT_STATE)
        try:
            desk.give(message)
        except KernelError:
            assert picture(desk.core.state, NOT_STATE) == before, f"step {step}: a refused {message} left a trace"
            assert desk.core.state.out == []
        if step % 10 == 9:
            desk.tick(chance.choice([0.3, 5.0, 100.0]))
            for name in VIEWS:
                views.render(desk.core.state, name, ARGUMENTS.get(name, {}))
        if not desk.core.state.registered and chance.random() < 0.5:
            register(desk, framework("f"), framework("g"))
    again = desk.restart()
    again.give(e.LauncherState(()))
    if again.core.state.agent_id:
        register(again)
    assert again.core.state.recovered


@pytest.mark.parametrize("seed", SEEDS)
def test_an_order_that_breaks_the_rules_changes_nothing(seed: int) -> None:
    """It ends the link; what runs goes on, nothing is started, nothing is kept."""
    anything = Anything(seed, WORDS)
    closed = 0
    for _ in range(STEPS):
        desk = busy()
        before, stored = picture(desk.core.state, NOT_STATE), dict(desk.store)
        order = anything.twisted(anything.random.choice([m.message for m in honest(desk) if isinstance(m, e.FromMaster)]))
        desk.give(e.FromMaster(order))
        if desk.all(e.CloseMasterLink):
            closed += 1
            assert (picture(desk.core.state, NOT_STATE), desk.store) == (before, stored), order
            assert [type(effect) for effect in desk.effects] == [e.CloseMasterLink]
    assert closed


@pytest.mark.parametrize("seed", SEEDS)
def test_an_executor_speaks_for_itself_alone(seed: int) -> None:
    """Whatever the custom executor says, the tasks of others stay as they are."""
    chance, anything, desk = random.Random(seed), Anything(seed, WORDS), busy()
    state = desk.core.state

    def others() -> dict[str, TaskState]:
        return {task.task_id: task.state for found in state.frameworks.values() for task in found.tasks.values() if task.task_id != "c"}

    before = others()
    for _ in range(STEPS):
        update = api.Update(TaskStatus(command("c").task_id, TaskState.TASK_RUNNING, source=Source.SOURCE_EXECUTOR, uuid=UUID))
        body = anything.twisted(update) if chance.random() < 0.7 else anything.message(api.Update)
        message = chance.choice([
            e.ExecutorUpdate("f", "custom", body),
            e.SubscribeExecutor("s", "f", "custom", anything.message(api.Subscribe)),
            e.ExecutorData("f", "custom", b"x" * 100),
        ])  # fmt: skip
        try:
            desk.give(message)
        except KernelError:
            pass
    assert others() == before
