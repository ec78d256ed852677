"""Write the workload of the paper on Mesos (Hindman et al., NSDI 2011, section 6.1) as a trace for `meseta simulate`.

    python docs/traces/mesos_paper.py > docs/traces/mesos-paper.csv
    meseta simulate docs/traces/mesos-paper.csv --cluster '96*cpus=4,mem=15g' --alone \\
        --guarantee mpi:cpus=72 --guarantee facebook/interactive:cpus=24

From the paper: the bins of table 3 (how many jobs of how many map and reduce tasks), that they arrive at intervals that are exponential
with a mean of 14 s, that a second Hadoop runs searches of 2400 tasks one after another, that five Spark jobs start two minutes after each
other's end, that eight MPI jobs of 24 processes, six small and two large, begin at fixed times, and 96 nodes of 4 cores and 15 GB.

Chosen here, as the paper does not publish it: a map takes 23 s and a reduce 60 s, a task of a long search 40 s, each up to 40 % more or
less; a Spark job has ten iterations of 240 tasks (two or three for each core of a quarter of the cluster) of 10 s; a small MPI job takes
180 s, a large one 600 s, and its processes start together. Every task has one core. The small jobs, of up to ten maps, are in a role of
their own, as Hadoop's fair scheduler has pools, so that an operator can guarantee them something.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterator

COLUMNS = ("arrival", "role", "framework", "shape", "duration", "tasks", "kind", "job", "after", "gang", "spread")
# Table 3: map tasks, reduce tasks, jobs.
BINS = ((1, 0, 38), (2, 0, 18), (10, 2, 14), (50, 0, 12), (100, 10, 6), (200, 0, 6), (400, 0, 4), (400, 30, 2))
SEED = 2011
INTERACTIVE = (1, 2, 3)
SPREAD = 0.4
ARRIVAL_MEAN_S, MAP_S, REDUCE_S = 14.0, 23, 60
SEARCHES, SEARCH_TASKS, SEARCH_S = 3, 2400, 40
SPARK_JOBS, SPARK_ITERATIONS, SPARK_TASKS, SPARK_S, SPARK_PAUSE_S = 5, 10, 240, 10, 120
MPI_PROCESSES, MPI_SMALL_S, MPI_LARGE_S, MPI_EVERY_S = 24, 180, 600, 180
MPI_LARGE = (2, 5)  # Which of the eight.
HADOOP, SPARK, MPI = "cpus=1,mem=3g", "cpus=1,mem=3.5g", "cpus=1,mem=1g"

Row = tuple[object, ...]


def facebook(seed: int) -> Iterator[Row]:
    """Jobs of all bins, in an order and at times that chance gives. Reduces begin when all maps have ended."""
    dice = random.Random(seed)
    jobs = [(number + 1, maps, reduces) for number, (maps, reduces, count) in enumerate(BINS) for _ in range(count)]
    dice.shuffle(jobs)
    arrival_s = 0.0
    for number, (of_bin, maps, reduces) in enumerate(jobs):
        arrival_s += dice.expovariate(1 / ARRIVAL_MEAN_S)
        kind = f"facebook {of_bin}: {maps} maps" + (f", {reduces} reduces" if reduces else "")
        role = "facebook/interactive" if of_bin in INTERACTIVE else "facebook/batch"
        yield (f"{arrival_s:.1f}", role, "hadoop-facebook", HADOOP, MAP_S, maps, kind, f"facebook-{number}", "", "", SPREAD)
        if reduces:
            yield (0, role, "hadoop-facebook", HADOOP, REDUCE_S, reduces, kind, "", f"facebook-{number}", "", SPREAD)


def large() -> Iterator[Row]:
    """Searches, one after another."""
    for number in range(SEARCHES):
        after = f"large-{number - 1}" if number else ""
        yield (
            int(number > 0),
            "large",
            "hadoop-large",
            HADOOP,
            SEARCH_S,
            SEARCH_TASKS,
            "large hadoop",
            f"large-{number}",
            after,
            "",
            SPREAD,
        )


def spark() -> Iterator[Row]:
    """Jobs whose iterations follow each other; the next job a while after the last one's end."""
    last = ""
    for job in range(SPARK_JOBS):
        for iteration in range(SPARK_ITERATIONS):
            name = f"spark-{job}-{iteration}"
            pause_s = SPARK_PAUSE_S if job and not iteration else 0
            yield (pause_s, "spark", "spark", SPARK, SPARK_S, SPARK_TASKS, "spark", name, last, "", SPREAD)
            last = name


def mpi() -> Iterator[Row]:
    for number in range(8):
        kind, duration_s = ("mpi large", MPI_LARGE_S) if number in MPI_LARGE else ("mpi small", MPI_SMALL_S)
        yield (number * MPI_EVERY_S, "mpi", "torque", MPI, duration_s, MPI_PROCESSES, kind, f"mpi-{number}", "", "yes", 0)


def rows(seed: int = SEED) -> list[Row]:
    return [*facebook(seed), *large(), *spark(), *mpi()]


if __name__ == "__main__":
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows())
