"""Jobs from their slots to their ends, against a fake master: no slot is lost, none runs twice."""

from __future__ import annotations

from typing import Any

import pytest

from chronos import catch_up, inputs
from chronos.core import ChronosScheduler, chronos_info
from chronos.job import job_of
from chronos.joins import Outcome
from chronos.life import Settings
from chronos.run import Cause, Run, RunState
from chronos.schedule import Calendar
from frameworks.sdk.tasks import resources
from frameworks.sdk.testing import FakeMaster
from kernel.clock import Now
from kernel.errors import CallError
from kernel.wire.task import Reason, TaskState

FINISHED, FAILED, KILLED, RUNNING = TaskState.TASK_FINISHED, TaskState.TASK_FAILED, TaskState.TASK_KILLED, TaskState.TASK_RUNNING
START = Now(1_000.0, 1_767_225_600.0)  # 2026-01-01T00:00:00Z
START_MS = int(START.wall_s * 1000)
ROOM = {"a1": resources(cpus=40, mem=40_960, disk=40_960)}


class World:
    """A scheduler of jobs with its master, and a history that takes what is over."""

    def __init__(self, **settings: Any) -> None:
        self.history: dict[str, Run] = {}
        self.told: list[tuple[str, tuple[str, ...]]] = []
        self.missed: list[str] = []
        self.records = True

        def make(kept: dict[str, bytes], fresh_id: str, spread: float) -> ChronosScheduler:
            info = chronos_info("chronos", user="", roles=("*",), failover_timeout_s=604_800.0, webui_url=None, principal=None)
            return ChronosScheduler(info, kept, fresh_id=fresh_id, spread=spread, settings=Settings(**settings))

        self.master = FakeMaster(make, ROOM, start=START)

    @property
    def core(self) -> ChronosScheduler:
        assert isinstance(self.master.scheduler, ChronosScheduler)
        return self.master.scheduler

    def post(self, name: str = "j", schedule: str = "R/2026-01-01T00:01:00Z/PT1M", meseta: Any = None, **fields: Any) -> None:
        fields = {"name": name, "command": "true", **fields}
        if "parents" not in fields:
            fields["schedule"] = schedule
        if meseta is not None:
            fields["meseta"] = meseta
        self.tell(inputs.Put(job_of(fields)))

    def tell(self, message: Any) -> Any:
        reply = self.master.tell(message)
        self.record()
        return reply

    def record(self) -> None:
        """History takes what is over."""
        effects, self.master.effects = self.master.effects, []
        over = [effect for effect in effects if isinstance(effect, inputs.Over)]
        self.missed += [effect.run.run_id for effect in effects if isinstance(effect, inputs.Missed)]
        self.calls = [effect for effect in effects if not isinstance(effect, inputs.Over | inputs.Missed | inputs.Removed)]
        for effect in over:
            self.history[effect.run.run_id] = effect.run
            self.told.append((effect.run.run_id, effect.run.occasions))
        if over and self.records:
            self.tell(inputs.Recorded(tuple(effect.run.run_id for effect in over)))

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.master.advance(0.5)
            self.record()

    def end(self, state: TaskState = FINISHED, message: str | None = None, **more: Any) -> None:
        """Every task that was launched runs and ends so."""
        self.master.run_all()
        for task_id in list(self.master.tasks):
            self.master.update(task_id, state, message, **more)
        self.record()

    @property
    def tasks(self) -> list[str]:
        return list(self.master.tasks)

    @property
    def states(self) -> dict[str, RunState]:
        return {run_id: run.state for run_id, run in self.history.items()}

    def job(self, name: str = "j") -> Any:
        return self.tell(inputs.Look(lambda book, life, now_ms: book.shown(book.find(name))))


def slot(seconds: float) -> int:
    return START_MS + int(seconds * 1000)


