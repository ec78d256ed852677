"""Say what a change of quotas, weights, nodes or demand would do, before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from kernel.commands import output, policy
from kernel.commands.api import Master
from kernel.commands.context import CommandError, WrongUsage, credential, field_of, master_options, masters
from kernel.commands.lookup import find_agent, value
from kernel.commands.role import amounts
from kernel.errors import CallError

TASKS_MAX = 1_000_000
HEADINGS = ("ROLE", "HELD", "AT ONCE", "WAITING", "LONG RUN", "")


@click.command("plan")
@click.option(
    "--guarantee", "guarantees", multiple=True, metavar=policy.OF_ROLE, help="A quota's guarantee, as in eng/batch:cpus=8,mem=16g."
)
@click.option("--limit", "limits", multiple=True, metavar=policy.OF_ROLE, help="A quota's limit, as in eng/batch:cpus=32.")
@click.option("--no-quota", "unset", multiple=True, metavar="ROLE", help="A role without a quota.")
@click.option("--weight", "weights", multiple=True, metavar="ROLE=NUMBER", help="A role's weight.")
@click.option("--lose", "lost", multiple=True, metavar="NODE", help="A node that is no more, by id, hostname or HOST:PORT.")
@click.option(
    "--demand", "demands", multiple=True, metavar="ROLE:N*AMOUNTS", help="Tasks that would be wanted, as in eng:40*cpus=1,mem=1g."
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw shares before and after into this file (.png, .svg, .pdf)."
)
@master_options
def plan(
    guarantees: tuple[str, ...],
    limits: tuple[str, ...],
    unset: tuple[str, ...],
    weights: tuple[str, ...],
    lost: tuple[str, ...],
    demands: tuple[str, ...],
    plot: Path | None,
    master: str | None,
    credential_file: str | None,
    as_json: bool,
) -> None:
    """Say what a change would do, before it is made: who gains, who loses, and whether what is guaranteed is there.

    The master's own allocator is run on how things are now, with the change and without. AT ONCE is what a role would have then, with
    all that runs going on; LONG RUN is its share of the cluster when everything that runs has ended and is asked for again.

    A role's quota is what is said here and no more, as in `meseta quota set`; what the master would not set is refused here, too, but
    what the cluster cannot give, which is said. Nothing is changed.
    """
    from kernel.planning import plan as planning
    from kernel.wire import codec
    from kernel.wire.allocation import Snapshot

    try:
        quotas = {**policy.quotas(guarantees, limits), **{policy.role(name, "--no-quota"): None for name in unset}}
        change = planning.Change(quotas, policy.weights(weights), demands=list(map(_demand, demands)))
    except CallError as error:
        raise WrongUsage(str(error)) from error
    asked = Master(masters(master), credential(credential_file))
    snapshot = codec.decode(codec.encode(asked.get("/allocation")), Snapshot)
    change = replace(change, lost=_nodes(lost, asked))
    try:
        planning.check(snapshot, change)
        found = planning.plan(snapshot, change)
    except CallError as error:
        raise CommandError(str(error), field=field_of(str(error))) from error
    if plot is not None:
        from kernel.planning.chart import draw_plan

        draw_plan(found, plot)
    shown = planning.figures(found)
    if as_json:
        output.emit_json(shown)
    else:
        _show(shown)


def _demand(text: str) -> Any:
    from kernel.planning.amounts import parse_resources
    from kernel.planning.plan import Demand

    role, colon, wanted = text.partition(":")
    count, times, shape = wanted.partition("*")
    if not colon or not times or not (count.isascii() and count.isdigit() and 0 < int(count) <= TASKS_MAX):
        raise CallError(f"--demand: '{text}' is not allowed; ROLE:N*AMOUNTS is due, N from 1 to {TASKS_MAX}, as in eng:40*cpus=1,mem=1g")
    resources = parse_resources(shape, "--demand", exact=True)
    if not resources:
        raise CallError(f"--demand: '{text}' asks for nothing; some amount must be above 0")
    return Demand(policy.role(role, "--demand"), resources, int(count))


def _nodes(given: Sequence[str], asked: Master) -> list[str]:
    """The ids of agents. Raises CommandError."""
    known = asked.call("GET_AGENTS").get("agents", []) if given else []
    return [value(find_agent(one, known)["agent_info"], "id") for one in given]


def _show(found: dict[str, Any]) -> None:
    rows = [
        (
            one["role"],
            amounts(one["held"]),
            amounts(one["after"]) if one["after"] != one["held"] else "the same",
            _changed(one["waiting"], one["waiting_after"]),
            f"{one['share_before']:.1%} -> {one['share_after']:.1%}",
            _verdict(one["share_after"] - one["share_before"]),
        )
        for one in found["roles"]
    ]
    output.table(HEADINGS, rows, empty="Nobody is in a role, and none would be.")
    for one in found["capacity"]:
        state = "is there" if one["fits"] else "IS NOT THERE"
        guaranteed, total = (output.amount(one["resource"], one[part]) for part in ("guaranteed", "total"))
        click.echo(f"{one['resource']}: {guaranteed} guaranteed of {total}: {state}")
    for framework, count in found["lost"].items():
        click.echo(f"framework {framework} would lose {count} task{'s' if count > 1 else ''}")
    for one in found["preempted"]:
        tasks = "1 task" if one["tasks"] == 1 else f"{one['tasks']} tasks"
        click.echo(f"framework {one['framework']} would lose {tasks} in role {one['role']} for what others are guaranteed")
    for role in found["beyond_limits"]:
        click.echo(f"role {role} would hold more than its limit until tasks of it end")


def _changed(before: int, after: int) -> str:
    return str(before) if before == after else f"{before} -> {after}"


def _verdict(change: float) -> str:
    return "gains" if change > 0.0005 else "loses" if change < -0.0005 else ""
