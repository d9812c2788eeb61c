"""Write a repository: shards, volumes, index, priors, manifest and card."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm.auto import tqdm

from reasonknee_datasets.errors import PrepareError
from reasonknee_datasets.manifest import MANIFEST, FileRecord, Manifest, Shard, VolumeRecord
from reasonknee_datasets.parallel import cores, each_done
from reasonknee_datasets.prepare.prior_counts import PRIORS, CanonicalGrid, Priors
from reasonknee_datasets.prepare.shard_writer import (
    ShardTask,
    Spool,
    cut,
    hash_order,
    shard_path,
    stock_schema,
    volume_of,
    write_parquet,
    write_shard,
)
from reasonknee_datasets.prepare.side_files import write_side_files
from reasonknee_datasets.prepare.staging import WORK, hash_file
from reasonknee_datasets.prepare.volume_files import (
    CheckedImage,
    MaskTask,
    VolumesMode,
    VolumeTask,
    place_volumes,
    remove_strangers,
    write_masks,
)
from reasonknee_datasets.quality import DataChecker, QualityReport
from reasonknee_datasets.schema import CONFIGS, SPLITS, Quintuple, mask_path, parse_id

# Least work that is worth starting processes (about 2 s): reading 200 MB of volumes, sorting 50,000 rows.
_HEAVY_BYTES = 200_000_000
_HEAVY_ROWS = 50_000
_HEAVY_MASKS = 50


@dataclass(frozen=True, slots=True)
class SourceVolume:
    """One volume of a release: where it belongs, and where image and mask are (None where there is none)."""

    split: str
    id: str
    path: str
    patient: str
    visit: str
    side: str
    study: str
    series: str
    image: Path | None
    grid: CanonicalGrid | None
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class RepositoryContent:
    """Source of a repository."""

    volumes: Sequence[SourceVolume]  # in any order; those without rows are left out
    rows: Iterable[tuple[str, Quintuple]]  # read once, in any order
    expected_rows: int  # for the progress bar
    balanced: Mapping[str, Counter[str]]  # the official balanced files
    synthetic: bool  # whether the phantom made it
    # As in the manifest.
    source: Mapping[str, Any]
    box_convention: Mapping[str, Any]
    report: Mapping[str, Any]
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Writer:
    """Writes one repository into a folder."""

    content: RepositoryContent
    root: Path  # the folder; it exists, and ``root/.work`` too
    volumes: VolumesMode  # treatment of the images
    versions: Mapping[str, str]
    workers: int | None = None  # processes; None for one a core where the work is worth it
    progress: bool = True  # whether bars are shown
    executor: Executor | None = None  # where volumes are read and written instead of in processes of this machine
    checker: DataChecker | None = None  # checks rows and images before a volume is written
    allow: frozenset[str] = frozenset()  # checks of which errors do not stop
    priors: Priors = field(default_factory=Priors)
    quality: QualityReport | None = None

    def write(self) -> Manifest:
        """Write everything; the manifest comes last, so that a folder with one is whole."""
        by_id = {volume.id: volume for volume in self.content.volumes}
        spool = self._spool(by_id)
        shards = {
            split: cut([volume for volume in ordered if spool.rows[volume]], split)
            for split, ordered in _order(self.content.volumes).items()
        }
        shards = {split: cuts for split, cuts in shards.items() if cuts}
        if not shards:
            raise PrepareError("No rows of the release are left to write. Its report lists the dropped ones.")
        used = [by_id[volume] for cuts in shards.values() for shard in cuts for volume in shard]
        records = self._place(used)
        masks = self._place_masks(used, records)
        written, arrow_bytes = self._write_quintuples(shards, spool), defaultdict[str, dict[str, int]](dict)
        configs: dict[str, dict[str, tuple[Shard, ...]]] = {config: {} for config in CONFIGS}
        for split, cuts in shards.items():
            files = {
                "quintuples": written[split],
                "volumes": self._write_index(split, cuts, by_id, records, masks),
                "balanced": self._write_balanced(split, cuts),
            }
            for config, pairs in files.items():
                if pairs:
                    configs[config][split] = tuple(shard for shard, _ in pairs)
                    arrow_bytes[config][split] = sum(size for _, size in pairs)
        manifest = self._manifest(configs, {volume.path: records[volume.path] for volume in used}, masks)
        (self.root / PRIORS).write_bytes(self.priors.to_json())
        priors = FileRecord((self.root / PRIORS).stat().st_size, hash_file(self.root / PRIORS))
        manifest = write_side_files(self.root, replace(manifest, files={PRIORS: priors}, digest=""), arrow_bytes)
        (self.root / MANIFEST).write_bytes(manifest.to_bytes())
        return manifest

    def _spool(self, by_id: Mapping[str, SourceVolume]) -> Spool:
        """Read all rows once: into buckets, and into the priors."""
        buckets = {
            volume: f"{split}-{number:05d}"
            for split, ordered in _order(self.content.volumes).items()
            for number, shard in enumerate(cut(ordered, split))
            for volume in shard
        }
        rows = tqdm(
            self.content.rows,
            total=self.content.expected_rows,
            desc="rows",
            disable=None if self.progress else True,
            leave=False,
        )
        with Spool(self.root / WORK / "rows", buckets) as spool:
            for split, row in rows:
                spool.add(row)
                if self.checker is not None:
                    self.checker.add_row(row, split)
                if split == "train":
                    self.priors.add(row, by_id[volume_of(row["id"])].grid)
        return spool

    def _place(self, used: Sequence[SourceVolume]) -> dict[str, VolumeRecord]:
        tasks = [VolumeTask(self.root, each.path, each.image, self.volumes) for each in used if each.image is not None]
        remove_strangers(self.root, {task.path for task in tasks} if self.volumes != "none" else set())
        heavy = sum(task.source.stat().st_size for task in tasks if task.source.exists()) > _HEAVY_BYTES
        placed = place_volumes(
            tasks,
            workers=self._processes(heavy),
            progress=self.progress,
            executor=self.executor,
            inspect=lambda images: self._check(used, images),
        )
        return {each.path: placed.get(each.path, VolumeRecord()) for each in used}

    def _place_masks(
        self, used: Sequence[SourceVolume], records: Mapping[str, VolumeRecord]
    ) -> dict[str, VolumeRecord]:
        tasks = [
            MaskTask(self.root, mask_path(each.path), each.mask, records[each.path].geometry)
            for each in used
            if each.mask is not None
        ]
        return write_masks(tasks, workers=self._processes(len(tasks) > _HEAVY_MASKS), progress=self.progress)

    def _check(self, used: Sequence[SourceVolume], images: Mapping[str, CheckedImage]) -> None:
        """Run the data checks, and stop where an error is not allowed."""
        if self.checker is None:
            return
        for volume in used:
            if (image := images.get(volume.path)) is not None:
                self.checker.add_image(volume.id, image.statistics, image.record.voxels_sha256)
        self.quality = self.checker.finish(self.allow)
        if refused := self.quality.refused:
            names = " ".join(f"--allow {group.check.name}" for group in refused)
            raise PrepareError(
                f"The data checks found {sum(group.count for group in refused):,} errors. Correct the release or the "
                f"images, or keep what is wrong: {names}\n{self.quality.describe(refused)}"
            )

    def _report(self) -> Mapping[str, Any]:
        """Return the release's report with what the data checks allowed and warned of."""
        report = dict(self.content.report)
        for group in () if self.quality is None else self.quality.groups:
            kind = "allowed" if group.allowed else "warnings"
            # A check that the release has too adds to its count.
            held = report.get(kind, {})
            report[kind] = {**held, group.check.name: held.get(group.check.name, 0) + group.count}
        return report

    def _write_quintuples(
        self, shards: Mapping[str, list[list[str]]], spool: Spool
    ) -> dict[str, list[tuple[Shard, int]]]:
        schema = stock_schema("quintuples")
        tasks = [
            ShardTask(
                self.root,
                shard_path("quintuples", split, number, len(cuts)),
                tuple(volumes),
                tuple(sorted({spool.file(volume) for volume in volumes})),
                schema,
            )
            for split, cuts in shards.items()
            for number, volumes in enumerate(cuts)
        ]
        workers = self._processes(spool.rows.total() > _HEAVY_ROWS)
        done = each_done(write_shard, tasks, workers=workers, label="shards", progress=self.progress)
        results = {task.path: result for task, result in done}
        return {
            split: [results[shard_path("quintuples", split, number, len(cuts))] for number in range(len(cuts))]
            for split, cuts in shards.items()
        }

    def _write_index(
        self,
        split: str,
        cuts: Sequence[Sequence[str]],
        by_id: Mapping[str, SourceVolume],
        records: Mapping[str, VolumeRecord],
        masks: Mapping[str, VolumeRecord],
    ) -> list[tuple[Shard, int]]:
        """Write one row a volume, in the same shards and order as the quintuples."""
        schema, written = stock_schema("volumes"), []
        for number, ids in enumerate(cuts):
            rows = [_index_row(by_id[each], records[by_id[each].path], masks, self.content.synthetic) for each in ids]
            path = shard_path("volumes", split, number, len(cuts))
            written.append(write_parquet(self.root, path, pa.Table.from_pylist(rows, schema=schema), ids))
        return written

    def _write_balanced(self, split: str, cuts: Sequence[Sequence[str]]) -> list[tuple[Shard, int]]:
        """Write the ids of a balanced file in the order of the quintuples; one file, since ids are small."""
        counter = self.content.balanced.get(split)
        if not counter:
            return []
        rank = {volume: place for place, volume in enumerate(volume for shard in cuts for volume in shard)}
        ids = sorted(counter, key=lambda each: (rank[volume_of(each)], parse_id(each).question_id))
        table = pa.table({"id": ids, "multiplicity": [counter[each] for each in ids]}, schema=stock_schema("balanced"))
        volumes = [volume_of(each) for each in ids]
        return [write_parquet(self.root, shard_path("balanced", split, 0, 1), table, volumes)]

    def _manifest(
        self,
        configs: Mapping[str, Mapping[str, tuple[Shard, ...]]],
        volumes: Mapping[str, VolumeRecord],
        masks: Mapping[str, VolumeRecord],
    ) -> Manifest:
        return Manifest(
            synthetic=self.content.synthetic,
            source=self.content.source,
            versions=self.versions,
            box_convention=self.content.box_convention,
            report=self._report(),
            configs=configs,
            volumes=volumes,
            masks=masks,
            labels=self.content.labels,
        )

    def _processes(self, heavy: bool) -> int:
        return self.workers if self.workers is not None else cores() if heavy else 1


