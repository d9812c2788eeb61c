"""Records of generate_data: one per question and volume, with their reasoning texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, repeat
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.moaks import QUESTIONS, write_answer, write_diagnosis
from reasonknee_datasets.orientation import Reorientation, to_canonical
from reasonknee_datasets.phantom import phrases
from reasonknee_datasets.phantom.grade_sampling import MISSING, slot_column
from reasonknee_datasets.phantom.study_plan import PlannedVolume, Stream, StudyPlan, stream
from reasonknee_datasets.prompts import describe_subregion, project_prompt

Layout = Literal["lines", "numbered", "paragraph"]

# By category; all others are paragraphs.
_LAYOUTS: dict[str, Layout] = {
    "bone_marrow_lesion": "lines",
    "cartilage_lesion": "lines",
    "osteophyte": "numbered",
    "meniscal_extrusion": "numbered",
    "meniscal_morphology": "lines",
}

Grades = Mapping[str, "int | None"]


def layout(question_id: int) -> Layout:
    """Choose the layout of a question's steps: a line each, numbered lines, or one paragraph with a sentence each."""
    return _LAYOUTS.get(QUESTIONS[question_id].category, "paragraph")


def reasoning_steps(question_id: int, grades: Grades) -> tuple[str, ...]:
    """Write the steps that lead to some grades.

    `question_id`: 1 to 62. `grades`: all attributes of the question; None is missing. Returns tuple of str: three to
    six steps.
    """
    question = QUESTIONS[question_id]
    findings = (_finding(phrases.FINDING[question.finding, name], name, grades) for name in question.attributes)
    graded = [
        f"{phrases.ATTRIBUTE_WORDS.get(name, name)} {'not graded' if grades[name] is None else grades[name]}"
        for name in question.attributes
    ]
    listed = " and ".join(filter(None, (", ".join(graded[:-1]), graded[-1])))
    closing = phrases.CLOSING[question.category].format(place=describe_subregion(question))
    return (*opening_steps(question_id), *findings, f"{closing}: {listed}.")


def opening_steps(question_id: int) -> tuple[str, ...]:
    """Write the steps that a question's reasoning begins with, whatever the grades."""
    question = QUESTIONS[question_id]
    plane = phrases.PLANES.get(question.subregion.rsplit("_", 1)[-1], "sagittal")
    return tuple(
        text.format(place=describe_subregion(question), plane=plane) for text in phrases.OPENING[question.finding]
    )


def _finding(texts: tuple[str, ...], attribute: str, grades: Grades) -> str:
    grade = grades[attribute]
    if grade is None:
        return phrases.UNREAD[attribute]
    # Without a lesion, its number, percent and depth follow; with one, 0 needs a separate word.
    return texts[-1] if grade == 0 and len(texts) == phrases.WITH_LESION and grades["size"] != 0 else texts[grade]


def diagnosis_text(question_id: int, grades: Grades) -> str:
    """Write the diagnosis that ends the answer's text: JSON for half of the questions, a Python dict for the others."""
    diagnosis = write_diagnosis(question_id, grades)
    return json.dumps(diagnosis) if question_id % 2 == 0 else repr(diagnosis)


@lru_cache(maxsize=4096)
def _answer(question_id: int, grades: tuple[tuple[str, int | None], ...]) -> str:
    steps = reasoning_steps(question_id, dict(grades))
    how = layout(question_id)
    if how == "numbered":
        steps = tuple(f"Step {number}: {step}" for number, step in enumerate(steps, start=1))
    gap, lead = {"lines": ("\n", "\n\n"), "numbered": ("\n", "\n"), "paragraph": (" ", " ")}[how]
    return f"{gap.join(steps)}{lead}Final diagnosis: {diagnosis_text(question_id, dict(grades))}"


def answer_text(question_id: int, grades: Grades) -> str:
    """Write a record's ``answer``: the steps, then the diagnosis."""
    return _answer(question_id, tuple(grades.items()))


Form = Literal["usual", "nested", "prompt_spelling"]

RECORD_QUESTIONS: tuple[int, ...] = tuple(question.id for question in QUESTIONS.values() if question.in_records)

# The text before data/images/ differs from file to file, as the authors' machines did.
PREFIXES = {
    "train": "../data/images/",
    "val": "/mnt/storage/3DReasonKnee/data/images/",
    "test": "data/images/",
    "train_balanced": "/home/user/projects/3DReasonKnee/data/images/",
    "test_balanced": "../data/images/",
}

_FORM_SHARES: dict[Form, float] = {"usual": 0.96, "nested": 0.02, "prompt_spelling": 0.02}
_NAMELESS = 2  # records without an image, in each file of train
_MOST_REPEATS = 5  # a balanced file repeats a rare grade's records up to so often


class OfficialDiagnosis(TypedDict):
    """The box and the grades of a record."""

    bounding_box: list[int] | list[float]
    final_diagnosis: object


class OfficialRecord(TypedDict):
    """One record of ``generate_data``."""

    image: str
    prompt: str
    answer: str
    final_diagnosis: OfficialDiagnosis


def sample_forms(seed: int, volume: PlannedVolume) -> dict[int, Form]:
    """Draw in which form each of a volume's diagnoses is written; a balanced file repeats the same form.

    Examples
    --------
    >>> from reasonknee_datasets.phantom.study_plan import plan_study
    >>> forms = sample_forms(0, plan_study(1).volumes[0])
    >>> len(forms), max(set(forms.values()), key=list(forms.values()).count)
    (62, 'usual')
    """
    names = list(_FORM_SHARES)
    drawn = stream(seed, Stream.RECORD, volume.number + 1).choice(
        len(names), size=len(RECORD_QUESTIONS), p=list(_FORM_SHARES.values())
    )
    return {question: names[form] for question, form in zip(RECORD_QUESTIONS, drawn.tolist(), strict=True)}


