"""Jobs that nobody should post: each is refused by its field or taken, and the scheduler goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chronos.serving import serving

NUMBERS = (True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, -(2**70), 0.1, -0.0, 1e308, 1e-308)
TEXTS = (
    *("", " ", "\0", "x" * 3000, "\ud800", "ü€😀", "../..", "a/b", "a\nb", "-1", "1e309", "NaN", "Infinity"),
    *("P1D", "P99999999999D", "R/", "R1//P", "R9999999999999999999/2026/PT1S", "R5/2026-01-01T00:00:00Z/PT1S", "* * * * *", "0 0 31 2 *"),
    *("@every 1ns", "@every 99999999999h", "R/0000-00-00T00:00:00Z/P1D", "R/9999-12-31T23:59:59Z/P9999Y", "9999-12-31T23:59:59Z"),
)
OBJECTS = (
    *(None, [], [[]], {}, {"": ""}, [None], [1], ["j"], [{"uri": None}], [["a", "LIKE", "("]], [["a", "LIKE", "(" * 900]]),
    *({"image": ""}, {"image": "i", "type": 1}, {"image": "i", "volumes": [{}]}, [{"name": "A"}], [{"name": "=", "value": "x"}]),
    *({"labels": {"": ""}}, {"jitter": "-1s"}, {"timeout": 1e300}, {"calendar": {"include": ["--02-31"]}}, {"priority": 2**70}),
    *({"http": {"url": "http://[::1"}}, {"http": {"url": "http://x", "headers": {"a\r\n": "b"}}}, {"notify": [{"mail": ["a b"]}]}),
    *({"celery": {"task": "t", "args": [{"a": [1] * 50, "b": 2**80}]}}, {"deadline": "P9999Y"}, {"deadline": 1e15, "jitter": 1e15}),
    *({"retry": {"factor": 1e300}}, {"retry": {"delay": 1e15, "factor": 100, "delayMax": 1e15}}, {"unreachableAfter": 1e15}),
)
FIELDS = (
    *("name", "command", "shell", "executor", "taskInfoData", "retries", "owner", "successCount", "lastSuccess", "cpus", "mem", "disk"),
    *("disabled", "softError", "fetch", "uris", "environmentVariables", "arguments", "highPriority", "runAsUser", "concurrent"),
    *("maxCompletionTime", "container", "constraints", "parents", "schedule", "scheduleTimeZone", "epsilon", "async", "meseta"),
)
READS = ("/scheduler/jobs", "/v1/scheduler/jobs/summary", "/v1/meseta/jobs?limit=1000", "/v1/meseta/runs?limit=1000", "/metrics")


@pytest.mark.parametrize("odd", [NUMBERS, TEXTS, OBJECTS], ids=["numbers", "texts", "objects"])
def test_any_job_is_taken_or_refused_and_the_scheduler_goes_on(tmp_path: Path, odd: tuple[Any, ...]) -> None:
    with serving(tmp_path) as api:
        for number, field in enumerate(FIELDS):
            for value in odd:
                job = {"name": f"j{number}", "command": "true", "schedule": "R/2026-01-01T00:00:01Z/PT1M", field: value}
                path = "/scheduler/dependency" if "parents" in job else "/scheduler/iso8601"
                answer = api.ask("POST", path, json.dumps(job).encode())
                assert answer.status in (204, 400), (job, answer)
                if answer.status == 400:
                    assert len(answer.json()["message"]) < 3000, job
                elif isinstance(job["name"], str):
                    assert api.ask("PUT", f"/scheduler/job/{job['name']}").status == 204
            api.wait(0.25)
        api.wait(70)
        api.end()
        for path in READS:
            assert api.ask("GET", path).status == 200
        api.inside(lambda work: work.master.restart())
        assert api.get("/v1/meseta/quarantined") == {"jobs": []}
