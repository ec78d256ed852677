"""What a URI asks for."""

from __future__ import annotations

import pytest

from kernel.agent.fetcher.plan import FetchError, plan, shown
from kernel.wire.command import URI

SHA256 = "ab" * 32


@pytest.mark.parametrize(
    ("value", "scheme", "path", "output"),
    [
        ("http://h/dir/file", "http", "", "file"),
        ("HTTPS://h/file?version=3", "https", "", "file"),
        ("http://me:secret@h/file", "http", "", "file"),
        ("hdfs://name:9000/dir/file", "hdfs", "", "file"),
        ("hdfs:///file", "hdfs", "", "file"),
        ("s3://bucket/what?is=this", "s3", "", "what?is=this"),
        ("file:///a/b", "file", "/a/b", "b"),
        ("file://localhost/a/b", "file", "/a/b", "b"),
        ("/a/b", "file", "/a/b", "b"),
        ("a/b", "file", "/home/a/b", "b"),
        ("b", "file", "/home/b", "b"),
        ("/a/b?c#d", "file", "/a/b?c#d", "b?c#d"),
    ],
)
def test_where_it_comes_from_and_what_it_is_called(value: str, scheme: str, path: str, output: str) -> None:
    wanted = plan(URI(value), frameworks_home="/home")
    assert (wanted.scheme, wanted.path, wanted.output) == (scheme, path, output)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip", ".gz"])
def test_archives_are_known_by_their_names(suffix: str) -> None:
    assert plan(URI(f"http://h/a{suffix}")).archive == suffix
    assert plan(URI(f"http://h/a{suffix}?signature=x")).archive == suffix
    assert plan(URI(f"http://h/a{suffix}", extract=False)).archive is None
    assert plan(URI(f"http://h/a{suffix}", executable=True)).archive is None
    assert plan(URI(f"http://h/a{suffix}", output_file="plain")).archive is None
    assert plan(URI("http://h/plain", output_file=f"a{suffix}")).archive == suffix


@pytest.mark.parametrize("name", ["plain", "a.jar", "tar", "a.tar.lz", "a.TAR"])
def test_others_are_not(name: str) -> None:
    assert plan(URI(f"http://h/{name}")).archive is None


def test_a_checksum_is_no_part_of_the_address() -> None:
    wanted = plan(URI(f"http://h/a.tgz#sha256={SHA256.upper()}"))
    assert (wanted.uri, wanted.output, wanted.archive, wanted.sha256) == ("http://h/a.tgz", "a.tgz", ".tgz", SHA256)
    assert plan(URI(f"/a/b#sha256={SHA256}")).path == "/a/b"


def test_what_is_kept_has_its_checksum_in_its_name() -> None:
    """So a new one is never answered with the old file."""
    assert plan(URI("http://h/a", cache=True)).cache == "http://h/a"
    assert plan(URI(f"http://h/a#sha256={SHA256}", cache=True)).cache == f"http://h/a#sha256={SHA256}"
    assert plan(URI("http://h/a")).cache is None


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (URI(""), "must have characters"),
        (URI("http://h/a\0b"), "none of them zero"),
        (URI("http://h/"), "give it an output_file"),
        (URI("http://h"), "give it an output_file"),
        (URI("http://h/a/.."), "give it an output_file"),
        (URI("file://elsewhere/a"), "an absolute path on the agent's machine"),
        (URI("a/b"), "--frameworks-home"),
        (URI("/a", output_file="/etc/passwd"), "inside the sandbox"),
        (URI("/a", output_file="a/../../b"), "inside the sandbox"),
        (URI("/a", output_file="b/"), "inside the sandbox"),
        (URI("/a", output_file="."), "names no file"),
        (URI("/a#sha256=12"), "64 hexadecimal digits"),
    ],
)
def test_what_is_wrong_is_said(uri: URI, why: str) -> None:
    with pytest.raises(FetchError) as caught:
        plan(uri)
    assert str(caught.value).startswith(f"Failed to fetch {shown(uri.value)}: ")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://me:secret@h:80/a", "http://h:80/a"),
        ("http://me:se@cret@h/a@b", "http://h/a@b"),
        ("s3://key:secret@bucket", "s3://bucket"),
        ("https://h/a?token=secret", "https://h/a?..."),
        (f"https://h/a?token=secret#sha256={SHA256}", f"https://h/a?...#sha256={SHA256}"),
        ("http://h?token=secret", "http://h"),
        ("/a@b?c", "/a@b?c"),
        ("file:///a?b", "file:///a?b"),
    ],
)
def test_secrets_are_not_shown(value: str, expected: str) -> None:
    assert shown(value) == expected
