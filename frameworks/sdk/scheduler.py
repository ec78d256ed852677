"""The core of a framework: the subscription and the tasks put together. Extend `Scheduler` to make a framework.

Pure, run by `kernel.mainloop`: equal inputs in equal order give equal effects, and whatever a batch of inputs decided is
in the store before any call leaves. So a task is recorded before it is launched, and an update is acknowledged only when
what it changed is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from frameworks.sdk import state
from frameworks.sdk.driver import REMOVED, CallRefused, Disconnect, Driver, Heard, Lost
from frameworks.sdk.matching import Bundle, Refusal, match
from frameworks.sdk.reconciling import Reconciliation
from frameworks.sdk.tasks import NOWHERE, TERMINAL, Shape, TaskBook, TaskRecord, follows, id_in_use, never_ran, placed
from kernel.clock import Now
from kernel.mainloop import Persist, Tick
from kernel.net.backoff import delay_s
from kernel.wire.common import Label, Labels
from kernel.wire.framework import ENDS_WITH_TASKS
from kernel.wire.ids import AgentID, FrameworkID, OfferID, TaskID
from kernel.wire.offer import Filters, InverseOffer, Launch, Offer, Operation, OperationType, RoleConstraints
from kernel.wire.resources import Resources
from kernel.wire.scheduler import (
    Accept,
    AcceptInverseOffers,
    Acknowledge,
    Call,
    Decline,
    DeclineInverseOffers,
    Event,
    Kill,
    Reconcile,
    ReconcileTask,
)
from kernel.wire.task import Capability, FrameworkCapability, FrameworkInfo, Reason, Source, TaskInfo, TaskState, TaskStatus

log = logging.getLogger(__name__)

KILL_AGAIN_S = 5.0
KILL_AGAIN_MAX_S = 60.0
REFUSE_S = 5.0
ASKED_AGAIN_S = 60.0  # How soon it may be asked anew to leave an agent.
ID_IN_USE_S = 1.0  # The first wait for an id that the master still holds; then longer and longer.
ID_IN_USE_MAX_S = 60.0
CAPABILITIES = (
    FrameworkCapability.MULTI_ROLE,
    FrameworkCapability.PARTITION_AWARE,
    FrameworkCapability.RESERVATION_REFINEMENT,
)


def framework_info(
    name: str,
    *,
    user: str = "",
    roles: Sequence[str] = ("*",),
    failover_timeout_s: float = 604_800.0,
    gpus: bool = False,
    revocable: bool = False,
    killing: bool = True,
    ends_with_tasks: bool = False,
    webui_url: str | None = None,
    principal: str | None = None,
) -> FrameworkInfo:
    """A FrameworkInfo with the capabilities the SDK deals with.

    user: whom tasks run as, "" the agent's own. failover_timeout_s: how long its tasks outlive it. gpus: whether machines
    with gpus are offered to it. revocable: whether it may ask for what agents may take back at any time. killing: whether a
    kill is reported when it begins (TASK_KILLING). ends_with_tasks: whether the master forgets it when its last task ends while
    it is away.
    """
    wanted = [*CAPABILITIES]
    if gpus:
        wanted.append(FrameworkCapability.GPU_RESOURCES)
    if revocable:
        wanted.append(FrameworkCapability.REVOCABLE_RESOURCES)
    if killing:
        wanted.append(FrameworkCapability.TASK_KILLING_STATE)
    return FrameworkInfo(
        user=user,
        name=name,
        failover_timeout=failover_timeout_s,
        checkpoint=True,
        roles=tuple(roles),
        principal=principal,
        webui_url=webui_url,
        labels=Labels((Label(ENDS_WITH_TASKS),)) if ends_with_tasks else None,
        capabilities=tuple(Capability(type=capability) for capability in wanted),
    )


class Scheduler:
    """A framework's core. Override the hooks; call `add`, `kill`, `forget`, `keep`, `emit` and `stop` from them.

    A hook is called while one input is taken, so what it does is one change: all of it is kept, or nothing.
    """

    keeps_tasks: ClassVar[bool] = True  # False: tasks need not outlive this process.
    renews_id: ClassVar[bool] = True  # False: when the framework is removed by an operator, it ends.

    def __init__(self, info: FrameworkInfo, kept: Mapping[str, bytes], *, fresh_id: str, spread: float = 0.5) -> None:
        """kept: what its store held. fresh_id: an id nobody used, for a new framework or one whose id was removed.
        spread: a random number of [0, 1), see Driver. Raises StoreError when `kept` cannot be read."""
        self.kept = state.restore(kept)
        self._new = self.kept.framework_id is None
        self._spare_id = fresh_id if self.renews_id and not self._new else None
        info = msgspec.structs.replace(info, id=FrameworkID(self.kept.framework_id or fresh_id))
        self.driver = Driver(info, spread)
        self.tasks = TaskBook()
        self.refusals: tuple[Refusal, ...] = ()  # Of the latest offers: why tasks still wait.
        self._reconciliation = Reconciliation()
        self._kills: dict[str, tuple[float, float]] = {}  # By task id: when to say it again, and the wait after that.
        self._out: list[Any] = []
        self._started = False
        for record in self.kept.tasks:
            self.tasks.add(record)
            if record.killing:
                self._kills[record.task_id] = (0.0, KILL_AGAIN_S)

    # ---- Hooks: what makes a framework ------------------------------------------------------------------

    def started(self, now: Now) -> None:
        """The process begins, with what it kept; nothing is connected yet."""

    def placing(self, info: TaskInfo, offer: Offer) -> TaskInfo:
        """A task is about to be launched on the agent of this offer: what is to be known of that in it?"""
        return info

    def launched(self, task: TaskRecord, now: Now) -> None:
        """A task goes to the agent its record names."""

    def updated(self, task: TaskRecord, status: TaskStatus, now: Now) -> None:
        """A task changed. In a terminal state it is no longer in `self.tasks`: its id may be added again."""

    def asked(self, message: Any, now: Now) -> None:
        """An input of the framework's own. Emit a Reply to answer it; raise KernelError before the first change."""
        raise NotImplementedError(f"{type(self).__name__} takes no {type(message).__name__}")

    def ticked(self, now: Now) -> None:
        """Time has passed (a few times a second)."""

    def heard(self, event: Event, now: Now) -> None:
        """Any event, after the SDK has dealt with it: for messages, failures, and to know when it is SUBSCRIBED."""

    def lost(self, reason: str, now: Now) -> None:
        """The stream broke or did not come to be; the SDK tries again."""

    def asked_to_leave(self, offer: InverseOffer, now: Now) -> bool:
        """An agent that this framework uses is to be under maintenance, or (with `offer.resources`) so much of what runs there is to end
        for what another role is guaranteed; say whether that suits it (whatever it says, it is done: operators are shown the answer).
        False when what would be killed there cannot go on elsewhere. To end something itself, by `kill`, lets it choose."""
        return True

    # ---- What hooks may do ------------------------------------------------------------------------------

    @property
    def framework_id(self) -> str:
        return self.driver.framework_id.value

    def add(
        self,
        info: TaskInfo,
        wants: Resources,
        *,
        role: str | None = None,
        constraints: RoleConstraints | None = None,
        agent_id: str | None = None,
        priority: int = 0,
        name: str = "",
        gang: str = "",
        prefer: Sequence[str] = (),
        note: bytes = b"",
    ) -> TaskRecord:
        """Let a task wait for an offer that fits. role: the framework's first when not given; the rest as in Shape. Tasks of one gang,
        added while one input is taken, start together: all are launched at once, on offers made together. One whose launch is lost on
        its way waits by itself: the others run already."""
        shape = Shape(wants, role or self.driver.info.roles[0], constraints, agent_id, priority, name, gang, prefer=tuple(prefer))
        return self.add_shaped(info, shape, note)

    def add_shaped(self, info: TaskInfo, shape: Shape, note: bytes = b"") -> TaskRecord:
        """As `add`, for many tasks of one shape."""
        record = TaskRecord(msgspec.structs.replace(info, agent_id=NOWHERE, resources=shape.wants.messages()), shape, note=note)
        self.tasks.add(record)
        self._keep(record)
        return record

    def kill(self, task_id: str, now: Now) -> None:
        """End a task. One that waits is TASK_KILLED at once; for others the kill is repeated until it is terminal."""
        record = self.tasks.get(task_id)
        if record is None:
            return
        if record.pending:
            self._end(record, _made(record, TaskState.TASK_KILLED, "killed before it was launched"), now)
            return
        record.killing = True
        self._keep(record)
        self._send_kill(record, KILL_AGAIN_S, now)

    def forget(self, task_id: str) -> None:
        """Give a task up for lost (one that is TASK_UNREACHABLE): should it come back, it is killed."""
        if self.tasks.remove(task_id) is not None:
            self._kills.pop(task_id, None)
            self._forget(task_id)

    def keep(self, key: str, value: bytes | None) -> None:
        """Hold something of the framework's own in its store; None removes it."""
        assert not state.is_ours(key), f"{key} is the SDK's own"
        self._out.append(Persist(key, value))

    def emit(self, effect: Any) -> None:
        """Let the edge do something, after what this batch of inputs keeps is durable."""
        self._out.append(effect)

    def call(self, type_: str, **body: Any) -> None:
        """Send any call of the scheduler API; it is lost when the framework is not subscribed."""
        if self.driver.subscribed:
            self._out.append(self.driver.send(type_, **body))

    def stop(self, error: str | None = None, *, teardown: bool = False) -> None:
        """End this framework's process. teardown: its tasks and its id too, for good."""
        if teardown:
            self.call("TEARDOWN")
        self._out += self.driver.stop(error)

    # ---- The core ---------------------------------------------------------------------------------------

    @property
    def unsettled(self) -> bool:
        return False

    def settle(self, now: Now, budget_s: float) -> Sequence[Any]:
        """Tell the demand, when this batch changed it."""
        return self.driver.want(self.tasks.demand()) if self.driver.subscribed else ()

    def receive(self, message: Any, now: Now) -> Sequence[Any]:
        """Take one input (Tick, Heard, Lost, CallRefused, or one of the framework's own); return what to do."""
        self._out = []
        kind = type(message)
        if kind is Heard:
            if self.driver.of_current(message.session):
                self._heard(message.event, now)
        elif kind is Tick:
            self._tick(now)
        elif kind is Lost:
            if self.driver.of_current(message.session):
                self._reconciliation.halt()
                self._out += self.driver.lost(message, now)
                self.lost(message.reason, now)
        elif kind is CallRefused:
            self._refused(message.call, message.reason, now)
        else:
            self.asked(message, now)
        out, self._out = self._out, []
        return out

    def _tick(self, now: Now) -> None:
        if not self._started:
            self._started = True
            if self._new:
                self._out.append(state.keep_id(self.framework_id))
            self.started(now)
        subscribed = self.driver.subscribed
        effects = self.driver.tick(now)
        self._out += effects
        if any(type(effect) is Disconnect for effect in effects):
            self._reconciliation.halt()
            self.lost("the master fell silent" if subscribed else "no answer in time", now)
        if self.driver.subscribed:
            if self._reconciliation.cycle_due(now):
                self._reconcile(now)
            self._ask(self._reconciliation.tick(now))
            for task_id, (due_s, wait_s) in list(self._kills.items()):
                record = self.tasks.get(task_id)
                if record is not None and now.mono_s >= due_s:
                    self._send_kill(record, min(KILL_AGAIN_MAX_S, wait_s * 2), now)
        self.tasks.wake(now.mono_s)
        self.ticked(now)

    def _heard(self, event: Event, now: Now) -> None:
        if event.type == "ERROR" and self._spare_id is not None and event.error is not None and event.error.message.startswith(REMOVED):
            self._removed(self._spare_id, now)
            return
        self._out += self.driver.heard(event, now)
        if event.type == "UPDATE" and event.update is not None:
            self._update(event.update.status, now)
        elif event.type == "OFFERS" and event.offers is not None:
            self._offered(event.offers.offers, now)
        elif event.type == "INVERSE_OFFERS" and event.inverse_offers is not None:
            self._answer(event.inverse_offers.inverse_offers, now)
        elif event.type == "SUBSCRIBED":
            self._reconcile(now)
            for task_id in list(self._kills):
                if (record := self.tasks.get(task_id)) is not None:
                    self._send_kill(record, KILL_AGAIN_S, now)
        self.heard(event, now)

    def _offered(self, offers: Sequence[Offer], now: Now) -> None:
        matching = match(self.tasks.waiting(), offers)
        self.refusals = matching.refusals
        declined = []
        for bundle in matching.bundles:
            if bundle.tasks:
                self._launch(bundle, now)
            else:
                declined += [offer.id for offer in bundle.offers]
            if bundle.left:
                self.driver.refused_offers = True
        if declined:
            self.call("DECLINE", decline=Decline(tuple(declined), Filters(REFUSE_S)))

    def _answer(self, offers: Sequence[InverseOffer], now: Now) -> None:
        suits: dict[bool, list[OfferID]] = {True: [], False: []}
        for offer in offers:
            suits[self.asked_to_leave(offer, now)].append(offer.id)
        if suits[True]:
            self.call("ACCEPT_INVERSE_OFFERS", accept_inverse_offers=AcceptInverseOffers(tuple(suits[True]), Filters(ASKED_AGAIN_S)))
        if suits[False]:
            self.call("DECLINE_INVERSE_OFFERS", decline_inverse_offers=DeclineInverseOffers(tuple(suits[False]), Filters(ASKED_AGAIN_S)))

    def _launch(self, bundle: Bundle, now: Now) -> None:
        offer = bundle.offers[0]
        agent_url = _agent_url(offer)
        infos = []
        allocated: dict[Resources, Any] = {}
        for record, part in bundle.tasks:
            shape = record.shape
            resources = allocated.get(part)
            if resources is None:
                resources = allocated[part] = part.messages(bundle.role)
            info = placed(self.placing(record.info, offer), offer.agent_id, resources)
            self.tasks.launched(record, info, offer.hostname, agent_url)
            self.driver.covered(shape, 1)
            self._keep(record)
            infos.append(info)
            self.launched(record, now)
        launch = Operation(type=OperationType.LAUNCH, launch=Launch(tuple(infos)))
        self.call("ACCEPT", accept=Accept(tuple(offer.id for offer in bundle.offers), (launch,), Filters(REFUSE_S)))

    def _update(self, status: TaskStatus, now: Now) -> None:
        task_id = status.task_id.value
        if status.uuid and status.agent_id is not None:  # It leaves when what follows is kept, and before a new launch.
            self.call("ACKNOWLEDGE", acknowledge=Acknowledge(status.agent_id, status.task_id, status.uuid))
        record = self.tasks.get(task_id)
        if record is not None and status.agent_id is not None and record.agent_id and status.agent_id.value != record.agent_id:
            return  # Of an earlier launch under this id, elsewhere.
        self._reconciliation.answered(task_id)
        if record is None:
            if status.state not in TERMINAL and status.state is not TaskState.TASK_UNREACHABLE:
                log.warning("killing task %s, which this framework does not know", task_id)
                self.call("KILL", kill=Kill(TaskID(task_id), status.agent_id))
        elif not (status.uuid and status.uuid == record.uuid):
            self._take(record, status, now)

    def _take(self, record: TaskRecord, status: TaskStatus, now: Now) -> None:
        """Let a task's record follow a status that is no repeat."""
        if record.pending:
            if status.state in TERMINAL or status.state is TaskState.TASK_UNREACHABLE:
                return  # Of a launch that came to nothing, told once more.
        elif record.state is not None and not follows(record.state, status.state):
            return
        if status.state is record.state and status.reason is Reason.REASON_RECONCILIATION:
            return
        if status.state is TaskState.TASK_DROPPED and status.reason is Reason.REASON_RECONCILIATION and not status.uuid:
            return  # Its own update is on the way; until that is acknowledged the master holds the id.
        if id_in_use(record, status):
            self._rest(record, status, now)
            return
        if never_ran(record, status) and not record.killing:
            log.info("task %s was not launched (%s); it waits again", record.task_id, status.message)
            self.tasks.waits_again(record)
            self._keep(record)
            return
        self.tasks.found(record, status)
        record.uuid = status.uuid or record.uuid
        if status.state in TERMINAL:
            self._end(record, status, now)
        else:
            self._keep(record)
            self.updated(record, status, now)

    def _rest(self, record: TaskRecord, status: TaskStatus, now: Now) -> None:
        """The master has not let go of an earlier task of this id, whose end we know (our acknowledgement was lost, or its agent
        is away): this one is launched when it has."""
        if record.killing:
            self._end(record, _made(record, TaskState.TASK_KILLED, "killed before it was launched"), now)
            return
        wait_s = delay_s(record.drops + 1, 0.0, first_s=ID_IN_USE_S, most_s=ID_IN_USE_MAX_S)
        log.info("task %s was not launched (%s); it waits for %g s", record.task_id, status.message, wait_s)
        self.tasks.waits_again(record, now.mono_s + wait_s)
        self._keep(record)
        self._ask((Reconcile((ReconcileTask(record.info.task_id),)),))  # Should it live after all, it is this one.

    def _end(self, record: TaskRecord, status: TaskStatus, now: Now) -> None:
        self.tasks.remove(record.task_id)
        self._kills.pop(record.task_id, None)
        self._forget(record.task_id)
        record.state = status.state
        self.updated(record, status, now)

    def _refused(self, call: Call, reason: str, now: Now) -> None:
        """A call of ours was wrong. What it was to launch is not launched, and never will be this way."""
        log.error("the master refused %s: %s", call.type, reason)
        if call.accept is None:
            return
        for operation in call.accept.operations:
            for info in operation.launch.task_infos if operation.launch is not None else ():
                record = self.tasks.get(info.task_id.value)
                if record is not None and record.state is TaskState.TASK_STAGING:
                    self._end(record, _made(record, TaskState.TASK_ERROR, reason), now)

    def _removed(self, fresh_id: str, now: Now) -> None:
        """An operator (or time) ended the framework: its tasks are killed, it goes on under a new id."""
        log.warning("framework %s was removed; going on as %s", self.framework_id, fresh_id)
        self._spare_id = None
        self._reconciliation.halt()
        self._out += [state.keep_id(fresh_id), *self.driver.renew(fresh_id, now)]
        for record in [record for record in self.tasks if not record.pending]:
            status = _made(record, TaskState.TASK_KILLED, "the framework was removed", Reason.REASON_FRAMEWORK_REMOVED)
            self._end(record, status, now)

    def _reconcile(self, now: Now) -> None:
        live = [(record.task_id, record.agent_id) for record in self.tasks if not record.pending]
        self._ask(self._reconciliation.begin(live, now))

    def _ask(self, bodies: Sequence[Reconcile]) -> None:
        for body in bodies:
            self.call("RECONCILE", reconcile=body)

    def _send_kill(self, record: TaskRecord, wait_s: float, now: Now) -> None:
        self._kills[record.task_id] = (now.mono_s + wait_s, wait_s)
        self.call("KILL", kill=Kill(TaskID(record.task_id), AgentID(record.agent_id) if record.agent_id else None))

    def _keep(self, record: TaskRecord) -> None:
        if self.keeps_tasks:
            self._out.append(state.keep_task(record))

    def _forget(self, task_id: str) -> None:
        if self.keeps_tasks:
            self._out.append(state.forget_task(task_id))


def _made(record: TaskRecord, task_state: TaskState, message: str, reason: Reason | None = None) -> TaskStatus:
    """A status nobody sent."""
    return TaskStatus(task_id=record.info.task_id, state=task_state, message=message, source=Source.SOURCE_MASTER, reason=reason)


def _agent_url(offer: Offer) -> str:
    if offer.url is None:
        return ""
    address = offer.url.address
    host = address.ip or address.hostname or offer.hostname
    return f"{offer.url.scheme}://{f'[{host}]' if ':' in host else host}:{address.port}"
