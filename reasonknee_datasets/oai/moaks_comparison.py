"""Comparison of MOAKS tables with the grades of the official release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reasonknee_datasets.errors import ReleaseError
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.oai.moaks_tables import Knee, MoaksTables
from reasonknee_datasets.release.official_record import RecordReader, check_record, volume_key
from reasonknee_datasets.release.paths import find_root
from reasonknee_datasets.release.record_files import file_name
from reasonknee_datasets.release.report import Problems
from reasonknee_datasets.release.split_files import OFFICIAL_SPLITS, read_splits
from reasonknee_datasets.release.stream import stream_records


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
