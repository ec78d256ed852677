"""Clients that were written for Chronos: what breaks them when it is missed (spec: chronos-v1, section 14, by number)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel.wire.task import TaskState
from tests.chronos.serving import START_MS, Api, serving

FAILED, KILLED = TaskState.TASK_FAILED, TaskState.TASK_KILLED
BOTH = pytest.mark.parametrize("prefix", ["/scheduler", "/v1/scheduler"])
FAR = "R/2030-01-01T00:00:00Z/P1D"


def wanted(api: Api, name: str = "j") -> dict[str, str]:
    """What a job's task is asked to run."""
    (task,) = [task for task in api.work.master.tasks.values() if f":{name}:" in task.info.task_id.value]
    command = task.info.command
    assert command is not None
    return {
        "value": command.value or "",
        **{variable.name: variable.value or "" for variable in (command.environment.variables if command.environment else ())},
    }


@BOTH
@pytest.mark.parametrize("asked", ["GET job/x", "PUT job/x", "DELETE job/x", "GET job/stat/x", "DELETE task/kill/x"])
def test_01_an_unknown_job_is_400_never_404(api: Api, prefix: str, asked: str) -> None:
    method, _, path = asked.partition(" ")
    answer = api.ask(method, f"{prefix}/{path}")
    assert (answer.status, answer.media) == (400, "application/json")
    assert (answer.json()["status"], set(answer.json())) == ("Bad Request", {"status", "message"})
    assert "\n" not in answer.json()["message"]


@BOTH
def test_02_creating_and_running_answer_204_and_nothing(api: Api, prefix: str) -> None:
    answers = [
        api.post("a", prefix),
        api.post("b", prefix, parents=["a"]),
        api.post("a", prefix, method="PUT"),
        api.ask("PUT", f"{prefix}/job/a"),
        api.ask("DELETE", f"{prefix}/task/kill/a"),
        api.ask("DELETE", f"{prefix}/job/a"),
    ]
    assert {(answer.status, answer.body) for answer in answers} == {(204, b"")}


def test_03_posting_again_resets_the_counters_unless_they_are_sent(api: Api) -> None:
    api.post()
    api.wait(61)
    api.end()
    before = api.job()
    assert (before["successCount"], before["lastSuccess"][:4]) == (1, "2026")
    api.post(**{key: before[key] for key in ("successCount", "lastSuccess", "schedule")})
    assert api.job()["successCount"] == 1
    api.post()
    assert (api.job()["successCount"], api.job()["lastSuccess"]) == (0, "")


def test_04_the_schedule_that_is_shown_moves(api: Api) -> None:
    api.post(schedule="R5/2026-01-01T00:01:00.000Z/PT1M")
    api.wait(61)
    assert api.job()["schedule"] == "R4/2026-01-01T00:02:00.000Z/PT1M"


def test_05_scheduled_runs_wait_for_the_one_under_way_and_collapse(api: Api) -> None:
    api.post()
    api.wait(250)
    assert len(api.tasks) == 1
    api.end()
    api.wait(1)
    assert len(api.tasks) == 1


def test_05_a_run_that_is_called_for_meanwhile_is_dropped_unless_concurrent(api: Api) -> None:
    api.post("one", schedule=FAR)
    api.post("many", schedule=FAR, concurrent=True)
    for name in ("one", "many", "one", "many"):
        assert api.ask("PUT", f"/scheduler/job/{name}").status == 204
        api.wait(1)
    assert sorted(task.split(":")[3] for task in api.tasks) == ["many", "many", "one"]
    assert [run["state"] for run in api.runs("one")] == ["skipped"]


def test_06_missed_periods_are_one_run(api: Api) -> None:
    api.post(schedule="R/2025-12-31T20:00:00Z/PT1H")
    api.wait(2)
    assert len(api.tasks) == 1


def test_07_after_retries_are_used_up_there_are_none_until_a_success(tmp_path: Path) -> None:
    with serving(tmp_path, retry_ms=1000) as api:
        api.post(retries=1)
        api.wait(61)
        for _ in range(2):
            api.end(FAILED)
            api.wait(2)
        assert (len(api.runs()[0]["attempts"]), api.job()["errorCount"]) == (2, 1)
        api.wait(60)
        api.end(FAILED)
        api.wait(2)
        assert len(api.runs()[0]["attempts"]) == 1


def test_08_killed_is_neither_success_nor_failure(api: Api) -> None:
    api.post()
    api.post("child", parents=["j"])
    api.wait(61)
    api.end(KILLED)
    job = api.job()
    assert (job["successCount"], job["errorCount"], api.runs()[0]["state"]) == (0, 0, "killed")
    assert api.tasks == []


def test_09_environment_is_a_list_and_ours_win(api: Api) -> None:
    variables = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "CHRONOS_JOB_NAME", "value": "no"}]
    api.post(environmentVariables=variables)
    assert api.job()["environmentVariables"] == variables
    api.wait(61)
    assert {key: value for key, value in wanted(api).items() if key in ("A", "CHRONOS_JOB_NAME")} == {"A": "1", "CHRONOS_JOB_NAME": "j"}


def test_10_files_are_extracted_unless_told_and_named_with_an_underscore(api: Api) -> None:
    api.post(fetch=[{"uri": "http://x.test/a.tgz", "output_file": "b"}])
    assert api.job()["fetch"] == [{"uri": "http://x.test/a.tgz", "executable": False, "cache": False, "extract": True, "output_file": "b"}]


