"""When the master looks at what."""

from __future__ import annotations

from kernel.master.deadlines import Deadlines
from tests.builders import register
from tests.kernel.master.conductor import Conductor


def test_what_is_due_comes_soonest_first() -> None:
    deadlines = Deadlines()
    deadlines.push(2.0, "agent", "b")
    deadlines.push(1.0, "agent", "a")
    deadlines.push(3.0, "agent", "c")
    assert list(deadlines.pop_due(2.0)) == [("agent", "a"), ("agent", "b")]
    assert list(deadlines.pop_due(2.0)) == []


def test_each_has_one_entry_the_soonest() -> None:
    deadlines = Deadlines()
    for due_s in (5.0, 9.0, 3.0, 7.0):
        deadlines.push(due_s, "agent", "a")
    assert len(deadlines) == 1
    assert list(deadlines.pop_due(4.0)) == [("agent", "a")]
    assert list(deadlines.pop_due(10.0)) == []


def test_pushing_while_popping_is_seen_if_due() -> None:
    deadlines = Deadlines()
    deadlines.push(1.0, "agent", "a")
    seen = []
    for _, key in deadlines.pop_due(2.0):
        seen.append(key)
        if key == "a":
            deadlines.push(1.5, "agent", "b")
            deadlines.push(2.5, "agent", "a")
    assert seen == ["a", "b"]
    assert len(deadlines) == 1


def test_an_agent_that_registers_often_has_one_entry() -> None:
    c = Conductor()
    before = len(c.core.state.deadlines)
    for link in range(1, 30):
        c.agent(link, register("1"))
        c.later(1)
    assert len(c.core.state.deadlines) == before + 1


def test_agents_lost_together_are_given_up_bit_by_bit() -> None:
    """Each costs what it runs: so the loss of thousands stops the master for a moment at a time only."""
    c = Conductor()
    for link in range(1, 251):
        c.agent(link, register(str(link), port=link))
    c.later(9.5)
    assert len(c.core.state.agents) == 150
    c.later(0.25)
    c.later(0.25)
    assert not c.core.state.agents
