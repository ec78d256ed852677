"""What images are called."""

from __future__ import annotations

import pytest

from kernel.agent.images.names import ImageName, parse_name
from kernel.errors import CallError

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alpine", ImageName("docker.io", "alpine", "latest")),
        ("alpine:3.20", ImageName("docker.io", "alpine", "3.20")),
        ("team/web-app:v1_2", ImageName("docker.io", "team/web-app", "v1_2")),
        ("localhost:5000/web", ImageName("localhost:5000", "web", "latest")),
        ("registry.example.com/a/b/c:1", ImageName("registry.example.com", "a/b/c", "1")),
        (f"web@{DIGEST}", ImageName("docker.io", "web", "", DIGEST)),
        (f"web:1@{DIGEST}", ImageName("docker.io", "web", "1", DIGEST)),
    ],
)
def test_names_are_read_as_docker_does(text: str, name: ImageName) -> None:
    assert parse_name(text) == name
    assert parse_name(str(name)) == name


@pytest.mark.parametrize("text", ["", "Web", "../web", "a//b", "/web", "web:", "web:a b", "web@sha256:12", "-web", "a" * 600, "web\n"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(CallError, match="is no name of an image"):
        parse_name(text)
