"""Tasks that are to end so that roles get what they are guaranteed: what `kernel.master.preemption` knows from one look to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kernel.clock import Now
from kernel.master.allocator.demand import Entry
from kernel.master.allocator.state import Agent as AllocatorAgent
from kernel.master.model import Agent, Framework, Inquiry, Task, TaskKey


class Notice:
    """Tasks of one framework on one agent that end at due_s unless what roles are guaranteed can be had without. guarantees: these roles,
    nearest first; inquiry: what the framework was asked, and says; killed: their ends were ordered."""

    __slots__ = ("agent", "due_s", "due_wall_s", "framework", "guarantees", "inquiry", "killed", "tasks")

    def __init__(self, framework: Framework, agent: Agent, guarantees: tuple[str, ...], notice_s: float, now: Now) -> None:
        self.framework, self.agent, self.guarantees = framework, agent, guarantees
        self.due_s, self.due_wall_s = now.mono_s + notice_s, now.wall_s + notice_s
        self.inquiry = Inquiry(now.wall_s)
        self.tasks: dict[TaskKey, Task] = {}
        self.killed = False


class Notices:
    """of: by task. wanting: since when who (framework, role) needs room; lacking: of these, for whom not enough can be had, with the roles
    to which it is owed; kept: agents that are kept for their demands. ended: how many tasks were ended, by their role; gained: by the
    role that is guaranteed what they had. more: whether there are tasks that were not looked at; breadth: times how many are;
    broad_s: until when not more."""

    def __init__(self) -> None:
        self.of: dict[TaskKey, Notice] = {}
        self.wanting: dict[tuple[str, str], float] = {}
        self.lacking: dict[tuple[str, str], tuple[str, ...]] = {}
        self.kept: dict[Entry, AllocatorAgent] = {}
        self.more = False
        self.breadth, self.broad_s = 1, 0.0
        self.ended: Counter[str] = Counter()
        self.gained: Counter[str] = Counter()

    def all(self) -> Iterable[Notice]:
        """In the order in which they were given."""
        return dict.fromkeys(self.of.values())

    def add(self, notice: Notice, key: TaskKey, task: Task) -> None:
        notice.tasks[key], self.of[key] = task, notice

    def drop(self, key: TaskKey) -> None:
        del self.of.pop(key).tasks[key]
