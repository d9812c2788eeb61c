"""Comparison of MOAKS tables with the grades of the official release, coarse labels of a knee, and their CSV files."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reasonknee_datasets.atomic_files import write_files
from reasonknee_datasets.errors import ConvertError, ReleaseError
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.oai.moaks_tables import Knee, KneeGrades, MoaksTables
from reasonknee_datasets.oai.moaks_variables import VARIABLES
from reasonknee_datasets.release.official_record import RecordReader, check_record, volume_key
from reasonknee_datasets.release.paths import find_root
from reasonknee_datasets.release.record_files import file_name, stream_records
from reasonknee_datasets.release.report import Problems
from reasonknee_datasets.release.split_files import OFFICIAL_SPLITS, read_splits


class ReleasedGrades(NamedTuple):
    """The grades of one official record."""

    knee: Knee
    question_id: int
    grades: Mapping[str, int | None]


class Stratum(NamedTuple):
    """Groups by which agreement is counted."""

    finding: str
    attribute: str
    visit: str
    project: str


@dataclass(slots=True)
class GradeAgreement:
    """Numbers of grades in one stratum."""

    # Both have a grade.
    equal: int = 0
    different: int = 0
    # The other has none. A released grade without one in the tables was not read: the release writes 0 there.
    only_released: int = 0
    only_tables: int = 0

    @property
    def share(self) -> float | None:
        """Share of equal grades among those that both have; None if there are none."""
        both = self.equal + self.different
        return self.equal / both if both else None


class Disagreement(NamedTuple):
    """A grade of the tables that differs from the released one, or of which one is missing."""

    patient: str
    visit: str
    side: str
    question_id: int
    finding: str
    subregion: str
    attribute: str
    project: str
    code: str
    table_grade: int | None
    released_grade: int | None
    where: str


@dataclass(frozen=True, slots=True)
class TableComparison:
    """How well MOAKS tables agree with released grades."""

    agreement: Mapping[Stratum, GradeAgreement]  # by finding, attribute, visit and reading project
    disagreements: tuple[Disagreement, ...]  # every grade that is not equal
    records: int  # released records that were read
    unmatched: int  # those of knees and visits that the tables do not hold

    def total(self, **only: str) -> GradeAgreement:
        """Add up the strata of the given finding, attribute, visit and project.

        Examples
        --------
        >>> counts = {Stratum("osteophyte", "grade", "00M", "22"): GradeAgreement(9, 1)}
        >>> TableComparison(counts, (), 10, 0).total(visit="00M").share
        0.9
        """
        added = GradeAgreement()
        for stratum, counted in self.agreement.items():
            if all(getattr(stratum, name) == value for name, value in only.items()):
                added.equal += counted.equal
                added.different += counted.different
                added.only_released += counted.only_released
                added.only_tables += counted.only_tables
        return added


def read_released_grades(release: str | Path) -> Iterator[ReleasedGrades]:
    """Read the grades of the official records, one record after another.

    Records that `reasonknee prepare` reports as faulty are skipped here.

    Raises
    ------
    ReleaseError
        If no release is there, a file is not a JSON list, or no record at all can be read.
    """
    root = find_root(Path(release))
    studies, reader, count = read_splits(root, Problems()), RecordReader({}), 0
    for split in OFFICIAL_SPLITS:
        path = root.data / "generate_data" / file_name(split)
        for record in stream_records(path) if path.exists() else ():
            if check_record(record) is not None:
                continue
            study = studies.get(volume_key(record["image"]))
            content = reader.read(record)
            if study is not None and content.number:
                count += 1
                yield ReleasedGrades(Knee(study.patient, study.visit, study.side), content.number, content.grades)
    if not count:
        message = f"{root.data} has no record in generate_data that names a volume of its split files"
        raise ReleaseError(f"{message}. Download both folders again; reasonknee prepare lists what is wrong.")


def compare_grades(tables: MoaksTables, released: Iterable[ReleasedGrades]) -> TableComparison:
    """Compare every reading of MOAKS tables with released grades.

    Slots without a variable in the tables are not compared.

    Parameters
    ----------
    tables : MoaksTables
    released : iterable of ReleasedGrades
        Such as `read_released_grades`.
    """
    readings = tables.by_knee()
    counts: dict[Stratum, GradeAgreement] = {}
    rows: list[Disagreement] = []
    unmatched: Counter[bool] = Counter()
    for knee, number, grades in released:
        question = QUESTIONS[number]
        unmatched[knee not in readings] += 1
        for reading in readings.get(knee, ()):
            for attribute, grade in grades.items():
                if (number, attribute) not in reading.grades:
                    continue
                own = reading.grades[number, attribute]
                stratum = Stratum(question.finding, attribute, knee.visit, reading.project)
                counted = counts.setdefault(stratum, GradeAgreement())
                _count(counted, own, grade)
                if own != grade:
                    place = (*knee, number, question.finding, question.subregion, attribute, reading.project)
                    rows.append(Disagreement(*place, reading.codes[number, attribute], own, grade, reading.where))
    return TableComparison(counts, tuple(rows), unmatched.total(), unmatched[True])


def _count(counted: GradeAgreement, own: int | None, released: int | None) -> None:
    if own is None:
        counted.only_released += released is not None
    elif released is None:
        counted.only_tables += 1
    else:
        counted.equal += own == released
        counted.different += own != released


class LabelRule(NamedTuple):
    """A label that is 1 if any of a finding's grades is among the given ones."""

    finding: str
    attribute: str
    grades: tuple[int, ...]
    meaning: str


