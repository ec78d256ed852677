"""Runs many seeds: `python -m tests.sim --seeds 0:10000 --jobs 2`.

Resumable: every hundred seeds that ran are a line of `tests/sim/ledger.txt`, with the code they ran on; those recorded for
the present code are passed over. A seed with a fault is printed with how to replay it, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.sim.history import MINUTES, Outcome, run

LEDGER = Path(__file__).with_name("ledger.txt")
CHUNK = 100
CODE = ("kernel", "frameworks/sdk", "tests/sim/world.py", "tests/sim/network.py", "tests/sim/machine.py", "tests/sim/cluster.py")


def code() -> str | None:
    """Names the code under test: equal for equal committed content; None when it has uncommitted changes."""
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *CODE], check=False).returncode:
        print("uncommitted changes: what runs now is not recorded", flush=True)
        return None
    names = subprocess.run(["git", "rev-parse", *(f"HEAD:{path}" for path in CODE)], check=True, capture_output=True, text=True).stdout
    return subprocess.run(["git", "hash-object", "--stdin"], input=names, check=True, capture_output=True, text=True).stdout[:12]


def recorded(name: str, minutes: float) -> set[int]:
    """First seeds of the chunks that ran clean on this code."""
    lines = LEDGER.read_text().splitlines() if LEDGER.exists() else []
    fields = [line.split() for line in lines if line and not line.startswith("#")]
    return {int(seeds.partition(":")[0]) for seeds, at, length, faults, *_ in fields if (at, length, faults) == (name, f"{minutes:g}", "0")}


def _summary(outcomes: list[Outcome]) -> str:
    tasks, crashes = sum(outcome.tasks for outcome in outcomes), sum(outcome.crashes for outcome in outcomes)
    hours, cpu_s = sum(outcome.virtual_s for outcome in outcomes) / 3600, sum(outcome.cpu_s for outcome in outcomes)
    return f"{tasks} tasks {crashes} crashes {hours:.1f} h in {cpu_s:.0f} s of CPU"


def main() -> int:
    """Run what is asked for and not recorded yet."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default="0:1000", metavar="A:B", help="from A up to B, without B; whole hundreds are recorded")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="virtual minutes of work and trouble")
    asked = parser.parse_args()
    first, last = (int(text) for text in asked.seeds.split(":"))
    name = code()
    done = recorded(name, asked.minutes) if name is not None else set()
    faulty: list[Outcome] = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for start in range(first, last, CHUNK):
            if start in done:
                continue
            seeds = range(start, min(start + CHUNK, last))
            outcomes = list(pool.map(run, seeds, [asked.minutes] * len(seeds), chunksize=5))
            faults = [outcome for outcome in outcomes if outcome.fault is not None]
            faulty += faults
            for outcome in faults:
                print(f"seed {outcome.seed}: {outcome.fault}\n  replay: make sim SEED={outcome.seed}", flush=True)
            line = f"{start}:{seeds.stop} {name} {asked.minutes:g} {len(faults)} {_summary(outcomes)}"
            print(line, flush=True)
            if len(seeds) == CHUNK and name is not None:
                with LEDGER.open("a") as ledger:
                    ledger.write(line + "\n")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
