"""Jobs by name: pages, and texts in them."""

from __future__ import annotations

import random

import pytest

from chronos.catalog import BLOCK, Catalog, Wanted
from chronos.entry import Entry, Status
from chronos.job import Job


def entry(name: str, command: str = "true") -> Entry:
    return Entry(Job(name, command), None, Status(0))


def names(catalog: Catalog, after: str | None = None, wanted: Wanted | None = None) -> list[str]:
    return [entry.name for entry in catalog.walk(after, wanted)]


def test_names_are_in_order_however_they_came_and_went() -> None:
    chance = random.Random(1)
    known = {f"job-{chance.randrange(10**6)}" for _ in range(1500)}
    catalog = Catalog(map(entry, known))
    for _ in range(6000):
        name = f"job-{chance.randrange(10**6)}"
        if known and chance.random() < 0.45:
            gone = chance.choice(sorted(known)[:50])
            known.discard(gone)
            catalog.remove(gone)
        known.add(name)
        catalog.put(entry(name))
    assert names(catalog) == sorted(known)
    for after in ("", "job-5", "zzz", *list(known)[:20]):
        assert names(catalog, after) == sorted(name for name in known if name > after)


def test_nothing_is_left_of_an_empty_one() -> None:
    catalog = Catalog()
    assert names(catalog) == []
    catalog.put(entry("a"))
    catalog.remove("a")
    assert names(catalog) == names(catalog, "a") == []
    with pytest.raises((AssertionError, IndexError)):
        catalog.remove("a")


def test_blocks_stay_small() -> None:
    catalog = Catalog()
    for number in range(10 * BLOCK):
        catalog.put(entry(f"{number:06}"))
    assert all(len(block.entries) < 2 * BLOCK for block in catalog._blocks)
    for number in range(10 * BLOCK):
        catalog.remove(f"{number:06}")
    assert len(catalog._blocks) == 1


def test_one_takes_the_place_of_the_one_of_its_name() -> None:
    catalog = Catalog([entry("a", "old"), entry("b")])
    assert names(catalog, wanted=Wanted(command="old")) == ["a"]
    catalog.put(entry("a", "new"))
    assert names(catalog) == ["a", "b"]
    assert names(catalog, wanted=Wanted(command="old")) == []
    assert names(catalog, wanted=Wanted(command="NEW")) == ["a"]


CATALOG = Catalog(
    [entry("backup-db", "pg_dump Main"), entry("backup-web", "rsync"), entry("Report", "echo backup"), entry("x\u00c9", "e\n\u00e9")]
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), ["Report", "backup-db", "backup-web", "x\u00c9"]),
        (Wanted("BACKUP"), ["backup-db", "backup-web"]),
        (Wanted("backup", "rsync"), ["backup-web"]),
        (Wanted("db", "rsync"), []),
        (Wanted(command="main"), ["backup-db"]),
        (Wanted(either="backup"), ["Report", "backup-db", "backup-web"]),
        (Wanted("web", None, "report"), ["Report", "backup-web"]),
        (Wanted(either="\u00e9"), ["x\u00c9"]),
        (Wanted(command="e\n"), ["x\u00c9"]),
        (Wanted("backup-dbbackup-web"), []),
        (Wanted("db\0backup"), []),
        (Wanted("nothing"), []),
    ],
)
def test_texts_are_found_in_any_case(wanted: Wanted, found: list[str]) -> None:
    assert names(CATALOG, wanted=wanted) == found
    assert names(CATALOG, "backup-db", wanted) == [name for name in found if name > "backup-db"]


def test_only_blocks_that_may_have_it_are_gone_through() -> None:
    catalog = Catalog(entry(f"job-{number:06}") for number in range(20 * BLOCK))
    last = f"job-{20 * BLOCK - 1:06}"
    assert [block.may_have(Wanted(either=last)) for block in catalog._blocks] == [False] * 19 + [True]
    assert names(catalog, wanted=Wanted(either=last)) == [last]
