"""Write the small official files: splits, questions, label map, grades' meanings, and the notice that all is synthetic.

How ``labels.json`` and ``question_subregion_mapping.json`` are structured is not known: they are written in each of the
structures that they may officially have. A reader must understand every variant but ``opaque``, for which it has to
compare the boxes with the masks.

MOAKS tables are written as the official release has them: raw codes with the grades of the records. A cartilage finding
has two columns of one repeated name, size and then depth, so that a reader by column name keeps only the last of them.
VERSION is the reading project. There is no FNIH table of 48 months. Columns are those that RELEASE_FORMAT knows;
findings whose OAI column is not known there (cysts, hypertrophy, the posterior cruciate ligament, the patellar tendon,
most of the anterior one) have none.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reasonknee_datasets.moaks import QUESTIONS, Question, meanings
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


@dataclass(frozen=True, slots=True)
class LabelMapFiles:
    """The content of the two files."""

    labels: object
    questions: object


def _one_or_list(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _name_to_id() -> LabelMapFiles:
    """Name the background too, as the official file does."""
    labels = {"background": 0, **LABELS}
    return LabelMapFiles(labels, {str(q): _one_or_list(names) for q, names in REGION_NAMES.items()})


def _id_to_name() -> LabelMapFiles:
    ids = {str(q): [LABELS[name] for name in names] for q, names in REGION_NAMES.items()}
    return LabelMapFiles({str(number): name for name, number in LABELS.items()}, ids)


def _name_list() -> LabelMapFiles:
    """Write labels as a list in which a label's place is its id; ids without a label are filled."""
    names = {number: name for name, number in LABELS.items()} | {0: "background"}
    listed = [names.get(number, f"unused_{number}") for number in range(max(names) + 1)]
    return LabelMapFiles(listed, {str(q): list(region) for q, region in REGION_NAMES.items()})


def _pairs() -> LabelMapFiles:
    return LabelMapFiles(
        [[name, number] for name, number in LABELS.items()], [[q, list(names)] for q, names in REGION_NAMES.items()]
    )


def _small_objects() -> LabelMapFiles:
    return LabelMapFiles(
        [{name: number} for name, number in LABELS.items()],
        [{str(q): _one_or_list(names)} for q, names in REGION_NAMES.items()],
    )


def _objects() -> LabelMapFiles:
    return LabelMapFiles(
        [{"id": number, "name": name} for name, number in LABELS.items()],
        [{"question": q, "labels": list(names)} for q, names in REGION_NAMES.items()],
    )


def _keyed_objects() -> LabelMapFiles:
    colours = {str(number): {"name": name, "color": [number * 3 % 256, 80, 160]} for name, number in LABELS.items()}
    return LabelMapFiles(colours, {str(q): {"labels": list(names)} for q, names in REGION_NAMES.items()})


def _nested() -> LabelMapFiles:
    inner = _name_to_id()
    return LabelMapFiles({"labels": inner.labels}, {"mapping": inner.questions})


def _grouped() -> LabelMapFiles:
    """Nest names by bone and questions by category."""
    bones: dict[str, dict[str, int]] = {}
    for name, number in LABELS.items():
        bone, part = name.split("_", 1)
        bones.setdefault(bone, {})[part] = number
    categories: dict[str, dict[str, list[str]]] = {}
    for question, names in REGION_NAMES.items():
        categories.setdefault(QUESTIONS[question].category, {})[str(question)] = list(names)
    return LabelMapFiles(bones, categories)


def _label_to_questions() -> LabelMapFiles:
    asked: dict[str, list[int]] = {}
    for question, names in REGION_NAMES.items():
        for name in names:
            asked.setdefault(name, []).append(question)
    return LabelMapFiles(dict(LABELS), asked)


def _opaque() -> LabelMapFiles:
    """Write label names that carry no meaning."""
    words = "see the annotation protocol"
    return LabelMapFiles({"legend": words}, {"regions": words})


LABEL_MAP_VARIANTS: Mapping[str, Callable[[], LabelMapFiles]] = {
    "name_to_id": _name_to_id,
    "id_to_name": _id_to_name,
    "name_list": _name_list,
    "pairs": _pairs,
    "small_objects": _small_objects,
    "objects": _objects,
    "keyed_objects": _keyed_objects,
    "nested": _nested,
    "grouped": _grouped,
    "label_to_questions": _label_to_questions,
    "opaque": _opaque,
}
"""Values of ``write_release(label_map_variant=...)``; the first is the default."""


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


def write_marker(root: Path, facts: dict[str, object]) -> None:
    """Mark the release as synthetic: write a README and ``data/phantom.json``."""
    (root / "README.md").write_text(f"# {_README}", encoding="utf-8", newline="\n")
    write_json(root / "data" / "phantom.json", {"synthetic": True, **facts})


def write_other_folders(root: Path) -> None:
    """Write the folders of the Hub that a reader must pass over: the authors' code, and the place of OAI downloads."""
    for folder in (root / "code", root / "data" / "OAI"):
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(f"# {_README}", encoding="utf-8", newline="\n")


def write_splits(folder: Path, plan: StudyPlan) -> None:
    """Write ``all_studies.csv`` and the three split files."""
    _write_split(folder / "all_studies.csv", plan.volumes)
    for split in OFFICIAL_SPLITS:
        _write_split(folder / f"{split}_split.csv", plan.of_split(split))


def _write_split(path: Path, volumes: Iterable[PlannedVolume]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SPLIT_COLUMNS)
        for volume in volumes:
            folder = f"../data/OAI/{volume.visit.lower()}DESS/{_DICOM_FOLDERS[volume.visit]}"
            writer.writerow(
                [
                    volume.patient,
                    volume.visit,
                    volume.study,
                    volume.series,
                    volume.side_code,
                    f"{folder}/{volume.patient}/{volume.study}/{volume.series}",
                    f"../data/images/{volume.image_key}",
                    f"../data/masks/{volume.mask_name}",
                ]
            )


def write_questions(folder: Path, label_map_variant: str) -> None:
    """Write the files of ``question_files``."""
    write_json(folder / "questions.json", project_prompts("full"))
    write_json(folder / "questions_nobbox_guided.json", project_prompts("guided"))
    write_json(folder / "questions_nobbox_zeroshot.json", project_prompts("zeroshot"))
    write_json(folder / "cot_question_mapping.json", _reasoning_map())
    write_json(folder / "grade_dict.json", _grade_words())
    label_map = LABEL_MAP_VARIANTS[label_map_variant]()
    write_json(folder / "labels.json", label_map.labels)
    write_json(folder / "question_subregion_mapping.json", label_map.questions)


def _reasoning_map() -> dict[str, list[str]]:
    """Return the steps that each question's reasoning begins with, whatever the grades."""
    return {
        str(question.id): list(opening_steps(question.id)) for question in QUESTIONS.values() if question.in_records
    }


def _grade_words() -> dict[str, dict[str, dict[str, str]]]:
    """Describe each grade, by finding and attribute."""
    words: dict[str, dict[str, dict[str, str]]] = {}
    for question in QUESTIONS.values():
        for slot in question.slots:
            of_finding = words.setdefault(question.finding, {})
            of_finding[slot.attribute] = dict(zip(map(str, slot.legal), meanings(slot), strict=True))
    return words
