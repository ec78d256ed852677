"""Runs many seeds: `python -m tests.sim --seeds 0:10000 --jobs 2`; `python -m tests.sim cron --seeds 0:2000` for the scheduler of jobs.

Resumable: every hundred seeds that ran are a line of `tests/sim/ledger.txt` (`chronos_ledger.txt`), with the code they ran on; those
recorded for the present code are passed over. A seed with a fault is printed with how to replay it, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from msgspec import Struct

from tests.sim import cron, history
from tests.sim.history import Outcome

CHUNK = 100
CODE = ("kernel", "frameworks/sdk", "tests/sim/world.py", "tests/sim/network.py", "tests/sim/machine.py", "tests/sim/cluster.py")


class Kind(Struct, frozen=True):
    """What is simulated. run: of a seed and virtual minutes of work and trouble. code: what a result holds for. replay: how to see one."""

    run: Callable[[int, float], Outcome]
    minutes: float
    ledger: str
    code: tuple[str, ...]
    replay: str


KINDS = {
    "cluster": Kind(history.run, history.MINUTES, "ledger.txt", CODE, "make sim SEED={}"),
    "cron": Kind(
        cron.run_minutes,
        cron.FULL.seconds / 60,
        "chronos_ledger.txt",
        (*CODE, "chronos", "tests/sim/cron.py", "tests/sim/cron_checker.py"),
        "make sim SEED={}",
    ),
}


def code(kind: Kind) -> str | None:
    """Names the code under test: equal for equal committed content; None when it has uncommitted changes."""
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *kind.code], check=False).returncode:
        print("uncommitted changes: what runs now is not recorded", flush=True)
        return None
    names = subprocess.run(["git", "rev-parse", *(f"HEAD:{path}" for path in kind.code)], check=True, capture_output=True, text=True).stdout
    return subprocess.run(["git", "hash-object", "--stdin"], input=names, check=True, capture_output=True, text=True).stdout[:12]


def recorded(ledger: Path, name: str, minutes: float) -> set[int]:
    """First seeds of the chunks that ran clean on this code."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    fields = [line.split() for line in lines if line and not line.startswith("#")]
    return {int(seeds.partition(":")[0]) for seeds, at, length, faults, *_ in fields if (at, length, faults) == (name, f"{minutes:g}", "0")}


def _summary(outcomes: list[Outcome]) -> str:
    tasks, crashes = sum(outcome.tasks for outcome in outcomes), sum(outcome.crashes for outcome in outcomes)
    hours, cpu_s = sum(outcome.virtual_s for outcome in outcomes) / 3600, sum(outcome.cpu_s for outcome in outcomes)
    return f"{tasks} tasks {crashes} crashes {hours:.1f} h in {cpu_s:.0f} s of CPU"


def main() -> int:
    """Run what is asked for and not recorded yet."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=KINDS, default="cluster", help="what is simulated")
    parser.add_argument("--seeds", default="0:1000", metavar="A:B", help="from A up to B, without B; whole hundreds are recorded")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--minutes", type=float, help="virtual minutes of work and trouble")
    asked = parser.parse_args()
    kind = KINDS[asked.kind]
    ledger, minutes = Path(__file__).with_name(kind.ledger), asked.minutes or kind.minutes
    first, last = (int(text) for text in asked.seeds.split(":"))
    name = code(kind)
    done = recorded(ledger, name, minutes) if name is not None else set()
    faulty: list[Outcome] = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for start in range(first, last, CHUNK):
            if start in done:
                continue
            seeds = range(start, min(start + CHUNK, last))
            outcomes = list(pool.map(kind.run, seeds, [minutes] * len(seeds), chunksize=5))
            faults = [outcome for outcome in outcomes if outcome.fault is not None]
            faulty += faults
            for outcome in faults:
                print(f"seed {outcome.seed}: {outcome.fault}\n  replay: {kind.replay.format(outcome.seed)}", flush=True)
            line = f"{start}:{seeds.stop} {name} {minutes:g} {len(faults)} {_summary(outcomes)}"
            print(line, flush=True)
            if len(seeds) == CHUNK and name is not None:
                with ledger.open("a") as lines:
                    lines.write(line + "\n")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