class TestSlots:
    def test_a_slot_runs_when_it_is_due_under_an_id_made_of_it(self) -> None:
        world = World()
        world.post()
        world.wait(59)
        assert world.tasks == []
        world.wait(2)
        assert world.tasks == [f"ct:{slot(60)}:0:j:"]
        world.end()
        assert world.states == {f"j@{slot(60)}": RunState.SUCCEEDED}
        run = world.history[f"j@{slot(60)}"]
        assert (run.cause, run.late_ms < 1000, run.attempts[0].exit_status) == (Cause.SCHEDULE, True, 0)

    def test_each_slot_runs_once_and_the_schedule_that_clients_see_moves(self) -> None:
        world = World()
        world.post(schedule="R3/2026-01-01T00:01:00Z/PT1M")
        for _ in range(5):
            world.wait(60)
            world.end()
        assert list(world.states) == [f"j@{slot(60 * n)}" for n in (1, 2, 3)]
        assert (world.job().success_count, world.job().disabled) == (3, True)

    def test_a_run_that_still_goes_on_lets_one_slot_wait_and_the_others_pass(self) -> None:
        world = World()
        world.post()
        world.wait(245)
        assert world.tasks == [f"ct:{slot(60)}:0:j:"]
        world.end()
        assert world.tasks == [f"ct:{slot(120)}:0:j:"]
        assert [run.reason for run in world.history.values() if run.state is RunState.SKIPPED] == [
            f"j@{slot(120)} waits already for j@{slot(60)} to end (overlap: queue)"
        ] * 2

    @pytest.mark.parametrize(("overlap", "running", "skipped"), [("allow", 4, 0), ("skip", 1, 3), ("queue", 1, 2)])
    def test_what_overlapping_does(self, overlap: str, running: int, skipped: int) -> None:
        world = World()
        world.post(meseta={"overlap": overlap})
        world.wait(245)
        assert (len(world.tasks), sum(state is RunState.SKIPPED for state in world.states.values())) == (running, skipped)

    def test_replacing_kills_the_one_that_runs_and_never_has_two(self) -> None:
        world = World()
        world.post(meseta={"overlap": "replace"})
        world.wait(125)
        assert world.states == {f"j@{slot(60)}": RunState.KILLED}
        assert world.tasks == [f"ct:{slot(120)}:0:j:"]

    def test_a_number_of_runs_at_a_time_holds(self) -> None:
        world = World()
        world.post(meseta={"overlap": "allow", "maxRunning": 2})
        world.wait(245)
        assert len(world.tasks) == 2
        world.end()
        assert len(world.tasks) == 2
        world.end()
        assert list(world.states.values()) == [RunState.SUCCEEDED] * 4

    def test_jitter_delays_a_run_but_not_its_name(self) -> None:
        world = World()
        world.post(meseta={"jitter": "50s"})
        world.wait(61)
        assert len(world.core.life.runs) == 1
        world.wait(50)
        assert world.tasks == [f"ct:{slot(60)}:0:j:"]

    def test_a_paused_job_skips_its_slots_and_says_so(self) -> None:
        world = World()
        world.post()
        world.tell(inputs.Pause(True, name="j"))
        world.wait(61)
        world.tell(inputs.Pause(False, name="j"))
        world.wait(60)
        assert world.history[f"j@{slot(60)}"].reason == "the job is paused"
        assert world.tasks == [f"ct:{slot(120)}:0:j:"]


class TestCatchingUp:
    def away(self, world: World, seconds: float) -> None:
        """The scheduler is down for so long."""
        world.master.now = Now(world.master.now.mono_s + seconds, world.master.now.wall_s + seconds)
        world.master.restart()
        world.wait(1)

    def test_the_latest_slot_runs_and_the_others_are_in_one_range(self) -> None:
        world = World()
        world.post()
        self.away(world, 601)
        assert world.tasks == [f"ct:{slot(600)}:0:j:"]
        (skipped,) = world.history.values()
        assert (skipped.slot_ms, skipped.last_slot_ms, skipped.slots) == (slot(60), slot(540), 9)
        assert "a later slot runs instead" in skipped.reason

    def test_or_all_of_them(self) -> None:
        world = World()
        world.post(meseta={"catchUp": "all", "overlap": "allow"})
        self.away(world, 601)
        assert world.tasks == [f"ct:{slot(60 * n)}:0:j:" for n in range(1, 11)]

    def test_or_none(self) -> None:
        world = World()
        world.post(meseta={"catchUp": "none"})
        self.away(world, 630)
        assert world.tasks == []
        assert [run.slots for run in world.history.values()] == [10]

    def test_what_is_too_late_is_skipped(self) -> None:
        world = World()
        world.post(meseta={"catchUp": "all", "overlap": "allow", "catchUpDeadline": "3m"})
        self.away(world, 601)
        assert world.tasks == [f"ct:{slot(60 * n)}:0:j:" for n in (8, 9, 10)]
        assert [(run.slots, "catchUpDeadline" in run.reason) for run in world.history.values()] == [(7, True)]


