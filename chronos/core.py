"""The core of the scheduler of jobs: what clients ask, what the clock brings and what the master tells, made into changes of `Book` and
`Life`, and tasks. Pure, run by `kernel.mainloop` as every framework."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET

from chronos import inputs
from chronos.book import Book
from chronos.entry import Entry
from chronos.extension import LABEL_CHARS_MAX
from chronos.graph import without
from chronos.job import Job
from chronos.joins import Outcome, known_outcomes
from chronos.life import DELETED, Life, Settings
from chronos.pauses import read_pauses
from chronos.run import Attempt, Cause, Run, RunState
from chronos.schedule import next_run
from chronos.tasks import on_host, shape_of, task_of
from chronos.validation import LIMITS, Limits, check_job, check_new_job, run_once
from frameworks.sdk.exits import exit_status
from frameworks.sdk.scheduler import Scheduler, framework_info
from frameworks.sdk.tasks import LOST, TaskRecord
from kernel.clock import Now
from kernel.errors import CallError, Conflict
from kernel.mainloop import Persist, Reply
from kernel.wire.offer import Offer
from kernel.wire.task import FrameworkInfo, Reason, TaskInfo, TaskState, TaskStatus

PAUSES = "pauses"
AT_ONCE = 5000  # Due jobs that are dealt with before others are served: some 0.2 s. Each turn waits for the store, so few turns are quick.
BACKFILL_MAX = 10_000
ARGUMENTS_BYTES_MAX = 8 * 1024  # With the longest command they are still one argument of a program.
KILLED_BY_OTHERS = frozenset({Reason.REASON_FRAMEWORK_REMOVED, Reason.REASON_AGENT_DRAINING, Reason.REASON_AGENT_REMOVED})


class ChronosScheduler(Scheduler):
    """The framework. kept: what its store held; the jobs are taken out of it, as a million need not be held in both forms."""

    def __init__(
        self,
        info: FrameworkInfo,
        kept: MutableMapping[str, bytes],
        *,
        fresh_id: str,
        spread: float = 0.5,
        settings: Settings | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self.book = Book(limits)
        self.book.load(kept)
        super().__init__(info, kept, fresh_id=fresh_id, spread=spread)
        self.life = Life(self.book, self, settings or Settings())
        self._due = False
        self._unrecorded: list[Run] = []
        self._restore()

    def _restore(self) -> None:
        own = self.kept.own
        self._unrecorded = self.life.load(own)
        if PAUSES in own:
            self.life.pauses = read_pauses(own[PAUSES])
        self.kept = msgspec.structs.replace(self.kept, own={})

    # ---- Hooks of the SDK -------------------------------------------------------------------------------

    def started(self, now: Now) -> None:
        for run in self._unrecorded:
            entry = self.book.entries.get(run.job)
            self.over(entry.job if entry is not None else None, run)
        self._unrecorded = []
        self.life.give_up_orphans(_ms(now))
        given_up = {run_id.encode() for run_id in self.life.give_up_unreadable(_ms(now))}
        for task_id in [task.task_id for task in self.tasks if task.note in given_up]:
            self.kill(task_id, now)
        for run in list(self.life.runs.values()):
            entry, attempt = self.book.entries.get(run.job), run.attempt
            if entry is not None and attempt is not None and not run.over and run.live and not _is_task(entry.job):
                self.emit(inputs.StartCall(entry.job, run, attempt, again=True))

    def ticked(self, now: Now) -> None:
        self._due = True

    @property
    def unsettled(self) -> bool:
        return self._due

    def settle(self, now: Now, budget_s: float) -> Sequence[Any]:
        """Deal with what is due, a part at a time; then tell the demand."""
        if not self._due:
            return super().settle(now, budget_s)
        before, self._out = self._out, []
        self._due = self.life.take_due(_ms(now), AT_ONCE)
        out, self._out = self._out, before
        return [*out, *super().settle(now, budget_s)]

    def placing(self, info: TaskInfo, offer: Offer) -> TaskInfo:
        return on_host(info, offer.hostname)

    def launched(self, task: TaskRecord, now: Now) -> None:
        run = self._run_of(task)
        if run is not None:
            self.life.launched(run, _ms(now), task.agent_id, task.hostname, task.agent_url)

    def updated(self, task: TaskRecord, status: TaskStatus, now: Now) -> None:
        run = self._run_of(task)
        if run is None or run.attempt is None:
            return
        state, now_ms = status.state, _ms(now)
        if state is TaskState.TASK_UNREACHABLE:
            self.life.unreachable(run, now_ms, state.value)
        elif task.task_id in self.tasks:
            self.life.running(run, now_ms, state.value)
        else:
            lost = state in LOST or status.reason in KILLED_BY_OTHERS
            ending = {"state": state.value, "exit_status": _exit_status(status, lost), "message": _message(status)}
            attempt = msgspec.structs.replace(run.attempt, **ending)
            self.life.ended(run, now_ms, attempt, _outcome(status, lost), lost=lost)

    def _run_of(self, task: TaskRecord) -> Run | None:
        """The run whose last attempt a task is."""
        run = self.life.runs.get(task.note.decode())
        return run if run is not None and run.attempt is not None and run.attempt.task_id == task.task_id and not run.over else None

    # ---- What runs have done to them --------------------------------------------------------------------

    def launch(self, job: Job, run: Run, attempt: Attempt) -> None:
        if _is_task(job):
            roles = self.driver.info.roles
            self.add_shaped(task_of(job, run, attempt.number, attempt.task_id), shape_of(job, roles[0]), run.run_id.encode())
        else:
            self.emit(inputs.StartCall(job, run, attempt))

    def end(self, run: Run) -> None:
        attempt = run.attempt
        assert attempt is not None, "it was launched"
        if attempt.task_id in self.tasks:
            self.kill(attempt.task_id, self._now)
        else:
            self.emit(inputs.CancelCall(run.run_id, attempt.task_id))

    def abandon(self, run: Run) -> None:
        if run.attempt is not None:
            self.forget(run.attempt.task_id)

    def over(self, job: Job | None, run: Run) -> None:
        entry = self.book.entries.get(run.job) if job is not None else None
        self.emit(inputs.Over(self.book.shown(entry) if entry is not None else None, run, self.framework_id))

    def missed(self, job: Job, run: Run) -> None:
        self.emit(inputs.Missed(job, run))

    # ---- What clients ask -------------------------------------------------------------------------------

    def receive(self, message: Any, now: Now) -> Sequence[Any]:
        self._now = now
        return super().receive(message, now)

    def asked(self, message: Any, now: Now) -> None:
        self._ASKED[type(message)](self, message, _ms(now))
        self._due = True  # What was posted may be due at once.

    def _put(self, put: inputs.Put, now_ms: int) -> None:
        job, old = put.job, self.book.entries.get(put.job.name)
        if old is not None and put.create_only:
            raise Conflict(f"name: there is a job {job.name} already")
        if not job.dependent and job.schedule is UNSET:
            job = run_once(job, now_ms)
        check_job(job, self.book.limits)
        self._check_role(job)
        if old is None:
            check_new_job(job)
        for persist in self.book.put(job, now_ms):
            self.emit(persist)
        if old is not None and set(old.job.parent_names) != set(job.parent_names):
            self.life.edges.forget(job.name)
        self.life.changed(self.book.entries[job.name], now_ms)

    def _check_role(self, job: Job) -> None:
        roles = self.driver.info.roles
        if job.more.role and job.more.role not in roles:
            raise CallError(f"meseta.role: {job.more.role!r} is not one of the scheduler's roles: {', '.join(roles)}")

    def _delete(self, delete: inputs.Delete, now_ms: int) -> None:
        removed = None
        if delete.name not in self.book.unreadable:
            removed = self.book.shown(self.book.find(delete.name))
            children = [self.book.entries[name] for name in self.book.graph.children(delete.name)]
            for child, orphan in zip(children, without(removed, [child.job for child in children]), strict=True):
                for persist in self.book.put(_with_counters(orphan, self.book, child), now_ms):
                    self.emit(persist)
                self.life.edges.forget(orphan.name)
        for run_id in list(self.life.by_job.get(delete.name, ())):
            self.life.kill(self.life.runs[run_id], DELETED, now_ms)
        for persist in self.book.remove(delete.name):
            self.emit(persist)
        self.life.edges.forget(delete.name)
        if removed is not None:
            self.emit(inputs.Removed(removed))

    def _run_now(self, run: inputs.RunNow, now_ms: int) -> None:
        arguments = run.arguments if run.arguments and run.arguments.strip() else None
        if arguments is not None and ("\0" in arguments or len(arguments.encode(errors="replace")) > ARGUMENTS_BYTES_MAX):
            raise CallError(f"arguments: at most {ARGUMENTS_BYTES_MAX} bytes are allowed, and no byte of zero")
        entry = self.book.find(run.name)
        if arguments is not None and not _is_task(entry.job):
            raise CallError(f"arguments: none are allowed: job {run.name} runs no command, it is a call")
        if arguments is not None and not entry.job.shell:
            _check_words(arguments)
        made = self.life.call(entry, Cause.MANUAL, now_ms, arguments=arguments)
        self.emit(Reply(made.run_id))

    def _backfill(self, asked: inputs.Backfill, now_ms: int) -> None:
        entry = self.book.find(asked.name)
        if entry.schedule is None:
            raise CallError(f"job: {asked.name} has no schedule to run slots of")
        if asked.to_ms <= asked.from_ms:
            raise CallError("to: it must be later than from")
        slots: list[int] = []
        at = next_run(entry.schedule, asked.from_ms - 1, None if entry.schedule.repeats is None else BACKFILL_MAX)
        while at is not None and at < asked.to_ms:
            slots.append(at)
            if len(slots) > BACKFILL_MAX:
                raise CallError(f"to: there are more than {BACKFILL_MAX} slots between from and to")
            at = next_run(entry.schedule, at, None if entry.schedule.repeats is None else BACKFILL_MAX)
        if asked.dry_run:
            self.emit(Reply(slots))
            return
        made = [self.life.call(entry, Cause.BACKFILL, now_ms, slot_ms=slot_ms) for slot_ms in slots]
        self.emit(Reply([run.run_id for run in made]))

    def _run_again(self, asked: inputs.RunAgain, now_ms: int) -> None:
        entry = self.book.find(asked.name)
        again = self.book.graph.descendants([asked.name])
        outcomes = dict(asked.outcomes)
        for name in again:
            parents = [parent for parent in self.book.graph.parents(name) if parent != asked.name and parent not in again]
            known = known_outcomes((parent, outcomes[parent]) for parent in parents if parent in outcomes)
            self.life.edges.keep(name, asked.identity, known)
        parents_of = {parent: outcomes[parent] for parent in self.book.graph.parents(asked.name) if parent in outcomes}
        run = self.life.call(entry, Cause.AGAIN, now_ms, slot_ms=asked.slot_ms, identity=asked.identity, parents=parents_of)
        self.emit(Reply(run.run_id))

    def _kill_runs(self, asked: inputs.KillRuns, now_ms: int) -> None:
        self.book.find(asked.name)
        run_ids = [run_id for run_id in self.life.by_job.get(asked.name, ()) if asked.run_id in (None, run_id)]
        runs = [run for run_id in run_ids if not (run := self.life.runs[run_id]).over]
        for run in runs:
            self.life.kill(run, "killed on request", now_ms)
        self.emit(Reply(len(runs)))

    def _clear(self, clear: inputs.ClearQueues, now_ms: int) -> None:
        self.emit(Reply(self.life.clear(now_ms)))

    def _finish_task(self, asked: inputs.FinishTask, now_ms: int) -> None:
        self.book.find(asked.name)
        runs = [self.life.runs[run_id] for run_id in self.life.by_job.get(asked.name, ())]
        run = next((run for run in runs if run.attempt is not None and run.attempt.task_id == asked.task_id), None)
        if run is not None and run.state in (RunState.LAUNCHING, RunState.RUNNING, RunState.UNREACHABLE):
            self.end(run)
            if not self.life.runs[run.run_id].over:
                self.life.finish(self.life.runs[run.run_id], asked.outcome, now_ms)

    def _mark(self, mark: inputs.MarkSuccess, now_ms: int) -> None:
        entry = self.book.entries.get(mark.name)
        if entry is not None:
            self.life.mark(entry, now_ms)
        self.emit(Reply(entry is not None))

    def _set_enabled(self, asked: inputs.SetEnabled, now_ms: int) -> None:
        entry = self.book.find(asked.name)
        status = entry.status
        if status.disabled == (not asked.enabled):
            return
        next_ms = status.next_ms
        if asked.enabled and entry.schedule is not None and next_ms is not None and next_ms <= now_ms:
            next_ms = next_run(entry.schedule, now_ms, status.left)  # What was due while it was disabled never was a slot.
        self.emit(self.book.change(entry, disabled=not asked.enabled, next_ms=next_ms))

    def _pause(self, pause: inputs.Pause, now_ms: int) -> None:
        pauses = self.life.pauses
        if pause.name:
            self.book.find(pause.name)
            pauses = msgspec.structs.replace(pauses, jobs=_changed(pauses.jobs, pause.name, pause.paused))
        elif pause.label:
            if "=" not in pause.label or len(pause.label) > 2 * LABEL_CHARS_MAX + 1:
                raise CallError(f"label: {pause.label[:100]!r} is no label: KEY=VALUE is due")
            pauses = msgspec.structs.replace(pauses, labels=_changed(pauses.labels, pause.label, pause.paused))
        else:
            pauses = msgspec.structs.replace(pauses, everything=pause.paused)
        self.life.pauses = pauses
        self.emit(Persist(PAUSES, msgspec.json.encode(pauses)))

    def _put_calendar(self, put: inputs.PutCalendar, now_ms: int) -> None:
        out = self.book.remove_calendar(put.name) if put.calendar is None else self.book.put_calendar(put.name, put.calendar, now_ms)
        for persist in out:
            self.emit(persist)

    def _recorded(self, recorded: inputs.Recorded, now_ms: int) -> None:
        self.life.recorded(recorded.run_ids)

    def _call_began(self, began: inputs.CallBegan, now_ms: int) -> None:
        run = self._called(began.run_id, began.task_id)
        if run is not None:
            self.life.running(run, now_ms, TaskState.TASK_RUNNING.value)

    def _call_ended(self, ended: inputs.CallEnded, now_ms: int) -> None:
        run = self._called(ended.run_id, ended.task_id)
        if run is not None and run.attempt is not None:
            attempt = msgspec.structs.replace(
                run.attempt, message=ended.message, exit_status=ended.exit_status, state=_STATES[ended.outcome]
            )
            self.life.ended(run, now_ms, attempt, ended.outcome, lost=ended.lost)

    def _called(self, run_id: str, task_id: str) -> Run | None:
        run = self.life.runs.get(run_id)
        return run if run is not None and not run.over and run.attempt is not None and run.attempt.task_id == task_id else None

    def _look(self, look: inputs.Look, now_ms: int) -> None:
        self.emit(Reply(look.read(self.book, self.life, now_ms)))

    _ASKED: ClassVar[Mapping[type, Callable[[Any, Any, int], None]]] = {
        inputs.Put: _put,
        inputs.Delete: _delete,
        inputs.RunNow: _run_now,
        inputs.Backfill: _backfill,
        inputs.RunAgain: _run_again,
        inputs.KillRuns: _kill_runs,
        inputs.ClearQueues: _clear,
        inputs.FinishTask: _finish_task,
        inputs.MarkSuccess: _mark,
        inputs.SetEnabled: _set_enabled,
        inputs.Pause: _pause,
        inputs.PutCalendar: _put_calendar,
        inputs.Recorded: _recorded,
        inputs.CallBegan: _call_began,
        inputs.CallEnded: _call_ended,
        inputs.Look: _look,
    }


def chronos_info(
    name: str, *, user: str, roles: Sequence[str], failover_timeout_s: float, webui_url: str | None, principal: str | None
) -> FrameworkInfo:
    """How the scheduler makes itself known (spec: chronos-v1, 10)."""
    return framework_info(
        name, user=user, roles=roles, failover_timeout_s=failover_timeout_s, gpus=True, webui_url=webui_url, principal=principal
    )


def _is_task(job: Job) -> bool:
    return job.more.celery is UNSET and job.more.http is UNSET


def _ms(now: Now) -> int:
    return int(now.wall_s * 1000)


def _changed(names: frozenset[str], name: str, there: bool) -> frozenset[str]:
    return names | {name} if there else names - {name}


def _with_counters(job: Job, book: Book, entry: Entry) -> Job:
    """What a job is to say, with the counters that another version of it has."""
    shown = book.shown(entry)
    counters = ("disabled", "success_count", "error_count", "errors_since_last_success", "last_success", "last_error")
    return msgspec.structs.replace(job, **{name: getattr(shown, name) for name in counters})


_STATES = {
    Outcome.SUCCESS: TaskState.TASK_FINISHED.value,
    Outcome.FAILURE: TaskState.TASK_FAILED.value,
    Outcome.KILLED: TaskState.TASK_KILLED.value,
    Outcome.SKIPPED: TaskState.TASK_DROPPED.value,
}


def _outcome(status: TaskStatus, lost: bool) -> Outcome:
    if status.state is TaskState.TASK_FINISHED:
        return Outcome.SUCCESS
    return Outcome.KILLED if status.state is TaskState.TASK_KILLED and not lost else Outcome.FAILURE


def _check_words(arguments: str) -> None:
    """Arguments of a job without a shell are words: raises CallError where no end of one can be found."""
    try:
        shlex.split(arguments.replace(";", ""))
    except ValueError as error:
        raise CallError(f"arguments: they cannot be split into words: {error}") from None


def _message(status: TaskStatus) -> str:
    text = status.message or status.state.value
    return f"it took longer than its timeout: {text}" if status.reason is Reason.REASON_MAX_COMPLETION_TIME_REACHED else text


def _exit_status(status: TaskStatus, lost: bool) -> int | None:
    """As a shell would see it; None when nobody knows."""
    return None if lost else exit_status(status)
