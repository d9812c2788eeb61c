"""Write the small official files: splits, questions, label map, grades' meanings, and the notice that all is synthetic.

``labels.json`` has ids by name, as it is reported, and ``question_subregion_mapping.json`` names by question. With the
variant ``opaque`` they have neither, so that a reader has to compare the boxes with the masks.

MOAKS tables are written as the official release has them: raw codes with the grades of the records. A cartilage finding
has two columns of one repeated name, size and then depth, so that a reader by column name keeps only the last of them.
VERSION is the reading project. There is no FNIH table of 48 months. Columns are those that RELEASE_FORMAT knows;
findings whose OAI column is not known there (cysts, hypertrophy, the posterior cruciate ligament, the patellar tendon,
most of the anterior one) have none.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from reasonknee_datasets.moaks import QUESTIONS, Question, Slot, meanings
from reasonknee_datasets.phantom.mask_labels import LABELS, REGION_NAMES
from reasonknee_datasets.phantom.record_writer import opening_steps
from reasonknee_datasets.phantom.study_plan import OFFICIAL_SPLITS, PlannedVolume, Stream, StudyPlan, stream
from reasonknee_datasets.prompts import project_prompts
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
        _write_table(folder / name.format(""), plan, scanned[visit], prefix, again=False)
        if visit in _FNIH_VISITS:
            _write_table(folder / name.format("_FNIH"), plan, scanned[visit], prefix, again=True)
    _write_table(folder / _BY_HAND, plan, scanned[_BY_HAND_FROM], _BY_HAND_PREFIX, again=True)


def _write_table(path: Path, plan: StudyPlan, volumes: list[PlannedVolume], prefix: str, *, again: bool) -> None:
    columns = table_columns()
    slots = [(q, [slot for slot in QUESTIONS[q].slots if slot.attribute in held]) for q, held in columns.values()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [prefix + name for name, (_, held) in columns.items() for _ in held]
        writer.writerow(["ID", "SIDE", "VERSION", *names])
        for volume in volumes:
            rng = stream(plan.seed, Stream.READER, volume.number + 1, 1 + int(prefix[1:]), 1 + again)
            if again and rng.random() >= _SECOND_READING:
                continue
            reading = plan.reading(volume)
            codes = [code for q, held in slots for code in _codes(reading[q], held, volume, rng, again)]
            writer.writerow([volume.patient, volume.side_code, "65" if again else "22", *codes])


def _codes(
    grades: Mapping[str, int | None],
    slots: Sequence[Slot],
    volume: PlannedVolume,
    rng: np.random.Generator,
    again: bool,
) -> list[str]:
    """Write the cells of one column's name: the grades, or one of the many codes for missing."""
    values = [grades[slot.attribute] for slot in slots]
    if any(value is None for value in values):
        codes = _UNREAD if volume.visit == VISITS[0] or len(values) > 1 else _UNREAD + _WITHIN_GRADE
        return [codes[int(rng.integers(len(codes)))]] * len(values)
    if again and rng.random() < _DISAGREES and len(values) == 1:
        return [str(slots[0].legal[int(rng.integers(len(slots[0].legal)))])]
    return [str(value) for value in values]


LABEL_MAP_VARIANTS: Mapping[str, tuple[object, object]] = {
    "name_to_id": (
        {"background": 0, **LABELS},
        {str(number): names[0] if len(names) == 1 else list(names) for number, names in REGION_NAMES.items()},
    ),
    # Names that carry no meaning.
    "opaque": ({"legend": "see the annotation protocol"}, {"regions": "see the annotation protocol"}),
}
"""Content of ``labels.json`` and ``question_subregion_mapping.json`` by ``write_release(label_map_variant=...)``."""


SPLIT_COLUMNS = (
    "patient_id",
    "time",
    "study_folder",
    "series_folder",
    "knee_side",
    "path",
    "image_filepath",
    "label_filepath",
)
# OAI's release folders by visit; only that of the first is known from the official files.
_DICOM_FOLDERS = {"00M": "0.C.2", "12M": "1.C.2", "24M": "3.C.2", "48M": "6.C.2"}

_README = """\
SYNTHETIC DATA

Everything in this folder was made by a computer program (reasonknee_datasets, `reasonknee phantom`). No patient, no
image and no grade in it is real, and no text in it comes from the official 3DReasonKnee release, whose layout it
follows. Patient numbers begin with 0000001; the numbers of the OAI begin with 9. Not for clinical use.

data/phantom.json says from which seed, and in which size, it was made.
"""


def write_json(path: Path, content: object) -> None:
    """Write a file as the official ones are written: UTF-8, four spaces."""
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def write_notices(root: Path, facts: dict[str, object]) -> None:
    """Mark the release as synthetic: write ``data/phantom.json`` and a README.

    The README is also in two folders of the Hub that readers skip: the authors' code and the place of OAI downloads.
    """
    for folder in (root, root / "code", root / "data" / "OAI"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text(f"# {_README}", encoding="utf-8", newline="\n")
    write_json(root / "data" / "phantom.json", {"synthetic": True, **facts})


def write_splits(folder: Path, plan: StudyPlan) -> None:
    """Write ``all_studies.csv`` and the three split files."""
    splits = {"all_studies": plan.volumes} | {f"{split}_split": plan.of_split(split) for split in OFFICIAL_SPLITS}
    for name, volumes in splits.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, SPLIT_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(_split_row, volumes))


def _split_row(volume: PlannedVolume) -> dict[str, object]:
    ids = (volume.patient, volume.study, volume.series)
    return {
        "patient_id": volume.patient,
        "time": volume.visit,
        "study_folder": volume.study,
        "series_folder": volume.series,
        "knee_side": volume.side_code,
        "path": "/".join((f"../data/OAI/{volume.visit.lower()}DESS", _DICOM_FOLDERS[volume.visit], *ids)),
        "image_filepath": f"../data/images/{volume.image_key}",
        "label_filepath": f"../data/masks/{volume.mask_name}",
    }


def write_questions(folder: Path, label_map_variant: str) -> None:
    """Write the files of ``question_files``."""
    write_json(folder / "questions.json", project_prompts("full"))
    write_json(folder / "questions_nobbox_guided.json", project_prompts("guided"))
    write_json(folder / "questions_nobbox_zeroshot.json", project_prompts("zeroshot"))
    openings = {str(q.id): list(opening_steps(q.id)) for q in QUESTIONS.values() if q.in_records}
    write_json(folder / "cot_question_mapping.json", openings)
    write_json(folder / "grade_dict.json", _grade_words())
    labels, regions = LABEL_MAP_VARIANTS[label_map_variant]
    write_json(folder / "labels.json", labels)
    write_json(folder / "question_subregion_mapping.json", regions)


def _grade_words() -> dict[str, dict[str, dict[str, str]]]:
    """Describe each grade, by finding and attribute."""
    words: dict[str, dict[str, dict[str, str]]] = {}
    for question in QUESTIONS.values():
        for slot in question.slots:
            of_finding = words.setdefault(question.finding, {})
            of_finding[slot.attribute] = dict(zip(map(str, slot.legal), meanings(slot), strict=True))
    return words