class TestFailures:
    def test_a_failed_attempt_is_tried_again_and_then_the_run_has_failed(self) -> None:
        world = World(retry_ms=10_000)
        world.post(retries=1, schedule="R1/2026-01-01T00:01:00Z/PT1M")
        world.wait(61)
        world.end(FAILED, "Command exited with status 3")
        assert (world.history, world.tasks) == ({}, [])
        world.wait(11)
        assert world.tasks == [f"ct:{slot(60)}:1:j:"]
        world.end(FAILED, "Command exited with status 4")
        (run,) = world.history.values()
        assert (run.state, [attempt.exit_status for attempt in run.attempts]) == (RunState.FAILED, [3, 4])
        assert (world.job().error_count, world.job().disabled) == (1, False)

    def test_after_a_run_that_used_up_its_retries_there_are_none_until_a_success(self) -> None:
        world = World(retry_ms=1_000)
        world.post(retries=1)
        world.wait(61)
        world.end(FAILED)
        world.wait(2)
        world.end(FAILED)
        world.wait(60)
        world.end(FAILED)
        assert [len(run.attempts) for run in world.history.values()] == [2, 1]

    def test_a_job_is_disabled_after_so_many_failures(self) -> None:
        world = World(disable_after=2)
        world.post(retries=0)
        for _ in range(4):
            world.wait(60)
            world.end(FAILED)
        assert (world.job().disabled, world.job().errors_since_last_success) == (True, 2)
        assert world.told[-1][1] == ("disabled",)

    def test_a_killed_run_is_neither_success_nor_failure(self) -> None:
        world = World()
        world.post()
        world.wait(61)
        world.master.run_all()
        assert world.tell(inputs.KillRuns("j")) == 1
        assert world.states == {f"j@{slot(60)}": RunState.KILLED}
        assert (world.job().success_count, world.job().error_count) == (0, 0)

    def test_a_run_that_was_lost_is_tried_again_at_once(self) -> None:
        world = World()
        world.post()
        world.wait(61)
        world.end(TaskState.TASK_GONE)
        world.wait(2)
        assert world.tasks == [f"ct:{slot(60)}:1:j:"]

    def test_a_run_on_an_agent_that_fell_silent_counts_as_live_until_it_is_back(self) -> None:
        world = World()
        world.post()
        world.wait(61)
        world.master.run_all()
        world.master.update(world.tasks[0], TaskState.TASK_UNREACHABLE)
        world.wait(120)
        assert world.tasks == [f"ct:{slot(60)}:0:j:"]
        world.end()
        assert world.states[f"j@{slot(60)}"] is RunState.SUCCEEDED

    @pytest.mark.parametrize("again", [False, True])
    def test_one_that_does_not_come_back_is_tried_again_only_where_that_is_said(self, again: bool) -> None:
        world = World()
        world.post(schedule="R1/2026-01-01T00:01:00Z/PT1M", meseta={"unreachableAfter": "5m", "retryUnreachable": again})
        world.wait(61)
        world.master.run_all()
        world.master.update(world.tasks[0], TaskState.TASK_UNREACHABLE)
        world.wait(299)
        assert world.history == {}
        world.wait(5)
        assert (f"ct:{slot(60)}:1:j:" in world.tasks) is again
        assert (world.states.get(f"j@{slot(60)}") is RunState.FAILED) is not again


