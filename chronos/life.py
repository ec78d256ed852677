"""What becomes of runs: from their slots through gates, attempts and retries into history, and on to the jobs below. Pure.

The host carries out what is decided (`chronos.core`). Everything is recorded before it is done: a run before its task, its end before its
children, and it is forgotten here only when history has it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Protocol

import msgspec
from msgspec import UNSET, Struct

from chronos import catch_up
from chronos.below import tell
from chronos.book import Book
from chronos.edges import EdgeBook
from chronos.entry import Entry
from chronos.gates import Gate, Gates, Ticket
from chronos.job import Job
from chronos.joins import Outcome, Verdict
from chronos.overlaps import overlap_of, refusal, ticket_of
from chronos.pauses import Pauses
from chronos.retrying import delay_ms, tries_again
from chronos.run import FOR_DISABLED, Attempt, Cause, Run, RunState, moved, read_run, task_id, with_attempt, write_run
from chronos.schedule import jitter_ms, read_duration
from chronos.timers import Timers, goes_on_ms
from kernel.mainloop import Persist

log = logging.getLogger(__name__)

RUNS = "runs/"
QUEUED_MAX = 10_000  # Runs of one job that wait for others.
SUPERSEDED = "another attempt to run it took its place (overlap: replace)"
DELETED = "its job was deleted"


class Settings(Struct, frozen=True):
    """What an operator sets. retry_ms: before another attempt, where a job does not say. disable_after: failures in a row that disable a
    job, 0 for none. limits: how many runs of an owner, or of a label (`KEY=VALUE`), may be live."""

    retry_ms: int = 60_000
    disable_after: int = 0
    limits: Mapping[Gate, int] = {}


class Host(Protocol):
    """What a run has done to it."""

    def emit(self, effect: Persist) -> None: ...
    def launch(self, job: Job, run: Run, attempt: Attempt) -> None: ...
    def end(self, run: Run) -> None:
        """Kill its last attempt."""

    def abandon(self, run: Run) -> None:
        """Its last attempt counts no more; should it come back, it is killed."""

    def over(self, job: Job | None, run: Run) -> None:
        """It is history."""

    def missed(self, job: Job, run: Run) -> None:
        """It has not finished by its deadline."""


class Life:
    """All runs that are not in history yet."""

    def __init__(self, book: Book, host: Host, settings: Settings) -> None:
        self.book, self.host, self.settings = book, host, settings
        self.pauses = Pauses()
        self.runs: dict[str, Run] = {}
        self.by_job: dict[str, dict[str, None]] = {}
        self.gates = Gates()
        self.edges = EdgeBook(host.emit)
        self._timers = Timers()
        self._stamps: dict[str, int] = {}  # By job: what its last run that was called for is named from.
        self._reports: deque[tuple[Entry, Run]] = deque()
        self._telling = False
        self._unreadable: dict[str, str] = {}  # By run: what is wrong with what is stored of it.

    # ---- Loading ----------------------------------------------------------------------------------------

    def load(self, kept: Mapping[str, bytes]) -> list[Run]:
        """Take in what a store held; return the runs whose end history may not have."""
        over: list[Run] = []
        runs: list[Run] = []
        for run_id, value in ((key.removeprefix(RUNS), value) for key, value in kept.items() if key.startswith(RUNS)):
            try:
                runs.append(read_run(value))
            except msgspec.MsgspecError as error:
                log.error("run %s is given up: what is stored of it cannot be read: %s", run_id, error)
                self._unreadable[run_id] = str(error)
        for run in sorted(runs, key=lambda run: (run.created_ms, run.run_id)):
            self._index(run)
            if run.over:
                over.append(run)
                continue
            self._watch(run)
            if run.state is RunState.QUEUED:
                self.gates.enter(self._ticket(run))
            else:
                if run.live:
                    self.gates.place(self._ticket(run))
                self._timers.wait(run)
        self.edges.load(kept)
        return over

    # ---- Slots ------------------------------------------------------------------------------------------

    def take_due(self, now_ms: int, jobs_max: int) -> bool:
        """Deal with what is due, of so many jobs at most; say whether there is more."""
        due = self.book.due(now_ms)
        for _ in range(jobs_max):
            entry = next(due, None)
            if entry is None:
                return self._ring(now_ms, jobs_max)
            try:
                self._take(entry, now_ms)
            except AssertionError:
                raise
            except Exception as error:  # Not foreseen: this one waits for somebody to look at it, the others go on.
                log.exception("job %s is quarantined", entry.name)
                entry.fault = f"internal error, when its slot {entry.status.next_ms} was due: {type(error).__name__}: {error}"
        return True

    def _take(self, entry: Entry, now_ms: int) -> None:
        status, schedule = entry.status, entry.schedule
        assert schedule is not None, "only scheduled jobs are due"
        assert status.next_ms is not None, "it is due"
        taken = catch_up.take(schedule, catch_up.rules_of(entry.job), status.next_ms, status.left, now_ms)
        self.host.emit(self.book.change(entry, next_ms=taken.next_ms, left=taken.left))
        for part in taken.skipped:
            run = self._new(entry.job, part.first_ms, Cause.SCHEDULE, now_ms, str(part.first_ms))
            run = msgspec.structs.replace(run, last_slot_ms=part.last_ms, slots=part.count)
            self._skip(run, part.reason, now_ms)
        paused = self.pauses.of(entry.job)
        for slot_ms in taken.runs:
            key = str(slot_ms) if f"{entry.name}@{slot_ms}" not in self.runs else f"{slot_ms}~{self._stamp(entry, now_ms)}"
            run = self._new(entry.job, slot_ms, Cause.SCHEDULE, now_ms, key)
            if paused:
                self._skip(run, paused, now_ms)
                continue
            due_ms = slot_ms + jitter_ms(entry.name, slot_ms, read_duration(entry.job.more.jitter, "meseta.jitter"))
            run = msgspec.structs.replace(run, due_ms=due_ms)
            self._watch(run)
            if due_ms > now_ms:
                self._keep(run)
                self._timers.wait(run)
            else:
                self._admit(entry.job, run, now_ms)

    def call(
        self,
        entry: Entry,
        cause: Cause,
        now_ms: int,
        *,
        slot_ms: int | None = None,
        arguments: str | None = None,
        identity: str | None = None,
        key: str = "",
        parents: Mapping[str, Outcome] | None = None,
    ) -> Run:
        """A run that is not of the schedule. slot_ms: None for now. arguments: None for the job's own. identity: None for its own."""
        job = entry.job
        if not key or f"{job.name}@{key}" in self.runs:
            at_ms = self._stamp(entry, now_ms)
            key = str(at_ms) if slot_ms is None else f"{slot_ms}~{at_ms}"
        run = self._new(job, now_ms if slot_ms is None else slot_ms, cause, now_ms, key)
        run = msgspec.structs.replace(
            run,
            due_ms=now_ms,
            identity=run.identity if identity is None else identity,
            arguments=run.arguments if arguments is None else arguments.replace(";", ""),
            parents=dict(parents or {}),
        )
        if entry.status.disabled and cause not in FOR_DISABLED:
            return self._skip(run, "the job is disabled", now_ms)
        self._watch(run)
        return self._admit(job, run, now_ms)

    def _stamp(self, entry: Entry, now_ms: int) -> int:
        """An instant that no other run of the job has its name from: no call's, no slot's (few lie between two seconds)."""
        at_ms = max(now_ms, self._stamps.get(entry.name, 0) + 1)
        while f"{entry.name}@{at_ms}" in self.runs or at_ms == entry.status.next_ms or at_ms % 1000 == 0:
            at_ms += 1
        self._stamps[entry.name] = at_ms
        return at_ms

    def clear(self, now_ms: int) -> int:
        """End all runs of which no attempt is at work; return how many."""
        waiting = [run for run in self.runs.values() if not run.over and not run.ending and _waits(run)]
        for run in waiting:
            if not self.runs[run.run_id].over:
                self.kill(self.runs[run.run_id], "taken out of the queue on request", now_ms)
        return len(waiting)

    def finish(self, run: Run, outcome: Outcome, now_ms: int) -> None:
        """A client says how its last attempt went."""
        attempt = run.attempt
        assert attempt is not None, "it was launched"
        self.host.abandon(run)
        self.ended(run, now_ms, msgspec.structs.replace(attempt, message=f"a client said: {outcome.value}"), outcome)

    def mark(self, entry: Entry, now_ms: int) -> Run:
        """Somebody says that the job has succeeded: it counts, and what depends on it runs."""
        at_ms = self._stamp(entry, now_ms)
        run = self._new(entry.job, at_ms, Cause.MARK, now_ms, str(at_ms))
        self.edges.forget(entry.name)
        return self._finish(moved(moved(run, RunState.LAUNCHING), RunState.SUCCEEDED, reason="marked as successful"), now_ms)

    def _new(self, job: Job, slot_ms: int, cause: Cause, now_ms: int, key: str) -> Run:
        run_id = f"{job.name}@{key}"
        arguments = " ".join(job.arguments).replace(";", "") if job.shell else ""
        return Run(run_id, job.name, slot_ms, cause, RunState.WAITING, slot_ms, now_ms, run_id, arguments=arguments, priority=job.priority)

    # ---- Passing the gates ------------------------------------------------------------------------------

    def _admit(self, job: Job, run: Run, now_ms: int) -> Run:
        """Let a run begin, wait, or not happen, by what its job says of overlaps."""
        ticket, others = self._ticket(run), self.gates.inside(Gate("job", job.name))
        reason = refusal(job, run, others, self._waiting(job.name))
        if reason:
            return self._skip(run, reason, now_ms)
        if others and overlap_of(job) == "replace":
            for other in others:
                self.kill(self.runs[other], SUPERSEDED, now_ms)
            for waiting in list(self._waiting(job.name)):
                self._skip(waiting, SUPERSEDED, now_ms)
        if len(self.by_job.get(job.name, ())) >= QUEUED_MAX:
            return self._skip(run, f"{QUEUED_MAX} runs of it wait already", now_ms)
        if self.gates.enter(ticket):
            return self._launch(job, run, now_ms)
        return self._keep(moved(run, RunState.QUEUED, reason=self._why_queued(ticket)))

    def _waiting(self, name: str) -> Iterator[Run]:
        """Runs of a job that wait at its gates."""
        return (self.runs[run_id] for run_id in self.by_job.get(name, ()) if self.gates.waits(run_id))

    def _ticket(self, run: Run) -> Ticket:
        entry = self.book.entries.get(run.job)
        return ticket_of(run, entry.job if entry is not None else None, self.settings.limits)

    def _why_queued(self, ticket: Ticket) -> str:
        gate = self.gates.blocked(ticket.gates)
        if gate is None:
            return ""
        inside = self.gates.inside(gate)
        return f"{len(inside)} of the {gate.kind} {gate.name} run, as many as may: {inside[0]}" + (" ..." if len(inside) > 1 else "")

    def _pass(self, run_ids: Iterable[str], now_ms: int) -> None:
        for run_id in run_ids:
            run = self.runs[run_id]
            self._launch(self.book.entries[run.job].job, run, now_ms)

    # ---- Attempts ---------------------------------------------------------------------------------------

    def _launch(self, job: Job, run: Run, now_ms: int) -> Run:
        attempt = Attempt(len(run.attempts), task_id(run, len(run.attempts)), now_ms)
        late_ms = run.late_ms if run.attempts else max(0, now_ms - run.due_ms)
        run = self._keep(with_attempt(moved(run, RunState.LAUNCHING, reason="", late_ms=late_ms), attempt))
        self.host.launch(job, run, attempt)
        return run

    def launched(self, run: Run, now_ms: int, agent_id: str, hostname: str, agent_url: str) -> None:
        """Its task goes to an agent."""
        if run.attempt is not None:
            changes = {"launched_ms": now_ms, "agent_id": agent_id, "hostname": hostname, "agent_url": agent_url}
            self._keep(with_attempt(run, msgspec.structs.replace(run.attempt, **changes)))

    def running(self, run: Run, now_ms: int, task_state: str) -> None:
        """It was heard of."""
        attempt = run.attempt
        assert attempt is not None, "it was launched"
        attempt = msgspec.structs.replace(attempt, state=task_state, started_ms=attempt.started_ms or now_ms)
        state = RunState.ENDING if run.ending else RunState.RUNNING
        self._keep(moved(with_attempt(run, attempt), state))

    def unreachable(self, run: Run, now_ms: int, task_state: str) -> None:
        """Its agent fell silent: for a while it counts as live."""
        attempt = run.attempt
        assert attempt is not None, "it was launched"
        run = with_attempt(run, msgspec.structs.replace(attempt, state=task_state))
        if run.state is not RunState.UNREACHABLE:
            entry = self.book.entries.get(run.job)
            wait_ms = read_duration(entry.job.more.unreachable_after if entry is not None else 0.0, "meseta.unreachableAfter")
            run = moved(run, RunState.UNREACHABLE, not_before_ms=now_ms + wait_ms)
            self._timers.wait(run)
        self._keep(run)

    def ended(self, run: Run, now_ms: int, attempt: Attempt, outcome: Outcome, *, lost: bool = False) -> None:
        """Its last attempt is over. lost: through no fault of its own."""
        run = with_attempt(run, msgspec.structs.replace(attempt, ended_ms=now_ms))
        entry = self.book.entries.get(run.job)
        if outcome is Outcome.SUCCESS:
            self._finish(moved(run, RunState.SUCCEEDED), now_ms)
        elif outcome is Outcome.KILLED or run.ending:
            self._finish(moved(run, RunState.KILLED), now_ms)
        elif entry is not None and tries_again(entry.job, entry.status, len(run.attempts), lost=lost):
            wait_ms = delay_ms(entry.job, run.run_id, len(run.attempts), self.settings.retry_ms, lost=lost)
            run = self._keep(moved(run, RunState.WAITING, not_before_ms=now_ms + wait_ms, reason=f"to be tried again: {attempt.message}"))
            self._timers.wait(run)
        else:
            self._finish(moved(run, RunState.FAILED, reason=attempt.message), now_ms)

    def kill(self, run: Run, reason: str, now_ms: int) -> None:
        """End a run, wherever it stands."""
        if run.over or run.ending:
            return
        if run.state in (RunState.WAITING, RunState.QUEUED):
            self._finish(moved(run, RunState.KILLED, reason=reason), now_ms)
        else:
            self.host.end(self._keep(moved(run, RunState.ENDING, reason=reason, ending=True)))

    # ---- Time -------------------------------------------------------------------------------------------

    def _watch(self, run: Run) -> None:
        """Look at it again when its deadline has passed."""
        at_ms = self._deadline_ms(run)
        if at_ms is not None and not run.missed:
            self._timers.watch(run.run_id, at_ms)

    def _deadline_ms(self, run: Run) -> int | None:
        entry = self.book.entries.get(run.job)
        deadline = entry.job.more.deadline if entry is not None else UNSET
        if deadline is UNSET:
            return None
        from_ms = run.slot_ms if run.cause is Cause.SCHEDULE else run.created_ms
        return from_ms + read_duration(deadline, "meseta.deadline")

    def _ring(self, now_ms: int, most: int) -> bool:
        """Look at runs whose time has come; say whether there are more."""
        for run_id in self._timers.passed(now_ms):
            late = self.runs.get(run_id)
            if late is not None and not late.over and not late.missed:
                self._miss(late)
        for run_id, state, at_ms in islice(self._timers.due(now_ms), most):
            run = self.runs.get(run_id)
            if run is None or run.state is not state or goes_on_ms(run) != at_ms:
                continue
            if state is RunState.UNREACHABLE:
                self._give_up(run, now_ms)
            elif run.attempts:
                self._launch(self.book.entries[run.job].job, run, now_ms)
            else:
                self._admit(self.book.entries[run.job].job, run, now_ms)
        return self._timers.any_due(now_ms)

    def _miss(self, run: Run) -> None:
        entry = self.book.entries.get(run.job)
        if entry is not None and entry.job.more.deadline is not UNSET:
            self.host.missed(entry.job, self._keep(msgspec.structs.replace(run, missed=True)))

    def _give_up(self, run: Run, now_ms: int) -> None:
        """Its agent has been silent for too long."""
        attempt, entry = run.attempt, self.book.entries.get(run.job)
        assert attempt is not None, "it was launched"
        self.host.abandon(run)
        message = "its agent was unreachable for too long"
        attempt = msgspec.structs.replace(attempt, message=message)
        if run.ending or (entry is not None and entry.job.more.retry_unreachable):
            self.ended(run, now_ms, attempt, Outcome.FAILURE, lost=True)
        else:
            run = with_attempt(run, msgspec.structs.replace(attempt, ended_ms=now_ms))
            self._finish(moved(run, RunState.FAILED, reason=f"{message} (retryUnreachable is off)"), now_ms)

    def give_up_orphans(self, now_ms: int) -> None:
        """Runs that wait, of jobs that could not be read: they go no further, and history has them."""
        for run in list(self.runs.values()):
            if run.job not in self.book.entries and run.state in (RunState.WAITING, RunState.QUEUED):
                state = RunState.FAILED if run.attempts else RunState.SKIPPED
                self._finish(moved(run, state, reason="its job is quarantined: it cannot be read"), now_ms)

    def give_up_unreadable(self, now_ms: int) -> list[str]:
        """Of runs whose records make no sense nobody knows how they stand: they have failed, and history has them. Returns their ids."""
        given_up = list(self._unreadable)
        for run_id, error in self._unreadable.items():
            job, _, key = run_id.rpartition("@")
            slot = key.partition("~")[0]
            slot_ms = int(slot) if slot.isdecimal() else now_ms
            run = Run(run_id, job, slot_ms, Cause.SCHEDULE, RunState.WAITING, slot_ms, now_ms, run_id)
            self._finish(moved(run, RunState.FAILED, reason=f"what is stored of it cannot be read: {error}"), now_ms)
        self._unreadable = {}
        return given_up

    # ---- Ends -------------------------------------------------------------------------------------------

    def _skip(self, run: Run, reason: str, now_ms: int) -> Run:
        return self._finish(moved(run, RunState.SKIPPED, reason=reason), now_ms)

    def _finish(self, run: Run, now_ms: int) -> Run:
        """It is over: it counts, history gets it, the next passes, and those below are told."""
        run = msgspec.structs.replace(run, ended_ms=now_ms, not_before_ms=0)
        self._index(run)
        entry = self.book.entries.get(run.job)
        occasions = self._count(entry, run, now_ms) if entry is not None else ()
        deadline_ms = self._deadline_ms(run)
        if run.attempts and not run.missed and deadline_ms is not None and now_ms > deadline_ms:  # Nobody was there to see it pass.
            occasions = (*occasions, "deadline")
        run = self._keep(msgspec.structs.replace(run, occasions=occasions))
        self.host.over(entry.job if entry is not None else None, run)
        self.gates.withdraw(run.run_id)
        passed = self.gates.leave(run.run_id)
        if entry is not None and (run.cause is not Cause.SCHEDULE or run.state is not RunState.SKIPPED):
            self._reports.append((entry, run))
            self._tell_all(now_ms)
        self._pass(passed, now_ms)
        return run

    def _tell_all(self, now_ms: int) -> None:
        """Tell the children of all that has ended; what ends by that is told in turn, not within."""
        if not self._telling:
            self._telling = True
            while self._reports:
                self._report(*self._reports.popleft(), now_ms)
            self._telling = False

    def recorded(self, run_ids: Iterable[str]) -> None:
        """History has these."""
        for run_id in run_ids:
            run = self.runs.get(run_id)
            if run is not None and run.over:
                del self.runs[run_id]
                own = self.by_job[run.job]
                del own[run_id]
                if not own:
                    del self.by_job[run.job]
                self.host.emit(Persist(RUNS + run_id, None))

    def _count(self, entry: Entry, run: Run, now_ms: int) -> tuple[str, ...]:
        """Counters as Chronos kept them (spec: chronos-v1, 6.3 and 6.4); returns what people may want to be told."""
        status = entry.status
        if run.state is RunState.SUCCEEDED:
            last = status.left == 0 and entry.job.schedule is not UNSET and not self._live(entry.name)
            changes = {"success_count": status.success_count + 1, "errors_since_success": 0, "last_success_ms": now_ms}
            self.host.emit(self.book.change(entry, **changes, disabled=status.disabled or last))
            return (*(("recovery",) if status.errors_since_success else ()), "success", *(("disabled",) if last else ()))
        if run.state is RunState.FAILED:
            failures = status.errors_since_success + 1
            disable = 0 < self.settings.disable_after <= failures
            changes = {"error_count": status.error_count + 1, "errors_since_success": failures, "last_error_ms": now_ms}
            self.host.emit(self.book.change(entry, **changes, disabled=status.disabled or disable))
            return ("disabled",) if disable and not status.disabled else ("failure",)
        return ()

    def _live(self, name: str) -> bool:
        return any(not self.runs[run_id].over for run_id in self.by_job.get(name, ()))

    # ---- Those below ------------------------------------------------------------------------------------

    def _report(self, entry: Entry, run: Run, now_ms: int) -> None:
        """Tell the children what a parent came to, and do what is decided."""
        for told in tell(self.book, self.edges, entry, run):
            child, decision = told.child, told.decision
            if decision.verdict is Verdict.RUN:
                key, slot_ms = (run.key, run.slot_ms) if told.shared else ("", None)
                self.call(child, Cause.PARENT, now_ms, slot_ms=slot_ms, identity=told.identity, key=key, parents=told.parents)
            elif decision.verdict is Verdict.NEVER:
                key = run.key if f"{child.name}@{run.key}" not in self.runs else f"{run.slot_ms}~{self._stamp(child, now_ms)}"
                skipped = self._new(child.job, run.slot_ms, Cause.PARENT, now_ms, key)
                self._skip(msgspec.structs.replace(skipped, identity=told.identity), decision.reason, now_ms)

    def changed(self, entry: Entry, now_ms: int) -> None:
        """A job says something else: those of its runs that wait for others do so by what holds now."""
        for run_id in list(self.by_job.get(entry.name, ())):
            if self.gates.waits(run_id):
                self.gates.withdraw(run_id)
                if self.gates.enter(self._ticket(self.runs[run_id])):
                    self._launch(entry.job, self.runs[run_id], now_ms)

    # ---- Books ------------------------------------------------------------------------------------------

    def _index(self, run: Run) -> None:
        self.runs[run.run_id] = run
        self.by_job.setdefault(run.job, {})[run.run_id] = None

    def _keep(self, run: Run) -> Run:
        self._index(run)
        self.host.emit(Persist(RUNS + run.run_id, write_run(run)))
        return run


def _waits(run: Run) -> bool:
    attempt = run.attempt
    return run.state in (RunState.WAITING, RunState.QUEUED) or (
        run.state is RunState.LAUNCHING and attempt is not None and not attempt.launched_ms
    )
