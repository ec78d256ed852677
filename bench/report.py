"""What a benchmark measured, in one form for people and for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence

import click
from msgspec import Struct

from kernel.errors import KernelError


class BenchError(KernelError):
    """What was to be measured did not work."""


class NotMeasured(BenchError):
    """What was to be measured is not on this machine."""


class Report(Struct):
    """results: plain numbers by name, with their units: _s seconds, _mb 10^6 bytes. peers: published figures with their source and
    hardware, never without them."""

    bench: str
    params: Mapping[str, int | float | str]
    results: Mapping[str, float]
    peers: Mapping[str, str]

    def show(self, as_json: bool) -> None:
        """Print it: one JSON object, or lines."""
        if as_json:
            body = {
                "bench": self.bench,
                "machine": machine(),
                "params": dict(self.params),
                "results": dict(self.results),
                "peers": dict(self.peers),
            }
            click.echo(json.dumps(body))
            return
        click.echo(f"{self.bench}  ({', '.join(f'{name} {value}' for name, value in self.params.items())})")
        click.echo("  on " + ", ".join(f"{value}" for value in machine().values()))
        width = max(map(len, self.results))
        for name, value in self.results.items():
            click.echo(f"  {name:<{width}}  {value:,.4g}" if value < 1000 else f"  {name:<{width}}  {value:,.0f}")
        for name, text in self.peers.items():
            click.echo(f"  beside: {name}: {text}")


def machine() -> dict[str, str]:
    """What this ran on."""
    model = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {
        "cpu": model,
        "cores": f"{len(os.sched_getaffinity(0))} cores",
        "kernel": f"Linux {platform.release()}",
        "python": f"Python {platform.python_version()}",
    }


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.readlines()
    except OSError:
        return []


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
