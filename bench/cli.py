"""Measure this installation, beside what others have published."""

from __future__ import annotations

import click


@click.group()
def bench() -> None:
    """Measure this installation, beside what others have published."""


@bench.command()
@click.option("--agents", default=100, show_default=True, help="Emulated agents.", type=click.IntRange(1, 100_000))
@click.option("--frameworks", default=4, show_default=True, help="Frameworks that launch.", type=click.IntRange(1, 10_000))
@click.option("--roles", default=1, show_default=True, help="Roles they are spread over.", type=click.IntRange(1, 10_000))
@click.option("--seconds", default=10.0, show_default=True, help="How long to measure.", type=click.FloatRange(0.1, 3600))
@click.option(
    "--calls", default="batched", show_default=True, type=click.Choice(["single", "batched"]), help="One call a request, or many."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def placements(agents: int, frameworks: int, roles: int, seconds: float, calls: str, as_json: bool) -> None:
    """Tasks accepted to running, per second, through a real master with emulated agents."""
    from bench.placements import run

    run(agents, frameworks, roles, seconds, calls == "batched").show(as_json)
