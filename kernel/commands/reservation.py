"""Show what is reserved for whom, reserve, and give back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import CommandError, WrongUsage, credential, master_options, masters
from kernel.commands.lookup import address, find_agent, scalars, value
from kernel.errors import CallError
from kernel.net.auth import Credential
from kernel.planning.amounts import parse_amounts

HEADINGS = ("HOST", "ROLE", "KIND", "RESOURCES", "PRINCIPAL", "LABELS")


@click.group("reservation")
def reservation() -> None:
    """Show what is reserved for whom, reserve, and give back.

    What is reserved for a role is offered to it and the roles below it only.
    """


@reservation.command("list")
@click.option("--role", help="Only what is reserved for this role.")
@master_options
def reservation_list(role: str | None, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """List reservations: of agents' own flags (static), and those made since (dynamic). Volumes have a list of their own."""
    agents = Master(masters(master), credential(credential_file)).call("GET_AGENTS").get("agents", [])
    found = [one for agent in agents for one in _reservations(agent) if role in (None, one["role"])]
    if as_json:
        output.emit_json(found)
    else:
        empty = "Nothing is reserved." if role is None else f"Nothing is reserved for {role}."
        output.table(HEADINGS, [_row(one) for one in found], empty=empty)


@reservation.command("add")
@click.argument("node")
@click.argument("role")
@click.argument("amounts", metavar="AMOUNTS")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Keeps it apart from others of the role; may be repeated.")
@master_options
def reservation_add(
    node: str, role: str, amounts: str, labels: tuple[str, ...], master: str | None, credential_file: str | None, as_json: bool
) -> None:
    """Reserve for a role what is unreserved on a node, such as `cpus=2,mem=4g`. Offers are taken back for it, tasks are not ended."""
    who = credential(credential_file)
    wanted = [{**one, "reservations": [entry(role, who, labels)]} for one in resources(amounts)]
    _change("RESERVE_RESOURCES", node, wanted, Master(masters(master), who), f"reserved for {role}", as_json)


