"""Job objects: what Chronos' clients send and expect back, and what Meseta adds."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

import pytest
from msgspec import UNSET

from chronos.extension import Retry
from chronos.job import Defaults, cross_filled, job_of, kept_job, read_job, stored_job, unknown, write_job
from chronos.schedule import Calendar, next_runs, show_time
from chronos.schedule.zones import UTC_ZONE
from chronos.validation import Limits, check_job, check_new_job, run_once, schedule_of
from kernel.errors import CallError

NOW = 1_790_000_000_000

# The example of spec: chronos-v1, 3, and others in the form of Chronos' documentation.
NIGHTLY: dict[str, Any] = {
    "name": "nightly.report",
    "command": "python3 report.py --day yesterday",
    "schedule": "R/2026-01-05T02:30:00.000Z/P1D",
    "scheduleTimeZone": "Europe/Madrid",
    "owner": "ops@example.org",
    "retries": 1,
    "cpus": 0.2,
    "mem": 256,
    "disk": 64,
    "environmentVariables": [{"name": "STAGE", "value": "prod"}],
    "fetch": [{"uri": "http://files.example.org/report.tgz"}],
    "constraints": [["rack", "LIKE", "r[12]"]],
}
DEPENDENT: dict[str, Any] = {
    "name": "after_nightly",
    "command": "./publish.sh",
    "parents": ["nightly.report", "imports"],
    "async": False,
    "epsilon": "PT30M",
    "executor": "",
    "softError": True,
    "highPriority": True,
}
CONTAINER: dict[str, Any] = {
    "name": "dockerjob",
    "command": "while sleep 10; do date -u +%T; done",
    "schedule": "R/2014-09-25T17:22:00Z/PT2M",
    "container": {
        "type": "DOCKER",
        "image": "libmesos/ubuntu",
        "network": "BRIDGE",
        "forcePullImage": True,
        "volumes": [
            {"containerPath": "/var/log/", "hostPath": "/logs/", "mode": "RW"},
            {"containerPath": "/data", "external": {"name": "v", "provider": "rexray", "options": [{"key": "k", "value": "w"}]}},
        ],
        "parameters": [{"key": "cap-add", "value": "NET_ADMIN"}],
        "networkInfos": [
            {
                "name": "n",
                "labels": [{"key": "a", "value": "b"}],
                "portMappings": [{"hostPort": "80", "containerPort": "8080", "protocol": "tcp"}],
            }
        ],
    },
}
ARGUMENTS: dict[str, Any] = {
    "name": "argv",
    "command": "/usr/bin/printf",
    "shell": False,
    "arguments": ["printf", "%s", "hello"],
    "schedule": "R5/2026-01-05T00:00:00Z/PT1H",
    "runAsUser": "nobody",
    "uris": ["http://files.example.org/a", "http://files.example.org/b"],
    "maxCompletionTime": 600,
    "dataProcessingJobType": True,
    "description": "prints",
    "ownerName": "Ops",
}
EXAMPLES = [NIGHTLY, DEPENDENT, CONTAINER, ARGUMENTS]

# fmt: off
KEYS = [
    "name", "command", "shell", "executor", "executorFlags", "taskInfoData", "retries", "owner",
    "ownerName", "description", "successCount", "errorCount", "lastSuccess", "lastError", "cpus", "disk",
    "mem", "disabled", "softError", "dataProcessingJobType", "errorsSinceLastSuccess", "fetch", "uris", "environmentVariables",
    "arguments", "highPriority", "runAsUser", "concurrent", "maxCompletionTime",
]
# fmt: on


def read(fields: dict[str, Any]) -> Any:
    return read_job(json.dumps(fields).encode())


def written(fields: dict[str, Any]) -> dict[str, Any]:
    answer = json.loads(write_job(read(fields)))
    assert isinstance(answer, dict)
    return answer


def contains(answer: Any, sent: Any) -> bool:
    """Whether all that was sent is in the answer, unchanged."""
    if isinstance(sent, dict):
        return all(name in answer and contains(answer[name], part) for name, part in sent.items())
    if isinstance(sent, list):
        return len(answer) == len(sent) and all(map(contains, answer, sent))
    return bool(answer == sent)


# ---- What comes back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", EXAMPLES, ids=lambda fields: fields["name"])
def test_what_was_submitted_comes_back_unchanged_on_one_line(fields: dict[str, Any]) -> None:
    job = read(fields)
    check_job(job)
    assert contains(written(fields), fields)
    assert b"\n" not in write_job(job)
    assert stored_job(write_job(job)) == stored_job(kept_job(job)) == job


def test_a_store_gets_what_a_job_has_of_its_own() -> None:
    job = read({"name": "a", "command": "true", "schedule": "@daily", "cpus": 1, "mem": 64, "disk": 8})
    assert kept_job(job) == (
        b'{"name":"a","command":"true","cpus":1.0,"disk":8.0,"mem":64.0,"runAsUser":"root","schedule":"@daily","scheduleTimeZone":""}'
    )


def test_fields_are_in_the_order_of_chronos_and_all_there() -> None:
    assert list(written({"name": "a", "schedule": "@daily"})) == [*KEYS, "constraints", "schedule", "scheduleTimeZone"]
    assert list(written({"name": "a", "parents": ["b"]})) == [*KEYS, "constraints", "parents"]
    assert list(written(CONTAINER)) == [*KEYS, "container", "constraints", "schedule", "scheduleTimeZone"]


def test_defaults_are_those_of_chronos_or_of_the_scheduler() -> None:
    job = written({"name": "a", "schedule": "@daily"})
    assert (job["cpus"], job["mem"], job["disk"], job["retries"], job["runAsUser"], job["shell"]) == (0.1, 128.0, 256.0, 2, "root", True)
    assert (job["lastSuccess"], job["lastError"], job["successCount"], job["maxCompletionTime"]) == ("", "", 0, 0)
    other = read_job(b'{"name":"a","cpus":0,"mem":null,"parents":["b"]}', Defaults(cpus=0.5, mem=64, disk=10, user="meseta"))
    assert (other.cpus, other.mem, other.disk, other.run_as_user) == (0.5, 64, 10, "meseta")


def test_null_is_absent_and_numbers_may_be_text() -> None:
    job = read(
        {
            "name": "a",
            "schedule": "@daily",
            "retries": "3",
            "cpus": "0.5",
            "shell": None,
            "parents": None,
            "concurrent": "true",
            "container": None,
        }
    )
    assert (job.retries, job.cpus, job.shell, job.dependent, job.concurrent, job.container) == (3, 0.5, True, False, True, UNSET)


def test_unknown_fields_are_ignored_and_known_to_who_asks() -> None:
    fields = {**NIGHTLY, "comment": "x", "container": {"image": "i", "net": "HOST"}, "zzz": 1}
    assert read(fields).command == NIGHTLY["command"]
    assert list(unknown(fields)) == [("comment", "; did you mean command?"), ("container.net", "; did you mean network?"), ("zzz", "")]


@pytest.mark.parametrize(("name", "meant"), [("comand", "command"), ("scheduleTimezone", "scheduleTimeZone"), ("uri", "uris")])
def test_a_misspelt_field_is_refused(name: str, meant: str) -> None:
    with pytest.raises(CallError, match=f"^{name}: unknown field; did you mean {meant}\\?$"):
        read({**NIGHTLY, "zzz": 1, name: "x"})


@pytest.mark.parametrize(
    ("part", "path", "meant"),
    [
        ({"container": {"imag": "i"}}, "container.imag", "image"),
        ({"container": {"image": "i", "forcePull": 1, "forcePullImag": True}}, "container.forcePullImag", "forcePullImage"),
        (
            {"container": {"image": "i", "volumes": [{"containerPath": "/x", "hostpath": "/y"}]}},
            "container.volumes[0].hostpath",
            "hostPath",
        ),
        ({"fetch": [{"uri": "http://x", "outputFile": "y"}]}, "fetch[0].outputFile", "output_file"),
    ],
)
def test_a_misspelt_field_of_a_part_is_refused(part: dict[str, Any], path: str, meant: str) -> None:
    with pytest.raises(CallError, match=f"^{re.escape(path)}: unknown field; did you mean {meant}\\?$"):
        read({"name": "a", "command": "x", **part})
    assert read({"name": "a", "command": "x", "fetch": [{"uri": "http://x", "output": "y"}]}).fetch[0].uri == "http://x"


@pytest.mark.parametrize(
    ("name", "meant"), [("schedul", "schedule"), ("Schedule", "schedule"), ("parent", "parents"), ("sched", "schedule")]
)
def test_a_misspelt_schedule_does_not_make_a_job_that_runs_at_once(name: str, meant: str) -> None:
    with pytest.raises(CallError, match=f"^{name}: unknown field; did you mean {meant}\\?$"):
        read({"name": "a", "command": "x", name: "@daily"})
    assert read({"name": "a", "command": "x", "more": 1}).schedule is UNSET


def test_parents_win_over_a_schedule() -> None:
    job = written({"name": "a", "parents": ["b"], "schedule": "@daily", "scheduleTimeZone": "UTC"})
    assert job["parents"] == ["b"]
    assert "schedule" not in job
    assert "scheduleTimeZone" not in job


def test_a_container_without_image_is_none() -> None:
    assert "container" not in written({"name": "a", "container": {"type": "DOCKER", "network": "NONE"}})


def test_ports_are_text_and_constraints_may_hold_numbers() -> None:
    info = {"name": "n", "portMappings": [{"hostPort": 80, "containerPort": 8080}]}
    job = written({"name": "a", "container": {"image": "i", "networkInfos": [info]}, "constraints": [["rack", "EQUALS", 3]]})
    assert job["container"]["networkInfos"][0]["portMappings"] == [{"hostPort": "80", "containerPort": "8080"}]
    assert job["constraints"] == [["rack", "EQUALS", "3"]]


def test_fetch_extracts_by_default_and_has_an_output_file() -> None:
    assert written(NIGHTLY)["fetch"] == [
        {"uri": "http://files.example.org/report.tgz", "executable": False, "cache": False, "extract": True}
    ]
    job = written({"name": "a", "fetch": [{"uri": "u", "output_file": "o"}]})
    assert job["fetch"][0]["output_file"] == "o"


def test_the_list_fills_uris_and_fetch_from_each_other() -> None:
    assert cross_filled(read(NIGHTLY)).uris == ("http://files.example.org/report.tgz",)
    assert [item.uri for item in cross_filled(read(ARGUMENTS)).fetch] == ARGUMENTS["uris"]
    assert cross_filled(read(DEPENDENT)) == read(DEPENDENT)


def test_a_job_with_neither_schedule_nor_parents_runs_once_now() -> None:
    job = run_once(read({"name": "a", "command": "x", "concurrent": True}), NOW)
    assert job.schedule == "R1/2026-09-21T14:13:20.000Z/PT24H"
    assert job.concurrent
    assert next_runs(schedule_of(job, NOW), NOW - 1, 5) == [NOW]


# ---- The extension --------------------------------------------------------------------------------------

EXTENDED: dict[str, Any] = {
    "name": "extended",
    "command": "true",
    "schedule": "0 3 * * *",
    "scheduleTimeZone": "Europe/Berlin",
    "meseta": {
        "overlap": "skip",
        "catchUp": "all",
        "catchUpDeadline": "2h",
        "retry": {"delay": 10, "factor": 2.0, "delayMax": "5m", "jitter": 0.2},
        "timeout": "PT30M",
        "labels": {"team": "data"},
        "calendar": {"exclude": ["sat-sun"]},
        "start": "2026-09-26",
        "end": "2026-09-29",
        "jitter": "5m",
        "notify": [{"when": ["failure"], "mail": ["ops@example.org"]}],
        "deadline": 3600.0,
    },
}


def test_what_meseta_adds_comes_back_too() -> None:
    check_job(read(EXTENDED))
    assert contains(written(EXTENDED), EXTENDED)
    assert stored_job(write_job(read(EXTENDED))) == stored_job(kept_job(read(EXTENDED))) == read(EXTENDED)
    assert "meseta" not in written(NIGHTLY)


def test_start_end_and_calendar_are_part_of_the_schedule() -> None:
    runs = next_runs(schedule_of(read(EXTENDED), NOW), NOW, 9)
    assert [show_time(at, UTC_ZONE)[:16] for at in runs] == ["2026-09-28T01:00", "2026-09-29T01:00"]


def test_a_calendar_may_be_named() -> None:
    job = read({"name": "a", "schedule": "@daily", "meseta": {"calendar": "holidays"}})
    runs = next_runs(schedule_of(job, NOW, {"holidays": Calendar(exclude=("2026-09-22",))}), NOW, 1)
    assert show_time(runs[0], UTC_ZONE)[:10] == "2026-09-23"
    with pytest.raises(CallError, match="there is no calendar 'holidays'; did you mean holiday"):
        schedule_of(job, NOW, {"holiday": Calendar()})


def test_a_celery_task_keeps_its_arguments_as_they_are() -> None:
    fields = {
        "name": "a",
        "schedule": "@daily",
        "retries": "2",
        "meseta": {"celery": {"task": "app.add", "args": [1, None, "3"], "kwargs": {"x": None}}},
    }
    job = read(fields)
    assert job.meseta.celery.args == (1, None, "3")
    assert job.meseta.celery.kwargs == {"x": None}
    check_job(job)


def test_null_in_the_extension_is_absent() -> None:
    assert read({"name": "a", "meseta": {"retry": {"delay": None}, "timeout": None}}).meseta.retry == Retry()


@pytest.mark.parametrize(
    ("extension", "said"),
    [
        ({"overlp": "skip"}, "meseta.overlp: unknown field; did you mean overlap?"),
        ({"retry": {"delai": 1}}, "meseta.retry.delai: unknown field; did you mean delay?"),
        ({"notify": [{"mail": ["a@b"]}, {"chta": "x"}]}, "meseta.notify[1].chta: unknown field; did you mean chat?"),
        ({"calendar": {"exlude": []}}, "meseta.calendar.exlude: unknown field; did you mean exclude?"),
        ({"overlap": "sometimes"}, "meseta.overlap: 'sometimes' is not allowed: (nothing), allow, skip, queue, replace are"),
        ({"catchUp": "lates"}, "meseta.catchUp: 'lates' is not allowed: none, latest, all are; did you mean latest?"),
        ({"join": "most"}, "meseta.join: 'most' is not allowed: all, any, onFailure, onCompletion are"),
        ({"dst": "twice"}, "meseta.dst: 'twice' is not allowed: next, skip are"),
        ({"timeout": "soon"}, "meseta.timeout: 'soon' is no duration"),
        ({"priority": 5000}, "meseta.priority: 5000 is not allowed: -1000 to 1000 are"),
        ({"priority": "high"}, "meseta.priority: expected an integer, got a string"),
        ({"labels": {"a": "x", "team.b": 5}}, "meseta.labels.team.b: expected a string, got an integer"),
        ({"http": {"url": "http://x/", "headers": {"A": True}}}, "meseta.http.headers.A: expected a string, got true or false"),
        ({"labels": ["a"]}, "meseta.labels: expected an object, got a list"),
        ({"retry": {"factor": 0.5}}, "meseta.retry.factor: 0.5 is not allowed"),
        ({"http": {"url": "ftp://x"}}, "meseta.http.url: a URL of http or https is due"),
        ({"http": {"url": "http://x/", "method": "get"}}, "meseta.http.method: 'get' is not allowed"),
        ({"http": {"url": "http://x/", "expect": ["2xx"]}}, "meseta.http.expect[0]: '2xx' is no status"),
        ({"http": {"url": "http://x/", "headers": {"A": "b\r\nC: d"}}}, "meseta.http.headers: 'A' is no header of one line"),
        ({"http": {"url": "http://x/"}, "celery": {"task": "t"}}, "has both of the latter"),
        ({"celery": {}}, "meseta.celery.task: required, but missing"),
        ({"notify": [{"when": ["failure"]}]}, "meseta.notify[0]: exactly one of mail, chat and url is allowed"),
        ({"notify": [{"when": ["doom"], "mail": ["a@b"]}]}, "meseta.notify[0].when: 'doom' is not allowed"),
        ({"calendar": {"exclude": ["someday"]}}, "meseta.calendar.exclude[0]: 'someday' is no day"),
        ([], "meseta: expected an object, got a list"),
    ],
)
def test_what_is_wrong_in_the_extension_is_named(extension: Any, said: str) -> None:
    with pytest.raises(CallError) as raised:
        read({"name": "a", "schedule": "@daily", "meseta": extension})
    assert said in str(raised.value)


# ---- What is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "with space"}, "name: the name 'with space' is invalid: it must match ([\\w\\.-]+)"),
        ({"name": "naïve"}, "is invalid"),
        ({"name": ""}, "is invalid"),
        ({"name": ".."}, "is invalid"),
        ({"name": "x" * 201}, "is invalid"),
        ({"command": "x" * 120_001}, "command: with its arguments it has 120001 bytes: at most 120000 are allowed"),
        ({"command": "a\0b"}, "command: a byte of zero is not allowed"),
        ({"cpus": -1}, "cpus: must be a number from 0"),
        ({"retries": -1}, "retries: -1 is not allowed: 0 to 1000 are"),
        ({"maxCompletionTime": -5}, "maxCompletionTime: -5 is not allowed"),
        ({"constraints": [["rack", "CLUSTER", "a"]]}, "constraints[0]: 'CLUSTER' is not allowed: EQUALS, LIKE, UNLIKE are"),
        ({"constraints": [["rack", "LIKE", "r["]]}, "constraints[0]: 'r[' is no regular expression"),
        ({"constraints": [["rack", "LIKE", "(?=r)"]]}, "constraints[0]: '(?=r)' is no regular expression of RE2"),
        ({"constraints": [["rack", "UNLIKE", "x{900}"]]}, "constraints[0]: 'x{900}' is no regular expression of RE2"),
        ({"container": {"image": "i", "type": "LXC"}}, "container.type: 'LXC' is not allowed: DOCKER, MESOS are"),
        ({"container": {"image": "i", "network": "host"}}, "container.network: 'host' is not allowed: HOST, BRIDGE, USER are"),
        ({"container": {"image": "i", "volumes": [{"containerPath": "/a", "mode": "R"}]}}, "container.volumes[0].mode: 'R' is not allowed"),
        ({"environmentVariables": [{"name": "A=B", "value": ""}]}, "environmentVariables[0]: 'A=B' is no name of a variable"),
        ({"parents": []}, "parents: a dependent job has at least one parent"),
        ({"parents": ["b", "b"]}, "parents: one is named twice"),
        ({"epsilon": "often"}, "epsilon: 'often' is no duration"),
        ({"command": "", "shell": False}, "command: without a shell (shell: false) the name of a program is due"),
        ({"command": "", "shell": False, "arguments": ["x"]}, "command: without a shell"),
        ({"command": "x", "meseta": {"http": {"url": "http://x/"}}}, "command: a job with meseta.celery or meseta.http has neither"),
    ],
)
def test_what_makes_no_sense_is_named(fields: dict[str, Any], said: str) -> None:
    job = read({"name": "a", "schedule": "@daily", **fields})
    with pytest.raises(CallError) as raised:
        check_job(job)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "the body is not valid JSON"),
        (b"[]", "a job is an object with a name"),
        (b"{}", "name: required, but missing"),
        (b'{"name":5e99999}', "not valid JSON"),
        (b'{"name":"a","retries":"many"}', "retries: expected an integer, got a string"),
        (b'{"name":"a","constraints":[["a","EQUALS"]]}', "constraints[0]: expected a list of length 3"),
        (b'{"name":"a","environmentVariables":{"A":"b"}}', 'environmentVariables: a list of {"name"'),
        (b'{"name":"a","container":{"image":"i","volumes":[{}]}}', "container.volumes[0].containerPath: required, but missing"),
        (b"[" * 100_000, ""),
    ],
)
def test_what_is_no_job_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(CallError) as raised:
        read_job(body)
    assert said in str(raised.value)


def test_a_new_job_starts_after_the_beginning_of_time() -> None:
    for start in ("1970-01-01T00:00:00Z", "1969-07-20T20:17:00Z", "1970-01-01T01:00:00+02:00"):
        with pytest.raises(CallError, match="is before 1970-01-01T00:00:01Z"):
            check_new_job(read({"name": "a", "schedule": f"R/{start}/P1D"}))
    for schedule in ("R/1970-01-01T00:00:01Z/P1D", "R//P1D", "@daily", "0 0 * * *"):
        check_new_job(read({"name": "a", "schedule": schedule}))


def test_a_new_job_has_uris_or_fetch_but_what_the_list_shows_may_come_back() -> None:
    with pytest.raises(CallError, match="fetch: only one of uris and fetch is allowed"):
        check_new_job(read({"name": "a", "uris": ["u"], "fetch": [{"uri": "v"}]}))
    for fields in EXAMPLES:
        check_new_job(cross_filled(read(fields)))


def test_the_limits_are_the_operators() -> None:
    job = read({"name": "a", "command": "12345", "schedule": "* * * * *"})
    with pytest.raises(CallError, match="at most 4 are allowed"):
        check_job(job, Limits(command_bytes_max=4))
    with pytest.raises(CallError, match="too frequent"):
        schedule_of(job, NOW, limits=Limits(interval_ms_min=120_000))


def test_an_object_read_from_yaml_or_toml_may_hold_dates() -> None:
    job = job_of({"name": "a", "schedule": "@daily", "meseta": {"start": date(2026, 1, 1)}})
    assert job.more.start == "2026-01-01"


def test_what_cannot_be_json_is_refused() -> None:
    with pytest.raises(CallError, match="cannot be written as JSON"):
        job_of({"name": object()})
