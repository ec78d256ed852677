"""Measures, every so often, what tasks use and how the machine is, for the core to decide what to lend. Runs at the edge."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from kernel.agent.config import AgentConfig
from kernel.agent.effects import Measured
from kernel.agent.isolators.limits import Usage
from kernel.agent.oversubscription.config import NOOP, controller_kind
from kernel.agent.oversubscription.controller import Machine
from kernel.errors import KernelError

log = logging.getLogger(__name__)


class Measuring:
    """processes: the first process of each container; usage: what they use."""

    def __init__(
        self,
        config: AgentConfig,
        processes: Callable[[], Awaitable[Mapping[str, int]]],
        usage: Callable[[Mapping[str, int]], Awaitable[Mapping[str, Usage]]],
        post: Callable[[Measured], None],
    ) -> None:
        self._interval_s = config.oversubscribed_resources_interval_s
        self._idle = config.resource_estimator == NOOP and controller_kind(config.resource_estimator, config.qos_controller) == NOOP
        self._processes, self._usage, self._post = processes, usage, post

    async def run(self) -> None:
        """Measure until cancelled; never, where nothing is lent or taken back."""
        if self._idle:
            await asyncio.get_running_loop().create_future()
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                usages = await self._usage(await self._processes())
            except KernelError as error:  # It is busy; the next measurement tells the same.
                log.warning("what tasks use was not measured: %s", error)
                continue
            self._post(Measured(time.monotonic(), usages, machine()))


def machine() -> Machine:
    """How the machine is now."""
    _, load_5, load_15 = os.getloadavg()
    with open("/proc/meminfo", encoding="ascii") as file:
        return Machine(load_5, load_15, *memory_mib(file))


def memory_mib(lines: Iterable[str]) -> tuple[int, int]:
    """All memory, and what is available without swapping; 0 where it is not told. lines: of /proc/meminfo."""
    told = (line.partition(":") for line in lines)
    kib = {name: int(text.split()[0]) for name, _, text in told if name in ("MemTotal", "MemAvailable")}
    return (kib["MemTotal"] >> 10, kib["MemAvailable"] >> 10) if len(kib) == 2 else (0, 0)
