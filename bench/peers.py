"""Other systems that run commands, measured beside us where they are installed; nothing is installed for it.

Each runs as a small script of its own in the interpreter that has it: started once, it then answers each line with a number of
commands by the seconds they took.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.master import free_port
from bench.report import BenchError

STOP_S = 20.0
WORKERS = 4

_MAIN = """
def answer(run):
    print("ready", flush=True)
    for line in sys.stdin:
        began_s = time.perf_counter()
        run(int(line))
        print(time.perf_counter() - began_s, flush=True)
"""
_CELERY = """
import os, subprocess, sys, time
from celery import Celery, group
app = Celery("peer", broker=os.environ["PEER_REDIS"], backend=os.environ["PEER_REDIS"])
app.conf.worker_prefetch_multiplier = 16
@app.task(name="true")
def true(_):
    return subprocess.run([os.environ["PEER_TRUE"]]).returncode
def run(count):
    group(true.s(number) for number in range(count)).apply_async().get()
if __name__ == "__main__":
    run(8)
    answer(run)
"""
_DASK = """
import os, subprocess, sys, time
from distributed import Client, LocalCluster
def true(_):
    return subprocess.run([os.environ["PEER_TRUE"]]).returncode
if __name__ == "__main__":
    client = Client(LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None))
    run = lambda count: client.gather(client.map(true, range(count), pure=False))
    run(8)
    answer(run)
"""
_RAY = """
import os, subprocess, sys, time
import ray
ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, log_to_driver=False)
@ray.remote
def true(_):
    return subprocess.run([os.environ["PEER_TRUE"]]).returncode
run = lambda count: ray.get([true.remote(number) for number in range(count)])
run(8)
answer(run)
"""
_SLURM = """
import os, subprocess, sys, time
def run(count):
    command = ["sbatch", "--quiet", "--wait", "--output=/dev/null", f"--array=1-{count}", "--wrap", os.environ["PEER_TRUE"]]
    subprocess.run(command, check=True)
run(2)
answer(run)
"""


def missing(python: str) -> dict[str, str]:
    """Why each of the peers cannot be measured here; those that can are not named. python: the interpreter to look in."""
    reasons = {}
    look = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n)])"
    found = subprocess.run([python, "-c", look, "celery", "redis", "distributed", "ray"], capture_output=True, text=True, check=True)
    names = set(found.stdout.split())
    if not {"celery", "redis"} <= names:
        reasons["celery"] = "not installed"
    elif shutil.which("redis-server") is None:
        reasons["celery"] = "not measured: redis-server is not installed"
    if "distributed" not in names:
        reasons["dask"] = "not installed"
    if "ray" not in names:
        reasons["ray"] = "not installed"
    if shutil.which("sbatch") is None:
        reasons["slurm"] = "not installed"
    elif subprocess.run(["sinfo", "--noheader"], capture_output=True, check=False).returncode:
        reasons["slurm"] = "not measured: no controller answers"
    return reasons


class Peers:
    """The peers that are installed, running. A context manager. measures: name -> seconds for so many commands."""

    def __init__(self, python: str, program: str) -> None:
        """program: what each command runs."""
        self._python, self._program = python, program
        self.missing = missing(python)
        self.measures: dict[str, Callable[[int], float]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Peers:
        with self._stack as stack:
            for name, script in (("celery", _CELERY), ("dask", _DASK), ("ray", _RAY), ("slurm", _SLURM)):
                if name not in self.missing:
                    self.measures[name] = self._start(name, script)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self, name: str, script: str) -> Callable[[int], float]:
        home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix=f"meseta-bench-{name}-", ignore_cleanup_errors=True)))
        head, imports, rest = script.partition(script.splitlines()[1])
        (home / "peer.py").write_text(head + imports + _MAIN + rest)
        environ = {**os.environ, "PEER_TRUE": self._program}
        if name == "celery":
            port = free_port()
            environ["PEER_REDIS"] = f"redis://127.0.0.1:{port}/0"
            self._spawn(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""], home, environ)
            self._spawn([self._python, "-m", "celery", "-A", "peer", "worker", "-c", str(WORKERS), "--loglevel=ERROR"], home, environ)
        process = self._spawn([self._python, "peer.py"], home, environ, answers=True)
        self._answer(process, name)

        def measure(count: int) -> float:
            assert process.stdin is not None
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
            return float(self._answer(process, name))

        return measure

    def _spawn(self, command: list[str], home: Path, environ: dict[str, str], answers: bool = False) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE if answers else subprocess.DEVNULL
        with (home / "log").open("a") as log:
            process = subprocess.Popen(command, cwd=home, env=environ, stdin=pipe, stdout=pipe if answers else log, stderr=log, text=True)
        self._stack.callback(_end, process)
        return process

    @staticmethod
    def _answer(process: subprocess.Popen[str], name: str) -> str:
        assert process.stdout is not None
        for line in process.stdout:
            words = line.split()
            if words == ["ready"] or (words and words[0].replace(".", "").replace("e-", "").isdigit()):
                return words[0]
        raise BenchError(f"{name} failed")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