class TestGraph:
    def test_a_child_runs_when_its_parent_has_succeeded_under_the_same_identity(self) -> None:
        world = World()
        world.post("a")
        world.post("b", parents=["a"])
        world.wait(61)
        world.end()
        assert world.tasks == [f"ct:{slot(60)}:0:b:"]
        world.end()
        child = world.history[f"b@{slot(60)}"]
        assert (child.identity, child.cause, child.parents) == (f"a@{slot(60)}", Cause.PARENT, {"a": Outcome.SUCCESS})

    def test_a_child_of_two_waits_for_both(self) -> None:
        world = World()
        world.post("a")
        world.post("b", parents=["a"])
        world.post("c", parents=["a"])
        world.post("d", parents=["b", "c"])
        world.wait(61)
        world.end()
        assert world.tasks == [f"ct:{slot(60)}:0:b:", f"ct:{slot(60)}:0:c:"]
        world.end()
        assert world.tasks == [f"ct:{slot(60)}:0:d:"]
        world.end()
        assert len(world.core.life.edges) == 0

    def test_below_a_failure_all_are_skipped_with_the_reason_and_those_for_failures_run(self) -> None:
        world = World()
        world.post("a", retries=0)
        world.post("b", parents=["a"])
        world.post("c", parents=["b"])
        world.post("alarm", parents=["a"], meseta={"join": "onFailure"})
        world.wait(61)
        world.end(FAILED)
        assert world.tasks == [f"ct:{slot(60)}:0:alarm:"]
        assert world.history[f"b@{slot(60)}"].reason == "its parent a failed"
        assert world.history[f"c@{slot(60)}"].reason == "its parent b was skipped"

    def test_a_chain_may_be_long(self) -> None:
        world = World()
        world.post("j0", retries=0)
        for number in range(1, 3000):
            world.post(f"j{number}", parents=[f"j{number - 1}"])
        world.wait(61)
        world.end(FAILED)
        assert len(world.history) == 3000

    def test_a_job_marked_as_successful_sets_off_its_children(self) -> None:
        world = World()
        world.post("a")
        world.post("b", parents=["a"])
        assert world.tell(inputs.MarkSuccess("a")) is True
        assert len(world.tasks) == 1
        assert world.tell(inputs.MarkSuccess("nobody")) is False

    def test_a_failed_node_is_run_again_with_all_below_it(self) -> None:
        world = World()
        world.post("a", retries=0)
        world.post("b", parents=["a"], retries=0)
        world.post("c", parents=["a", "b"])
        world.wait(61)
        world.end()
        world.end(FAILED)
        identity = f"a@{slot(60)}"
        world.tell(inputs.RunAgain("b", identity, slot(60), (("a", Outcome.SUCCESS),)))
        world.end()
        assert [run.cause for run in world.history.values() if run.job == "b"] == [Cause.PARENT, Cause.AGAIN]
        (again,) = world.tasks
        assert ":c:" in again
        world.end()
        assert [run.state for run in world.history.values() if run.job == "c"] == [RunState.SKIPPED, RunState.SUCCEEDED]
        assert {run.identity for run in world.history.values()} == {identity}


