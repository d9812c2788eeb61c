"""Defects planted into a prepared repository, one of each data check, with a manifest that agrees with the files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.schema import arrow_schema
from reasonknee_datasets.volumes import fingerprint
from tests.helpers.prepared_repository import list_again

Change = Callable[[dict[str, Any]], object]
Voxels = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Defect:
    """A planted defect, the checks that find it, and the message of the first."""

    check: str
    plant: Callable[[Path], object]
    says: str
    others: tuple[str, ...] = ()
    name: str = ""


def rows_of(root: Path, config: str = "quintuples") -> list[dict[str, Any]]:
    shards = [shard for split in Manifest.load(root).configs[config].values() for shard in split]
    return [row for shard in shards for row in pq.read_table(root / shard.path).to_pylist()]


def edit_rows(root: Path, change: Change, config: str = "quintuples") -> None:
    """Change rows in place, in all shards of a config."""
    for split in Manifest.load(root).configs[config].values():
        for shard in split:
            rows = pq.read_table(root / shard.path).to_pylist()
            for row in rows:
                change(row)
            table = pa.Table.from_pylist(rows, schema=arrow_schema(config))
            pq.write_table(table, root / shard.path, write_page_checksum=True)
    list_again(root)


def row(question: int, change: Change) -> Callable[[Path], None]:
    """Plant into the first row of a question."""

    def plant(root: Path) -> None:
        first = next(each["id"] for each in rows_of(root) if each["question_id"] == question)
        edit_rows(root, lambda each: change(each) if each["id"] == first else None)

    return plant


def volumes(root: Path) -> list[str]:
    """Paths of the usual volumes, without the one of few thick slices."""
    return [each["volume_path"] for each in rows_of(root, "volumes") if min(each["shape"]) > 8]


def write_image(root: Path, path: str, voxels: np.ndarray, affine: np.ndarray, header: Any = None) -> None:
    """Write a volume, and its record in the manifest as `prepare` would."""
    image = nib.Nifti1Image(voxels, affine, header)
    image.header.set_data_dtype(voxels.dtype)
    nib.save(image, root / path)
    found = fingerprint(root / path)
    record = {
        "shape": list(found.shape),
        "affine": [list(each) for each in found.affine],
        "dtype": found.dtype,
        "bytes": found.bytes,
        "sha256": hashlib.sha256((root / path).read_bytes()).hexdigest(),
        "voxels_sha256": found.voxels_sha256,
        "index_sha256": None,
    }
    list_again(root, lambda tree: tree["volumes"][path].update(record))


def image(change: Voxels, affine: Callable[[np.ndarray], np.ndarray] = lambda matrix: matrix) -> Callable[[Path], None]:
    """Plant into the first usual volume."""

    def plant(root: Path) -> None:
        path = volumes(root)[0]
        old = nib.load(root / path)
        write_image(root, path, change(np.asarray(old.dataobj)), affine(old.affine))

    return plant


def copied(change: Voxels = lambda voxels: voxels) -> Callable[[Path], None]:
    """Replace a volume by one of another split with the same grid."""

    def plant(root: Path) -> None:
        first = volumes(root)[0]
        other = volumes(root)[-1]
        old, target = nib.load(root / first), nib.load(root / other)
        turned = nib.as_closest_canonical(old)
        voxels = np.asarray(turned.dataobj)
        back = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(np.eye(4)), nib.orientations.io_orientation(target.affine)
        )
        voxels = nib.orientations.apply_orientation(voxels, back).astype(np.int16)
        assert voxels.shape == target.shape
        write_image(root, other, change(voxels), target.affine)

    return plant


def damage(root: Path) -> None:
    path = root / volumes(root)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def into_two_splits(root: Path) -> None:
    """Assign all volumes of the test split to the patient of a training volume."""
    for config in ("volumes", "quintuples"):
        give_patient(root, config)


def give_patient(root: Path, config: str = "quintuples") -> None:
    """Change the last patient, who is of the test split, to the first one in all rows of one config."""
    patients = [each["patient"] for each in rows_of(root, config)]
    edit_rows(root, lambda each: each.update(patient=patients[0]) if each["patient"] == patients[-1] else None, config)


def drop_volume(root: Path) -> None:
    """Rename the first volume in its own row, so that its quintuples have none."""
    first = rows_of(root, "volumes")[0]
    name = f"9999999/{first['id'].partition('/')[2]}"
    edit_rows(root, lambda each: each.update(id=name) if each["id"] == first["id"] else None, "volumes")


def turn_back_time(root: Path) -> None:
    """Date the later visit of a patient before the first one."""
    listed = rows_of(root, "volumes")
    patient = next(
        a["patient"] for a in listed for b in listed if a["patient"] == b["patient"] and a["visit"] < b["visit"]
    )
    last = max(each["visit"] for each in listed if each["patient"] == patient)

    def change(each: dict[str, Any]) -> None:
        if (each["patient"], each["visit"]) == (patient, last):
            each["study"] = "19990101"

    edit_rows(root, change, "volumes")
    edit_rows(root, change)


def swap_side(root: Path) -> None:
    name = rows_of(root, "volumes")[0]["id"]
    flip = {"left": "right", "right": "left"}
    for config in ("volumes", "quintuples"):
        edit_rows(
            root, lambda each: each.update(side=flip[each["side"]]) if each["id"].startswith(name) else None, config
        )


def share_text(root: Path) -> None:
    """Use one text without grades for all rows of a question."""

    def change(each: dict[str, Any]) -> None:
        if each["question_id"] == 30:
            each["reasoning"] = ["I look at the bone.", "It looks as it does."]

    edit_rows(root, change)


def grade(value: int) -> Change:
    return lambda each: each["grades"][0].update(grade=value)


def other_grade(each: dict[str, Any]) -> None:
    """Change the grade together with the answer, but not the text."""
    from reasonknee_datasets.moaks import write_answer

    each["grades"][0]["grade"] = 3 - (each["grades"][0]["grade"] or 0)
    each["answer"] = write_answer(each["question_id"], {slot["attribute"]: slot["grade"] for slot in each["grades"]})


def scaled(factor: float) -> Voxels:
    return lambda voxels: np.round(voxels * factor).astype(np.int16)


def brighter(voxels: np.ndarray) -> np.ndarray:
    """Multiply by 7, as another receiver gain does: every whole number occurs."""
    return (voxels * 7 + np.random.default_rng(0).integers(0, 7, voxels.shape)).astype(np.int16)


def noisy(voxels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 15, voxels.shape)
    return np.clip(voxels * 1.3 + noise, 0, None).astype(np.int16)


def permuted(affine: np.ndarray) -> np.ndarray:
    """Lose the directions: an affine of the spacing alone, with its axes in another order."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    matrix = np.zeros((4, 4))
    matrix[1, 0], matrix[2, 1], matrix[0, 2], matrix[3, 3] = (*spacing, 1)
    return matrix


