"""One simulated history from its seed, and what became of it."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable

from msgspec import Struct

from tests.sim.cluster import Cluster

MINUTES = 10.0
SETTLE_S = 2500.0


class Outcome(Struct):
    """fault: None when all invariants held and all came to rest. tasks, crashes: how much happened. cpu_s: what it cost;
    virtual_s: how long it was."""

    seed: int
    fault: str | None
    tasks: int
    crashes: int
    virtual_s: float
    cpu_s: float


def run(seed: int, minutes: float = MINUTES) -> Outcome:
    """Simulate; raises nothing the simulated cores raised."""
    began_s = time.process_time()
    cluster = Cluster(seed)

    def play() -> None:
        cluster.run(minutes * 60)
        cluster.settle(SETTLE_S)
        cluster.check_end()

    fault = told(play)
    crashes = sum(process.crashes for process in cluster.processes)
    return Outcome(seed, fault, len(cluster.submitted), crashes, cluster.world.now_s, time.process_time() - began_s)


def told(play: Callable[[], None]) -> str | None:
    """Play something; return the fault that came of it, in words."""
    logging.disable(logging.CRITICAL)  # A history of faults is full of warnings.
    try:
        play()
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:300]} ({where.name}, line {where.lineno})"
    finally:
        logging.disable(logging.NOTSET)
    return None
