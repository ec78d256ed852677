"""Bugs planted on purpose, one place each, to see that the simulator finds them.

Each entry replaces one function while it is in force. They are the kind of mistake one makes: a check left out, an order
turned round, something not written down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from chronos.book import Book
from chronos.core import ChronosScheduler
from chronos.edges import EdgeBook
from chronos.joins import Outcome
from chronos.life import Life
from chronos.run import RunState
from chronos.timers import Timers
from frameworks.sdk import scheduler as sdk
from kernel.agent import checkpoint, registration, updates
from kernel.agent.launcher import core as launcher
from kernel.agent.oversubscription.oversubscription import Oversubscription
from kernel.mainloop import Persist
from kernel.master import draining, model, oversubscription, preemption, registry, state
from kernel.master import registration as admission
from kernel.master.allocator import preempt, quota
from kernel.master.transitions import AgentState
from kernel.wire.link import FrameOrder, Verdict
from kernel.wire.resources import EMPTY


def _free_twice(original: Any) -> Any:
    def free_task(self: Any, framework: Any, agent: Any, task: Any, now: Any) -> None:
        task.freed = False
        original(self, framework, agent, task, now)

    return free_task


def _lose_offers(original: Any) -> Any:
    """What an offer held is not given back when the offer is taken back."""
    return lambda self, offer, now, tell: self.drop_offer(offer)


def _forget_missing(original: Any) -> Any:
    def ask(s: Any, agent: Any, reported: Any, now: Any) -> None:
        original(s, agent, reported, now)
        s.out = [effect for effect in s.out if type(getattr(effect, "message", None)).__name__ != "ReconcileTasks"]

    return ask


def _acknowledge_all(original: Any) -> Any:
    """The agent takes the acknowledgement of one update for that of all that wait behind it."""

    def acknowledge(self: Any, message: Any) -> Any:
        framework = self.state.frameworks.get(message.framework_id)
        task = framework.tasks.get(message.task_id) if framework is not None else None
        if task is not None and len(task.updates.pending) > 1:
            task.updates.pending = deque([replace(task.updates.pending[-1], uuid=message.uuid)])
        return original(self, message)

    return acknowledge


def _take_gaps(original: Any) -> Any:
    def check(self: FrameOrder, number: int) -> Verdict:
        self.received = max(self.received, number - 1)
        return original(self, number)

    return check


def _lose_updates(original: Any) -> Any:
    """Updates are not checkpointed."""
    return lambda task: Persist("lost", None)


def _lose_tasks(original: Any) -> Any:
    """What a task is, is not checkpointed."""
    return lambda *_: Persist("lost", None)


def _report_no_tasks(original: Any) -> Any:
    """An agent that comes back tells nothing of what runs."""

    def register(self: Any) -> None:
        frameworks, self.state.frameworks = self.state.frameworks, {}
        original(self)
        self.state.frameworks = frameworks

    return register


def _no_intent(original: Any) -> Any:
    """The launcher starts a process before it is written down."""

    def launch(self: Any, message: Any, wall_s: float) -> Any:
        effects = original(self, message, wall_s)
        return [effect for effect in effects if not (isinstance(effect, launcher.Record) and effect.entry.get("r") == "intent")]

    return launch


def _launch_again(original: Any) -> Any:
    """The launcher takes a repeated launch for a new one."""

    def launch(self: Any, message: Any, wall_s: float) -> Any:
        known = self.containers.get(message.container)
        if known is not None:
            return [launcher.Spawn(message)]
        return original(self, message, wall_s)

    return launch


def _keep_nothing(original: Any) -> Any:
    """The framework launches before it has written down what."""
    return lambda self, record: None


def _take_repeats(original: Any) -> Any:
    """The framework launches again whatever it hears is lost, however late."""

    def take(self: Any, record: Any, status: Any, now: Any) -> None:
        if record.pending or status.state.value != "TASK_UNREACHABLE":
            original(self, record, status, now)
            return
        self.tasks.waits_again(record)
        self._keep(record)

    return take


MUTATIONS: Mapping[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "the master frees a task's resources again with each report": (state.MasterState, "free_task", _free_twice),
    "the master does not give back what a rescinded offer held": (state.MasterState, "rescind", _lose_offers),
    "the master does not ask about tasks an agent did not report": (admission, "_ask_for_missing", _forget_missing),
    "the agent takes one acknowledgement for all": (updates.Updates, "acknowledge", _acknowledge_all),
    "a gap in the frames of a link goes unnoticed": (FrameOrder, "check", _take_gaps),
    "the agent does not write down its updates": (checkpoint, "keep_updates", _lose_updates),
    "the agent does not write down its tasks": (checkpoint, "keep_task", _lose_tasks),
    "the agent registers without its tasks": (registration.Registration, "register", _report_no_tasks),
    "the launcher starts a process before it is written down": (launcher.Core, "_launch", _no_intent),
    "the launcher starts a container again": (launcher.Core, "_launch", _launch_again),
    "the framework launches what it has not written down": (sdk.Scheduler, "_keep", _keep_nothing),
    "the framework runs unreachable tasks again": (sdk.Scheduler, "_take", _take_repeats),
}


def _offer_all(original: Any) -> Any:
    return property(lambda self: self.state is AgentState.REGISTERED)


def _drained_at_once(original: Any) -> Any:
    def settle(s: Any, now: Any) -> None:
        for agent_id in s.emptied:
            known = s.deactivated.get(agent_id)
            if known is not None and known.draining:
                s.deactivate(agent_id, replace(known, drained=True))
        s.emptied = {}

    return settle


# Bugs of draining and maintenance, for whoever does that to a cluster.
MAINTENANCE: Mapping[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "a deactivated agent is offered": (model.Agent, "active", _offer_all),
    "an agent is drained while something runs there": (draining, "settle", _drained_at_once),
    "a deactivation is not written down": (registry, "keep_deactivation", _lose_tasks),
    "a schedule is not written down": (registry, "keep_maintenance", _lose_tasks),
}


def _shrink_nothing(original: Any) -> Any:
    return lambda self, leaf, piece, limits_only=False: piece


def _charge_only(original: Any) -> Any:
    return lambda self, leaf, resources, sign: original(self, leaf, resources, sign) if sign > 0 else None


# Bugs of quotas, for whoever sets some.
QUOTAS: Mapping[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "offers are not cut to limits": (quota.Quotas, "shrink", _shrink_nothing),
    "what is given back still counts against a quota": (quota.Quotas, "charge", _charge_only),
}


def _anything(original: Any) -> Any:
    return lambda self, item, guarantees: True


def _at_once(original: Any) -> Any:
    def give(s: Any, wanted: Any, now: Any) -> None:
        original(s, wanted, now)
        for notice in s.notices.all():
            notice.due_s = min(notice.due_s, now.mono_s + 2.0)

    return give


PREEMPTION: Mapping[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "a task ends before its notice is over": (preemption, "_give", _at_once),
    "tasks end whose role is within its limit": (preempt._Search, "_may_take", _anything),
}


def _keep_offers(original: Any) -> Any:
    def update(s: Any, agent: Any, message: Any, now: Any) -> None:
        offers, agent.offers = agent.offers, {}
        original(s, agent, message, now)
        agent.offers = offers

    return update


def _forget_why(original: Any) -> Any:
    def keep(task: Any, at: Any) -> Any:
        why, task.preempted = task.preempted, ""
        kept = original(task, at)
        task.preempted = why
        return kept

    return keep


def _tell_never_again(original: Any) -> Any:
    def tell(self: Any) -> None:
        if self.state.slack_told == EMPTY:
            original(self)

    return tell


# Bugs of lending, for whoever lends.
LENDING: Mapping[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "offers of what is lent no more are kept": (oversubscription, "update", _keep_offers),
    "why a task is preempted is not written down": (checkpoint, "keep_task", _forget_why),
    "the master is not told that less is lent": (Oversubscription, "tell", _tell_never_again),
}


def _keep_but(*unwritten: RunState) -> Callable[[Any], Any]:
    """Runs are not written down while they are so."""

    def change(original: Any) -> Any:
        def keep(self: Life, run: Any) -> Any:
            if run.state in unwritten:
                self._index(run)
                return run
            return original(self, run)

        return keep

    return change


def _retry_silent(original: Any) -> Any:
    def unreachable(self: Life, run: Any, now_ms: int, task_state: str) -> None:
        self.host.abandon(run)
        self.ended(run, now_ms, run.attempt, Outcome.FAILURE, lost=True)

    return unreachable


def _forget_edges(original: Any) -> Any:
    def keep(self: EdgeBook, *arguments: Any) -> None:
        emit, self._emit = self._emit, _nothing
        original(self, *arguments)
        self._emit = emit

    return keep


def _nothing(effect: Any) -> None:
    """Nothing is written."""


def _run_again(original: Any) -> Any:
    """A new scheduler takes what runs for lost."""

    def started(self: ChronosScheduler, now: Any) -> None:
        original(self, now)
        for run in [run for run in self.life.runs.values() if run.state is RunState.RUNNING]:
            self.tasks.remove(run.attempt.task_id)
            self.life.ended(run, int(now.wall_s * 1000), run.attempt, Outcome.FAILURE, lost=True)

    return started


def _told_at_once(original: Any) -> Any:
    def over(self: ChronosScheduler, job: Any, run: Any) -> None:
        original(self, job, run)
        self.emit(Persist(f"runs/{run.run_id}", None))

    return over


def _slots_again(original: Any) -> Any:
    def change(self: Book, entry: Any, **changes: Any) -> Persist:
        persist = original(self, entry, **changes)
        return Persist("lost", None) if "next_ms" in changes else persist

    return change


def _forget_timers(original: Any) -> Any:
    def load(self: Life, kept: Any) -> Any:
        over = original(self, kept)
        self._timers = Timers()
        return over

    return load


def _skip_in_silence(original: Any) -> Any:
    def skip(self: Life, run: Any, reason: str, now_ms: int) -> Any:
        return run

    return skip


# Bugs of the scheduler of jobs.
CRON: Mapping[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "a run is written down after its launch": (Life, "_keep", _keep_but(RunState.LAUNCHING)),
    "a run that waits is not written down": (Life, "_keep", _keep_but(RunState.WAITING, RunState.QUEUED)),
    "the end of a run is not written down": (Life, "_keep", _keep_but(RunState.SUCCEEDED, RunState.FAILED)),
    "which slots were dealt with is not written down": (Book, "change", _slots_again),
    "what parents came to is not written down": (EdgeBook, "keep", _forget_edges),
    "a run is forgotten before history has it": (ChronosScheduler, "over", _told_at_once),
    "a run on an agent that fell silent is tried again at once": (Life, "unreachable", _retry_silent),
    "a scheduler that comes back runs again what runs": (ChronosScheduler, "started", _run_again),
    "a scheduler that comes back forgets what waits for its time": (Life, "load", _forget_timers),
    "a slot that cannot run is left out of history": (Life, "_skip", _skip_in_silence),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Let one bug be in force."""
    owner, attribute, change = {**MUTATIONS, **MAINTENANCE, **QUOTAS, **PREEMPTION, **LENDING, **CRON}[name]
    original = getattr(owner, attribute)
    setattr(owner, attribute, change(original))
    try:
        yield
    finally:
        setattr(owner, attribute, original)


def is_found(name: str, live: Callable[[int], object], seeds: int = 20) -> bool:
    """Whether one of so many histories, of which `live` plays and checks that of a seed, fails with the bug in it."""
    with planted(name):
        for seed in range(seeds):
            try:
                live(seed)
            except AssertionError:
                return True
    return False
