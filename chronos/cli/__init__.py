"""Run jobs by the clock and one after another."""

from __future__ import annotations

import click

from kernel.cli import LazyGroup, resolve, summary

_PLACES = {
    "files": ("add", "apply"),
    "importing": ("import",),
    "jobs": ("list", "show", "next", "rm", "enable", "disable", "pause", "resume", "graph"),
    "runs": ("run", "rerun", "backfill", "history", "logs", "kill"),
}


def _targets() -> dict[str, str]:
    return {name: f"chronos.cli.{module}:cron_{name}" for module, names in _PLACES.items() for name in names}


def _load(target: str) -> click.Command:
    command = resolve(target)
    assert isinstance(command, click.Command), f"{target} is not a click command"
    return command


class _Cron(LazyGroup):
    """Its members' lines of help begin with "`meseta cron NAME`"."""

    def summary(self, name: str) -> str:
        return summary(f"cron {name}", self.targets[name])


@click.command("cron", cls=_Cron, targets=_targets, load=_load)
def cron() -> None:
    """Run jobs by the clock and one after another, on the scheduler of jobs (`meseta serve chronos`).

    A job has a schedule (`*/5 * * * *`, `@daily`, `@every 90s`, `R/2026-01-01T00:00:00Z/PT1H`) or parents, after which it runs.
    """
