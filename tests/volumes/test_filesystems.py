"""Small files of a store that states another size than it sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from reasonknee_datasets.volumes.filesystems import ServerLimitError, read_file

received: list[int] = []


class Understating(MemoryFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """A store of its own protocol whose files are all said to have one size."""

    protocol = "understating"
    stated: int | None = 3

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("understating://", "memory://")))

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return {**super().info(path, **options), "size": self.stated}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        data = super().cat_file(path)[start:end]
        received.append(len(data))
        return bytes(data)


@pytest.fixture(autouse=True)
def store() -> Iterator[None]:
    fsspec.register_implementation("understating", Understating, clobber=True)
    Understating(skip_instance_cache=True).pipe_file("/manifest.json", b"x" * 1000)
    received.clear()
    yield
    Understating.store.clear()
    Understating.stated = 3


@pytest.mark.parametrize("stated", [3, None])
def test_read_file_limit(stated: int | None) -> None:
    Understating.stated = stated
    with pytest.raises(ServerLimitError, match="longer than 100 bytes"):
        read_file("understating://manifest.json", {}, 100)
    assert received == [101]
    assert len(read_file("understating://manifest.json", {}, 1000)) == 1000


def test_read_file_refuses_stated_size_over_limit() -> None:
    Understating.stated = 101
    with pytest.raises(ServerLimitError, match="longer than 100 bytes"):
        read_file("understating://manifest.json", {}, 100)
    assert not received


def test_read_file_of_empty_object() -> None:
    Understating.stated = 0
    assert read_file("understating://manifest.json", {}, 100) == b""
    assert not received
