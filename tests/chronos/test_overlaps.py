"""Runs of one job at the same time: who happens, who waits, who does not."""

from __future__ import annotations

import msgspec
import pytest

from chronos.gates import Gate
from chronos.job import job_of
from chronos.overlaps import overlap_of, refusal, ticket_of
from chronos.run import Cause, Run, RunState

RUN = Run("j@2", "j", 2, Cause.SCHEDULE, RunState.WAITING, 2, 2, priority=5)
OTHER = msgspec.structs.replace(RUN, run_id="j@1", state=RunState.QUEUED)


@pytest.mark.parametrize(
    ("fields", "overlap"),
    [({}, "queue"), ({"concurrent": True}, "allow"), ({"concurrent": True, "meseta": {"overlap": "replace"}}, "replace")],
)
def test_what_is_not_said_is_as_in_chronos(fields: dict[str, object], overlap: str) -> None:
    assert overlap_of(job_of({"name": "j", "schedule": "@daily", **fields})) == overlap


@pytest.mark.parametrize(
    ("more", "cause", "waits", "reason"),
    [
        ({"overlap": "skip"}, Cause.SCHEDULE, False, "j@0 was still running (overlap: skip)"),
        ({}, Cause.MANUAL, False, "j@0 was still running (overlap: not said)"),
        ({"overlap": "queue"}, Cause.MANUAL, False, ""),
        ({}, Cause.SCHEDULE, False, ""),
        ({}, Cause.SCHEDULE, True, "j@1 waits already for j@0 to end (overlap: queue)"),
        ({"catchUp": "all"}, Cause.SCHEDULE, True, ""),
        ({"overlap": "allow"}, Cause.SCHEDULE, True, ""),
        ({"overlap": "replace"}, Cause.SCHEDULE, True, ""),
    ],
)
def test_beside_others_by_what_the_job_says(more: dict[str, str], cause: Cause, waits: bool, reason: str) -> None:
    said = job_of({"name": "j", "schedule": "@daily", "meseta": more})
    run = msgspec.structs.replace(RUN, cause=cause)
    assert refusal(said, run, ["j@0"], [OTHER] if waits else []) == reason
    assert refusal(said, run, [], [OTHER]) == ""


def test_gates_are_the_job_s_own_and_those_that_an_operator_limits() -> None:
    limits = {Gate("owner", "ops"): 3, Gate("label", "team=a"): 2, Gate("label", "team=b"): 1}
    said = job_of({"name": "j", "schedule": "@daily", "owner": "ops", "meseta": {"labels": {"team": "a"}}})
    assert dict(ticket_of(RUN, said, limits).gates) == {Gate("job", "j"): 1, Gate("owner", "ops"): 3, Gate("label", "team=a"): 2}
    many = job_of({"name": "j", "schedule": "@daily", "meseta": {"overlap": "allow", "maxRunning": 4}})
    assert ticket_of(RUN, many, {}).gates == ((Gate("job", "j"), 4),)
    assert ticket_of(RUN, None, limits).gates == ()