def _order(volumes: Iterable[SourceVolume]) -> dict[str, list[str]]:
    """Return each split's volumes in hash order, the splits in their usual one."""
    ids: dict[str, list[str]] = {split: [] for split in SPLITS}
    for volume in volumes:
        ids[volume.split].append(volume.id)
    return {split: hash_order(each) for split, each in ids.items()}


def _index_row(
    volume: SourceVolume, record: VolumeRecord, masks: Mapping[str, VolumeRecord], synthetic: bool
) -> dict[str, Any]:
    grid = record.geometry
    matrix: NDArray[np.float64] | None = None if grid is None else grid.matrix
    return {
        "id": volume.id,
        "volume_path": volume.path,
        "patient": volume.patient,
        "visit": volume.visit,
        "side": volume.side,
        "study": volume.study,
        "series": volume.series,
        "shape": None if grid is None else list(grid.shape),
        "spacing": None if matrix is None else np.linalg.norm(matrix[:3, :3], axis=0).tolist(),
        "affine": None if matrix is None else matrix.ravel().tolist(),
        "dtype": record.dtype,
        "bytes": record.bytes,
        "sha256": record.sha256,
        "voxels_sha256": record.voxels_sha256,
        "mask_path": path if (path := mask_path(volume.path)) in masks else None,
        "synthetic": synthetic,
    }
