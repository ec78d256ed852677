"""The section on Chronos in docs/compatibility.md has every endpoint that is served under both prefixes."""

from __future__ import annotations

import re
from pathlib import Path

from chronos.api.server import PREFIXES
from tests.chronos.serving import Api

PAGE = (Path(__file__).parents[2] / "docs/compatibility.md").read_text()


def test_each_endpoint_has_its_row_and_is_there(api: Api) -> None:
    table = PAGE.split("\n## Chronos")[1].split("| endpoint | state | remarks |\n")[1].split("\n\n")[0]
    rows = set(re.findall(r"^\| (/\S+) \|", table, re.MULTILINE))
    served = {entry["name"] for entry in api.get("/help?format=json")["processes"][0]["endpoints"]}
    for prefix in PREFIXES:
        assert {path.removeprefix(prefix) for path in served if path.startswith(prefix)} == rows - {"/leader"}
        assert api.ask("GET", f"{prefix}/leader").status == 200
