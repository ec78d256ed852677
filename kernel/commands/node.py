"""Show the cluster's agents, what they have and what runs there; drain them."""

from __future__ import annotations

from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import credential, master_options, masters
from kernel.commands.lookup import address, find_agent, scalars, seconds, value
from kernel.commands.maintenance import agent_ip, matching, planned
from kernel.commands.node_drain import node_drain, node_gone, node_undrain
from kernel.commands.tasks import HEADINGS as TASK_HEADINGS
from kernel.commands.tasks import TERMINAL
from kernel.commands.tasks import for_json as task_json
from kernel.commands.tasks import rows as task_rows
from kernel.commands.times import show_duration, show_instant

HEADINGS = ("ID", "HOST", "STATE", "CPUS", "MEM", "GPUS", "AGE", "ATTRIBUTES")


@click.group("node")
def node() -> None:
    """Show the cluster's agents, and drain them."""


node.add_command(node_drain)
node.add_command(node_undrain)
node.add_command(node_gone)


@node.command("list")
@master_options
def node_list(master: str | None, credential_file: str | None, as_json: bool) -> None:
    """List agents: what is allocated of what they have."""
    agents = _agents(Master(masters(master), credential(credential_file)))
    if as_json:
        output.emit_json([for_json(agent) for agent in agents])
    else:
        output.table(HEADINGS, [_row(agent) for agent in agents], empty="No agent has registered yet.")


@node.command("show")
@click.argument("agent")
@master_options
def node_show(agent: str, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Show one agent and what runs there, by id (or its beginning), hostname or HOST:PORT."""
    asked = Master(masters(master), credential(credential_file))
    found = find_agent(agent, _agents(asked))
    agent_id = value(found["agent_info"], "id")
    tasks = [
        task
        for task in asked.call("GET_TASKS").get("tasks", [])
        if value(task, "agent_id") == agent_id and task["state"] not in TERMINAL  # Ended ones stay there until acknowledged.
    ]
    if as_json:
        output.emit_json({**for_json(found), "tasks": [task_json(one) for one in tasks]})
        return
    info = found["agent_info"]
    total, used = (scalars(found.get(part, []), apart=True) for part in ("total_resources", "allocated_resources"))
    offered = scalars(found.get("offered_resources", []), apart=True)
    output.details(
        {
            "id": agent_id,
            "host": info["hostname"],
            "address": str(found.get("pid", "")).rpartition("@")[2],
            "state": state(found),
            "drain": _drain(found),
            "maintenance": _maintenance(found),
            "version": str(found.get("meseta_version", "")),
            "registered": f"{since} ago" if (since := output.age(seconds(found.get("registered_time")))) else "",
            "attributes": _attributes(info),
            **{name: _amounts(used.get(name, 0.0), offered.get(name, 0.0), amount) for name, amount in total.items()},
        }
    )
    if tasks:
        click.echo()
        output.table(TASK_HEADINGS, task_rows(tasks, [found], asked.call("GET_FRAMEWORKS").get("frameworks", [])), empty="")


def _drain(agent: dict[str, Any]) -> str:
    """Since when and on which terms it is drained, if it is."""
    if (drain := agent.get("drain_info")) is None:
        return ""
    since, config = seconds(agent.get("estimated_drain_start_time")), drain.get("config", {})
    terms = [f"since {output.age(since)}"] if since else []
    if "max_grace_period" in config:
        terms.append(f"tasks get at most {show_duration(int(config['max_grace_period']['nanoseconds']))}")
    if config.get("mark_gone"):
        terms.append("then marked gone")
    return ", ".join(terms)


def _maintenance(agent: dict[str, Any]) -> str:
    """When its machine is to be unavailable, if it is."""
    if (when := agent.get("unavailability")) is None:
        return ""
    length = f" for {show_duration(int(when['duration']['nanoseconds']))}" if "duration" in when else ""
    return f"{show_instant(int(when['start']['nanoseconds']))}{length}"


def for_json(agent: dict[str, Any]) -> dict[str, Any]:
    """The v1 message, with what scripts look for on top of it."""
    return {"id": value(agent["agent_info"], "id"), "hostname": agent["agent_info"]["hostname"], "state": state(agent), **agent}


def known(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The agents of a GET_AGENTS answer, those included that a master knows from before its start and waits for."""
    awaited = [
        {"agent_info": info, "recovered": True, "active": False, "total_resources": info.get("resources", [])}
        for info in answer.get("recovered_agents", [])
    ]
    return [*answer.get("agents", []), *awaited]


def state(agent: dict[str, Any]) -> str:
    """One word for how an agent is."""
    if agent.get("recovered"):
        return "recovered"
    if (drain := agent.get("drain_info")) is not None:
        return str(drain["state"]).lower()
    return "deactivated" if agent.get("deactivated") else "active" if agent.get("active") else "disconnected"


def _agents(master: Master) -> list[dict[str, Any]]:
    """By host. unavailability: of those whose machine is in the maintenance schedule, beside the API's keys."""
    agents = sorted(
        known(master.call("GET_AGENTS")), key=lambda agent: (agent["agent_info"]["hostname"], agent["agent_info"].get("port", 0))
    )
    if machines := planned(master):
        for agent in agents:
            when = matching(machines, agent["agent_info"]["hostname"], agent_ip(agent))
            if when is not None:
                agent["unavailability"] = when
    return agents


def _row(agent: dict[str, Any]) -> tuple[str, ...]:
    total, used = (scalars(agent.get(part, []), apart=True) for part in ("total_resources", "allocated_resources"))
    info = agent["agent_info"]
    return (
        value(info, "id"),
        address(agent),
        f"{state(agent)}, maintenance" if "unavailability" in agent else state(agent),
        f"{output.number(used.get('cpus', 0))}/{output.number(total.get('cpus', 0))}",
        f"{output.mebibytes(used.get('mem', 0))}/{output.mebibytes(total.get('mem', 0))}",
        f"{output.number(used.get('gpus', 0))}/{output.number(total['gpus'])}" if total.get("gpus") else "-",
        output.age(seconds(agent.get("registered_time"))),
        _attributes(info) or "-",
    )


def _amounts(used: float, offered: float, total: float) -> str:
    return f"{output.number(used)} used, {output.number(offered)} offered, {output.number(total)} in all"


def _attributes(info: dict[str, Any]) -> str:
    return ", ".join(f"{attribute['name']}={_attribute(attribute)}" for attribute in info.get("attributes", []))


def _attribute(attribute: dict[str, Any]) -> str:
    if "text" in attribute:
        return str(attribute["text"]["value"])
    if "scalar" in attribute:
        return output.number(attribute["scalar"]["value"])
    return ",".join(f"{span['begin']}-{span['end']}" for span in attribute.get("ranges", {}).get("range", []))
