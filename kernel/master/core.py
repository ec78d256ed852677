"""Every decision of the master: one input at a time in, effects out.

The subjects have a module each (frameworks, agents, tasks); this one only finds the handler for an input,
keeps the deadlines, and turns what the allocator decides into offers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from kernel.clock import Now
from kernel.errors import CallError, NotSupported, PeerError
from kernel.mainloop import Reply, Tick
from kernel.master import (
    agents,
    draining,
    frameworks,
    inverse_offers,
    launching,
    maintenance,
    operations,
    oversubscription,
    preemption,
    quotas,
    reconciliation,
    registration,
    registry,
    render,
    tasks,
)
from kernel.master.allocator import Pass
from kernel.master.config import MasterConfig
from kernel.master.effects import (
    CloseStream,
    DeactivateAgent,
    DrainAgent,
    FromAgent,
    KillTaskByOperator,
    LinkClosed,
    MarkAgentGone,
    OperateByOperator,
    ReactivateAgent,
    SchedulerCall,
    StartMaintenance,
    StopMaintenance,
    StreamClosed,
    SubscribeFramework,
    SubscribeOperator,
    TeardownFramework,
    ToStream,
    ToStreamInFragments,
    UpdateSchedule,
    View,
)
from kernel.master.model import Framework, Offer
from kernel.master.state import MasterState
from kernel.wire import operator, scheduler
from kernel.wire.agent import (
    AgentHeartbeat,
    ExecutorExited,
    ExecutorMessage,
    Goodbye,
    OperationUpdate,
    Oversubscribed,
    Register,
    StatusUpdate,
)
from kernel.wire.nodes import MasterInfo

UUID_BYTES = 16
RESCINDED_AT_ONCE_MAX = 1000  # Offers that one Tick may take back.
REMOVED_AT_ONCE_MAX = 100  # Agents and frameworks that one Tick may give up, for each may have many tasks. The next goes on.


class MasterCore:
    """The master's state machine. Equal inputs in equal order give equal effects."""

    def __init__(
        self,
        config: MasterConfig,
        master: MasterInfo,
        recorded: registry.Registry,
        now: Now,
        views: Callable[[MasterState, str, Any], Any],
        stopwatch: Callable[[], float] | None = None,
    ) -> None:
        """recorded: the registry as loaded. views: renders reads (`kernel.master.views.render`). stopwatch:
        real seconds, only to stop a long allocation pass within its budget; without it a pass is whole."""
        self.state = MasterState(config, master)
        self.state.started = now
        self._views = views
        self._stopwatch = stopwatch
        self._waiting_since: Now | None = None  # The first input since the last allocation.
        self.state.deactivated.update(recorded.deactivated)
        maintenance.recover(self.state, recorded.maintenance, now)
        frameworks.recover(self.state, recorded.frameworks, now)
        agents.recover(self.state, recorded.agents, now)
        quotas.recover(self.state, recorded, now)
        self.state.deadlines.push(now.mono_s + agents.FORGET_S, "forget", "")
        self.state.out.clear()

    def receive(self, message: Any, now: Now) -> Sequence[Any]:
        """Take one input; return what to do, in order. Raises KernelError before the first change."""
        state = self.state
        state.out = []
        if self._waiting_since is None:
            self._waiting_since = now
        kind = type(message)
        if kind is FromAgent:
            self._from_agent(message, now)
        elif kind is SchedulerCall:
            check = _CHECKS.get(type(message.body))
            if check is not None:
                check(message)
            framework = frameworks.authorise(state, message)
            name, handler = _CALLS[type(message.body)]
            framework.counts[name] += 1
            state.counts[name] += 1
            handler(state, framework, message.body, now)
        else:
            _INPUTS[kind](self, message, now)
        if state.emptied:
            draining.settle(state, now)
        if state.paused_until is not None:
            quotas.look_again(state)
        return state.out

    def settle(self, now: Now, budget_s: float) -> Sequence[Any]:
        """Offer what has become free, within the budget; what is left is settled after the next batch."""
        state = self.state
        since, self._waiting_since = self._waiting_since or now, None
        if not state.allocator.unsettled:
            return ()
        state.out = []
        result = self._allocate(now, budget_s, since)
        for allocation in result.rescind:
            offer = state.offer_of.get(allocation)
            if offer is not None:
                state.rescind(offer, now, tell=True)
        for framework_id, role, waited_s in result.waited:
            state.waits.served(state.frameworks[framework_id].waits, role, waited_s, now.mono_s)
        by_framework: dict[str, list[Offer]] = {}
        for allocation in result.allocations:
            by_framework.setdefault(allocation.framework_id, []).append(state.add_offer(allocation, now))
        for framework_id, offers in by_framework.items():
            framework = state.frameworks[framework_id]
            framework.counts["offers/sent"] += len(offers)
            if framework.waits.since_s:
                for role in {offer.role for offer in offers}:
                    state.waits.offered(framework.waits, role, now.mono_s)
            state.tell(framework, render.offers_event(offers))
        return state.out

    def _allocate(self, now: Now, budget_s: float, since: Now) -> Pass:
        state, stopwatch = self.state, self._stopwatch
        if stopwatch is None:
            return state.allocator.allocate(now, budget_s)
        began_s = stopwatch()
        result = state.allocator.allocate(now, budget_s, stopwatch)
        state.allocation_run.record(stopwatch() - began_s, now.mono_s)
        state.allocation_latency.record(now.mono_s - since.mono_s, now.mono_s)
        return result

    @property
    def unsettled(self) -> bool:
        return self.state.allocator.unsettled

    # ---- Inputs -----------------------------------------------------------------------------------------

    def _from_agent(self, message: FromAgent, now: Now) -> None:
        state, body = self.state, message.message
        try:
            if isinstance(body, Register):
                registration.register(state, message.link, body, now)
                return
            agent = agents.from_agent(state, message)
            agents.touch(state, agent, now)
            if isinstance(body, StatusUpdate):
                tasks.status_update(state, agent, body, now)
            elif isinstance(body, OperationUpdate):
                operations.update(state, agent, body)
            elif isinstance(body, AgentHeartbeat):
                agents.heartbeat(state, agent)
            elif isinstance(body, ExecutorMessage):
                tasks.executor_message(state, agent, body)
            elif isinstance(body, Oversubscribed):
                oversubscription.update(state, agent, body, now)
            elif isinstance(body, ExecutorExited):
                agents.executor_exited(state, agent, body, now)
            elif isinstance(body, Goodbye):
                agents.goodbye(state, agent, body, now)
        except PeerError as error:
            state.counts["master/dropped_messages"] += 1
            agents.drop_link(state, message.link, str(error), now)

    def _subscribe(self, call: SubscribeFramework, now: Now) -> None:
        known = call.framework_id != ""
        self.state.counts["master/messages_reregister_framework" if known else "master/messages_register_framework"] += 1
        framework = frameworks.subscribe(self.state, call, now)
        if framework is not None:
            tasks.send_owed(self.state, framework)
            operations.send_owed(self.state, framework)

    def _stream_closed(self, closed: StreamClosed, now: Now) -> None:
        frameworks.stream_closed(self.state, closed, now)

    def _link_closed(self, closed: LinkClosed, now: Now) -> None:
        agents.link_closed(self.state, closed, now)

    def _teardown(self, call: TeardownFramework, now: Now) -> None:
        frameworks.teardown_by_operator(self.state, call, now)

    def _kill(self, call: KillTaskByOperator, now: Now) -> None:
        tasks.kill_by_operator(self.state, call, now)

    def _gone(self, call: MarkAgentGone, now: Now) -> None:
        agents.mark_gone(self.state, call, now)

    def _drain(self, call: DrainAgent, now: Now) -> None:
        draining.drain(self.state, call, now)

    def _deactivate(self, call: DeactivateAgent, now: Now) -> None:
        draining.deactivate(self.state, call, now)

    def _reactivate(self, call: ReactivateAgent, now: Now) -> None:
        self.state.out.append(Reply(draining.reactivate(self.state, call)))

    def _update_schedule(self, call: UpdateSchedule, now: Now) -> None:
        maintenance.update_schedule(self.state, call, now)

    def _start_maintenance(self, call: StartMaintenance, now: Now) -> None:
        maintenance.start(self.state, call, now)

    def _stop_maintenance(self, call: StopMaintenance, now: Now) -> None:
        maintenance.stop(self.state, call, now)

    def _operate(self, call: OperateByOperator, now: Now) -> None:
        operations.operate(self.state, call, now)

    def _subscribe_operator(self, call: SubscribeOperator, now: Now) -> None:
        state = self.state
        while len(state.operators) >= state.config.max_operator_event_stream_subscribers:
            state.out.append(CloseStream(state.operators.popitem(last=False)[0]))
        state.operators[call.stream] = None
        state.out.append(ToStreamInFragments(call.stream, self._views(state, "subscribed", None), frameworks.HEARTBEAT_S))
        state.out.append(ToStream(call.stream, operator.Event("HEARTBEAT")))

    def _update_quota(self, call: operator.UpdateQuota, now: Now) -> None:
        quotas.update_quota(self.state, call, now)

    def _set_quota(self, call: operator.SetQuota, now: Now) -> None:
        quotas.set_quota(self.state, call, now)

    def _remove_quota(self, call: operator.RemoveQuota, now: Now) -> None:
        quotas.remove_quota(self.state, call, now)

    def _update_weights(self, call: operator.UpdateWeights, now: Now) -> None:
        quotas.update_weights(self.state, call, now)

    def _view(self, view: View, now: Now) -> None:
        self.state.out.append(Reply(self._views(self.state, view.name, view.arguments)))

    def _tick(self, tick: Tick, now: Now) -> None:
        state = self.state
        fewest = len(state.agents) + len(state.frameworks) - REMOVED_AT_ONCE_MAX
        for kind, key in state.deadlines.pop_due(now.mono_s):
            _DEADLINES[kind](state, key, now)
            if len(state.agents) + len(state.frameworks) <= fewest:
                break
        for offer in list(islice(state.offers.values(), RESCINDED_AT_ONCE_MAX)):  # The oldest first: so they were put in.
            if now.mono_s < offer.made_s + state.config.offer_timeout_s:
                break
            state.rescind(offer, now, tell=True)
        state.allocator.expire(now)


