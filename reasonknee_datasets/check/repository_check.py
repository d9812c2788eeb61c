"""Checks of a prepared repository's rows and images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from tqdm.auto import tqdm

from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.manifest import VolumeRecord
from reasonknee_datasets.parallel import cores, each_done
from reasonknee_datasets.quality import (
    CheckedVolume,
    DataChecker,
    ImageStatistics,
    QualityReport,
    check_allowed_names,
    measure_image,
)
from reasonknee_datasets.safe_paths import join
from reasonknee_datasets.schema import CONFIGS, Quintuple
from reasonknee_datasets.sources import (
    Repository,
    Selection,
    find_place,
    find_volumes,
    keep_credentials,
    open_repository,
    read_shard,
)
from reasonknee_datasets.volumes import open_volume

_SERIAL = 8  # images, below which starting processes takes longer than the work


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One image to decode: its volume, its place, and the grid that the manifest lists."""

    volume: str
    place: str
    record: VolumeRecord


def check_data(
    data_dir: str | os.PathLike[str],
    *,
    volumes_dir: str | os.PathLike[str] | None = None,
    allow: Iterable[str] = (),
    storage_options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: bool = True,
    executor: Executor | None = None,
) -> QualityReport:
    """Check rows and images of a prepared repository.

    All rows are read once, and every image is decoded once. `reasonknee_datasets.quality.CHECKS` lists the checks.

    Parameters
    ----------
    data_dir : str or path
        A folder or any fsspec URL.
    volumes_dir : str or path, optional
        The place that contains ``volumes/``, if not the repository; by default ``REASONKNEE_VOLUMES``.
    allow : iterable of str
        Names of checks whose errors do not count.
    storage_options : mapping, optional
        Given to fsspec; never kept.
    workers : int, optional
        Processes that decode images; one a core by default.
    progress : bool
        Whether progress bars are shown.
    executor : concurrent.futures.Executor, optional
        Where images are decoded instead of in processes of this machine.

    Returns
    -------
    QualityReport

    Raises
    ------
    RepositoryNotFoundError
        If there is no manifest.
    RepositoryError
        If a shard cannot be read, or ``allow`` names no check.
    """
    allowed = check_allowed_names(allow)
    root = find_place(data_dir)
    assert root is not None, "a place is found wherever one is named"
    keep_credentials(root, storage_options, None)
    volumes_root = find_volumes(volumes_dir, root)
    keep_credentials(volumes_root, storage_options, None)
    repository = open_repository(root)
    manifest = repository.manifest
    volumes = {row["id"]: (split, row) for split, row in config_rows(repository, "volumes")}
    records = {name: manifest.volumes.get(row["volume_path"], VolumeRecord()) for name, (_, row) in volumes.items()}
    checker = DataChecker(
        [_checked(split, row, records[name]) for name, (split, row) in volumes.items()],
        synthetic=manifest.synthetic,
    )
    total = sum(shard.rows for shards in manifest.configs["quintuples"].values() for shard in shards)
    rows = config_rows(repository, "quintuples")
    for split, row in tqdm(rows, "rows", total, disable=None if progress else True, leave=False):
        checker.add_row(cast("Quintuple", row), split)
    tasks = [
        ImageTask(name, join(volumes_root, row["volume_path"]), records[name])
        for name, (_, row) in volumes.items()
        if records[name].shape is not None
    ]
    if workers is None:
        workers = cores() if len(tasks) >= _SERIAL else 1
    measured = each_done(measure_volume, tasks, workers=workers, label="images", progress=progress, executor=executor)
    found = {task.volume: result for task, result in measured}
    for task in tasks:  # in their own order, so that a report is the same each time
        checker.add_image(task.volume, found[task.volume], task.record.voxels_sha256)
    return checker.finish(allowed)


def measure_volume(task: ImageTask) -> ImageStatistics | str:
    """Decode one image and measure it, or return why it cannot be decoded."""
    try:
        image = open_volume(task.place, cache=None, cache_dir=None)
        voxels = np.asarray(image.dataobj)
        if voxels.shape != task.record.shape:
            return f"its shape is {voxels.shape}, and the manifest lists {task.record.shape}"
        return measure_image(voxels, np.asarray(image.affine, dtype=np.float64))
    except ReasonKneeError as error:
        return str(error)


def config_rows(
    repository: Repository, config: str, columns: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read all rows of a config with their splits; by default all columns that a config has."""
    names = [column.name for column in CONFIGS[config]] if columns is None else columns
    selection = Selection(config, tuple(names))
    for split in repository.manifest.splits(config):
        for shard in repository.manifest.shards(config, split):
            for table in read_shard(repository.url(shard.path), shard, selection):
                for row in table.to_pylist():
                    yield split, row


def _checked(split: str, row: Mapping[str, Any], record: VolumeRecord) -> CheckedVolume:
    affine = None if record.affine is None else np.array(record.affine, dtype=np.float64)
    return CheckedVolume(
        row["id"], split, row["patient"], row["visit"], row["side"], row["study"], record.shape, affine
    )
