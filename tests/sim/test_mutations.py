"""The simulator finds bugs: each one planted on purpose is found within 200 seeds."""

from __future__ import annotations

import pytest

from tests.sim import history
from tests.sim.mutations import MUTATIONS, planted


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_bug_is_found(name: str) -> None:
    with planted(name):
        assert any(history.run(seed, minutes=2).fault for seed in range(200))
