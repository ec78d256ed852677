"""Which images may go, and when it is worth it (`--image_gc_config`, as in Mesos). Values only: it touches no disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated

from msgspec import Meta, Struct, field

from kernel.agent.images.config import RunConfig
from kernel.wire.common import DurationInfo
from kernel.wire.common import Image as AnyImage

HOUR = DurationInfo(3600 * 10**9)
JUST_USED_S = 300.0  # Somebody may be about to make a container of it.


class ImageGcConfig(Struct, frozen=True):
    """image_disk_headroom: part of the disk to keep free. image_disk_watch_interval: how often it is looked at. excluded_images: those
    to be kept."""

    image_disk_headroom: Annotated[float, Meta(ge=0, le=1)] = 0.1
    image_disk_watch_interval: DurationInfo = field(default_factory=lambda: HOUR)
    excluded_images: tuple[AnyImage, ...] = ()

    @property
    def kept(self) -> list[str]:
        """The names of the excluded."""
        return [image.docker.name for image in self.excluded_images if image.docker is not None]


class Image(Struct):
    """An image that is unpacked. layers: digests, lowest first."""

    name: str
    layers: tuple[str, ...]
    config: RunConfig
    used_s: float = 0.0


def is_full(usage: float, headroom: float) -> bool:
    """Whether images have to go. usage: of the disk, from 0 to 1."""
    return usage > 1 - headroom


def unneeded(images: Iterable[Image], keep: Collection[str], now_s: float, older_s: float) -> list[Image]:
    """Those that may go, the longest unused first. keep: names in full, of those that containers have, too."""
    found = [image for image in images if image.name not in keep and now_s - image.used_s >= older_s]
    return sorted(found, key=lambda image: (image.used_s, image.name))


def unused(layers: Iterable[str], images: Iterable[Image], held: Collection[str]) -> set[str]:
    """The layers that neither an image has nor anybody holds: a container keeps its own also when its image has got others meanwhile."""
    return set(layers) - {digest for image in images for digest in image.layers} - set(held)
