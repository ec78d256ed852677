"""APScheduler and Celery beat under the load of `bench.cron`: so many schedules in memory, of which some are due with the next minute.

Each is a script of its own in the interpreter that has it. Both only hand on what is due: APScheduler to threads, which call an empty
function; beat to a broker in its own memory. Neither writes anything down.
"""

from __future__ import annotations

import json
import subprocess

from bench.report import BenchError

PATIENCE_S = 900.0
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
def told(load_s, lateness):
    lateness.sort()
    print(json.dumps({"load_s": load_s, "rss_mb": rss_mb(), "lateness_p50_s": lateness[len(lateness) // 2],
                      "lateness_p99_s": lateness[int(len(lateness) * 0.99)]}), flush=True)
    os._exit(0)
"""
_APSCHEDULER = """
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
lateness, lock = [], threading.Lock()
def late():
    at = time.time()
    with lock:
        lateness.append(at % 60)
scheduler = BackgroundScheduler(timezone="UTC", job_defaults={"misfire_grace_time": None})
far = [scheduler.add_job(late, CronTrigger(day=1, hour=2, minute=30, timezone="UTC")) for _ in range(count - due)]
began = time.perf_counter()
scheduler.start()
load_s = time.perf_counter() - began
minute()
for _ in range(due):
    scheduler.add_job(late, CronTrigger(minute="*", timezone="UTC"), max_instances=1)
while len(lateness) < due:
    time.sleep(0.1)
told(load_s, lateness[:due])
"""
_CELERY = """
from celery import Celery
from celery.beat import Scheduler
from celery.schedules import crontab
app = Celery("peer", broker="memory://")
app.conf.timezone = "UTC"
lateness = []
class Measured(Scheduler):
    def apply_async(self, entry, *arguments, **named):
        lateness.append(time.time() % 60)
        return super().apply_async(entry, *arguments, **named)
minute()
schedule = {f"far-{number}": {"task": "t", "schedule": crontab(30, 2, day_of_month=1)} for number in range(count - due)}
schedule |= {f"due-{number}": {"task": "t", "schedule": crontab()} for number in range(due)}
app.conf.beat_schedule = schedule
began = time.perf_counter()
beat = Measured(app)
wait = beat.tick()
load_s = time.perf_counter() - began
lateness.clear()
while len(lateness) < due:
    wait = beat.tick()
    if wait > 0.001:
        time.sleep(min(wait, 1.0))
told(load_s, lateness[:due])
"""
_SCRIPTS = {"apscheduler": _APSCHEDULER, "celery": _CELERY}


def measure(python: str, count: int, due: int) -> tuple[dict[str, float], dict[str, str]]:
    """Figures by name, and why what is missing is. Raises BenchError when one breaks."""
    figures: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, script in _SCRIPTS.items():
        look = [python, "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"]
        if subprocess.run(look, check=False).returncode:
            missing[TITLES[name]] = f"{MISSING}: it is not installed (`pip install meseta[bench]`)"
            continue
        done = subprocess.run(
            [python, "-c", _MAIN + script, str(count), str(due)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if done.returncode:
            raise BenchError(f"{TITLES[name]} failed:\n{done.stderr[-2000:]}")
        figures |= {f"{name}_{figure}": value for figure, value in json.loads(done.stdout).items()}
    return figures, missing