def test_11_parents_win_over_a_schedule(api: Api) -> None:
    api.post("a")
    api.ask("POST", "/scheduler/dependency", {"name": "b", "command": "true", "parents": ["a"], "schedule": FAR})
    job = api.job("b")
    assert (job["parents"], "schedule" in job, "scheduleTimeZone" in job) == (["a"], False, False)


def test_12_a_job_that_was_to_run_once_is_disabled_then_and_its_retry_does_not_make_it_run_for_ever(tmp_path: Path) -> None:
    with serving(tmp_path, retry_ms=1000) as api:
        api.post(schedule="R1/2026-01-01T00:01:00Z/PT1M")
        api.wait(61)
        api.end(FAILED)
        api.wait(2)
        api.end()
        job = api.job()
        assert (job["disabled"], job["successCount"]) == (True, 1)
        assert not job["schedule"].startswith("R/")
        api.wait(200)
        assert api.tasks == []


def test_13_the_zone_overrides_the_offset(api: Api) -> None:
    api.post(schedule="R/2026-01-01T18:32:00Z/PT60M", scheduleTimeZone="PST")
    assert api.get("/v1/meseta/jobs/j")["next"] == START_MS + (26 * 3600 + 32 * 60) * 1000
    assert api.get("/v1/meseta/jobs/j")["job"]["scheduleTimeZone"] == "PST"


def test_14_arguments_of_a_run_follow_the_command_of_a_shell(api: Api) -> None:
    api.post(schedule=FAR, command="echo")
    api.ask("PUT", "/v1/scheduler/job/j?arguments=a%20b%3B")
    api.wait(1)
    assert wanted(api)["value"] == "echo a b"
    assert api.job()["arguments"] == []


def test_15_numbers_may_be_text(api: Api) -> None:
    assert api.post(cpus="0.5", retries="3", disabled="true").status == 204
    assert (api.job()["cpus"], api.job()["retries"], api.job()["disabled"]) == (0.5, 3, True)


@BOTH
def test_16_a_search_finds_ten(api: Api, prefix: str) -> None:
    for number in range(12):
        api.post(f"Job-{number}", schedule=FAR, command=f"say {number % 2}")

    def found(query: str) -> list[str]:
        return [job["name"] for job in api.get(f"{prefix}/jobs/search{query}")]

    assert len(found("")) == len(found("?name=")) == 10
    assert found("?offset=10") == ["Job-8", "Job-9"]  # By name.
    assert found("?name=jOB-1&limit=100") == ["Job-1", "Job-10", "Job-11"]
    assert found("?name=job-1&command=SAY%201") == ["Job-1", "Job-11"]
    assert found("?any=say%200&limit=2") == ["Job-0", "Job-10"]
    assert found("?name=nothing&any=job-7") == ["Job-7"]


def test_17_status_and_state_of_the_summary_have_each_other_s_names(api: Api) -> None:
    api.post()
    api.post("b", parents=["j"])
    api.wait(61)
    api.inside(lambda work: work.master.run_all())
    jobs = {job["name"]: job for job in api.get("/v1/scheduler/jobs/summary")["jobs"]}
    assert (jobs["j"]["status"], jobs["j"]["state"], jobs["j"]["parents"]) == ("fresh", "1 running", [])
    assert (jobs["b"]["schedule"], jobs["b"]["parents"], set(jobs["b"])) == (
        "",
        ["j"],
        {"name", "status", "state", "schedule", "parents", "disabled"},
    )


def test_18_ports_of_networks_are_text(api: Api) -> None:
    container = {"image": "i", "networkInfos": [{"name": "n", "portMappings": [{"hostPort": 80, "containerPort": 8080}]}]}
    api.post(container=container)
    assert api.job()["container"]["networkInfos"][0]["portMappings"] == [{"hostPort": "80", "containerPort": "8080"}]


def test_19_children_of_a_deleted_job_take_its_schedule(api: Api) -> None:
    api.post("a", schedule=FAR, scheduleTimeZone="Europe/Madrid")
    api.post("b", parents=["a"], description="kept")
    assert api.ask("DELETE", "/scheduler/job/a").status == 204
    job = api.job("b")
    assert (job["scheduleTimeZone"], job["description"], job["schedule"][:15]) == ("Europe/Madrid", "kept", "R/2030-01-01T00")


@pytest.mark.parametrize("path", ["jobs", "jobs/summary", "jobs/search", "job/a", "job/stat/a", "stats/median", "leader"])
def test_20_json_is_on_one_line(api: Api, path: str) -> None:
    api.post("a", description="two\nlines")
    answer = api.ask("GET", f"/v1/scheduler/{path}")
    assert answer.media == "application/json"
    assert b"\n" not in answer.body
    json.loads(answer.body)


def test_21_the_list_has_every_job_in_whatever_order(api: Api) -> None:
    for name in "cab":
        api.post(name, uris=["http://x.test/f"])
    jobs = api.get("/scheduler/jobs")
    assert sorted(job["name"] for job in jobs) == ["a", "b", "c"]
    assert [item["uri"] for item in jobs[0]["fetch"]] == ["http://x.test/f"], "fetch is filled from uris"
