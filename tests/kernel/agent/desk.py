"""An agent core on a desk: inputs in, effects out, with a store that is written as the main loop would."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kernel.agent.config import AgentConfig
from kernel.agent.core import AgentCore
from kernel.agent.effects import (
    ContainerExited,
    ContainerStarted,
    Exit,
    FromMaster,
    LaunchContainer,
    LauncherState,
    MasterConnected,
    ToMaster,
)
from kernel.agent.state import Identity, Node
from kernel.mainloop import Persist, Reply, Tick
from kernel.wire.agent import AcknowledgeUpdate, FrameworkUpdated, Registered, RunTask, RunTaskGroup, StatusUpdate
from kernel.wire.framework import FrameworkCapability, FrameworkInfo
from kernel.wire.ids import FrameworkID
from kernel.wire.task import TaskInfo, TaskState, TaskStatus
from tests.builders import at, framework_info, resources, task

AGENT_ID = "m-S1"
CONFIG = AgentConfig(work_dir="/work", switch_user=False)
NODE = Node(resources("cpus:4;mem:4096"))
E = TypeVar("E")


class Desk:
    """One agent. `seconds` is the time of the next input; `effects` those of the last one; `sent` all to the master."""

    def __init__(
        self,
        config: AgentConfig = CONFIG,
        entries: dict[str, bytes] | None = None,
        run: int = 1,
        boot_id: str = "boot",
        key: bytes = b"",
        seconds: float = 0.0,
        node: Node = NODE,
    ) -> None:
        self.config, self.node = config, node
        self.store: dict[str, bytes] = dict(entries or {})
        self.seconds = seconds
        self.run = run
        self.effects: list[Any] = []
        self.sent: list[Any] = []
        identity = Identity(f"run-{run}", run.to_bytes(8, "big"), boot_id, key)
        self.core = AgentCore(config, identity, node, self.store, at(self.seconds))

    def give(self, message: Any) -> Any:
        """Hand in an input; returns the body of its Reply, if any."""
        self.effects = self.core.receive(message, at(self.seconds))
        body = None
        for effect in self.effects:
            if isinstance(effect, Persist):
                if effect.value is None:
                    self.store.pop(effect.key, None)
                else:
                    self.store[effect.key] = effect.value
            elif isinstance(effect, ToMaster):
                self.sent.append(effect.message)
            elif isinstance(effect, Reply):
                body = effect.body
        return body

    def master(self, message: Any) -> None:
        self.give(FromMaster(message))

    def tick(self, seconds: float) -> None:
        """Let time pass, then look at the deadlines."""
        self.seconds += seconds
        self.give(Tick())

    def all(self, kind: type[E]) -> list[E]:
        """The effects of a kind of the last input."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def one(self, kind: type[E]) -> E:
        (found,) = self.all(kind)
        return found

    def take_sent(self, kind: type[E]) -> list[E]:
        """The messages of a kind sent since the last look at them."""
        found = [message for message in self.sent if isinstance(message, kind)]
        self.sent = [message for message in self.sent if not isinstance(message, kind)]
        return found

    def updates(self) -> list[TaskStatus]:
        """The status updates sent since the last look."""
        return [update.status for update in self.take_sent(StatusUpdate)]

    def started(self, container_id: str, pid: int = 77) -> None:
        self.give(ContainerStarted(container_id, pid))

    def exited(self, container_id: str, status: int | None = 0) -> None:
        self.give(ContainerExited(container_id, Exit(status, 1_700_000_000.0)))

    def acknowledge(self, status: TaskStatus, framework_id: str = "f") -> None:
        assert status.uuid is not None
        self.master(AcknowledgeUpdate(framework_id, status.task_id.value, status.uuid))

    def acknowledge_all(self, framework_id: str = "f") -> list[TaskState]:
        """Acknowledge what is sent until nothing more comes; returns the states."""
        states = []
        while updates := self.updates():
            for status in updates:
                states.append(status.state)
                self.acknowledge(status, framework_id)
        return states

    def run_task(self, info: TaskInfo, framework_id: str = "f", launch_executor: bool = True) -> str:
        """Have a task run; returns the container that is launched, or "" when none is."""
        self.master(RunTask(framework_id, info, launch_executor))
        launches = self.all(LaunchContainer)
        return launches[0].container_id if launches else ""

    def run_group(self, executor: Any, *infos: TaskInfo, framework_id: str = "f", launch_executor: bool = True) -> list[str]:
        self.master(RunTaskGroup(framework_id, executor, infos, launch_executor))
        return [launch.container_id for launch in self.all(LaunchContainer)]

    def restart(self, boot_id: str = "boot", after_s: float = 0.0, node: Node | None = None, **settings: Any) -> Desk:
        """The agent is killed and started again, maybe with other settings: all that is left of it is its store."""
        config = msgspec.structs.replace(self.config, **settings)
        return Desk(config, self.store, self.run + 1, boot_id, seconds=self.seconds + after_s, node=node or self.node)


def command(task_id: str = "t", **fields: Any) -> TaskInfo:
    return task(task_id, AGENT_ID, **fields)


def framework(framework_id: str = "f", *capabilities: FrameworkCapability, **fields: Any) -> FrameworkInfo:
    return framework_info(framework_id, *capabilities, id=FrameworkID(framework_id), **fields)


def register(desk: Desk, *infos: FrameworkInfo) -> Desk:
    """Connect and register a desk whose launcher has told its state."""
    desk.give(MasterConnected())
    desk.master(Registered(AGENT_ID, "master", 3.0, 9.0))
    for info in infos or (framework(),):
        desk.master(FrameworkUpdated(info))
    return desk


def running(config: AgentConfig = CONFIG, *infos: FrameworkInfo, node: Node = NODE) -> Desk:
    """A registered agent with an empty launcher, and a framework `f`."""
    desk = Desk(config, node=node)
    desk.give(LauncherState(()))
    register(desk, *infos)
    desk.sent.clear()
    return desk
