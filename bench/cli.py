"""Measure this installation, beside what others have published."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

_AGENTS = click.IntRange(1, 100_000)
_TASKS = click.IntRange(1, 2_000_000)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.group()
def bench() -> None:
    """Measure this installation, beside what others have published.

    Rates by CPU time (..._per_cpu_s) do not depend on who else uses the machine; the others do.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # So that what was started is ended.


@bench.command()
@click.option("--agents", default=20_000, show_default=True, help="Agents.", type=_AGENTS)
@click.option("--frameworks", default=2_000, show_default=True, help="Frameworks.", type=click.IntRange(1, 100_000))
@click.option("--roles", default=50, show_default=True, help="Roles they are spread over.", type=click.IntRange(1, 10_000))
@click.option("--refusals", default=1, show_default=True, help="By how many frameworks each agent is refused.", type=click.IntRange(0, 100))
@click.option("--mode", default="whole", show_default=True, type=click.Choice(["whole", "demand"]), help="What is offered.")
@click.option("--quota", is_flag=True, help="Roles in three levels, with weights, every other one with a quota.")
@click.option("--reservations", is_flag=True, help="A part of every tenth agent is reserved for a role.")
@click.option("--grid", is_flag=True, help="Sizes from 1,000 x 100 to 50,000 x 6,000 in both modes, one report each.")
@_json
def allocator(
    agents: int, frameworks: int, roles: int, refusals: int, mode: str, quota: bool, reservations: bool, grid: bool, as_json: bool
) -> None:
    """CPU time of the allocator's passes: all agents free, nothing changed, one task freed."""
    from bench.allocator import GRID, Size, run

    sizes = (
        [(*size, name == "demand") for size in GRID for name in ("whole", "demand")] if grid else [(agents, frameworks, mode == "demand")]
    )
    for agent_count, framework_count, demanding in sizes:
        run(Size(agent_count, framework_count, roles, refusals, demanding, quota, reservations)).show(as_json)


@bench.command()
@click.option("--agents", default=100, show_default=True, help="Emulated agents.", type=_AGENTS)
@click.option("--frameworks", default=4, show_default=True, help="Frameworks that launch.", type=click.IntRange(1, 10_000))
@click.option("--roles", default=1, show_default=True, help="Roles they are spread over.", type=click.IntRange(1, 10_000))
@click.option(
    "--in-flight", default=1_000, show_default=True, help="Tasks accepted that do not run yet, at most.", type=click.IntRange(1, 1_000_000)
)
@click.option("--seconds", default=10.0, show_default=True, help="How long to measure.", type=click.FloatRange(0.1, 3600))
@click.option(
    "--calls", default="batched", show_default=True, type=click.Choice(["single", "batched"]), help="One call a request, or many."
)
@_json
def placements(agents: int, frameworks: int, roles: int, in_flight: int, seconds: float, calls: str, as_json: bool) -> None:
    """Tasks accepted to running, per second, through a real master with emulated agents."""
    from bench.placements import Load, run

    run(Load(agents, frameworks, roles, in_flight, seconds, calls)).show(as_json)


@bench.command()
@click.option("--containerizer", default="process", show_default=True, type=click.Choice(["process", "oci", "docker"]), help="What is run.")
@click.option("--tasks", help="Tasks in a round.  [default: 1000, 100 in images]", type=_TASKS)
@click.option("--rounds", default=3, show_default=True, help="Rounds; medians are shown.", type=click.IntRange(1, 100))
@click.option("--peers-python", metavar="PATH", help="The interpreter that has Celery, Dask or Ray (default: this one).")
@click.option("--docker-socket", default="/var/run/docker.sock", show_default=True, metavar="PATH", help="Where a Docker engine listens.")
@_json
def launch(containerizer: str, tasks: int | None, rounds: int, peers_python: str | None, docker_socket: str, as_json: bool) -> None:
    """Real processes by `meseta run` on a real agent, beside bare loops and other systems. In images: beside runc and docker run."""
    if containerizer == "process":
        from bench.launch import run

        run(tasks or 1_000, rounds, peers_python).show(as_json)
    else:
        from bench import containers

        containers.run(containerizer, tasks or 100, rounds, docker_socket).show(as_json)


