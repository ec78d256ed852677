"""Plan maintenance of machines, take them down and bring them up."""

from __future__ import annotations

import ipaddress
from typing import Any

import click

from kernel.commands import output, times
from kernel.commands.api import Master
from kernel.commands.context import CommandError, credential, master_options, masters
from kernel.commands.times import show_duration, show_instant

HEADINGS = ("MACHINE", "STATE", "START", "DURATION", "FRAMEWORKS")


@click.group("maintenance")
def maintenance() -> None:
    """Plan maintenance of machines, take them down and bring them up.

    A machine is named by its hostname or its address; all agents there are meant.
    """


@maintenance.command("list")
@master_options
def maintenance_list(master: str | None, credential_file: str | None, as_json: bool) -> None:
    """List the machines that are scheduled, and what frameworks say to it."""
    asked = Master(masters(master), credential(credential_file))
    rows = _machines(asked)
    if as_json:
        output.emit_json(rows)
    else:
        output.table(HEADINGS, [_row(row) for row in rows], empty="No maintenance is planned.")


@maintenance.command("set")
@click.argument("machines", metavar="HOST...", nargs=-1, required=True)
@click.option("--start", metavar="TIME", type=times.instant, required=True, help="When it begins: 2026-12-01T02:00 (local), +2h or now.")
@click.option("--duration", metavar="DURATION", type=times.duration, help="How long it takes, such as 2h (default: nobody knows).")
@master_options
def maintenance_set(
    machines: tuple[str, ...], start: int, duration: int | None, master: str | None, credential_file: str | None, as_json: bool
) -> None:
    """Plan maintenance of machines, in place of what was planned for them; the rest of the schedule stays."""
    asked = Master(masters(master), credential(credential_file))
    windows, named = _schedule(asked), [_machine_id(machine) for machine in machines]
    unavailability: dict[str, Any] = {"start": {"nanoseconds": start}}
    if duration is not None:
        unavailability["duration"] = {"nanoseconds": duration}
    known = [machine for window in windows for machine in window["machine_ids"]]
    found = [_same(machine, known) or machine for machine in named]
    window = {"machine_ids": found, "unavailability": unavailability}
    asked.call("UPDATE_MAINTENANCE_SCHEDULE", schedule={"windows": [*_without(windows, found), window]})
    agents = asked.call("GET_AGENTS").get("agents", [])
    for machine in found:
        if not any(matching([(machine, unavailability)], agent["agent_info"]["hostname"], agent_ip(agent)) for agent in agents):
            click.echo(f"No agent is on {_name(machine)} now.", err=True)
    _tell(asked, found, f"planned for {show_instant(start)}{f', {show_duration(duration)}' if duration is not None else ''}", as_json)