class TestRequests:
    def test_run_now_takes_other_arguments_and_changes_nothing(self) -> None:
        world = World()
        world.post(command="echo")
        run_id = world.tell(inputs.RunNow("j", "a;b c"))
        (task,) = world.master.tasks.values()
        assert task.info.command is not None
        assert task.info.command.value == "echo ab c"
        assert world.job().schedule == "R/2026-01-01T00:01:00.000Z/PT1M"
        world.end()
        assert world.history[run_id].cause is Cause.MANUAL

    def test_without_a_shell_the_arguments_of_a_run_are_words_in_the_place_of_the_jobs_own(self) -> None:
        world = World()
        world.post(command="/bin/echo", shell=False, arguments=["own"])
        world.tell(inputs.RunNow("j", "a 'b c'"))
        (task,) = world.master.tasks.values()
        assert task.info.command is not None
        assert (task.info.command.value, task.info.command.arguments) == ("/bin/echo", ("/bin/echo", "a", "b c"))
        with pytest.raises(CallError, match="arguments: they cannot be split into words"):
            world.tell(inputs.RunNow("j", "a 'b"))

    @pytest.mark.parametrize("kind", [{"http": {"url": "http://x.test"}}, {"celery": {"task": "t"}}])
    def test_a_run_that_is_a_call_takes_no_arguments(self, kind: dict[str, Any]) -> None:
        world = World()
        world.post(command="", meseta=kind)
        with pytest.raises(CallError, match=r"^arguments: none are allowed: job j runs no command, it is a call$"):
            world.tell(inputs.RunNow("j", "a"))
        assert world.core.life.runs == {}

    def test_a_run_that_took_too_long_says_so(self) -> None:
        world = World()
        world.post(retries=0, meseta={"timeout": "1s"})
        run_id = world.tell(inputs.RunNow("j"))
        world.end(FAILED, "Command terminated with signal Killed", reason=Reason.REASON_MAX_COMPLETION_TIME_REACHED)
        assert world.history[run_id].reason == "it took longer than its timeout: Command terminated with signal Killed"

    @pytest.mark.parametrize("asked", [inputs.RunAgain("j", f"j@{slot(0)}", slot(0)), inputs.Backfill("j", slot(0), slot(1))])
    def test_what_is_run_of_the_past_runs_of_a_disabled_job_too(self, asked: Any) -> None:
        world = World()
        world.post(schedule="0 * * * *", disabled=True)
        world.tell(asked)
        world.end()
        assert list(world.states.values()) == [RunState.SUCCEEDED]

    def test_backfill_runs_slots_of_the_past_in_order(self) -> None:
        world = World()
        world.post(schedule="0 * * * *")
        ids = world.tell(inputs.Backfill("j", slot(-7200), slot(1)))
        assert len(ids) == 3
        for _ in range(3):
            world.end()
        assert [run.slot_ms for run in world.history.values()] == [slot(-7200), slot(-3600), slot(0)]

    def test_a_deleted_job_ends_its_runs_and_its_children_take_over_its_schedule(self) -> None:
        world = World()
        world.post("a")
        world.post("b", parents=["a"])
        world.wait(61)
        world.tell(inputs.Delete("a"))
        assert world.states[f"a@{slot(60)}"] is RunState.KILLED
        assert world.job("b").schedule.startswith("R/2026-01-01T00:0")
        with pytest.raises(CallError, match="there is no job 'a'"):
            world.tell(inputs.Delete("a"))

    def test_posting_a_job_again_resets_its_counters_and_keeps_its_place_in_time(self) -> None:
        world = World()
        world.post()
        world.wait(61)
        world.end()
        assert world.job().success_count == 1
        world.post(command="false")
        assert (world.job().success_count, world.core.book.entries["j"].status.next_ms) == (0, slot(120))

    def test_what_began_in_the_past_is_due_at_once_but_cron_is_not(self) -> None:
        world = World()
        world.post("interval", schedule="R/2025-12-31T12:00:00Z/P1D")
        world.post("cron", schedule="0 12 * * *")
        world.wait(1)
        assert world.tasks == [f"ct:{slot(-43200)}:0:interval:"]