def _teardown_call(s: MasterState, framework: Framework, call: scheduler.Teardown, now: Now) -> None:
    frameworks.teardown(s, framework, now)


def _unknown(s: MasterState, framework: Framework, call: scheduler.Unknown, now: Now) -> None:
    raise NotSupported("UNKNOWN is no call")


def _check_acknowledge(call: SchedulerCall) -> None:
    _check_uuid(call.body.uuid, "acknowledge.uuid")


def _check_acknowledge_operation(call: SchedulerCall) -> None:
    _check_uuid(call.body.uuid, "acknowledge_operation_status.uuid")
    if call.body.agent_id is None:
        raise CallError("acknowledge_operation_status.agent_id: must be set")


def _check_uuid(uuid: bytes, field: str) -> None:
    if len(uuid) != UUID_BYTES:
        raise CallError(f"{field}: must be {UUID_BYTES} bytes, got {len(uuid)}")


# What is wrong with a call whoever sends it: told before anything is told about its sender (section 1.2, check 8).
_CHECKS: dict[type, Callable[[SchedulerCall], None]] = {
    scheduler.Acknowledge: _check_acknowledge,
    scheduler.AcknowledgeOperationStatus: _check_acknowledge_operation,
    scheduler.UpdateFramework: frameworks.check_update,
}
_CALLS: dict[type, tuple[str, Callable[[MasterState, Framework, Any, Now], None]]] = {
    scheduler.Teardown: ("master/messages_unregister_framework", _teardown_call),
    scheduler.Accept: ("master/messages_launch_tasks", launching.accept),
    scheduler.Decline: ("master/messages_decline_offers", launching.decline),
    scheduler.AcceptInverseOffers: ("accept_inverse_offers", inverse_offers.accept),
    scheduler.DeclineInverseOffers: ("decline_inverse_offers", inverse_offers.decline),
    scheduler.Revive: ("master/messages_revive_offers", frameworks.revive),
    scheduler.Suppress: ("master/messages_suppress_offers", frameworks.suppress),
    scheduler.Kill: ("master/messages_kill_task", tasks.kill),
    scheduler.Shutdown: ("shutdown", tasks.shutdown),
    scheduler.Acknowledge: ("master/messages_status_update_acknowledgement", tasks.acknowledge),
    scheduler.AcknowledgeOperationStatus: ("master/messages_operation_status_update_acknowledgement", operations.acknowledge),
    scheduler.Reconcile: ("master/messages_reconcile_tasks", reconciliation.reconcile),
    scheduler.ReconcileOperations: ("master/messages_reconcile_operations", operations.reconcile),
    scheduler.Message: ("master/messages_framework_to_executor", tasks.message),
    scheduler.Request: ("master/messages_resource_request", frameworks.request),
    scheduler.UpdateFramework: ("update_framework", frameworks.update_framework),
    scheduler.Unknown: ("unknown", _unknown),
}
_INPUTS: dict[type, Callable[[MasterCore, Any, Now], None]] = {
    Tick: MasterCore._tick,
    SubscribeFramework: MasterCore._subscribe,
    StreamClosed: MasterCore._stream_closed,
    LinkClosed: MasterCore._link_closed,
    SubscribeOperator: MasterCore._subscribe_operator,
    TeardownFramework: MasterCore._teardown,
    KillTaskByOperator: MasterCore._kill,
    MarkAgentGone: MasterCore._gone,
    DrainAgent: MasterCore._drain,
    DeactivateAgent: MasterCore._deactivate,
    ReactivateAgent: MasterCore._reactivate,
    UpdateSchedule: MasterCore._update_schedule,
    StartMaintenance: MasterCore._start_maintenance,
    StopMaintenance: MasterCore._stop_maintenance,
    operator.UpdateQuota: MasterCore._update_quota,
    operator.SetQuota: MasterCore._set_quota,
    operator.RemoveQuota: MasterCore._remove_quota,
    operator.UpdateWeights: MasterCore._update_weights,
    OperateByOperator: MasterCore._operate,
    View: MasterCore._view,
}
_DEADLINES: dict[str, Callable[[MasterState, str, Now], None]] = {
    "agent": agents.contact_due,
    "forget": agents.forget_due,
    "forsaken": frameworks.forsaken_due,
    "framework": frameworks.failover_due,
    "inverse": inverse_offers.due,
    "preemption": preemption.due,
    "recovery": quotas.recovery_due,
}