@maintenance.command("clear")
@click.argument("machines", metavar="HOST...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Of all machines that are not down.")
@master_options
def maintenance_clear(machines: tuple[str, ...], everything: bool, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Take planned maintenance of machines back."""
    if bool(machines) == everything:
        raise click.UsageError("name machines, or give --all")
    asked = Master(masters(master), credential(credential_file))
    windows = _schedule(asked)
    if everything:
        found = [row["machine"] for row in _machines(asked) if row["state"] != "down"]
    else:
        found = _scheduled(machines, windows)
    if found:
        asked.call("UPDATE_MAINTENANCE_SCHEDULE", schedule={"windows": _without(windows, found)})
    _tell(asked, found, "not planned any more", as_json)


@maintenance.command("down")
@click.argument("machines", metavar="HOST...", nargs=-1, required=True)
@master_options
def maintenance_down(machines: tuple[str, ...], master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Take scheduled machines down: agents there are told to end, what still runs is lost. `meseta node drain` ends it gently before."""
    asked = Master(masters(master), credential(credential_file))
    found = _scheduled(machines, _schedule(asked))
    asked.call("START_MAINTENANCE", machines=found)
    _tell(asked, found, "down; `meseta maintenance up` lets agents register there again", as_json)


@maintenance.command("up")
@click.argument("machines", metavar="HOST...", nargs=-1, required=True)
@master_options
def maintenance_up(machines: tuple[str, ...], master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Bring machines up that are down: they leave the schedule, agents may register there again."""
    asked = Master(masters(master), credential(credential_file))
    found = _scheduled(machines, _schedule(asked))
    asked.call("STOP_MAINTENANCE", machines=found)
    _tell(asked, found, "up", as_json)


# ---- What the master says -------------------------------------------------------------------------------


def planned(master: Master) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The machines scheduled, each with its unavailability."""
    return [(machine, window["unavailability"]) for window in _schedule(master) for machine in window["machine_ids"]]


def matching(machines: list[tuple[dict[str, Any], dict[str, Any]]], hostname: str, ip: str) -> dict[str, Any] | None:
    """When an agent is to be unavailable, if it is."""
    here = {"hostname": hostname.lower(), "ip": ip}
    return next((when for machine, when in machines if machine and all(here.get(key) == text for key, text in machine.items())), None)


def agent_ip(agent: dict[str, Any]) -> str:
    """The address that an agent of GET_AGENTS listens on."""
    return str(agent.get("pid", "")).rpartition("@")[2].rpartition(":")[0].strip("[]")


def _schedule(master: Master) -> list[dict[str, Any]]:
    windows: list[dict[str, Any]] = master.call("GET_MAINTENANCE_SCHEDULE").get("schedule", {}).get("windows", [])
    return windows


def _machines(master: Master) -> list[dict[str, Any]]:
    """One object a machine: its name, state, window and what frameworks answered."""
    status = master.call("GET_MAINTENANCE_STATUS").get("status", {})
    down = status.get("down_machines", [])
    answers = [(entry["id"], entry.get("statuses", [])) for entry in status.get("draining_machines", [])]
    return [
        {
            "machine": machine,
            "state": "down" if machine in down else "draining",
            "unavailability": when,
            "statuses": next((statuses for known, statuses in answers if known == machine), []),
        }
        for machine, when in planned(master)
    ]


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    when = row["unavailability"]
    counts: dict[str, int] = {}
    for status in row["statuses"]:
        counts[status["status"]] = counts.get(status["status"], 0) + 1
    words = {"ACCEPT": "will leave", "DECLINE": "object", "UNKNOWN": "asked"}
    return (
        _name(row["machine"]),
        "down" if row["state"] == "down" else "planned",
        show_instant(int(when["start"]["nanoseconds"])),
        show_duration(int(when["duration"]["nanoseconds"])) if "duration" in when else "-",
        ", ".join(f"{counts[answer]} {words[answer]}" for answer in words if answer in counts) or "-",
    )


def _name(machine: dict[str, Any]) -> str:
    hostname, ip = machine.get("hostname"), machine.get("ip")
    return f"{hostname} ({ip})" if hostname and ip else str(hostname or ip)


# ---- What people name -----------------------------------------------------------------------------------


def _machine_id(text: str) -> dict[str, str]:
    try:
        return {"ip": str(ipaddress.ip_address(text))}
    except ValueError:
        return {"hostname": text.lower()}


def _same(machine: dict[str, str], known: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The one in the schedule that is meant: it may be named there by more."""
    return next((one for one in known if all(one.get(key) == text for key, text in machine.items())), None)


def _scheduled(machines: tuple[str, ...], windows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = [machine for window in windows for machine in window["machine_ids"]]
    found = []
    for text in machines:
        machine = _same(_machine_id(text), known)
        if machine is None:
            raise CommandError(f"no maintenance of {text} is planned", field="machines", hint="`meseta maintenance list` shows what is")
        found.append(machine)
    return found


def _without(windows: list[dict[str, Any]], machines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rest = [{**window, "machine_ids": [one for one in window["machine_ids"] if one not in machines]} for window in windows]
    return [window for window in rest if window["machine_ids"]]


def _tell(master: Master, machines: list[dict[str, Any]], what: str, as_json: bool) -> None:
    if as_json:
        rows, up = _machines(master), {"state": "up"}
        output.emit_json([next((row for row in rows if row["machine"] == one), {"machine": one, **up}) for one in machines])
    elif machines:
        click.echo("\n".join(f"{_name(machine)} is {what}." for machine in machines))
    else:
        click.echo("No maintenance is planned of machines that are not down.", err=True)