DEFECTS = (
    Defect("patient-in-two-splits", into_two_splits, r" in test, .* in train"),
    Defect("patient-in-two-splits", give_patient, r" in test, .* in train", ("volume-mismatch",)),
    Defect("volume-mismatch", row(30, lambda each: each.update(visit="18M")),
           "visit is '18M', and that of the volume "),
    Defect("volume-mismatch", drop_volume, "no row of the config volumes has its volume"),
    Defect("visit-order", turn_back_time, r"is of \d{8}, and .* of 19990101"),
    Defect("bad-grade", row(30, grade(7)), "grade is 7, but its slot goes from 0 to 3"),
    Defect("bad-grade", row(30, lambda each: each["grades"].clear()), "question 30 has the slots grade, not {}"),
    Defect("question-mismatch", row(30, lambda each: each.update(finding="effusion")), "finding is 'effusion', but"),
    Defect("question-mismatch", row(30, lambda each: each.update(question='Is there {"ACL": (0 | 1)}?')),
           "the prompt asks for 'ACL', but question 30 is 'patella superior osteophyte'"),
    Defect("grade-contradiction", row(30, other_grade), r"grade is \d, but the reasoning states \d",
           ("shared-reasoning",)),
    Defect("grade-contradiction", row(30, lambda each: each.update(answer="{}")), "grades make .* the answer is {}"),
    Defect("shared-reasoning", share_text, r"^grade \d; the same text has grade \d in \d+ rows such as "),
    Defect("box-empty", row(19, lambda each: each.update(box=[5, 5, 5, 5, 9, 9])), "has no voxels"),
    Defect("box-outside", row(19, lambda each: each.update(box=[0, 0, 0, 9, 9, 500])), r"axis 2: 0 to 500 of \d+"),
    Defect("unusual-box-size", row(19, lambda each: each.update(box=[5, 5, 5, 6, 6, 6])),
           "longest edge of at least 3 mm"),
    Defect("box-size", row(30, lambda each: each.update(box=[0, 0, 0, 64, 117, 60])), r"longest edge of at most 75 mm"),
    Defect("side-mismatch", swap_side, r"knee_side says .* boxes are as in a .* knee \(the affine puts the image's "),
    Defect("unreadable-image", damage, "volume"),
    Defect("unreadable-image", image(lambda voxels: np.where(voxels > 300, np.nan, voxels).astype(np.float32)),
           "some values are not finite"),
    Defect("constant-image", image(np.zeros_like), "100.00% of the voxels have one value"),
    Defect("spacing", image(lambda voxels: voxels, lambda affine: affine @ np.diag([10, 10, 10, 1])),
           "the protocol has", ("box-size", "unusual-box-size")),
    Defect("spacing", image(lambda voxels: voxels, permuted), "along right-left"),
    Defect("intensity-range", image(scaled(0.01)), "12-bit images of the protocol have 20 to 4095"),
    Defect("unusual-intensity", image(brighter), "the median of all images is"),
    Defect("rescaled-image", image(lambda voxels: (voxels / voxels.max()).astype(np.float32)), "not whole numbers",
           ("intensity-range",)),
    Defect("rescaled-image", image(lambda voxels: np.round(voxels * (255 / voxels.max())).astype(np.uint8)), "8 bits",
           ("unusual-intensity",)),
    Defect("rescaled-image", image(scaled(2.0)), r"only 5\d% of the whole numbers between"),
    Defect("duplicate-image", copied(), r"has the voxels of .*; they are in train and test"),
    Defect("near-duplicate-image", copied(noisy),
           r"is nearly the same as .* \(\d.\d% of the hash differ\); they are in"),
)  # fmt: skip
