"""Role names and their tree."""

from __future__ import annotations

import pytest

from kernel.errors import CallError
from kernel.wire.roles import ancestors, is_same_or_below, is_strict_subrole, validate_role


@pytest.mark.parametrize("role", ["*", "eng", "eng/db", "a/b/c", "...", "a-b", "eng*"])
def test_these_are_roles(role: str) -> None:
    validate_role(role)


@pytest.mark.parametrize(
    "role",
    ["", "/", "/eng", "eng/", "a//b", ".", "..", "a/./b", "a/*", "*/a", "-eng", "a b", "a\tb", "a\bb", "a\u00a0b", "/".join(["a"] * 65)],
)
def test_these_are_not_and_the_field_is_named(role: str) -> None:
    with pytest.raises(CallError, match=r"^the_field: "):
        validate_role(role, "the_field")


def test_a_subrole_is_below_whole_components_only() -> None:
    assert is_strict_subrole("eng/db", "eng")
    assert is_strict_subrole("eng/db/x", "eng")
    assert not is_strict_subrole("eng", "eng")
    assert not is_strict_subrole("engineering", "eng")
    assert not is_strict_subrole("eng", "eng/db")


def test_what_is_reserved_above_or_here_may_be_offered() -> None:
    assert is_same_or_below("a/b", "a")
    assert is_same_or_below("a", "a")
    assert not is_same_or_below("a", "a/b")


def test_ancestors_from_the_top() -> None:
    assert ancestors("a/b/c") == ("a", "a/b")
    assert ancestors("a") == ()


def test_a_role_has_at_most_255_bytes() -> None:
    """A folder of volumes is named after it."""
    validate_role("x" * 255)
    validate_role("eng/" + "x" * 251)
    for role in ("x" * 256, "eng/" + "\u20ac" * 84):
        with pytest.raises(CallError, match="at most 255 bytes"):
            validate_role(role)
