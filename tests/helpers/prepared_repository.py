"""Small prepared repositories for the tests of the loader: real Parquet, real NIfTI files, a real manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets.manifest import MANIFEST, Manifest, Shard, VolumeRecord
from reasonknee_datasets.schema import SPLITS, VISITS, arrow_schema, flat_grades, quintuple_id, volume_id, volume_path

SHAPE = (6, 8, 10)
AFFINE = np.array([[0.7, 0, 0.1, -50], [0, 0.375, 0, -70], [-0.1, 0, 0.375, -60], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Plan:
    """Content of a repository."""

    volumes: Mapping[str, int] = None  # type: ignore[assignment]
    shards: int = 3
    questions: int = 4
    images: bool = True
    synthetic: bool = True
    marker: str = "first"
    text: int = 20
    noise: bool = False

    def counts(self) -> Mapping[str, int]:
        return self.volumes or {"train": 6, "validation": 2, "test": 3}


def write_repository(root: Path, plan: Plan | None = None, **changes: Any) -> Path:
    """Write a repository; writing again into the same folder is what preparing again does."""
    plan = replace(plan or Plan(), **changes)
    records: dict[str, VolumeRecord] = {}
    configs: dict[str, dict[str, tuple[Shard, ...]]] = {"quintuples": {}, "volumes": {}, "balanced": {}}
    number = 0
    for split in SPLITS:
        ids = [
            volume_id(f"{number + at + 1:07d}", VISITS[at % 4], "right" if at % 2 else "left")
            for at in range(plan.counts()[split])
        ]
        number += len(ids)
        groups = [list(part) for part in np.array_split(np.array(ids, dtype=object), min(plan.shards, len(ids)))]
        for volume in ids:
            records[volume_path(volume)] = write_volume(root, volume) if plan.images else VolumeRecord()
        configs["quintuples"][split] = write_shards(
            root,
            "data",
            split,
            [[row for volume in part for row in quintuples(volume, plan)] for part in groups],
            "quintuples",
            plan,
        )
        configs["volumes"][split] = write_shards(
            root, "index", split, [[volume_row(v, records[volume_path(v)], plan) for v in ids]], "volumes", plan
        )
        if split != "validation":  # as officially: train and test only
            rows = [{"id": quintuple_id(v, 1), "multiplicity": 2} for v in ids]
            configs["balanced"][split] = write_shards(root, "balanced", split, [rows], "balanced", plan)
    manifest = Manifest(
        synthetic=plan.synthetic,
        source={"revision": None, "files": {"train.json": {"bytes": 1, "sha256": "0" * 64}}},
        versions={"reasonknee_datasets": "0", "marker": plan.marker},
        box_convention={"name": "given", "agreement": 1.0, "by_question": {}, "checked": 0, "source": "given"},
        report={"allowed": {}, "rows_dropped": 0, "grades_nulled": []},
        configs=configs,
        volumes=records,
    )
    (root / MANIFEST).write_bytes(manifest.to_bytes())
    return root


def list_volumes_again(root: Path) -> None:
    """Write a manifest that agrees with the volume files as they are now."""

    def change(tree: dict[str, Any]) -> None:
        for path, volume in tree["volumes"].items():
            data = (root / path).read_bytes()
            volume |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "index_sha256": None}

    list_again(root, change)


def list_again(root: Path, change: Callable[[dict[str, Any]], None] = lambda tree: None) -> None:
    """Write a manifest that agrees with shards and priors as they are now, like an attacker who replaced one."""
    tree = json.loads((root / MANIFEST).read_bytes())
    tree.pop("checksum", None)
    for config in tree["configs"].values():
        for split in config["splits"].values():
            for shard in split["shards"]:
                if not (root / shard["path"]).is_file():
                    continue
                data = (root / shard["path"]).read_bytes()
                shard |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "footer_sha256": None}
                shard["chunk_sha256"] = None
    for name, other in tree["files"].items():
        if (root / name).is_file():
            data = (root / name).read_bytes()
            other |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(tree)
    (root / MANIFEST).write_text(json.dumps(tree), encoding="utf-8")


def quintuples(volume: str, plan: Plan) -> list[dict[str, Any]]:
    patient, visit, side = volume.split("/")
    rows: list[dict[str, Any]] = [
        {
            "id": quintuple_id(volume, question),
            "volume_path": volume_path(volume),
            "patient": patient,
            "visit": visit,
            "side": side,
            "study": "20040101",
            "series": "10000001",
            "question_id": question,
            "category": "cartilage_lesion",
            "finding": "cartilage_lesion",
            "subregion": "femur_medial_central",
            "question": f"{plan.marker} " + _text(plan, volume, question),
            "box": [0, 1, 2, 3, 4, 5],
            "reasoning": ["step one", "step two"],
            "grades": [
                {"attribute": "size", "grade": question % 4, "scale": "ordinal"},
                {"attribute": "depth", "grade": None, "scale": "ordinal"},
            ],
            "answer": '{"size": 1}',
            "synthetic": plan.synthetic,
            "record": "{}",
        }
        for question in range(1, plan.questions + 1)
    ]
    return [{**row, **flat_grades(row["grades"])} for row in rows]


def _text(plan: Plan, volume: str, question: int) -> str:
    """Return text of some length, which compresses or does not."""
    seed = [int(volume[:7]), question]
    return np.random.default_rng(seed).bytes(plan.text // 2).hex() if plan.noise else "q" * plan.text


def volume_row(volume: str, record: VolumeRecord, plan: Plan) -> dict[str, Any]:
    patient, visit, side = volume.split("/")
    return {
        "id": volume,
        "volume_path": volume_path(volume),
        "patient": patient,
        "visit": visit,
        "side": side,
        "study": "20040101",
        "series": "10000001",
        "shape": record.shape,
        "spacing": None if record.affine is None else np.linalg.norm(np.array(record.affine)[:3, :3], axis=0).tolist(),
        "affine": None if record.affine is None else np.array(record.affine).ravel().tolist(),
        "dtype": record.dtype,
        "bytes": record.bytes,
        "sha256": record.sha256,
        "voxels_sha256": record.voxels_sha256,
        "synthetic": plan.synthetic,
    }


def voxels_of(volume: str) -> np.ndarray:
    """The voxels of one volume: its own, and none of them looks like text."""
    seed = int(hashlib.sha256(volume.encode()).hexdigest()[:8], 16)
    return np.random.default_rng(seed).integers(0, 400, SHAPE).astype(np.int16)


def write_volume(root: Path, volume: str) -> VolumeRecord:
    path = root / volume_path(volume)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels_of(volume), AFFINE), path)
    affine = tuple(tuple(float(value) for value in row) for row in nib.load(path).affine)
    data = path.read_bytes()
    return VolumeRecord(SHAPE, affine, "int16", len(data), hashlib.sha256(data).hexdigest(), "0" * 64)  # type: ignore[arg-type]


def write_shards(
    root: Path, folder: str, split: str, parts: Sequence[list[dict[str, Any]]], config: str, plan: Plan
) -> tuple[Shard, ...]:
    shards = []
    for number, rows in enumerate(parts):
        name = f"{folder}/{split}-{number:05d}-of-{len(parts):05d}.parquet"
        (root / folder).mkdir(parents=True, exist_ok=True)
        # A row group a volume, so that filters have something to prune.
        pq.write_table(
            pa.Table.from_pylist(rows, schema=arrow_schema(config)),
            root / name,
            row_group_size=plan.questions,
            write_page_index=True,
            write_page_checksum=True,
        )
        data = (root / name).read_bytes()
        shards.append(Shard(name, len(rows), len(data), hashlib.sha256(data).hexdigest()))
    return tuple(shards)


def write_official(root: Path) -> Path:
    """Write what tells an official release: its split files and the first of its records."""
    for name, text in {
        "data/split_files/all_studies.csv": "patient_id,time\n",
        "data/generate_data/train.json": json.dumps([]),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root