class TestRestarts:
    def test_nothing_is_run_twice_or_forgotten(self) -> None:
        world = World()
        world.post(meseta={"overlap": "allow"})
        world.wait(61)
        world.master.run_all()
        world.master.restart()
        world.wait(60)
        assert world.tasks == [f"ct:{slot(60)}:0:j:", f"ct:{slot(120)}:0:j:"]
        world.end()
        assert list(world.states.values()) == [RunState.SUCCEEDED] * 2

    def test_what_history_did_not_take_is_told_it_again(self) -> None:
        world = World()
        world.records = False
        world.post()
        world.wait(61)
        world.end()
        world.history.clear()
        world.master.restart()
        world.records = True
        world.record()
        assert list(world.states) == [f"j@{slot(60)}"]
        assert not any(key.startswith("runs/") for key in world.master.kept)

    def test_a_retry_is_not_forgotten(self) -> None:
        world = World(retry_ms=30_000)
        world.post(schedule="R1/2026-01-01T00:01:00Z/PT1M")
        world.wait(61)
        world.end(FAILED)
        world.master.restart()
        world.wait(31)
        assert world.tasks == [f"ct:{slot(60)}:1:j:"]

    def test_a_job_that_cannot_be_read_is_quarantined_and_the_rest_goes_on(self) -> None:
        world = World()
        world.post("bad")
        world.post("good")
        world.post("below", parents=["bad"])
        world.post("other")
        world.master.kept["jobs/bad"] = b"{"
        world.master.kept["jobs/other"] = world.master.kept["jobs/good"]
        world.master.restart()
        world.wait(61)
        assert world.tasks == [f"ct:{slot(60)}:0:good:"]
        assert set(world.core.book.unreadable) == {"bad", "other"}
        assert "it calls itself 'good'" in world.core.book.unreadable["other"]
        assert "bad does not exist" in world.core.book.entries["below"].fault

    def test_runs_that_wait_of_a_job_that_cannot_be_read_end_with_that(self) -> None:
        world = World(retry_ms=30_000)
        world.post("again", schedule="R1/2026-01-01T00:01:00Z/PT1M")
        world.post("good", schedule="R/2026-01-01T00:05:00Z/PT1M")
        world.wait(61)
        world.end(FAILED)
        world.post("behind", schedule="R2/2026-01-01T00:01:01Z/PT1S")
        world.wait(2)
        assert world.core.life.runs[f"behind@{slot(62)}"].state is RunState.QUEUED
        for name in ("again", "behind"):
            world.master.kept[f"jobs/{name}"] = b"{"
        world.master.restart()
        world.wait(60)
        world.end(FAILED)
        world.wait(180)
        assert f"ct:{slot(300)}:0:good:" in world.tasks
        unread = "its job is quarantined: it cannot be read"
        ended = {run_id: (run.state, run.reason) for run_id, run in world.history.items() if run.reason == unread}
        assert ended == {f"again@{slot(60)}": (RunState.FAILED, unread), f"behind@{slot(62)}": (RunState.SKIPPED, unread)}

    def test_a_run_that_cannot_be_read_has_failed_and_its_task_is_killed(self) -> None:
        world = World()
        world.post("bad")
        world.post("good")
        world.wait(61)
        for key in [key for key in world.master.kept if key.startswith("runs/bad@")]:
            world.master.kept[key] = b"{"
        world.master.restart()
        world.wait(1)
        assert world.tasks == [f"ct:{slot(60)}:0:good:"]
        run = world.history[f"bad@{slot(60)}"]
        assert (run.state, run.slot_ms, run.occasions) == (RunState.FAILED, slot(60), ("failure",))
        assert run.reason.startswith("what is stored of it cannot be read: ")
        world.wait(60)
        assert f"ct:{slot(120)}:0:bad:" in world.tasks

    def test_other_records_that_cannot_be_read_stop_nothing(self) -> None:
        world = World()
        world.tell(inputs.PutCalendar("bank", Calendar()))
        world.post("bound", meseta={"calendar": "bank"})
        world.post("free")
        world.tell(inputs.Pause(True, name="free"))
        for key in ("calendars/bank", "pauses", "edges/x@y"):
            world.master.kept[key] = b"{"
        world.master.restart()
        world.wait(61)
        assert "bank" in world.core.book.entries["bound"].fault
        assert (world.tasks, world.core.life.pauses.everything) == ([], True)

    def test_a_job_that_cannot_be_read_can_be_deleted(self) -> None:
        world = World()
        world.post("bad")
        world.master.kept["jobs/bad"] = b"{"
        world.master.restart()
        with pytest.raises(CallError, match="job: bad is quarantined: it cannot be read"):
            world.tell(inputs.RunNow("bad"))
        world.tell(inputs.Delete("bad"))
        assert not [key for key in world.master.kept if key.endswith("/bad")]
        assert world.core.book.unreadable == {}


def test_jobs_of_high_priority_go_first() -> None:
    world = World()
    world.master.agents = {}
    world.post("low", cpus=40)
    world.post("high", cpus=40, highPriority=True)
    world.wait(61)
    world.master.agents = dict(ROOM)
    world.wait(10)
    assert [":high:" in task for task in world.tasks] == [True]


