"""A prepared repository for the browser's tests: bright boxes in grey volumes of two layouts, and hostile texts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from reasonknee_datasets.manifest import MANIFEST, Manifest, VolumeRecord
from reasonknee_datasets.schema import SPLITS, quintuple_id, volume_path
from reasonknee_datasets.volumes import pack
from tests.helpers.prepared_repository import Plan, volume_row, write_shards

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">{{ 7*191 }}"
HOSTILE_ID = '0000003/00M/right/"><script>alert(1)</script>'

# Voxels of 2 mm. The first is stored right, anterior, superior; the second posterior, inferior, right.
_RAS = np.diag([2.0, 2.0, 2.0, 1.0])
_PIR = np.array([[0, 0, 2.0, -40], [-2.0, 0, 0, 50], [0, -2.0, 0, 60], [0, 0, 0, 1]])
_TILT = np.array([[1.97, 0.35, 0, -40], [-0.35, 1.97, 0, -50], [0, 0, 2.0, -60], [0, 0, 0, 1]])
SHAPE = (40, 50, 60)
VOLUMES: dict[str, tuple[str, np.ndarray, tuple[int, ...]]] = {
    "0000001/00M/left": ("train", _RAS, (8, 12, 15, 20, 20, 40)),
    "0000001/12M/left": ("train", _PIR, (10, 6, 30, 16, 26, 50)),
    "0000001/48M/left": ("train", _TILT, (8, 12, 15, 20, 20, 40)),
    "0000002/00M/right": ("validation", _RAS, (0, 0, 0, 5, 5, 5)),
    "0000003/00M/right": ("test", _PIR, (4, 4, 4, 9, 30, 20)),
}


def write_marked_repository(root: Path) -> Path:
    """Write five packed volumes, each with three questions about its one bright box."""
    plan = Plan(questions=3)
    records = {volume_path(name): _write_volume(root, name) for name in VOLUMES}
    configs: dict[str, Any] = {"quintuples": {}, "volumes": {}, "balanced": {}}
    for split in SPLITS:
        names = [name for name, (of, _, _) in VOLUMES.items() if of == split]
        rows = [_row(name, question) for name in names for question in (1, 16, 40)]
        if split == "test":
            hostile = {"id": HOSTILE_ID, "volume_path": "../../../../etc/passwd", "subregion": SCRIPT}
            rows.append(_row("0000003/00M/right", 1) | hostile)
        configs["quintuples"][split] = write_shards(root, "data", split, [rows], "quintuples", plan)
        described = [volume_row(name, records[volume_path(name)], plan) for name in names]
        configs["volumes"][split] = write_shards(root, "index", split, [described], "volumes", plan)
    manifest = Manifest(
        synthetic=True,
        source={"revision": None, "files": {}},
        versions={},
        box_convention={"name": "given", "agreement": 1.0, "by_question": {}, "checked": 0, "source": "given"},
        report={"allowed": {}, "rows_dropped": 0, "grades_nulled": []},
        configs=configs,
        volumes=records,
    )
    (root / MANIFEST).write_bytes(manifest.to_bytes())
    return root


def _write_volume(root: Path, name: str) -> VolumeRecord:
    _, affine, box = VOLUMES[name]
    voxels = np.full(SHAPE, 300, np.int16)
    voxels[tuple(slice(low, high) for low, high in zip(box[:3], box[3:], strict=True))] = 1000
    voxels[0, 0, 0] = 0
    path = root / volume_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.with_name("plain.nii.gz")
    image = nib.Nifti1Image(voxels, affine)
    image.header["cal_max"] = 1000  # the viewer's white
    nib.save(image, plain)
    pack(plain, path)
    plain.unlink()
    stored = tuple(tuple(float(value) for value in row) for row in nib.load(path).affine)
    data = path.read_bytes()
    return VolumeRecord(SHAPE, stored, "int16", len(data), hashlib.sha256(data).hexdigest(), "0" * 64)  # type: ignore[arg-type]


_SUBJECTS = {
    1: ("bone_marrow_lesion", "patella_medial", ("size", "number", "percent")),
    16: ("cartilage_lesion", "patella_medial", ("size", "depth")),
    40: ("osteophyte", "tibia_medial", ("grade",)),
}


def _row(volume: str, question: int) -> dict[str, Any]:
    patient, visit, side = volume.split("/")
    category, subregion, attributes = _SUBJECTS[question]
    grades: list[dict[str, Any]] = [
        {"attribute": name, "grade": (int(patient) + place) % 4 or None, "scale": "ordinal"}
        for place, name in enumerate(attributes)
    ]
    return {
        "id": quintuple_id(volume, question),
        "volume_path": volume_path(volume),
        "patient": patient,
        "visit": visit,
        "side": side,
        "study": "20040101",
        "series": "10000001",
        "question_id": question,
        "category": category,
        "finding": category,
        "subregion": subregion,
        "question": f"Is it worn? {SCRIPT}",
        "box": list(VOLUMES[volume][2]),
        "reasoning": ["I look at the surface.", SCRIPT],
        "grades": grades,
        "answer": f'{{"text": "{SCRIPT[:20]}"}}',
        "synthetic": True,
        "record": "{}",
    }
