"""What the launcher remembers on disk: one JSON object a line, appended before what it records becomes visible.

It survives the death of the launcher, not of the machine: nothing is synced, for after a power loss no task runs
any more and the boot id in the first line says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

FORMAT = 1
COMPACT_BYTES = 1024 * 1024


class Journal:
    """An append-only file that is rewritten when most of it is past. One writer: its owner holds the lock of the directory."""

    def __init__(self, path: str, boot_id: str, snapshot: Callable[[], list[Json]]) -> None:
        """snapshot: returns the records that are still needed. Call `load`, then `compact`, before anything else."""
        self.path = path
        self._boot_id = boot_id
        self._snapshot = snapshot
        self._fd = -1
        self._bytes = 0
        self._compact_at_bytes = COMPACT_BYTES
        self._unwritten: list[bytes] = []

    def load(self) -> tuple[list[Json], bool]:
        """Read the records in order. Lines that are torn or garbled (power loss) are passed over.

        Returns: the records, and whether they were written since the machine started.
        """
        try:
            with open(self.path, "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return [], True
        records: list[Json] = []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:  # UnicodeDecodeError is one too.
                continue
            if isinstance(record, dict):
                records.append(record)
        boot_ids = [record.get("boot") for record in records if record.get("r") == "journal"]
        return records, self._boot_id in boot_ids

    def append(self, record: Json) -> None:
        """Take a record; `flush` writes it."""
        self._unwritten.append(json.dumps(record, separators=(",", ":")).encode())

    def flush(self) -> bool:
        """Write what was appended. Returns False, and keeps it, when the disk does not take it."""
        if not self._unwritten:
            return True
        data = b"\n".join([*self._unwritten, b""])
        try:
            written = os.write(self._fd, data)
            if written < len(data):  # The disk is full: no half lines.
                os.ftruncate(self._fd, self._bytes)
                return False
        except OSError:
            return False
        self._unwritten.clear()
        self._bytes += written
        if self._bytes >= self._compact_at_bytes:
            self.compact()
        return True

    def compact(self) -> None:
        """Write the file anew with what is still needed, in one step.

        Raises OSError when there is no file to go on with; one that is merely too long is kept and tried again later.
        """
        head: Json = {"r": "journal", "format": FORMAT, "boot": self._boot_id}
        data = b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in [head, *self._snapshot()])
        fresh = self.path + ".new"
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            try:
                if os.write(fd, data) < len(data):
                    raise OSError(f"cannot write {fresh} in full")
                os.rename(fresh, self.path)
            except OSError:
                os.close(fd)
                raise
        except OSError:
            if self._fd < 0:
                raise
            self._compact_at_bytes += COMPACT_BYTES
            return
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._bytes = fd, len(data)
        self._compact_at_bytes = max(COMPACT_BYTES, 4 * self._bytes)
        self._unwritten.clear()  # The snapshot holds it all.
