"""Whatever a file holds, importers answer with jobs and notes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chronos.importers import Imported
from chronos.importers.celery_beat import read_beat
from chronos.importers.crontab import read_crontab
from chronos.importers.folder import read_folder
from chronos.importers.kubernetes import read_cronjobs
from tests.chronos.importers.test_celery_beat import APPLICATION
from tests.chronos.importers.test_crontab import DEBIAN
from tests.chronos.importers.test_folder import SYNC
from tests.chronos.importers.test_kubernetes import BACKUP

READERS: dict[str, tuple[Callable[[str], Imported], str]] = {
    "crontab": (lambda text: read_crontab(text, "/etc/crontab", system=True), "".join(DEBIAN.values())),
    "folder": (lambda text: read_folder({"scheduled/a.yaml": text, "b.toml": text, "c.json": text}), SYNC["scheduled/report.yaml"]),
    "kubernetes": (lambda text: read_cronjobs(text, "x.yaml"), BACKUP),
    "celery": (lambda text: read_beat(text, "x.py"), APPLICATION),
}
SNIPPETS = st.one_of(
    st.text(max_size=8), st.sampled_from(["null", "[]", "{}", "5", "-", ": ", "\n", "  ", "'", "%", "*", "@", "[", "]", "\0", "\ud800"])
)


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_file_is_read_as_far_as_it_goes(kind: str, data: st.DataObject) -> None:
    read, text = READERS[kind]
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(text)))
        text = text[:begin] + data.draw(SNIPPETS) + text[begin + data.draw(st.integers(0, 30)) :]
    read(text)
