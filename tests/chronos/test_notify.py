"""Who is told what: the scheduler's channels as Chronos had them, a job's own, and not too often."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chronos.job import job_of
from chronos.notify import Channels, Event, Message, Notices, filled, sentry_target
from chronos.run import Attempt, Cause, Run, RunState

ALL = Channels(
    "prod", True, "https://slack.test/secret", "https://chat.test/hook", "https://hook.test/in", "https://key@sentry.test/7", 60_000
)


def event(occasion: str, run: bool = True, **fields: Any) -> Event:
    job = job_of({"name": "nightly", "command": "true", "owner": "a@x.org, b@x.org", "schedule": "R/2026-01-01T00:00:00Z/P1D", **fields})
    attempt = Attempt(0, "ct:1:0:nightly:", 1, ended_ms=2, exit_status=7, hostname="h1")
    state = RunState.FAILED if occasion in ("failure", "disabled") else RunState.SUCCEEDED
    made = Run("nightly@1", "nightly", 1_767_225_600_000, Cause.SCHEDULE, state, 0, 0, attempts=(attempt,), reason="it broke")
    return Event(occasion, job, made if run else None)


def told(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message.kind, message.target) for message in messages]


def test_chronos_channels_hear_of_failures_for_each_owner() -> None:
    messages = Notices(ALL).messages(event("failure"), 0)
    assert told(messages) == [
        ("mail", "a@x.org"),
        ("url", "https://hook.test/in"),
        ("mail", "b@x.org"),
        ("url", "https://hook.test/in"),
        ("chat", "https://slack.test/secret"),
        ("chat", "https://chat.test/hook"),
        ("sentry", "https://sentry.test/api/7/store/"),
    ]
    assert messages[0].subject == "[prod] [Chronos] job 'nightly' failed"
    assert "exit status 7: it broke (task ct:1:0:nightly: on h1)" in messages[0].text
    posted = json.loads(messages[1].body)
    assert (posted["to"], posted["job"], posted["softError"], posted["errorCount"]) == ("a@x.org", "nightly", "false", "0")
    assert all(isinstance(value, str) for value in posted.values())
    assert json.loads(messages[3].body)["to"] == "b@x.org"


@pytest.mark.parametrize(
    ("occasion", "heard"), [("failure", True), ("disabled", True), ("removed", True), ("success", False), ("deadline", False)]
)
def test_of_what_they_hear(occasion: str, heard: bool) -> None:
    assert bool(Notices(Channels(slack="https://s.test/x")).messages(event(occasion, run=occasion != "removed"), 0)) == heard


def test_an_empty_owner_is_still_one_notice() -> None:
    messages = Notices(Channels(url="https://hook.test/in")).messages(event("failure", owner=""), 0)
    assert "to" not in json.loads(messages[0].body)


def test_a_job_tells_whom_it_names_when_it_says() -> None:
    notify = [
        {"when": ["success", "deadline"], "chat": "https://c.test/1"},
        {"when": ["failure"], "url": "https://u.test/2", "template": "{job} {state} {nothing} {exitStatus}"},
        {"mail": ["me@x.org"]},
    ]
    notices = Notices(Channels())
    assert told(notices.messages(event("success", meseta={"notify": notify}), 0)) == [("chat", "https://c.test/1")]
    failed = notices.messages(event("failure", meseta={"notify": notify}), 0)
    assert told(failed) == [("url", "https://u.test/2"), ("mail", "me@x.org")]
    assert failed[0].body == b"nightly failed {nothing} 7"
    assert told(notices.messages(event("recovery", meseta={"notify": notify}), 0)) == [("mail", "me@x.org")]


def test_a_job_s_own_url_is_told_all_as_json() -> None:
    (message,) = Notices(Channels(cluster="prod")).messages(event("failure", meseta={"notify": [{"url": "https://u.test/"}]}), 0)
    posted = json.loads(message.body)
    assert posted | {"occasion": "failure", "cluster": "prod", "job": "nightly", "attempts": 1, "exitStatus": 7, "hostname": "h1"} == posted


def test_a_failure_that_disables_the_job_is_a_failure_too() -> None:
    notices = Notices(Channels())
    assert notices.messages(event("disabled", meseta={"notify": [{"when": ["failure"], "mail": ["me@x.org"]}]}), 0)


def test_of_one_event_a_channel_is_told_all_that_differs() -> None:
    notify = [{"mail": ["a@x.org"]}, {"mail": ["a@x.org"], "template": "see the runbook"}]
    notices = Notices(Channels())
    messages = notices.messages(event("failure", meseta={"notify": [*notify, notify[0]]}), 0)
    assert told(messages) == [("mail", "a@x.org")] * 2
    assert messages[1].text == "see the runbook"
    assert notices.messages(event("failure", meseta={"notify": notify}), 1) == []


def test_the_same_is_told_no_more_often_than_that() -> None:
    notices = Notices(Channels(mail=True, interval_ms=60_000))
    job = {"owner": "a@x.org"}
    counts = [len(notices.messages(event("failure", **job), at)) for at in (0, 10, 59_999, 60_000)]
    assert counts == [1, 0, 0, 1]
    assert "(1 more" not in notices.messages(event("disabled", **job), 60_001)[0].text
    notices.messages(event("failure", **job), 60_002)
    assert notices.messages(event("failure", **job), 120_003)[0].text.endswith("(1 more like this were not sent)")


def test_templates_fill_in_only_what_is_known() -> None:
    assert filled("{a} {b} {{a}} {a.__class__}{c}", {"a": 1, "c": None}) == "1 {b} {1} {a.__class__}"


@pytest.mark.parametrize("dsn", ["", "https://sentry.test/7", "ftp://k@h/1", "https://k@h"])
def test_what_is_no_dsn(dsn: str) -> None:
    with pytest.raises(ValueError):
        sentry_target(dsn)
