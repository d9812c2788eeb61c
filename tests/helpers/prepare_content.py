"""Input of the tests of the repository writer: real rows of real questions, and small real NIfTI files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from reasonknee_datasets.moaks import QUESTIONS, write_answer
from reasonknee_datasets.prepare.prior_counts import CanonicalGrid
from reasonknee_datasets.prepare.repository_writer import RepositoryContent, SourceVolume, Writer
from reasonknee_datasets.schema import Grade, Quintuple, flat_grades, quintuple_id, volume_id, volume_path

SHAPE = (6, 8, 10)
AFFINE = np.array([[0.7, 0, 0.1, -50], [0, 0.375, 0, -70], [-0.1, 0, 0.375, -60], [0, 0, 0, 1]])
PATIENTS: Mapping[str, Sequence[int]] = {"train": range(1, 7), "validation": range(7, 9), "test": range(9, 12)}


def volumes(images: Path | None, patients: Mapping[str, Sequence[int]] = PATIENTS) -> list[SourceVolume]:
    """Two knees a patient; with images, files are written where they are asked for."""
    made = []
    for split, numbers in patients.items():
        for number in numbers:
            for side in ("right", "left"):
                patient = f"{number:07d}"
                volume = volume_id(patient, "00M", side)
                image = None if images is None else save_image(images / f"{patient}_{side}.nii.gz")
                grid = None if images is None else CanonicalGrid(SHAPE, AFFINE)
                made.append(
                    SourceVolume(
                        *(split, volume, volume_path(volume), patient, "00M", side, "20040101", "10000001", image, grid)
                    )
                )
    return made


def save_image(path: Path) -> Path:
    """Write a volume of its own voxels, which no other has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16)
    voxels = np.random.default_rng(seed).integers(0, 400, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    return path


def rows(made: Sequence[SourceVolume], questions: Sequence[int] = (1, 19, 40)) -> Iterator[tuple[str, Quintuple]]:
    """Return rows question by question, so that no volume's rows are consecutive."""
    for number in questions:
        question = QUESTIONS[number]
        for place, volume in enumerate(made):
            grades = {slot.attribute: (place + number) % (slot.high + 1) for slot in question.slots}
            if place % 5 == 4:
                grades[question.slots[0].attribute] = None
            listed: list[Grade] = [
                {"attribute": s.attribute, "grade": grades[s.attribute], "scale": s.scale} for s in question.slots
            ]
            yield (
                volume.split,
                Quintuple(
                    id=quintuple_id(volume.id, number),
                    volume_path=volume.path,
                    patient=volume.patient,
                    visit=volume.visit,
                    side=volume.side,
                    study=volume.study,
                    series=volume.series,
                    question_id=number,
                    category=question.category,
                    finding=question.finding,
                    subregion=question.subregion,
                    question=f"Is there a {question.finding} in the {question.subregion}?",
                    box=[1, 2, 3, 4, 6, 8],
                    reasoning=["Look at the subregion.", f"Grades {grades}."],
                    grades=listed,
                    **flat_grades(listed),
                    answer=write_answer(number, grades),
                    synthetic=True,
                    record="{}",
                ),
            )


def content(made: Sequence[SourceVolume], **changes: object) -> RepositoryContent:
    """Put together what a small repository is written from."""
    balanced = {
        split: Counter({quintuple_id(each.id, 19): 2 + place for place, each in enumerate(made) if each.split == split})
        for split in ("train", "test")
    }
    whole = RepositoryContent(
        volumes=made,
        rows=rows(made),
        expected_rows=3 * len(made),
        balanced=balanced,
        synthetic=True,
        source={"revision": None, "files": {}, "options": {"volumes": "pack"}},
        box_convention={"name": "x", "agreement": 1.0, "by_question": {}, "checked": 9, "source": "established"},
        report={"allowed": {}, "rows_dropped": 0, "grades_nulled": []},
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def write(root: Path, of: RepositoryContent, *, volumes: str = "pack", workers: int = 1) -> Writer:
    """Write a repository as `prepare` does, without its staging."""
    (root / ".work").mkdir(parents=True, exist_ok=True)
    writer = Writer(of, root, volumes, {"reasonknee_datasets": "0"}, workers, progress=False)  # type: ignore[arg-type]
    writer.write()
    return writer
