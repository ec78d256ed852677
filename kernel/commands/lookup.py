"""Finds what people name: an id, the beginning of one, a name or a hostname. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kernel.commands.context import CommandError

SHOWN_MAX = 5


class Ambiguous(CommandError):
    """It may be several."""


def find(
    kind: str,
    given: str,
    candidates: Sequence[dict[str, Any]],
    names: Callable[[dict[str, Any]], Sequence[str]],
    list_by: str,
    tell_apart: str = "give more of the id",
) -> Any:
    """The one candidate called `given`: by a whole name, else by the beginning of one.

    names: the id first, then others it goes by. list_by: the command that lists them; tell_apart: what to do when several may be meant.
    Raises CommandError.
    """
    exact = [candidate for candidate in candidates if given in names(candidate)]
    matching = exact or [candidate for candidate in candidates if given and any(name.startswith(given) for name in names(candidate))]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        raise CommandError(f"there is no {kind} {given!r}", field=kind, hint=f"`{list_by}` shows what there is")
    ids = ", ".join(names(candidate)[0] for candidate in matching[:SHOWN_MAX])
    more = f" and {len(matching) - SHOWN_MAX} more" if len(matching) > SHOWN_MAX else ""
    raise Ambiguous(f"{given!r} may be any of {len(matching)} {kind}s: {ids}{more}", field=kind, hint=tell_apart)


def find_agent(given: str, agents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The one of GET_AGENTS' agents that is called so. Raises CommandError."""
    found: dict[str, Any] = find("node", given, agents, agent_names, "meseta node list", "name it by HOST:PORT, or by more of its id")
    return found


def agent_names(agent: dict[str, Any]) -> tuple[str, ...]:
    """What an agent goes by: its id, its hostname, and with its port, as several may share a machine; the end of its id, such as S1."""
    agent_id = value(agent["agent_info"], "id")
    return agent_id, agent["agent_info"]["hostname"], address(agent), agent_id.rpartition("-")[2]


def address(agent: dict[str, Any]) -> str:
    """HOST:PORT of an agent."""
    info = agent["agent_info"]
    return f"{info['hostname']}:{info.get('port', 5051)}"


def value(message: dict[str, Any], name: str) -> str:
    """The text of an id field, empty when it is absent."""
    field = message.get(name)
    return str(field.get("value", "")) if isinstance(field, dict) else ""


def scalars(resources: Sequence[dict[str, Any]], *, apart: bool = False) -> dict[str, float]:
    """Sums of the scalar resources of a list, by name. apart: what is revocable counts as NAME_revocable."""
    sums: dict[str, float] = {}
    for resource in resources:
        if resource.get("type") == "SCALAR":
            name = f"{resource['name']}_revocable" if apart and "revocable" in resource else resource["name"]
            sums[name] = sums.get(name, 0.0) + float(resource.get("scalar", {}).get("value", 0.0))
    return sums


def seconds(time_info: dict[str, Any] | None) -> float | None:
    """A TimeInfo in seconds since the epoch."""
    return int(time_info["nanoseconds"]) / 1e9 if time_info else None
