"""Show persistent volumes, make and destroy them."""

from __future__ import annotations

from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import CommandError, WrongUsage, credential, master_options, masters
from kernel.commands.lookup import address, value
from kernel.commands.reservation import asked_form, entry, find_node, is_volume, resources, role_of

HEADINGS = ("HOST", "ROLE", "ID", "SIZE", "KIND", "USED")


@click.group("volume")
def volume() -> None:
    """Show persistent volumes, make and destroy them.

    What a task writes into one is there for the next task of the role on that node.
    """


@volume.command("list")
@master_options
def volume_list(master: str | None, credential_file: str | None, as_json: bool) -> None:
    """List volumes."""
    agents = Master(masters(master), credential(credential_file)).call("GET_AGENTS").get("agents", [])
    found = [_for_json(agent, one) for agent in agents for one in _volumes(agent)]
    if as_json:
        output.emit_json(found)
    else:
        output.table(HEADINGS, [_row(one) for one in found], empty="There are no volumes.")


@volume.command("add", context_settings={"ignore_unknown_options": True})  # So that -10m is told why not.
@click.argument("node")
@click.argument("role")
@click.argument("volume_id", metavar="ID")
@click.argument("size", metavar="SIZE")
@click.option("--path", default="data", show_default=True, help="Where tasks see it that name no other place.")
@click.option("--shared", is_flag=True, help="Several tasks may use it at once.")
@master_options
def volume_add(
    node: str,
    role: str,
    volume_id: str,
    size: str,
    path: str,
    shared: bool,
    master: str | None,
    credential_file: str | None,
    as_json: bool,
) -> None:
    """Reserve disk of a node for a role (SIZE as 10g) and make a volume of it."""
    who = credential(credential_file)
    disk = {**_parsed(size), "reservations": [entry(role, who)]}
    asked = Master(masters(master), who)
    agent = find_node(asked, node)
    agent_id = {"value": value(agent["agent_info"], "id")}
    persistence = {"id": volume_id, **({"principal": who.principal} if who is not None else {})}
    made = {**disk, "disk": {"persistence": persistence, "volume": {"mode": "RW", "container_path": path}}}
    if shared:
        made["shared"] = {}
    asked.call("RESERVE_RESOURCES", agent_id=agent_id, resources=[disk])
    try:
        asked.call("CREATE_VOLUMES", agent_id=agent_id, volumes=[made])
    except CommandError:
        asked.call("UNRESERVE_RESOURCES", agent_id=agent_id, resources=[disk])  # Nothing is left behind.
        raise
    _tell(agent, made, "made", as_json)


@volume.command("rm")
@click.argument("node")
@click.argument("role")
@click.argument("volume_id", metavar="ID")
@master_options
def volume_rm(node: str, role: str, volume_id: str, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Destroy a volume with all that is in it, and give its disk back. One that a task uses stays."""
    asked = Master(masters(master), credential(credential_file))
    agent = find_node(asked, node)
    found = [one for one in _volumes(agent) if (role_of(one), _id(one)) == (role, volume_id)]
    if not found:
        raise CommandError(f"{role} has no volume {volume_id!r} there", field="id", hint="`meseta volume list` shows what there is")
    held = asked_form(found[0])
    agent_id = {"value": value(agent["agent_info"], "id")}
    asked.call("DESTROY_VOLUMES", agent_id=agent_id, volumes=[held])
    if held["reservations"][-1].get("type") == "DYNAMIC":
        asked.call("UNRESERVE_RESOURCES", agent_id=agent_id, resources=[_disk(held)])
    _tell(agent, held, "destroyed", as_json)


def _parsed(size: str) -> dict[str, Any]:
    """Disk of that size. Raises WrongUsage."""
    try:
        (disk,) = resources(f"disk={size}")
    except (WrongUsage, ValueError):
        disk = {}
    if not disk.get("scalar", {}).get("value"):
        raise WrongUsage(f"size: {size!r} is not allowed; MiB above 0 are, to the thousandth, or with k, m, g or t, as in 10g")
    return disk


def _disk(held: dict[str, Any]) -> dict[str, Any]:
    """What a volume was made of."""
    source = held["disk"].get("source")
    return {name: part for name, part in held.items() if name not in ("disk", "shared")} | ({"disk": {"source": source}} if source else {})


def _volumes(agent: dict[str, Any]) -> list[dict[str, Any]]:
    return [resource for resource in agent.get("total_resources", []) if is_volume(resource)]


def _id(resource: dict[str, Any]) -> str:
    return str(resource["disk"]["persistence"]["id"])


def _for_json(agent: dict[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
    info, role, volume_id = agent["agent_info"], role_of(resource), _id(resource)
    used = any(is_volume(one) and (role_of(one), _id(one)) == (role, volume_id) for one in agent.get("allocated_resources", []))
    where = {"agent_id": value(info, "id"), "hostname": info["hostname"], "port": info.get("port", 5051), "role": role, "id": volume_id}
    return {**where, "used": used, "resource": asked_form(resource)}


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    resource = one["resource"]
    source = resource["disk"].get("source", {}).get("type", "").lower()
    kind = ", ".join(word for word in (source, "shared" if "shared" in resource else "") if word)
    used = "yes" if one["used"] else ""
    return address({"agent_info": one}), one["role"], one["id"], output.mebibytes(resource["scalar"]["value"]), kind, used


def _tell(agent: dict[str, Any], resource: dict[str, Any], done: str, as_json: bool) -> None:
    if as_json:
        output.emit_json(_for_json(agent, resource))
    else:
        click.echo(f"Volume {_id(resource)} of {role_of(resource)} on {address(agent)} is {done}.")
