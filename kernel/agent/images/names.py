"""Names of images: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, as Docker reads them. Pure."""

from __future__ import annotations

import re

from msgspec import Struct

from kernel.errors import CallError

HUB = "docker.io"
NAME_BYTES_MAX = 512

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:(?P<registry>(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|localhost|[A-Za-z0-9-]+(?=:\d))(?::\d+)?)/)?"
    rf"(?P<repository>{_PART}(?:/{_PART})*)"
    rf"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?"
    rf"(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)


class ImageName(Struct, frozen=True):
    """registry: `docker.io` unless said. tag: `latest` unless a tag or a digest is said."""

    registry: str
    repository: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"

    @property
    def short(self) -> str:
        """Without the registry: as archives in a folder are called."""
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.digest}"


def parse_name(text: str) -> ImageName:
    """Raises CallError."""
    found = _NAME.fullmatch(text) if len(text) <= NAME_BYTES_MAX else None
    if found is None:
        raise CallError(f"image: {text[:100]!r} is no name of an image; it is [REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST] in small letters")
    digest = found["digest"] or ""
    return ImageName(found["registry"] or HUB, found["repository"], found["tag"] or ("" if digest else "latest"), digest)
