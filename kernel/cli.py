"""The `meseta` command. Packages add subcommands and daemons by the entry-point groups `meseta.commands` and `meseta.daemons`.

A subcommand is imported only when it is run: `--help` and completion tell of it by its module's docstring, read from the file.
Exit status: 0 done, 1 failed, 2 wrong usage; a command may exit with others of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from kernel import __version__
from kernel.daemons import Daemon
from kernel.errors import ConfigError, KernelError

INTERRUPTED = 130  # 128 + SIGINT, as shells say.


def entry_points(group: str) -> dict[str, str]:
    """What is installed under an entry-point group: name -> `module:attribute`, by name.

    Reads the `entry_points.txt` of each distribution on `sys.path`. `importlib.metadata` does the same, but importing
    it and letting it parse everything costs 60 ms, half of what a command should take.
    """
    found: dict[str, str] = {}
    for folder in dict.fromkeys(sys.path):
        for file in sorted(Path(folder or ".").glob("*.dist-info/entry_points.txt")):
            section = ""
            for line in file.read_text().splitlines():
                if line.startswith("["):
                    section = line.strip("[] ")
                elif section == group and "=" in line:
                    name, _, target = line.partition("=")
                    found.setdefault(name.strip(), target.strip())
    return dict(sorted(found.items()))


def resolve(target: str) -> object:
    """Import what `module:attribute` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def summary(name: str, target: str) -> str:
    """One line about a command, from the docstring of its module, which is not imported; empty when there is none.

    It is the line "`meseta NAME`: ..." where a module holds several commands, else the first one.
    """
    try:
        spec = importlib.util.find_spec(target.partition(":")[0])
    except ModuleNotFoundError:
        return ""
    if spec is None or spec.origin is None:
        return ""
    docstring = re.match(r'\s*"""(.*?)"""', Path(spec.origin).read_text(), re.DOTALL)
    if docstring is None:
        return ""
    own = re.search(rf"^`meseta {name}`: (.*)$", docstring[1], re.MULTILINE)
    return own[1] if own is not None else docstring[1].partition("\n")[0]


class LazyGroup(click.Group):
    """A group whose members are found by name and imported when run.

    targets: name -> `module:attribute`; asked once, at first need. load: makes the command of a target.
    """

    def __init__(self, targets: Callable[[], dict[str, str]], load: Callable[[str], click.Command], **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._find, self._load = targets, load
        self._targets: dict[str, str] | None = None

    @property
    def targets(self) -> dict[str, str]:
        if self._targets is None:
            self._targets = self._find()
        return self._targets

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self.targets})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.commands or cmd_name not in self.targets:
            return super().get_command(ctx, cmd_name)
        return self._load(self.targets[cmd_name])

    def summary(self, name: str) -> str:
        return self.commands[name].get_short_help_str(100) if name in self.commands else summary(name, self.targets[name])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summary(name)) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name, help=self.summary(name)) for name in names] + click.Command.shell_complete(self, ctx, incomplete)


def _load_command(target: str) -> click.Command:
    command = resolve(target)
    assert isinstance(command, click.Command), f"{target} is not a click command"
    return command


def _load_daemon(target: str) -> click.Command:
    return _load_command(daemon(target).main)


def daemon(target: str) -> Daemon:
    """The description of a daemon that an entry point of `meseta.daemons` names."""
    found = resolve(target)
    assert isinstance(found, Daemon), f"{target} is not a Daemon"
    return found


def _daemon_targets() -> dict[str, str]:
    """Daemons by name; the targets name the light descriptions."""
    return entry_points("meseta.daemons")


class _ServeGroup(LazyGroup):
    def summary(self, name: str) -> str:
        return summary(name, daemon(self.targets[name]).main)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"meseta {__version__}")
        ctx.exit()


@click.command(
    cls=LazyGroup,
    targets=lambda: entry_points("meseta.commands"),
    load=_load_command,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version and exit.")
def cli() -> None:
    """Meseta: one cluster out of many machines, shared by frameworks through resource offers."""


@cli.command("serve", cls=_ServeGroup, targets=_daemon_targets, load=_load_daemon)
def serve() -> None:
    """Run one daemon in the foreground."""


@cli.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script: eval "$(meseta completion bash)"."""
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(cli, {}, "meseta", "_MESETA_COMPLETE").source())


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit status. Errors go to stderr, as an object when `--json` is among the arguments."""
    as_json = "--json" in arguments[: arguments.index("--") if "--" in arguments else None]
    try:
        status = cli.main(list(arguments), prog_name="meseta", complete_var="_MESETA_COMPLETE", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:  # A group without a command.
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        _report(error, as_json, usage=error)
        return 2
    except click.ClickException as error:
        _report(error, as_json)
        return error.exit_code
    except KernelError as error:
        _report(error, as_json)
        return 2 if isinstance(error, ConfigError) else 1
    except click.Abort:  # click's form of KeyboardInterrupt.
        return INTERRUPTED
    except BrokenPipeError:  # `meseta task list | head`: the reader has seen enough. Python would complain while exiting.
        _write_nowhere()
        return 1
    except OSError as error:
        if not _cannot_write():
            raise
        _write_nowhere()
        _report(KernelError(f"cannot write the output: {error.strerror or error}"), as_json)
        return 1


def _cannot_write() -> bool:
    """Whether stdout takes nothing, not even the end of a line: who raised an OSError cannot be seen by it."""
    try:
        click.echo()
    except OSError:
        return True
    return False


def _write_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: Exception, as_json: bool, usage: click.UsageError | None = None) -> None:
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    if as_json:
        param = getattr(error, "param", None)
        field = getattr(error, "field", None) or getattr(error, "option_name", None) or getattr(error, "param_hint", None)
        field = field or (param.opts[-1] if param is not None else None)
        problem = getattr(error, "problem", message)  # Without the hint, which has a key of its own.
        click.echo(json.dumps({"error": problem, "field": field, "hint": getattr(error, "hint", None) or None}), err=True)
        return
    if usage is not None and usage.ctx is not None:
        click.echo(usage.ctx.get_usage(), err=True)
        click.echo(f"Try '{usage.ctx.command_path} --help' for help.\n", err=True)
    click.echo(f"Error: {message}", err=True)


def main() -> NoReturn:
    """The console script."""
    if sys.stdout is None:  # `meseta ... >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it is for good.
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
