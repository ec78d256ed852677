"""The jobs of a scheduler, held and found again."""

from __future__ import annotations

from chronos.book import CALENDARS, JOBS, LAPSED_MAX, STATUS, Book
from chronos.job import job_of
from kernel.mainloop import Persist

NOW = 1_767_225_600_000  # 2026-01-01T00:00:00Z
HOUR_MS = 3_600_000


def fields(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "command": f"echo {name}", "schedule": "0 * * * *", **more}


def kept(persists: list[Persist]) -> dict[str, bytes]:
    return {persist.key: persist.value for persist in persists if persist.value is not None}


def test_what_was_put_is_there_again_by_name_and_by_time() -> None:
    book = Book()
    stored: dict[str, bytes] = {}
    for name in ("b", "c", "a"):
        stored |= kept(book.put(job_of(fields(name)), NOW))
    again = Book()
    again.load(stored)
    assert [entry.name for entry in again.catalog.walk()] == ["a", "b", "c"]
    assert again.due_ms(NOW + HOUR_MS - 1) is None
    assert again.due_ms(NOW + HOUR_MS) == NOW + HOUR_MS
    assert {name: entry.job for name, entry in again.entries.items()} == {name: entry.job for name, entry in book.entries.items()}


def test_jobs_leave_what_a_store_held_and_nothing_else_does() -> None:
    stored = {**kept(Book().put(job_of(fields("a")), NOW)), CALENDARS + "work": b"{}", "runs/a@1": b"run", "pauses": b"{}"}
    assert {JOBS + "a", STATUS + "a"} < stored.keys()
    Book().load(stored)
    assert stored == {"runs/a@1": b"run", "pauses": b"{}"}


def test_a_removed_job_is_due_no_more_and_one_that_is_put_again_once() -> None:
    book = Book()
    book.put(job_of(fields("a")), NOW)
    book.put(job_of(fields("b")), NOW)
    book.put(job_of(fields("b", command="date")), NOW)
    book.remove("a")
    due = []
    for entry in book.due(NOW + HOUR_MS):
        due.append((entry.name, entry.job.command))
        book.change(entry, next_ms=NOW + 2 * HOUR_MS)
    assert due == [("b", "date")]
    assert [entry.name for entry in book.catalog.walk()] == ["b"]


def test_disabled_ones_are_not_due_until_they_are_enabled() -> None:
    book = Book()
    book.put(job_of(fields("a")), NOW)
    entry = book.find("a")
    book.change(entry, disabled=True)
    assert book.due_ms(NOW + HOUR_MS) is None
    book.change(entry, disabled=False, next_ms=entry.status.next_ms)
    assert book.due_ms(NOW + HOUR_MS) == NOW + HOUR_MS


def test_putting_a_job_again_and_again_leaves_no_heap_behind() -> None:
    book = Book()
    for number in range(3 * LAPSED_MAX):
        book.put(job_of(fields("a", schedule=f"{number % 60} * * * *")), NOW)
    assert len(book._agenda) <= LAPSED_MAX + 3
    book.put(job_of(fields("a", schedule="7 * * * *")), NOW)
    assert book.due_ms(NOW + HOUR_MS) == NOW + 7 * 60_000
