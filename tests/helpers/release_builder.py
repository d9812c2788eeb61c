"""Small hand-made releases in the official layout, and ways to break them.

Not the phantom: its masks are blocks and its words are few, but every file is real and every number is known here.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from reasonknee_datasets import moaks
from reasonknee_datasets.boxes import Box, BoxConvention

COLUMNS = [
    "patient_id",
    "time",
    "study_folder",
    "series_folder",
    "knee_side",
    "path",
    "image_filepath",
    "label_filepath",
]
SHAPE = (22, 40, 36)
SPACING = (3.0, 0.9, 0.8)
CONVENTION = "slice0-x1-y2-pairs-inclusive-voxel"
OFFICIAL = {"train": "train", "validation": "val", "test": "test"}

MEDIAL = {44: "medial meniscus", 50: "femur medial anterior", 51: "femur medial central", 52: "femur medial posterior"}
MEDIAL |= {56: "patella medial", 58: "tibia medial anterior", 59: "tibia medial central", 60: "tibia medial posterior"}
LATERAL = {
    45: "lateral meniscus",
    53: "femur lateral anterior",
    54: "femur lateral central",
    55: "femur lateral posterior",
}
LATERAL |= {57: "patella lateral", 61: "tibia lateral anterior", 62: "tibia lateral central"}
LATERAL |= {63: "tibia lateral posterior"}
MIDDLE = {40: "cruciate ligaments", 42: "patellar tendon", 43: "fat pad", 46: "joint fluid", 64: "tibia subspinous"}
NAMES = MEDIAL | LATERAL | MIDDLE
IDS = {name: label for label, name in NAMES.items()}

_BY_FINDING = {
    "hoffa_synovitis": (43,),
    "effusion_synovitis": (46,),
    "anterior_cruciate_ligament": (40,),
    "posterior_cruciate_ligament": (40,),
    "patellar_tendon": (42,),
}
_BY_SUBREGION = {
    "patella_superior": (56, 57),
    "patella_inferior": (56, 57),
    "tibia_medial": (58, 59, 60),
    "tibia_lateral": (61, 62, 63),
}


def labels_of(question: moaks.Question) -> tuple[int, ...]:
    """The labels that this release's boxes are drawn around."""
    words = question.subregion.replace("_", " ")
    if question.finding in _BY_FINDING:
        return _BY_FINDING[question.finding]
    if question.subregion in _BY_SUBREGION:
        return _BY_SUBREGION[question.subregion]
    if words in IDS:
        return (IDS[words],)
    return (44,) if "medial" in words.split()[0] else (45,)


MAPPING = {number: labels_of(question) for number, question in moaks.QUESTIONS.items() if question.in_records}


@dataclass
class Knee:
    """One series of one knee."""

    split: str = "train"
    patient: str = "0000001"
    visit: str = "00M"
    side: int = 1
    series: str = "10000001"
    study: str = "20040101"
    empty: tuple[int, ...] = ()
    records: bool = True


KNEES = (
    Knee(),
    Knee(side=2, series="10000002"),
    Knee("validation", "0000002", series="10000003"),
    Knee("test", "0000003", "12M", 2, "10000004"),
)


