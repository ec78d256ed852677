"""What the engine tells of a container, read."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from kernel.agent.containerizer.docker_state import state_of, usage_of

ENDED: dict[str, Any] = {
    "Id": "abc",
    "State": {
        "Status": "exited",
        "Running": False,
        "Pid": 0,
        "ExitCode": 3,
        "OOMKilled": False,
        "FinishedAt": "2026-01-31T12:00:00.123456789Z",
    },
    "Config": {"Labels": {"meseta.container": "c", "meseta.sandbox": "/s"}},
    "HostConfig": {"Memory": 64 << 20},
    "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
}


def with_state(**changes: Any) -> dict[str, Any]:
    return {**ENDED, "State": {**ENDED["State"], **changes}}


def test_an_ended_container() -> None:
    state = state_of(ENDED)
    assert (state.name, state.container_id, state.sandbox, state.ip, state.mem_limit_mib) == ("abc", "c", "/s", "172.17.0.2", 64)
    assert (state.created, state.running, state.ended_s) == (False, False, pytest.approx(1769860800.123456))


def test_one_that_never_ran_or_still_does_has_not_ended() -> None:
    assert state_of(with_state(Status="created", FinishedAt="0001-01-01T00:00:00Z")).ended_s == 0
    running = state_of(with_state(Status="running", Running=True, Pid=7, FinishedAt="0001-01-01T00:00:00Z"))
    assert (running.running, running.pid, running.created) == (True, 7, False)


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 3), (126, 126), (255, 255), (137, -9), (143, -15)])
def test_exit_codes_become_wait_statuses(code: int, status: int) -> None:
    """A negative one stands for the signal."""
    assert os.waitstatus_to_exitcode(state_of(with_state(ExitCode=code)).status) == status


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("", 15), ("SIGQUIT", 3), ("QUIT", 3), ("3", 3), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("RTMIN+3", signal.SIGRTMIN + 3)),
        *(("no signal", 15), ("SIGQUIT+x", 15), ("0x3", 15), ("1000", 15)),
    ],
)
def test_an_image_says_what_asks_it_to_end(text: str, number: int) -> None:
    config = {**ENDED["Config"], "StopSignal": text}
    assert state_of({**ENDED, "Config": config}).stop_signal == number


def test_usage_of_both_versions_of_control_groups() -> None:
    one = {
        "cpu_stats": {
            "cpu_usage": {"usage_in_usermode": 2_000_000_000, "usage_in_kernelmode": 500_000_000},
            "throttling_data": {"periods": 4, "throttled_periods": 3, "throttled_time": 1_000_000_000},
        },
        "memory_stats": {"usage": 10, "max_usage": 12, "limit": 20, "stats": {"rss": 5, "cache": 4, "mapped_file": 1}},
        "pids_stats": {"current": 6},
    }
    usage = usage_of(one)
    assert (usage.user_s, usage.system_s, usage.throttled_s, usage.threads) == (2.0, 0.5, 1.0, 6)
    assert (usage.mem_bytes, usage.mem_peak_bytes, usage.rss_bytes, usage.cache_bytes) == (10, 12, 5, 4)
    assert usage_of({"memory_stats": {"usage": 10, "stats": {"anon": 5, "file": 4}}}).rss_bytes == 5
    assert usage_of({}).mem_bytes is None
