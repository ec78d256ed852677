"""Where the embedded cluster lives on this machine, and where its daemons answer.

`meseta up` writes `WORK_DIR/endpoints.json` (name -> URL) once all daemons work, `down` removes it; a pointer in the
state home names the work dir of the last `up`, so that client commands find it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def state_home() -> Path:
    """The XDG state home's `meseta`; for root `/var/lib/meseta`, unless XDG_STATE_HOME is set."""
    if home := os.environ.get("XDG_STATE_HOME"):
        return Path(home) / "meseta"
    return Path("/var/lib/meseta") if os.geteuid() == 0 else Path.home() / ".local/state/meseta"


def pointer() -> Path:
    """The file that names the work dir of the last `up`."""
    return state_home() / "last"


def last_work_dir() -> Path:
    """The work dir of the last `up`, else the default one."""
    try:
        return Path(pointer().read_text().strip())
    except OSError:
        return state_home()


def endpoints(work_dir: Path | None = None) -> dict[str, str]:
    """Name -> URL of the daemons that run in a work dir (default: the last `up`'s); empty when none do."""
    found = read_json((work_dir or last_work_dir()) / "endpoints.json")
    return {str(name): str(url) for name, url in found.items()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file that is only ever replaced whole; empty when there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