class TestByHand:
    """a -> b, c -> d: a job in the middle that is run by hand, or said to have succeeded, sets off what is below it, and that waits for no
    other."""

    def diamond(self, join: str = "all") -> World:
        world = World()
        world.post("a", schedule="R/2099-01-01T00:00:00Z/P1D")
        for name in ("b", "c"):
            world.post(name, parents=["a"], retries=0)
        world.post("d", parents=["b", "c"], meseta={"join": join})
        return world

    def jobs_that_ran(self, world: World) -> list[tuple[str, RunState]]:
        return [(run.job, run.state) for run in world.history.values()]

    def test_a_child_waits_for_those_parents_only_that_take_part(self) -> None:
        world = self.diamond()
        run_id = world.tell(inputs.RunNow("b"))
        world.wait(1)
        world.end()
        world.wait(1)
        world.end()
        assert self.jobs_that_ran(world) == [("b", RunState.SUCCEEDED), ("d", RunState.SUCCEEDED)]
        assert {run.identity for run in world.history.values()} == {run_id}
        assert len(world.core.life.edges) == 0

    def test_a_failure_ends_it(self) -> None:
        world = self.diamond()
        world.tell(inputs.RunNow("b"))
        world.wait(1)
        world.end(FAILED)
        assert self.jobs_that_ran(world) == [("b", RunState.FAILED), ("d", RunState.SKIPPED)]
        assert len(world.core.life.edges) == 0

    def test_success_that_somebody_states_counts_the_same(self) -> None:
        world = self.diamond()
        world.tell(inputs.MarkSuccess("c"))
        world.wait(1)
        world.end()
        assert self.jobs_that_ran(world) == [("c", RunState.SUCCEEDED), ("d", RunState.SUCCEEDED)]

    def test_the_root_by_hand_is_a_run_of_all(self) -> None:
        world = self.diamond()
        world.tell(inputs.RunNow("a"))
        for _ in range(3):
            world.wait(1)
            world.end()
        assert [job for job, _ in self.jobs_that_ran(world)] == ["a", "b", "c", "d"]


class TestNames:
    def test_runs_that_are_called_for_at_one_instant_have_names_and_tasks_of_their_own(self) -> None:
        world = World()
        world.post(schedule="R/2026-01-01T00:00:01Z/PT1S", meseta={"overlap": "allow"}, disabled=True)
        made = world.tell(inputs.Backfill("j", slot(0), slot(20)))
        made += [world.tell(inputs.RunNow("j")) for _ in range(3)]
        world.post(schedule="R/2026-01-01T00:00:01Z/PT1S", meseta={"overlap": "allow"})
        world.wait(3)
        assert len(set(made)) == len(made)
        assert len(set(world.tasks)) == len(world.tasks) >= 19 + 3

    def test_a_task_s_id_is_never_longer_than_an_id_may_be(self) -> None:
        world = World()
        world.post("n" * 200, schedule="R/2030-01-01T00:00:00Z/P1D")
        world.tell(inputs.RunNow("n" * 200, "a" * 500))
        world.wait(1)
        assert [len(task_id) for task_id in world.tasks] == [255]


class TestDeadlines:
    def test_a_run_that_is_not_over_by_then_is_told_of_once(self) -> None:
        world = World()
        world.post(meseta={"deadline": "10s", "overlap": "skip"})
        world.wait(65)
        assert world.calls == []
        world.wait(6)
        assert world.missed == [f"j@{slot(60)}"]
        world.master.restart()
        world.wait(20)
        assert world.missed == [f"j@{slot(60)}"]
        world.end()
        assert world.told[-1] == (f"j@{slot(60)}", ("success",))

    def test_one_that_passed_unseen_is_told_of_at_the_end(self) -> None:
        world = World()
        world.post(meseta={"deadline": "10s"})
        world.wait(61)
        world.master.now = Now(world.master.now.mono_s + 100, world.master.now.wall_s + 100)
        world.end()
        assert world.told[-1] == (f"j@{slot(60)}", ("success", "deadline"))


def test_a_job_that_breaks_the_scheduler_is_quarantined_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.post("bad")
    world.post("good")
    take = catch_up.take

    def broken(schedule: Any, *more: Any) -> Any:
        if schedule is world.core.book.entries["bad"].schedule:
            raise OverflowError("too far")
        return take(schedule, *more)

    monkeypatch.setattr(catch_up, "take", broken)
    world.wait(130)
    assert [":good:" in task for task in world.tasks] == [True]
    assert "OverflowError: too far" in world.core.book.entries["bad"].fault
    world.post("bad", schedule="R/2026-01-01T00:05:00Z/PT1M")
    assert world.core.book.entries["bad"].fault == ""
