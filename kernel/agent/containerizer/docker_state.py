"""A container as the Docker engine tells of it, and what that means. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from kernel.agent.containerizer.docker_options import CONTAINER_LABEL, MIB, SANDBOX_LABEL
from kernel.agent.isolators.limits import Usage
from kernel.errors import KernelError

SIGNALS = range(129, 193)  # The engine tells the end by signal N as 128+N.


class EngineError(KernelError):
    """The engine refuses; the text is its own."""


class NoSuchContainer(EngineError):
    """It knows no container of this name."""


class EngineAway(EngineError):
    """It cannot be asked, or broke off while it was: what was asked may or may not have been done."""


class State(Struct, frozen=True):
    """name: the engine's id. pid: 0 when nothing runs. created: it was never started. ended_s: wall clock. ip: its own address, empty
    where it has none. mem_limit_mib: 0 for none. stop_signal: what asks it to end."""

    name: str
    container_id: str
    sandbox: str
    created: bool
    running: bool
    pid: int
    exit_code: int
    out_of_memory: bool
    ended_s: float
    ip: str
    mem_limit_mib: int
    stop_signal: int

    @property
    def status(self) -> int:
        """How it ended, as waitpid gives it."""
        return self.exit_code - 128 if self.exit_code in SIGNALS else (self.exit_code & 0xFF) << 8


def state_of(told: Mapping[str, Any]) -> State:
    """Read what `GET /containers/NAME/json` answers."""
    state, labels = told["State"], told["Config"]["Labels"] or {}
    running = state["Running"] or state.get("Restarting", False)
    networks = (told.get("NetworkSettings") or {}).get("Networks") or {}
    return State(
        told["Id"],
        labels.get(CONTAINER_LABEL, ""),
        labels.get(SANDBOX_LABEL, ""),
        state["Status"] == "created",
        running,
        state.get("Pid") or 0,
        state["ExitCode"],
        state["OOMKilled"],
        0.0 if running else _seconds(state["FinishedAt"]),
        next((network["IPAddress"] for network in networks.values() if network.get("IPAddress")), ""),
        (told["HostConfig"].get("Memory") or 0) // MIB,
        _signal(told["Config"].get("StopSignal") or ""),
    )


def _signal(text: str) -> int:
    """A signal as images name it: `SIGQUIT`, `QUIT`, `3` or `RTMIN+3`; SIGTERM where they do not."""
    name, _, more = text.removeprefix("SIG").partition("+")
    try:
        number = int(name) if name.isdecimal() else signal.Signals[f"SIG{name}"].value
        number += int(more or 0)
    except (KeyError, ValueError):
        return signal.SIGTERM
    return number if number in signal.valid_signals() else signal.SIGTERM


def _seconds(text: str) -> float:
    """0 for never, which the engine tells as the year 1."""
    return max(0.0, datetime.fromisoformat(text).timestamp()) if not text.startswith("0001") else 0.0


def usage_of(told: Mapping[str, Any]) -> Usage:
    """Read what `GET /containers/NAME/stats` answers, with control groups of either version."""
    cpu, memory = told.get("cpu_stats") or {}, told.get("memory_stats") or {}
    times, throttling, parts = cpu.get("cpu_usage") or {}, cpu.get("throttling_data") or {}, memory.get("stats") or {}
    return Usage(
        user_s=_scaled(times.get("usage_in_usermode")),
        system_s=_scaled(times.get("usage_in_kernelmode")),
        mem_bytes=memory.get("usage"),
        mem_peak_bytes=memory.get("max_usage"),
        mem_limit_bytes=memory.get("limit"),
        rss_bytes=parts.get("rss", parts.get("anon")),
        cache_bytes=parts.get("cache", parts.get("file")),
        mapped_bytes=parts.get("mapped_file", parts.get("file_mapped")),
        periods=throttling.get("periods"),
        throttled=throttling.get("throttled_periods"),
        throttled_s=_scaled(throttling.get("throttled_time")),
        threads=(told.get("pids_stats") or {}).get("current"),
    )


def _scaled(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