@reservation.command("rm")
@click.argument("node")
@click.argument("role")
@click.argument("amounts", metavar="[AMOUNTS]", required=False)
@master_options
def reservation_rm(node: str, role: str, amounts: str | None, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Give back what is reserved for a role on a node, all of it unless amounts say how much. What tasks use cannot be given back."""
    asked = Master(masters(master), credential(credential_file))
    agent = find_node(asked, node)
    held = [one for one in _reserved(agent) if role_of(one) == role and _kind(one) == "dynamic" and not is_volume(one)]
    if not held:
        raise CommandError(f"nothing is reserved for {role} there that could be given back", hint="`meseta reservation list` shows what is")
    wanted = held if amounts is None else list(_part(held, amounts, role))
    _change("UNRESERVE_RESOURCES", node, wanted, asked, f"not reserved for {role} any more", as_json)


# ---- Shared with volumes --------------------------------------------------------------------------------


def find_node(asked: Master, node: str) -> dict[str, Any]:
    """The agent that is called so. Raises CommandError."""
    return find_agent(node, asked.call("GET_AGENTS").get("agents", []))


def entry(role: str, who: Credential | None, labels: tuple[str, ...] = ()) -> dict[str, Any]:
    """A dynamic reservation, one of a stack. Raises WrongUsage."""
    made: dict[str, Any] = {"type": "DYNAMIC", "role": role}
    if who is not None:
        made["principal"] = who.principal
    if labels:
        pairs = [label.partition("=") for label in labels]
        wrong = next((label for label, (key, _, _) in zip(labels, pairs, strict=True) if not key), None)
        if wrong is not None:
            raise WrongUsage(f"--label: {wrong!r} is no label; write KEY=VALUE")
        made["labels"] = {"labels": [{"key": key, **({"value": text} if sign else {})} for key, sign, text in pairs]}
    return made


def resources(amounts: str) -> list[dict[str, Any]]:
    """Scalars as messages. Raises WrongUsage."""
    try:
        found = parse_amounts(amounts, "amounts", exact=True)
    except CallError as error:
        raise WrongUsage(str(error)) from error
    return [{"name": name, "type": "SCALAR", "scalar": {"value": milli / 1000}} for name, milli in found.items()]


def is_volume(resource: dict[str, Any]) -> bool:
    return "persistence" in resource.get("disk", {})


def role_of(resource: dict[str, Any]) -> str:
    """For whom it is reserved, by the last of its reservations."""
    return str(resource["reservations"][-1]["role"])


def asked_form(resource: dict[str, Any]) -> dict[str, Any]:
    """A resource as GET_AGENTS tells it, as calls take it."""
    return {name: part for name, part in resource.items() if name not in ("role", "reservation", "allocation_info")}


def _reserved(agent: dict[str, Any]) -> list[dict[str, Any]]:
    return [resource for resource in agent.get("total_resources", []) if resource.get("reservations")]


def _kind(resource: dict[str, Any]) -> str:
    return "static" if resource["reservations"][-1].get("type") == "STATIC" else "dynamic"


def _part(held: list[dict[str, Any]], amounts: str, role: str) -> Iterator[dict[str, Any]]:
    """So much of what is reserved, from as few reservations as it takes."""
    for wanted in resources(amounts):
        missing = much = round(wanted["scalar"]["value"] * 1000)
        for resource in held:
            if resource["name"] == wanted["name"] and resource["type"] == "SCALAR" and missing > 0:
                part = min(missing, round(resource["scalar"]["value"] * 1000))
                missing -= part
                yield {**resource, "scalar": {"value": part / 1000}}
        if missing > 0:
            name = wanted["name"]
            given, there = (output.amount(name, milli / 1000) for milli in (much, much - missing))
            raise CommandError(f"amounts: {name} {given} is more than is reserved for {role} there: {there}", field="amounts")


def _reservations(agent: dict[str, Any]) -> list[dict[str, Any]]:
    """What is reserved on an agent, for JSON: resources of one stack of reservations together."""
    found: dict[str, dict[str, Any]] = {}
    for resource in _reserved(agent):
        if not is_volume(resource):
            last = resource["reservations"][-1]
            one = found.setdefault(
                repr(resource["reservations"]),
                {
                    "agent_id": value(agent["agent_info"], "id"),
                    "hostname": agent["agent_info"]["hostname"],
                    "port": agent["agent_info"].get("port", 5051),
                    "role": role_of(resource),
                    "kind": _kind(resource),
                    "principal": last.get("principal"),
                    "labels": last.get("labels", {}).get("labels", []),
                    "reservations": resource["reservations"],
                    "resources": [],
                },
            )
            one["resources"].append(asked_form(resource))
    return list(found.values())


def amounts_text(listed: list[dict[str, Any]]) -> str:
    """Scalars as people write them; of other kinds their names."""
    sums = scalars(listed)
    texts = [f"{name} {output.amount(name, amount)}" for name, amount in sums.items()]
    return ", ".join([*texts, *dict.fromkeys(one["name"] for one in listed if one["name"] not in sums)])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    labels = ",".join(f"{label['key']}={label.get('value', '')}" for label in one["labels"])
    return address({"agent_info": one}), one["role"], one["kind"], amounts_text(one["resources"]), one["principal"] or "", labels


def _change(kind: str, node: str, listed: list[dict[str, Any]], asked: Master, done: str, as_json: bool) -> None:
    agent = find_node(asked, node)
    agent_id = value(agent["agent_info"], "id")
    given = [asked_form(one) for one in listed]
    asked.call(kind, agent_id={"value": agent_id}, resources=given)
    if as_json:
        output.emit_json({"agent_id": agent_id, "resources": given})
    else:
        click.echo(f"{amounts_text(given)} of {address(agent)}: {done}.")
