"""The state as v1 messages."""

from __future__ import annotations

from kernel.master import render
from kernel.wire.task import CommandInfo
from tests.builders import executor, task


class TestTaskUser:
    def test_is_the_commands_or_the_executors(self):
        assert render.task_user(task("t", "a", command=CommandInfo(user="www"))) == "www"
        assert render.task_user(task("t", "a", executor=executor("x", command=CommandInfo(user="ops")))) == "ops"
        assert render.task_user(task("t", "a")) is None
