"""`meseta cron ...` against a scheduler's real API; only the master behind it is made up."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from chronos import cli as chronos_cli
from chronos.cli import client, waiting
from chronos.cli.client import Away, Scheduler
from kernel import cli
from kernel.net.client import Refused
from kernel.wire.task import TaskState
from tests.chronos.serving import Api


class Command:
    """Runs one command line in this process."""

    def __init__(self, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        self._api, self._capsys = api, capsys

    def __call__(self, verb: str, *arguments: str, status: int = 0) -> str:
        """What it printed, on stderr when it failed."""
        words = list(arguments)
        at = words.index("--") if "--" in words else len(words)
        found = cli.run(["cron", verb, *words[:at], "--url", self._api.url, *words[at:]])
        out, err = self._capsys.readouterr()
        assert found == status, (found, out, err)
        return out if status in (0, 3) else err

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def cron(api: Api, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(api, capsys)


def add(cron: Command, name: str = "a", schedule: str = "R/2026-01-01T00:01:00Z/PT1M", *more: str) -> None:
    cron("add", name, "--schedule", schedule, *more, "--", "true")


def completed(line: str) -> list[str]:
    """What a shell is offered at the end of a command line."""
    words = line.split()
    found = ShellComplete(chronos_cli.cron, {}, "meseta cron", "_MESETA_COMPLETE").get_completions(words[2:-1], words[-1])
    return [item.value for item in found]


def write(folder: Path, name: str, *jobs: dict[str, Any]) -> str:
    (folder / name).write_text(json.dumps(list(jobs)))
    return str(folder)


JOB = {"name": "a", "command": "true", "schedule": "0 * * * *"}


class TestAdd:
    def test_a_job_has_what_was_said_and_the_schedulers_defaults(self, cron: Command) -> None:
        said = cron(
            "add", "a", "--schedule", "30 2 * * *", "--zone", "Europe/Berlin", "--cpus", "0.5", "--label", "t=red", "--", "echo", "x y"
        )
        assert "Job a is there; it runs" in said
        job = cron.json("show", "a")["job"]
        assert (job["command"], job["cpus"], job["mem"], job["scheduleTimeZone"]) == ("echo 'x y'", 0.5, 128.0, "Europe/Berlin")
        assert job["meseta"]["labels"] == {"t": "red"}

    def test_without_a_schedule_it_runs_now(self, cron: Command) -> None:
        assert cron("add", "a", "--", "true") == "Job a is there; it runs now.\n"
        assert cron("add", "b", "--after", "a", "--", "true") == "Job b is there.\n"

    def test_one_that_is_there_is_not_overwritten_by_chance(self, cron: Command) -> None:
        add(cron)
        assert "there is a job a already; `--replace`" in cron("add", "a", "--", "false", status=1)
        cron("add", "a", "--replace", "--", "false")
        assert cron.json("show", "a")["job"]["command"] == "false"

    @pytest.mark.parametrize(("schedule", "field"), [("61 * * * *", "schedule"), ("0 0 31 2 *", "schedule"), ("@every 1ms", "schedule")])
    def test_a_schedule_that_makes_no_sense_names_the_field(self, cron: Command, schedule: str, field: str) -> None:
        error = json.loads(cron("add", "a", "--schedule", schedule, "--json", "--", "true", status=1))
        assert error["field"] == field
        assert cron.json("list") == []

    def test_wrong_usage(self, cron: Command) -> None:
        assert "a COMMAND is due" in cron("add", "a", status=2)
        assert "exclude each other" in cron("add", "a", "--schedule", "@daily", "--after", "b", "--", "true", status=2)


class TestApply:
    def test_shows_then_does_then_has_nothing_to_do(self, cron: Command, tmp_path: Path) -> None:
        folder = write(tmp_path, "jobs.json", JOB, {"name": "b", "command": "true", "parents": ["a"]})
        shown = cron("apply", folder, "--dry-run", "--exit-code", status=3)
        assert shown.splitlines()[:3] == ["+ create a", "    command: true", "    schedule: 0 * * * *"]
        assert cron.json("list") == []
        assert "2 to create, 0 unchanged" in cron("apply", folder)
        assert cron("apply", folder, "--dry-run", "--exit-code") == "nothing to do, 2 unchanged\n"

    def test_changes_and_prunes(self, cron: Command, tmp_path: Path) -> None:
        add(cron, "other")
        cron("apply", write(tmp_path, "jobs.json", JOB))
        folder = write(tmp_path, "jobs.json", {**JOB, "command": "false"})
        assert "command: true -> false" in cron("apply", folder)
        assert [step["verb"] for step in cron.json("apply", folder, "--prune")] == ["remove"]
        assert [one["job"]["name"] for one in cron.json("list")] == ["a"]

    def test_what_is_wrong_changes_nothing(self, cron: Command, tmp_path: Path) -> None:
        folder = write(tmp_path, "jobs.json", JOB, {"name": "b", "command": "true", "schedule": "0 0 31 2 *"})
        told = cron("apply", folder, status=1)
        assert "b: schedule: " in told
        assert "nothing was changed" in told
        assert cron.json("list") == []

    def test_the_standard_input_is_read_and_what_is_no_file_of_jobs_is_refused(
        self, cron: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("name: a\nschedule: '@daily'\ncommand: 'true'\n"))
        assert "1 to create" in cron("apply", "-")
        (tmp_path / "jobs.txt").write_text("name: b\nschedule: '@daily'\n")
        assert "jobs.txt is no file of jobs" in cron("apply", str(tmp_path / "jobs.txt"), status=1)
        assert cron("apply", str(tmp_path)).startswith("nothing to do")

    def test_a_manifest_of_kubernetes_is_for_the_import(self, cron: Command, tmp_path: Path) -> None:
        folder = write(tmp_path, "job.json", {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"}})
        assert "job.json:1: not carried over: a manifest of Kubernetes" in cron("apply", folder, status=1)

    def test_an_unknown_field_is_refused_with_the_nearest_known_one(self, cron: Command, tmp_path: Path) -> None:
        cron("apply", write(tmp_path, "jobs.json", JOB))
        folder = write(tmp_path, "jobs.json", {"name": "a", "command": "true", "schedul": "0 * * * *"})
        told = cron("apply", folder, status=1)
        assert "jobs.json:1: not carried over: a: schedul: unknown field; did you mean schedule?" in told
        assert cron.json("show", "a")["job"]["schedule"] == JOB["schedule"]

    def test_no_job_at_all_prunes_nothing(self, cron: Command, tmp_path: Path) -> None:
        add(cron)
        assert "--prune would delete all" in cron("apply", str(tmp_path), "--prune", status=1)
        assert len(cron.json("list")) == 1


@pytest.mark.parametrize(("known", "problem"), [(False, "asks who you are"), (True, "does not know this principal and secret")])
def test_who_is_not_known_is_told_whether_he_said_who_he_is(known: bool, problem: str) -> None:
    error = client._explained(Refused("http://x", 401, "Authentication required"), known)
    assert (error.problem, error.field) == (f"the scheduler of jobs {problem}: Authentication required", "--credential")


def test_a_crontab_is_shown_and_then_created(cron: Command, tmp_path: Path) -> None:
    crontab = tmp_path / "etc" / "crontab"
    crontab.parent.mkdir()
    crontab.write_text("SHELL=/bin/sh\n17 * * * * root cd / && run-parts --report /etc/cron.hourly\n@reboot root date\n")
    shown = cron("import", str(crontab), "--zone", "Europe/Berlin")
    assert f"{crontab}:2" in shown
    assert cron.json("list") == []
    read = cron.json("import", str(crontab))
    assert [(note["line"], note["lost"]) for note in read["notes"] if note["lost"]] == [(3, True)]
    assert "1 job is created" in cron("import", str(crontab), "--zone", "Europe/Berlin", "--apply")
    (job,) = cron.json("list")
    assert (job["job"]["schedule"], job["job"]["scheduleTimeZone"], job["job"]["runAsUser"]) == ("17 * * * *", "Europe/Berlin", "root")
    assert "there are jobs of these names already" in cron("import", str(crontab), "--apply", status=1)


def test_what_holds_for_several_crontabs_is_told_once(api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "crontabs"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text("@daily true\n")
    assert cli.run(["cron", "import", str(folder), "--url", api.url]) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in told[:2]] == ["2 files", "2 files"]
    assert len(told) == 3


class TestLooking:
    def test_a_job_is_shown_with_why_its_run_waits(self, cron: Command, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MESETA_MASTER", "http://127.0.0.1:1")  # Nobody to ask for more.
        add(cron, "a", "R/2026-01-01T00:01:00Z/PT1M", "--cpus", "1000")
        assert (cron.json("show", "a")["why"], cron.json("show", "a")["unblocks"]) == ("", "")
        api.wait(62)
        assert "cpus" in cron.json("show", "a")["why"]
        assert "why" in cron("show", "a")

    def test_a_master_that_hangs_does_not_hold_up_what_is_shown_of_a_job(
        self, cron: Command, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(cron, "a", "R/2026-01-01T00:01:00Z/PT1M", "--cpus", "1000")
        api.wait(62)
        with socket.create_server(("127.0.0.1", 0)) as hung:
            monkeypatch.setenv("MESETA_MASTER", f"http://127.0.0.1:{hung.getsockname()[1]}")
            monkeypatch.setattr(client, "EXPLAINED_S", 0.05)
            shown = cron.json("show", "a")
            hung.accept()[0].close()  # It was asked.
        assert "cpus" in shown["why"]
        assert shown["runs"]

    def test_next_runs_are_told_with_what_clocks_do(self, cron: Command, api: Api) -> None:
        cron("add", "a", "--schedule", "30 2 * * *", "--zone", "Europe/Berlin", "--", "true")
        runs = cron.json("next", "a", "-n", "100")
        (changed,) = [run for run in runs if run["note"]]
        assert changed["time"] == "2026-03-29 03:00:00 CEST"
        assert cron("next", "a", "-n", "1").splitlines()[1].startswith("2026-01-01 02:30:00 CET")
        api.post("b", schedule="30 2 * * *", scheduleTimeZone="Europe/Berlin", meseta={"dst": "skip"})
        (changed,) = [run for run in cron.json("next", "b", "-n", "100") if run["note"]]
        assert changed["time"] == "2026-03-30 02:30:00 CEST"
        assert changed["note"] == "2026-03-29 02:30 Europe/Berlin does not exist and is skipped"
        assert "2026-03-29 02:30 Europe/Berlin does not exist and is skipped" in cron("next", "b", "-n", "100")

    def test_next_runs_of_a_job_that_stands_still_are_told_as_such(
        self, cron: Command, api: Api, capsys: pytest.CaptureFixture[str]
    ) -> None:
        add(cron, "a")
        for verb, stands in (("pause", "paused"), ("disable", "disabled")):
            cron(verb, "a")
            capsys.readouterr()
            assert cli.run(["cron", "next", "a", "--url", api.url]) == 0
            assert f"The job is {stands}" in capsys.readouterr().err

    def test_each_slot_is_in_history_with_how_it_went_or_why_not(self, cron: Command, api: Api) -> None:
        add(cron, "a")
        api.work.master.advance(61)
        api.end()
        cron("pause", "a")
        api.work.master.advance(60)
        skipped, succeeded = cron.json("history", "a")
        assert (skipped["state"], skipped["reason"]) == ("skipped", "the job is paused")
        assert (succeeded["state"], succeeded["attempts"][0]["exitStatus"]) == ("succeeded", 0)
        assert succeeded["log"].endswith(f"/runs/{succeeded['id']}/output")
        assert "the job is paused" in cron("history", "a")
        assert "the job is paused" in cron("show", "a")
        assert cron.json("history", "a", "--state", "skipped") == [skipped]

    def test_slots_of_a_child_are_in_the_zone_of_its_root(self, cron: Command, api: Api) -> None:
        add(cron, "a", "1 9 * * *", "--zone", "Asia/Tokyo")
        cron("add", "b", "--after", "a", "--", "true")
        cron("add", "c", "--after", "b", "--", "true")
        api.wait(61)
        for _ in range(3):
            api.end()
        cron("run", "b")  # The newest run of c has b for its root, which has no zone.
        for _ in range(2):
            api.end()
        shown = [cron("history", name).splitlines() for name in "abc"]
        assert [len(lines) for lines in shown] == [2, 3, 3]
        assert all("JST" in line for lines in shown for line in lines[1:])

    def test_what_another_scheduler_has_in_its_history_is_no_job_that_has_not_run(
        self, cron: Command, api: Api, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name, count in (("new", 0), ("old", 3)):
            assert api.post(name, successCount=count).status == 204
        said = []
        for name in ("new", "old"):
            assert cli.run(["cron", "history", name, "--url", api.url]) == 0
            said.append(capsys.readouterr().err)
        assert said[0] == "It has not run yet.\n"
        assert "not in this scheduler's history" in said[1]

    def test_history_of_all_jobs(self, cron: Command, api: Api) -> None:
        add(cron, "a", "R/2026-01-01T00:01:00Z/PT1M", "--retries", "0")
        add(cron, "b", "@daily")
        api.wait(61)
        api.end(TaskState.TASK_FAILED)
        run = cron.json("run", "b")["run"]
        assert [(one["job"], one["state"]) for one in cron.json("history")][1:] == [("a", "failed")]
        assert [line.partition("@")[0] for line in cron("history").splitlines()[1:]] == ["b", "a"]
        assert [one["job"] for one in cron.json("history", "--state", "failed")] == ["a"]
        assert cron.json("history")[0]["id"] == run

    def test_what_a_run_printed(self, cron: Command, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        add(cron, "a")
        assert "no run of a is over yet" in cron("logs", "a", status=1)
        api.wait(61)
        api.end()
        (run,) = cron.json("history", "a")
        assert cron("history", "a").splitlines()[1].split()[0] == run["id"]
        assert f"`meseta task logs {run['attempts'][0]['taskId']}` reads it" in cron("logs", "a", run["id"], status=1)
        api.printed(run["id"], b"out\n", b"err\n")
        cron("pause", "a")
        api.wait(60)  # A slot that is skipped has printed nothing.
        assert cron("logs", "a") == cron("logs", "a", run["id"]) == "out\n"
        assert cron.json("logs", "a") == {"run": run["id"], "kept": True, "stdout": "out\n", "stderr": "err\n"}
        add(cron, "b")
        assert f"{run['id']} is a run of a, not of b" in cron("logs", "b", run["id"], status=1)

    def test_shells_complete_the_names_of_jobs(self, cron: Command, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        add(cron, "nightly")
        monkeypatch.setenv("MESETA_CHRONOS", api.url)
        for verb in ("show", "rm", "pause", "disable", "logs", "rerun", "add x --after"):
            words = f"meseta cron {verb} ni"
            assert completed(words) == ["nightly"], verb

    def test_a_job_whose_end_has_passed_is_finished(self, cron: Command, api: Api) -> None:
        api.post("a", schedule="@daily", meseta={"end": "2020-01-01"})
        assert "finished" in cron("list")
        assert "finished" in cron("show", "a")

    def test_a_job_that_does_not_exist(self, cron: Command) -> None:
        for verb in ("show", "next", "history", "run", "kill", "rm", "pause", "enable"):
            assert "`meseta cron list` shows what there is" in cron(verb, "nobody", status=1)

    def test_who_runs_after_whom(self, cron: Command) -> None:
        add(cron, "a")
        cron("add", "b", "--after", "a", "--", "true")
        assert [line.split()[0:2] for line in cron("graph").splitlines()] == [["a", "(R/2026-01-01T00:01:00.000Z/PT1M,"], ["`-", "b"]]
        assert "1 -> 2;" in cron("graph", "--format", "dot")
        assert cron.json("graph") == [{"name": "a", "parents": []}, {"name": "b", "parents": ["a"]}]


class TestDoing:
    def test_runs_now_with_arguments_and_is_killed(self, cron: Command, api: Api) -> None:
        add(cron)
        run = cron.json("run", "a", "--arg", "x")["run"]
        assert [one["id"] for one in cron.json("history", "a")] == [run]
        cron("kill", "a", run)
        assert [one["state"] for one in cron.json("history", "a")] == ["killed"]

    def test_a_failed_node_is_run_again_with_what_is_below_it(self, cron: Command, api: Api) -> None:
        add(cron, "a", "R/2026-01-01T00:01:00Z/PT1M", "--retries", "0")
        cron("add", "b", "--after", "a", "--", "true")
        api.wait(61)
        api.end(TaskState.TASK_FAILED)
        assert [one["state"] for one in cron.json("history", "b")] == ["skipped"]
        again = cron.json("rerun", "a")["run"]
        api.end()
        api.end()
        assert [one["id"] for one in cron.json("history", "a") if one["state"] == "succeeded"] == [again]
        assert "(again)" in cron("history", "a").splitlines()[1]
        newest, skipped = cron.json("history", "b")
        assert (newest["state"], newest["identity"]) == ("succeeded", skipped["identity"])

    def test_slots_of_the_past_are_run(self, cron: Command) -> None:
        cron("add", "a", "--schedule", "0 0 * * *", "--", "true")
        assert len(cron.json("backfill", "a", "--from", "2025-12-01T00:00Z", "--to", "2025-12-08T00:00Z")) == 7
        told = cron("backfill", "a", "--from", "2025-11-01T00:00Z", "--to", "2025-12-01T00:00Z").splitlines()
        assert cron("backfill", "a", "--from", "2025-12-01T00:00Z", "--to", "2025-12-02T00:00Z").startswith("1 run is begun:")
        assert (told[0], len(told), told[-1]) == ("30 runs are begun:", 22, "... and 10 more; --json prints all")

    def test_slots_of_the_past_are_listed_and_not_run(self, cron: Command) -> None:
        cron("add", "a", "--schedule", "0 9 * * *", "--zone", "Asia/Tokyo", "--", "true")
        between = ("--from", "2025-12-01T00:00Z", "--to", "2025-12-03T00:00Z", "--dry-run")
        assert cron("backfill", "a", *between).splitlines() == [
            "2 slots would be run:",
            "2025-12-01 09:00:00 JST",
            "2025-12-02 09:00:00 JST",
        ]
        assert [slot["slot"] for slot in cron.json("backfill", "a", *between)] == [1764547200000, 1764633600000]
        assert cron.json("history", "a") == []

    @pytest.mark.parametrize(
        ("state", "status", "said"),
        [(TaskState.TASK_FINISHED, 0, "succeeded after "), (TaskState.TASK_FAILED, 1, "failed (exit status 125) after ")],
    )
    def test_a_run_is_waited_for(
        self,
        cron: Command,
        api: Api,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        state: TaskState,
        status: int,
        said: str,
    ) -> None:
        add(cron, "a", "@daily", "--retries", "0")
        monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=lambda wait_s: api.end(state)))  # It ends while it is waited for.
        capsys.readouterr()
        for verb in ("run", "rerun"):
            assert cli.run(["cron", verb, "a", "--wait", "--url", api.url]) == status
            assert f" {said}" in capsys.readouterr().out
        assert cli.run(["cron", "run", "a", "--wait", "--json", "--url", api.url]) == status
        assert json.loads(capsys.readouterr().out)["state"] == ("failed" if status else "succeeded")

    def test_a_run_that_is_skipped_is_told_with_the_reason(self, cron: Command, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
        add(cron, "a", "@daily")
        cron("disable", "a")
        assert cli.run(["cron", "run", "a", "--wait", "--url", api.url]) == 1
        assert "was skipped: the job is disabled" in capsys.readouterr().out

    def test_a_scheduler_that_is_away_is_waited_for_and_a_run_that_is_left_goes_on(
        self, cron: Command, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(cron, "a", "@daily")
        asked, looks = Scheduler.get, iter([Away("away"), None, KeyboardInterrupt()])

        def get(self: Scheduler, path: str, **query: Any) -> Any:
            if (error := next(looks)) is not None:
                raise error
            return asked(self, path, **query)

        monkeypatch.setattr(Scheduler, "get", get)
        monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=lambda wait_s: None))
        capsys.readouterr()
        assert cli.run(["cron", "run", "a", "--wait", "--url", api.url]) == 130
        assert "goes on; `meseta cron kill a a@" in capsys.readouterr().err
        assert next(looks, "all") == "all"

    def test_pauses_disables_and_deletes(self, cron: Command) -> None:
        add(cron, "a", "@daily", "--label", "t=red")
        cron("pause", "--label", "t=red")
        assert [one["paused"] for one in cron.json("list", "--state", "paused")] == ["jobs with the label t=red are paused"]
        cron("resume", "--label", "t=red")
        cron("disable", "a")
        assert "disabled" in cron("list")
        cron("enable", "a")
        assert "give one of JOBS, --label and --all" in cron("pause", status=2)
        cron("rm", "a")
        assert cron.json("list") == []

    @pytest.mark.parametrize("verb", ["rm", "enable", "disable", "pause", "resume"])
    def test_of_several_jobs_none_is_touched_where_one_does_not_exist(self, cron: Command, verb: str) -> None:
        add(cron, "a", "@daily")
        before = cron.json("list")
        assert json.loads(cron(verb, "a", "nobody", "--json", status=1))["field"] == "job"
        assert cron.json("list") == before

    def test_what_was_done_is_told_where_the_rest_fails(
        self, cron: Command, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(cron, "a", "@daily")
        monkeypatch.setattr("chronos.cli.client.Scheduler.known", lambda self, names: names)  # It went a moment later.
        capsys.readouterr()
        assert cli.run(["cron", "rm", "a", "gone", "--json", "--url", api.url]) == 1
        out, err = capsys.readouterr()
        assert (json.loads(out), json.loads(err)["field"]) == ([{"name": "a"}], "job")
