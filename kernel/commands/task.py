"""Show tasks, read what they print, end them."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Master, Peer, read_output
from kernel.commands.context import CommandError, credential, master_options, masters
from kernel.commands.lookup import find, find_agent, scalars, value
from kernel.commands.task_why import task_why
from kernel.commands.tasks import HEADINGS, LISTS, TERMINAL, find_task, for_json, hosts_of, last_status, names_of, rows, tasks_in, word
from kernel.net.client import Refused, Unreachable

FOLLOW_S = 0.25
STATE_EVERY = 4  # Looks at the output between two looks at the task's state.


@click.group("task")
def task() -> None:
    """Show tasks, read what they print, end them."""


task.add_command(task_why)


@task.command("list")
@click.option("--all", "everything", is_flag=True, help="Completed ones too.")
@click.option("--framework", metavar="ID", help="Only of this framework, by id (or its beginning) or name.")
@click.option("--node", metavar="ID", help="Only on this agent, by id (or its beginning), hostname or HOST:PORT.")
@master_options
def task_list(
    everything: bool, framework: str | None, node: str | None, master: str | None, credential_file: str | None, as_json: bool
) -> None:
    """List tasks."""
    asked = Master(masters(master), credential(credential_file))
    tasks = [one for one in tasks_in(asked, LISTS if everything else LISTS[:2]) if everything or one["state"] not in TERMINAL]
    agents: list[dict[str, Any]] = [] if as_json and node is None else asked.call("GET_AGENTS").get("agents", [])
    frameworks = [] if as_json and framework is None else _frameworks(asked)
    if framework is not None:
        chosen = find("framework", framework, frameworks, _framework_names, "meseta framework list --all")
        tasks = [one for one in tasks if value(one, "framework_id") == value(chosen["framework_info"], "id")]
    if node is not None:
        agent = find_agent(node, agents)
        tasks = [one for one in tasks if value(one, "agent_id") == value(agent["agent_info"], "id")]
    if as_json:
        output.emit_json([for_json(one) for one in tasks])
    else:
        empty = "There are no tasks." if everything else "No task is running; --all shows those that have ended."
        output.table(HEADINGS, rows(tasks, agents, frameworks), empty=empty)


@task.command("show")
@click.argument("task")
@master_options
def task_show(task: str, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Show one task, by id (or its beginning) or name."""
    asked = Master(masters(master), credential(credential_file))
    found = find_task(asked, task)
    if as_json:
        output.emit_json(for_json(found))
        return
    status = last_status(found)
    agents = asked.call("GET_AGENTS").get("agents", [])
    amounts = scalars(found.get("resources", []))
    output.details(
        {
            "id": value(found, "task_id"),
            "name": found.get("name", ""),
            "state": word(found["state"]),
            "message": status.get("message", ""),
            "reason": _reason(status.get("reason", "")),
            "healthy": {True: "yes", False: "no"}.get(status.get("healthy", ""), ""),
            "since": output.age(status.get("timestamp")),
            "framework": value(found, "framework_id"),
            "agent": value(found, "agent_id"),
            "host": hosts_of(agents).get(value(found, "agent_id"), ""),
            "executor": value(found, "executor_id"),
            "user": found.get("user", ""),
            "resources": ", ".join(f"{name} {output.number(amount)}" for name, amount in amounts.items()),
            "history": ", ".join(word(one["state"]) for one in found.get("statuses", [])),
        }
    )