LABEL_RULES: Mapping[str, LabelRule] = {
    "bone_marrow_lesion_any": LabelRule("bone_marrow_lesion", "size", (1, 2, 3), "a lesion in any subregion"),
    "bone_marrow_lesion_severe": LabelRule("bone_marrow_lesion", "size", (3,), "over 66 % of a subregion"),
    "cartilage_lesion_any": LabelRule("cartilage_lesion", "size", (1, 2, 3), "a lesion in any subregion"),
    "cartilage_lesion_severe": LabelRule("cartilage_lesion", "size", (3,), "over 75 % of a subregion's surface"),
    "cartilage_full_thickness_any": LabelRule("cartilage_lesion", "depth", (1, 2, 3), "any full-thickness loss"),
    "osteophyte_any": LabelRule("osteophyte", "grade", (1, 2, 3), "an osteophyte at any place"),
    "osteophyte_severe": LabelRule("osteophyte", "grade", (3,), "a large osteophyte"),
    "hoffa_synovitis_any": LabelRule("hoffa_synovitis", "grade", (1, 2, 3), "mild or more"),
    "hoffa_synovitis_severe": LabelRule("hoffa_synovitis", "grade", (3,), "severe"),
    "effusion_synovitis_any": LabelRule("effusion_synovitis", "grade", (1, 2, 3), "small or more"),
    "effusion_synovitis_severe": LabelRule("effusion_synovitis", "grade", (3,), "large"),
    "meniscal_extrusion_any": LabelRule("meniscal_extrusion", "grade", (1, 2, 3), "2 mm or more"),
    "meniscal_extrusion_severe": LabelRule("meniscal_extrusion", "grade", (3,), "5 mm or more"),
    # Codes of morphology have no order: kinds are named, not compared.
    "meniscal_morphology_any": LabelRule("meniscal_morphology", "morphology", tuple(range(1, 9)), "not normal"),
    "meniscal_morphology_severe": LabelRule("meniscal_morphology", "morphology", (6, 7, 8), "maceration"),
    "meniscal_tear_any": LabelRule("meniscal_morphology", "morphology", (2, 3, 4, 5), "a tear of any kind"),
    "meniscal_root_tear_any": LabelRule("meniscal_root_tear", "presence", (1,), "a root tear"),
    "anterior_cruciate_ligament_any": LabelRule("anterior_cruciate_ligament", "complete_tear", (1,), "complete tear"),
    "popliteal_cyst_any": LabelRule("popliteal_cyst", "presence", (1,), "a popliteal cyst"),
}
"""Rules by the name of their label. Findings without a known variable have none."""


def _rule_slots(rule: LabelRule) -> tuple[tuple[int, str], ...]:
    """List the slots of a rule."""
    return tuple(
        (variable.question_id, attribute)
        for variable in VARIABLES.values()
        for attribute in variable.attributes
        if QUESTIONS[variable.question_id].finding == rule.finding and attribute == rule.attribute
    )


def coarse_labels(grades: Mapping[tuple[int, str], int | None]) -> dict[str, int | None]:
    """Compute the coarse labels of one knee and visit.

    A label is 1 if one grade is among those of its rule; 0 if every grade is present and none is; otherwise None,
    since a missing grade may be the one.

    `grades`: by question and attribute.

    Examples
    --------
    >>> labels = coarse_labels({(42, "grade"): 2, (43, "grade"): None})
    >>> labels["hoffa_synovitis_any"], labels["hoffa_synovitis_severe"], labels["effusion_synovitis_any"]
    (1, 0, None)
    """
    return {name: _apply(rule, grades) for name, rule in LABEL_RULES.items()}


def _apply(rule: LabelRule, grades: Mapping[tuple[int, str], int | None]) -> int | None:
    found = [grades.get(slot) for slot in _rule_slots(rule)]
    if any(grade in rule.grades for grade in found if grade is not None):
        return 1
    return None if None in found else 0


def write_labels(path: Path, knees: Iterable[KneeGrades]) -> int:
    """Write coarse labels as CSV, one row for each knee and visit, and return the number of rows.

    Columns are ``patient``, ``visit``, ``side``, ``projects`` (joined by ``+``) and the names of `LABEL_RULES`. A
    missing label is an empty cell.

    Raises ConvertError if the file cannot be written.
    """
    rows = [[*each.knee, "+".join(each.projects), *coarse_labels(each.grades).values()] for each in knees]
    _write(path, ["patient", "visit", "side", "projects", *LABEL_RULES], rows)
    return len(rows)


def write_table_comparison(folder: Path, comparison: TableComparison) -> tuple[Path, Path]:
    """Write ``agreement.csv`` and ``disagreements.csv``, and return their paths.

    Raises ConvertError if a file cannot be written.
    """
    agreement, disagreements = folder / "agreement.csv", folder / "disagreements.csv"
    header = [*Stratum._fields, "equal", "different", "only_released", "only_tables", "share_equal"]
    _write(agreement, header, _agreement_rows(comparison))
    _write(disagreements, Disagreement._fields, comparison.disagreements)
    return agreement, disagreements


def _agreement_rows(comparison: TableComparison) -> Iterator[list[object]]:
    for stratum, counted in sorted(comparison.agreement.items()):
        share = "" if counted.share is None else f"{counted.share:.4f}"
        yield [*stratum, counted.equal, counted.different, counted.only_released, counted.only_tables, share]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")  # it writes None as an empty cell
    writer.writerow(header)
    writer.writerows(rows)
    try:
        write_files(path.parent, {path.name: text.getvalue().encode()})
    except OSError as error:
        raise ConvertError(f"{path} cannot be written: {error.strerror or error}. Name another file.") from error
