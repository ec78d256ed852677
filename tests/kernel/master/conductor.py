"""A master's core with the small habits of its edge, for tests: who is linked, what each peer was told."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from kernel.mainloop import Persist, Tick
from kernel.master import effects as e
from kernel.master import registry
from kernel.master.config import MasterConfig
from kernel.master.core import MasterCore
from kernel.wire import scheduler
from kernel.wire.agent import AgentHeartbeat, Register, Registered, StatusUpdate
from kernel.wire.framework import FrameworkInfo
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.nodes import MasterInfo
from kernel.wire.offer import Offer
from kernel.wire.task import Source, TaskState, TaskStatus
from tests.builders import at, framework_info, register


class Conductor:
    """Feeds inputs at a time that only `later` moves on, and sorts the effects by whom they tell."""

    def __init__(self, stored: dict[str, bytes] | None = None, master_id: str = "M", **config: Any) -> None:
        self.time_s = 0.0
        self.stored = dict(stored or {})
        info = MasterInfo(id=master_id, ip=0, port=5050, hostname="master")
        views = lambda state, name, arguments: []  # noqa: E731 - reads have tests of their own.
        self.core = MasterCore(MasterConfig(**config), info, registry.load(self.stored.items()), at(0), views)
        self.told: dict[Any, list[Any]] = defaultdict(list)  # By stream or link.
        self.closed: list[Any] = []
        self._uuids = 0

    # ---- Inputs ----

    def give(self, message: Any) -> None:
        self._perform(self.core.receive(message, at(self.time_s)))
        while self.core.unsettled:
            self._perform(self.core.settle(at(self.time_s), 1.0))

    def later(self, seconds: float) -> None:
        """Time passes; nobody says anything."""
        self.time_s += seconds
        self.give(Tick())

    def wait(self, seconds: float) -> None:
        """Time passes; agents send their heartbeats."""
        until_s = self.time_s + seconds
        while self.time_s < until_s:
            self.later(min(3.0, until_s - self.time_s))
            for link in list(self.core.state.links):
                self.give(e.FromAgent(link, AgentHeartbeat()))

    def subscribe(self, stream: str = "s", info: FrameworkInfo | None = None, **fields: Any) -> str:
        """Subscribe; return the framework's id, empty when it was refused by an ERROR event."""
        info = info or framework_info()
        framework_id = info.id.value if info.id is not None else ""
        self.give(e.SubscribeFramework(stream, framework_id, fields.pop("principal", None), scheduler.Subscribe(info, **fields)))
        subscribed = [event.subscribed for event in self.told[stream] if event.subscribed is not None]
        return subscribed[-1].framework_id.value if subscribed else ""

    def call(self, framework_id: str, body: Any, stream: str = "s") -> None:
        self.give(e.SchedulerCall(framework_id, stream, None, body))

    def agent(self, link: int = 1, message: Register | None = None) -> str:
        """Register an agent on a link; return its id."""
        self.give(e.FromAgent(link, message or register(str(link))))
        return next(told.agent_id for told in reversed(self.told[link]) if isinstance(told, Registered))

    def update(self, link: int, framework_id: str, task_id: str, state: TaskState, latest: TaskState | None = None, **fields: Any) -> bytes:
        """An update as its agent sends it; return its uuid."""
        self._uuids += 1
        uuid = self._uuids.to_bytes(16, "big")
        agent = self.core.state.links[link]
        status = TaskStatus(
            TaskID(task_id),
            state,
            source=Source.SOURCE_EXECUTOR,
            agent_id=AgentID(agent.agent_id),
            uuid=uuid,
            timestamp=at(self.time_s).wall_s,
            **fields,
        )
        self.give(e.FromAgent(link, StatusUpdate(framework_id, status, latest or state)))
        return uuid

    # ---- What was told ----

    def _perform(self, effects: Any) -> None:
        for effect in effects:
            match effect:
                case Persist(key=key, value=None):
                    self.stored.pop(key, None)
                case Persist(key=key, value=value):
                    self.stored[key] = value
                case e.ToStream(stream=peer, event=body):
                    self.told[peer].append(body)
                case e.ToAgent(link=peer, message=body):
                    self.told[peer].append(body)
                case e.CloseStream(stream=peer):
                    self.closed.append(peer)
                case e.CloseLink(link=peer):
                    self.closed.append(peer)

    def take(self, peer: Any) -> list[Any]:
        """What a peer was told since last asked."""
        return self.told.pop(peer, [])

    def offers(self, stream: str = "s") -> list[Offer]:
        """Take what the stream was told and return the offers in it."""
        return [offer for event in self.take(stream) if event.offers is not None for offer in event.offers.offers]

    def statuses(self, stream: str = "s") -> list[TaskStatus]:
        """Take what the stream was told and return the statuses in it."""
        return [event.update.status for event in self.take(stream) if event.update is not None]