@dataclass
class Built:
    """A release on disk, and what was put there."""

    root: Path
    knees: tuple[Knee, ...]
    boxes: dict[tuple[str, int], Box] = field(default_factory=dict)
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.root / "data"

    def image(self, knee: int = 0) -> Path:
        return self.data / "images" / key_of(self.knees[knee])

    def mask(self, knee: int = 0) -> Path:
        return self.data / "masks" / f"knee_{knee:03d}.nii.gz"

    def edit(self, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
        """Change the records of one file in place."""
        path = self.data / "generate_data" / name
        records = json.loads(path.read_text())
        change(records)
        path.write_text(json.dumps(records))

    def edit_split(self, name: str, change: Callable[[list[dict[str, str]]], object]) -> None:
        """Change the rows of one split file in place."""
        path = self.data / "split_files" / name
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        change(rows)
        write_csv(path, rows)

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file below ``data``."""
        (self.data / name).write_text(json.dumps(content))


def key_of(knee: Knee) -> str:
    return f"{knee.patient}/{knee.visit}/{knee.study}_{knee.series}_{knee.side}.nii.gz"


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def affine_of(number: int) -> np.ndarray:
    """An oblique affine whose first axis runs to the patient's right."""
    angle = np.deg2rad(4 + 3 * number)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(SPACING)
    affine[:3, 3] = [-30, 12.5, 7]
    return affine


def draw_mask(knee: Knee, number: int) -> np.ndarray:
    """Blocks, one a label: medial ones towards the other leg."""
    rng = np.random.default_rng(number)
    mask = np.zeros(SHAPE, np.uint8)
    while not all(_is_large(mask, label) for label in NAMES):
        mask[:] = 0
        for label in NAMES:
            size = rng.integers((4, 8, 8), (6, 13, 13))
            low = 1 if (label in MEDIAL) == (knee.side == 1) else 12
            first = rng.integers((low, 1, 1), (low + 5, SHAPE[1] - 13, SHAPE[2] - 13))
            if label in MIDDLE:
                first[0] = rng.integers(7, 12)
            mask[tuple(slice(a, a + b) for a, b in zip(first, size, strict=True))] = label
    return mask


def _is_large(mask: np.ndarray, label: int) -> bool:
    """Whether what is seen of a label is as long as its structure is at least, and no thinner than 1 mm."""
    least = 12.5 if NAMES[label] == "patellar tendon" else 10
    if not (mask == label).any():
        return False
    edges = np.multiply(Box.from_mask(mask, [label]).shape, SPACING)
    return bool(edges.max() >= least and edges.min() > 1)


def make_grades(question: moaks.Question, rng: np.random.Generator) -> dict[str, int | None]:
    grades: dict[str, int | None] = {}
    for slot in question.slots:
        grades[slot.attribute] = None if rng.random() < 0.05 else int(rng.choice(slot.legal))
    if grades.get("size") == 0:
        grades = dict.fromkeys(grades, 0)
    elif grades.get("number") == 0:
        grades["number"] = 1
    if grades.get("morphology") == 7:
        grades["morphology"] = 6
    return grades


def write_text(question: moaks.Question, diagnosis: Any, form: int = 0) -> str:
    """An answer in one of several hands."""
    subject = question.subject_key
    steps = [f"Locate the {subject}.", "Compare its signal, e.g. with muscle.", f"Grade it: {diagnosis}."]
    if form == 1:
        numbered = "".join(f"Step {n}: {step}\n" for n, step in enumerate(steps, 1))
        return f"{numbered}\nFinal diagnosis: {json.dumps(diagnosis)}"
    if form == 2:
        return f"{' '.join(steps[:2])} Final diagnosis: {diagnosis}."
    return "\n".join(steps) + f"\n\nFinal diagnosis: {diagnosis}"


def make_record(
    knee: Knee, question: moaks.Question, numbers: list[Any], prefix: str = "../data/images/"
) -> dict[str, Any]:
    rng = np.random.default_rng([int(knee.series), question.id])
    diagnosis = moaks.write_diagnosis(question, make_grades(question, rng))
    return {
        "image": prefix + key_of(knee),
        "prompt": f"Please assess question {question.id}: {question.subject_key}. Give size ≥ 0.",
        "answer": write_text(question, diagnosis),
        "final_diagnosis": {"bounding_box": numbers, "final_diagnosis": diagnosis},
    }


def build_release(
    root: Path,
    *,
    knees: tuple[Knee, ...] = KNEES,
    convention: str = CONVENTION,
    images: bool = True,
    masks: bool = True,
    change: Callable[[dict[str, Any], int], object] = lambda record, number: None,
) -> Built:
    """Write a sound release; ``change`` may edit each record before it is written."""
    built = Built(root, knees)
    reader = BoxConvention.parse(convention)
    for folder in ("split_files", "question_files", "generate_data", "masks", "images"):
        (built.data / folder).mkdir(parents=True)
    for number, knee in enumerate(knees):
        mask = draw_mask(knee, number)
        write_images(built, number, np.where(np.isin(mask, knee.empty), 0, mask).astype(np.uint8), images, masks)
        for q, labels in MAPPING.items() if knee.records else ():
            box = built.boxes[key_of(knee), q] = Box.from_mask(mask, labels)
            record = make_record(knee, moaks.QUESTIONS[q], reader.encode(box, SHAPE), f"/mnt/{knee.split}/data/images/")
            change(record, q)
            built.records.setdefault(knee.split, []).append(record)
    write_files(built)
    return built


def write_images(built: Built, number: int, mask: np.ndarray, images: bool, masks: bool) -> None:
    affine = affine_of(number)
    if masks:
        nib.save(nib.Nifti1Image(mask, affine), built.mask(number))
    if images:
        path = built.image(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(number).integers(0, 400, mask.shape, dtype=np.int16)
        nib.save(nib.Nifti1Image(voxels, affine), path)


def write_files(built: Built) -> None:
    for split, official in OFFICIAL.items():
        rows = []
        for number, knee in enumerate(built.knees):
            if knee.split == split:
                dicom = f"../data/OAI/00mDESS/0.C.2/{knee.patient}/{knee.study}/{knee.series}"
                values = (knee.patient, knee.visit, knee.study, knee.series, str(knee.side), dicom)
                paths = (f"../data/images/{key_of(knee)}", f"../data/masks/knee_{number:03d}.nii.gz")
                rows.append(dict(zip(COLUMNS, (*values, *paths), strict=True)))
        write_csv(built.data / "split_files" / f"{official}_split.csv", rows)
        built.write(f"generate_data/{official}.json", built.records.get(split, []))
    for split in ("train", "test"):
        records = [{**record, "image": record["image"].replace("/mnt/", "")} for record in built.records.get(split, [])]
        repeated = [record for place, record in enumerate(records) for _ in range(place % 3)]
        built.write(f"generate_data/{split}_balanced.json", repeated)
    built.write("question_files/labels.json", {"background": 0, **IDS})
    built.write("question_files/question_subregion_mapping.json", {str(q): list(ids) for q, ids in MAPPING.items()})
    for name in ("questions.json", "questions_nobbox_guided.json", "questions_nobbox_zeroshot.json"):
        built.write(f"question_files/{name}", {str(q): f"{name}: {q}" for q in moaks.QUESTIONS})
