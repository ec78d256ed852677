"""Run a command on the cluster as if it ran here, with its output, exit status and Ctrl-C."""

from __future__ import annotations

import os
import re

import click

from kernel.commands.context import credential, master_options, masters
from kernel.errors import KernelError


class CouldNotRun(click.ClickException):
    """Exit status 125, which no ordinary task has."""

    exit_code = 125

    def __init__(self, error: KernelError) -> None:
        super().__init__(str(error))
        self.field, self.hint = getattr(error, "field", None), getattr(error, "hint", None)


def _variables(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    variables = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE", param=parameter)
        variables[name] = text
    return variables


def _ports(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[int, int, str], ...]:
    ports = []
    for value in values:
        found = re.fullmatch(r"(\d{1,5}):(\d{1,5})(?:/(tcp|udp))?", value)
        if found is None or not all(0 < int(port) < 65536 for port in found.groups()[:2]):
            raise click.BadParameter(f"{value!r} is not HOST:CONTAINER or HOST:CONTAINER/udp, of ports from 1 to 65535", param=parameter)
        ports.append((int(found[1]), int(found[2]), found[3] or "tcp"))
    return tuple(ports)


@click.command("run", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("--name", metavar="NAME", help="What to call the tasks; default: the program's name.")
@click.option("--cpus", type=click.FloatRange(min=0.001), default=0.1, show_default=True, help="Cores for each task.")
@click.option("--mem", type=click.FloatRange(min=1), default=32.0, show_default=True, help="MiB of memory for each task.")
@click.option("--disk", type=click.FloatRange(min=0), default=0.0, help="MiB of disk for each task.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, help="GPUs for each task.")
@click.option("--revocable", is_flag=True, help="Run on cpus that others were given and do not use; it may be ended when they do.")
@click.option("--role", default="*", show_default=True, help="The role whose share is used.")
@click.option("--image", metavar="IMAGE", help="Run inside this container image.")
@click.option(
    "--containerizer", type=click.Choice(["oci", "docker"]), help="Who runs the image: the agent (oci, default), or the Docker engine."
)
@click.option(
    "--network", metavar="NAME", help="The network of its container: host (default), none, bridge, or another that the agent knows."
)
@click.option(
    "--port",
    "ports",
    metavar="HOST:CONTAINER[/udp]",
    multiple=True,
    callback=_ports,
    help="Port of the agent's machine that leads into the container, which is on the network bridge then; may be repeated.",
)
@click.option("--env", "variables", metavar="NAME=VALUE", multiple=True, callback=_variables, help="Environment; may be repeated.")
@click.option(
    "--fetch",
    metavar="URI",
    multiple=True,
    help="File it needs: http, https, hdfs, or a path there. Archives are extracted, `#sha256=HEX` is checked; may be repeated.",
)
@click.option("--user", default="", help="Run as this user of the agent's machine; default: the agent decides.")
@click.option(
    "--instances", metavar="N", type=click.IntRange(1, 1_000_000), default=1, help="Run it N times; outputs stay in the sandboxes."
)
@click.option("--detach", is_flag=True, help="Print the tasks' ids when they run and leave them running; `meseta task kill` ends one.")
@master_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    name: str | None,
    cpus: float,
    mem: float,
    disk: float,
    gpus: int,
    revocable: bool,
    role: str,
    image: str | None,
    containerizer: str | None,
    network: str | None,
    ports: tuple[tuple[int, int, str], ...],
    variables: dict[str, str],
    fetch: tuple[str, ...],
    user: str,
    instances: int,
    detach: bool,
    master: str | None,
    credential_file: str | None,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND somewhere in the cluster. What several instances print stays in their sandboxes (`meseta task logs`).

    Exit status: the task's; 128+n when signal n ended it; 125 when it could not run; with --instances 0 when all
    succeeded, else 1.
    """
    if containerizer and not image:
        raise click.UsageError("--containerizer needs an --image")
    if (network or ports) and not image:
        raise click.UsageError("--network and --port need an --image")
    if ports and network in ("host", "none"):
        raise click.UsageError(f"--port leads into a network of the container's own, as bridge; {network} is none")
    try:
        urls, principal = masters(master, follows=True), credential(credential_file)
    except KernelError as error:
        raise CouldNotRun(error) from error
    from frameworks.run.core import Job
    from frameworks.run.main import run_job
    from frameworks.sdk.tasks import HOST, Port, resources

    job = Job(
        argv=command,
        name=_task_name(name or os.path.basename(command[0])),
        wants=resources(cpus, mem, disk, gpus, revocable=("cpus",) if revocable else ()),
        role=role,
        image=image,
        containerizer=containerizer or "oci",
        env=variables,
        instances=instances,
        detach=detach,
        user=user,
        fetch=fetch,
        network=network or ("bridge" if ports else HOST),
        ports=tuple(Port(*port) for port in ports),
    )
    try:
        return run_job(job, urls, principal, as_json=as_json)
    except KernelError as error:
        raise CouldNotRun(error) from error


def _task_name(text: str) -> str:
    """Something that can be part of an id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:100] or "task"
