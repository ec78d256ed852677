"""Reads of the master's state, each by name: `get_*` of the operator API, paths of the older endpoints, `metrics`.

Runs inside the main loop between two inputs, so that every view shows one instant. Bodies are JSON in fragments, for the edge
to send in pieces; what is large is rendered only then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernel.errors import NotFound
from kernel.master.state import MasterState
from kernel.master.views import allocation, explanation, legacy, metrics, operator

_VIEWS: dict[str, Callable[[MasterState, Any], Any]] = {
    **operator.VIEWS,
    **legacy.VIEWS,
    **explanation.VIEWS,
    **allocation.VIEWS,
    "metrics": metrics.numbers,
    "subscribed": operator.subscribed,
}
NAMES = tuple(_VIEWS)


def render(state: MasterState, name: str, arguments: Any = None) -> Any:
    """Answer a view: an iterable of bytes, of which `subscribed` is the first event of an operator's stream; of `metrics`
    numbers by name. arguments: the query of an older endpoint. Raises NotFound for a name that is none."""
    view = _VIEWS.get(name)
    if view is None:
        raise NotFound(f"no view is called '{name}'")
    return view(state, arguments or {})
