"""How a volume is read: values that travel with it, and no resource of this process."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from types import EllipsisType

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes.cache import DecodeCache, shared_cache
from reasonknee_datasets.volumes.disk import DiskCache, find_disk_cache
from reasonknee_datasets.volumes.geometry import Geometry
from reasonknee_datasets.volumes.grid_view import View
from reasonknee_datasets.volumes.header import VolumeHeader

CachePolicy = DecodeCache | EllipsisType | None
DiskPolicy = DiskCache | str | os.PathLike[str] | EllipsisType | None

_TOKEN = re.compile(r"(?P<bytes>\d+)(?:-(?P<hash>[0-9a-f]{64}))?")


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """Size and hash that a volume file must have, as the manifest states them.

    Attributes
    ----------
    bytes : int
        Size of the file.
    index_sha256 : str or None
        SHA-256 of NIfTI header and slab index (`index_hash`); None where the file had no index.
    """

    bytes: int
    index_sha256: str | None = None

    def check(self, header: VolumeHeader, label: str) -> None:
        """Compare size and hash of an opened file with the expected ones.

        Raises
        ------
        VolumeError
            If size or hash differ.
        """
        remedy = "Put back the file that was prepared, or prepare the repository again."
        if header.identity.size != self.bytes:
            raise VolumeError(
                f"The volume file {label} has {header.identity.size} bytes, but the manifest says {self.bytes}: it is "
                f"another file. {remedy}"
            )
        if self.index_sha256 is not None and header.index_sha256 != self.index_sha256:
            raise VolumeError(
                f"The volume file {label} has the size that the manifest says, but other voxels or another header: "
                f"index_sha256 is {header.index_sha256}, but should be {self.index_sha256}. {remedy}"
            )

    def to_token(self) -> str:
        """Write size and hash as a short string that may follow a volume's reference.

        Examples
        --------
        >>> ExpectedFile(52_000_000).to_token()
        '52000000'
        """
        return str(self.bytes) if self.index_sha256 is None else f"{self.bytes}-{self.index_sha256}"

    @classmethod
    def from_token(cls, token: str) -> ExpectedFile:
        """Read what `to_token` wrote.

        Raises
        ------
        VolumeError
            If the text is not a token.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise VolumeError(
                f"The token {token!r} is not <bytes>-<sha256>. It was cut or changed: load the rows again."
            )
        return cls(int(match["bytes"]), match["hash"])


@dataclass(frozen=True, slots=True)
class Settings:
    """How a volume is read: the arguments of `open_volume`, without credentials."""

    cache: CachePolicy = ...
    geometry: Geometry | None = None
    cache_dir: DiskPolicy = ...
    view: View | None = None
    expected: ExpectedFile | None = None

    def find_cache(self) -> DecodeCache | None:
        """Return the decode cache to use now: `use_cache` may name another one for each read."""
        return shared_cache() if isinstance(self.cache, EllipsisType) else self.cache

    def find_disk(self) -> DiskCache | None:
        """Return the cache on disk to use now."""
        if self.cache_dir is None or isinstance(self.cache_dir, DiskCache):
            return self.cache_dir
        return find_disk_cache(None if isinstance(self.cache_dir, EllipsisType) else self.cache_dir)
