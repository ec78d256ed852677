"""`beat_schedule` of Celery is read from its source, without running it."""

from __future__ import annotations

import pytest

from chronos.importers import Imported
from chronos.importers.celery_beat import read_beat
from chronos.job import Job

APPLICATION = """\
from datetime import timedelta
from celery import Celery
from celery.schedules import crontab, schedule

app = Celery("shop")
MINUTE = 60
EVERY_MORNING = crontab(hour=7, minute=30, day_of_week="monday-friday")
app.conf.timezone = "Europe/Berlin"
app.conf.beat_schedule = {
    "add": {"task": "tasks.add", "schedule": 30.0, "args": (16, 16)},
    "morning": {"task": "tasks.mail", "schedule": EVERY_MORNING, "kwargs": {"to": ["a", None]}},
    "clean": {"task": "tasks.clean", "schedule": timedelta(hours=1, minutes=30), "options": {"queue": "slow", "priority": 3}},
    "sum": dict(task="tasks.sum", schedule=5 * MINUTE),
    "often": {"task": "tasks.often", "schedule": schedule(run_every=timedelta(seconds=1.5))},
    "month": {"task": "tasks.month", "schedule": crontab(0, 0, day_of_month="1,15", day_of_week="mon")},
    "listed": {"task": "tasks.listed", "schedule": crontab(minute=[0, 30], hour="*/3", month_of_year="1-6")},
}
app.conf.beat_schedule["later"] = {"task": "tasks.later", "schedule": crontab(minute=0)}
"""


def jobs(text: str) -> dict[str, Job]:
    return {job.name: job for job in read_beat(text, "shop.py").jobs}


def lost(read: Imported) -> dict[int, str]:
    return {note.line: note.text for note in read.notes if note.lost}


def test_every_entry_becomes_a_job_of_kind_celery() -> None:
    read = read_beat(APPLICATION, "shop.py")
    assert lost(read) == {}
    found = {job.name: (job.schedule, job.more.celery.task) for job in read.jobs if job.more.celery}
    assert found == {
        "add": ("@every 30s", "tasks.add"),
        "morning": ("30 7 * * mon-fri", "tasks.mail"),
        "clean": ("@every 5400s", "tasks.clean"),
        "sum": ("@every 300s", "tasks.sum"),
        "often": ("@every 1.5s", "tasks.often"),
        "month": ("0 0 1,15 * *", "tasks.month"),
        "listed": ("0,30 */3 * 1-6 *", "tasks.listed"),
        "later": ("0 * * * *", "tasks.later"),
    }
    assert {job.schedule_time_zone for job in read.jobs} == {"Europe/Berlin"}
    assert [found.line for found in read.found] == [10, 11, 12, 13, 14, 15, 16, 18]


def test_arguments_queue_and_options() -> None:
    found = jobs(APPLICATION)
    add, morning, clean = found["add"].more.celery, found["morning"].more.celery, found["clean"].more.celery
    assert add
    assert add.args == (16, 16)
    assert morning
    assert morning.kwargs == {"to": ["a", None]}
    assert clean
    assert (clean.queue, clean.options) == ("slow", {"priority": 3})


