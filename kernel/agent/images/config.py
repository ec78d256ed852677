"""What an image says of itself."""

from __future__ import annotations

from msgspec import Struct

from kernel.errors import KernelError


class ImageError(KernelError):
    """An image cannot be had; the text says what is wrong with it, for the task's user."""


class RunConfig(Struct, rename="pascal"):
    """What an image says of how it is run."""

    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None