def make_record(
    question_id: int,
    grades: Mapping[str, int | None],
    numbers: list[int] | list[float],
    *,
    image: str,
    form: Form = "usual",
) -> OfficialRecord:
    """Write one record.

    Parameters
    ----------
    question_id : int
        1 to 62.
    grades : mapping of attribute to int or None
        As read; None is missing.
    numbers : list of six numbers
        The box, in the release's convention.
    image : str
        The image's path with this file's prefix.
    form : {"usual", "nested", "prompt_spelling"}
        How the diagnosis is written: as officially, wrapped once more, or in the spelling that the prompt asks for.
    """
    diagnosis: object = write_diagnosis(question_id, grades)
    if form == "nested":
        diagnosis = {"final_diagnosis": diagnosis}
    elif form == "prompt_spelling":
        diagnosis = json.loads(write_answer(question_id, grades))
    return {
        "image": image,
        "prompt": project_prompt(question_id),
        "answer": answer_text(question_id, grades),
        "final_diagnosis": {"bounding_box": numbers, "final_diagnosis": diagnosis},
    }


@dataclass(frozen=True, slots=True, eq=False)
class RecordWriter:
    """Writes the files of ``generate_data`` from a plan and its boxes."""

    plan: StudyPlan  # volumes and grades
    boxes: NDArray[np.int16]  # (volumes, 62, 6) int array: i0 j0 k0 i1 j1 k1 of every volume and question, half-open
    convention: BoxConvention  # how the six numbers are written
    # Whether slice, x and y are the right-left, front-back and up-down direction whatever the array's layout, rather
    # than its axes.
    anatomical: bool = False

    def write_all(self, folder: Path) -> None:
        """Write train, val and test, and the balanced train and test."""
        for name, prefix in tqdm(PREFIXES.items(), "phantom: writing records", unit="file", disable=None):
            split, _, balanced = name.partition("_")
            texts = self._texts(split, prefix, self._repeats(split) if balanced else None)
            with (folder / f"{name}.json").open("w", encoding="utf-8", newline="\n") as file:
                first = next(texts, None)
                file.write("[]\n" if first is None else f"[\n{first}")
                file.writelines(f",\n{text}" for text in texts)
                file.write("" if first is None else "\n]\n")

    def _texts(self, split: str, prefix: str, repeats: NDArray[np.float64] | None) -> Iterator[str]:
        """Write a file's records as JSON, each as often as a balanced file repeats it."""
        for volume in self.plan.of_split(split):
            times = repeat(1) if repeats is None else self._times(volume, repeats)
            for record, number in zip(self._records(volume, prefix), times, strict=False):
                yield from repeat(json.dumps(record), number)
        if split == "train":  # records with an empty image, which the official files have and the authors' scripts drop
            volumes = (volume for volume in self.plan.of_split(split) if volume.has_records)
            for record in islice((record for volume in volumes for record in self._records(volume, "")), _NAMELESS):
                yield json.dumps(record | {"image": ""})

    def _records(self, volume: PlannedVolume, prefix: str) -> Iterator[OfficialRecord]:
        if not volume.has_records:
            return
        reading, forms = self.plan.reading(volume), sample_forms(self.plan.seed, volume)
        shape, image = volume.geometry.shape, prefix + volume.image_key
        axes = to_canonical(volume.geometry.matrix).axes if self.anatomical else (0, 1, 2)
        turn = Reorientation(axes)  # axes only: boxes still count voxels from the array's first
        for question, row in zip(RECORD_QUESTIONS, self.boxes[volume.number].tolist(), strict=True):
            numbers = self.convention.encode(turn.apply_box(Box.from_row(row), shape), turn.apply_shape(shape))
            yield make_record(question, reading[question], numbers, image=image, form=forms[question])

    def _repeats(self, split: str) -> NDArray[np.float64]:
        """How often to write a record, by question and first grade, so that a question's grades come out alike."""
        rows = [volume.number for volume in self.plan.of_split(split) if volume.has_records]
        repeats = np.zeros((len(RECORD_QUESTIONS), 9))
        for place, column in enumerate(_FIRST_COLUMNS):
            grades = self.plan.read_grades[rows, column]
            counts = np.bincount(grades[grades != MISSING], minlength=9)
            there = counts > 0
            if there.any():
                repeats[place, there] = np.minimum(counts.sum() / there.sum() / counts[there], _MOST_REPEATS)
        return repeats

    def _times(self, volume: PlannedVolume, repeats: NDArray[np.float64]) -> Sequence[int]:
        """Round a volume's repeats to whole numbers by chance; a missing grade cannot be balanced and is left out."""
        grades = self.plan.read_grades[volume.number, _FIRST_COLUMNS]
        wanted = np.where(grades == MISSING, 0.0, repeats[np.arange(len(grades)), grades])
        chance = stream(self.plan.seed, Stream.BALANCE, volume.number + 1).random(len(wanted))
        times: list[int] = np.floor(wanted + chance).astype(int).tolist()
        return times


_FIRST_COLUMNS = np.array([slot_column(q, QUESTIONS[q].attributes[0]) for q in RECORD_QUESTIONS], np.intp)
