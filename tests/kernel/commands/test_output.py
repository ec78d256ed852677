"""Tables: whole in pipes, broken over lines on terminals that are too narrow."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from kernel.commands import output
from tests.cluster import MESETA
from tests.kernel.commands.cluster import Cluster, running

HEADINGS = ("RUN", "SLOT", "LATE", "STATE", "REASON")
RUNS = [
    ("nightly-database-backup@1795733359745", "2026-11-26 22:49:19 UTC (manual)", "", "succeeded", ""),
    ("clean@1795733359978", "2026-11-26 22:49:19 UTC", "", "skipped", "clean@1795733359596 was still running (overlap: not said)"),
]


def plain(text: str, heading: bool) -> str:
    return text


def fitted(width: int) -> list[str]:
    return output.fitted(HEADINGS, RUNS, width, plain)


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
def test_no_cell_is_cut_however_narrow_the_terminal(width: int) -> None:
    lines = fitted(width)
    for row in RUNS:
        for cell in row:
            assert any(cell in line for line in lines), cell


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, fitted(width))) <= width


def test_what_has_no_room_goes_on_below_and_only_where_there_is_something() -> None:
    assert fitted(80) == [
        "RUN                                    SLOT",
        "    STATE      REASON",
        "nightly-database-backup@1795733359745  2026-11-26 22:49:19 UTC (manual)",
        "    succeeded",
        "clean@1795733359978                    2026-11-26 22:49:19 UTC",
        "    skipped    clean@1795733359596 was still running (overlap: not said)",
    ]
    assert fitted(100) == [
        "RUN                                    SLOT                              STATE",
        "    REASON",
        "nightly-database-backup@1795733359745  2026-11-26 22:49:19 UTC (manual)  succeeded",
        "clean@1795733359978                    2026-11-26 22:49:19 UTC           skipped",
        "    clean@1795733359596 was still running (overlap: not said)",
    ]


def test_where_there_is_room_a_row_is_a_line_without_empty_columns() -> None:
    assert len(fitted(200)) == 3
    assert "LATE" not in fitted(200)[0]


def test_letters_that_are_two_cells_wide_keep_columns_aligned() -> None:
    assert output.aligned([("日本", "x"), ("ab", "y"), ("e\u0301", "z")]) == ["日本  x", "ab    y", "e\u0301     z"]


def test_a_pipe_gets_all_columns_and_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(HEADINGS, RUNS, empty="")
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(r"  +", line)[0] for line in lines] == ["RUN", *(row[0] for row in RUNS)]
    assert "LATE" in lines[0]
    assert lines[2].endswith("(overlap: not said)")


def test_text_of_others_neither_breaks_the_table_nor_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("ID", "REASON"), [("a", "two\nlines\x1b[2J")], empty="")
    assert capsys.readouterr().out == "ID  REASON\na   two lines [2J\n"


# ---- A real terminal ------------------------------------------------------------------------------------


def on_terminal(cluster: Cluster, columns: int, *arguments: str, **environ: str) -> str:
    """What a command writes to a terminal of a width."""
    ours, its = pty.openpty()
    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        env = {**inherited, "TERM": "xterm", "MESETA_MASTER": cluster.url, **environ}
        subprocess.run([*MESETA, *arguments], env=env, stdin=its, stdout=its, timeout=30, check=True)
        return os.read(ours, 65536).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        os.close(its)


def test_a_narrow_terminal_shows_ids_whole_and_states_in_colours() -> None:
    with running() as cluster:
        cluster.agents[0]["agent_info"]["id"]["value"] = "1a537595-4fc0-48ff-a98b-7703bc675ce0-S0"
        shown = on_terminal(cluster, 50, "node", "list")
        assert "1a537595-4fc0-48ff-a98b-7703bc675ce0-S0" in shown
        assert "\x1b[32mactive\x1b[0m" in shown
        assert max(len(re.sub(r"\x1b\[\d*m", "", line)) for line in shown.splitlines()) <= 50
        assert "\x1b" not in on_terminal(cluster, 50, "node", "list", NO_COLOR="1")
