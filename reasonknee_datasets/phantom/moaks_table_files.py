"""Small MOAKS tables as the official release has them: raw codes with the grades of the records.

A cartilage finding has two columns of one repeated name, size and then depth, so that a reader by column name keeps
only the last of them. VERSION is the reading project. There is no FNIH table of 48 months.
Columns are those that RELEASE_FORMAT knows; findings whose OAI column is not known there (cysts, hypertrophy, the
posterior cruciate ligament, the patellar tendon, most of the anterior one) have none.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from reasonknee_datasets.moaks import QUESTIONS, Question
from reasonknee_datasets.phantom.study_plan import PlannedVolume, Stream, StudyPlan, stream
from reasonknee_datasets.schema import VISITS

# OAI numbers its visits; 18M was read by hand for some knees, and is none of the release's visits.
_PREFIXES = {"00M": "V00", "12M": "V01", "24M": "V03", "48M": "V06"}
_BY_HAND, _BY_HAND_PREFIX, _BY_HAND_FROM = "manual_annotated_kMRI_18M.csv", "V02", "12M"

_FNIH_VISITS = ("00M", "12M", "24M")
_UNREAD = (".M", ".A")
_WITHIN_GRADE = ("0.5", "-0.5", "-1")  # a change since the last visit that has no grade: missing too
_SECOND_READING = 0.12  # share of knees that another project read again, and how often it disagrees
_DISAGREES = 0.02

_PARTS = {"anterior": "A", "central": "C", "posterior": "P", "body": "B", "superior": "S", "inferior": "I"}
_SIDES = {"medial": "M", "lateral": "L"}
_BONES = {"patella": "P", "femur": "F", "tibia": "T"}
_MARROW = {"size": "MBMS", "number": "MBMN", "percent": "MBMP"}
_SINGLE = {"hoffa_synovitis": "MSYIC", "effusion_synovitis": "MEFFWK"}


def _region(question: Question) -> str:
    if question.subregion == "tibia_subspinous":
        return "SS"
    letters = {**_BONES, **_SIDES, **_PARTS}
    return "".join(letters[word] for word in question.subregion.split("_"))


def _columns(question: Question) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name a question's columns without their visit, and the attributes of each."""
    if question.finding == "bone_marrow_lesion":
        for attribute, stem in _MARROW.items():
            yield stem + _region(question), (attribute,)
    elif question.finding == "cartilage_lesion":
        yield "MCM" + _region(question), ("size", "depth")
    elif question.finding == "osteophyte":
        yield "MOS" + _region(question), ("grade",)
    elif question.finding in _SINGLE:
        yield _SINGLE[question.finding], ("grade",)
    elif question.finding == "meniscal_extrusion":
        side, _, direction = question.subregion.split("_")
        yield f"MMX{_SIDES[side]}{(_PARTS | _SIDES)[direction]}", ("grade",)
    elif question.finding == "meniscal_morphology":
        side, _, part = question.subregion.split("_")
        yield f"MMT{_SIDES[side]}{_PARTS[part]}", ("morphology",)
    elif question.finding == "meniscal_root_tear":
        yield f"MMRT{_SIDES[question.subregion.split('_')[0]]}", ("presence",)
    elif question.finding == "anterior_cruciate_ligament":
        yield "MACLTR", ("complete_tear",)


def table_columns() -> dict[str, tuple[int, tuple[str, ...]]]:
    """List the columns of a table: OAI's name without the visit, to question id and attributes.

    Examples
    --------
    >>> columns = table_columns()
    >>> columns["MCMFMC"], columns["MOSPS"]
    ((19, ('size', 'depth')), (30, ('grade',)))
    """
    return {name: (q.id, held) for q in QUESTIONS.values() if q.in_records for name, held in _columns(q)}


def write_tables(folder: Path, plan: StudyPlan) -> None:
    """Write the tables of all visits, those of a project that read some knees again, and the one read by hand."""
    scanned: dict[str, list[PlannedVolume]] = {visit: [] for visit in VISITS}
    seen: set[tuple[int, int, int]] = set()
    for volume in sorted(plan.volumes, key=lambda volume: (volume.key, volume.series)):
        if volume.key not in seen:  # a knee with two series at one visit was read once
            seen.add(volume.key)
            scanned[volume.visit].append(volume)
    for visit, prefix in _PREFIXES.items():
        name = f"taxonomymatch_kMRI{{}}_SQ_MOAKS_BICL{prefix[1:]}.csv"
        _write(folder / name.format(""), plan, scanned[visit], prefix, again=False)
        if visit in _FNIH_VISITS:
            _write(folder / name.format("_FNIH"), plan, scanned[visit], prefix, again=True)
    _write(folder / _BY_HAND, plan, scanned[_BY_HAND_FROM], _BY_HAND_PREFIX, again=True)


def _write(path: Path, plan: StudyPlan, volumes: list[PlannedVolume], prefix: str, *, again: bool) -> None:
    columns = table_columns()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [prefix + name for name, (_, held) in columns.items() for _ in held]
        writer.writerow(["ID", "SIDE", "VERSION", *names])
        for volume in volumes:
            rng = stream(plan.seed, Stream.READER, volume.number + 1, 1 + int(prefix[1:]), 1 + again)
            if again and rng.random() >= _SECOND_READING:
                continue
            reading = plan.reading(volume)
            codes = [code for q, held in columns.values() for code in _codes(reading[q], q, held, volume, rng, again)]
            writer.writerow([volume.patient, volume.side_code, "65" if again else "22", *codes])


def _codes(
    grades: Mapping[str, int | None],
    question_id: int,
    held: tuple[str, ...],
    volume: PlannedVolume,
    rng: np.random.Generator,
    again: bool,
) -> list[str]:
    """Write the cells of one column's name: the grades, or one of the many codes for missing."""
    values = [grades[attribute] for attribute in held]
    if any(value is None for value in values):
        codes = _UNREAD if volume.visit == VISITS[0] or len(held) > 1 else _UNREAD + _WITHIN_GRADE
        return [codes[int(rng.integers(len(codes)))]] * len(held)
    if again and rng.random() < _DISAGREES and len(held) == 1:
        legal = next(slot.legal for slot in QUESTIONS[question_id].slots if slot.attribute == held[0])
        return [str(legal[int(rng.integers(len(legal)))])]
    return [str(value) for value in values]
