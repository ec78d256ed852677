"""APScheduler and Celery beat under the load of `bench.cron`: so many schedules in memory, of which some are due with the next minute.

Each is a script of its own in the interpreter that has it. Both only hand on what is due: APScheduler to threads, which call an empty
function; beat to a broker in its own memory. Neither writes anything down. One that is not through in PATIENCE_S gets a tenth of the load,
then a hundredth: beat looks at all its schedules each time that one is due.
"""

from __future__ import annotations

import json
import subprocess

from bench.report import BenchError

PATIENCE_S = 240.0  # A minute of it may be waiting for the next one.
PARTS = (1, 10, 100)  # Of the load, until one is carried.
MISSING = "NOT MEASURED"
TITLES = {"apscheduler": "APScheduler", "celery": "Celery beat"}

_MAIN = """
import json, os, sys, threading, time
count, due = int(sys.argv[1]), int(sys.argv[2])
def rss_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
def minute():
    at = time.time()
    if at % 60 > 50:  # Nothing is to be due while it loads.
        time.sleep(61 - at % 60)
def next_minute():
    return (time.time() // 60 + 1) * 60
def told(load_s, lateness):
    lateness.sort()
    print(json.dumps({"load_s": load_s, "rss_mb": rss_mb(), "lateness_p50_s": lateness[len(lateness) // 2],
                      "lateness_p99_s": lateness[int(len(lateness) * 0.99)]}), flush=True)
    os._exit(0)
"""
_APSCHEDULER = """
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
first, due_at = {}, float("inf")
def late(number):
    first.setdefault(number, time.time() - due_at)
scheduler = BackgroundScheduler(timezone="UTC", job_defaults={"misfire_grace_time": None})
for _ in range(count - due):
    scheduler.add_job(late, CronTrigger(day=1, hour=2, minute=30, timezone="UTC"), args=(0,))
began = time.perf_counter()
scheduler.start()
load_s = time.perf_counter() - began
minute()
due_at = next_minute()
for number in range(due):
    scheduler.add_job(late, CronTrigger(minute="*", start_date=time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(due_at))), args=(number,))
if time.time() > due_at:
    sys.exit("it took too long to add what is due")
while len(first) < due:
    time.sleep(0.1)
told(load_s, list(first.values()))
"""
_CELERY = """
from celery import Celery
from celery.beat import Scheduler
from celery.schedules import crontab
app = Celery("peer", broker="memory://")
app.conf.timezone = "UTC"
first = {}
class Measured(Scheduler):
    def apply_async(self, entry, *arguments, **named):
        first.setdefault(entry.name, time.time() - due_at)
        return super().apply_async(entry, *arguments, **named)
minute()
schedule = {f"far-{number}": {"task": "t", "schedule": crontab(30, 2, day_of_month=1)} for number in range(count - due)}
schedule |= {f"due-{number}": {"task": "t", "schedule": crontab()} for number in range(due)}
app.conf.beat_schedule = schedule
due_at = next_minute()
began = time.perf_counter()
beat = Measured(app)
wait = beat.tick()
load_s = time.perf_counter() - began
while len(first) < due:
    wait = beat.tick()
    if wait > 0.001:
        time.sleep(min(wait, 1.0))
told(load_s, list(first.values()))
"""
_SCRIPTS = {"apscheduler": _APSCHEDULER, "celery": _CELERY}


def measure(python: str, count: int, due: int) -> tuple[dict[str, float], dict[str, str]]:
    """Figures by name; and why what is missing is, or what stands for another load. Raises BenchError when one breaks."""
    figures: dict[str, float] = {}
    notes: dict[str, str] = {}
    for name, script in _SCRIPTS.items():
        look = [python, "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"]
        if subprocess.run(look, check=False).returncode:
            notes[TITLES[name]] = f"{MISSING}: it is not installed (`pip install meseta[bench]`)"
            continue
        for part in PARTS:
            jobs, of_them = max(1, count // part), max(1, due // part)
            found = _carried(python, name, script, jobs, of_them)
            if found is not None:
                figures |= {f"{name}_jobs": jobs, f"{name}_due": of_them}
                figures |= {f"{name}_{figure}": value for figure, value in found.items()}
                if part > 1:
                    notes[TITLES[name]] = (
                        f"measured with {jobs} jobs, {of_them} due: ten times as many took it more than {PATIENCE_S:.0f} s"
                    )
                break
        else:
            notes[TITLES[name]] = f"{MISSING}: a hundredth of the load took it more than {PATIENCE_S:.0f} s"
    return figures, notes


def _carried(python: str, name: str, script: str, count: int, due: int) -> dict[str, float] | None:
    """What was measured of a peer; None when it was not through in time."""
    command = [python, "-c", _MAIN + script, str(count), str(due)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise BenchError(f"{TITLES[name]} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def ratios(results: dict[str, float], jobs: int) -> dict[str, float]:
    """How many times as late, and as long to load a job, each peer was."""
    found: dict[str, float] = {}
    for name in _SCRIPTS:
        if f"{name}_jobs" in results:
            found[f"{name}_to_ours_late"] = results[f"{name}_lateness_p99_s"] / max(results["lateness_p99_s"], 0.001)
            found[f"{name}_to_ours_load"] = results[f"{name}_load_s"] / results[f"{name}_jobs"] / (results["load_s"] / jobs)
    return found
