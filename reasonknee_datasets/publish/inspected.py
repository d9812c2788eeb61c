"""Files and metadata for the checks of `reasonknee_datasets.publish.doctor`, read once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets import card
from reasonknee_datasets.check.file_hashes import open_place
from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST, Manifest, Shard, manifest_limit
from reasonknee_datasets.read_errors import reading
from reasonknee_datasets.safe_paths import is_url, join
from reasonknee_datasets.sources import find_place, find_volumes, keep_credentials, open_repository
from reasonknee_datasets.volumes import find_credentials
from reasonknee_datasets.volumes.filesystems import open_filesystem, read_file

_THREADS = 8  # footers of remote shards wait for the network


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Message and remedy of a check."""

    severity: Literal["error", "warning"]
    text: str
    remedy: str


@dataclass(frozen=True)
class Inspected:
    """A repository under examination."""

    # Absolute folder or URL of the repository, and of the place that contains ``volumes/``.
    root: str
    volumes: str
    manifest: Manifest  # its table of contents
    progress: bool = True  # whether checks show progress bars

    @property
    def is_local(self) -> bool:
        """Whether the repository is a folder on this machine."""
        return not is_url(self.root)

    @property
    def holds_voxels(self) -> bool:
        """Whether the repository itself contains volumes or pictures of them."""
        return self.manifest.has_previews or bool(self.stored_volumes)

    @cached_property
    def stored_volumes(self) -> tuple[str, ...]:
        """Volumes of the manifest that are in the repository itself."""
        if self.is_local:
            return tuple(path for path in self.manifest.volumes if Path(self.root, path).exists())
        filesystem, path = open_filesystem(self.root, find_credentials(self.root))
        if filesystem.protocol == "http" or "http" in filesystem.protocol:  # nothing can be listed
            first = next(iter(self.manifest.volumes), None)
            return () if first is None or not filesystem.exists(f"{path}/{first}") else tuple(self.manifest.volumes)
        return tuple(name for name in self.manifest.volumes if name in self._remote_files)

    @cached_property
    def _remote_files(self) -> frozenset[str]:
        with reading(self.root, "repository"):
            filesystem, path = open_filesystem(self.root, find_credentials(self.root))
            return frozenset(name[len(path) :].lstrip("/") for name in filesystem.find(path))

    @cached_property
    def files(self) -> frozenset[str]:
        """Every file of the repository: listed where that is possible, else those of the manifest."""
        if self.is_local:
            return frozenset(
                path.relative_to(self.root).as_posix()
                for path in Path(self.root).rglob("*")
                if not path.is_dir() and not path.name.endswith(".lock")
            )
        listed = {MANIFEST, *self.manifest.files, *(shard.path for shard in self.manifest.all_shards())}
        try:
            return self._remote_files or frozenset(listed)
        except (RepositoryError, NotImplementedError):
            return frozenset({*listed, *self.stored_volumes})

    @cached_property
    def footers(self) -> Mapping[str, pq.FileMetaData | str]:
        """Metadata of every shard by its path, or a sentence where it cannot be read."""
        with ThreadPoolExecutor(_THREADS) as pool:
            shards = list(self.manifest.all_shards())
            return dict(zip((shard.path for shard in shards), pool.map(self._read_footer, shards), strict=True))

    def sound_footers(self, config: str | None = None) -> Mapping[str, pq.FileMetaData]:
        """Return the metadata of the shards that can be read, of one config or of all."""
        wanted = self.manifest.all_shards() if config is None else self.shards(config)
        paths = [shard.path for shard in wanted]
        return {path: found for path in paths if not isinstance(found := self.footers[path], str)}

    def shards(self, config: str) -> tuple[Shard, ...]:
        """List the shards of all splits of a config."""
        return tuple(shard for shards in self.manifest.configs.get(config, {}).values() for shard in shards)

    def open_shard(self, path: str) -> pq.ParquetFile:
        """Open one shard; only requested columns are read."""
        return pq.ParquetFile(open_place(join(self.root, path)), page_checksum_verification=True)

    def read_columns(self, shard: Shard, columns: list[str]) -> pa.Table | None:
        """Read some columns of a shard; None where that is impossible, which other checks report."""
        if isinstance(self.footers[shard.path], str):
            return None
        try:
            with reading(join(self.root, shard.path), "shard"):
                # Not in threads: one of them may give the file back while the interpreter ends, which aborts it.
                return self.open_shard(shard.path).read(columns=columns, use_threads=False)
        except (pa.ArrowException, RepositoryError, OSError, KeyError):
            return None

    @cached_property
    def card_text(self) -> str:
        """The dataset card; empty where there is none."""
        return self.read_text(card.CARD)

    @cached_property
    def card_data(self) -> Mapping[str, Any]:
        """The YAML at the head of the card; empty where there is none that can be read."""
        from huggingface_hub import DatasetCard
        from yaml import YAMLError

        try:
            data: Any = DatasetCard(self.card_text).data
            return cast("Mapping[str, Any]", data.to_dict())
        except (ValueError, TypeError, AttributeError, YAMLError):  # reported by the checks, as a card without data
            return {}

    def read_text(self, name: str) -> str:
        """Read a small text file; empty where there is none."""
        url = join(self.root, name)
        try:
            with reading(url, "file"):
                return read_file(url, find_credentials(url), manifest_limit()).decode("utf-8", errors="replace")
        except RepositoryNotFoundError:
            return ""

    def _read_footer(self, shard: Shard) -> pq.FileMetaData | str:
        try:
            with reading(join(self.root, shard.path), "shard"):
                return self.open_shard(shard.path).metadata
        except RepositoryNotFoundError:
            return "does not exist"
        except (pa.ArrowException, RepositoryError, OSError) as error:
            return f"cannot be read as Parquet ({' '.join(str(error).split()).rstrip('.')})"


def inspect_repository(
    data_dir: str | os.PathLike[str],
    *,
    volumes_dir: str | os.PathLike[str] | None,
    storage_options: Mapping[str, Any] | None,
    token: bool | str | None,
    progress: bool,
) -> Inspected:
    """Find a repository and read its manifest."""
    root = find_place(data_dir)
    assert root is not None, "a place is found wherever one is named"
    keep_credentials(root, storage_options, token)
    volumes = find_volumes(volumes_dir, root)
    keep_credentials(volumes, storage_options, token)
    return Inspected(root, volumes, open_repository(root).manifest, progress)
