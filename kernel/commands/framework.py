"""Show the frameworks that use the cluster, and end them."""

from __future__ import annotations

from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import credential, master_options, masters
from kernel.commands.lookup import find, scalars, seconds, value
from kernel.commands.tasks import HEADINGS as TASK_HEADINGS
from kernel.commands.tasks import for_json as task_json
from kernel.commands.tasks import rows as task_rows

HEADINGS = ("ID", "NAME", "STATE", "ROLES", "CPUS", "MEM", "AGE", "URL")


@click.group("framework")
def framework() -> None:
    """Show the frameworks that use the cluster, and end them."""


@framework.command("list")
@click.option("--all", "everything", is_flag=True, help="Completed ones too.")
@master_options
def framework_list(everything: bool, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """List frameworks."""
    answer = Master(masters(master), credential(credential_file)).call("GET_FRAMEWORKS")
    found: list[dict[str, Any]] = answer.get("frameworks", [])
    completed: list[dict[str, Any]] = answer.get("completed_frameworks", []) if everything else []
    if as_json:
        output.emit_json([for_json(one, state(one)) for one in found] + [for_json(one, "completed") for one in completed])
    else:
        rows = [_row(one, state(one)) for one in found] + [_row(one, "completed") for one in completed]
        output.table(HEADINGS, rows, empty="No framework is registered.")


@framework.command("show")
@click.argument("framework")
@master_options
def framework_show(framework: str, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Show one framework, by id (or its beginning) or name, with its tasks."""
    asked = Master(masters(master), credential(credential_file))
    answer = asked.call("GET_FRAMEWORKS")
    completed: list[dict[str, Any]] = answer.get("completed_frameworks", [])
    found = find("framework", framework, [*answer.get("frameworks", []), *completed], names, "meseta framework list --all")
    framework_id = value(found["framework_info"], "id")
    tasks = [task for task in asked.call("GET_TASKS").get("tasks", []) if value(task, "framework_id") == framework_id]
    how = "completed" if found in completed else state(found)
    if as_json:
        output.emit_json({**for_json(found, how), "tasks": [task_json(one) for one in tasks]})
        return
    info = found["framework_info"]
    used, offered = scalars(found.get("allocated_resources", [])), scalars(found.get("offered_resources", []))
    output.details(
        {
            "id": framework_id,
            "name": info["name"],
            "state": how,
            "user": info.get("user", ""),
            "principal": info.get("principal", ""),
            "roles": ", ".join(_roles(info)),
            "failover timeout": f"{output.number(info.get('failover_timeout', 0))} s",
            "registered": output.age(seconds(found.get("registered_time"))) + " ago",
            "url": info.get("webui_url", ""),
            "capabilities": ", ".join(str(capability.get("type", "")).lower() for capability in info.get("capabilities", [])),
            "allocated": ", ".join(f"{name} {output.number(amount)}" for name, amount in used.items()),
            "offered": ", ".join(f"{name} {output.number(amount)}" for name, amount in offered.items()),
        }
    )
    if tasks:
        click.echo()
        output.table(TASK_HEADINGS, task_rows(tasks, asked.call("GET_AGENTS").get("agents", []), [found]), empty="")


@framework.command("teardown")
@click.argument("framework")
@master_options
def framework_teardown(framework: str, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """End a framework and kill all its tasks. Its id can never register again."""
    asked = Master(masters(master), credential(credential_file))
    found = find("framework", framework, asked.call("GET_FRAMEWORKS").get("frameworks", []), names, "meseta framework list")
    framework_id = value(found["framework_info"], "id")
    asked.call("TEARDOWN", framework_id={"value": framework_id})
    if as_json:
        output.emit_json({"framework_id": framework_id})
    else:
        click.echo(f"Framework {framework_id} is torn down.")


def for_json(framework: dict[str, Any], how: str) -> dict[str, Any]:
    """The v1 message, with what scripts look for on top of it."""
    return {"id": names(framework)[0], "name": names(framework)[1], "state": how, **framework}


def names(framework: dict[str, Any]) -> tuple[str, ...]:
    """What a framework goes by: its id, its name."""
    return value(framework["framework_info"], "id"), framework["framework_info"]["name"]


def state(framework: dict[str, Any]) -> str:
    """One word for how a framework that is not completed is."""
    if framework.get("active"):
        return "active"
    return "recovered" if framework.get("recovered") else "inactive" if framework.get("connected") else "disconnected"


def _roles(info: dict[str, Any]) -> list[str]:
    return info.get("roles") or [info.get("role", "*")]


def _row(framework: dict[str, Any], how: str) -> tuple[str, ...]:
    info = framework["framework_info"]
    used = scalars(framework.get("allocated_resources", []))
    return (
        value(info, "id"),
        info["name"],
        how,
        ",".join(_roles(info)),
        output.number(used.get("cpus", 0)),
        output.mebibytes(used.get("mem", 0)),
        output.age(seconds(framework.get("registered_time"))),
        info.get("webui_url", ""),
    )
