"""Reads of the agent's state, each by name: `get_*` of the operator API, paths of the older endpoints, `metrics`.

Runs inside the main loop between two inputs, so that every view shows one instant (spec: mesos-v1, 4.2 and 5.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernel.agent.state import AgentState
from kernel.agent.views import legacy, metrics, operator, sandboxes
from kernel.errors import NotFound

_VIEWS: dict[str, Callable[[AgentState, Any], Any]] = {
    **operator.VIEWS,
    **legacy.VIEWS,
    "metrics": metrics.numbers,
    "sandboxes": sandboxes.in_use,
}


def render(state: AgentState, name: str, arguments: Any = None) -> Any:
    """Answer a view: encoded JSON; of `metrics` numbers by name, of `sandboxes` what is in use. arguments: the query of an older
    endpoint, the body of a call. Raises NotFound for a name that is none."""
    view = _VIEWS.get(name)
    if view is None:
        raise NotFound(f"no view is called {name}")
    return view(state, arguments)
