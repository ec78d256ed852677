"""A master for the unit tests of frameworks: no sockets, no sleep, time moves when the test says so.

    master = FakeMaster(MyFramework, {"a1": resources(cpus=4, mem=1024)})
    master.tell(Submit("job"))           # an input of the framework's own; returns its reply
    master.run_all()                     # what was launched reports TASK_RUNNING
    master.update("job", TaskState.TASK_FINISHED)
    assert master.tasks == {} and master.acknowledged

It keeps what the framework persists, so `restart` shows what a new process makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from frameworks.sdk.driver import Connect, Disconnect, Heard, Lost, Send, Stop
from frameworks.sdk.scheduler import Scheduler
from frameworks.sdk.tasks import TERMINAL
from kernel.clock import Now
from kernel.mainloop import Persist, Reply, Tick
from kernel.wire.common import URL, Address, TimeInfo
from kernel.wire.ids import AgentID, FrameworkID, OfferID
from kernel.wire.nodes import Unavailability
from kernel.wire.offer import InverseOffer, Offer
from kernel.wire.resources import EMPTY, AllocationInfo, Resources
from kernel.wire.scheduler import Accept, Call, Error, Event, InverseOffers, Offers, Subscribed, Update
from kernel.wire.task import Reason, Source, TaskInfo, TaskState, TaskStatus

TICK_S = 0.25
AT_ONCE_MAX = 10_000  # Turns without time passing, before a test is said to run in circles.


class FakeTask(Struct):
    """A task the fake master holds. sent: the last status the framework was sent."""

    info: TaskInfo
    state: TaskState = TaskState.TASK_STAGING
    sent: TaskStatus | None = None


class FakeMaster:
    """One framework's master and agents. Offers all that is free on an agent while the framework wants any."""

    def __init__(
        self,
        make: Callable[[Mapping[str, bytes], str, float], Scheduler],
        agents: Mapping[str, Resources],
        *,
        connect: bool = True,
        start: Now | None = None,
    ) -> None:
        """make: as for `run_framework`. agents: what each has. connect: False leaves the first SUBSCRIBE unanswered."""
        self.now = start or Now(1_000.0, 1_700_000_000.0)
        self.agents = dict(agents)
        self.tasks: dict[str, FakeTask] = {}
        self.kept: dict[str, bytes] = {}
        self.calls: list[Call] = []  # All that came, SUBSCRIBE too.
        self.acknowledged: list[tuple[str, bytes]] = []
        self.effects: list[Any] = []  # The framework's own.
        self.stopped: Stop | None = None
        self.reachable = connect
        self._make = make
        self._offers: dict[str, Offer] = {}
        self._declined: set[str] = set()
        self._wanted = False
        self._session: int | None = None
        self._numbers = 0
        self._inputs: list[Any] = []
        self.scheduler = self._start()

    # ---- What a test does -------------------------------------------------------------------------------

    def tell(self, message: Any) -> Any:
        """Hand the framework an input of its own; return what it replies. Raises KernelError as the framework does."""
        reply = self._give(message)
        self._settle()
        return reply

    def advance(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        end_s = self.now.mono_s + seconds
        while self.now.mono_s < end_s and self.stopped is None:
            step_s = min(TICK_S, end_s - self.now.mono_s)
            self.now = Now(self.now.mono_s + step_s, self.now.wall_s + step_s)
            self.tell(Tick())

    def update(self, task_id: str, state: TaskState, message: str | None = None, *, reason: Reason | None = None, **more: Any) -> None:
        """An agent reports on a task, to be acknowledged. more: further fields of TaskStatus."""
        task = self.tasks[task_id]
        status = TaskStatus(
            task_id=task.info.task_id,
            state=state,
            message=message,
            source=Source.SOURCE_EXECUTOR,
            reason=reason,
            agent_id=task.info.agent_id,
            timestamp=self.now.wall_s,
            uuid=self._number().to_bytes(16, "big"),
            **more,
        )
        task.state, task.sent = state, status
        if state in TERMINAL:
            del self.tasks[task_id]
            self._declined.discard(task.info.agent_id.value)
        self.send(Event(type="UPDATE", update=Update(status)))

    def run_all(self) -> None:
        """Every task that was launched reports TASK_RUNNING."""
        for task_id in [task_id for task_id, task in self.tasks.items() if task.state is TaskState.TASK_STAGING]:
            self.update(task_id, TaskState.TASK_RUNNING)

    def send(self, event: Event) -> None:
        """Any event. Lost when the framework is not connected."""
        if self._session is not None:
            self._give(Heard(self._session, event))
        self._settle()

    def ask_to_leave(self, agent_id: str, start_s: float = 0.0) -> str:
        """An agent is to be under maintenance from start_s (seconds since the epoch); return the inverse offer's id."""
        offer_id = f"inverse-{self._number()}"
        unavailability = Unavailability(TimeInfo(int(start_s * 1e9)))
        offer = InverseOffer(OfferID(offer_id), self.scheduler.driver.framework_id, unavailability, agent_id=AgentID(agent_id))
        self.send(Event(type="INVERSE_OFFERS", inverse_offers=InverseOffers((offer,))))
        return offer_id

    def break_stream(self, reason: str = "the master hung up") -> None:
        """The stream ends; the framework is reachable again as soon as it tries."""
        session, self._session = self._session, None
        if session is not None:
            self._give(Lost(session, reason))
        self._settle()

    def remove_framework(self) -> None:
        """An operator tears the framework down: its tasks end, and its id is refused from now on."""
        self.tasks.clear()
        self.send(Event(type="ERROR", error=Error("Framework has been removed")))

    def restart(self) -> Scheduler:
        """The framework's process dies and a new one starts from what the old one kept."""
        self._session, self.stopped = None, None
        self._inputs.clear()
        self.scheduler = self._start()
        return self.scheduler

    def calls_of(self, type_: str) -> list[Call]:
        """All calls of a type that came so far."""
        return [call for call in self.calls if call.type == type_]

    # ---- How it goes ------------------------------------------------------------------------------------

    def _start(self) -> Scheduler:
        self.scheduler = self._make(dict(self.kept), f"test-{self._number()}", 0.5)
        self.tell(Tick())
        return self.scheduler

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _give(self, message: Any) -> Any:
        """One turn of the main loop: everything kept before anything is seen."""
        decided = [*self.scheduler.receive(message, self.now), *self.scheduler.settle(self.now, 1.0)]
        reply = None
        for effect in decided:
            if isinstance(effect, Persist):
                if effect.value is None:
                    self.kept.pop(effect.key, None)
                else:
                    self.kept[effect.key] = effect.value
        for effect in decided:
            if isinstance(effect, Reply):
                reply = effect.body
            elif isinstance(effect, Connect):
                self._subscribe(effect)
            elif isinstance(effect, Send):
                if effect.session == self._session:
                    self.calls.append(effect.call)
                    self._take(effect.call)
            elif isinstance(effect, Disconnect):
                self._session = None
            elif isinstance(effect, Stop):
                self.stopped, self._session = effect, None
            elif not isinstance(effect, Persist):
                self.effects.append(effect)
        return reply

    def _settle(self) -> None:
        """Deliver answers and offers until nothing moves."""
        for _ in range(AT_ONCE_MAX):
            if not self._inputs:
                self._offer()
            if not self._inputs:
                return
            self._give(self._inputs.pop(0))
        raise AssertionError(f"after {AT_ONCE_MAX} turns the framework is still busy: it runs in circles")

    def _subscribe(self, effect: Connect) -> None:
        self.calls.append(effect.call)
        self._offers.clear()
        self._declined.clear()
        self._wanted = False
        if not self.reachable:
            self._inputs.append(Lost(effect.session, "connection refused"))
            return
        self._session = effect.session
        framework_id = effect.call.framework_id or FrameworkID("")
        self._queue(Event(type="SUBSCRIBED", subscribed=Subscribed(framework_id, 15.0)))

    def _queue(self, event: Event) -> None:
        assert self._session is not None, "events need a stream"
        self._inputs.append(Heard(self._session, event))

    def _take(self, call: Call) -> None:
        if call.accept is not None:
            self._accept(call.accept)
        elif call.decline is not None:
            for offer_id in call.decline.offer_ids:
                if (offer := self._offers.pop(offer_id.value, None)) is not None:
                    self._declined.add(offer.agent_id.value)
        elif call.acknowledge is not None:
            self.acknowledged.append((call.acknowledge.task_id.value, call.acknowledge.uuid))
        elif call.type == "REVIVE":
            self._wanted = True
            self._declined.clear()
        elif call.type == "SUPPRESS":
            self._wanted = False
        elif call.kill is not None:
            self._kill(call.kill.task_id.value)
        elif call.reconcile is not None:
            asked = call.reconcile.tasks
            for task_id in [task.task_id.value for task in asked] or list(self.tasks):
                self._reconcile(task_id)
        elif call.type == "TEARDOWN":
            self.tasks.clear()

    def _accept(self, accept: Accept) -> None:
        offers = [offer for offer_id in accept.offer_ids if (offer := self._offers.pop(offer_id.value, None)) is not None]
        infos = [info for operation in accept.operations if operation.launch is not None for info in operation.launch.task_infos]
        free = sum((Resources.of(offer.resources) for offer in offers), EMPTY)
        for info in infos:
            wants = Resources.of(info.resources)
            assert free.contains(wants), f"task {info.task_id.value} was launched with more than was offered"
            assert info.task_id.value not in self.tasks, f"task {info.task_id.value} was launched twice"
            free -= wants
            self.tasks[info.task_id.value] = FakeTask(info)
        if free:
            self._declined.update(offer.agent_id.value for offer in offers)

    def _kill(self, task_id: str) -> None:
        task = self.tasks.get(task_id)
        if task is None:
            self._reconcile(task_id)
            return
        del self.tasks[task_id]
        self._declined.discard(task.info.agent_id.value)
        uuid = self._number().to_bytes(16, "big")
        status = TaskStatus(task.info.task_id, TaskState.TASK_KILLED, source=Source.SOURCE_EXECUTOR, agent_id=task.info.agent_id, uuid=uuid)
        self._queue(Event(type="UPDATE", update=Update(status)))

    def _reconcile(self, task_id: str) -> None:
        task = self.tasks.get(task_id)
        known = self.scheduler.tasks.get(task_id)
        state = task.state if task is not None else TaskState.TASK_UNKNOWN
        info = task.info if task is not None else known.info if known is not None else None
        if info is not None:
            status = TaskStatus(
                info.task_id, state, source=Source.SOURCE_MASTER, reason=Reason.REASON_RECONCILIATION, agent_id=info.agent_id
            )
            self._queue(Event(type="UPDATE", update=Update(status)))

    def _offer(self) -> None:
        """Offer what is free on every agent that has no open offer and was not refused since the last REVIVE."""
        if not self._wanted or self._session is None:
            return
        busy = {offer.agent_id.value for offer in self._offers.values()} | self._declined
        offers = []
        for agent_id, total in self.agents.items():
            used = sum((Resources.of(task.info.resources) for task in self.tasks.values() if task.info.agent_id.value == agent_id), EMPTY)
            if agent_id in busy or not (free := total - used):
                continue
            role = self.scheduler.driver.info.roles[0]
            offers.append(
                Offer(
                    id=OfferID(f"o{self._number()}"),
                    framework_id=self.scheduler.driver.framework_id,
                    agent_id=AgentID(agent_id),
                    hostname=f"host-{agent_id}",
                    url=URL("http", Address(5051, hostname=f"host-{agent_id}", ip="127.0.0.1"), "/slave(1)"),
                    resources=free.messages(role),
                    allocation_info=AllocationInfo(role),
                )
            )
        if offers:
            self._offers |= {offer.id.value: offer for offer in offers}
            self._queue(Event(type="OFFERS", offers=Offers(tuple(offers))))
