"""Pictures of replays and plans. Matplotlib is imported nowhere else, and only when a picture is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kernel.errors import ConfigError
from kernel.planning.plan import Plan
from kernel.planning.replay import Outcome

FORMATS = ("png", "svg", "pdf")


def draw(outcome: Outcome, path: Path) -> None:
    """Shares of the roles over time, what of the cluster was used, and how long tasks waited. Raises ConfigError."""
    figure = _figure(path, 9, 10)
    shares, used, waits = figure.subplots(3, 1)
    for role, series in sorted(outcome.shares.items()):
        points = series.points(outcome.end_s)
        shares.step([at_s for at_s, _ in points], [share for _, share in points], where="post", label=role)
    shares.set(title="Weighted dominant share by role", xlabel="seconds", ylabel="share", ylim=(0, None))
    shares.legend(loc="upper right", fontsize="small")
    for name, series in sorted(outcome.used.items()):
        points = series.points(outcome.end_s)
        used.step([at_s for at_s, _ in points], [part for _, part in points], where="post", label=name)
    used.set(title="Used part of the cluster", xlabel="seconds", ylabel="part", ylim=(0, 1.05))
    used.legend(loc="upper right", fontsize="small")
    for role, found in sorted(outcome.waits.items()):
        ordered = sorted(found)
        count, seen, xs, ys = sum(times for _, times in ordered), 0, [0.0], [0.0]
        for wait_s, times in ordered:
            seen += times
            xs.append(wait_s)
            ys.append(seen / count)
        waits.step(xs, ys, where="post", label=role)
    waits.set(title="Tasks that had started after so long", xlabel="seconds waited", ylabel="part", ylim=(0, 1.05))
    waits.legend(loc="lower right", fontsize="small")
    _save(figure, path)


def draw_plan(found: Plan, path: Path) -> None:
    """Each role's share in the long run, without the change and with it. Raises ConfigError."""
    names = [role.role for role in found.roles]
    figure = _figure(path, 9, 1.5 + 0.5 * max(1, len(names)))
    bars = figure.subplots()
    for offset, label, shares in (
        (-0.2, "as it is", [role.share_before for role in found.roles]),
        (0.2, "with the change", [role.share_after for role in found.roles]),
    ):
        drawn = bars.barh([place + offset for place in range(len(names))], shares, height=0.38, label=label)
        bars.bar_label(drawn, [f"{share:.1%}" for share in shares], padding=3, fontsize="small")
    bars.set_yticks(range(len(names)), names)
    bars.invert_yaxis()
    bars.set(title="Dominant share in the long run", xlabel="share", xlim=(0, None))
    bars.margins(x=0.1)
    bars.legend(fontsize="small")
    _save(figure, path)


def _figure(path: Path, width: float, height: float) -> Any:
    """Empty, in inches. Whether the file can be drawn is asked first."""
    if path.suffix.removeprefix(".").lower() not in FORMATS:
        raise ConfigError(f"--plot: '{path}' is not allowed; a file whose name ends in {', '.join('.' + name for name in FORMATS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("--plot: pictures need matplotlib; install it by `pip install 'meseta[plot]'`") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"--plot: cannot write {path}: {error.strerror}") from error
