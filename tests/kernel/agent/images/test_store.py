"""Images get here whole or not at all, and share their layers."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.images import store as stores
from kernel.agent.images.config import ImageError
from kernel.agent.images.store import Held, Store
from tests.images import entry, lay_out, layer, save

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may unpack layers")

BOTTOM, TOP, OTHER = (layer([entry("f", text)]) for text in (b"bottom", b"top", b"other"))


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    (tmp_path / "registry").mkdir()
    return tmp_path / "registry"


@pytest.fixture
def store(tmp_path: Path, registry: Path) -> Store:
    return Store(str(tmp_path / "store"), str(registry))


def contents(store: Store, name: str, **fields: Any) -> list[str]:
    """What the layers of an image have, lowest first."""
    image = store.provide(name, fields.get("fresh", False))
    return [(Path(store.layer(digest)) / "f").read_text() for digest in image.layers]


def test_an_image_as_docker_saves_it(store: Store, registry: Path) -> None:
    save(registry / "web:1.tar", [BOTTOM, TOP], Env=["A=b"], Cmd=["run"], Entrypoint=["/e"], WorkingDir="/w", User="app")
    assert contents(store, "web:1") == ["bottom", "top"]
    config = store.provide("web:1", False).config
    assert (config.env, config.cmd, config.entrypoint, config.working_dir, config.user) == (["A=b"], ["run"], ["/e"], "/w", "app")


def test_an_image_in_the_layout_of_oci(store: Store, registry: Path) -> None:
    (registry / "team").mkdir()
    lay_out(registry / "team" / "web:2", [BOTTOM, TOP])
    assert contents(store, "team/web:2") == ["bottom", "top"]


def test_it_is_got_once_and_again_when_asked(store: Store, registry: Path) -> None:
    path = save(registry / "web:1.tar", [BOTTOM])
    assert contents(store, "web:1") == ["bottom"]
    path.unlink()
    assert contents(store, "web:1") == ["bottom"]
    save(path, [OTHER])
    assert contents(store, "web:1") == ["bottom"]
    assert contents(store, "web:1", fresh=True) == ["other"]


def test_layers_are_shared(store: Store, registry: Path, tmp_path: Path) -> None:
    save(registry / "a:1.tar", [BOTTOM, TOP])
    save(registry / "b:1.tar", [BOTTOM, OTHER])
    assert contents(store, "a:1") + contents(store, "b:1") == ["bottom", "top", "bottom", "other"]
    assert len(list((tmp_path / "store" / "layers").iterdir())) == 3


def test_of_several_who_want_it_one_gets_it(store: Store, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(registry / "web:1.tar", [BOTTOM])
    fetched, fetch = [], Store._fetch
    monkeypatch.setattr(Store, "_fetch", lambda self, name: fetched.append(name) or fetch(self, name))
    threads = [threading.Thread(target=store.provide, args=("web:1", False)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1


def test_what_is_not_there_is_said_with_the_place_looked_at(store: Store, registry: Path) -> None:
    with pytest.raises(ImageError, match=f"image web:1 is not there: {registry} has no web:1.tar"):
        store.provide("web:1", False)


def test_without_skopeo_nothing_is_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores.shutil, "which", lambda name: None)
    with pytest.raises(ImageError, match=r"docker\.io/web:1 cannot be pulled: skopeo is not installed"):
        Store(str(tmp_path), "https://registry-1.docker.io").provide("web:1", False)


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_layers_packed_with_zstd(store: Store, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = layer([entry("f", b"large"), entry("g", os.urandom(4 << 20))])
    lay_out(registry / "web:1", [BOTTOM, large], pack=zstd)
    assert contents(store, "web:1") == ["bottom", "large"]
    lay_out(registry / "web:2", [OTHER], pack=lambda data: zstd(data)[:-20])
    with pytest.raises(ImageError, match="layer 1 of 1: the layer is no readable archive"):
        store.provide("web:2", False)
    lay_out(registry / "web:3", [layer([entry("../../g", b"x" * (4 << 20)), entry("a/../..", b"")])], pack=zstd)
    with pytest.raises(ImageError, match="layer 1 of 1"):
        store.provide("web:3", False)
    monkeypatch.setenv("PATH", str(registry))
    lay_out(registry / "web:4", [TOP], pack=lambda data: b"\x28\xb5\x2f\xfd")
    with pytest.raises(ImageError, match="packed with zstd, for which the program zstd is needed"):
        store.provide("web:4", False)


@pytest.mark.parametrize("content", [b"garbage", b""])
def test_what_is_no_image_is_refused(store: Store, registry: Path, content: bytes) -> None:
    (registry / "web:1.tar").write_bytes(content)
    with pytest.raises(ImageError, match=r"web:1.tar cannot be read"):
        store.provide("web:1", False)


def test_a_layer_that_is_not_what_its_image_says_is_refused_and_nothing_stays(store: Store, registry: Path, tmp_path: Path) -> None:
    folder = lay_out(registry / "web:1", [BOTTOM, TOP])
    blobs = sorted((folder / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    packed = [blob for blob in blobs if blob.read_bytes()[:2] == b"\x1f\x8b"]
    first, second = (blob.read_bytes() for blob in packed)
    packed[0].write_bytes(second)
    packed[1].write_bytes(first)
    with pytest.raises(ImageError, match="a layer has the digest"):
        store.provide("web:1", False)
    assert not list((tmp_path / "store" / "new").iterdir())
    assert not (tmp_path / "store" / "layers").exists()


def test_images_nobody_wants_go_with_the_layers_nobody_else_has(store: Store, registry: Path, tmp_path: Path) -> None:
    save(registry / "a:1.tar", [BOTTOM, TOP])
    save(registry / "b:1.tar", [BOTTOM, OTHER])
    contents(store, "a:1"), contents(store, "b:1")
    assert store.prune(["b:1"], Held(), older_s=3600) == 0, "it was used just now"
    assert store.prune(["b:1"], Held()) == 1
    assert len(list((tmp_path / "store" / "layers").iterdir())) == 2
    assert contents(store, "b:1") == ["bottom", "other"]
    assert store.prune([], Held()) == 1
    assert not list((tmp_path / "store" / "layers").iterdir())
