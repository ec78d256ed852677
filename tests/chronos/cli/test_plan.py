"""What `meseta cron apply` would do, from what files say and what there is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chronos.cli.plan import Plan, plan
from chronos.importers.folder import read_folder
from chronos.job import Job, job_of, write_job
from kernel.errors import CallError


def said(*jobs: dict[str, Any]) -> tuple[Job, ...]:
    read = read_folder({"jobs.json": msgspec.json.encode(list(jobs)).decode()})
    assert not read.notes
    return read.jobs


def there(**fields: Any) -> dict[str, Any]:
    """A job as a scheduler shows it."""
    shown: dict[str, Any] = msgspec.json.decode(write_job(job_of({"command": "true", **fields})))
    return shown


def steps(found: Plan) -> list[str]:
    return [f"{step.verb} {step.name}" for step in found.steps]


HOURLY = {"name": "a", "command": "true", "schedule": "0 * * * *"}


def test_what_is_there_already_stays_with_what_the_scheduler_added() -> None:
    known = there(name="a", schedule="0 * * * *", cpus=0.7, runAsUser="cron", successCount=7, lastSuccess="2026-01-01T00:00:00.000Z")
    found = plan(said(HOURLY), [known], prune=False)
    assert (found.steps, found.unchanged) == ((), 1)


def test_parents_are_made_before_those_that_run_after_them() -> None:
    after = {"name": "0-first-by-name", "command": "true", "parents": ["z"]}
    assert steps(plan(said(after, {**HOURLY, "name": "z"}), [], prune=False)) == ["create z", "create 0-first-by-name"]


def test_a_change_names_its_fields_and_keeps_the_counters() -> None:
    known = there(name="a", schedule="0 * * * *", successCount=7, errorCount=1, disabled=True)
    (step,) = plan(said({**HOURLY, "command": "false", "meseta": {"overlap": "skip"}}), [known], prune=False).steps
    assert [(part.field, part.before, part.after) for part in step.differences] == [
        ("command", "true", "false"),
        ("meseta.overlap", None, "skip"),
    ]
    assert step.job is not None
    assert (step.job.success_count, step.job.error_count, step.job.disabled) == (7, 1, True)


def test_a_new_job_shows_what_it_says_beside_the_defaults_also_a_zero() -> None:
    (step,) = plan(said({**HOURLY, "retries": 0, "concurrent": True}), [], prune=False).steps
    assert {(part.field, part.before, part.after) for part in step.differences} == {
        ("command", None, "true"),
        ("schedule", None, "0 * * * *"),
        ("retries", None, 0),
        ("concurrent", None, True),
    }


def test_a_switch_and_a_number_change_from_and_to_what_they_are() -> None:
    known = there(name="a", schedule="0 * * * *", retries=0)
    (step,) = plan(said({**HOURLY, "concurrent": True}), [known], prune=False).steps
    assert [(part.field, part.before, part.after) for part in step.differences] == [("retries", 0, 2), ("concurrent", False, True)]


def test_others_stay_unless_they_are_pruned_and_children_go_first() -> None:
    known = [there(name="b", schedule="@daily"), there(name="c", parents=["b"]), there(name="a", schedule="0 * * * *")]
    assert plan(said(HOURLY), known, prune=False).others == ("b", "c")
    assert steps(plan(said(HOURLY), known, prune=True)) == ["remove c", "remove b"]


@pytest.mark.parametrize(
    ("file", "shown", "same"),
    [
        ("R5/2026-01-01T00:00:00Z/PT1H", "R3/2026-01-01T02:00:00.000Z/PT1H", True),
        ("R5/2026-01-01T00:00:00Z/PT1H", "R6/2026-01-01T02:00:00.000Z/PT1H", False),
        ("R5/2026-01-01T00:00:00Z/PT1H", "R3/2026-01-01T02:30:00.000Z/PT1H", False),
        ("R5/2026-01-01T00:00:00Z/PT1H", "R3/2026-01-01T02:00:00.000Z/PT2H", False),
        ("R/2026-01-01T00:00:00Z/PT1H", "R3/2026-01-01T02:00:00.000Z/PT1H", False),
        ("R//PT1H", "R/2026-01-01T02:34:56.789Z/PT1H", True),
        ("0 * * * *", "R/2026-01-01T02:00:00.000Z/PT1H", False),
    ],
)
def test_a_schedule_that_has_moved_on_is_still_the_same(file: str, shown: str, same: bool) -> None:
    found = plan(said({**HOURLY, "schedule": file}), [there(name="a", schedule=shown)], prune=False)
    assert (found.steps == ()) is same


def test_what_would_make_no_sense_is_refused_before_anything_is_done() -> None:
    a, b = {"name": "a", "command": "true", "parents": ["b"]}, {"name": "b", "command": "true", "parents": ["a"]}
    with pytest.raises(CallError, match="cycle: "):
        plan(said(a, b), [], prune=False)
    with pytest.raises(CallError, match="a is to run after b, which is not there"):
        plan(said(a), [], prune=False)
    with pytest.raises(CallError, match="b, which is not there"):
        plan(said(a), [there(name="b", schedule="@daily")], prune=True)
