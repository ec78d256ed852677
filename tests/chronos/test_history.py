"""History on a real file: nothing is doubled, nothing is lost, pages and percentiles, what is forgotten, what is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chronos import rows
from chronos.history import PAGE_MAX, PLACE_MAX, History, Keep, Query
from chronos.joins import Outcome
from chronos.notify import Message, Unsent
from chronos.records import Output, Record, csv_row, percentiles
from chronos.run import Attempt
from kernel.errors import CallError, StoreError

T = TypeVar("T")


def record(number: int, job: str = "j", state: str = "succeeded", **more: Any) -> Record:
    at = 1_000_000 + number * 1000
    fields = {
        "id": f"{job}@{at}",
        "job": job,
        "slot": at,
        "last_slot": at,
        "slots": 1,
        "identity": f"root@{at}",
        "cause": "schedule",
        "state": state,
        "reason": "",
        "due": at,
        "created": at,
        "started": at + 10,
        "ended": at + 110,
        "duration_ms": 100,
        "late_ms": 5,
        "attempts": (Attempt(0, f"ct:{at}:0:{job}:", at, ended_ms=at + 110, exit_status=0),),
        "arguments": "",
        "parents": {},
        "owner": "a@b",
        "framework_id": "f",
        "executor": "",
    }
    return Record(**fields | more)


def using(path: Path, work: Callable[[History], Awaitable[T]], keep: Keep = Keep()) -> T:  # noqa: B008
    async def run() -> T:
        history = History(path, keep)
        try:
            return await work(history)
        finally:
            await history.close()

    return asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def test_a_run_that_comes_again_takes_its_own_place(path: Path) -> None:
    async def work(history: History) -> tuple[Record, ...]:
        await history.record([record(1), record(2)])
        await history.record([record(1, state="failed", reason="late news")])
        return (await history.runs(Query(job="j"))).runs

    assert [(found.slot, found.state) for found in using(path, work)] == [(1_002_000, "succeeded"), (1_001_000, "failed")]


def test_what_is_read_is_what_was_written_also_by_the_next_process(path: Path) -> None:
    written = record(1, parents={"p": "success"}, reason="ü'\";\n")

    async def write(history: History) -> None:
        await history.record([written])
        await history.put_output(written.id, Output(b"\xff\0out", b""))

    async def read(history: History) -> tuple[Record | None, Output | None]:
        return await history.run(written.id), await history.output(written.id)

    using(path, write)
    assert using(path, read) == (written, Output(b"\xff\0out", b""))
    assert os.stat(path).st_mode & 0o077 == 0


def test_pages_follow_each_other_without_gap_or_repeat(path: Path) -> None:
    async def work(history: History) -> list[str]:
        await history.record([record(number % 7, f"j{number}") for number in range(50)])  # Many at one instant.
        seen: list[str] = []
        before = ""
        while True:
            page = await history.runs(Query(limit=8, before=before))
            seen += [found.id for found in page.runs]
            if not page.next:
                return seen
            before = page.next

    seen = using(path, work)
    assert (len(seen), len(set(seen))) == (50, 50)


@pytest.mark.parametrize(
    ("query", "slots"),
    [
        (Query(job="a"), [3, 1]),
        (Query(states=("failed",)), [3]),
        (Query(identity="root@1002000"), [2]),
        (Query(owner="nobody"), []),
        (Query(from_ms=1_002_000, to_ms=1_003_000), [2]),
        (Query(job="' OR 1=1 --"), []),
        (Query(attempted=True), [3, 2]),
    ],
)
def test_what_can_be_asked_for(path: Path, query: Query, slots: list[int]) -> None:
    async def work(history: History) -> list[int]:
        await history.record([record(1, "a", attempts=()), record(2, "b"), record(3, "a", "failed")])
        return [(found.slot - 1_000_000) // 1000 for found in (await history.runs(query)).runs]

    assert using(path, work) == slots


@pytest.mark.parametrize("before", ["x", "1", "1:", ":a", "-1:a", "9" * 30 + ":a"])
def test_a_place_where_no_page_ended_is_refused(path: Path, before: str) -> None:
    with pytest.raises(CallError, match="before"):
        using(path, lambda history: history.runs(Query(before=before)))


def test_percentiles_are_of_the_last_thousand_successes(path: Path) -> None:
    async def work(history: History) -> Any:
        await history.record([record(number, due=0, ended=1_000_000 + number) for number in range(1500)])
        await history.record([record(2000, state="failed"), record(1, "other")])
        return await history.percentiles("j"), await history.all_percentiles()

    one, every = using(path, work)
    assert (one.count, one.median, one.mean) == (1000, 1_000_999.5, 1_000_999.5)
    assert (every["j"], set(every)) == (one, {"j", "other"})
    assert percentiles([]).count == 0


def test_what_is_too_old_or_too_many_is_forgotten_with_its_output(path: Path) -> None:
    async def work(history: History) -> tuple[int, int, Output | None]:
        await history.record([record(number, "many") for number in range(1200)] + [record(number, "few") for number in range(5)])
        await history.put_output(record(1, "many").id, Output(b"x", b""))
        while await history.prune(1_000_000 + 4 * 1000 + 200):
            pass
        many = [found async for found in history.all(Query(job="many"))]
        few = [found async for found in history.all(Query(job="few"))]
        return len(many), len(few), await history.output(record(1, "many").id)

    assert using(path, work, Keep(age_ms=1_000, per_job=10)) == (10, 1, None)


def test_what_jobs_came_to_in_one_run_of_a_graph(path: Path) -> None:
    async def work(history: History) -> dict[str, Outcome]:
        await history.record([record(1, "a", identity="i"), record(2, "b", "failed", identity="i"), record(3, "b", identity="i")])
        return await history.outcomes("i")

    assert using(path, work) == {"a": Outcome.SUCCESS, "b": Outcome.SUCCESS}


def test_elements_are_counted_by_task(path: Path) -> None:
    async def work(history: History) -> Any:
        await history.record([record(1)])
        await history.add_progress("t", 3)
        await history.add_progress("t", 4)
        return await history.progress(["t", "u"]), await history.knows_task("j", "ct:1001000:0:j:"), await history.knows_task("j", "ct:1")

    assert using(path, work) == ({"t": 7}, True, False)


def test_a_damaged_file_says_so(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match=r"history\.db is damaged .*move it away"):
        using(path, lambda history: history.runs(Query()))


def test_a_newer_release_s_file_is_left_alone(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer release"):
        using(path, lambda history: history.runs(Query()))


def test_an_older_release_s_file_gets_what_it_lacks(path: Path) -> None:
    db = sqlite3.connect(path)
    db.executescript(f"{rows.SCHEMA} PRAGMA user_version = 1;")
    db.close()

    async def work(history: History) -> list[Unsent]:
        await history.record([record(1)], {"j@1001000": [MAIL]})
        return await history.unsent()

    assert [one.message for one in using(path, work)] == [MAIL]


MAIL = Message("mail", "a@x.org", "s", "t")
HOOK = Message("url", "http://x.test/hook", "s", "t", b"{}", headers=(("X", "y"),))


def test_what_is_to_be_told_stays_until_it_has_arrived(path: Path) -> None:
    run = record(1)

    async def first(history: History) -> None:
        posted = await history.record([run, record(2)], {run.id: [MAIL, HOOK]}, 7)
        assert posted == await history.unsent()
        await history.sent(posted[:1])
        await history.post([MAIL], 8)

    using(path, first)
    unsent = using(path, lambda history: history.unsent())
    assert [(one.since_ms, one.message) for one in unsent] == [(7, HOOK), (8, MAIL)]


def test_a_message_that_cannot_be_read_holds_up_no_other(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    using(path, lambda history: history.post([MAIL, HOOK], 7))
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE outbox SET message = x'c1' WHERE number = 1")
    db.close()
    assert [one.message for one in using(path, lambda history: history.unsent())] == [HOOK]
    assert "message 1 in the outbox" in caplog.text


def test_a_run_that_comes_again_is_not_told_again(path: Path) -> None:
    run = record(1)

    async def work(history: History) -> list[Unsent]:
        await history.record([run], {run.id: [MAIL]})
        assert await history.record([run], {run.id: [MAIL]}) == []
        return await history.unsent()

    assert len(using(path, work)) == 1


def test_a_place_that_never_answers_takes_no_room_from_others(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work(history: History) -> list[int]:
        counts = [len(await history.post(messages, 0)) for messages in ([HOOK] * (PLACE_MAX + 5), [MAIL], [HOOK])]
        await history.sent((await history.unsent())[:3])
        return [*counts, len(await history.post([HOOK] * 5, 0))]

    assert using(path, work) == [PLACE_MAX, 1, 0, 3]
    assert "too many messages wait already: 's' is not sent" in caplog.text


def test_a_limit_beyond_a_page_is_a_page(path: Path) -> None:
    assert using(path, lambda history: history.runs(Query(limit=PAGE_MAX * 9))).runs == ()


def test_what_a_spreadsheet_would_run_is_text() -> None:
    assert "'=1+1" in csv_row(record(1, reason="=1+1"))


_WRITER = """
import asyncio, sys
from pathlib import Path
from chronos.history import History
from tests.chronos.test_history import record

async def main():
    history = History(Path(sys.argv[1]))
    for number in range(100_000):
        await history.record([record(number)])
        print(number, flush=True)

asyncio.run(main())
"""


def test_what_was_told_to_be_durable_is_there_after_kill_9(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 20:
            break
    process.send_signal(signal.SIGKILL)
    told = [int(line) for line in process.stdout.read().split()]
    process.wait()
    last = max([20, *told])
    count = using(path, lambda history: _count(history))
    assert count in (last + 1, last + 2)


async def _count(history: History) -> int:
    return len([found async for found in history.all(Query())])
