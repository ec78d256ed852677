"""Finds what people name: an id, the beginning of one, a name or a hostname. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kernel.commands.context import CommandError

SHOWN_MAX = 5


class Ambiguous(CommandError):
    """It may be several."""


def find(
    kind: str, given: str, candidates: Sequence[dict[str, Any]], names: Callable[[dict[str, Any]], Sequence[str]], list_by: str
) -> Any:
    """The one candidate called `given`: by a whole name, else by the beginning of one.

    names: the id first, then others it goes by. list_by: the command that lists them. Raises CommandError.
    """
    exact = [candidate for candidate in candidates if given in names(candidate)]
    matching = exact or [candidate for candidate in candidates if given and any(name.startswith(given) for name in names(candidate))]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        raise CommandError(f"there is no {kind} {given!r}", field=kind, hint=f"`{list_by}` shows what there is")
    ids = ", ".join(names(candidate)[0] for candidate in matching[:SHOWN_MAX])
    more = f" and {len(matching) - SHOWN_MAX} more" if len(matching) > SHOWN_MAX else ""
    raise Ambiguous(f"{given!r} may be any of {len(matching)} {kind}s: {ids}{more}", field=kind, hint="give more of the id")


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
