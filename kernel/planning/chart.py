"""Pictures of a replay. Matplotlib is imported nowhere else, and only when a picture is asked for."""

from __future__ import annotations

from pathlib import Path

from kernel.errors import ConfigError
from kernel.planning.replay import Outcome

FORMATS = ("png", "svg", "pdf")


def draw(outcome: Outcome, path: Path) -> None:
    """Shares of the roles over time, what of the cluster was used, and how long tasks waited. Raises ConfigError."""
    if path.suffix.removeprefix(".").lower() not in FORMATS:
        raise ConfigError(f"--plot: '{path}' is not allowed; a file whose name ends in {', '.join('.' + name for name in FORMATS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("--plot: pictures need matplotlib; install it by `pip install 'meseta[plot]'`") from error
    figure = Figure(figsize=(9, 10), layout="constrained")
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
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"--plot: cannot write {path}: {error.strerror}") from error
