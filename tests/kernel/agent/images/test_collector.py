"""A small disk that fills with images: those that nobody needs go."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.agent.images import store as stores
from kernel.agent.images.collection import ImageGcConfig
from kernel.agent.images.collector import ImageCollector
from kernel.agent.images.store import Held, Store
from kernel.errors import CallError
from kernel.wire.common import Image, ImageDocker, ImageType
from tests.images import entry, layer, save

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store on a disk of 16 MiB, with four images of 3 MiB each that were used one after the other, long ago."""
    folder, registry = tmp_path / "store", tmp_path / "registry"
    folder.mkdir()
    registry.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder], check=True)
    made = Store(str(folder), str(registry))
    try:
        for number in range(4):
            save(registry / f"i{number}:1.tar", [layer([entry("f", bytes([number]) * 3 * MIB)])])
            record = made.provide(f"i{number}:1", False)
            path = next(path for path in (folder / "images").iterdir() if record.name in path.read_text())
            path.write_text(path.read_text().replace(f'"used_s":{record.used_s}', f'"used_s":{1000 + number}.0'))
        yield made
    finally:
        subprocess.run(["umount", folder], check=True)


def names(store: Store) -> list[str]:
    return sorted(image.name.removeprefix("docker.io/") for image in store.images())


def full_name(name: str) -> str:
    return f"docker.io/{name}"


def look(store: Store, headroom: float, held: Held = Held(), *excluded: str) -> list[str]:  # noqa: B008 (it is frozen)
    kept = tuple(Image(ImageType.DOCKER, docker=ImageDocker(name)) for name in excluded)
    ImageCollector(ImageGcConfig(headroom, excluded_images=kept), store, lambda: held).look()
    return names(store)


def test_as_many_go_as_make_room_the_longest_unused_first(store: Store) -> None:
    assert look(store, 0.2) == ["i0:1", "i1:1", "i2:1", "i3:1"], "there is room"
    assert look(store, 0.5) == ["i2:1", "i3:1"]
    assert len(os.listdir(f"{store.folder}/layers")) == 2
    assert look(store, 1.0) == []


def test_what_is_excluded_in_use_or_just_used_stays(store: Store) -> None:
    store.provide("i2:1", False)
    assert look(store, 1.0, Held(frozenset({full_name("i0:1")})), "i1:1") == ["i0:1", "i1:1", "i2:1"]


def test_a_containers_layers_stay_when_its_image_has_others_now(store: Store, tmp_path: Path) -> None:
    (old,) = [image for image in store.images() if image.name == full_name("i0:1")]
    save(tmp_path / "registry" / "i0:1.tar", [layer([entry("f", b"new")])])
    new = store.provide("i0:1", True)
    assert look(store, 1.0, Held(frozenset({full_name("i0:1")}), frozenset(old.layers))) == ["i0:1"]
    assert all(os.path.isdir(store.layer(digest)) for digest in (*old.layers, *new.layers))
    assert look(store, 1.0, Held(frozenset({full_name("i0:1")}))) == ["i0:1"]
    assert not os.path.isdir(store.layer(old.layers[0])), "nobody has it any more"


def test_what_was_not_unpacked_to_its_end_goes_unless_somebody_is_at_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "FRESH_S", 0.0)
    left = Path(store.folder) / "new" / "left"
    left.mkdir()
    with stores._Scratch(store.folder) as busy:
        store.sweep()
        assert os.path.isdir(busy)
        assert not left.exists()


def test_an_excluded_image_must_have_a_name(store: Store) -> None:
    with pytest.raises(CallError, match="is no name of an image"):
        look(store, 1.0, Held(), "No Such Name")
