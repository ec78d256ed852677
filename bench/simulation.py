"""The simulator: cluster-hours of faulty history in a minute of one core.

The histories are the tests' (`tests/sim`), so this runs from a checkout only. CPU time is what is counted: who else uses the
machine does not matter.
"""

from __future__ import annotations

import importlib
from typing import Any

from bench.report import BenchError, Report


def _history() -> Any:
    """The tests' own module. Raises BenchError where the tests are not."""
    try:
        return importlib.import_module("tests.sim.history")
    except ModuleNotFoundError as error:
        raise BenchError("the simulator is part of the tests: run this in a checkout of the sources") from error


def run(first: int, seeds: int, minutes: float) -> Report:
    """Run histories from seed `first` on. Raises BenchError when one has a fault, or where there is no simulator."""
    history = _history()
    outcomes = [history.run(seed, minutes) for seed in range(first, first + seeds)]
    for outcome in outcomes:
        if outcome.fault is not None:
            raise BenchError(f"seed {outcome.seed}: {outcome.fault}")
    hours, cpu_s = sum(outcome.virtual_s for outcome in outcomes) / 3600, sum(outcome.cpu_s for outcome in outcomes)
    results = {
        "hours_per_minute": hours / (cpu_s / 60),
        "seeds": len(outcomes),
        "tasks": sum(outcome.tasks for outcome in outcomes),
        "crashes": sum(outcome.crashes for outcome in outcomes),
        "hours": hours,
        "cpu_s": cpu_s,
    }
    params: dict[str, int | float | str] = {"first": first, "seeds": seeds, "minutes": minutes}
    return Report("sim", params, results, {})
