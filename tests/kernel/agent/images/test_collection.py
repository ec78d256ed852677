"""Which images go, and when."""

from __future__ import annotations

import pytest

from kernel.agent.images.collection import Image, ImageGcConfig, is_full, unneeded, unused
from kernel.agent.images.config import RunConfig
from kernel.wire.common import Image as AnyImage
from kernel.wire.common import ImageDocker, ImageType


def image(name: str, used_s: float, *layers: str) -> Image:
    return Image(name, layers, RunConfig(), used_s)


@pytest.mark.parametrize(("usage", "headroom", "full"), [(0.9, 0.1, False), (0.91, 0.1, True), (0.5, 0.0, False), (0.1, 1.0, True)])
def test_a_disk_is_full_when_its_headroom_is_used(usage: float, headroom: float, full: bool) -> None:
    assert is_full(usage, headroom) is full


def test_the_longest_unused_goes_first_and_not_what_is_kept_or_was_just_used() -> None:
    images = [image("b", 20), image("a", 10), image("kept", 1), image("now", 95)]
    assert [one.name for one in unneeded(images, {"kept"}, 100, 10)] == ["a", "b"]


def test_a_layer_stays_as_long_as_an_image_or_a_container_has_it() -> None:
    assert unused(["1", "2", "3", "4"], [image("a", 0, "1", "2"), image("b", 0, "2")], {"4"}) == {"3"}


def test_what_is_kept_is_named() -> None:
    assert ImageGcConfig(excluded_images=(AnyImage(ImageType.DOCKER, docker=ImageDocker("web:1")), AnyImage(ImageType.APPC))).kept == [
        "web:1"
    ]
    assert (ImageGcConfig().image_disk_headroom, ImageGcConfig().image_disk_watch_interval.nanoseconds) == (0.1, 3600 * 10**9)
