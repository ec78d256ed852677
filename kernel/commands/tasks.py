"""Tasks as a master tells of them: finding one, and how they are shown."""

from __future__ import annotations

from typing import Any

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.lookup import address, find, scalars, value

HEADINGS = ("ID", "NAME", "FRAMEWORK", "HOST", "STATE", "CPUS", "MEM", "SINCE")
LISTS = ("tasks", "unreachable_tasks", "completed_tasks")
TERMINAL = frozenset(
    f"TASK_{state}" for state in ("FINISHED", "FAILED", "KILLED", "ERROR", "LOST", "DROPPED", "GONE", "GONE_BY_OPERATOR", "UNKNOWN")
)


def tasks_in(master: Master, lists: tuple[str, ...]) -> list[dict[str, Any]]:
    answer = master.call("GET_TASKS")
    return [one for name in lists for one in answer.get(name, [])]


def find_task(master: Master, given: str) -> dict[str, Any]:
    """One task, the live ones first: an ended one of the same id is older."""
    tasks = tasks_in(master, LISTS)
    live = [one for one in tasks if given in names_of(one) and one["state"] not in TERMINAL]
    found: dict[str, Any] = live[0] if len(live) == 1 else find("task", given, _latest(tasks), names_of, "meseta task list --all")
    return found


def _latest(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last of each run of attempts that share an id within a framework."""
    return list({(value(one, "framework_id"), value(one, "task_id")): one for one in tasks}.values())


def for_json(task: dict[str, Any]) -> dict[str, Any]:
    """The v1 message, with its id as plain text on top of it."""
    return {"id": value(task, "task_id"), **task}


def rows(tasks: list[dict[str, Any]], agents: list[dict[str, Any]], frameworks: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of a table of tasks."""
    hosts = hosts_of(agents)
    called = {value(one["framework_info"], "id"): one["framework_info"]["name"] for one in frameworks}
    shown: list[tuple[str, ...]] = []
    for one in tasks:
        amounts = scalars(one.get("resources", []))
        framework_id = value(one, "framework_id")
        shown.append(
            (
                value(one, "task_id"),
                one.get("name", ""),
                called.get(framework_id, framework_id),
                hosts.get(value(one, "agent_id"), value(one, "agent_id")),
                word(one["state"]),
                output.number(amounts.get("cpus", 0)),
                output.mebibytes(amounts.get("mem", 0)),
                output.age(last_status(one).get("timestamp")),
            )
        )
    return shown


def last_status(task: dict[str, Any]) -> dict[str, Any]:
    statuses = task.get("statuses") or [{}]
    status: dict[str, Any] = statuses[-1]
    return status


def word(state: str) -> str:
    return state.removeprefix("TASK_").lower()


def names_of(task: dict[str, Any]) -> tuple[str, ...]:
    return value(task, "task_id"), task.get("name", "")


def hosts_of(agents: list[dict[str, Any]]) -> dict[str, str]:
    """HOST:PORT of each by its id: several may share a machine."""
    return {value(one["agent_info"], "id"): address(one) for one in agents}
