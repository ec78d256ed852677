"""The rest of Chronos' endpoints and what holds for all of them: shapes, refusals, credentials, pages of other sites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernel.net.auth import Authenticator, Credential
from kernel.wire.task import TaskState
from tests.chronos.serving import Api, serving

FAR = "R/2030-01-01T00:00:00Z/P1D"


def refused(answer: Any, word: str, status: int = 400) -> None:
    assert answer.status == status, answer.body
    assert word in answer.json()["message"]


class TestJobs:
    def test_a_body_that_is_no_job_is_400_and_leaves_nothing(self, api: Api) -> None:
        for body in (b"", b"[]", b"{", b"\xff", b"null", b'{"command":"x"}', b"[" * 100_000):
            assert api.ask("POST", "/scheduler/iso8601", body).status == 400
        assert api.get("/scheduler/jobs") == []

    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            ({"schedule": "61 * * * *"}, "minute"),
            ({"schedule": "0 0 31 2 *"}, "never"),
            ({"schedule": "R/x/PT1M"}, "schedule"),
            ({"schedule": "R/2026-01-01T00:00:00Z/PT0.001S"}, "frequent"),
            ({"scheduleTimeZone": "Europe/Madird"}, "Europe/Madrid"),
            ({"name": "a b"}, r"([\w\.-]+)"),
            ({"parents": []}, "parent"),
            ({"parents": ["x"]}, "'x'"),
            ({"command": "x" * 200_000}, "120000"),
            ({"meseta": {"overlpa": "skip"}}, "did you mean overlap?"),
            ({"constraints": [["a", "LIEK", "b"]]}, "did you mean LIKE?"),
            ({"uris": ["a"], "fetch": [{"uri": "b"}]}, "only one"),
        ],
    )
    def test_what_makes_no_sense_is_400_in_chronos_shape(self, api: Api, fields: dict[str, Any], word: str) -> None:
        refused(api.post(**{"name": "bad", **fields}), word)
        assert api.get("/scheduler/jobs") == []

    def test_a_cycle_is_shown(self, api: Api) -> None:
        api.post("a")
        api.post("b", parents=["a"])
        api.post("c", parents=["b"])
        refused(api.post("b", parents=["c"]), "b -> c -> b")
        assert api.job("b")["parents"] == ["a"]

    def test_the_wrong_kind_is_400(self, api: Api) -> None:
        api.post("a")
        refused(api.ask("POST", "/scheduler/iso8601", {"name": "b", "parents": ["a"]}), "/dependency")
        refused(api.ask("POST", "/scheduler/dependency", {"name": "b", "schedule": FAR}), "/iso8601")

    def test_neither_schedule_nor_parents_is_once_now(self, api: Api) -> None:
        assert api.ask("POST", "/scheduler/iso8601", {"name": "once", "command": "true"}).status == 204
        api.wait(1)
        assert len(api.tasks) == 1
        assert api.job("once")["schedule"].startswith("R0/")

    def test_a_body_too_large_is_413(self, api: Api) -> None:
        assert api.ask("POST", "/scheduler/iso8601", b" " * (1024 * 1024 + 1)).status == 413

    @pytest.mark.parametrize("query", ["limit=-1", "limit=x", "offset=1e9", "limit=99999999999999999999"])
    def test_a_query_that_is_no_number_is_400(self, api: Api, query: str) -> None:
        refused(api.ask("GET", f"/scheduler/jobs/search?{query}"), query.partition("=")[0])


class TestTasks:
    def test_marking_is_told_in_bare_text_and_fires_children(self, api: Api) -> None:
        api.post("a", schedule=FAR)
        api.post("b", parents=["a"])
        answer = api.ask("PUT", "/v1/scheduler/job/success/a")
        assert (answer.status, answer.body, answer.media) == (200, b"marked job a as successful: true", "application/json")
        unknown = api.ask("PUT", "/v1/scheduler/job/success/x")
        assert (unknown.status, unknown.body) == (200, b"false")
        api.wait(1)
        assert [":b:" in task for task in api.tasks] == [True]
        assert api.job("a")["successCount"] == 1

    def test_killing_all_of_a_job(self, api: Api) -> None:
        api.post()
        api.wait(61)
        api.inside(lambda work: work.master.run_all())
        assert api.ask("DELETE", "/scheduler/task/kill/j").status == 204
        assert [(run["state"], run["reason"]) for run in api.runs()] == [("killed", "killed on request")]

    def test_a_client_says_how_a_task_went(self, api: Api) -> None:
        api.post(retries=0)
        api.wait(61)
        (task_id,) = api.tasks
        api.inside(lambda work: work.master.run_all())
        assert api.ask("PUT", f"/scheduler/task/{task_id.replace(':', '%3A')}", {"statusCode": 0}).status == 204
        assert [(run["state"], run["attempts"][0]["message"]) for run in api.runs()] == [("succeeded", "a client said: success")]
        assert api.ask("PUT", f"/scheduler/task/{task_id}", {"statusCode": 1}).status == 204, "it is over already"
        assert api.runs()[0]["state"] == "succeeded"
        refused(api.ask("PUT", "/scheduler/task/nonsense", {"statusCode": 0}), "taskId")
        refused(api.ask("PUT", f"/scheduler/task/{task_id}", {}), "statusCode")

    def test_clearing_the_queues_ends_what_waits_and_not_what_runs(self, api: Api) -> None:
        api.post()
        api.wait(130)
        assert len(api.tasks) == 1
        assert api.ask("DELETE", "/scheduler/task/all").status == 204
        assert [(run["state"], run["reason"]) for run in api.runs()] == [("killed", "taken out of the queue on request")]
        assert len(api.tasks) == 1

    def test_elements_of_data_jobs(self, api: Api) -> None:
        api.post(dataProcessingJobType=True)
        api.post("plain")
        api.wait(61)
        task_id = next(task for task in api.tasks if ":j:" in task)
        path = f"/v1/scheduler/job/j/task/{task_id.replace(':', '%3A')}/progress"
        assert [api.ask("POST", path, {"numAdditionalElementsProcessed": count}).status for count in (3, 4)] == [204, 204]
        assert api.ask("POST", path, {}).status == 204
        refused(api.ask("POST", path, {"numAdditionalElementsProcessed": -1}), "numAdditional")
        refused(api.ask("POST", path.replace("job/j", "job/plain"), {"numAdditionalElementsProcessed": 1}), "dataProcessingJobType")
        refused(api.ask("POST", "/scheduler/job/j/task/ct:9:0:j:/progress", {"numAdditionalElementsProcessed": 1}), "taskId")
        assert api.get("/scheduler/job/stat/j")["taskStatHistory"][0]["numElementsProcessed"] == 7


class TestStatistics:
    def test_of_one_job_and_of_all(self, api: Api) -> None:
        api.post()
        api.post("idle", schedule=FAR)
        for _ in range(3):
            api.wait(60)
            api.wait(1)
            api.end()
        stat = api.get("/v1/scheduler/job/stat/j")
        assert (stat["histogram"]["count"], set(stat["histogram"])) == (
            3,
            {"75thPercentile", "95thPercentile", "98thPercentile", "99thPercentile", "median", "mean", "count"},
        )
        newest = stat["taskStatHistory"][0]
        assert (newest["status"], newest["jobName"], newest["slaveId"]) == ("Success", "j", "a1")
        assert newest["startTime"][8] == " "
        every = api.get("/scheduler/stats/99thPercentile")
        assert [entry["jobNameLabel"] for entry in every] == ["j", "idle"]
        assert every[1]["time"] == 0.0
        assert api.get("/scheduler/stats/nonsense") == []

    def test_runs_that_never_began_take_no_room_from_tasks(self, api: Api) -> None:
        api.post(meseta={"overlap": "queue", "catchUp": "all"})
        api.wait(61)
        api.end()
        for _ in range(6):  # One begins, the others wait for it.
            api.wait(60)
        assert api.ask("DELETE", "/scheduler/task/all").status == 204
        assert len([run for run in api.runs() if not run["attempts"]]) == 5
        statuses = [task["status"] for task in api.get("/scheduler/job/stat/j")["taskStatHistory"]]
        assert statuses == ["Idle", "Success"]

    def test_graphs(self, api: Api) -> None:
        api.post("a")
        api.post("b", parents=["a"])
        dot = api.ask("GET", "/scheduler/graph/dot")
        assert (dot.media, '  1 [ label="a" ];' in dot.body.decode(), "  1 -> 2;" in dot.body.decode()) == ("text/plain", True, True)
        csv = api.ask("GET", "/v1/scheduler/graph/csv").body.decode().splitlines()
        assert csv == ["node,a,fresh,idle", "node,b,fresh,idle", "link,a,b"]

    def test_ping_leader_and_metrics(self, api: Api) -> None:
        api.post()
        api.wait(61)
        api.end()
        assert (api.ask("GET", "/ping").body, api.get("/leader")) == (b"pong", {"leader": "127.0.0.1:4400"})
        metrics = api.get("/metrics")
        assert metrics["counters"]["jobs.run.success.j"] == {"count": 1}
        assert metrics["histograms"]["jobs.run.time.j"]["count"] == 1
        prometheus = api.ask("GET", "/metrics", Accept="text/plain")
        assert b"meseta_chronos_jobs 1.0" in prometheus.body


class TestOurs:
    def test_pages_with_filters(self, api: Api) -> None:
        for number in range(5):
            api.post(f"n{number}", schedule=FAR, owner="me@x, you@x" if number else "", meseta={"labels": {"team": f"t{number % 2}"}})
        api.post("child", parents=["n0"], disabled=True)

        def names(query: str = "") -> list[str]:
            return [entry["job"]["name"] for entry in api.get(f"/v1/meseta/jobs?{query}")["jobs"]]

        first = api.get("/v1/meseta/jobs?limit=4")
        assert (len(first["jobs"]), first["next"]) == (4, "n2")
        assert names("after=n2") == ["n3", "n4"]
        assert (names("label=team%3Dt1"), names("kind=dependent"), names("state=disabled")) == (["n1", "n3"], ["child"], ["child"])
        assert (len(names("owner=you%40x")), names("name=N4")) == (4, ["n4"])
        for query in ("state=none", "label=x", "limit=0", "kind=odd"):
            refused(api.ask("GET", f"/v1/meseta/jobs?{query}"), query.partition("=")[0])

    def test_next_runs_with_what_clocks_do(self, api: Api) -> None:
        api.post(schedule="30 2 * * *", scheduleTimeZone="Europe/Madrid", meseta={"start": "2026-03-28"})
        runs = api.get("/v1/meseta/jobs/j/next?n=2")["runs"]
        assert [bool(run["note"]) for run in runs] == [False, True]
        api.post(schedule="30 2 * * *", scheduleTimeZone="Europe/Madrid", meseta={"start": "2026-03-28T03:00:00", "dst": "skip"})
        runs = api.get("/v1/meseta/jobs/j/next?n=2")["runs"]
        assert [run["note"] for run in runs] == ["2026-03-29 02:30 Europe/Madrid does not exist and is skipped", ""]

    def test_running_backfilling_and_running_again(self, api: Api) -> None:
        api.post(schedule="R/2026-01-01T00:00:00Z/PT1H", meseta={"overlap": "allow"}, disabled=True)
        made = api.ask("POST", "/v1/meseta/jobs/j/backfill", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T03:00:00Z"}).json()["runs"]
        assert len(made) == 3
        api.wait(1)
        api.end()
        assert len(api.runs()) == 3
        run = api.runs()[0]
        again = api.ask("POST", f"/v1/meseta/runs/{run['id']}/again", {}).json()["run"]
        assert [live["id"] for live in api.get("/v1/meseta/live?job=j")["runs"]] == [again]
        assert api.ask("DELETE", f"/v1/meseta/runs/{again}").status == 204
        for body in ({"from": "x", "to": 1}, {"from": 5, "to": 1}, {}, {"from": 0, "to": 1, "more": 1}):
            assert api.ask("POST", "/v1/meseta/jobs/j/backfill", body).status == 400
        refused(api.ask("POST", "/v1/meseta/jobs/j/run", {"argumens": "x"}), "argumens: unknown field; did you mean arguments?")

    def test_pausing_one_some_and_all(self, api: Api) -> None:
        api.post(meseta={"labels": {"team": "a"}})
        for path, body, shown in (
            ("pause", {"label": "team=a"}, "team=a"),
            ("jobs/j/pause", None, "the job is paused"),
            ("pause", None, "all jobs"),
        ):
            assert api.ask("POST", f"/v1/meseta/{path}", body).status == 204
            assert shown in api.get("/v1/meseta/jobs/j")["paused"]
        assert api.get("/v1/meseta/pauses") == {"everything": True, "jobs": ["j"], "labels": ["team=a"]}
        api.wait(61)
        assert [(run["state"], run["reason"]) for run in api.runs()] == [("skipped", "all jobs are paused")]
        for path, body in (("resume", None), ("resume", {"label": "team=a"}), ("jobs/j/resume", None)):
            api.ask("POST", f"/v1/meseta/{path}", body)
        assert api.get("/v1/meseta/jobs/j")["paused"] == ""

    def test_enabling_and_disabling(self, api: Api) -> None:
        api.post()
        assert api.ask("POST", "/v1/meseta/jobs/j/disable").status == 204
        assert (api.job()["disabled"], api.get("/v1/meseta/jobs/j")["next"]) == (True, None)
        api.ask("POST", "/v1/meseta/jobs/j/enable")
        assert not api.job()["disabled"]

    def test_calendars(self, api: Api) -> None:
        assert api.ask("PUT", "/v1/meseta/calendars/work", {"exclude": ["sat", "sun"]}).status == 204
        assert api.post(meseta={"calendar": "work"}).status == 204
        refused(api.ask("DELETE", "/v1/meseta/calendars/work"), "needed by job j")
        refused(api.ask("PUT", "/v1/meseta/calendars/odd", {"exclude": ["someday"]}), "someday")
        assert set(api.get("/v1/meseta/calendars")["calendars"]) == {"work"}

    def test_why_a_run_waits(self, api: Api) -> None:
        api.post(cpus=1000)
        api.wait(62)
        (live,) = api.get("/v1/meseta/live")["runs"]
        why = api.get(f"/v1/meseta/runs/{live['id']}/why")
        assert (why["state"], len(why["reasons"])) == ("launching", 1)
        assert "cpus" in why["reasons"][0]
        assert why["demand"] == {
            "frameworkId": api.inside(lambda work: work.core.framework_id),
            "name": "jobs that need cpus 1000, mem 128, disk 256",
        }

    def test_why_a_run_waits_that_needs_nothing_of_the_master(self, api: Api) -> None:
        api.post(meseta={"jitter": "1h"})
        api.wait(62)
        (live,) = api.get("/v1/meseta/live")["runs"]
        why = api.get(f"/v1/meseta/runs/{live['id']}/why")
        assert (why["state"], why["demand"]) == ("waiting", None)
        assert why["reasons"][0].startswith("it is due at 2026-01-01T00:")

    def test_export(self, api: Api) -> None:
        api.post()
        for _ in range(3):
            api.wait(61)
            api.end()
        lines = api.ask("GET", "/v1/meseta/export?job=j").body.splitlines()
        assert [json.loads(line)["state"] for line in lines] == ["succeeded"] * 3
        table = api.ask("GET", "/v1/meseta/export?format=csv&state=succeeded").body.decode().splitlines()
        assert (table[0].split(",")[:3], len(table)) == (["id", "job", "slot"], 4)
        refused(api.ask("GET", "/v1/meseta/export?format=xml"), "format")

    @pytest.mark.parametrize("act", ["ID/again", "ID/output", "backfill", "disable", "PUT ID"])
    def test_help_tells_what_is_below_a_path(self, api: Api, act: str) -> None:
        assert act in api.ask("GET", "/help?format=json").body.decode()

    def test_what_is_not_there(self, api: Api) -> None:
        for method, path in (("GET", "runs/none"), ("GET", "jobs/none"), ("POST", "jobs/none/run"), ("GET", "calendars/none")):
            assert api.ask(method, f"/v1/meseta/{path}").status == 400
        api.post()
        for method, path in (("GET", "jobs/j/nonsense"), ("PUT", "jobs/j"), ("POST", "runs")):
            assert api.ask(method, f"/v1/meseta/{path}").status in (404, 405)


class TestEverybody:
    def test_whoever_calls_must_show_who_he_is(self, tmp_path: Path) -> None:
        known = Credential("me", "secret")
        with serving(tmp_path, Authenticator([known], ["chronos"])) as api:
            assert api.ask("GET", "/scheduler/jobs").status == 401
            assert api.ask("GET", "/v1/meseta/jobs").status == 401
            assert api.ask("GET", "/ping").status == api.ask("GET", "/health").status == 200
            answer = api.ask("GET", "/scheduler/jobs", Authorization=known.header())
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")

    def test_pages_of_other_sites_do_not_read_where_nobody_is_asked(self, api: Api, tmp_path: Path) -> None:
        assert api.ask("GET", "/scheduler/jobs").headers["access-control-allow-origin"] == "*"
        for number in range(4):
            api.post(f"large{number}", command="x" * 100_000)
        for path in ("/scheduler/jobs", "/scheduler/job/none", "/v1/meseta/export", "/scheduler/graph/dot"):
            assert api.ask("GET", path).headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-origin" not in api.ask("GET", path, Origin="http://evil.test").headers
        assert api.ask("PUT", "/scheduler/job/x", Origin="http://evil.test").status == 403
        assert api.ask("GET", "/scheduler/jobs", Host="evil.test").status == 403
        (tmp_path / "other").mkdir()
        with serving(tmp_path / "other", cors=True) as open_one:
            assert open_one.ask("GET", "/scheduler/jobs", Origin="http://any.test").headers["access-control-allow-origin"] == "*"

    @pytest.mark.parametrize("path", ["/scheduler", "/scheduler/jobs/none", "/v1/meseta", "/v2/apps", "/scheduler/job/../../etc"])
    def test_nothing_is_served_elsewhere(self, api: Api, path: str) -> None:
        assert api.ask("GET", path).status in (400, 404)

    def test_wrong_methods_are_405(self, api: Api) -> None:
        assert api.ask("DELETE", "/scheduler/jobs").status == 405
        assert api.ask("GET", "/scheduler/iso8601").status == 405

    def test_names_that_are_hostile(self, api: Api) -> None:
        for name in ("%00", "..", "%2e%2e%2f", "a%0ab", "%ff", "x" * 5000):
            assert 400 <= api.ask("GET", f"/scheduler/job/{name}").status < 500
            assert 400 <= api.ask("DELETE", f"/scheduler/job/{name}").status < 500


def test_a_run_that_failed_says_how(api: Api) -> None:
    api.post(retries=0)
    api.wait(61)
    api.end(TaskState.TASK_FAILED)
    (run,) = api.runs()
    assert (run["state"], run["lateMs"] < 2000, run["attempts"][0]["taskId"]) == ("failed", True, f"ct:{run['slot']}:0:j:")
