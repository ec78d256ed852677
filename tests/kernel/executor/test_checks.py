"""Checks and health checks (spec: mesos-v1, section 8.8): when they probe, what they report, when they kill."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.executor.checks import (
    CheckWatch,
    HealthWatch,
    HttpTarget,
    TcpTarget,
    Verdict,
    Watch,
    answered,
    connected,
    exited,
    fault,
    nothing,
    passed,
    target,
)
from kernel.wire.command import (
    CheckCommand,
    CheckHttp,
    CheckInfo,
    CheckStatusInfo,
    CheckTcp,
    CheckType,
    CommandInfo,
    HealthCheck,
    HTTPCheckInfo,
    TCPCheckInfo,
)
from kernel.wire.container import Protocol

QUIET, TOLD, KILLED = Verdict(), Verdict(report=True), Verdict(report=True, kill=True)
COMMAND = CommandInfo(value="x")


def health(**fields: Any) -> HealthWatch:
    return HealthWatch(HealthCheck(type=CheckType.TCP, tcp=TCPCheckInfo(80), **fields))


def check(**fields: Any) -> CheckWatch:
    return CheckWatch(CheckInfo(CheckType.COMMAND, CheckCommand(COMMAND), **fields))


def give(watch: Watch, now_s: float, found: CheckStatusInfo | None) -> Verdict:
    """The probe that is due by then finds this."""
    assert watch.probe("p", now_s)
    return watch.take(found, now_s)


# ---- What is probed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (CheckInfo(CheckType.COMMAND, CheckCommand(COMMAND)), COMMAND),
        (CheckInfo(CheckType.HTTP, http=CheckHttp(80)), HttpTarget("http", "127.0.0.1", 80, "/")),
        (CheckInfo(CheckType.HTTP, http=CheckHttp(80, "/a?b")), HttpTarget("http", "127.0.0.1", 80, "/a?b")),
        (CheckInfo(CheckType.TCP, tcp=CheckTcp(81)), TcpTarget("127.0.0.1", 81)),
        (HealthCheck(type=CheckType.COMMAND, command=COMMAND), COMMAND),
        (
            HealthCheck(type=CheckType.HTTP, http=HTTPCheckInfo(443, Protocol.IPv6, "https", "/up")),
            HttpTarget("https", "::1", 443, "/up"),
        ),
        (HealthCheck(type=CheckType.TCP, tcp=TCPCheckInfo(81, Protocol.IPv6)), TcpTarget("::1", 81)),
        (HealthCheck(type=CheckType.HTTP, http=HTTPCheckInfo(80, path="@elsewhere/")), HttpTarget("http", "127.0.0.1", 80, "/@elsewhere/")),
    ],
)
def test_the_target_is_on_the_tasks_own_machine(info: CheckInfo | HealthCheck, expected: object) -> None:
    assert target(info) == expected
    assert fault(info) is None


@pytest.mark.parametrize(
    "info",
    [
        CheckInfo(),
        CheckInfo(CheckType.COMMAND),
        CheckInfo(CheckType.HTTP, tcp=CheckTcp(1)),
        HealthCheck(type=CheckType.UNKNOWN, tcp=TCPCheckInfo(1)),
        HealthCheck(type=CheckType.COMMAND, command=CommandInfo()),
        HealthCheck(type=CheckType.TCP, tcp=TCPCheckInfo(1), grace_period_seconds=-1.0),
        CheckInfo(CheckType.TCP, tcp=CheckTcp(1), delay_seconds=float("inf")),
    ],
)
def test_a_check_that_cannot_be_carried_out_is_known(info: CheckInfo | HealthCheck) -> None:
    assert fault(info) is not None


# ---- What was found -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "healthy"),
    [
        (exited(0), True),
        (exited(1 << 8), False),
        (answered(199), False),
        (answered(200), True),
        (answered(399), True),
        (answered(400), False),
        (answered(503), False),
        (connected(True), True),
        (connected(False), False),
        *((nothing(kind), False) for kind in (CheckType.COMMAND, CheckType.HTTP, CheckType.TCP)),
    ],
)
def test_what_speaks_for_a_healthy_task(found: CheckStatusInfo, healthy: bool) -> None:
    assert passed(found) is healthy


def test_a_command_that_a_signal_ended_has_the_exit_code_of_a_shell() -> None:
    assert exited(int(signal.SIGKILL)).command.exit_code == 137  # type: ignore[union-attr]


def test_nothing_is_an_empty_part_of_the_type() -> None:
    found = nothing(CheckType.HTTP)
    assert (found.type, found.command, found.tcp) == (CheckType.HTTP, None, None)
    assert found.http is not None
    assert found.http.status_code is None


# ---- When ----------------------------------------------------------------------------------------------


def test_the_first_probe_comes_after_the_delay_and_each_other_an_interval_after_a_result() -> None:
    watch = health(delay_seconds=5.0, interval_seconds=2.0)
    assert watch.begin(100.0, 0.5)
    assert not watch.probe("a", 104.9)
    assert watch.probe("a", 105.0)
    assert (watch.probing, watch.due_s) == ("a", None)
    assert not watch.probe("b", 999.0)  # One at a time.
    watch.take(connected(True), 110.0)
    assert watch.due_s == 112.0


def test_an_interval_of_zero_is_allowed() -> None:
    watch = health(delay_seconds=0.0, interval_seconds=0.0)
    watch.begin(1.0, 0.0)
    assert give(watch, 1.0, connected(True)) == TOLD
    assert give(watch, 1.0, connected(True)) == QUIET


def test_a_timeout_of_zero_is_none() -> None:
    assert health(timeout_seconds=0.0).timeout_s is None
    assert health().timeout_s == 20.0


def test_it_begins_once() -> None:
    watch = health(delay_seconds=1.0)
    assert watch.begin(0.0, 0.0)
    assert not watch.begin(50.0, 0.0)
    assert watch.due_s == 1.0
    watch.probe("a", 1.0)
    assert not watch.begin(50.0, 0.0)


@pytest.mark.parametrize(("now_s", "due_s"), [(103.0, 115.0), (500.0, 502.5)])
def test_after_a_restart_it_goes_on_within_an_interval_but_not_before_the_delay(now_s: float, due_s: float) -> None:
    watch = health(delay_seconds=15.0, interval_seconds=10.0)
    watch.since_s = 100.0
    assert watch.begin(now_s, 0.25)
    assert watch.due_s == due_s


def test_nothing_comes_of_it_once_the_task_is_ending() -> None:
    watch = health(delay_seconds=0.0, grace_period_seconds=0.0, consecutive_failures=1)
    watch.begin(0.0, 0.0)
    watch.probe("a", 0.0)
    watch.stop()
    assert watch.take(connected(False), 1.0) == QUIET
    assert not watch.begin(2.0, 0.0)
    assert not watch.probe("b", 99.0)


def test_a_result_nobody_can_tell_says_nothing() -> None:
    watch = health(delay_seconds=0.0, grace_period_seconds=0.0, consecutive_failures=1)
    watch.begin(0.0, 0.0)
    assert give(watch, 0.0, None) == QUIET
    assert (watch.healthy, watch.failures, watch.due_s) == (None, 0, 10.0)


# ---- Checks --------------------------------------------------------------------------------------------


def test_a_check_reports_each_change_and_only_changes() -> None:
    watch = check(delay_seconds=0.0, interval_seconds=1.0)
    watch.begin(0.0, 0.0)
    results = [nothing(CheckType.COMMAND), exited(0), exited(0), exited(3 << 8), nothing(CheckType.COMMAND), exited(3 << 8)]
    verdicts = [give(watch, float(now_s), found) for now_s, found in enumerate(results)]
    assert verdicts == [QUIET, TOLD, QUIET, TOLD, TOLD, TOLD]
    assert watch.found == exited(3 << 8)


# ---- Health checks --------------------------------------------------------------------------------------

OK, BAD = connected(True), connected(False)


@pytest.mark.parametrize(
    ("grace_s", "failures_max", "results", "verdicts"),
    [
        (0.0, 3, [OK, OK, OK], [TOLD, QUIET, QUIET]),
        (0.0, 3, [BAD, BAD, BAD], [TOLD, TOLD, KILLED]),
        (0.0, 3, [BAD, BAD, OK, BAD, BAD, BAD], [TOLD, TOLD, TOLD, TOLD, TOLD, KILLED]),
        (0.0, 1, [OK, BAD], [TOLD, KILLED]),
        (0.0, 0, [BAD], [KILLED]),
        (2.0, 1, [BAD, BAD, BAD, BAD], [QUIET, QUIET, QUIET, KILLED]),
        (2.0, 1, [BAD, OK], [QUIET, TOLD]),
        (9.0, 2, [OK, BAD, BAD], [TOLD, TOLD, KILLED]),  # The first success ends the grace period.
        (0.0, 2, [nothing(CheckType.TCP), nothing(CheckType.TCP)], [TOLD, KILLED]),
    ],
)
def test_a_health_check_in_seconds(grace_s: float, failures_max: int, results: list[CheckStatusInfo], verdicts: list[Verdict]) -> None:
    """One probe a second from the start of the task on."""
    watch = health(delay_seconds=0.0, interval_seconds=1.0, grace_period_seconds=grace_s, consecutive_failures=failures_max)
    watch.begin(0.0, 0.0)
    assert [give(watch, float(now_s), found) for now_s, found in enumerate(results)] == verdicts


@given(
    st.lists(st.tuples(st.sampled_from([OK, BAD, nothing(CheckType.TCP), None]), st.floats(0, 30)), max_size=60),
    st.integers(1, 5),
    st.floats(0, 100),
    st.floats(0, 20),
)
def test_it_never_kills_before_enough_failures_in_a_row_outside_the_grace_period(
    results: list[tuple[CheckStatusInfo | None, float]], failures_max: int, grace_s: float, delay_s: float
) -> None:
    watch = health(delay_seconds=delay_s, interval_seconds=1.0, grace_period_seconds=grace_s, consecutive_failures=failures_max)
    watch.begin(0.0, 0.0)
    in_a_row, ever_healthy = 0, False
    for found, took_s in results:
        assert watch.due_s is not None
        began_s = watch.due_s
        assert watch.probe("p", began_s)
        verdict = watch.take(found, began_s + took_s)
        if found is OK:
            in_a_row, ever_healthy = 0, True
        elif found is not None and (ever_healthy or began_s + took_s > grace_s or not grace_s):
            in_a_row += 1
        assert verdict.kill == (in_a_row >= failures_max)
        assert not verdict.kill or verdict.report
        if verdict.kill:
            return
