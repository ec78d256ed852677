"""What the agent shows: bodies of the operator API and of Mesos's older endpoints (spec: mesos-v1, 4.2 and 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernel.agent.state import AgentState
from kernel.errors import NotFound

_VIEWS: dict[str, Callable[[AgentState, Any], Any]] = {}


def render(state: AgentState, name: str, arguments: Any = None) -> Any:
    """Return the body of a view. Raises NotFound for a name that is none."""
    view = _VIEWS.get(name)
    if view is None:
        raise NotFound(f"no view is called {name}")
    return view(state, arguments)
