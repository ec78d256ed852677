"""What jobs have in common is there once."""

from __future__ import annotations

from chronos import sharing
from chronos.job import job_of
from chronos.sharing import Shared

FIELDS = {
    "command": "true", "schedule": "0 2 * * *", "owner": "ops@example.org", "cpus": 0.25, "mem": 64, "environmentVariables": [
        {"name": "A", "value": "1"}
    ], "container": {"image": "alpine:3"}, "meseta": {"overlap": "skip", "labels": {"team": "a"}},
}  # fmt: skip


def test_equal_values_are_one() -> None:
    shared = Shared()
    first, second = (shared.job(job_of({**FIELDS, "name": name})) for name in ("a", "b"))
    for field in ("schedule", "owner", "run_as_user", "cpus", "mem", "disk", "environment_variables", "container", "meseta"):
        assert getattr(first, field) is getattr(second, field), field
    assert (first.name, second.name) == ("a", "b")


def test_nothing_else_about_a_job_changes() -> None:
    shared = Shared()
    shared.job(job_of({**FIELDS, "name": "a"}))
    other = {**FIELDS, "name": "b", "cpus": 1, "meseta": {"overlap": "queue"}, "parents": ["a"], "arguments": ["x"], "uris": ["http://x"]}
    assert shared.job(job_of(other)) == job_of(other)


def test_it_remembers_so_much_and_no_more() -> None:
    shared = Shared()
    for number in range(sharing.VALUES_MAX + 10):
        shared._one(number, number)
    assert len(shared._values) <= sharing.VALUES_MAX