@bench.command()
@click.option("--agents", default=1_000, show_default=True, help="Emulated agents.", type=_AGENTS)
@click.option("--tasks", default=10_000, show_default=True, help="Tasks they run.", type=_TASKS)
@click.option("--core", is_flag=True, help="The master's core alone, without sockets.")
@_json
def failover(agents: int, tasks: int, core: bool, as_json: bool) -> None:
    """From the kill of a master until its successor knows all agents and tasks again, and offers."""
    from bench.failover import run

    run(agents, tasks, core).show(as_json)


@bench.command()
@click.option("--agents", default=1_000, show_default=True, help="Emulated agents.", type=_AGENTS)
@click.option("--tasks", default=20_000, show_default=True, help="Tasks they run.", type=_TASKS)
@_json
def state(agents: int, tasks: int, as_json: bool) -> None:
    """Time and size of `/state`, and what it costs another client meanwhile."""
    from bench.state import run

    run(agents, tasks).show(as_json)


@bench.command()
@click.option("--first", default=0, show_default=True, help="The first seed.", type=click.IntRange(0))
@click.option("--seeds", default=10, show_default=True, help="How many seeds.", type=click.IntRange(1))
@click.option("--minutes", default=10.0, show_default=True, help="Virtual minutes of work and trouble.", type=click.FloatRange(0.1, 1000))
@_json
def sim(first: int, seeds: int, minutes: float, as_json: bool) -> None:
    """Simulated cluster-hours a minute of one core. From a checkout only."""
    from bench.simulation import run

    run(first, seeds, minutes).show(as_json)


@bench.command()
@click.option("--seconds", default=30.0, show_default=True, help="How long the idle cluster is watched.", type=click.FloatRange(0.1, 3600))
@_json
def embedded(seconds: float, as_json: bool) -> None:
    """`meseta up` with two agents: time to the first output, idle memory and CPU, start of commands."""
    from bench.embedded import run

    run(seconds).show(as_json)


@bench.command()
@click.option("--jobs", default=100_000, show_default=True, help="Jobs that are loaded.", type=click.IntRange(1, 1_000_000))
@click.option("--schedules", default=1_000_000, show_default=True, help="Schedules that are held.", type=click.IntRange(1, 5_000_000))
@click.option("--due", default=10_000, show_default=True, help="Of the jobs, those due in one second.", type=click.IntRange(1, 100_000))
@click.option("--listed", default=50_000, show_default=True, help="Jobs in a list.", type=click.IntRange(1, 1_000_000))
@click.option("--seconds", default=60.0, show_default=True, help="How long it idles.", type=click.FloatRange(1, 3600))
@click.option("--peers-python", metavar="PATH", help="The interpreter that has APScheduler and Celery (default: this one).")
@_json
def cron(jobs: int, schedules: int, due: int, listed: int, seconds: float, peers_python: str | None, as_json: bool) -> None:
    """The scheduler of jobs: loading, memory, lateness, idling, lists; beside APScheduler and Celery beat."""
    from bench.cron import Load, run
    from bench.cron_peers import MISSING

    report = run(Load(jobs, schedules, due, listed, seconds), peers_python or sys.executable)
    report.show(as_json)
    for name, text in report.peers.items():
        if text.startswith(MISSING):
            click.echo(f"{name} IS {text}", err=True)


@bench.command()
@_json
@click.pass_context
def bars(context: click.Context, as_json: bool) -> None:
    """All of these at the sizes that the project holds itself to: takes minutes."""
    from bench.report import NotMeasured

    for command, sizes in BARS:
        try:
            context.invoke(command, as_json=as_json, **sizes)
        except NotMeasured as missing:
            click.echo(f"NOT MEASURED: {command.name} {sizes}: {missing}", err=True)


BARS: list[tuple[click.Command, dict[str, Any]]] = [
    (allocator, {"agents": 20_000, "frameworks": 2_000}),
    (allocator, {"agents": 20_000, "frameworks": 2_000, "mode": "demand"}),
    (allocator, {"agents": 50_000, "frameworks": 6_000}),
    *((allocator, {"roles": 1_000, "quota": True, "reservations": True, "mode": mode}) for mode in ("whole", "demand")),
    *((placements, {"agents": agents, "calls": calls}) for agents in (1_000, 10_000) for calls in ("single", "batched")),
    (launch, {}),
    (launch, {"containerizer": "oci"}),
    (launch, {"containerizer": "docker"}),
    (failover, {"agents": 5_000, "tasks": 50_000}),
    (failover, {"agents": 40_000, "tasks": 400_000, "core": True}),
    (state, {"agents": 5_000, "tasks": 100_000}),
    (embedded, {}),
    (cron, {}),
    (sim, {}),
]
