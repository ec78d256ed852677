"""Amounts as people write them: `cpus=2,mem=16g`."""

from __future__ import annotations

import re

from kernel.errors import CallError
from kernel.wire.resources import Resources
from kernel.wire.values import to_milli

MEBIBYTES = {"": 1.0, "m": 1.0, "k": 1 / 1024, "g": 1024.0, "t": 1024.0 * 1024.0}
SIZED = frozenset({"mem", "disk"})
_AMOUNT = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*[=:]\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([kmgtKMGT]?)(?:i?[bB])?\s*")


def parse_amounts(text: str, field: str, exact: bool = False) -> dict[str, int]:
    """Thousandths by name; sizes are MiB or have a unit. exact: what is no whole number of thousandths is refused, else rounded.
    Raises CallError naming the field."""
    amounts: dict[str, int] = {}
    for part in re.split(r"[,;]", text):
        found = _AMOUNT.fullmatch(part)
        if found is None:
            raise CallError(f"{field}: '{part.strip()}' is no amount; allowed: NAME=NUMBER, for mem and disk in MiB or with k, m, g or t")
        name, number, unit = found[1], float(found[2]), found[3].lower()
        if unit and name not in SIZED:
            raise CallError(f"{field}: {name} has no unit; '{part.strip()}' has one")
        if name in amounts:
            raise CallError(f"{field}: {name} is given twice")
        amounts[name] = to_milli(number * MEBIBYTES[unit], f"{field}.{name}")
        if exact and abs(number * MEBIBYTES[unit] - amounts[name] / 1000) > 1e-9 * max(1.0, number):
            raise CallError(f"{field}: '{part.strip()}' is too precise; thousandths are the least")
    return amounts


def parse_resources(text: str, field: str, exact: bool = False) -> Resources:
    """The same as unreserved resources; scalars only."""
    amounts = parse_amounts(text, field, exact)
    return Resources.parse(";".join(f"{name}:{milli / 1000}" for name, milli in amounts.items() if milli), field=field)