@task.command("logs")
@click.argument("task")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task ends.")
@click.option("--stdout", "only", flag_value="stdout", help="Only what it wrote to stdout.")
@click.option("--stderr", "only", flag_value="stderr", help="Only what it wrote to stderr.")
@master_options
def task_logs(task: str, follow: bool, only: str | None, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Print what a task has written: its stdout to stdout, its stderr to stderr."""
    asked = Master(masters(master), credential(credential_file))
    found = find_task(asked, task)
    peer = _agent_of(asked, found, "what it printed is there; wait until the agent is back")
    try:
        _copy(asked, peer, found, (only,) if only is not None else ("stdout", "stderr"), follow=follow, as_json=as_json)
    except Unreachable as error:
        raise CommandError(f"cannot read from the task's agent: {error}", hint="is it running? see `meseta node list`") from error


@task.command("stats")
@click.argument("task")
@click.option("--watch", is_flag=True, help="Go on, a line each second, until interrupted or the task ends.")
@master_options
def task_stats(task: str, watch: bool, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Show what a running task uses: cpus, memory, processes."""
    from kernel.commands import task_stats as stats

    asked = Master(masters(master), credential(credential_file))
    found = find_task(asked, task)
    stats.show(_agent_of(asked, found, "wait until the agent is back"), found, watch=watch, as_json=as_json)


@task.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("task")
@click.option("-i", "--interactive", is_flag=True, help="Give it our input.")
@click.option("-t", "--tty", "terminal", is_flag=True, help="Give it a terminal: ours.")
@master_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def task_exec(
    task: str, interactive: bool, terminal: bool, master: str | None, credential_file: str | None, as_json: bool, command: tuple[str, ...]
) -> int:
    """Run COMMAND beside a running task: in its sandbox or image, as its user, with its limits; `-it TASK -- sh` opens a shell.

    Exit status: the command's; 128+n when signal n ended it.
    """
    from kernel.commands import task_exec as sessions

    principal = credential(credential_file)
    asked = Master(masters(master), principal)
    found = find_task(asked, task)
    peer = _agent_of(asked, found, "wait until the agent is back")
    try:
        return sessions.run(peer, principal, found, command, interactive=interactive or terminal, terminal=terminal)
    except Refused as error:
        raise CommandError(f"cannot run {command[0]} beside the task: {error}", field="command") from error
    except Unreachable as error:
        raise CommandError(f"cannot reach the task's agent: {error}", hint="is it running? see `meseta node list`") from error


@task.command("attach")
@click.argument("task")
@click.option("--no-stdin", is_flag=True, help="Only show what it prints.")
@master_options
def task_attach(task: str, no_stdin: bool, master: str | None, credential_file: str | None, as_json: bool) -> int:
    """Be the terminal of a running task that has one (`tty_info`), until it ends; Ctrl-P Ctrl-Q leaves it alone again.

    Exit status: the task's; 128+n when signal n ended it; 0 when it was left.
    """
    from kernel.commands import task_exec as sessions

    principal = credential(credential_file)
    asked = Master(masters(master), principal)
    found = find_task(asked, task)
    peer = _agent_of(asked, found, "wait until the agent is back")
    try:
        return sessions.attach(peer, principal, found, stdin=not no_stdin)
    except Refused as error:
        raise CommandError(f"cannot attach to the task: {error}", field="task") from error
    except OSError as error:
        raise CommandError(f"cannot reach the task's agent: {error}", hint="is it running? see `meseta node list`") from error


@task.command("kill")
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True)
@master_options
def task_kill(tasks: tuple[str, ...], master: str | None, credential_file: str | None, as_json: bool) -> None:
    """End tasks: SIGTERM, then SIGKILL after their grace period. Their frameworks may start them again."""
    asked = Master(masters(master), credential(credential_file))
    known = tasks_in(asked, LISTS)
    live = [one for one in known if one["state"] not in TERMINAL]
    ended = {name: word(one["state"]) for one in known if one["state"] in TERMINAL for name in names_of(one)}
    for given in tasks:
        if given in ended and not any(given in names_of(one) for one in live):  # `job-1` must not end `job-10` in its place.
            problem = f"task {given!r} has ended already ({ended[given]})"
            raise CommandError(problem, field="task", hint="`meseta task list` shows what runs")
    chosen = [find("task", given, live, names_of, "meseta task list") for given in tasks]
    for found in chosen:
        asked.call("KILL_TASK", framework_id=found["framework_id"], task_id=found["task_id"])
    if as_json:
        output.emit_json([{"framework_id": value(found, "framework_id"), "task_id": value(found, "task_id")} for found in chosen])
    else:
        for found in chosen:
            click.echo(f"Killing task {value(found, 'task_id')}.")


def _agent_of(master: Master, found: dict[str, Any], hint: str) -> Peer:
    """The agent that a task is on. Raises CommandError when it is not there."""
    agents: list[dict[str, Any]] = master.call("GET_AGENTS").get("agents", [])
    agent = next((one for one in agents if value(one["agent_info"], "id") == value(found, "agent_id")), None)
    if agent is None:
        raise CommandError(f"the agent of task {value(found, 'task_id')} is not registered", field="task", hint=hint)
    return master.agent(agent)


def _copy(master: Master, agent: Peer, found: dict[str, Any], names: tuple[str, ...], *, follow: bool, as_json: bool) -> None:
    sandbox = _sandbox(agent, found)
    offsets = dict.fromkeys(names, 0)
    looks = 0
    over = not follow or found["state"] in TERMINAL
    while True:
        last = over  # Known before the output is read: what is read then is all.
        for name in names:
            try:
                for end, data in read_output(agent, f"{sandbox}/{name}", offsets[name]):
                    offsets[name] = end
                    if data:
                        _print(name, data, as_json=as_json)
            except Refused as error:
                if error.status != 404:
                    raise
        if last:
            return
        time.sleep(FOLLOW_S)
        looks += 1
        if looks % STATE_EVERY == 0:
            present = next((one for one in tasks_in(master, LISTS) if _same(one, found)), None)
            over = present is None or present["state"] in TERMINAL


def _sandbox(agent: Peer, found: dict[str, Any]) -> str:
    """The virtual path of a task's sandbox: that of its executor, or below it for a task of a group."""
    task_id = value(found, "task_id")
    executor_id = value(found, "executor_id") or task_id
    run = f"/frameworks/{value(found, 'framework_id')}/executors/{executor_id}/runs/latest"
    own = f"{run}/tasks/{task_id}"
    try:
        if executor_id != task_id and agent.call("LIST_FILES", path=own).get("file_infos"):
            return own
        agent.call("LIST_FILES", path=run)
    except Refused as error:
        if error.status != 404:
            raise
        if executor_id == task_id:
            hint = "it has not started yet, or its sandbox has been removed by age"
            raise CommandError(f"task {task_id} has no sandbox on its agent", field="task", hint=hint) from error
    return run


def _print(name: str, data: bytes, *, as_json: bool) -> None:
    if as_json:
        output.emit_json({"stream": name, "data": data.decode(errors="replace")})
        return
    target = sys.stdout if name == "stdout" else sys.stderr
    target.buffer.write(data)
    target.buffer.flush()


def _reason(reason: str) -> str:
    return reason.removeprefix("REASON_").lower().replace("_", " ")


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["task_id"] == other["task_id"] and one["framework_id"] == other["framework_id"])


def _frameworks(master: Master) -> list[dict[str, Any]]:
    answer = master.call("GET_FRAMEWORKS")
    return [*answer.get("frameworks", []), *answer.get("completed_frameworks", [])]


def _framework_names(framework: dict[str, Any]) -> tuple[str, ...]:
    return value(framework["framework_info"], "id"), framework["framework_info"]["name"]