def test_celery_wants_both_the_day_and_the_weekday() -> None:
    month = jobs(APPLICATION)["month"]
    assert month.more.calendar.include == ("mon",)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "beat_schedule = {'a': {'task': 't', 'schedule': 10}}",
        "CELERY_BEAT_SCHEDULE = {'a': {'task': 't', 'schedule': 10}}",
        "CELERYBEAT_SCHEDULE: dict = {'a': {'task': 't', 'schedule': 10}}",
        "app.conf.update(timezone='UTC', beat_schedule={'a': {'task': 't', 'schedule': 10}})",
        "app.conf.update({'timezone': 'UTC', 'beat_schedule': {'a': {'task': 't', 'schedule': 10}}})",
        "app.conf['beat_schedule'] = {'a': {'task': 't', 'schedule': 10}}",
        "app.conf.beat_schedule.update({'a': {'task': 't', 'schedule': 10}})",
        "app.conf.beat_schedule |= {'a': {'task': 't', 'schedule': 10}}",
        "app.conf['beat_schedule']['a'] = {'task': 't', 'schedule': 10}",
        "S = {'a': {'task': 't', 'schedule': 10}}\napp.conf.beat_schedule = S",
        "class Config:\n    beat_schedule = {'a': {'task': 't', 'schedule': 10}}",
    ],
)
def test_where_it_may_stand(text: str) -> None:
    assert list(jobs(text)) == ["a"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{'task': 't', 'schedule': solar('sunset', 1, 2)}", "solar: the sun's times"),
        ("{'task': 't', 'schedule': minutes(5)}", "minutes(5) is not written out here"),
        ("{'task': 't', 'schedule': crontab(minute=MINUTE)}", "MINUTE is not written out here"),
        ("{'task': 't', 'schedule': crontab(nowfun=f)}", "crontab(nowfun=...) is known to the running application only"),
        ("{'task': 't', 'schedule': crontab(minute=61)}", "the minute '61' is not allowed"),
        ("{'task': 't', 'schedule': 0.1}", "too frequent"),
        ("{'task': 't', 'schedule': True}", "True is no schedule that can be read"),
        ("{'task': 't', 'schedule': 1/0}", "cannot be reckoned"),
        ("{'task': 't', 'schedule': 10, 'args': [x]}", "x is not written out here"),
        ("{'task': 't', 'schedule': 10, 'options': 5}", "its options are no object"),
        ("{'task': 't'}", "it has no schedule"),
        ("{'schedule': 10}", "meseta.celery.task: the name of a Celery task is due"),
        ("make()", "make() is not written out here"),
        ("{'task': 't', 'schedule': 1" + "0" * 400 + "}", "is too long a time"),
    ],
)
def test_what_is_not_written_out_is_noted_with_its_line(entry: str, said: str) -> None:
    read = read_beat(f"beat_schedule = {{\n  'bad': {entry},\n  'good': {{'task': 't', 'schedule': 10}},\n}}\n", "x.py")
    assert [job.name for job in read.jobs] == ["good"]
    assert said in lost(read)[2]


def test_what_only_the_running_application_knows() -> None:
    read = read_beat("@app.on_after_configure.connect\ndef f(sender, **_):\n    sender.add_periodic_task(10.0, t.s())\n", "x.py")
    assert "only the running application knows" in lost(read)[3]
    assert "elsewhere" in lost(read_beat("beat_schedule = {\n**other}", "x.py"))[2]
    assert "load() is not written out here" in lost(read_beat("beat_schedule = load()", "x.py"))[1]


def test_more_of_a_schedule_that_is_computed_is_noted() -> None:
    read = read_beat("beat_schedule.update(make())\nbeat_schedule.update(a={'task': 't', 'schedule': 10})\n", "x.py")
    assert [(note.line, "is not written out here" in note.text) for note in read.notes if note.lost] == [(1, True), (2, True)]


def test_nothing_is_run() -> None:
    assert read_beat("raise SystemExit(1)\nimport nowhere\n", "x.py").jobs == ()
    assert "not Python" in lost(read_beat("x =\ny", "x.py"))[1]
    assert "not Python" in next(iter(lost(read_beat("(" * 100_000, "x.py")).values()))


def test_a_name_assigned_twice_is_not_known() -> None:
    read = read_beat("M = 5\nM = 6\nbeat_schedule = {'a': {'task': 't', 'schedule': M}}", "x.py")
    assert "M is not written out here" in lost(read)[3]


def test_an_unknown_field_of_an_entry_is_noted() -> None:
    read = read_beat("beat_schedule = {'a': {'task': 't', 'schedule': 10, 'relative': False, 'enabled': f()}}", "x.py")
    assert [note.text for note in read.notes if note.lost] == ["enabled: there is nothing like it here"]


def test_a_broker_stays_where_it_is_and_that_is_said() -> None:
    read = read_beat("broker_url = 'redis://:secret@h/0'\nbeat_schedule = {'a': {'task': 't', 'schedule': 10}}", "x.py")
    assert [note.text for note in read.notes if "--celery_broker" in note.text]
    assert "secret" not in repr(read)
    assert read_beat("broker_url = 'redis://h/0'", "x.py").notes == ()
