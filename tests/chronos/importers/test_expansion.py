"""`$(NAME)` is put in as the kubelet of Kubernetes does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronos.importers.expansion import ADDED_CHARS_MAX, Variables
from kernel.errors import CallError

VALUES = {"A": "a", "EMPTY": "", "REF": "$(A)", "MONEY": "$$", "odd name": "o"}
PIECES = st.lists(st.one_of(st.sampled_from(["$", "(", ")", "A", "REF", "UNKNOWN", "x", "\n"]), st.text(max_size=3)), max_size=20)


def variables(others: bool = False) -> Variables:
    known = Variables(others)
    for name, value in VALUES.items():
        known.put(name, value)
    known.put("UNKNOWN", None)
    return known


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("", ""),
        ("$(A)-$(A)", "a-a"),
        ("$(EMPTY)", ""),
        ("$(REF)$(MONEY)", "$(A)$$"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$$$$(A)", "$$(A)"),
        ("$(NONE) $() $(A", "$(NONE) $() $(A"),
        ("$A ${A} $", "$A ${A} $"),
        ("$$A $$", "$A $"),
        ("$($(A))", "$($(A))"),
        ("$(A$$(", "$(A$("),
        ("$(odd name)", "o"),
        ("$(UNKNOWN)$(A)", "$(UNKNOWN)a"),
    ],
)
def test_references(text: str, becomes: str) -> None:
    assert variables().expand(text).text == becomes


@pytest.mark.parametrize(
    ("text", "others", "unknown"),
    [
        ("$(UNKNOWN)$(A)$(UNKNOWN)", False, ("UNKNOWN",)),
        ("$$(UNKNOWN) $(NONE) $(none_service_host) $(PORT)", False, ()),
        ("$(DB_SERVICE_HOST)$(DB_SERVICE_PORT_HTTP)", False, ("DB_SERVICE_HOST", "DB_SERVICE_PORT_HTTP")),
        ("$(DB_PORT)$(DB_PORT_80_TCP)$(DB_PORT_80_TCP_ADDR)", False, ("DB_PORT", "DB_PORT_80_TCP", "DB_PORT_80_TCP_ADDR")),
        ("$(NONE)$(A)", True, ("NONE",)),
    ],
)
def test_what_only_the_cluster_knows_is_told(text: str, others: bool, unknown: tuple[str, ...]) -> None:
    assert variables(others).expand(text).unknown == unknown


def kubelet(text: str) -> str:
    """One character after the other, as the design of Kubernetes has it."""
    out, at = "", 0
    while at < len(text):
        if text[at : at + 2] == "$$":
            out, at = out + "$", at + 2
        elif text[at : at + 2] == "$(" and (close := text.find(")", at)) > 0:
            out, at = out + VALUES.get(text[at + 2 : close], text[at : close + 1]), close + 1
        else:
            out, at = out + text[at], at + 1
    return out


@given(PIECES.map("".join))
def test_as_one_reads_it_character_by_character(text: str) -> None:
    assert variables().expand(text).text == kubelet(text)


@given(st.text())
def test_doubled_dollars_give_any_text(text: str) -> None:
    assert variables().expand(text.replace("$", "$$")) == (text, ())


def test_what_they_add_is_limited_for_all_texts_together() -> None:
    known = Variables(others=False)
    known.put("A", "x" * ADDED_CHARS_MAX)
    assert len(known.expand("$(A)").text) == ADDED_CHARS_MAX
    with pytest.raises(CallError, match="too long"):
        known.expand("$(A)")
    assert known.expand("$$(A)").text == "$(A)"


def test_openers_that_nothing_closes_cost_no_more_than_other_text() -> None:
    assert variables().expand("$(" * 1_000_000).text == "$(" * 1_000_000
