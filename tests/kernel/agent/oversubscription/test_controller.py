"""When what is lent is taken back, and from whom."""

from __future__ import annotations

import pytest

from kernel.agent.oversubscription.config import ControllerParameters
from kernel.agent.oversubscription.controller import Controller, Machine, Measured
from kernel.agent.oversubscription.usage import Use, Work

FINE = Machine(0.1, 0.1, 10_000, 8_000)


def firm(cpus: float, name: str = "firm") -> tuple[Work, Use]:
    return Work(("f", name), (name,), 1000), Use(cpus=round(cpus * 1000))


def lent(name: str, cpus: float = 0.5, uses: float = 0.5, age: float = 0.0, mem: int = 100) -> tuple[Work, Use]:
    return Work(("f", name), (name,), 0, 0, round(cpus * 1000), 0, -age), Use(cpus=round(uses * 1000), mem=mem * 1000)


def controller(kind: str = "usage", interval_s: float = 0.0, **parameters: float) -> Controller:
    return Controller(kind, ControllerParameters(**parameters), interval_s)  # type: ignore[arg-type]


def ended(found: Controller, at_s: float, works: Measured, machine: Machine = FINE, cpus: int = 1000) -> list[str]:
    return [correction.work.key[1] for correction in found.corrections(at_s, works, cpus, machine)]


class TestCpus:
    def test_what_is_lent_stays_while_there_is_room_for_it(self) -> None:
        one = controller()
        assert not any(ended(one, at_s, [firm(0.5), lent("r")]) for at_s in range(10))

    def test_a_moment_is_no_reason(self) -> None:
        one, busy = controller(), [firm(0.8), lent("r", uses=0.2)]
        assert ended(one, 0, busy) == []
        assert ended(one, 1, [firm(0.1), lent("r")]) == []
        assert ended(one, 2, busy) == []
        assert ended(one, 3, busy) == ["r"]

    def test_an_agent_that_is_not_busy_takes_nothing_back(self) -> None:
        one = controller(patience=1)
        assert ended(one, 0, [firm(0.7), lent("r", uses=0.1)]) == []

    def test_the_newest_go_first_and_no_more_than_it_takes(self) -> None:
        works = [firm(0.6), lent("old", 0.3, age=50), lent("new", 0.3, age=1), lent("newer", 0.3, age=0)]
        assert ended(controller(patience=1), 0, works) == ["newer", "new"]

    def test_the_reason_says_what_and_why(self) -> None:
        (correction,) = controller(patience=1).corrections(0, [firm(0.8), lent("r")], 1000, FINE)
        assert correction.work.key == ("f", "r")
        assert correction.why == "preempted: tasks that may not be preempted use 0.8 of the agent's 1 cpus, and 0.5 are lent"

    def test_those_of_which_nothing_is_measured_count_as_lent_to(self) -> None:
        work, _ = lent("r")
        assert ended(controller(patience=1), 0, [firm(1.0), (work, None)]) == ["r"]


class TestMemory:
    SHORT = Machine(0.1, 0.1, 10_000, 300)  # 200 less than 5 %.

    def test_the_largest_go_first_at_once(self) -> None:
        works = [firm(0.1), lent("small", mem=50), lent("large", mem=150), lent("middle", mem=80)]
        assert ended(controller(), 0, works, self.SHORT) == ["large", "middle"]

    def test_nobody_else_is_ended(self) -> None:
        assert ended(controller(), 0, [firm(0.1)], self.SHORT) == []

    def test_a_machine_that_does_not_tell_is_left_alone(self) -> None:
        assert ended(controller(), 0, [lent("r")], Machine()) == []

    def test_the_reason_says_what_and_why(self) -> None:
        (correction,) = controller().corrections(0, [lent("r", mem=500)], 1000, self.SHORT)
        assert correction.why == "preempted: 300 of the machine's 10000 MB of memory are available, which is less than 5%"


class TestLoad:
    """As Mesos's LoadQoSController."""

    @pytest.mark.parametrize(("load_5", "load_15", "over"), [(3.9, 3.9, False), (4.1, 0.0, True), (0.0, 8.1, True), (4.0, 8.0, False)])
    def test_all_that_is_lent_is_taken_back_above_a_threshold(self, load_5: float, load_15: float, over: bool) -> None:
        one = controller("load", load_threshold_5min=4.0, load_threshold_15min=8.0)
        assert ended(one, 0, [firm(0.1), lent("a"), lent("b")], Machine(load_5, load_15)) == (["a", "b"] if over else [])

    def test_a_threshold_that_is_not_given_does_not_count(self) -> None:
        assert ended(controller("load", load_threshold_15min=8.0), 0, [lent("a")], Machine(100.0, 1.0)) == []


class TestRest:
    def test_noop_takes_nothing_back(self) -> None:
        assert ended(controller("noop"), 0, [firm(9.0), lent("r")], Machine(99, 99, 1000, 0)) == []

    def test_after_a_correction_nothing_is_lent_for_a_while(self) -> None:
        one, short = controller(calm_s=60), TestMemory.SHORT
        assert one.is_calm(0)
        assert ended(one, 10, [lent("r", mem=500)], short) == ["r"]
        assert not one.is_calm(69)
        assert one.is_calm(70)

    def test_corrections_are_so_far_apart_at_least(self) -> None:
        one, short = controller(interval_s=30), TestMemory.SHORT
        assert ended(one, 0, [lent("a", mem=500)], short) == ["a"]
        assert ended(one, 29, [lent("b", mem=500)], short) == []
        assert ended(one, 30, [lent("b", mem=500)], short) == ["b"]
