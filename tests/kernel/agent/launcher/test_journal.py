"""The journal keeps every record that was flushed, whatever cut the launcher short."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.launcher import journal as module
from kernel.agent.launcher.journal import Journal

Json = dict[str, Any]


def open_journal(path: Path, snapshot: list[Json] | None = None, boot_id: str = "boot-1") -> tuple[Journal, list[Json], bool]:
    journal = Journal(str(path), boot_id, lambda: snapshot or [])
    records, same_boot = journal.load()
    return journal, [record for record in records if record["r"] != "journal"], same_boot


def test_what_was_flushed_is_read_back_in_order(tmp_path: Path) -> None:
    journal, records, same_boot = open_journal(tmp_path / "j")
    assert (records, same_boot) == ([], True)
    journal.compact()
    written = [{"r": "intent", "c": f"Ä{n}\udc80", "at": n / 3} for n in range(3)]
    for record in written:
        journal.append(record)
    assert journal.flush()
    journal.append({"r": "lost"})
    assert open_journal(tmp_path / "j")[1:] == (written, True)


@pytest.mark.parametrize("tail", [b'{"r":"exit","c":', b"\0" * 64, b"\xff\xfe", b"[1]", b'{"r":"exit"}\n{"r":'])
def test_a_torn_or_garbled_end_costs_no_whole_record(tmp_path: Path, tail: bytes) -> None:
    journal, _, _ = open_journal(tmp_path / "j")
    journal.compact()
    journal.append({"r": "intent", "c": "a"})
    journal.flush()
    with open(tmp_path / "j", "ab") as file:
        file.write(tail)
    assert open_journal(tmp_path / "j")[1][0] == {"r": "intent", "c": "a"}


def test_another_boot_is_noticed(tmp_path: Path) -> None:
    open_journal(tmp_path / "j")[0].compact()
    assert open_journal(tmp_path / "j")[2]
    assert not open_journal(tmp_path / "j", boot_id="boot-2")[2]


def test_compaction_keeps_the_snapshot_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_BYTES", 2000)
    live = [{"r": "intent", "c": "live"}]
    journal, _, _ = open_journal(tmp_path / "j", live)
    journal.compact()
    longest = 0
    for n in range(1000):
        journal.append({"r": "forget", "c": f"c{n}"})
        assert journal.flush()
        longest = max(longest, (tmp_path / "j").stat().st_size)
    assert longest < 2200
    assert open_journal(tmp_path / "j")[1][0] == live[0]
    assert not (tmp_path / "j.new").exists()


def test_a_crash_during_compaction_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _, _ = open_journal(tmp_path / "j", [{"r": "new"}])
    journal.compact()
    journal.append({"r": "old"})
    journal.flush()

    def fail(*_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(os, "rename", fail)
    journal.compact()  # Not fatal: the old file serves on.
    journal.append({"r": "later"})
    assert journal.flush()
    assert open_journal(tmp_path / "j")[1] == [{"r": "new"}, {"r": "old"}, {"r": "later"}]


def test_a_directory_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "missing" / "j"), "boot-1", list)
    with pytest.raises(OSError):
        journal.compact()


def test_a_full_disk_leaves_no_half_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _, _ = open_journal(tmp_path / "j")
    journal.compact()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    journal.append({"r": "intent", "c": "a"})
    assert not journal.flush()
    assert not journal.flush()
    monkeypatch.setattr(os, "write", write)
    journal.append({"r": "intent", "c": "b"})
    assert journal.flush()
    assert open_journal(tmp_path / "j")[1] == [{"r": "intent", "c": "a"}, {"r": "intent", "c": "b"}]
