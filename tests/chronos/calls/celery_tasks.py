"""The tasks that a Celery worker of the tests runs."""

from __future__ import annotations

import os
import time

from celery import Celery

app = Celery("tests", broker=os.environ["BROKER"], backend=os.environ["BROKER"])


@app.task(name="tests.add")
def add(a: int, b: int) -> int:
    return a + b


@app.task(name="tests.fail")
def fail() -> None:
    raise RuntimeError("it broke")


@app.task(name="tests.wait")
def wait(file: str) -> str:
    while not os.path.exists(file):
        time.sleep(0.05)
    return "waited"
