"""Previews in a prepared repository: a column of ``quintuples`` and the config ``preview``.

New shards are written next to the repository, which is replaced when all of them are complete. Everything else in the
folder is hard-linked, so that volumes take no second copy.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets import card
from reasonknee_datasets.errors import PublishError, ReasonKneeError, add_note
from reasonknee_datasets.manifest import MANIFEST, WITHOUT_PREVIEWS, Manifest, Shard
from reasonknee_datasets.parallel import cores, each_done
from reasonknee_datasets.prepare.shard_writer import stock_schema, write_parquet
from reasonknee_datasets.prepare.side_files import SIDE_FILES, write_side_files
from reasonknee_datasets.prepare.staging import WORK, hash_file, restore_interrupted, staged
from reasonknee_datasets.safe_paths import is_url, join
from reasonknee_datasets.schema import PREVIEW
from reasonknee_datasets.sources import find_place, find_volumes
from reasonknee_datasets.sources.repository import open_repository
from reasonknee_datasets.volumes import open_volume

_HEAVY_ROWS = 2_000  # ten seconds of one core: worth starting processes


@dataclass(frozen=True, slots=True)
class _ShardJob:
    """One shard of ``quintuples`` to write with previews, or without them."""

    source: Path
    target: Path
    shard: Shard
    volumes: str  # folder or URL that contains volumes/
    manifest_volumes: Mapping[str, Any]
    schema: pa.Schema
    montage_schema: pa.Schema | None


Written = tuple[Shard, int]


def add_previews(
    data_dir: str | os.PathLike[str],
    *,
    volumes_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
    executor: Executor | None = None,
) -> Manifest:
    """Add a picture to every row of a prepared repository, and a config ``preview`` with a montage of every volume.

    The repository is replaced when everything is written; after an error or a kill the old one is whole.

    Parameters
    ----------
    data_dir : path
        A local prepared repository.
    volumes_dir : path or URL, optional
        The place that contains ``volumes/``, if not the repository; by default ``REASONKNEE_VOLUMES``.
    workers : int, optional
        Processes; by default one per core where there is much to do. A script that may start processes must call this
        function under ``if __name__ == "__main__":``.
    overwrite : bool, optional
        Draw previews again where the repository has them. By default nothing is done then.
    progress : bool, optional
        Whether a progress bar is shown.
    executor : concurrent.futures.Executor, optional
        Where shards are written instead of in local processes; its workers see the same files under the same paths.

    Returns
    -------
    Manifest
        Of the repository with previews.

    Raises
    ------
    PublishError
        If `data_dir` is not a local repository, or a shard is not the one in the manifest.
    VolumeError
        If a volume cannot be read.
    BoxError
        If a box reaches out of its volume.
    MissingExtraError
        If Pillow is not installed.
    """
    root, manifest = _open_local(data_dir)
    if manifest.has_previews and not overwrite:
        return manifest
    from reasonknee_datasets.publish.preview_images import encoder_versions  # raises where Pillow is absent

    versions = {**manifest.versions, **encoder_versions()}
    without = manifest.source.get(WITHOUT_PREVIEWS) or manifest.digest
    manifest = replace(manifest, versions=versions, source={**manifest.source, WITHOUT_PREVIEWS: without}, digest="")
    with staged(root) as folder:
        _link_others(root, folder, {shard.path for shard in _replaced(manifest)})
        return _rewrite(root, folder, manifest, find_volumes(volumes_dir, str(root)), workers, progress, executor)


def write_without_previews(data_dir: str | os.PathLike[str], target: Path, *, progress: bool = True) -> Manifest:
    """Write shards, card and manifest of a repository to another folder, without previews and volumes."""
    root, manifest = _open_local(data_dir)
    source = {key: value for key, value in manifest.source.items() if key != WITHOUT_PREVIEWS}
    versions = {key: value for key, value in manifest.versions.items() if key not in {"pillow", "webp"}}
    _link_others(root, target, {shard.path for shard in _replaced(manifest)} | {"volumes"})
    manifest = replace(manifest, source=source, versions=versions, digest="")
    return _rewrite(root, target, manifest, None, 1, progress)


def _open_local(data_dir: str | os.PathLike[str]) -> tuple[Path, Manifest]:
    if is_url(os.fspath(data_dir)):
        raise PublishError(
            f"Previews can be added to a local folder only, not to {os.fspath(data_dir)}. Download the repository, and "
            "name its folder."
        )
    root = Path(data_dir).expanduser().resolve()
    restore_interrupted(root)
    return root, open_repository(str(find_place(root))).manifest


def _replaced(manifest: Manifest) -> list[Shard]:
    """List the shards to write."""
    return [
        shard
        for config in ("quintuples", "preview")
        for shards in manifest.configs.get(config, {}).values()
        for shard in shards
    ]


def _rewrite(
    root: Path,
    folder: Path,
    manifest: Manifest,
    volumes: str | None,
    workers: int | None,
    progress: bool,
    executor: Executor | None = None,
) -> Manifest:
    """Write the quintuples of `root` to `folder`, with previews where there are volumes to draw them from."""
    schema = stock_schema("quintuples", previews=volumes is not None)
    montages = None if volumes is None else stock_schema("preview", previews=True)
    jobs = {
        shard.path: _ShardJob(root, folder, shard, volumes or "", manifest.volumes, schema, montages)
        for shards in manifest.configs["quintuples"].values()
        for shard in shards
    }
    rows = sum(job.shard.rows for job in jobs.values())
    processes = workers or (cores() if volumes is not None and rows > _HEAVY_ROWS else 1)
    done = {
        job.shard.path: written
        for job, written in each_done(
            _write_shard, list(jobs.values()), workers=processes, label="previews", progress=progress, executor=executor
        )
    }
    configs = {**manifest.configs, "quintuples": {}, "preview": {}}
    sizes = card.read_sizes(root)
    for split, shards in manifest.configs["quintuples"].items():
        for config, pairs in {
            "quintuples": [done[shard.path][0] for shard in shards],
            "preview": [found for shard in shards if (found := done[shard.path][1]) is not None],
        }.items():
            if pairs:
                configs[config] = {**configs[config], split: tuple(shard for shard, _ in pairs)}
                sizes.setdefault(config, {})[split] = sum(size for _, size in pairs)
    manifest = write_side_files(folder, replace(manifest, configs=configs), sizes)
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return Manifest.load(folder)


def _write_shard(job: _ShardJob) -> tuple[Written, Written | None]:
    """Write one shard of ``quintuples``, and one of ``preview`` in the same order of volumes."""
    path = job.source / job.shard.path
    if hash_file(path) != job.shard.sha256:
        raise PublishError(
            f"The shard {path} is not the one in the manifest: its SHA-256 differs. Copy the repository again, or "
            "prepare it again."
        )
    columns = [name for name in job.schema.names if name != PREVIEW.name]
    table = pq.read_table(path, columns=columns, page_checksum_verification=True)
    volumes = table["volume_path"].to_pylist()
    if job.montage_schema is None:
        return write_parquet(job.target, job.shard.path, table.cast(job.schema), volumes), None
    pictures, montages = _draw(job, table)
    table = table.append_column(PREVIEW.name, pa.array(pictures, PREVIEW.type)).cast(job.schema)
    quintuples = write_parquet(job.target, job.shard.path, table, volumes)
    path_of_montages = f"preview/{Path(job.shard.path).name}"
    sheet = pa.Table.from_pylist(montages, schema=job.montage_schema)
    return quintuples, write_parquet(job.target, path_of_montages, sheet, sheet["id"].to_pylist())


def _draw(job: _ShardJob, table: pa.Table) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Draw the previews of a shard; each volume is decoded once."""
    from reasonknee_datasets.publish.preview_images import PreviewArtist

    names = ["id", "volume_path", "patient", "visit", "side", "finding", "subregion", "question", "box", "synthetic"]
    rows: list[dict[str, Any]] = table.select(names).to_pylist()
    pictures: list[dict[str, Any]] = []
    montages: list[dict[str, Any]] = []
    for volume_path, of_volume in itertools.groupby(rows, key=lambda row: row["volume_path"]):
        group = list(of_volume)
        first = group[0]
        try:
            volume = open_volume(
                join(job.volumes, volume_path), cache=None, geometry=job.manifest_volumes[volume_path].geometry
            )
            artist = PreviewArtist(np.asarray(volume.dataobj), volume.affine, synthetic=first["synthetic"])
            for row in group:
                name = f"{row['id'].replace('/', '_')}.webp"
                try:
                    pictures.append({"bytes": artist.draw_row(row), "path": name})
                except ReasonKneeError as error:
                    add_note(error, f"while drawing {row['id']}")
                    raise
            volume_id = first["id"].rpartition("/")[0]
            montage = {"bytes": artist.draw_montage(), "path": f"{volume_id.replace('/', '_')}.webp"}
        except FileNotFoundError as error:
            add_note(error, "Previews need the volumes: name the place that contains volumes/ with --volumes-dir.")
            raise
        same = {key: first[key] for key in ("volume_path", "patient", "visit", "side", "synthetic")}
        montages.append({"id": volume_id, "montage": montage, **same})
    return pictures, montages


def _link_others(root: Path, folder: Path, replaced: set[str]) -> None:
    """Hard-link all files of a repository that are not replaced; copy them where the file system has no links."""
    replaced = replaced | {MANIFEST, *SIDE_FILES, WORK}
    for source in _files(root, root, replaced):
        target = folder / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
            continue
        try:
            os.link(source, target)
        except OSError:
            with suppress(FileNotFoundError):
                target.unlink()
            shutil.copy2(source, target)


def _files(folder: Path, root: Path, left_out: set[str]) -> list[Path]:
    """List files and links below a folder, without following links to folders."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.relative_to(root).as_posix() in left_out:
            continue
        if path.is_dir() and not path.is_symlink():
            found += _files(path, root, left_out)
        else:
            found.append(path)
    return found
